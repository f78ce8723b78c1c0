"""The user's request stays the user's: it can be used again, at the same time too, and bears no headers of ours."""

from __future__ import annotations

import asyncio
from typing import Any

import opentracing
import pytest
from opentracing.mocktracer import MockTracer
from tornado.httpclient import HTTPRequest
from tornado.httputil import HTTPHeaders

from opentracing_instrumentation.client_hooks import tornado_http
from tests.opentracing_instrumentation.loopback import Loopback
from tests.opentracing_instrumentation.told import Spans

from .conftest import Kind
from .test_fetch import seen_trace_headers, trace_headers
from .told import fetched


def test_a_request_used_again_gets_headers_anew(kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    request = HTTPRequest(server.url + "/x")
    for _ in range(3):
        assert kind.fetch(request).request is request
    assert seen_trace_headers(server) == [trace_headers(span) for span in tracer.finished_spans()]
    assert spans() == [fetched(server, "/x")] * 3


def test_a_request_used_at_the_same_time_has_headers_for_each_use(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    request = HTTPRequest(server.url + "/x")

    async def work(client: Any) -> None:
        await asyncio.gather(*(client.fetch(request) for _ in range(20)))

    kind.run(work, max_clients=5)
    expected = [trace_headers(span) for span in tracer.finished_spans()]
    by_span = [
        sorted(headers, key=lambda each: each["ot-tracer-spanid"]) for headers in (seen_trace_headers(server), expected)
    ]
    assert by_span[0] == by_span[1]
    assert [name for name in request.headers if name.startswith("Ot-")] == []


def test_baggage_of_one_fetch_does_not_travel_with_another_of_the_same_request(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    request = HTTPRequest(server.url + "/x")

    async def work(client: Any) -> None:
        with tracer.start_active_span("with") as scope:
            scope.span.set_baggage_item("user", "7")
            one = client.fetch(request)
        await asyncio.gather(one, client.fetch(request))

    kind.run(work)
    assert sorted(seen.headers.get("ot-baggage-user", "none") for seen in server.seen) == ["7", "none"]


@pytest.mark.parametrize(
    "headers",
    [{"X-Own": "1"}, HTTPHeaders({"x-own": "1", "Ot-Tracer-Spanid": "the caller's"})],
    ids=["dict", "with a header that we set"],
)
def test_a_request_is_left_as_tornado_leaves_it(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans, headers: Any
) -> None:
    before = dict(headers)
    tornado_http.reset_patches()
    untraced = HTTPRequest(server.url + "/x", headers=headers, method="POST", body="1")
    kind.fetch(untraced)
    tornado_http.install_patches()
    traced = HTTPRequest(server.url + "/x", headers=headers, method="POST", body="1")
    response = kind.fetch(traced)
    assert dict(response.request.headers) == dict(traced.headers) == dict(untraced.headers)
    assert dict(headers) == before
    bare, ours = (
        {name: value for name, value in seen.headers.items() if not name.startswith("ot-")} for seen in server.seen
    )
    assert bare == ours
    del server.seen[0]
    assert seen_trace_headers(server) == [trace_headers(span) for span in tracer.finished_spans()]


def test_headers_of_several_values_are_all_sent(kind: Kind, server: Loopback, spans: Spans) -> None:
    headers = HTTPHeaders()
    headers.add("X-Own", "1")
    headers.add("X-Own", "2")
    request = HTTPRequest(server.url + "/x", headers=headers)
    kind.fetch(request)
    assert request.headers.get_list("X-Own") == ["1", "2"]
    assert server.seen[0].headers["x-own"] in ("1", "2", "1, 2", "1,2")
    assert spans() == [fetched(server, "/x")]


def test_the_request_of_a_direct_call_of_fetch_impl_is_put_back(
    simple: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    headers = HTTPHeaders({"X-Own": "1"})
    request = HTTPRequest(
        server.url + "/x", headers=headers, connect_timeout=5, request_timeout=5, max_redirects=5, proxy_password=""
    )

    async def work(client: Any) -> Any:
        response: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        client.fetch_impl(request, response.set_result)
        return await response

    assert simple.run(work).code == 200
    assert request.headers is headers
    assert [name for name in headers if name.startswith("Ot-")] == []
    assert seen_trace_headers(server) == [trace_headers(span) for span in tracer.finished_spans()]
    assert spans() == [fetched(server, "/x")]


def test_the_response_and_the_error_are_those_of_tornado(kind: Kind, server: Loopback, tracer: MockTracer) -> None:
    """With a tracer and without."""
    outcomes = []
    for _ in range(2):
        response = kind.fetch(server.url + "/status/404", raise_error=False)
        told = {name: value for name, value in vars(response).items() if name not in ("request", "headers", "buffer")}
        timed = {"error", "start_time", "request_time", "time_info"}
        outcomes.append(({name: told[name] for name in told.keys() - timed}, str(response.error), response.body))
        opentracing.tracer = opentracing.Tracer()
    assert outcomes[0] == outcomes[1]
    assert len(tracer.finished_spans()) == 1
