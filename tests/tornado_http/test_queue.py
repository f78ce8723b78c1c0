"""Requests that wait because of ``max_clients``: how long they waited, and whose context they run in."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from opentracing.mocktracer import MockTracer
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.web import Application, RequestHandler

from opentracing_instrumentation import get_current_span
from opentracing_instrumentation.client_hooks import tornado_http
from tests.opentracing_instrumentation.loopback import Loopback
from tests.opentracing_instrumentation.serving import tornado_server
from tests.opentracing_instrumentation.told import Spans

from .conftest import Kind
from .told import failed, fetched, split_queue_time


async def below(tracer: MockTracer, operation: str, client: Any, request: Any) -> Any:
    """Fetch below a span of this name."""
    with tracer.start_active_span(operation):
        return await client.fetch(request)


def test_a_request_that_has_to_wait_tells_how_long(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    async def work(client: Any) -> None:
        first = asyncio.ensure_future(client.fetch(server.url + "/status/200"))
        second = asyncio.ensure_future(client.fetch(server.url + "/hang", raise_error=False, request_timeout=0.2))
        third = asyncio.ensure_future(client.fetch(server.url + "/x"))
        await asyncio.wait([first, second, third])

    kind.run(work, max_clients=1)
    first, hanging, waiting = spans()
    assert first == fetched(server, "/status/200")  # it did not wait, and does not say so
    assert split_queue_time(hanging)[0]["tags"]["http.status_code"] == "599"
    span, waited = split_queue_time(waiting)
    assert span == fetched(server, "/x")
    assert 0.19 < waited < 5


def test_a_timeout_in_the_queue_is_all_queue_time(simple: Kind, server: Loopback, spans: Spans) -> None:
    async def work(client: Any) -> None:
        hanging = client.fetch(server.url + "/hang")
        with pytest.raises(HTTPClientError, match="in request queue"):
            await client.fetch(server.url + "/x", connect_timeout=0.1)
        server.over.set()
        await asyncio.wait([hanging])

    simple.run(work, max_clients=1)
    span, waited = split_queue_time(spans()[0])
    assert span == failed(fetched(server, "/x", 599), "Timeout in request queue")
    assert 0.09 < waited < 5


def test_after_a_reset_waiting_requests_are_begun_as_by_tornado(kind: Kind, server: Loopback, spans: Spans) -> None:
    async def work(client: Any) -> None:
        responses = [client.fetch(server.url + path) for path in ("/1", "/2")]
        tornado_http.reset_patches()
        await asyncio.gather(*responses)

    kind.run(work, max_clients=1)
    assert [span["tags"]["http.url"] for span in spans()] == [server.url + "/1", server.url + "/2"]
    assert [span["tags"]["http.status_code"] for span in spans()] == ["200", "200"]


def test_redirects_of_a_request_that_waited_are_below_its_own_caller(
    simple: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    async def work(client: Any) -> None:
        await asyncio.gather(*(below(tracer, word, client, f"{server.url}/redirect/1?{word}") for word in "abcdef"))

    simple.run(work, max_clients=1)
    parents = Counter(span["parent"] for span in spans() if span["operation"] == "GET")
    assert parents == dict.fromkeys("abcdef", 2)


def test_callbacks_run_in_the_context_of_their_caller(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    """Whether the request has to wait or not."""
    noted: dict[str, set[str]] = {word: set() for word in "abcdef"}
    got = dict.fromkeys("abcdef", b"")

    def request(word: str) -> HTTPRequest:
        def current(_: Any) -> None:
            noted[word].add(get_current_span().operation_name)

        def streamed(chunk: bytes) -> None:
            current(chunk)
            got[word] += chunk

        return HTTPRequest(
            f"{server.url}/stream?{word}",
            header_callback=current,
            streaming_callback=streamed,
            prepare_curl_callback=current,
        )

    async def work(client: Any) -> None:
        await asyncio.gather(*(below(tracer, word, client, request(word)) for word in "abcdef"))

    kind.run(work, max_clients=2)
    assert noted == {word: {word} for word in "abcdef"}
    assert got == dict.fromkeys("abcdef", b"onetwothree")
    assert sorted(span["parent"] for span in spans() if span["operation"] == "GET") == list("abcdef")


def test_callbacks_that_are_defaults_of_the_client_run_in_the_context_of_the_caller(
    kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    noted: list[str] = []

    async def work(client: Any) -> None:
        await asyncio.gather(*(below(tracer, word, client, f"{server.url}/stream?{word}") for word in "abc"))

    def current(_: bytes) -> None:
        noted.append(get_current_span().operation_name)

    kind.run(work, max_clients=1, defaults={"streaming_callback": current})
    assert list(dict.fromkeys(noted)) == ["a", "b", "c"]


def test_a_body_producer_runs_in_the_context_of_its_caller(
    simple: Kind, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    noted: dict[str, str] = {}

    def request(word: str) -> HTTPRequest:
        async def produce(write: Any) -> None:
            noted[word] = get_current_span().operation_name
            await write(word.encode())

        return HTTPRequest(f"{server.url}/{word}", method="POST", body_producer=produce)

    async def work(client: Any) -> None:
        await asyncio.gather(*(below(tracer, word, client, request(word)) for word in "abc"))

    simple.run(work, max_clients=1)
    assert noted == {word: word for word in "abc"}
    assert [seen.body for seen in server.seen] == [b"a", b"b", b"c"]


def test_what_curl_makes_of_asynchronous_callbacks_stays_the_same(curl: Kind, server: Loopback, spans: Spans) -> None:
    """Later releases of Tornado refuse them."""

    def outcome() -> object:
        got: list[bytes] = []

        async def streamed(chunk: bytes) -> None:
            got.append(chunk)

        try:
            curl.fetch(server.url + "/stream", streaming_callback=streamed)
        except TypeError as error:
            return str(error)
        return b"".join(got)

    traced = outcome()
    tornado_http.reset_patches()
    assert traced == outcome()
    assert len(spans()) == 1


class Echo(RequestHandler):
    def get(self) -> None:
        self.write(self.request.headers["Ot-Tracer-Spanid"])


def test_thousands_at_once_keep_to_their_own_parents(kind: Kind, tracer: MockTracer, spans: Spans) -> None:
    count = 2000

    async def work(client: Any) -> None:
        async def one(number: int) -> None:
            response = await below(tracer, f"work {number}", client, f"http://127.0.0.1:{port}/{number}")
            assert response.code == 200
            told[number] = int(response.body, 16)

        await asyncio.gather(*map(one, range(count)))

    told: dict[int, int] = {}
    with tornado_server(Application([("/.*", Echo)])) as port:
        kind.run(work, max_clients=20, defaults={"connect_timeout": 60, "request_timeout": 60})
    fetches = {
        int(span.tags["http.url"].rpartition("/")[2]): span
        for span in tracer.finished_spans()
        if span.operation_name == "GET"
    }
    assert told == {number: span.context.span_id for number, span in fetches.items()}
    parents = {span["tags"]["http.url"].rpartition("/")[2]: span["parent"] for span in spans() if span["tags"]}
    assert parents == {str(number): f"work {number}" for number in range(count)}
    assert sum("http.queue_time" in span.tags for span in fetches.values()) == count - 20
    assert not tornado_http._waiting
