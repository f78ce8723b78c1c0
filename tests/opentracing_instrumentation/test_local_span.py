"""func_span: a span for a block of code."""

from __future__ import annotations

import opentracing
import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation import get_current_span
from opentracing_instrumentation.local_span import func_span

from .told import Spans


def test_func_span_is_a_span_that_is_not_made_current(tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work") as scope, func_span("parse", tags={"rows": 3}) as span:
        assert span.operation_name == "parse"
        assert get_current_span() is scope.span
    assert spans() == [
        {"operation": "parse", "parent": "work", "tags": {"rows": 3}},
        {"operation": "work", "parent": None, "tags": {}},
    ]


def test_func_span_is_named_by_the_text_of_what_it_is_given(spans: Spans) -> None:
    with func_span(("parse", 1)):
        pass
    assert spans() == [{"operation": "('parse', 1)", "parent": None, "tags": {}}]


def test_func_span_without_a_parent_is_a_root_unless_one_is_required(tracer: MockTracer, spans: Spans) -> None:
    with func_span("parse", require_active_trace=True) as span:
        assert span is None
    assert spans() == []
    with tracer.start_active_span("work"), func_span("parse", require_active_trace=True) as span:
        assert span is not None
    assert [told["operation"] for told in spans()] == ["parse", "work"]


def test_an_error_in_a_func_span_is_told_and_raised_on(spans: Spans) -> None:
    error = ValueError("oh")
    with pytest.raises(ValueError, match="oh") as caught, func_span("parse"):
        raise error
    assert caught.value is error
    log = {"event": "error", "message": "oh", "error.object": error, "error.kind": ValueError}
    assert spans() == [{"operation": "parse", "parent": None, "tags": {"error": True}, "logs": [log]}]


def test_with_the_default_tracer_every_span_is_the_no_op_span() -> None:
    with func_span("parse") as span:
        assert span is opentracing.tracer.start_span()
