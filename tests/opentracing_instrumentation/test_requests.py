"""The hook of requests, against a real server: one span for each request that an adapter sends."""

from __future__ import annotations

import io
import logging
import threading
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import opentracing
import pytest
import requests
from opentracing import Format, UnsupportedFormatException
from opentracing.mocktracer import MockTracer
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from opentracing_instrumentation import span_in_context
from opentracing_instrumentation.client_hooks import requests as hook
from opentracing_instrumentation.client_hooks import set_current_span_func
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.http_client import ClientInterceptors
from opentracing_instrumentation.interceptors import OpenTracingInterceptor

from .loopback import Loopback
from .told import Spans, failed, sent, unused_port

get_of_before = requests.get


@pytest.fixture(autouse=True)
def patched() -> None:
    hook.install_patches()


class Note(OpenTracingInterceptor):
    def __init__(self, word: str) -> None:
        self.word = word

    def process(self, request: Any, span: Any) -> None:
        span.set_tag("notes", [*span.tags.get("notes", ()), self.word])
        request.add_header("X-Note", f"{self.word} {span.tags['http.url']}")


def test_a_request_is_a_span_below_the_current_one(server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        assert requests.get(server.url + "/x?page=2").text == "ok"
    assert spans() == [
        {**sent(server, "/x?page=2"), "parent": "work"},
        {"operation": "work", "parent": None, "tags": {}},
    ]


def test_without_a_current_span_it_is_a_root(server: Loopback, spans: Spans) -> None:
    with span_in_context(None):
        requests.put(server.url + "/x", data=b"1")
    assert spans() == [sent(server, "/x", method="PUT")]


def test_the_context_of_the_span_travels_in_the_headers(server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    requests.get(server.url)
    (seen,) = server.seen
    (span,) = tracer.finished_spans()
    assert seen.headers["ot-tracer-spanid"] == f"{span.context.span_id:x}"
    assert seen.headers["ot-tracer-traceid"] == f"{span.context.trace_id:x}"


@pytest.mark.parametrize("status", [204, 404, 500])
def test_no_status_is_an_error(server: Loopback, spans: Spans, status: int) -> None:
    assert requests.get(f"{server.url}/status/{status}").status_code == status
    assert spans() == [sent(server, f"/status/{status}", status)]


def test_each_hop_of_a_redirect_is_a_span_with_headers_of_its_own(
    server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    with tracer.start_active_span("work"):
        assert requests.get(server.url + "/redirect/2").history[0].status_code == 302
    *hops, _ = spans()
    assert hops == [
        {**sent(server, path, status), "parent": "work"}
        for path, status in (("/redirect/2", 302), ("/redirect/1", 302), ("/", 200))
    ]
    own = [f"{span.context.span_id:x}" for span in tracer.finished_spans()[:-1]]
    assert [seen.headers["ot-tracer-spanid"] for seen in server.seen] == own


def test_retries_below_the_adapter_are_one_span_that_counts_them(server: Loopback, spans: Spans) -> None:
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(3, status_forcelist=[503], backoff_factor=0)))
        assert session.get(server.url + "/flaky/2").status_code == 200
    assert len(server.seen) == 3
    assert spans() == [sent(server, "/flaky/2", **{"http.resend_count": 2})]


def test_a_streamed_response_ends_its_span_with_the_headers(server: Loopback, spans: Spans) -> None:
    with requests.get(server.url + "/stream", stream=True) as response:
        assert spans() == [sent(server, "/stream")]
        assert b"".join(response.iter_content(None)) == b"onetwothree"


@pytest.mark.parametrize(
    "body", [lambda: (part for part in (b"a", b"bc")), lambda: io.BytesIO(b"abc")], ids=["generator", "file"]
)
def test_a_body_that_can_be_read_once_arrives_whole(server: Loopback, spans: Spans, body: Any) -> None:
    requests.post(server.url + "/in", data=body())
    assert [seen.body for seen in server.seen] == [b"abc"]
    assert spans() == [sent(server, "/in", method="POST")]


def test_through_a_proxy_the_span_names_the_far_end(server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    assert requests.get("http://far.example/x", proxies={"http": server.url}).text == "ok"
    told = {"http.url": "http://far.example/x", "peer.hostname": "far.example", "peer.port": 80}
    (span,) = spans()
    assert {key: value for key, value in span["tags"].items() if key in ("http.url", *told)} == told
    assert [seen.path for seen in server.seen] == ["http://far.example/x"]
    assert server.seen[0].headers["ot-tracer-spanid"] == f"{tracer.finished_spans()[0].context.span_id:x}"


def test_a_subclass_of_the_adapter_is_traced_once(server: Loopback, spans: Spans) -> None:
    class Signing(HTTPAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            request.headers["X-Signature"] = "s"
            return super().send(request, *args, **kwargs)

    with requests.Session() as session:
        session.mount("http://", Signing())
        session.get(server.url + "/x")
    assert spans() == [sent(server, "/x")]
    assert server.seen[0].headers["x-signature"] == "s"


def test_sessions_and_names_from_before_the_patch_are_traced(server: Loopback, spans: Spans) -> None:
    hook.reset_patches()
    with requests.Session() as session:
        hook.install_patches()
        session.get(server.url + "/session")
    get_of_before(server.url + "/name")
    assert spans() == [sent(server, "/session"), sent(server, "/name")]


def test_after_reset_nothing_is_traced(server: Loopback, spans: Spans) -> None:
    original = HTTPAdapter.send.__wrapped__  # type: ignore[attr-defined]
    with requests.Session() as session:
        hook.reset_patches()
        session.get(server.url)
    hook.reset_patches()
    assert spans() == []
    assert HTTPAdapter.send is original


def test_the_arguments_of_send_may_be_positional(server: Loopback, spans: Spans) -> None:
    request = requests.Request("GET", server.url + "/x").prepare()
    with closing(HTTPAdapter()) as adapter:
        assert adapter.send(request, False, 5).text == "ok"
    assert spans() == [sent(server, "/x")]


def test_wrong_arguments_of_send_get_the_librarys_own_error(server: Loopback, spans: Spans) -> None:
    with pytest.raises(TypeError, match=r"send.*unexpected keyword argument 'speed'"):
        HTTPAdapter().send(requests.Request("GET", server.url).prepare(), speed=1)  # type: ignore[call-arg]
    assert spans() == []


def test_a_refused_connection_is_an_error(server: Loopback, spans: Spans) -> None:
    port = unused_port()
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get(f"http://127.0.0.1:{port}/x")
    there = {"http.url": f"http://127.0.0.1:{port}/x", "peer.port": port}
    assert spans() == [failed(sent(server, "/x", None, **there), caught.value)]


@pytest.mark.parametrize(
    ("path", "error"), [("/hang", requests.ReadTimeout), ("/reset", requests.ConnectionError)], ids=["hang", "reset"]
)
def test_a_server_that_does_not_answer_is_an_error(server: Loopback, spans: Spans, path: str, error: Any) -> None:
    with pytest.raises(error) as caught:
        requests.get(server.url + path, timeout=0.1)
    assert spans() == [failed(sent(server, path, None), caught.value)]


def test_an_unknown_scheme_never_gets_to_an_adapter(spans: Spans) -> None:
    with pytest.raises(requests.exceptions.InvalidSchema):
        requests.get("gopher://127.0.0.1/x")
    assert spans() == []


def test_the_response_hook_sees_the_tagged_span_before_its_end(
    server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    calls = []

    def note(*args: Any) -> None:
        calls.append((args, args[1].tags["http.status_code"], args[1].finished))

    hook.patcher.set_response_handler_hook(note)
    response = requests.get(server.url + "/status/204")
    (span,) = tracer.finished_spans()
    assert calls == [((response, span), 204, False)]
    hook.patcher.set_response_handler_hook(None)
    requests.get(server.url)
    assert len(calls) == 1


def test_a_response_hook_that_raises_is_reported_once(
    server: Loopback, spans: Spans, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    hook.patcher.set_response_handler_hook(lambda response, span: 1 / 0)
    assert [requests.get(server.url + "/x").text for _ in range(2)] == ["ok", "ok"]
    hook.patcher.set_response_handler_hook(None)
    assert spans() == [sent(server, "/x")] * 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "the response handler hook of requests" in caplog.text


def test_the_response_hook_is_called_even_without_a_tracer(server: Loopback) -> None:
    calls: list[Any] = []
    hook.patcher.set_response_handler_hook(lambda response, span: calls.append((response.status_code, span)))
    requests.get(server.url)
    hook.patcher.set_response_handler_hook(None)
    assert calls == [(200, opentracing.tracer._noop_span)]


def test_interceptors_see_the_request_and_its_span_in_order(server: Loopback, spans: Spans) -> None:
    ClientInterceptors.append(Note("second"))
    ClientInterceptors.insert(0, Note("first"))
    requests.get(server.url + "/x")
    assert spans() == [sent(server, "/x", notes=["first", "second"])]
    assert server.seen[0].headers["x-note"] == f"second {server.url}/x"


def test_an_interceptor_that_raises_is_reported_and_the_others_are_called(
    server: Loopback, spans: Spans, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(OpenTracingInterceptor):
        def process(self, request: Any, span: Any) -> None:
            raise LookupError("nothing here")

    ClientInterceptors.append(Broken())
    ClientInterceptors.append(Note("next"))
    requests.get(server.url + "/x")
    assert spans() == [sent(server, "/x", notes=["next"])]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_interceptors_are_called_even_without_a_tracer(server: Loopback) -> None:
    class Header(OpenTracingInterceptor):
        def process(self, request: Any, span: Any) -> None:
            request.add_header("X-Tenant", "t1")

    ClientInterceptors.append(Header())
    requests.get(server.url)
    assert server.seen[0].headers["x-tenant"] == "t1"


def test_headers_named_in_the_settings_name_service_and_endpoint_in_any_case(server: Loopback, spans: Spans) -> None:
    CONFIG.callee_name_headers = ["X-Absent", "x-service"]
    CONFIG.callee_endpoint_headers = ["X-ENDPOINT"]
    requests.get(server.url + "/x", headers={"X-Service": "stock", "X-Endpoint": "count"})
    assert spans() == [{**sent(server, "/x", **{"peer.service": "stock"}), "operation": "GET:count"}]


def test_a_host_name_goes_to_peer_hostname_unless_the_old_tags_are_wanted(server: Loopback, spans: Spans) -> None:
    requests.get(f"http://localhost:{server.port}/x")
    CONFIG.legacy_peer_tags = True
    requests.get(f"http://localhost:{server.port}/x")
    named, legacy = [span["tags"] for span in spans()]
    assert (named.get("peer.hostname"), named.get("peer.ipv4")) == ("localhost", None)
    assert (legacy.get("peer.hostname"), legacy.get("peer.ipv4")) == (None, "localhost")


SECRET = "hunter2"


@pytest.mark.parametrize("port", ["here", "nobody"])
def test_no_secret_of_the_url_is_tagged_or_logged(
    server: Loopback, tracer: MockTracer, spans: Spans, port: str
) -> None:
    there = server.port if port == "here" else unused_port()
    url = f"http://bob:{SECRET}@127.0.0.1:{there}/x?page=2&token={SECRET}&api_key={SECRET}#access_token={SECRET}"
    if port == "here":
        requests.get(url)
    else:
        with pytest.raises(requests.ConnectionError, match=SECRET):
            requests.get(url)
    (span,) = tracer.finished_spans()
    assert span.tags["http.url"].startswith(f"http://127.0.0.1:{there}/x?page=2&token=")
    assert SECRET not in repr((span.tags, [log.key_values for log in span.logs]))
    assert bool(span.logs) is bool(span.tags.get("error")) is (port == "nobody")


def test_a_patcher_of_the_users_own_takes_the_place_of_ours(server: Loopback, spans: Spans) -> None:
    class Renaming(hook.RequestsPatcher):
        class RequestWrapper(hook.RequestsPatcher.RequestWrapper):
            @property
            def operation(self) -> str:
                return f"call {self.method}"

    ours = hook.patcher
    hook.set_patcher(Renaming())
    try:
        requests.get(server.url + "/x")
        hook.reset_patches()
        requests.get(server.url + "/untraced")
    finally:
        hook.set_patcher(ours)
    assert spans() == [{**sent(server, "/x"), "operation": "call GET"}]


def test_the_function_set_for_the_parent_is_asked_whenever_it_was_set(
    server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    with tracer.start_span("mine") as mine:
        set_current_span_func(lambda: mine)
        requests.get(server.url + "/x")
    assert spans()[0] == {**sent(server, "/x"), "parent": "mine"}


@pytest.mark.parametrize("raw", [None, object(), SimpleNamespace(retries=None), SimpleNamespace(retries=3)])
def test_an_adapter_that_does_without_urllib3_is_traced(tracer: MockTracer, raw: Any) -> None:
    class Adapter(HTTPAdapter):
        def get_connection(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(urlopen=lambda **_: None)

        get_connection_with_tls_context = get_connection  # its name in later releases

        def build_response(self, req: Any, resp: Any) -> requests.Response:
            response = requests.Response()
            response.status_code, response.url, response.raw = 200, req.url, raw
            response._content = b"ok"
            return response

    with requests.Session() as session:
        session.mount("http://", Adapter())
        assert session.get("http://stock.example/x").text == "ok"
    (span,) = tracer.finished_spans()
    assert (span.tags["http.status_code"], "http.resend_count" in span.tags) == (200, False)


def test_a_tracer_that_cannot_inject_sends_the_request_all_the_same(
    server: Loopback, tracer: MockTracer, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inject(span_context: Any, format: Any, carrier: Any) -> None:  # noqa: A002
        assert format == Format.HTTP_HEADERS
        raise UnsupportedFormatException

    monkeypatch.setattr(tracer, "inject", inject)
    requests.get(server.url + "/x")
    assert spans() == [sent(server, "/x")]


def test_an_inject_that_breaks_is_reported(
    server: Loopback,
    tracer: MockTracer,
    spans: Spans,
    lenient: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tracer, "inject", lambda **_: 1 / 0)
    requests.get(server.url + "/x")
    assert spans() == [sent(server, "/x")]
    assert "injecting the span context" in caplog.text


def test_many_threads_share_a_session_and_keep_their_parents(
    server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    def work(number: int) -> None:
        with tracer.start_active_span(f"work {number}"):
            for _ in range(5):
                session.get(f"{server.url}/{number}")

    with requests.Session() as session:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    calls = [(span["parent"], span["tags"]["http.url"]) for span in spans() if span["operation"] == "GET"]
    assert sorted(calls) == sorted((f"work {number}", f"{server.url}/{number}") for number in range(8) for _ in "12345")
