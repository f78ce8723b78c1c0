"""How the spans of Tornado's clients look, as the fixture ``spans`` tells them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.opentracing_instrumentation.loopback import Loopback
from tests.opentracing_instrumentation.told import Told, sent


def fetched(
    server: Loopback, path: str, status: int | None = 200, parent: str | None = None, method: str = "GET", **tags: Any
) -> Told:
    """The span of a fetch from the loopback server; no ``status`` if it got none."""
    told = sent(server, path, None, method, **tags)
    status_tags = {} if status is None else {"http.status_code": str(status)}
    return {**told, "parent": parent, "tags": {**told["tags"], **status_tags}}


def failed(span: Told, message: str) -> Told:
    """The same span, of a fetch whose response has an error."""
    return {**span, "tags": {**span["tags"], "error": True}, "logs": [{"event": "error", "payload": message}]}


def cancelled(span: Told) -> Told:
    """The same span, of a fetch that was cancelled; the error's object left out."""
    log = {"event": "error", "message": "", "error.kind": asyncio.CancelledError}
    return {**span, "tags": {**span["tags"], "error": True}, "logs": [log]}


def without_object(span: Told) -> Told:
    """The same span, the objects of errors left out of its logs: they are nobody else's."""
    logs = [{key: value for key, value in log.items() if key != "error.object"} for log in span["logs"]]
    return {**span, "logs": logs}


def split_queue_time(span: Told) -> tuple[Told, float]:
    """The same span without the time that its request waited, and that time."""
    tags = dict(span["tags"])
    waited = tags.pop("http.queue_time")
    return {**span, "tags": tags}, waited
