"""What the tests of the public modules share: finished spans as plain dicts, and a server that can misbehave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from opentracing.mocktracer import MockTracer

from .loopback import Loopback
from .told import Spans, Told


@pytest.fixture
def spans(tracer: MockTracer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """The function that tells the finished spans, in the order of their ends. Each span begun ends once, and only once.

    A span is told as its ``operation``, the ``parent``'s operation or ``None``, its ``tags``, and its ``logs`` if it
    has any, without tracebacks. A parent in another process is told by its number.
    """
    begun = []
    start_span = tracer.start_span

    def counting(*args: Any, **kwargs: Any) -> Any:
        span = start_span(*args, **kwargs)
        begun.append(span)
        return span

    monkeypatch.setattr(tracer, "start_span", counting)

    def told() -> list[Told]:
        operations = {span.context.span_id: span.operation_name for span in begun}
        return [_told(span, operations) for span in tracer.finished_spans()]

    yield told
    ended = Counter(id(span) for span in tracer.finished_spans())
    uneven = {span.operation_name: ended[id(span)] for span in begun if ended[id(span)] != 1}
    assert uneven == {}, "spans and how often each was finished"


def _told(span: Any, operations: dict[Any, Any]) -> Told:
    parent = operations.get(span.parent_id, span.parent_id)
    told = {"operation": span.operation_name, "parent": parent, "tags": span.tags}
    logs = [{key: value for key, value in log.key_values.items() if key != "stack"} for log in span.logs]
    return {**told, "logs": logs} if logs else told


@pytest.fixture(scope="session")
def _server() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture
def server(_server: Loopback) -> Loopback:
    """An HTTP server that does what the paths asked of it say."""
    _server.forget()
    return _server
