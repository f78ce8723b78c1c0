"""What a fetch becomes, against a real server: a span that tells how the fetch ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tornado.gen
from opentracing import Format, UnsupportedFormatException
from opentracing.mocktracer import MockTracer
from tornado.httpclient import HTTPClient, HTTPClientError, HTTPRequest

from opentracing_instrumentation import span_in_context
from opentracing_instrumentation.client_hooks import set_current_span_func
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.http_client import ClientInterceptors
from opentracing_instrumentation.interceptors import OpenTracingInterceptor
from tests.opentracing_instrumentation.loopback import Loopback
from tests.opentracing_instrumentation.told import Spans, unused_port
from tests.opentracing_instrumentation.told import failed as raised

from .conftest import Kind
from .told import failed, fetched

WORK = {"operation": "work", "parent": None, "tags": {}}


def trace_headers(span: Any) -> dict[str, str]:
    return {"ot-tracer-spanid": f"{span.context.span_id:x}", "ot-tracer-traceid": f"{span.context.trace_id:x}"}


def seen_trace_headers(server: Loopback) -> list[dict[str, str]]:
    names = "ot-tracer-spanid", "ot-tracer-traceid"
    return [{name: seen.headers[name] for name in names} for seen in server.seen]


def test_a_fetch_is_a_span_below_the_one_that_is_current(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    with tracer.start_active_span("work"):
        assert kind.fetch(server.url + "/x?page=2").body == b"ok"
    assert spans() == [fetched(server, "/x?page=2", parent="work"), WORK]


def test_without_a_current_span_it_is_a_root(kind: Kind, server: Loopback, spans: Spans) -> None:
    with span_in_context(None):
        kind.fetch(server.url + "/x", method="PUT", body="1")
    assert spans() == [fetched(server, "/x", method="PUT")]


def test_the_parent_is_the_span_that_is_current_when_fetch_is_called(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    async def work(client: Any) -> None:
        with tracer.start_active_span("first"):
            future = client.fetch(server.url + "/x")
        with tracer.start_active_span("second"):
            await future

    kind.run(work)
    assert fetched(server, "/x", parent="first") in spans()


def test_in_coroutines_of_either_sort_the_current_span_stays_current(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    @tornado.gen.coroutine
    def older(client: Any) -> Any:
        with tracer.start_active_span("older"):
            yield client.fetch(server.url + "/1")
            yield client.fetch(server.url + "/2")

    async def newer(client: Any) -> None:
        with tracer.start_active_span("newer"):
            await client.fetch(server.url + "/3")
            await older(client)
            await client.fetch(server.url + "/4")

    kind.run(newer)
    assert spans() == [
        fetched(server, "/3", parent="newer"),
        fetched(server, "/1", parent="older"),
        fetched(server, "/2", parent="older"),
        {"operation": "older", "parent": "newer", "tags": {}},
        fetched(server, "/4", parent="newer"),
        {"operation": "newer", "parent": None, "tags": {}},
    ]


def test_the_blocking_client_is_traced(kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    asyncio.set_event_loop(None)  # or early releases of Tornado have asyncio make one, and leave it open
    client = HTTPClient(kind.client)
    with tracer.start_active_span("work"):
        assert client.fetch(server.url + "/x").body == b"ok"
    client.close()
    assert spans() == [fetched(server, "/x", parent="work"), WORK]


def test_the_context_of_the_span_travels_in_the_headers(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    kind.fetch(server.url)
    assert seen_trace_headers(server) == [trace_headers(span) for span in tracer.finished_spans()]


@pytest.mark.parametrize(
    ("status", "reason"), [(304, "Not Modified"), (404, "Not Found"), (500, "Internal Server Error")]
)
def test_a_status_that_is_no_success_is_an_error(
    kind: Kind, server: Loopback, spans: Spans, status: int, reason: str
) -> None:
    with pytest.raises(HTTPClientError) as caught:
        kind.fetch(f"{server.url}/status/{status}")
    assert caught.value.code == status
    assert kind.fetch(f"{server.url}/status/{status}", raise_error=False).code == status
    assert spans() == [failed(fetched(server, f"/status/{status}", status), f"HTTP {status}: {reason}")] * 2


def test_no_content_is_a_success(kind: Kind, server: Loopback, spans: Spans) -> None:
    assert kind.fetch(server.url + "/status/204").code == 204
    assert spans() == [fetched(server, "/status/204", 204)]


def test_hops_of_the_simple_client_are_siblings_with_headers_of_their_own(
    simple: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    with tracer.start_active_span("work"):
        response = simple.fetch(server.url + "/redirect/2")
    assert (response.code, response.effective_url) == (200, server.url + "/")
    paths = "/", "/redirect/1", "/redirect/2"  # in the order of their ends
    assert spans() == [*(fetched(server, path, parent="work") for path in paths), WORK]
    own = [trace_headers(span) for span in tracer.finished_spans()[:-1]]
    assert seen_trace_headers(server) == own[::-1]


def test_hops_of_curl_are_one_span(curl: Kind, server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    assert curl.fetch(server.url + "/redirect/2").effective_url == server.url + "/"
    assert spans() == [fetched(server, "/redirect/2")]
    assert seen_trace_headers(server) == [trace_headers(tracer.finished_spans()[0])] * 3


def test_a_redirect_that_is_not_followed_is_an_error_like_in_tornado(
    kind: Kind, server: Loopback, spans: Spans
) -> None:
    assert kind.fetch(server.url + "/redirect/1", raise_error=False, follow_redirects=False).code == 302
    assert spans() == [failed(fetched(server, "/redirect/1", 302), "HTTP 302: Found")]


@pytest.mark.parametrize("raise_error", [True, False])
def test_a_timeout_is_an_error_of_599(kind: Kind, server: Loopback, spans: Spans, raise_error: bool) -> None:
    with pytest.raises(HTTPClientError) as caught:
        kind.fetch(server.url + "/hang", raise_error=raise_error, request_timeout=0.2)
    assert caught.value.code == 599
    assert spans() == [failed(fetched(server, "/hang", 599), str(caught.value))]


def test_a_refused_connection_is_an_error_of_599(kind: Kind, spans: Spans) -> None:
    port = unused_port()
    with pytest.raises((OSError, HTTPClientError)) as caught:
        kind.fetch(f"http://127.0.0.1:{port}/x")
    (span,) = spans()
    assert span["tags"] == {
        "span.kind": "client",
        "http.method": "GET",
        "http.url": f"http://127.0.0.1:{port}/x",
        "http.status_code": "599",
        "peer.ipv4": "127.0.0.1",
        "peer.port": port,
        "error": True,
    }
    assert span["logs"] == [{"event": "error", "payload": str(caught.value)}]


def test_a_connection_that_is_reset_is_an_error_of_599(kind: Kind, server: Loopback, spans: Spans) -> None:
    with pytest.raises((OSError, HTTPClientError)) as caught:
        kind.fetch(server.url + "/reset")
    assert spans() == [failed(fetched(server, "/reset", 599), str(caught.value))]


def test_what_fetch_itself_raises_ends_the_span(simple: Kind, server: Loopback, spans: Spans) -> None:
    """The simple client asserts that it has timeouts."""
    with pytest.raises(AssertionError) as caught:
        simple.run(lambda client: client.fetch(server.url + "/x"), defaults={"request_timeout": None})
    assert spans() == [raised(fetched(server, "/x", None), caught.value)]


def test_a_request_that_curl_can_not_set_up_is_an_error_of_599(curl: Kind, server: Loopback, spans: Spans) -> None:
    with pytest.raises(KeyError) as caught:
        curl.fetch(server.url + "/x", method="BREW")
    assert spans() == [failed(fetched(server, "/x", 599, method="BREW"), str(caught.value))]


def test_no_secret_of_the_url_reaches_the_span(kind: Kind, server: Loopback, spans: Spans) -> None:
    url = f"http://user:hunter2@127.0.0.1:{server.port}/x?token=hunter3"
    kind.fetch(url)
    assert spans() == [fetched(server, "/x?token=[redacted]")]
    assert server.seen[0].path == "/x?token=hunter3"


def test_no_secret_of_an_error_reaches_the_span(simple: Kind, spans: Spans) -> None:
    with pytest.raises(ValueError) as caught:
        simple.fetch("ftp://user:hunter2@far.example/x?token=hunter3")
    assert "hunter2" in str(caught.value)
    (span,) = spans()
    assert span["logs"] == [
        {"event": "error", "payload": "Unsupported url scheme: ftp://far.example/x?token=[redacted]"}
    ]


def test_a_url_of_bytes_is_tagged_as_text(kind: Kind, server: Loopback, spans: Spans) -> None:
    assert kind.fetch(server.url.encode() + b"/x").body == b"ok"
    assert spans() == [fetched(server, "/x")]


def test_headers_name_the_called_service_and_endpoint_in_any_case(kind: Kind, server: Loopback, spans: Spans) -> None:
    CONFIG.callee_name_headers, CONFIG.callee_endpoint_headers = ["x-service"], ["X-ENDPOINT"]
    kind.fetch(server.url + "/x", headers={"X-Service": "stock", "x-endpoint": "count"})
    assert spans() == [{**fetched(server, "/x", **{"peer.service": "stock"}), "operation": "GET:count"}]


def test_the_parent_is_found_by_the_function_that_is_set(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    with tracer.start_span("chosen") as chosen:
        set_current_span_func(lambda: chosen)
        kind.fetch(server.url + "/x")
    assert spans()[0] == fetched(server, "/x", parent="chosen")


def test_interceptors_see_request_and_span(kind: Kind, server: Loopback, spans: Spans) -> None:
    class Note(OpenTracingInterceptor):
        def process(self, request: Any, span: Any) -> None:
            span.set_tag("note", request.full_url)
            request.add_header("X-Note", "seen")

    ClientInterceptors.append(Note())
    request = HTTPRequest(server.url + "/x")
    kind.fetch(request)
    assert spans() == [fetched(server, "/x", note=server.url + "/x")]
    assert server.seen[0].headers["x-note"] == "seen"
    assert "X-Note" not in request.headers


def test_a_tracer_without_a_format_for_headers_traces_all_the_same(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inject(span_context: Any, format: str, carrier: Any) -> None:  # noqa: A002
        assert format == Format.HTTP_HEADERS
        raise UnsupportedFormatException

    monkeypatch.setattr(tracer, "inject", inject)
    kind.fetch(server.url + "/x")
    assert spans() == [fetched(server, "/x")]


@pytest.mark.parametrize("broken", ["start_span", "inject"])
def test_a_tracer_that_breaks_does_not_break_the_fetch(
    kind: Kind,
    server: Loopback,
    tracer: MockTracer,
    lenient: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    monkeypatch.setattr(tracer, broken, lambda *_, **__: 1 / 0)
    request = HTTPRequest(server.url)
    responses = [kind.fetch(request) for _ in range(2)]
    assert [(response.body, response.request is request) for response in responses] == [(b"ok", True)] * 2
    assert len(server.seen) == 2
    assert [record.name for record in caplog.records] == ["opentracing_instrumentation"]  # once


def test_without_a_tracer_nothing_is_added(kind: Kind, server: Loopback) -> None:
    assert kind.fetch(server.url).body == b"ok"
    assert [name for name in server.seen[0].headers if name.startswith("ot-")] == []
