"""A WSGI middleware (PEP 3333) that traces the requests of an application."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentracing import Tracer

from .._core.calls import idle
from ..http_server import WSGIRequestWrapper
from ._served import ServedRequest

__all__ = ["TracingMiddleware"]

_FILE_WRAPPER = "wsgi.file_wrapper"


class TracingMiddleware:
    """A WSGI application round another one: a span for each request, current wherever the inner one is at work.

    The span ends when the response's body is exhausted or closed; at once if the body is a list, a tuple or made by
    ``wsgi.file_wrapper``, which goes to the server as it is. It holds the status code; one of 500 and above is an
    error, and so is an exception, which is logged on the span and raised on.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], tracer: Tracer | None = None) -> None:
        """Wrap an application.

        Args:
            app: the application.
            tracer: begins the spans and makes them current; ``None`` for ``opentracing.tracer``, as it is by then.
        """
        self.app = app
        self.tracer = tracer

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve a request. Thread-safe if the application is."""
        tracer = self.tracer
        if tracer is None and idle():
            return self.app(environ, start_response)
        exchange = _Exchange(start_response)
        if not exchange.begin(WSGIRequestWrapper.from_wsgi_environ, environ, tracer):
            return self.app(environ, start_response)
        return exchange.run(self.app, environ)


class _Exchange(ServedRequest):
    """A request and its response."""

    _make_file: Any = None
    _file: Any = None

    def __init__(self, start_response: Callable[..., Any]) -> None:
        self._start_response = start_response

    def run(self, app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> Iterable[bytes]:
        """Call the application."""
        make_file = self._make_file = environ.get(_FILE_WRAPPER)
        if make_file is not None and not isinstance(make_file, type):
            environ[_FILE_WRAPPER] = self.make_file
        scope = self.enter()
        try:
            body = app(environ, self.start_response)
        except BaseException as error:
            self.leave(scope)
            self.fail(error)
            self.finish()
            raise
        self.leave(scope)
        if self._is_done(body):
            self.finish()
            return body
        return _Body(self, body)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Note the status code that the server accepts, and the error that the application answers with it."""
        if exc_info is None:
            write = self._start_response(status, headers)
        else:
            self.fail(exc_info[1])
            write = self._start_response(status, headers, exc_info)
        try:
            self.status = int(status[:3])
        except (TypeError, ValueError):  # no status line at all: the server has a word with the application
            self.status = None
        return write

    def make_file(self, *args: Any) -> Any:
        """Call the server's file wrapper; one that is a function can't be known by the type of what it makes."""
        self._file = self._make_file(*args)
        return self._file

    def _is_done(self, body: object) -> bool:
        """Tell whether all work of the application is done: the server may look at the body's type and length."""
        if isinstance(body, (list, tuple)):
            return not hasattr(body, "close")
        make_file = self._make_file
        if isinstance(make_file, type):
            return isinstance(body, make_file)
        return body is not None and body is self._file


class _Body:
    """The body of a response, whose steps run with the request's span current."""

    __slots__ = ("_body", "_exchange", "_next")

    def __init__(self, exchange: _Exchange, body: Iterable[bytes]) -> None:
        self._exchange = exchange
        self._body = body
        self._next: Callable[[], bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        scope = exchange.enter()
        try:
            if self._next is None:
                self._next = iter(self._body).__next__
            chunk = self._next()
        except BaseException as error:
            exchange.leave(scope)
            if not isinstance(error, StopIteration):
                exchange.fail(error)
            exchange.finish()
            raise
        exchange.leave(scope)
        return chunk

    def close(self) -> None:
        """Close the application's body, if it can be closed; called by every server in the end."""
        exchange = self._exchange
        scope = exchange.enter()
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            exchange.leave(scope)
            exchange.finish()
