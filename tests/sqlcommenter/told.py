"""What comments tell of spans."""

from __future__ import annotations

from typing import Any

import pytest

from opentracing_instrumentation.otel import Tracer


def begun(monkeypatch: pytest.MonkeyPatch, tracer: Tracer) -> list[Any]:
    """The list of all spans that the tracer begins from now on."""
    spans: list[Any] = []
    start_span = tracer.start_span

    def noting(*args: Any, **kwargs: Any) -> Any:
        spans.append(start_span(*args, **kwargs))
        return spans[-1]

    monkeypatch.setattr(tracer, "start_span", noting)
    return spans


def traceparent(span: Any) -> str:
    """What a comment has of a span of OpenTelemetry's."""
    context = span.unwrap().get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
