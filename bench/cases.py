"""What is measured. A further hook is one more subclass of :class:`Hook`: its names, its budgets and a call.

It is listed in :mod:`bench.suite`; the library that it measures is imported when the case is made.
"""

from __future__ import annotations

import importlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ClassVar

from opentelemetry import context, trace
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider

from opentracing_instrumentation import span_in_context, traced_function
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.http_server import WSGIRequestWrapper, before_request

from .measure import Call
from .tracers import METERS

# Similar statements below one span are counted, as ever, but never so many that they are told of: that is done once for
# a span, and not what a call costs.
CONFIG.n_plus_one_threshold = 1_000_000

URL = "http://inventory.example:8080/articles/42?fields=name,stock"


class Case(ABC):
    """One thing that is measured, without tracing, with ours, and with theirs.

    Attributes:
        name: for the table and for ``--only``.
        ratio: budget: what ours may add to a call, as a share of what theirs adds.
        idle: budget: what ours may add to a call while no tracer is set, in microseconds; see `YARDSTICK`.
        has_parent: whether the call is made under an active span, as client calls are; servers get it in headers.
    """

    name: ClassVar[str]
    ratio: ClassVar[float]
    idle: ClassVar[float]
    has_parent: ClassVar[bool] = True

    def __init__(self, stack: ExitStack) -> None:  # noqa: B027 - some have nothing to prepare
        """Prepare; what has to be closed when the case is over goes on the stack."""

    @abstractmethod
    def bare(self) -> AbstractContextManager[Call]:
        """Give the call without any tracing."""

    @abstractmethod
    def ours(self) -> AbstractContextManager[Call]:
        """Give the call, traced by us through the tracer that is set, during the block."""

    @abstractmethod
    def theirs(self, provider: TracerProvider) -> AbstractContextManager[Call]:
        """Give the call, traced by OpenTelemetry during the block."""


class Hook(Case):
    """A library that either side patches; the call is the same in all variants.

    Attributes:
        hook: the module of ``opentracing_instrumentation.client_hooks``.
        instrumentor: theirs, as ``"module:class"`` below ``opentelemetry.instrumentation``.
        call: what is timed; made by ``__init__``.
    """

    hook: ClassVar[str]
    instrumentor: ClassVar[str]
    call: Call

    def bare(self) -> AbstractContextManager[Call]:
        return nullcontext(self.call)

    @contextmanager
    def ours(self) -> Iterator[Call]:
        hook = importlib.import_module(f"opentracing_instrumentation.client_hooks.{self.hook}")
        hook.install_patches()
        try:
            yield self.call
        finally:
            hook.reset_patches()

    @contextmanager
    def theirs(self, provider: TracerProvider) -> Iterator[Call]:
        module, _, name = self.instrumentor.partition(":")
        instrumentor = getattr(importlib.import_module(f"opentelemetry.instrumentation.{module}"), name)()
        instrumentor.instrument(
            tracer_provider=provider, meter_provider=METERS, skip_dep_check=True, **self.instrumentor_options()
        )
        try:
            yield self.call
        finally:
            instrumentor.uninstrument()

    def instrumentor_options(self) -> dict[str, Any]:
        """Return what their instrumentor has to be told besides."""
        return {}


class Requests(Hook):
    """A prepared request through a session and an adapter, down to urllib3, whose answer is canned."""

    name, ratio, idle = "requests", 0.28, 2
    hook, instrumentor = "requests", "requests:RequestsInstrumentor"

    def __init__(self, stack: ExitStack) -> None:
        import requests
        from urllib3 import HTTPResponse

        class Pool:
            def urlopen(self, **_: Any) -> HTTPResponse:
                return HTTPResponse(io.BytesIO(), {"Content-Length": "0"}, 200, preload_content=False)

        class Adapter(requests.adapters.HTTPAdapter):
            def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
                return pool

        pool = Pool()
        session = stack.enter_context(requests.Session())
        self.adapter = Adapter()
        session.mount("http://", self.adapter)
        self.request = session.prepare_request(requests.Request("GET", URL))
        self.call = lambda: session.send(self.request)  # not the bound method: theirs replaces it


class Urllib(Hook):
    """``OpenerDirector.open`` down to a connection that sends nothing and lets ``http.client`` read a canned answer."""

    name, ratio, idle = "urllib", 0.28, 2
    hook, instrumentor = "urllib2", "urllib:URLLibInstrumentor"

    def __init__(self, stack: ExitStack) -> None:
        import http.client
        import urllib.request

        class Socket:
            def makefile(self, _: str) -> io.BytesIO:
                return io.BytesIO(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        class Connection:
            sock = None

            def __init__(self, host: str, **_: Any) -> None:
                pass

            def set_debuglevel(self, level: int) -> None:
                pass

            def request(self, *_: Any, **__: Any) -> None:
                pass

            def getresponse(self) -> http.client.HTTPResponse:
                response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]
                response.begin()
                return response

        class Handler(urllib.request.HTTPHandler):
            def do_open(self, http_class: Any, req: Any, **http_conn_args: Any) -> Any:
                return super().do_open(Connection, req, **http_conn_args)  # type: ignore[arg-type]

        opener = urllib.request.build_opener(Handler)
        self.call = lambda: opener.open(urllib.request.Request(URL))


class TracedFunction(Case):
    """A function that does nothing, in a span that is current meanwhile."""

    name, ratio, idle = "traced_function", 0.25, 1

    def __init__(self, stack: ExitStack) -> None:
        def work() -> None:
            pass

        self._work = work
        self._traced = traced_function(work)

    def bare(self) -> AbstractContextManager[Call]:
        return nullcontext(self._work)

    def ours(self) -> AbstractContextManager[Call]:
        return nullcontext(self._traced)

    def theirs(self, provider: TracerProvider) -> AbstractContextManager[Call]:
        tracer = provider.get_tracer(__name__)
        return nullcontext(tracer.start_as_current_span("work")(self._work))


#: The caller's context in a request's headers, by basictracer's propagator and by OpenTelemetry's.
CALLER = {
    "HTTP_OT_TRACER_TRACEID": "5b8aa5a2d2c872e8",
    "HTTP_OT_TRACER_SPANID": "051581bf3cb55c13",
    "HTTP_OT_TRACER_SAMPLED": "true",
    "HTTP_TRACEPARENT": "00-5b8aa5a2d2c872e8321cf37308d69df2-051581bf3cb55c13-01",
}


def environ() -> dict[str, Any]:
    """Return what a WSGI server hands on of a browser's request that came through a proxy with trace headers."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/articles/42",
        "QUERY_STRING": "fields=name,stock",
        "SERVER_NAME": "0.0.0.0",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.17",
        "REMOTE_PORT": "50432",
        "HTTP_HOST": "inventory.example:8080",
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "HTTP_ACCEPT_LANGUAGE": "en-US,en;q=0.5",
        "HTTP_ACCEPT_ENCODING": "gzip, deflate",
        "HTTP_CONNECTION": "keep-alive",
        **CALLER,
    }


class BeforeRequest(Case):
    """The span of an incoming request, begun, made current and ended: what any server integration has to do."""

    name, ratio, idle, has_parent = "before_request", 0.2, 1, False

    def bare(self) -> AbstractContextManager[Call]:
        return nullcontext(lambda: None)

    def ours(self) -> AbstractContextManager[Call]:
        request = environ()

        def serve() -> None:
            span = before_request(WSGIRequestWrapper.from_wsgi_environ(request))
            with span_in_context(span):
                pass
            span.finish()

        return nullcontext(serve)

    def theirs(self, provider: TracerProvider) -> AbstractContextManager[Call]:
        from opentelemetry.instrumentation.wsgi import collect_request_attributes, get_default_span_name, wsgi_getter

        request, tracer = environ(), provider.get_tracer(__name__)

        def serve() -> None:
            attributes = collect_request_attributes(request)
            callers = extract(request, getter=wsgi_getter)
            token = context.attach(callers)
            name = get_default_span_name(request)
            span = tracer.start_span(name, callers, trace.SpanKind.SERVER, attributes=attributes)
            with trace.use_span(span):
                pass
            span.end()
            context.detach(token)

        return nullcontext(serve)


class WSGI(Case):
    """The middleware round an application that answers at once."""

    name, ratio, idle, has_parent = "wsgi", 0.2, 1, False

    def bare(self) -> AbstractContextManager[Call]:
        return nullcontext(_serving(_application))

    def ours(self) -> AbstractContextManager[Call]:
        from opentracing_instrumentation.middleware.wsgi import TracingMiddleware

        return nullcontext(_serving(TracingMiddleware(_application)))

    def theirs(self, provider: TracerProvider) -> AbstractContextManager[Call]:
        from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

        middleware = OpenTelemetryMiddleware(_application, None, None, provider, METERS)
        return nullcontext(_serving(middleware))


def _serving(application: Callable[..., Any]) -> Call:
    """Return what a WSGI server does for a request (PEP 3333)."""
    request = environ()

    def serve() -> None:
        body = application(request.copy(), _start_response)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()

    return serve


def _application(_: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


def _start_response(*_: Any) -> Callable[[bytes], None]:
    return lambda _: None
