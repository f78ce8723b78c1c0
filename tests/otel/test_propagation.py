"""Span contexts and baggage in carriers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import opentracing
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.jaeger import JaegerPropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentracing import Format

from opentracing_instrumentation.otel import Span, Tracer

from .processes import run

W3C = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
PROPAGATORS = {"w3c": W3C, "b3": B3SingleFormat(), "b3multi": B3MultiFormat(), "jaeger": JaegerPropagator()}
TEXT_FORMATS = [Format.TEXT_MAP, Format.HTTP_HEADERS]


@pytest.fixture
def span(tracer: Tracer) -> Iterator[Span]:
    """A span with baggage."""
    with tracer.start_span("span") as span:
        yield span.set_baggage_item("user name", "Zoë, 7")


@pytest.mark.parametrize("name", PROPAGATORS)
@pytest.mark.parametrize("carrier_format", TEXT_FORMATS)
@pytest.mark.parametrize("spell", [str.lower, str.title, str.upper], ids=["lower", "title", "upper"])
def test_there_and_back(provider: TracerProvider, span: Span, name: str, carrier_format: str, spell: Any) -> None:
    """Every propagator's headers are read as they were written, in any case."""
    tracer = Tracer(provider, propagator=PROPAGATORS[name])
    carrier: dict[str, str] = {}
    tracer.inject(span.context, carrier_format, carrier)
    extracted = tracer.extract(carrier_format, {spell(key): value for key, value in carrier.items()})
    assert extracted is not None
    assert (extracted.trace_id, extracted.span_id) == (span.context.trace_id, span.context.span_id)
    assert extracted.unwrap().is_remote
    assert tracer.start_span("child", child_of=extracted).unwrap().parent == extracted.unwrap()


HEX = st.integers(0, 2**128 - 1).map("{:032x}".format)
#: Headers, most of them nearly right, in all the ways that a caller may have them.
TRACEPARENTS = st.one_of(
    st.text(),
    st.from_regex(r"\A\s?(00|01|ff|zz)-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-fA-F]{2}(-x)?\s?\Z"),
    st.tuples(HEX, HEX, HEX).map(lambda parts: f"00-{parts[0]}-{parts[1][:16]}-{parts[2][:2]}"),
    st.sampled_from([f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01", f"00-{'_1' * 16}-{'1' * 16}-01"]),
)
STATES = st.none() | st.sampled_from(["a=1", "a=1,b=2", "", "=", "a=1,a=2"])


@given(TRACEPARENTS, STATES)
def test_w3cs_headers_are_read_as_opentelemetry_reads_them(traceparent: str, tracestate: str | None) -> None:
    """Our shorter way comes to the same end, whatever a caller sends."""
    carrier = {"traceparent": traceparent, **({} if tracestate is None else {"tracestate": tracestate})}
    extracted = Tracer(trace.NoOpTracerProvider(), propagator=W3C).extract(Format.HTTP_HEADERS, carrier)
    theirs = trace.get_current_span(W3C.extract(carrier, context.Context())).get_span_context()
    assert (trace.INVALID_SPAN_CONTEXT if extracted is None else extracted.unwrap()) == theirs


@given(
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 255),
    st.sampled_from([(), (("a", "1"),), (("a", "1"), ("b", "2"))]),
)
def test_w3cs_headers_are_written_as_opentelemetry_writes_them(
    trace_id: int, span_id: int, flags: int, state: tuple[tuple[str, str], ...]
) -> None:
    """Our shorter way writes the same."""
    identity = trace.SpanContext(
        trace_id, span_id, is_remote=False, trace_flags=trace.TraceFlags(flags), trace_state=trace.TraceState(state)
    )
    ours: dict[str, str] = {}
    Tracer(trace.NoOpTracerProvider(), propagator=W3C).inject(identity, Format.HTTP_HEADERS, ours)
    theirs: dict[str, str] = {}
    if identity.is_valid:
        W3C.inject(theirs, trace.set_span_in_context(trace.NonRecordingSpan(identity), context.Context()))
    assert ours == theirs


@pytest.mark.parametrize("carrier_format", TEXT_FORMATS)
def test_baggage_travels(tracer: Tracer, span: Span, carrier_format: str) -> None:
    """What is sent arrives, and children of what was received have it."""
    carrier: dict[str, str] = {}
    tracer.inject(span.context, carrier_format, carrier)
    extracted = tracer.extract(carrier_format, carrier)
    assert extracted is not None
    assert extracted.baggage == {"user name": "Zoë, 7"}
    with tracer.start_active_span("child", child_of=extracted) as scope:
        assert scope.span.context.baggage == {"user name": "Zoë, 7"}
        sent: dict[str, str] = {}
        tracer.inject(tracer.start_span("grandchild").context, carrier_format, sent)
    assert sent["baggage"] == carrier["baggage"]


def test_jaegers_flags(provider: TracerProvider, span: Span) -> None:
    """A sampled trace is sampled, and not "debug"; one that is not is neither."""
    jaeger = Tracer(provider, propagator=JaegerPropagator())
    carrier: dict[str, str] = {}
    jaeger.inject(span.context, Format.HTTP_HEADERS, carrier)
    assert carrier["uber-trace-id"].split(":")[3] == "01"
    unsampled = Tracer(TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)).start_span("unsampled")
    jaeger.inject(unsampled.context, Format.HTTP_HEADERS, carrier)
    assert carrier["uber-trace-id"].split(":")[3] == "00"


def test_jaegers_baggage(provider: TracerProvider, tracer: Tracer) -> None:
    """An item has a header of its own; in a text map its name keeps its case."""
    jaeger = Tracer(provider, propagator=JaegerPropagator())
    carrier: dict[str, str] = {}
    jaeger.inject(tracer.start_span("span").set_baggage_item("userId", "7").context, Format.TEXT_MAP, carrier)
    extracted = jaeger.extract(Format.TEXT_MAP, carrier)
    assert extracted is not None
    assert extracted.baggage == {"userId": "7"}


def test_binary(tracer: Tracer, span: Span) -> None:
    """The identity and the baggage are appended to a ``bytearray``, whatever the propagator."""
    carrier = bytearray()
    Tracer(propagator=B3MultiFormat()).inject(span.context, Format.BINARY, carrier)
    for binary in (carrier, bytes(carrier), memoryview(carrier)):
        extracted = tracer.extract(Format.BINARY, binary)
        assert extracted is not None
        assert extracted.unwrap().span_id == span.context.span_id
        assert extracted.baggage == {"user name": "Zoë, 7"}


@pytest.mark.parametrize(
    "carrier",
    [
        {},
        {"traceparent": ""},
        {"traceparent": "00-0-0-00"},
        {"traceparent": "garbage", "baggage": "=;=,"},
        {"TRACEPARENT": None},
        {"traceparent": ["a", "b"]},
        {b"traceparent": b"\xff"},
        {7: 8},
        None,
        object(),
        [("traceparent", "x")],
    ],
)
@pytest.mark.parametrize("carrier_format", TEXT_FORMATS)
def test_a_carrier_that_can_not_be_read(tracer: Tracer, carrier: Any, carrier_format: str) -> None:
    """It gives ``None``, and a span of that begins a new trace."""
    assert tracer.extract(carrier_format, carrier) is None
    assert tracer.start_span("span", child_of=None).unwrap().parent is None


@pytest.mark.parametrize("carrier", [b"", b"\xff\xfe", b"traceparent: x\r\n", bytearray(b"\0" * 29), None, "text"])
def test_bytes_that_can_not_be_read(tracer: Tracer, carrier: Any) -> None:
    """They give ``None``."""
    assert tracer.extract(Format.BINARY, carrier) is None


def test_baggage_without_a_trace(tracer: Tracer) -> None:
    """It begins a new trace that has it."""
    extracted = tracer.extract(Format.HTTP_HEADERS, {"Baggage": "user=7"})
    with tracer.start_active_span("elsewhere"):
        span = tracer.start_span("span", child_of=extracted)
    assert span.unwrap().parent is None
    assert span.context.baggage == {"user": "7"}


def test_formats_that_are_not_known(tracer: Tracer, span: Span) -> None:
    """They are refused, as OpenTracing asks for."""
    with pytest.raises(opentracing.UnsupportedFormatException):
        tracer.inject(span.context, "smoke", {})
    with pytest.raises(opentracing.UnsupportedFormatException):
        tracer.extract("smoke", {})


def test_a_context_of_another_tracer_is_not_injected(tracer: Tracer) -> None:
    """The carrier stays as it is."""
    carrier: dict[str, str] = {}
    tracer.inject(opentracing.SpanContext(), Format.TEXT_MAP, carrier)
    assert carrier == {}


def test_the_global_propagator_is_asked_at_each_call(tracer: Tracer, span: Span) -> None:
    """One that is set later is used from then on."""

    class Mine(TextMapPropagator):
        fields = frozenset()

        def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
            setter.set(carrier, "mine", "yes")

        def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
            return context

    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Mine())
    carrier: dict[str, str] = {}
    try:
        tracer.inject(span.context, Format.HTTP_HEADERS, carrier)
    finally:
        propagate.set_global_textmap(before)
    assert carrier == {"mine": "yes"}


@pytest.mark.parametrize(
    ("variable", "header"), [("b3", "b3"), ("b3multi", "x-b3-traceid"), ("jaeger", "uber-trace-id")]
)
def test_the_variable_of_the_environment(variable: str, header: str) -> None:
    """``OTEL_PROPAGATORS`` says which headers there are."""
    program = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentracing_instrumentation.otel import Tracer
carrier = {}
tracer = Tracer(TracerProvider())
tracer.inject(tracer.start_span("span").context, "http_headers", carrier)
print(*(name.lower() for name in carrier))
"""
    assert header in run(program, OTEL_PROPAGATORS=variable).stdout.split()
