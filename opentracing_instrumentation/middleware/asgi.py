"""An ASGI middleware (ASGI 3) that traces the requests and websockets of an application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from opentracing import Tracer

from .._core.calls import idle
from ..http_server import AbstractRequestWrapper
from ._served import ServedRequest

__all__ = ["ASGIRequestWrapper", "TracingMiddleware"]

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class TracingMiddleware:
    """An ASGI application round another one: a span for each request and each websocket, current in its task.

    The span ends when the application's coroutine ends; a websocket's thus lasts from the handshake to the end of the
    connection. It holds the status code: for a websocket 101 if accepted, 403 if closed before, and the close code as
    ``websocket.close_code``. Exceptions and cancellation are logged on the span and raised on. The scopes of other
    protocols ("lifespan") go to the application as they are.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], tracer: Tracer | None = None) -> None:
        """Wrap an application.

        Args:
            app: the application, callable with ``scope``, ``receive`` and ``send``.
            tracer: begins the spans and makes them current; ``None`` for ``opentracing.tracer``, as it is by then.
                Its scope manager must keep its state in tasks or context variables, else spans do not become current.
        """
        self.app = app
        self.tracer = tracer

    async def __call__(self, scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Serve a request or a websocket."""
        tracer, kind = self.tracer, _KINDS.get(scope["type"])
        if kind is None or (tracer is None and idle()):
            return await self.app(scope, receive, send)
        exchange = kind(receive, send)
        if not exchange.begin(ASGIRequestWrapper, scope, tracer):
            return await self.app(scope, receive, send)
        active = exchange.enter_task()
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            exchange.leave(active)
            exchange.finish()


class _Exchange(ServedRequest):
    """A request and what is sent in answer."""

    def __init__(self, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        self._receive = receive
        self._send = send

    @property
    def receive(self) -> Callable[..., Any]:
        """What the application receives by."""
        return self._receive

    def send(self, message: Any) -> Any:
        """Note what is sent; return what the server's ``send`` returns, to be awaited."""
        try:
            self._note(message)
        except (AttributeError, KeyError, TypeError):  # no ASGI message: the server has a word with the application
            pass
        return self._send(message)

    def _note(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]


class _WebSocket(_Exchange):
    """A websocket, with both sides' messages."""

    @property
    def receive(self) -> Callable[..., Any]:
        return self._receive_and_note

    def _note(self, message: Any) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        elif kind == "websocket.close":
            if self.status is None:
                self.status = 403
            self.close_code = message.get("code") or 1000

    async def _receive_and_note(self) -> Any:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.close_code = message.get("code") or 1005
        return message


_KINDS: Mapping[str, type[_Exchange]] = {"http": _Exchange, "websocket": _WebSocket}


class ASGIRequestWrapper(AbstractRequestWrapper):
    """An ASGI connection scope of type ``http`` or ``websocket``, for ``before_request``."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.scope = scope
        self._headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self._headers[key] = f"{self._headers[key]},{text}" if key in self._headers else text

    @property
    def full_url(self) -> str:
        """The URL as the client sent it, as far as the server tells, without a default port."""
        scope = self.scope
        scheme = scope.get("scheme") or ("ws" if scope["type"] == "websocket" else "http")
        url = f"{scheme}://{self._headers.get('host') or self._server(scheme)}{self._path()}"
        query = scope.get("query_string")
        return f"{url}?{query.decode('latin-1')}" if query else url

    def _server(self, scheme: str) -> str:
        host, port = self.scope.get("server") or ("", None)
        if ":" in host:
            host = f"[{host}]"
        return host if port is None or port == _DEFAULT_PORTS.get(scheme) else f"{host}:{port}"

    def _path(self) -> str:
        """The path with the root path in front: there already by ASGI's word, but not with all servers."""
        raw = self.scope.get("raw_path")
        path = raw.decode("latin-1") if raw else quote(self.scope["path"])
        root = quote(self.scope.get("root_path") or "").rstrip("/")
        return path if path == root or path.startswith(root + "/") else root + path

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    @property
    def method(self) -> str:
        """The HTTP method; a websocket's handshake is a GET."""
        return self.scope.get("method") or "GET"

    @property
    def remote_ip(self) -> str | None:
        client = self.scope.get("client")
        return client[0] if client else None

    @property
    def remote_port(self) -> str | int | None:
        client = self.scope.get("client")
        return client[1] if client else None

    @property
    def server_port(self) -> str | int | None:
        server = self.scope.get("server")
        return server[1] if server else None
