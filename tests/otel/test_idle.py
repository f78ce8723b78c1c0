"""Where a hook can call straight through."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from opentracing_instrumentation._core.calls import Description, instrument
from opentracing_instrumentation.otel import Span, Tracer

from .spans import tree

PURPOSES = (None, "http", "database")


def idle(tracer: Tracer) -> list[bool]:
    return [tracer.is_idle(purpose) for purpose in PURPOSES]


def test_below_a_recording_span_or_none(tracer: Tracer) -> None:
    """There, every call is to have a span."""
    assert idle(tracer) == [False, False, False]
    with tracer.start_active_span("span") as scope:
        assert idle(tracer) == [False, False, False]
        scope.span.finish()
        assert idle(tracer) == [False, False, False]


def test_where_opentelemetry_is_suppressed(tracer: Tracer) -> None:
    """Its two blocks count for our hooks as well."""
    with suppress_instrumentation():
        assert idle(tracer) == [True, True, True]
    with suppress_http_instrumentation():
        assert idle(tracer) == [False, True, False]
    assert idle(tracer) == [False, False, False]


def test_spans_where_opentelemetry_is_suppressed(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Those of hooks are not recorded there, and hand on the identity of the one above; an application's own are."""
    http = {"span.kind": "client", "http.method": "GET"}
    with tracer.start_active_span("root") as root:
        for suppress in (suppress_instrumentation, suppress_http_instrumentation):
            with suppress():
                hidden = tracer.start_span("GET", tags=dict(http))
                assert hidden.is_recording is False
                assert hidden.context.unwrap() == root.span.context.unwrap()
                hidden.finish()
                tracer.start_span("query", tags={"span.kind": "client"}).finish()
                tracer.start_span("own", tags={"a": 1}).finish()
    assert tree(exporter.get_finished_spans()) == ["root", ["own", "query", "own"]]


def test_hooks_where_opentelemetry_is_suppressed(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """A hook does not even describe the call."""
    described = []

    def describe() -> Span:
        described.append(1)
        return tracer.start_span("call")

    call = instrument(lambda: "result", Description(describe, "test"))
    with suppress_instrumentation():
        assert call() == "result"
    assert described == []
    assert call() == "result"
    assert [span.name for span in exporter.get_finished_spans()] == ["call"]


def test_below_a_span_that_is_sampled_out() -> None:
    """A database is asked without a span; where a context has to travel it does."""
    tracer = Tracer(TracerProvider(ALWAYS_OFF, shutdown_on_exit=False))
    with tracer.start_active_span("dropped"):
        assert idle(tracer) == [False, False, True]
    remote = trace.SpanContext(7, 8, is_remote=True)
    with trace.use_span(trace.NonRecordingSpan(remote)):
        assert idle(tracer) == [False, False, True]


def test_without_an_sdk() -> None:
    """As below a span that is sampled out."""
    tracer = Tracer(trace.NoOpTracerProvider())
    assert idle(tracer) == [False, False, False]
    with tracer.start_active_span("span"):
        assert idle(tracer) == [False, False, True]
        with tracer.scope_manager.activate(None, False):
            assert idle(tracer) == [False, False, False]
