"""Where a hook can call straight through."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import opentracing
import pytest
import requests
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from opentracing_instrumentation import client_hooks, http_client
from opentracing_instrumentation._core.calls import Description, instrument
from opentracing_instrumentation.client_hooks._dbapi2 import ConnectionFactory
from opentracing_instrumentation.interceptors import ClientInterceptors, OpenTracingInterceptor
from opentracing_instrumentation.middleware.wsgi import TracingMiddleware
from opentracing_instrumentation.otel import Span, Tracer
from opentracing_instrumentation.otel.semconv import Translation
from opentracing_instrumentation.request_context import get_current_span

from .processes import run
from .spans import tree

PURPOSES = (None, "client", "http", "database")


def idle(tracer: Tracer) -> list[bool]:
    return [tracer.is_idle(purpose) for purpose in PURPOSES]


def test_below_a_recording_span_or_none(tracer: Tracer) -> None:
    """There, every call is to have a span."""
    assert idle(tracer) == [False, False, False, False]
    with tracer.start_active_span("span") as scope:
        assert idle(tracer) == [False, False, False, False]
        scope.span.finish()
        assert idle(tracer) == [False, False, False, False]


def test_where_opentelemetry_is_suppressed(tracer: Tracer) -> None:
    """Its two blocks count for our hooks as well."""
    with suppress_instrumentation():
        assert idle(tracer) == [True, True, True, True]
    with suppress_http_instrumentation():
        assert idle(tracer) == [False, False, True, False]
    assert idle(tracer) == [False, False, False, False]


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


REMOTE = trace.SpanContext(7, 8, is_remote=True)


def test_below_a_span_that_is_sampled_out(dropping: Tracer) -> None:
    """A database is asked without a span; where a context has to travel it does. Of remote ones the sampler decides."""
    with dropping.start_active_span("dropped"):
        assert idle(dropping) == [False, False, False, True]
    with trace.use_span(trace.NonRecordingSpan(REMOTE)):
        assert idle(dropping) == [False, False, False, False]


@pytest.fixture(params=[trace.NoOpTracerProvider(), None], ids=["the API's own", "none set"])
def without_sdk(request: pytest.FixtureRequest) -> Tracer:
    """A tracer on a provider that records nothing, or on the global one while there is none."""
    return Tracer(request.param)


def test_without_an_sdk(without_sdk: Tracer) -> None:
    """Nothing is left to do but to hand on what arrives: a remote context, or baggage."""
    assert not without_sdk.records
    assert idle(without_sdk) == [False, True, True, True]
    with without_sdk.start_active_span("span") as scope:
        assert idle(without_sdk) == [False, True, True, True]
        scope.span.set_baggage_item("customer", "7")
        assert idle(without_sdk) == [False, False, False, True]
    with trace.use_span(trace.NonRecordingSpan(REMOTE)):
        assert idle(without_sdk) == [False, False, False, True]


def test_propagators_that_may_have_more_to_say() -> None:
    """Only of OpenTelemetry's default ones is it known that they write nothing where there is no span."""
    propagator = CompositePropagator([TraceContextTextMapPropagator(), B3MultiFormat()])
    assert idle(Tracer(trace.NoOpTracerProvider(), propagator=propagator)) == [False, False, False, True]


def test_interceptors_see_requests_without_an_sdk(without_sdk: Tracer) -> None:
    """They may have more to do than to look at spans."""

    class Interceptor(OpenTracingInterceptor):
        def process(self, request: Any, span: Any) -> None:
            raise NotImplementedError

    ClientInterceptors.append(Interceptor())
    assert idle(without_sdk) == [False, False, False, True]


def test_a_provider_that_is_set_later() -> None:
    """From then on spans are recorded."""
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentracing_instrumentation.otel import Tracer

tracer = Tracer()
assert tracer.is_idle("database") and not tracer.records
trace.set_tracer_provider(TracerProvider())
assert tracer.records and not tracer.is_idle("database")
assert tracer.start_span("span").is_recording
"""
    run(code)


@pytest.fixture
def dropping(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """A tracer, in force, on an SDK that drops all spans; and asks its sampler, which counts."""
    tracer = Tracer(TracerProvider(CountingSampler(), shutdown_on_exit=False))
    monkeypatch.setattr(opentracing, "tracer", tracer)
    return tracer


class CountingSampler(Sampler):
    """Samples nothing; counts how often it is asked."""

    asked = 0

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        type(self).asked += 1
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return "none"


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tags of all translations that are made, and the URLs of requests whose tags a hook has worked out."""
    made: list[Any] = []
    attributes, tags = Translation.attributes, http_client._request_tags
    monkeypatch.setattr(Translation, "attributes", lambda self: (made.append(self.tags), attributes(self))[1])
    monkeypatch.setattr(http_client, "_request_tags", lambda request: (made.append(request), tags(request))[1])
    return made


def test_what_is_not_recorded_is_not_translated(dropping: Tracer, translated: list[Any]) -> None:
    """Neither the tags of a span that is sampled out, nor those of one below it, nor those that are set later."""
    with dropping.start_active_span("request", tags={"span.kind": "server", "http.method": "GET"}) as scope:
        child = dropping.start_span("redis:GET", tags={"span.kind": "client", "db.type": "redis"})
        child.set_tag("db.instance", 0).finish()
        scope.span.set_tag("http.status_code", 200)
        assert not child.is_recording
        assert child.is_dropped
        assert child.context.unwrap() == scope.span.context.unwrap()
    assert translated == []


def test_an_outgoing_request_below_a_span_that_is_sampled_out(dropping: Tracer, translated: list[Any]) -> None:
    """It takes the context along; no tag is worked out, no sampler is asked. Interceptors see a span."""
    seen: list[Any] = []

    class Interceptor(OpenTracingInterceptor):
        def process(self, request: Any, span: Any) -> None:
            span.set_baggage_item("customer", "7")
            seen.append(span)

    ClientInterceptors.append(Interceptor())
    client_hooks.requests.install_patches()
    request = requests.Request("GET", "http://localhost:1/").prepare()
    with dropping.start_active_span("dropped") as scope:
        CountingSampler.asked = 0
        with pytest.raises(requests.ConnectionError), requests.Session() as session:
            session.send(request)
        identity = scope.span.context.unwrap()
        assert scope.span.get_baggage_item("customer") is None
    parts = f"{identity.trace_id:032x}", f"{identity.span_id:016x}", f"{identity.trace_flags:02x}"
    assert request.headers["traceparent"] == "-".join(("00", *parts))
    assert not identity.trace_flags.sampled
    assert request.headers["baggage"] == "customer=7"
    assert [span.is_recording for span in seen] == [False]
    assert (translated, CountingSampler.asked) == ([], 0)


def test_of_a_request_below_a_span_that_is_sampled_out_nothing_is_asked(dropping: Tracer) -> None:
    """Not even its name; it just gets the headers."""

    class Silent(http_client.AbstractRequestWrapper):
        def __init__(self) -> None:
            self.added: list[str] = []

        def add_header(self, key: str, value: str) -> None:
            self.added.append(key)

    request = Silent()
    with dropping.start_active_span("dropped"):
        http_client.before_http_request(request, get_current_span).finish()
    assert request.added == ["traceparent"]
    with pytest.raises(NotImplementedError):
        http_client.before_http_request(request, get_current_span)


def test_statements_below_a_span_that_is_sampled_out(dropping: Tracer, translated: list[Any]) -> None:
    """They go straight through to the driver, as do transactions."""
    connection = ConnectionFactory(sqlite3.connect, "sqlite3")(":memory:")
    with contextlib.closing(connection), dropping.start_active_span("dropped"):
        CountingSampler.asked = 0
        cursor = connection.cursor()
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]
        connection.commit()
    assert (translated, CountingSampler.asked) == ([], 0)


def test_a_remote_context_travels_without_an_sdk(monkeypatch: pytest.MonkeyPatch, without_sdk: Tracer) -> None:
    """From an incoming request to an outgoing one; where none has come, the request goes as it is."""
    monkeypatch.setattr(opentracing, "tracer", without_sdk)
    client_hooks.requests.install_patches()
    traceparent = "00-0000000000000000000000000000000a-000000000000000b-01"

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        sent.append(requests.Request("GET", "http://localhost:1/").prepare())
        with pytest.raises(requests.ConnectionError), requests.Session() as session:
            session.send(sent[-1])
        start_response("200 OK", [])
        return [b""]

    sent: list[Any] = []
    for headers in {"HTTP_TRACEPARENT": traceparent}, {}:
        environ = {"REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", "HTTP_HOST": "shop", **headers}
        list(TracingMiddleware(application)(environ, lambda *_: None))
    assert [request.headers.get("traceparent") for request in sent] == [traceparent, None]
