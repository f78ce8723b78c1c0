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

Work = Callable[[Any], Awaitable[Any]]


@pytest.fixture(autouse=True)
def _installed() -> None:
    tornado_http.install_patches()


class Kind:
    """A class of clients, and how a test runs one."""

    def __init__(self, client: type) -> None:
        self.client = client
        self.is_curl = issubclass(client, CurlAsyncHTTPClient)

    def run(self, work: Work, **options: Any) -> Any:
        """Return what ``work(client)`` gives in the end. It runs in a task that has the present context."""

        async def with_client() -> Any:
            client = self.client(force_instance=True, **options)
            try:
                return await work(client)
            finally:
                client.close()

        return asyncio.run(with_client())

    def fetch(self, request: Any, **options: Any) -> Any:
        """Return the response to one request."""

        async def work(client: Any) -> Any:
            return await client.fetch(request, **options)

        return self.run(work)


@pytest.fixture(params=[SimpleAsyncHTTPClient, CurlAsyncHTTPClient], ids=["simple", "curl"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Either client."""
    return Kind(request.param)


@pytest.fixture
def simple() -> Kind:
    """The client without libcurl."""
    return Kind(SimpleAsyncHTTPClient)


@pytest.fixture
def curl() -> Kind:
    """The client on libcurl."""
    return Kind(CurlAsyncHTTPClient)
