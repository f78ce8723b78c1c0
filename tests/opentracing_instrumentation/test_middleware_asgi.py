"""The ASGI middleware: one span for each request and each websocket, under a real server and under one of our own."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import opentracing
import pytest
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers import ThreadLocalScopeManager
from opentracing.scope_managers.asyncio import AsyncioScopeManager
from opentracing.scope_managers.contextvars import ContextVarsScopeManager
from tornado.websocket import websocket_connect

from opentracing_instrumentation import get_current_span
from opentracing_instrumentation.http_server import before_request
from opentracing_instrumentation.middleware.asgi import ASGIRequestWrapper, TracingMiddleware

from .conftest import Told
from .serving import CALLER, CALLERS_SPAN, GARBAGE, ask, failed, lowered, served, uvicorn_server, wait_for_spans

Spans = Callable[[], list[Told]]


class Sunk(Exception):
    """What the applications of these tests raise."""


SUNK = Sunk("the teapot")


async def answer(send: Any, status: int = 200, *chunks: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"connection", b"close")]})
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})


async def tea(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0)
    opentracing.tracer.start_span("brew").finish()
    await answer(send, 200, b"te", b"a")


async def sinking(scope: Any, receive: Any, send: Any) -> None:
    raise SUNK


def http(**more: Any) -> dict[str, Any]:
    """The scope of a request as the specification has it, without what is optional."""
    return {"type": "http", "asgi": {"version": "3.0"}, "method": "GET", "path": "/", "headers": [], **more}


def websocket(**more: Any) -> dict[str, Any]:
    return {"type": "websocket", "asgi": {"version": "3.0"}, "path": "/", "headers": [], **more}


def run(application: Any, scope: dict[str, Any], messages: Iterable[dict[str, Any]] = ()) -> list[Any]:
    """Be the server of one request; return what the application sent."""
    waiting, sent = iter(messages), []

    async def receive() -> Any:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    return sent


def span(status: int | None = 200, url: str = "http:///", **tags: Any) -> Told:
    told = {"span.kind": "server", "http.method": "GET", "http.url": url, **tags}
    return {
        "operation": "GET",
        "parent": None,
        "tags": told if status is None else {**told, "http.status_code": status},
    }


# Under a real server


@pytest.fixture
def port_of(spans: Spans) -> Callable[[Told], int]:
    """The client's port in a span, which no test can foretell."""

    def pop(told: Told) -> int:
        port = told["tags"].pop("peer.port")
        assert isinstance(port, int)
        return port

    return pop


def test_a_request_is_a_span_of_the_callers_trace_and_current(tracer: MockTracer, spans: Spans, port_of: Any) -> None:
    with uvicorn_server(TracingMiddleware(tea), lifespan="off") as port:
        assert ask(port, "/a%20b?c=d", **lowered(CALLER)) == (200, b"tea")
        wait_for_spans(tracer, 2)
    brew, request = spans()
    assert port_of(request) != port
    assert brew == {"operation": "brew", "parent": "GET", "tags": {}}
    assert request == served(port, "/a%20b?c=d", parent=CALLERS_SPAN)


@pytest.mark.parametrize("headers", GARBAGE)
def test_garbage_in_trace_headers_begins_a_new_trace(
    headers: Any, tracer: MockTracer, spans: Spans, port_of: Any
) -> None:
    with uvicorn_server(TracingMiddleware(tea), lifespan="off") as port:
        assert ask(port, **lowered(headers)) == (200, b"tea")
        wait_for_spans(tracer, 2)
    request = spans()[1]
    port_of(request)
    assert request == served(port)


def test_an_exception_under_a_real_server(tracer: MockTracer, spans: Spans, port_of: Any) -> None:
    with uvicorn_server(TracingMiddleware(sinking), lifespan="off") as port:
        assert ask(port).status == 500
        wait_for_spans(tracer, 1)
    (request,) = spans()
    port_of(request)
    assert request == failed(served(port, status=None), SUNK)


def test_a_root_path_is_part_of_the_url(tracer: MockTracer, spans: Spans, port_of: Any) -> None:
    with uvicorn_server(TracingMiddleware(tea), lifespan="off", root_path="/shop") as port:
        assert ask(port, "/a%20b").status == 200
        wait_for_spans(tracer, 2)
    assert spans()[1]["tags"]["http.url"] == f"http://127.0.0.1:{port}/shop/a%20b"


def test_a_client_that_goes_away(tracer: MockTracer, spans: Spans, port_of: Any) -> None:
    async def patient(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"t", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            assert tracer.finished_spans() == []

    with uvicorn_server(TracingMiddleware(patient), lifespan="off") as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            client.recv(1)
        wait_for_spans(tracer, 1)
    (request,) = spans()
    port_of(request)
    assert request == served(port)


def test_a_websocket_lasts_as_long_as_its_connection(tracer: MockTracer, spans: Spans, port_of: Any) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            assert tracer.finished_spans() == []
            get_current_span().set_tag("message", message["text"])
            await send({"type": "websocket.send", "text": message["text"]})

    async def talk() -> None:
        connection = await websocket_connect(f"ws://127.0.0.1:{port}/talk?to=me")
        await connection.write_message("tea")
        assert await connection.read_message() == "tea"
        connection.close(4001, "enough")
        assert await connection.read_message() is None

    with uvicorn_server(TracingMiddleware(echo), lifespan="off", ws="wsproto") as port:
        asyncio.run(talk())
        wait_for_spans(tracer, 1)
    (told,) = spans()
    port_of(told)
    expected = served(port, status=101, message="tea", **{"websocket.close_code": 4001})
    assert told == {**expected, "tags": {**expected["tags"], "http.url": f"ws://127.0.0.1:{port}/talk?to=me"}}


def test_lifespan_reaches_the_application_as_it_is(spans: Spans) -> None:
    events = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for event in ("startup", "shutdown"):
            events.append((await receive())["type"])
            await send({"type": f"lifespan.{event}.complete"})

    with uvicorn_server(TracingMiddleware(application), lifespan="on"):
        assert events == ["lifespan.startup"]
    assert events == ["lifespan.startup", "lifespan.shutdown"]
    assert spans() == []


# Requests


def test_the_span_ends_when_the_applications_coroutine_ends(tracer: MockTracer, spans: Spans) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, b"tea")
        assert tracer.finished_spans() == []
        get_current_span().set_tag("afterwards", True)

    run(TracingMiddleware(application), http())
    assert spans() == [span(afterwards=True)]


def test_what_is_sent_reaches_the_server_as_it_is(spans: Spans) -> None:
    messages = [{"type": "http.response.start", "status": 200, "headers": []}, {"type": "http.response.body"}]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    sent = run(TracingMiddleware(application), http())
    assert [id(message) for message in sent] == [id(message) for message in messages]
    assert spans() == [span()]


@pytest.mark.parametrize(("status", "error"), [(404, False), (500, True), (503, True)])
def test_a_status_of_500_and_above_is_an_error(status: int, error: bool, spans: Spans) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, status)

    run(TracingMiddleware(application), http())
    assert spans() == [span(status, **({"error": True} if error else {}))]


def test_an_exception_is_logged_once_and_raised_on(spans: Spans) -> None:
    with pytest.raises(Sunk) as raised:
        run(TracingMiddleware(sinking), http())
    assert raised.value is SUNK
    assert spans() == [failed(span(None), SUNK)]


def test_a_cancelled_request_ends_its_span(spans: Spans) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(10)

    async def main() -> None:
        task = asyncio.create_task(TracingMiddleware(application)(http(), None, None))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert get_current_span() is None

    asyncio.run(main())
    (told,) = spans()
    assert told["tags"] == {**span(None)["tags"], "error": True}
    assert [log["error.kind"] for log in told["logs"]] == [asyncio.CancelledError]


def test_simultaneous_requests_have_their_own_current_spans(tracer: MockTracer, spans: Spans) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        own = get_current_span()
        for _ in range(3):
            await asyncio.sleep(0)
            assert get_current_span() is own
        own.set_tag("path", scope["path"])

    async def main() -> None:
        middleware = TracingMiddleware(application)
        await asyncio.gather(*(middleware(http(path=f"/{number}"), None, None) for number in range(5)))

    asyncio.run(main())
    assert spans() == [span(None, f"http:///{n}", path=f"/{n}") for n in range(5)]


@pytest.mark.parametrize(
    "message", [None, {}, {"type": "http.response.start"}, {"type": "http.response.start", "status": "OK"}]
)
def test_odd_messages_are_the_servers_business(message: Any, lenient: None, spans: Spans) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(message)

    assert run(TracingMiddleware(application), http()) == [message]
    assert spans() == [span(None)]


def test_the_status_is_tagged_as_a_plain_number(spans: Spans) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, HTTPStatus.OK)

    run(TracingMiddleware(application), http())
    assert spans() == [span()]
    assert type(spans()[0]["tags"]["http.status_code"]) is int


# Websockets


@pytest.mark.parametrize(
    ("sent", "tags"),
    [
        ([{"type": "websocket.accept"}, {"type": "websocket.close", "code": 1001}], (101, 1001)),
        ([{"type": "websocket.accept"}, {"type": "websocket.close"}], (101, 1000)),
        ([{"type": "websocket.close"}], (403, 1000)),
        ([{"type": "websocket.http.response.start", "status": 429, "headers": []}], (429, None)),
        ([], (None, None)),
    ],
)
def test_how_the_application_ends_a_websocket(sent: list[Any], tags: tuple[Any, Any], spans: Spans) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)

    assert run(TracingMiddleware(application), websocket()) == sent
    status, code = tags
    assert spans() == [span(status, "ws:///", **({} if code is None else {"websocket.close_code": code}))]


@pytest.mark.parametrize(("message", "code"), [({"code": 1006}, 1006), ({}, 1005)])
def test_how_the_client_ends_a_websocket(message: Any, code: int, spans: Spans) -> None:
    disconnect = {"type": "websocket.disconnect", **message}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        assert await receive() is disconnect

    run(TracingMiddleware(application), websocket(), [disconnect])
    assert spans() == [span(101, "ws:///", **{"websocket.close_code": code})]


# The request's description


@pytest.mark.parametrize(
    ("scope", "url"),
    [
        (http(headers=[(b"host", b"tea.example")], query_string=b"a=%20"), "http://tea.example/?a=%20"),
        (http(server=("tea.example", 80)), "http://tea.example/"),
        (http(server=("tea.example", 8080), scheme="https"), "https://tea.example:8080/"),
        (http(server=("::1", 443), scheme="https"), "https://[::1]/"),
        (http(server=("/run/tea.sock", None)), "http:///run/tea.sock/"),
        (http(server=None, path="/th\xe9 vert"), "http:///th%C3%A9%20vert"),
        (http(path="/a b", raw_path=b"/a%20b", root_path="/r"), "http:///r/a%20b"),
        (http(path="/r/a", root_path="/r"), "http:///r/a"),
        (http(path="/ra", root_path="/r"), "http:///r/ra"),
        (http(path="/r", root_path="/r"), "http:///r"),
        (websocket(server=("tea.example", 443), scheme="wss"), "wss://tea.example/"),
        (
            http(headers=[(b"host", b"me:secret@tea.example")], query_string=b"token=x"),
            "http://tea.example/?token=[redacted]",
        ),
    ],
)
def test_the_url(scope: Any, url: str, spans: Spans) -> None:
    before_request(ASGIRequestWrapper(scope)).finish()
    assert spans() == [span(None, url)]


def test_the_parts_of_a_scope() -> None:
    request = ASGIRequestWrapper(
        http(
            method="POST",
            headers=[(b"X-A", b"\xe9"), (b"x-b", b"1"), (b"x-b", b"2")],
            client=("127.0.0.1", 51222),
            server=("127.0.0.1", 8000),
        )
    )
    assert (request.method, request.operation) == ("POST", "POST")
    assert request.headers == {"x-a": "\xe9", "x-b": "1,2"}
    assert (request.remote_ip, request.remote_port, request.server_port) == ("127.0.0.1", 51222, 8000)


def test_the_parts_that_a_scope_may_lack() -> None:
    request = ASGIRequestWrapper(websocket(client=None, server=None))
    assert request.method == "GET"
    assert (request.remote_ip, request.remote_port, request.server_port) == (None, None, None)


# Tracers


def test_where_nobody_listens_the_application_is_just_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentracing, "tracer", opentracing.Tracer())
    received: list[Any] = []
    given = (http(), object(), object())

    async def application(*args: Any) -> None:
        received.extend(args)

    asyncio.run(TracingMiddleware(application)(*given))  # type: ignore[arg-type]
    assert [id(one) for one in received] == [id(one) for one in given]


def test_a_tracer_of_its_own(spans: Spans) -> None:
    own = MockTracer(AsyncioScopeManager())
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        seen.append(own.active_span)

    run(TracingMiddleware(application, own), http())
    assert own.finished_spans() == seen
    assert spans() == []


def test_a_scope_manager_of_threads_is_not_used_for_tasks(lenient: None, caplog: pytest.LogCaptureFixture) -> None:
    own = MockTracer(ThreadLocalScopeManager())
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(own.active_span)

    run(TracingMiddleware(application, own), http())
    assert len(own.finished_spans()) == 1
    assert seen == [None]
    assert "ThreadLocalScopeManager mixes up the spans of tasks" in caplog.text


class Broken:
    """Raises wherever it is called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken")


@pytest.mark.parametrize("scope", [http, websocket])
@pytest.mark.parametrize("fault", ["start_span", "scope_manager", "extract", "activate", "set_tag", "log_kv", "finish"])
def test_failures_of_tracing_change_nothing(
    fault: str, scope: Any, lenient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged, and the request goes on."""
    own = MockTracer(ContextVarsScopeManager())
    begun = own.start_span("a span").__class__
    place: Any = {"activate": ContextVarsScopeManager, "set_tag": begun, "log_kv": begun, "finish": begun}
    monkeypatch.setattr(place.get(fault, MockTracer), fault, property(Broken) if fault == "scope_manager" else Broken)
    messages = [{"type": "http.response.start", "status": 500}, {"type": "websocket.close"}]
    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        raise SUNK

    headers = [(name.encode(), value.encode()) for name, value in CALLER.items()]
    with pytest.raises(Sunk) as raised:
        asyncio.run(TracingMiddleware(application, own)(scope(headers=headers), None, send))  # type: ignore[arg-type]
    assert raised.value is SUNK
    assert sent == messages
    logged = [
        str(record.exc_info[1]) for record in caplog.records if record.levelno == logging.ERROR and record.exc_info
    ]
    assert set(logged) == {"broken"}
