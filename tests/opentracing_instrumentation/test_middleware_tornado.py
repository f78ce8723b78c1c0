"""The server side of Tornado: one span for each request, whatever becomes of it, by the application or by the mixin."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import opentracing
import pytest
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers import ThreadLocalScopeManager
from opentracing.scope_managers.asyncio import AsyncioScopeManager
from opentracing.scope_managers.contextvars import ContextVarsScopeManager
from tornado.gen import coroutine
from tornado.gen import sleep as pause
from tornado.web import Application, Finish, HTTPError, RedirectHandler, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler, websocket_connect

from opentracing_instrumentation import get_current_span
from opentracing_instrumentation.middleware.tornado import TracingHandlerMixin, trace_application, untrace_application

from .conftest import Told
from .serving import CALLER, CALLERS_SPAN, GARBAGE, ask, failed, lowered, served, tornado_server, wait_for_spans

Spans = Callable[[], list[Told]]


class Sunk(Exception):
    """What the handlers of these tests raise."""


SUNK = Sunk("the teapot")
UNAVAILABLE = HTTPError(503, "closed on mondays")


class Tea(RequestHandler):
    async def get(self) -> None:
        await asyncio.sleep(0)
        child = opentracing.tracer.start_span("brew", tags={"current": get_current_span().operation_name})
        child.finish()
        self.write("tea")

    def post(self) -> None:
        self.write(self.get_argument("sort"))


class Old(RequestHandler):
    @coroutine
    def get(self) -> Any:
        yield pause(0)
        opentracing.tracer.start_span("brew").finish()
        self.write("tea")


LOGGED: list[Any] = []


class Raising(RequestHandler):
    def get(self) -> None:
        raise {
            "exception": SUNK,
            "refusal": HTTPError(404, "no tea"),
            "unavailable": UNAVAILABLE,
            "end": Finish("tea"),
        }[self.get_argument("what")]

    def log_exception(self, *exc_info: Any) -> None:
        LOGGED.append(exc_info[1])


class Unprepared(RequestHandler):
    def prepare(self) -> None:
        raise SUNK

    def log_exception(self, *exc_info: Any) -> None:
        raise RuntimeError("the logger is broken too")


class Uninitialized(RequestHandler):
    def initialize(self) -> None:
        raise SUNK


class Late(RequestHandler):
    async def get(self) -> None:
        self.finish("tea")
        raise SUNK

    def log_exception(self, *exc_info: Any) -> None:
        """It is said on the span."""


@stream_request_body
class Stream(RequestHandler):
    def prepare(self) -> None:
        self.size = 0

    async def data_received(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self.size += len(chunk)
        opentracing.tracer.start_span("pour").finish()

    def post(self) -> None:
        self.write(str(self.size))


class Talk(WebSocketHandler):
    def on_message(self, message: Any) -> None:
        if message == "sink":
            raise SUNK
        get_current_span().set_tag("message", message)
        self.write_message(message)

    def log_exception(self, *exc_info: Any) -> None:
        """It is said on the span."""


HANDLERS: dict[str, type[RequestHandler]] = {
    "/tea": Tea,
    "/old": Old,
    "/raising": Raising,
    "/unprepared": Unprepared,
    "/uninitialized": Uninitialized,
    "/late": Late,
    "/stream": Stream,
    "/talk": Talk,
}


def plain() -> Application:
    return Application(
        [*HANDLERS.items(), ("/moved", RedirectHandler, {"url": "/tea"})], static_path=str(Path(__file__).parent)
    )


def traced(**settings: Any) -> Application:
    application = plain()
    application.settings.update(settings)
    trace_application(application)
    return application


def mixed() -> Application:
    return Application([(path, type(one.__name__, (TracingHandlerMixin, one), {})) for path, one in HANDLERS.items()])


def both() -> Application:
    application = mixed()
    trace_application(application)
    trace_application(application)
    return application


@pytest.fixture(params=[traced, mixed, both])
def port(request: pytest.FixtureRequest, tracer: MockTracer) -> Iterator[int]:
    with tornado_server(request.param()) as port:
        yield port


@pytest.fixture
def ended(tracer: MockTracer, spans: Spans) -> Callable[[int], list[Told]]:
    """Tells the finished spans as soon as there are so many."""

    def wait(count: int) -> list[Told]:
        wait_for_spans(tracer, count)
        return spans()

    return wait


Ended = Callable[[int], list[Told]]


# Handlers, with the application traced, with the mixin, and with both


@pytest.mark.parametrize("path", ["/tea", "/old"])
def test_a_request_is_a_span_of_the_callers_trace_and_current_in_its_handler(
    path: str, port: int, ended: Ended
) -> None:
    assert ask(port, path, **lowered(CALLER)) == (200, b"tea")
    told = ended(2)
    assert [one["operation"] for one in told] == ["brew", "GET"]
    assert told[0]["parent"] == "GET"
    assert told[1] == served(port, path, parent=CALLERS_SPAN)


@pytest.mark.parametrize("headers", GARBAGE)
def test_garbage_in_trace_headers_begins_a_new_trace(headers: dict[str, str], port: int, ended: Ended) -> None:
    assert ask(port, "/old", **lowered(headers)) == (200, b"tea")
    assert ended(2)[1] == served(port, "/old")


def test_requests_of_one_connection_are_no_relatives(port: int, ended: Ended) -> None:
    request = f"GET /late HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as client:
        for count in (1, 2):
            client.sendall(request)
            assert client.recv(65536).endswith(b"tea")
            assert ended(count) == [failed(served(port, "/late"), SUNK)] * count


def test_an_exception_is_logged_by_span_and_handler(port: int, ended: Ended) -> None:
    LOGGED.clear()
    assert ask(port, "/raising?what=exception").status == 500
    assert ended(1) == [failed(served(port, "/raising?what=exception", 500), SUNK)]
    assert LOGGED == [SUNK]


def test_refusals_are_no_errors(port: int, ended: Ended) -> None:
    assert ask(port, "/raising?what=refusal").status == 404
    assert ask(port, "/raising?what=end") == (200, b"tea")
    assert ended(2) == [served(port, "/raising?what=refusal", 404), served(port, "/raising?what=end")]


def test_raised_statuses_of_500_and_above_are_errors(port: int, ended: Ended) -> None:
    assert ask(port, "/raising?what=unavailable").status == 503
    assert ended(1) == [failed(served(port, "/raising?what=unavailable", 503), UNAVAILABLE)]


def test_a_failing_prepare_and_a_failing_log_exception(
    port: int, ended: Ended, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(port, "/unprepared").status == 500
    assert ended(1) == [failed(served(port, "/unprepared", 500), SUNK)]


@pytest.mark.parametrize("method", ["PUT", "BREW"])
def test_methods_that_are_not_allowed(method: str, port: int, ended: Ended) -> None:
    assert ask(port, "/tea", method).status == 405
    assert ended(1) == [served(port, "/tea", 405, method)]


def test_a_body_that_cannot_be_parsed(port: int, ended: Ended) -> None:
    assert ask(port, "/tea", "POST", b"-", Content_Type="multipart/form-data").status == 400
    assert ended(1) == [served(port, "/tea", 400, "POST")]


def test_a_streamed_body_is_received_below_the_span(port: int, ended: Ended) -> None:
    assert ask(port, "/stream", "POST", b"tea") == (200, b"3")
    told = ended(2)
    assert [(one["operation"], one["parent"]) for one in told] == [("pour", "POST"), ("POST", None)]
    assert told[1] == served(port, "/stream", 200, "POST")


def test_a_client_that_leaves_while_it_sends_gets_no_status(port: int, ended: Ended) -> None:
    head = f"POST /stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode())
    assert ended(1) == [served(port, "/stream", None, "POST")]


def test_a_websocket_lasts_as_long_as_its_connection(port: int, ended: Ended) -> None:
    async def talk() -> None:
        connection = await websocket_connect(f"ws://127.0.0.1:{port}/talk")
        await connection.write_message("tea")
        assert await connection.read_message() == "tea"
        assert ended(0) == []
        connection.close(4001, "enough")
        assert await connection.read_message() is None

    asyncio.run(talk())
    assert ended(1) == [served(port, "/talk", 101, message="tea", **{"websocket.close_code": 4001})]


def test_a_websocket_whose_handler_raises(port: int, ended: Ended) -> None:
    async def talk() -> None:
        connection = await websocket_connect(f"ws://127.0.0.1:{port}/talk")
        await connection.write_message("sink")
        assert await connection.read_message() is None
        connection.close()

    asyncio.run(talk())
    assert ended(1) == [failed(served(port, "/talk", 101), SUNK)]


# What only a traced application can see


def test_requests_that_reach_no_handler_of_the_users(ended: Ended) -> None:
    with tornado_server(traced()) as port:
        assert ask(port, "/nowhere").status == 404
        assert ask(port, "/moved").status == 301
        assert ask(port, "/static/__init__.py") == (200, b"")
        assert ask(port, "/static/nothing.py").status == 404
        told = ended(4)
    assert told == [
        served(port, path, status)
        for path, status in [
            ("/nowhere", 404),
            ("/moved", 301),
            ("/static/__init__.py", 200),
            ("/static/nothing.py", 404),
        ]
    ]


def test_a_rejected_xsrf_cookie(ended: Ended) -> None:
    with tornado_server(traced(xsrf_cookies=True)) as port:
        assert ask(port, "/tea", "POST", b"sort=green").status == 403
        assert ended(1) == [served(port, "/tea", 403, "POST")]


def test_a_failing_initialize(ended: Ended, caplog: pytest.LogCaptureFixture) -> None:
    """Tornado closes the connection without an answer."""
    with tornado_server(traced()) as port:
        with pytest.raises(ConnectionError):
            ask(port, "/uninitialized")
        assert ended(1) == [failed(served(port, "/uninitialized", None), SUNK)]


def test_tracing_can_be_taken_back(spans: Spans) -> None:
    application = plain()
    untrace_application(application)
    before = dict(vars(application))
    trace_application(application)
    untrace_application(application)
    untrace_application(application)
    assert vars(application) == before
    with tornado_server(application) as port:
        assert ask(port, "/late") == (200, b"tea")
    assert spans() == []


def test_a_method_of_the_applications_own_is_put_back(spans: Spans) -> None:
    application = plain()
    own = application.get_handler_delegate = application.get_handler_delegate
    trace_application(application)
    untrace_application(application)
    assert vars(application)["get_handler_delegate"] is own


def test_tracing_can_be_taken_back_below_somebody_elses_patch_and_renewed(ended: Ended) -> None:
    application = plain()
    trace_application(application)
    others = application.get_handler_delegate = partial(application.get_handler_delegate)  # type: ignore[method-assign]
    untrace_application(application)
    with tornado_server(application) as port:
        assert ask(port, "/old") == (200, b"tea")
        trace_application(application)
        assert application.get_handler_delegate is others
        assert ask(port, "/old") == (200, b"tea")
        assert ended(3)[2] == served(port, "/old")


def test_a_tracer_of_its_own(spans: Spans) -> None:
    own = MockTracer(ContextVarsScopeManager())
    application = plain()
    trace_application(application, own)
    with tornado_server(application) as port:
        assert ask(port, "/late") == (200, b"tea")
        wait_for_spans(own, 1)
    assert [one.tags["http.status_code"] for one in own.finished_spans()] == [200]
    assert spans() == []


def test_a_cancelled_handler_ends_its_span(tracer: MockTracer, spans: Spans) -> None:
    class Waiting(RequestHandler):
        async def get(self) -> None:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(10)

    application = Application([("/", Waiting)])
    trace_application(application)
    with tornado_server(application) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        wait_for_spans(tracer, 1)
        client.close()
    (told,) = spans()
    assert told["tags"]["error"] is True
    assert told["logs"][0]["error.kind"] is asyncio.CancelledError


# Transparency


@pytest.mark.parametrize("make", [traced, mixed])
def test_where_nobody_listens_nothing_is_done(make: Callable[[], Application], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentracing, "tracer", opentracing.Tracer())
    seen = []

    class Looking(Tea):
        def get(self) -> None:  # type: ignore[override]
            seen.append({"_execute", "log_exception"} & set(vars(self)))

    monkeypatch.setitem(HANDLERS, "/looking", Looking)
    with tornado_server(make()) as port:
        assert ask(port, "/looking").status == 200
    assert seen == [set()]


def test_a_handler_is_left_as_it_was(ended: Ended) -> None:
    kept = []

    class Kept(Late):
        async def get(self) -> None:
            kept.append((self, type(self)))

    application = Application([("/", Kept)])
    trace_application(application)
    with tornado_server(application) as port:
        ask(port)
        ended(1)
    ((handler, kind),) = kept
    assert kind is Kept
    assert {"_execute", "log_exception", "data_received", "_opentracing_served"} & set(vars(handler)) == set()


def test_a_handler_that_knows_no_status(lenient: None, ended: Ended, caplog: pytest.LogCaptureFixture) -> None:
    class Silent(RequestHandler):
        async def get(self) -> None:
            self.finish("tea")
            self.get_status = None  # type: ignore[assignment]

    application = Application([("/", Silent)], log_function=lambda handler: None)
    trace_application(application)
    with tornado_server(application) as port:
        assert ask(port) == (200, b"tea")
        assert ended(1) == [served(port, status=None)]
    assert "tornado.web:RequestHandler.get_status failed" in caplog.text


def test_delegates_of_other_kinds_are_left_alone(lenient: None, spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    class Own:
        """A delegate without a handler."""

        __slots__ = ()

    class OwnApplication(Application):
        def get_handler_delegate(self, *args: Any, **kwargs: Any) -> Any:
            return Own()

    application = OwnApplication()
    trace_application(application)
    assert type(application.get_handler_delegate(None, RequestHandler)) is Own
    assert "tornado.web:Application.get_handler_delegate failed" in caplog.text
    assert spans() == []


class Broken:
    """Raises wherever it is called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken")


@pytest.mark.parametrize("make", [traced, mixed])
@pytest.mark.parametrize("fault", ["start_span", "scope_manager", "extract", "activate", "set_tag", "log_kv", "finish"])
def test_failures_of_tracing_change_nothing(
    fault: str,
    make: Callable[[], Application],
    tracer: MockTracer,
    lenient: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = tracer.start_span("a span").__class__
    place: Any = {"activate": ContextVarsScopeManager, "set_tag": begun, "log_kv": begun, "finish": begun}
    monkeypatch.setattr(place.get(fault, MockTracer), fault, property(Broken) if fault == "scope_manager" else Broken)
    with tornado_server(make()) as port:
        assert ask(port, "/late", **lowered(CALLER)) == (200, b"tea")
        assert ask(port, "/raising?what=exception", **lowered(CALLER)).status == 500
    logged = [
        str(record.exc_info[1]) for record in caplog.records if record.levelno == logging.ERROR and record.exc_info
    ]
    assert set(logged) == {"broken"}


def test_a_scope_manager_of_threads_is_not_used_for_tasks(
    lenient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = MockTracer(ThreadLocalScopeManager())
    monkeypatch.setattr(opentracing, "tracer", own)
    with tornado_server(traced()) as port:
        assert ask(port, "/old", **lowered(CALLER)) == (200, b"tea")
        wait_for_spans(own, 2)
    assert {one.operation_name: one.parent_id for one in own.finished_spans()} == {"brew": None, "GET": CALLERS_SPAN}
    assert "ThreadLocalScopeManager mixes up the spans of tasks" in caplog.text


def test_a_scope_manager_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    own = MockTracer(AsyncioScopeManager())
    monkeypatch.setattr(opentracing, "tracer", own)
    with tornado_server(traced()) as port:
        assert ask(port, "/tea", **lowered(CALLER)) == (200, b"tea")
        wait_for_spans(own, 2)
    brew, get = own.finished_spans()
    assert (brew.parent_id, get.parent_id) == (get.context.span_id, CALLERS_SPAN)
