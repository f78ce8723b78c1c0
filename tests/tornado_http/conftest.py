"""What the tests of the hook of Tornado's HTTP clients share: both clients, each in an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.curl_httpclient import CurlAsyncHTTPClient
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from opentracing_instrumentation.client_hooks import tornado_http
from tests.opentracing_instrumentation.conftest import _server, server, spans  # noqa: F401 - the fixtures
from tests.opentracing_instrumentation.loopback import Loopback

Work = Callable[[Any], Awaitable[Any]]


@pytest.fixture(autouse=True)
def _installed() -> None:
    tornado_http.install_patches()


def _is_busy(client: Any) -> bool:
    if isinstance(client, CurlAsyncHTTPClient):
        return len(client._free_list) < len(client._curls)
    return bool(client.active)


class Kind:
    """A class of clients, and how a test runs one."""

    def __init__(self, client: type, server: Loopback) -> None:  # noqa: F811
        self.client = client
        self._server = server

    def run(self, work: Work, **options: Any) -> Any:
        """Return what ``work(client)`` gives in the end. It runs in a task that has the present context."""

        async def with_client() -> Any:
            client = self.client(force_instance=True, **options)
            try:
                return await work(client)
            finally:
                self._server.over.set()
                while _is_busy(client):  # Tornado would leave its sockets open
                    await asyncio.sleep(0.002)
                client.close()

        return asyncio.run(with_client())

    def fetch(self, request: Any, **options: Any) -> Any:
        """Return the response to one request."""

        async def work(client: Any) -> Any:
            return await client.fetch(request, **options)

        return self.run(work)


@pytest.fixture(params=[SimpleAsyncHTTPClient, CurlAsyncHTTPClient], ids=["simple", "curl"])
def kind(request: pytest.FixtureRequest, server: Loopback) -> Kind:  # noqa: F811
    """Either client."""
    return Kind(request.param, server)


@pytest.fixture
def simple(server: Loopback) -> Kind:  # noqa: F811
    """The client without libcurl."""
    return Kind(SimpleAsyncHTTPClient, server)


@pytest.fixture
def curl(server: Loopback) -> Kind:  # noqa: F811
    """The client on libcurl."""
    return Kind(CurlAsyncHTTPClient, server)
