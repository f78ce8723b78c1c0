"""The WSGI middleware: one span for each request, and nothing that the application or the server could notice."""

from __future__ import annotations

import io
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import opentracing
import pytest
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers import ThreadLocalScopeManager
from opentracing.scope_managers.contextvars import ContextVarsScopeManager
from opentracing.scope_managers.gevent import GeventScopeManager

from opentracing_instrumentation import get_current_span
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.middleware.wsgi import TracingMiddleware

from .conftest import Told
from .serving import CALLER, CALLERS_SPAN, GARBAGE, ask, failed, lowered, served, wait_for_spans, wsgi_server

Spans = Callable[[], list[Told]]
HEADERS = (("Content-Type", "text/plain"),)


class Sunk(Exception):
    """What the applications of these tests raise."""


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [*HEADERS])
    return [b"tea"]


def environment(**variables: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {**variables}
    setup_testing_defaults(environ)
    return environ


def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
    """A server's start_response."""
    return io.BytesIO().write


def span(status: int | None = 200, **tags: Any) -> Told:
    """The span of a request with :func:`environment`."""
    told = {"span.kind": "server", "http.method": "GET", "http.url": "http://127.0.0.1/", **tags}
    return {
        "operation": "GET",
        "parent": None,
        "tags": told if status is None else {**told, "http.status_code": status},
    }


# What a request becomes


def test_a_request_is_a_span_of_the_callers_trace(spans: Spans) -> None:
    with wsgi_server(TracingMiddleware(plain)) as port:
        assert ask(port, "/a%20b?c=d", **lowered(CALLER)) == (200, b"tea")
    assert spans() == [served(port, "/a%20b?c=d", parent=CALLERS_SPAN)]


@pytest.mark.parametrize("headers", GARBAGE)
def test_garbage_in_trace_headers_begins_a_new_trace(headers: dict[str, str], spans: Spans) -> None:
    with wsgi_server(TracingMiddleware(plain)) as port:
        assert ask(port, **lowered(headers)) == (200, b"tea")
    assert spans() == [served(port)]


def test_the_caller_is_named_by_the_configured_header(spans: Spans) -> None:
    CONFIG.caller_name_headers = ["X-Caller"]
    with wsgi_server(TracingMiddleware(plain)) as port:
        ask(port, X_Caller="till")
    assert spans() == [served(port, **{"peer.service": "till"})]


def test_simultaneous_requests_have_their_own_current_spans(spans: Spans) -> None:
    together = threading.Barrier(4)

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        together.wait(10)
        get_current_span().set_tag("seen", environ["PATH_INFO"])
        start_response("200 OK", [*HEADERS])
        together.wait(10)
        yield environ["PATH_INFO"].encode()
        together.wait(10)
        get_current_span().set_tag("seen again", environ["PATH_INFO"])

    with wsgi_server(TracingMiddleware(application)) as port:
        clients = [threading.Thread(target=ask, args=(port, f"/{number}")) for number in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    told = sorted(spans(), key=lambda one: str(one["tags"]["seen"]))
    assert told == [served(port, f"/{n}", **{"seen": f"/{n}", "seen again": f"/{n}"}) for n in range(4)]


def test_the_middleware_keeps_to_the_specification(spans: Spans) -> None:
    """By the validator of the standard library, from both sides."""

    def generated(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", [*HEADERS])
        write(b"written, ")
        yield b"yielded"

    application = validator(TracingMiddleware(validator(generated)))
    with wsgi_server(application) as port:
        assert ask(port) == (200, b"written, yielded")
    assert spans() == [served(port)]


# Bodies


@pytest.mark.parametrize("body", [[b"tea"], (b"tea",), []], ids=str)
def test_a_list_or_tuple_reaches_the_server_as_it_is(body: Any, spans: Spans) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS])
        return body

    assert TracingMiddleware(application)(environment(), start) is body
    assert spans() == [span()]


def make_file(file: Any, size: int = 8192) -> Any:
    return file


@pytest.mark.parametrize("file_wrapper", [FileWrapper, make_file])
def test_a_file_for_the_server_reaches_it_as_it_is(file_wrapper: Any, spans: Spans) -> None:
    made = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS])
        made.append(environ["wsgi.file_wrapper"](io.BytesIO(b"tea"), 10))
        return made[0]

    body = TracingMiddleware(application)(environment(**{"wsgi.file_wrapper": file_wrapper}), start)
    assert body is made[0]
    assert spans() == [span()]


def test_a_body_of_another_kind_is_no_file_of_the_server(spans: Spans) -> None:
    file = io.BytesIO(b"tea")

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS])
        environ["wsgi.file_wrapper"](io.BytesIO(b"coffee"))
        return file

    body: Any = TracingMiddleware(application)(environment(**{"wsgi.file_wrapper": make_file}), start)
    assert spans() == []
    assert list(body) == [b"tea"]
    body.close()
    assert file.closed
    assert spans() == [span()]


def test_a_list_that_can_be_closed_is_closed(spans: Spans) -> None:
    class Body(list[bytes]):
        closed = 0

        def close(self) -> None:
            get_current_span().set_tag("closed", True)
            self.closed += 1

    own = Body([b"tea"])

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS])
        return own

    body: Any = TracingMiddleware(application)(environment(), start)
    assert next(body) == b"tea"
    body.close()
    assert own.closed == 1
    assert spans() == [span(closed=True)]


@pytest.mark.parametrize("manager", [ContextVarsScopeManager, ThreadLocalScopeManager, GeventScopeManager])
def test_the_span_is_current_in_each_step_of_a_body_and_never_between(manager: Any) -> None:
    tracer = MockTracer(manager())
    seen: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        try:
            seen.append(tracer.active_span)
            start_response("200 OK", [*HEADERS])
            yield b"a"
            seen.append(tracer.active_span)
            yield b"b"
        finally:
            seen.append(tracer.active_span)

    with tracer.start_active_span("server") as outer:
        body: Any = TracingMiddleware(application, tracer)(environment(), start)
        assert tracer.active_span is outer.span
        assert next(body) == b"a"
        assert tracer.active_span is outer.span
        assert next(body) == b"b"
        assert tracer.active_span is outer.span
        body.close()
        assert tracer.active_span is outer.span
    ended = tracer.finished_spans()
    assert [one.operation_name for one in ended] == ["GET", "server"]
    assert seen == [ended[0]] * 3


def generated(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [*HEADERS])
    yield b"a"
    yield b"b"


def test_the_span_of_a_body_ends_when_it_is_exhausted_or_closed(spans: Spans) -> None:
    body: Any = TracingMiddleware(generated)(environment(), start)
    assert list(body) == [b"a", b"b"]
    assert spans() == [span()]
    body.close()
    body.close()
    assert spans() == [span()]

    closed: Any = TracingMiddleware(generated)(environment(), start)
    closed.close()
    assert spans() == [span(), span(None)]


def test_a_client_that_goes_away_ends_the_span(tracer: MockTracer, spans: Spans) -> None:
    gone = threading.Event()

    def endless(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [*HEADERS])
        yield b"tea"
        gone.wait(10)
        while True:
            yield b"tea" * 100_000

    with wsgi_server(TracingMiddleware(endless)) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET / HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            client.recv(1)
        gone.set()
        wait_for_spans(tracer, 1)
    assert spans() == [served(port)]


# Errors


def test_an_exception_is_logged_once_and_raised_on(spans: Spans) -> None:
    error = Sunk("the teapot")

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        raise error

    with pytest.raises(Sunk) as raised:
        TracingMiddleware(application)(environment(), start)
    assert raised.value is error
    assert spans() == [failed(span(None), error)]


def test_an_exception_of_a_body_is_logged_and_raised_on(spans: Spans) -> None:
    error = Sunk("the teapot")

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [*HEADERS])
        yield b"a"
        raise error

    body: Any = TracingMiddleware(application)(environment(), start)
    assert next(body) == b"a"
    with pytest.raises(Sunk) as raised:
        next(body)
    body.close()
    assert raised.value is error
    assert spans() == [failed(span(), error)]


def test_an_exception_on_closing_is_logged_and_raised_on(spans: Spans) -> None:
    error = Sunk("the teapot")

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a"])

        def close(self) -> None:
            raise error

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS])
        return Body()

    body: Any = TracingMiddleware(application)(environment(), start)
    with pytest.raises(Sunk):
        body.close()
    assert spans() == [failed(span(), error)]


def test_what_is_no_body_fails_where_the_server_looks_at_it(spans: Spans) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS])

    body = TracingMiddleware(application)(environment(), start)
    with pytest.raises(TypeError) as raised:
        list(body)
    assert str(raised.value) == "'NoneType' object is not iterable"
    assert spans() == [failed(span(), raised.value)]


@pytest.mark.parametrize(("status", "error"), [(499, False), (500, True), (503, True)])
def test_a_status_of_500_and_above_is_an_error(status: int, error: bool, spans: Spans) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(f"{status} Whatever", [*HEADERS])
        return []

    with wsgi_server(TracingMiddleware(application)) as port:
        assert ask(port).status == status
    assert spans() == [served(port, status=status, **({"error": True} if error else {}))]


def test_the_response_of_an_application_that_thinks_again(spans: Spans) -> None:
    """start_response may be called again with the error that changed the application's mind."""
    error = Sunk("the teapot")

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS])
        try:
            raise error
        except Sunk:
            start_response("500 Sunk", [*HEADERS], sys.exc_info())
        return [b"sorry"]

    with wsgi_server(TracingMiddleware(application)) as port:
        assert ask(port) == (500, b"sorry")
    assert spans() == [failed(served(port, status=500), error)]


def test_a_response_that_comes_too_late_is_not_the_response(spans: Spans) -> None:
    """The server raises the error again when headers have been sent; the status is the one that was sent."""
    error = Sunk("the teapot")

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS])(b"tea")
        try:
            raise error
        except Sunk:
            start_response("500 Sunk", [*HEADERS], sys.exc_info())
        return []

    def too_late(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info:
            raise exc_info[1]
        return io.BytesIO().write

    with pytest.raises(Sunk) as raised:
        TracingMiddleware(application)(environment(), too_late)
    assert raised.value is error
    assert spans() == [failed(span(), error)]


@pytest.mark.parametrize("status", ["", "OK", None])
def test_an_odd_status_line_is_the_servers_business(status: Any, spans: Spans) -> None:
    received = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, [*HEADERS])
        return []

    TracingMiddleware(application)(environment(), lambda *args: received.append(args))
    assert received == [(status, [*HEADERS])]
    assert spans() == [span(None)]


# Tracers


def test_a_tracer_of_its_own(spans: Spans) -> None:
    """It begins the spans and holds the current one; the global tracer has no part in it."""
    own = MockTracer(ThreadLocalScopeManager())
    seen = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        seen.append(own.active_span)
        start_response("200 OK", [*HEADERS])
        return []

    TracingMiddleware(application, own)(environment(), start)
    assert own.finished_spans() == seen
    assert spans() == []


def test_where_nobody_listens_the_application_is_just_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentracing, "tracer", opentracing.Tracer())
    body = generated({}, start)
    received: list[Any] = []

    def application(*args: Any) -> Any:
        received.extend(args)
        return body

    environ = environment()
    assert TracingMiddleware(application)(environ, start) is body
    assert received[0] is environ
    assert received[1] is start


class Broken:
    """Raises wherever it is called or looked at."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken")


FAULTS = ["start_span", "scope_manager", "extract", "activate", "set_tag", "log_kv", "finish"]


@pytest.mark.parametrize("fault", FAULTS)
def test_failures_of_tracing_change_nothing(
    fault: str, lenient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged, and the request goes on."""
    tracer = MockTracer(ContextVarsScopeManager())
    begun = tracer.start_span("a span").__class__
    place: Any = {"activate": ContextVarsScopeManager, "set_tag": begun, "log_kv": begun, "finish": begun}
    broken: Any = property(Broken) if fault == "scope_manager" else Broken
    monkeypatch.setattr(place.get(fault, MockTracer), fault, broken)
    error = Sunk("the teapot")

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("500 Sunk", [*HEADERS])
        yield b"tea"
        raise error

    headers = {"HTTP_OT_TRACER_TRACEID": "1f", "HTTP_OT_TRACER_SPANID": "2e"}
    body: Any = TracingMiddleware(application, tracer)(environment(**headers), start)
    assert next(body) == b"tea"
    with pytest.raises(Sunk) as raised:
        next(body)
    body.close()
    assert raised.value is error
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [str(record.exc_info[1]) for record in logged if record.exc_info] == ["broken"] * len(logged) != []
