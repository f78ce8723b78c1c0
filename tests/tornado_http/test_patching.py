"""What is patched, how it is put back, and the names by which it has always been asked for."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pytest
from tornado.curl_httpclient import CurlAsyncHTTPClient
from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from opentracing_instrumentation.client_hooks import tornado_http
from opentracing_instrumentation.client_hooks.tornado_http import TracedPatcherBuilder, traced_fetch_impl
from tests.opentracing_instrumentation.loopback import Loopback
from tests.opentracing_instrumentation.told import Spans

from .conftest import Kind
from .told import fetched

TARGETS = (
    (SimpleAsyncHTTPClient, "fetch_impl"),
    (SimpleAsyncHTTPClient, "_handle_request"),
    (CurlAsyncHTTPClient, "fetch_impl"),
    (CurlAsyncHTTPClient, "_curl_setup_request"),
)


def test_reset_puts_the_very_methods_back_and_patches_install_again() -> None:
    tornado_http.reset_patchers()
    untouched = [vars(owner)[name] for owner, name in TARGETS]
    for _ in range(2):
        tornado_http.install_patches()
        present = [vars(owner)[name] for owner, name in TARGETS]
        assert [new is not old for new, old in zip(present, untouched, strict=True)] == [True] * 4
        tornado_http.reset_patchers()
        tornado_http.reset_patchers()
        assert [vars(owner)[name] for owner, name in TARGETS] == untouched


def test_the_function_below_the_singleton_installs(server: Loopback, kind: Kind, spans: Spans) -> None:
    tornado_http.reset_patchers()
    getattr(tornado_http.install_patches, "__original_func")()
    kind.fetch(server.url + "/x")
    assert spans() == [fetched(server, "/x")]


def test_the_builder_of_before_patches_once(server: Loopback, kind: Kind, spans: Spans) -> None:
    tornado_http.reset_patchers()
    TracedPatcherBuilder().patch()
    TracedPatcherBuilder().patch()
    kind.fetch(server.url + "/x")
    assert spans() == [fetched(server, "/x")]


def test_clients_and_methods_of_before_the_patch_are_traced_until_the_reset(
    server: Loopback, kind: Kind, spans: Spans
) -> None:
    async def work(client: Any) -> None:
        fetch = client.fetch
        tornado_http.install_patches()
        await fetch(server.url + "/x")
        tornado_http.reset_patches()
        await fetch(server.url + "/untraced")

    tornado_http.reset_patches()
    kind.run(work)
    assert spans() == [fetched(server, "/x")]


def test_a_subclass_is_traced_once(server: Loopback, kind: Kind, spans: Spans) -> None:
    class Signing(kind.client):  # type: ignore[name-defined,misc]
        def fetch_impl(self, request: Any, callback: Any) -> None:
            request.headers["X-Signature"] = "s"
            super().fetch_impl(request, callback)

    Kind(Signing, server).fetch(server.url + "/x")
    assert spans() == [fetched(server, "/x")]
    assert server.seen[0].headers["x-signature"] == "s"


def test_keywords_are_passed_on(server: Loopback, kind: Kind, spans: Spans) -> None:
    class ByName(kind.client):  # type: ignore[name-defined,misc]
        def fetch_impl(self, request: Any, callback: Any) -> None:
            super().fetch_impl(callback=callback, request=request)

    Kind(ByName, server).fetch(server.url + "/x")
    assert spans() == [fetched(server, "/x")]


class Canned(SimpleAsyncHTTPClient):  # type: ignore[misc]
    """A client of the user's own, which answers without a network."""

    def fetch_impl(self, request: Any, callback: Any) -> None:
        callback(HTTPResponse(request, 202))


def test_a_client_of_ones_own_can_be_traced(server: Loopback, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    canned = Kind(Canned, server)
    assert canned.fetch(server.url + "/untraced").code == 202
    monkeypatch.setattr(Canned, "fetch_impl", traced_fetch_impl(Canned.fetch_impl))
    assert canned.fetch(server.url + "/x").code == 202
    assert spans() == [fetched(server, "/x", 202)]


def test_a_mock_can_be_traced(server: Loopback, spans: Spans) -> None:
    real, callback = mock.Mock(), mock.Mock()
    client, request = object(), HTTPRequest(server.url + "/x", headers={})
    traced_fetch_impl(real)(client, request, callback)
    ((given_client, given_request, given_callback), _) = real.call_args
    assert (given_client, given_request) == (client, request)
    response = HTTPResponse(request, 204)
    given_callback(response)
    assert callback.mock_calls == [mock.call(response)]
    assert spans() == [fetched(server, "/x", 204)]


def test_of_a_callback_without_a_future_the_response_ends_the_span(
    simple: Kind, server: Loopback, spans: Spans
) -> None:
    async def work(client: Any) -> None:
        answered = asyncio.Event()
        request = HTTPRequest(server.url + "/x", connect_timeout=5, request_timeout=5, max_redirects=0)
        client.fetch_impl(request, lambda _: answered.set())
        await answered.wait()

    simple.run(work)
    assert spans() == [fetched(server, "/x")]
