"""Spans as plain dicts, as the fixture ``spans`` tells them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from .loopback import Loopback

Told = dict[str, Any]
Spans = Callable[[], list[Told]]


def sent(server: Loopback, path: str, status: int | None = 200, method: str = "GET", **tags: Any) -> Told:
    """The span of a client's request to the loopback server; no ``status`` if there was no response."""
    told = {
        "span.kind": "client",
        "http.method": method,
        "http.url": server.url + path,
        "peer.ipv4": "127.0.0.1",
        "peer.port": server.port,
        **tags,
    }
    return {"operation": method, "parent": None, "tags": {**told, "http.status_code": status} if status else told}


def failed(span: Told, error: BaseException) -> Told:
    """The same span, of a call that raised."""
    log = {"event": "error", "message": str(error), "error.object": error, "error.kind": type(error)}
    return {**span, "tags": {**span["tags"], "error": True}, "logs": [log]}


def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
