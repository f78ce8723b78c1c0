"""The hook of urllib.request, against a real server: one span for each request that an opener sends."""

from __future__ import annotations

import base64
import http.client
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import set_current_span_func, urllib2
from opentracing_instrumentation.client_hooks import urllib as urllib_hook
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.http_client import ClientInterceptors
from opentracing_instrumentation.interceptors import OpenTracingInterceptor

from .loopback import Loopback
from .told import Spans, failed, sent, unused_port

urlopen_of_before = urllib.request.urlopen


@pytest.fixture(autouse=True)
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)
    urllib2.install_patches()


def read(request: Any, open_: Callable[..., Any] | None = None, **options: Any) -> bytes:
    with (open_ or urllib.request.urlopen)(request, **options) as response:
        return bytes(response.read())


def test_urlopen_is_a_span_below_the_current_one(server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        assert read(server.url + "/x?page=2") == b"ok"
    assert spans()[0] == {**sent(server, "/x?page=2"), "parent": "work"}
    (span, _) = tracer.finished_spans()
    assert server.seen[0].headers["ot-tracer-spanid"] == f"{span.context.span_id:x}"


def test_any_opener_is_traced_and_nobodys_global_opener_is_touched(server: Loopback, spans: Spans) -> None:
    own = urllib.request.build_opener()
    own.addheaders = [("X-Own", "1")]
    urllib.request.install_opener(own)
    urllib2.install_patches()
    assert urllib.request._opener is own  # type: ignore[attr-defined]
    read(server.url + "/global")
    read(server.url + "/built", urllib.request.build_opener().open)
    read(server.url + "/context", context=ssl.create_default_context())
    read(server.url + "/name", urlopen_of_before)
    assert spans() == [sent(server, path) for path in ("/global", "/built", "/context", "/name")]
    assert server.seen[0].headers["x-own"] == "1"


class OwnConnections(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(http.client.HTTPConnection, req)


class OwnDoOpen(urllib.request.HTTPHandler):
    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        req.add_unredirected_header("X-Own", "1")
        return super().do_open(http_class, req, **options)


class FromTheBase(urllib.request.AbstractHTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(http.client.HTTPConnection, req)

    http_request = urllib.request.AbstractHTTPHandler.do_request_


@pytest.mark.parametrize("handler", [OwnConnections, OwnDoOpen, FromTheBase])
def test_handlers_of_the_users_own_are_traced_once(server: Loopback, spans: Spans, handler: Any) -> None:
    read(server.url + "/x", urllib.request.build_opener(handler).open)
    assert spans() == [sent(server, "/x")]


def test_other_schemes_are_left_alone(tmp_path: Path, spans: Spans) -> None:
    (tmp_path / "page").write_bytes(b"text")
    assert read((tmp_path / "page").as_uri()) == b"text"
    assert read("data:text/plain,text") == b"text"
    assert spans() == []


def test_a_body_that_can_be_read_once_arrives_whole(server: Loopback, spans: Spans) -> None:
    body = iter([b"a", b"bc"])
    read(urllib.request.Request(server.url + "/in", data=body, method="POST"))  # type: ignore[arg-type]
    assert [seen.body for seen in server.seen] == [b"abc"]
    assert spans() == [sent(server, "/in", method="POST")]


def test_through_a_proxy_the_span_names_the_far_end(server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    proxy = urllib.request.ProxyHandler({"http": server.url})
    assert read("http://far.example/x", urllib.request.build_opener(proxy).open) == b"ok"
    there = {"http.url": "http://far.example/x", "peer.hostname": "far.example", "peer.port": 80}
    (span,) = spans()
    assert {**span["tags"], **there} == span["tags"]
    assert "peer.ipv4" not in span["tags"]
    assert [seen.path for seen in server.seen] == ["http://far.example/x"]


def test_each_hop_of_a_redirect_is_a_span(server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        read(server.url + "/redirect/2")
    *hops, _ = spans()
    told = [("/redirect/2", 302), ("/redirect/1", 302), ("/", 200)]
    assert hops == [{**sent(server, path, status), "parent": "work"} for path, status in told]
    own = [f"{span.context.span_id:x}" for span in tracer.finished_spans()[:-1]]
    assert [seen.headers["ot-tracer-spanid"] for seen in server.seen] == own


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_status_raises_for_the_caller_and_is_no_error_of_the_span(
    server: Loopback, spans: Spans, status: int
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        read(f"{server.url}/status/{status}")
    caught.value.close()
    assert caught.value.code == status
    assert spans() == [sent(server, f"/status/{status}", status)]


@pytest.mark.parametrize("path", ["/hang", "/reset"])
def test_a_server_that_does_not_answer_is_an_error(server: Loopback, spans: Spans, path: str) -> None:
    with pytest.raises(OSError) as caught:
        read(server.url + path, timeout=0.1)
    assert spans() == [failed(sent(server, path, None), caught.value)]


def test_a_refused_connection_is_an_error(server: Loopback, spans: Spans) -> None:
    port = unused_port()
    with pytest.raises(urllib.error.URLError) as caught:
        read(f"http://127.0.0.1:{port}/x")
    there = {"http.url": f"http://127.0.0.1:{port}/x", "peer.port": port}
    assert spans() == [failed(sent(server, "/x", None, **there), caught.value)]


def test_a_malformed_url_gets_the_librarys_own_error(server: Loopback, spans: Spans) -> None:
    with pytest.raises(Exception) as untraced:
        urllib2.reset_patches()
        read("http://127.0.0.1:99999/")
    urllib2.install_patches()
    with pytest.raises(type(untraced.value)) as caught:
        read("http://127.0.0.1:99999/")
    assert str(caught.value) == str(untraced.value)
    tags = {"span.kind": "client", "http.method": "GET", "http.url": "http://127.0.0.1:99999/"}
    assert spans() == [failed({"operation": "GET", "parent": None, "tags": tags}, caught.value)]


SECRET = "hunter2"


def test_no_secret_of_the_url_is_tagged_or_logged(server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    read(f"{server.url}/x?page=2&token={SECRET}#access_token={SECRET}")
    with pytest.raises(http.client.InvalidURL, match=SECRET):
        read(f"{server.url}/a b?token={SECRET}")
    fine, malformed = tracer.finished_spans()
    assert fine.tags["http.url"].startswith(f"{server.url}/x?page=2&token=")
    assert malformed.tags["error"] is True
    assert malformed.logs[0].key_values["message"].startswith("URL can't contain control characters")
    assert SECRET not in repr([(span.tags, [log.key_values for log in span.logs]) for span in (fine, malformed)])


def test_credentials_of_basic_authentication_are_not_tagged(server: Loopback, spans: Spans) -> None:
    authorization = base64.b64encode(f"bob:{SECRET}".encode()).decode()
    read(urllib.request.Request(server.url + "/x", headers={"Authorization": f"Basic {authorization}"}))
    assert spans() == [sent(server, "/x")]


@pytest.mark.parametrize("name", ["X-Service", "x-service", "X-SERVICE"])
def test_headers_named_in_the_settings_are_found_in_any_case(server: Loopback, spans: Spans, name: str) -> None:
    CONFIG.callee_name_headers = [name]
    CONFIG.callee_endpoint_headers = ["X-ENDpoint"]
    read(urllib.request.Request(server.url + "/x", headers={"X-SERVice": "stock", "x-endpoint": "count"}))
    assert spans() == [{**sent(server, "/x", **{"peer.service": "stock"}), "operation": "GET:count"}]


def test_interceptors_see_request_and_span(server: Loopback, spans: Spans) -> None:
    class Note(OpenTracingInterceptor):
        def process(self, request: Any, span: Any) -> None:
            span.set_tag("method", request.method)
            request.add_header("X-Note", "1")

    ClientInterceptors.append(Note())
    read(server.url + "/x")
    assert spans() == [sent(server, "/x", method="GET") | {"tags": sent(server, "/x")["tags"] | {"method": "GET"}}]
    assert server.seen[0].headers["x-note"] == "1"


def test_the_function_set_for_the_parent_is_asked(server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_span("mine") as mine:
        set_current_span_func(lambda: mine)
        read(server.url + "/x")
    assert spans()[0] == {**sent(server, "/x"), "parent": "mine"}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_do_open_is_looked_up_at_each_call(server: Loopback, spans: Spans, scheme: str) -> None:
    """Test suites of applications put a mock there instead of a server."""
    response = mock.Mock(code=202, msg="")
    url = f"{scheme}://127.0.0.1:{server.port}/x"
    with mock.patch.object(urllib.request.AbstractHTTPHandler, "do_open", return_value=response):
        assert urllib.request.build_opener().open(url) is response
    assert server.seen == []
    assert spans() == [sent(server, "/x", 202, **{"http.url": url})]


def test_reset_puts_the_very_methods_back_and_patches_install_again(server: Loopback, spans: Spans) -> None:
    urllib2.reset_patches()
    untouched = vars(urllib.request.HTTPHandler)["http_open"]
    for _ in range(2):
        urllib2.install_patches()
        assert vars(urllib.request.HTTPHandler)["http_open"] is not untouched
        urllib2.reset_patches()
        urllib2.reset_patches()
        assert vars(urllib.request.HTTPHandler)["http_open"] is untouched
        assert "do_open" not in vars(urllib.request.HTTPHandler)
    read(server.url)
    assert spans() == []


def test_the_hook_of_urllib_is_that_of_urllib2() -> None:
    assert urllib_hook.install_patches is urllib2.install_patches
    assert urllib_hook.reset_patches is urllib2.reset_patches


@pytest.fixture
def opener_of_before() -> urllib.request.OpenerDirector:
    urllib2.reset_patches()
    opener = urllib.request.build_opener()
    urllib2.install_patches()
    return opener


def test_openers_of_before_the_patch_are_traced_until_the_reset(
    server: Loopback, spans: Spans, opener_of_before: urllib.request.OpenerDirector
) -> None:
    read(server.url + "/x", opener_of_before.open)
    urllib2.reset_patches()
    read(server.url + "/untraced", opener_of_before.open)
    assert spans() == [sent(server, "/x")]


def test_a_tracer_that_breaks_does_not_break_the_request(
    server: Loopback,
    tracer: MockTracer,
    lenient: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tracer, "start_span", lambda **_: 1 / 0)
    assert [read(server.url), read(server.url)] == [b"ok", b"ok"]
    assert len(server.seen) == 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2  # once for each patched method
    assert len(set(caplog.messages)) == 2
