"""Server code of the users' own, written for earlier versions, runs unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import opentracing
import pytest
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers.contextvars import ContextVarsScopeManager
from tornado import gen
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from opentracing_instrumentation import http_server, span_in_context
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.http_client import AbstractRequestWrapper, before_http_request
from opentracing_instrumentation.http_server import WSGIRequestWrapper, before_request
from opentracing_instrumentation.middleware import tornado as ready_made
from opentracing_instrumentation.request_context import (
    TornadoScopeManager,
    get_current_span,
    run_coroutine_with_span,
    span_in_stack_context,
)

from .conftest import Told
from .serving import CALLER, CALLERS_SPAN, ask, lowered, served, tornado_server, wait_for_spans, wsgi_server

Spans = Callable[[], list[Told]]


@pytest.fixture(params=[ContextVarsScopeManager, TornadoScopeManager])
def tracer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MockTracer:
    """The tracer in force, with each scope manager that is fit for Tornado."""
    recording = MockTracer(request.param())
    monkeypatch.setattr(opentracing, "tracer", recording)
    return recording


def work() -> None:
    """What a hook does."""
    opentracing.tracer.start_span("work").finish()


WORK = {"operation": "work", "parent": "GET", "tags": {}}


# WSGI


class WSGIMiddleware:
    def __init__(self, app: Any, tracer: Any = None) -> None:
        self.app = app
        self.tracer = tracer
        CONFIG.app_name = "shop"
        CONFIG.caller_name_headers = ["X-Caller"]
        CONFIG.callee_name_headers = ["X-Callee"]
        CONFIG.callee_endpoint_headers = ["X-Endpoint"]

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = WSGIRequestWrapper.from_wsgi_environ(environ)
        span = before_request(request=request, tracer=self.tracer)

        def start_response_wrapper(status: str, response_headers: Any, exc_info: Any = None) -> Any:
            span.set_tag("http.status_code", int(status[:3]))
            span.finish()
            return start_response(status, response_headers, exc_info)

        with span_in_context(span):
            return self.app(environ, start_response_wrapper)


def application(environ: Any, start_response: Any) -> Any:
    work()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"tea"]


def test_a_wsgi_middleware_of_the_users(spans: Spans) -> None:
    with wsgi_server(WSGIMiddleware(application)) as port:
        assert ask(port, "/", X_Caller="till", **lowered(CALLER)) == (200, b"tea")
    assert spans() == [WORK, served(port, parent=CALLERS_SPAN, **{"peer.service": "till"})]
    assert get_current_span() is None


def test_the_settings_of_a_middleware_are_those_of_outgoing_requests(spans: Spans) -> None:
    class Request(AbstractRequestWrapper):
        method = "GET"
        full_url = "http://stock/"
        _headers = {"X-Callee": "stock", "X-Endpoint": "list"}  # noqa: RUF012

    WSGIMiddleware(application)
    before_http_request(Request(), get_current_span).finish()
    (span,) = spans()
    assert CONFIG.app_name == "shop"
    assert (span["operation"], span["tags"]["peer.service"]) == ("GET:list", "stock")


# Tornado


class TornadoMiddleware:
    """Wraps what answers a request."""

    def __init__(self) -> None:
        CONFIG.app_name = "shop"
        CONFIG.caller_name_headers = ["X-Caller"]

    def old(self, request: HTTPServerRequest, func: Any, *args: Any, **kwargs: Any) -> Any:
        @gen.coroutine
        def traced() -> Any:
            span = self.begin(request)
            try:
                with span_in_stack_context(span):
                    result = func(*args, **kwargs)
                value = yield result
            finally:
                span.finish()
            raise gen.Return(value)

        return traced()

    async def new(self, request: HTTPServerRequest, func: Any) -> Any:
        span = self.begin(request)
        with span, span_in_stack_context(span):
            return await func()

    def begin(self, request: HTTPServerRequest) -> Any:
        wrapped = http_server.TornadoRequestWrapper(request=request)
        return http_server.before_request(request=wrapped)


class Handler(RequestHandler):
    def initialize(self) -> None:
        self.middleware = TornadoMiddleware()
        self.before = get_current_span()

    def on_finish(self) -> None:
        assert get_current_span() is self.before


@gen.coroutine
def answered_by_coroutine() -> Any:
    span = get_current_span()
    work()
    yield gen.moment
    work()
    yield gen.sleep(0.001)
    assert get_current_span() is span
    raise gen.Return("tea")


async def answered_by_async_def() -> str:
    span = get_current_span()
    work()
    await gen.sleep(0.001)
    work()
    assert get_current_span() is span
    return "tea"


class Old(Handler):
    @gen.coroutine
    def get(self) -> Any:
        answer = yield self.middleware.old(self.request, answered_by_coroutine)
        self.write(answer)


class New(Handler):
    async def get(self) -> None:
        self.write(await self.middleware.new(self.request, answered_by_async_def))


class NewOverOld(Handler):
    async def get(self) -> None:
        self.write(await self.middleware.new(self.request, answered_by_coroutine))


class Given(Handler):
    """Hands the span on by run_coroutine_with_span."""

    async def get(self) -> None:
        with self.middleware.begin(self.request) as span:
            answer = await run_coroutine_with_span(span, answered_by_async_def)
        self.write(answer)


class GivenOld(Handler):
    async def get(self) -> None:
        with self.middleware.begin(self.request) as span:
            answer = await run_coroutine_with_span(span, answered_by_coroutine)
        self.write(answer)


@pytest.mark.parametrize("handler", [Old, New, NewOverOld, Given, GivenOld])
def test_a_tornado_middleware_of_the_users(handler: type[RequestHandler], tracer: MockTracer, spans: Spans) -> None:
    """The span is current in the coroutine across its yields, and the caller's is current again afterwards."""
    with tornado_server(Application([("/", handler)])) as port:
        assert ask(port, X_Caller="till", **lowered(CALLER)) == (200, b"tea")
        wait_for_spans(tracer, 3)
    span = served(port, status=None, parent=CALLERS_SPAN, **{"peer.service": "till"})
    assert spans() == [WORK, WORK, span]


def test_the_callers_span_is_current_again_after_the_block(tracer: MockTracer, spans: Spans) -> None:
    async def main() -> None:
        with tracer.start_active_span("outer") as outer:
            with tracer.start_span("inner") as inner:
                with span_in_stack_context(inner):
                    running = answered_by_coroutine()
                assert get_current_span() is outer.span
                assert await running == "tea"
            assert get_current_span() is outer.span

    from tornado.ioloop import IOLoop

    IOLoop(make_current=False).run_sync(main)
    assert [(span["operation"], span["parent"]) for span in spans()] == [
        ("work", "inner"),
        ("work", "inner"),
        ("inner", "outer"),
        ("outer", None),
    ]


def test_the_ready_made_side_of_tornado_has_the_same_function() -> None:
    assert ready_made.run_coroutine_with_span is run_coroutine_with_span
