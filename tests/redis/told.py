"""How the spans of Redis look, as the fixture ``spans`` tells them."""

from __future__ import annotations

from typing import Any

from tests.opentracing_instrumentation.told import Told
from tests.services import Service

from .conftest import DATABASE
from .servers import Server


def command(name: str, at: Service | Server | None = None, parent: str | None = None, **tags: Any) -> Told:
    """The span of a command at a server, if one is tagged; ``key`` and the like are short for ``redis.key``."""
    told = {"span.kind": "client", "peer.service": "redis", "db.type": "redis"}
    where: dict[str, Any] = {}
    if at is not None:
        where = {"peer.ipv4": "127.0.0.1", "peer.port": at.port}
    if not isinstance(at, Server):
        where["db.instance"] = str(DATABASE)
    named = {name if "." in name else f"redis.{name}": value for name, value in tags.items()}
    return {"operation": f"redis:{name}", "parent": parent, "tags": {**told, **where, **named}}
