"""Incoming requests: what before_request works out for OpenTelemetry, and what not."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.propagators.b3 import B3SingleFormat
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind

from opentracing_instrumentation.http_server import WSGIRequestWrapper, before_request
from opentracing_instrumentation.otel import Span, Tracer

ENVIRON = {
    "wsgi.url_scheme": "http",
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/articles/42",
    "QUERY_STRING": "page=2&token=t",
    "HTTP_HOST": "shop.example:8080",
    "HTTP_TRACEPARENT": "00-0000000000000000000000000000000a-000000000000000b-01",
    "REMOTE_ADDR": "10.0.0.9",
    "REMOTE_PORT": "4711",
}
URL = "http://shop.example:8080/articles/42?page=2&token=[redacted]"
STABLE = {
    "http.request.method": "GET",
    "url.scheme": "http",
    "url.path": "/articles/42",
    "url.query": "page=2&token=[redacted]",
    "server.address": "shop.example",
    "server.port": 8080,
    "client.address": "10.0.0.9",
    "client.port": 4711,
}
OLD = {
    "http.method": "GET",
    "http.url": URL,
    "http.target": "/articles/42?page=2&token=[redacted]",
    "http.scheme": "http",
    "http.host": "shop.example:8080",
    "net.peer.ip": "10.0.0.9",
    "net.peer.port": 4711,
}


class Counting(WSGIRequestWrapper):
    """Counts how often its URL is asked for."""

    asked = 0

    @property
    def full_url(self) -> str:
        type(self).asked += 1
        return super().full_url


@pytest.fixture
def request_of() -> type[Counting]:
    """A class of requests of its own, with a counter of its own."""
    return type("Request", (Counting,), {})


def begun(tracer: Tracer, request: WSGIRequestWrapper) -> Span:
    span: Any = before_request(request, tracer)
    span.finish()
    return span  # type: ignore[no-any-return]


@pytest.mark.parametrize(("semconv", "attributes"), [("stable", STABLE), ("old", OLD), ("dup", {**OLD, **STABLE})])
def test_a_request(
    provider: TracerProvider, exporter: InMemorySpanExporter, semconv: str, attributes: dict[str, Any]
) -> None:
    begun(Tracer(provider, semconv=semconv), WSGIRequestWrapper.from_wsgi_environ(ENVIRON))
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind, span.attributes) == ("GET", SpanKind.SERVER, attributes)
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (10, 11)


@pytest.mark.parametrize("provider", [TracerProvider(ALWAYS_OFF, shutdown_on_exit=False), trace.NoOpTracerProvider()])
def test_of_what_is_not_recorded_no_url_is_put_together(provider: Any, request_of: type[Counting]) -> None:
    span = begun(Tracer(provider), request_of(ENVIRON))
    assert (span.is_recording, span.context.trace_id, request_of.asked) == (False, 10, 0)


def test_a_sampler_that_looks_at_the_url_sees_it(exporter: InMemorySpanExporter, request_of: type[Counting]) -> None:
    """And none of its secrets; the span has what the sampler has seen."""
    seen: list[Any] = []

    class Picking(Sampler):
        def should_sample(self, *args: Any, **_: Any) -> SamplingResult:
            attributes = args[4]
            seen.append(dict(attributes))
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

        def get_description(self) -> str:
            return "picking"

    provider = TracerProvider(Picking(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    begun(Tracer(provider), request_of(ENVIRON))
    assert seen == [STABLE]
    assert [dict(span.attributes or {}) for span in exporter.get_finished_spans()] == [STABLE]
    assert request_of.asked == 1


def test_a_url_that_cannot_be_told_is_reported_and_the_request_traced(
    tracer: Tracer, exporter: InMemorySpanExporter, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(WSGIRequestWrapper):
        @property
        def full_url(self) -> str:
            raise LookupError

    begun(tracer, Broken.from_wsgi_environ(ENVIRON))
    (span,) = exporter.get_finished_spans()
    told = {name: value for name, value in STABLE.items() if not name.startswith(("url.", "server."))}
    assert span.attributes == {**told, "url.path": "[unknown]"}
    assert "the URL of " in caplog.text
    assert "Broken" in caplog.text


def test_any_propagator_finds_its_headers(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """Those of W3C are handed to its propagator alone; any other may look at all."""
    environ = {**ENVIRON, "HTTP_BAGGAGE": "k=v", "HTTP_B3": f"{12:032x}-{13:016x}-1"}
    b3 = Tracer(provider, propagator=B3SingleFormat())
    assert b3.header_names is None
    assert begun(b3, WSGIRequestWrapper.from_wsgi_environ(environ)).context.trace_id == 12
    w3c = Tracer(provider)
    assert w3c.header_names == ("traceparent", "tracestate", "baggage")
    assert begun(w3c, WSGIRequestWrapper.from_wsgi_environ(environ)).context.baggage == {"k": "v"}
    assert [span.parent.span_id for span in exporter.get_finished_spans() if span.parent] == [13, 11]


def test_a_tracer_with_an_extract_of_its_own_gets_all_headers(provider: TracerProvider) -> None:
    carriers: list[Any] = []

    class Noting(Tracer):
        def extract(self, format: Any, carrier: Any) -> Any:  # noqa: A002
            carriers.append(carrier)
            return super().extract(format, carrier)

    span = begun(Noting(provider), WSGIRequestWrapper.from_wsgi_environ({**ENVIRON, "HTTP_X_REQUEST": "7"}))
    assert [carrier["x-request"] for carrier in carriers] == ["7"]
    assert span.context.trace_id == 10
