"""What the tests of servers share: servers in threads, a client that says exactly what it sends, expected spans."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from opentracing.mocktracer import MockTracer

from .conftest import Told

#: Headers by which a caller of another process hands on its trace, and the number of its span.
CALLER = {"ot-tracer-traceid": "1f", "ot-tracer-spanid": "2e"}
CALLERS_SPAN = 0x2E
#: Headers of which no trace can be read.
GARBAGE = (
    {"ot-tracer-traceid": "not a number", "ot-tracer-spanid": "2e"},
    {"ot-tracer-traceid": "1f"},
    {"ot-tracer-traceid": "", "ot-tracer-spanid": "\xff\xfe"},
)


class Answer(NamedTuple):
    status: int
    body: bytes


def ask(port: int, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """Send a request to a server of this machine; underscores in headers' names stand for dashes."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Connection": "close", **named})
        response = connection.getresponse()
        return Answer(response.status, response.read())


def served(
    port: int, path: str = "/", status: int | None = 200, method: str = "GET", parent: Any = None, **tags: Any
) -> Told:
    """The span of a request that :func:`ask` sent."""
    told = {
        "span.kind": "server",
        "http.method": method,
        "http.url": f"http://127.0.0.1:{port}{path}",
        "peer.ipv4": "127.0.0.1",
        **tags,
    }
    tags = told if status is None else {**told, "http.status_code": status}
    return {"operation": method, "parent": parent, "tags": tags}


def failed(span: Told, error: BaseException) -> Told:
    """The same span, of a request whose application raised."""
    log = {"event": "error", "message": str(error), "error.object": error, "error.kind": type(error)}
    return {**span, "tags": {**span["tags"], "error": True}, "logs": [log]}


def wait_for_spans(tracer: MockTracer, count: int) -> None:
    """Wait until as many spans have ended: a client may have its answer before."""
    deadline = time.monotonic() + 10
    while len(tracer.finished_spans()) < count:
        assert time.monotonic() < deadline, f"{len(tracer.finished_spans())} of {count} spans have ended"
        time.sleep(0.002)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


@contextmanager
def wsgi_server(application: Callable[..., Any]) -> Iterator[int]:
    """Serve a WSGI application; gives the port. All requests are over when the block ends."""
    with make_server("127.0.0.1", 0, application, _ThreadingServer, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def loop_in_thread(serving: Callable[[], AbstractAsyncContextManager[int]]) -> Iterator[int]:
    """Run an asynchronous server, which gives its port, by an event loop in a thread of its own."""
    ports: list[int] = []
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving() as port:
            ports.append(port)
            ready.set()
            while not over.is_set():
                await asyncio.sleep(0.005)

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        ready.wait(10)
        yield ports[0]
    finally:
        over.set()
        thread.join()


@contextmanager
def tornado_server(application: Any) -> Iterator[int]:
    """Serve a Tornado application."""
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    @asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        sockets = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(application)
        server.add_sockets(sockets)
        yield sockets[0].getsockname()[1]
        server.stop()
        await server.close_all_connections()

    with loop_in_thread(serving) as port:
        yield port


@contextmanager
def uvicorn_server(application: Callable[..., Any], **options: Any) -> Iterator[int]:
    """Serve an ASGI application."""
    import uvicorn

    @asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="critical", **options))
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True
        await task

    with loop_in_thread(serving) as port:
        yield port


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers for :func:`ask`, whose keywords can't have dashes."""
    return {name.replace("-", "_"): value for name, value in headers.items()}
