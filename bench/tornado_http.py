"""Tornado's HTTP clients: a fetch through the simple client, down to a connection that has its answer at once."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

from .cases import URL, Hook


class Tornado(Hook):
    """``fetch``, awaited."""

    name, ratio, idle = "tornado client", 0.35, 2
    hook, instrumentor = "tornado_http", "tornado:TornadoInstrumentor"

    def __init__(self, stack: ExitStack) -> None:
        from tornado.httpclient import HTTPResponse
        from tornado.httputil import HTTPHeaders
        from tornado.simple_httpclient import SimpleAsyncHTTPClient

        headers = HTTPHeaders({"Content-Length": "0"})

        class Connection:
            def __init__(self, client: Any, request: Any, release: Any, answer: Any, *_: Any) -> None:
                release()
                answer(HTTPResponse(request, 200, headers, request_time=0.001))

        class Client(SimpleAsyncHTTPClient):  # type: ignore[misc]
            def _connection_class(self) -> type:
                return Connection

        async def client() -> Any:
            return Client(force_instance=True)

        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        fetcher = loop.run_until_complete(client())
        stack.callback(fetcher.close)

        async def fetch() -> Any:
            return await fetcher.fetch(URL)

        self.call = lambda: loop.run_until_complete(fetch())
