"""before_request and the request wrappers: what an incoming request means."""

from __future__ import annotations

import logging
import string
from typing import Any
from unittest.mock import MagicMock
from wsgiref.util import request_uri, setup_testing_defaults

import opentracing
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentracing import Format
from opentracing.mocktracer import MockTracer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.http_server import (
    AbstractRequestWrapper,
    TornadoRequestWrapper,
    WSGIRequestWrapper,
    before_request,
)

from .told import Spans


def environment(**variables: Any) -> dict[str, Any]:
    """A WSGI environment: GET http://stock.example/x from 10.0.0.9:4711."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/x",
        "HTTP_HOST": "stock.example",
        "REMOTE_ADDR": "10.0.0.9",
        "REMOTE_PORT": "4711",
        "SERVER_PORT": "80",
        **variables,
    }
    setup_testing_defaults(environ)
    return environ


def wrapped(**variables: Any) -> WSGIRequestWrapper:
    return WSGIRequestWrapper.from_wsgi_environ(environment(**variables))


def tornado_request(headers: dict[str, str]) -> HTTPServerRequest:
    """A request of Tornado's: POST /x?page=2 from 10.0.0.9."""

    class Connection:
        class context:
            remote_ip = "10.0.0.9"
            protocol = "http"

    line = RequestStartLine("POST", "/x?page=2", "HTTP/1.1")
    return HTTPServerRequest(start_line=line, headers=HTTPHeaders(headers), connection=Connection())


TAGS = {
    "span.kind": "server",
    "http.url": "http://stock.example/x",
    "http.method": "GET",
    "peer.ipv4": "10.0.0.9",
    "peer.port": "4711",
}
FROM_AFAR = {"HTTP_OT_TRACER_TRACEID": "2a", "HTTP_OT_TRACER_SPANID": "2b"}


def test_a_request_without_a_trace_is_a_root_span(tracer: MockTracer, spans: Spans) -> None:
    before_request(wrapped()).finish()
    assert spans() == [{"operation": "GET", "parent": None, "tags": TAGS}]


def test_a_request_continues_the_trace_of_its_caller(tracer: MockTracer, spans: Spans) -> None:
    span = before_request(wrapped(**FROM_AFAR))
    span.finish()
    assert span.context.trace_id == 0x2A
    assert spans() == [{"operation": "GET", "parent": 0x2B, "tags": TAGS}]


def test_the_calls_of_the_tracer_are_those_that_tests_assert(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Tracer(opentracing.Tracer):
        def extract(self, **kwargs: Any) -> Any:
            calls.append(kwargs)
            return "the context"

        def start_span(self, **kwargs: Any) -> Any:
            calls.append(kwargs)
            return "the span"

    assert before_request(wrapped(HTTP_X_FOO="bar"), tracer=Tracer()) == "the span"
    assert calls == [
        {"format": Format.HTTP_HEADERS, "carrier": {"host": "stock.example", "x-foo": "bar"}},
        {"operation_name": "GET", "child_of": "the context", "tags": TAGS},
    ]


class Particular(MockTracer):
    """A tracer that tells which headers it reads; keeps what it gets."""

    header_names = ("x-trace", "x-more")

    def __init__(self) -> None:
        super().__init__()
        self.carriers: list[Any] = []

    def extract(self, **kwargs: Any) -> Any:
        self.carriers.append(kwargs["carrier"])


def test_a_tracer_that_tells_which_headers_it_reads_gets_no_others() -> None:
    tracer = Particular()
    environ = environment(HTTP_X_TRACE="7", HTTP_X_FOO="bar")
    before_request(WSGIRequestWrapper.from_wsgi_environ(environ), tracer)
    before_request(wrapped(), tracer)
    before_request(TornadoRequestWrapper(tornado_request({"Host": "stock.example", "X-Trace": "7"})), tracer)
    assert tracer.carriers == [{"x-trace": "7"}, {}, {"x-trace": "7"}]


def test_a_tracer_that_tells_which_headers_it_reads_gets_what_a_wrapper_says_of_its_headers() -> None:
    class Renaming(WSGIRequestWrapper):
        @property
        def headers(self) -> dict[str, str]:
            return {"x-trace": self.wsgi_environ["HTTP_X_OLD_TRACE"]}

    class Bare(AbstractRequestWrapper):
        full_url = "http://stock.example/x"
        headers, method, remote_ip = {"X-Trace": "7"}, "GET", None  # type: ignore[assignment]

    tracer = Particular()
    before_request(Renaming.from_wsgi_environ(environment(HTTP_X_TRACE="6", HTTP_X_OLD_TRACE="7")), tracer)
    before_request(WSGIRequestWrapper(environment(HTTP_X_TRACE="6"), {"x-trace": "7"}), tracer)
    before_request(Bare(), tracer)
    assert tracer.carriers == [{"x-trace": "7"}, {"x-trace": "7"}, {"X-Trace": "7"}]


def test_a_mock_for_a_tracer_gets_all_headers() -> None:
    """It has every attribute; that does not make it one which tells what it reads."""
    tracer = MagicMock()
    before_request(WSGIRequestWrapper.from_wsgi_environ(environment(HTTP_X_TRACE="7", HTTP_X_FOO="bar")), tracer)
    carrier = tracer.extract.call_args.kwargs["carrier"]
    assert carrier["x-trace"] == "7"
    assert carrier["x-foo"] == "bar"
    assert tracer.start_span.call_args.kwargs["tags"]["http.method"] == "GET"


def test_of_the_headers_only_the_items_are_needed(spans: Spans) -> None:
    class Headers:
        def items(self) -> Any:
            return [("Ot-Tracer-Traceid", "2a"), ("Ot-Tracer-Spanid", "2b")]

    class Request(WSGIRequestWrapper):
        headers = Headers()  # type: ignore[assignment]

    before_request(Request.from_wsgi_environ(environment())).finish()
    assert [span["parent"] for span in spans()] == [0x2B]


def test_headers_that_cannot_be_read_are_logged_and_begin_a_trace(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    before_request(wrapped(HTTP_OT_TRACER_TRACEID="no number", HTTP_OT_TRACER_SPANID="2b")).finish()
    assert spans() == [{"operation": "GET", "parent": None, "tags": TAGS}]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("root", logging.ERROR)
    assert record.getMessage().startswith("trace extract failed: ")


GARBAGE = st.dictionaries(
    st.sampled_from(["HTTP_OT_TRACER_TRACEID", "HTTP_OT_TRACER_SPANID", "HTTP_OT_BAGGAGE_A", "HTTP_HOST", "HTTP_X"]),
    st.text(max_size=30),
)


@given(headers=GARBAGE, path=st.text(max_size=20), query=st.text(max_size=20))
def test_no_request_is_too_odd(headers: dict[str, str], path: str, query: str) -> None:
    tracer = MockTracer()
    request = wrapped(**headers, PATH_INFO=path, QUERY_STRING=query)
    span = before_request(request, tracer)
    assert (span.operation_name, span.tags["span.kind"]) == ("GET", "server")
    assert span.tags["http.url"].startswith("http://")


def test_the_caller_is_named_by_the_first_header_of_the_settings(spans: Spans) -> None:
    CONFIG.caller_name_headers = ["Absent", "X-Caller"]
    before_request(wrapped(HTTP_X_CALLER="till")).finish()
    before_request(wrapped()).finish()
    assert [span["tags"].get("peer.service") for span in spans()] == ["till", None]


@pytest.mark.parametrize(
    ("address", "tag"), [("10.0.0.9", "peer.ipv4"), ("::1", "peer.ipv6"), ("till.example", "peer.hostname")]
)
def test_the_tag_of_the_peer_tells_names_from_addresses(spans: Spans, address: str, tag: str) -> None:
    before_request(wrapped(REMOTE_ADDR=address)).finish()
    CONFIG.legacy_peer_tags = True
    before_request(wrapped(REMOTE_ADDR=address)).finish()
    peers = [{k: v for k, v in span["tags"].items() if k.startswith("peer.") and k != "peer.port"} for span in spans()]
    assert peers == [{tag: address}, {"peer.ipv4": address}]


def test_secrets_of_the_url_are_not_tagged(spans: Spans) -> None:
    before_request(wrapped(HTTP_HOST="bob:pw@stock.example", QUERY_STRING="page=2&token=t")).finish()
    assert spans()[0]["tags"]["http.url"] == "http://stock.example/x?page=2&token=[redacted]"


def test_a_wrapper_that_breaks_is_reported_and_the_request_traced(
    spans: Spans, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(WSGIRequestWrapper):
        @property
        def full_url(self) -> str:
            raise LookupError

    before_request(Broken.from_wsgi_environ(environment())).finish()
    assert spans() == [{"operation": "GET", "parent": None, "tags": {"span.kind": "server"}}]
    assert "Broken" in caplog.text


def test_with_the_default_tracer_the_span_is_the_no_op_span() -> None:
    assert before_request(wrapped(**FROM_AFAR)) is opentracing.tracer.start_span()


def test_the_abstract_wrapper_demands_what_every_request_has() -> None:
    bare = AbstractRequestWrapper()
    for name in ("full_url", "headers", "method", "remote_ip", "operation"):
        with pytest.raises(NotImplementedError):
            getattr(bare, name)
    assert (bare.remote_port, bare.server_port, bare.caller_name) == (None, None, None)


def test_a_request_of_tornados(spans: Spans) -> None:
    headers = {"Host": "stock.example", "Ot-Tracer-Traceid": "2a", "Ot-Tracer-Spanid": "2b"}
    CONFIG.caller_name_headers = ["HOST"]
    before_request(TornadoRequestWrapper(tornado_request(headers))).finish()
    tags = {
        "span.kind": "server",
        "http.url": "http://stock.example/x?page=2",
        "http.method": "POST",
        "peer.ipv4": "10.0.0.9",
        "peer.service": "stock.example",
    }
    assert spans() == [{"operation": "POST", "parent": 0x2B, "tags": tags}]


def test_the_headers_of_requests_with_the_same_variables_are_told_apart() -> None:
    for foo in "bar", "baz":
        assert wrapped(HTTP_X_FOO=foo).headers == {"host": "stock.example", "x-foo": foo}
    assert wrapped(X_HTTP_FOO="bar").headers == {"host": "stock.example"}


def test_the_properties_of_a_wsgi_request_are_those_of_the_environment() -> None:
    request = wrapped(HTTP_X_FOO="bar", SERVER_PORT=8888, CONTENT_TYPE="text/plain")
    assert request.headers == {"host": "stock.example", "x-foo": "bar"}
    assert (request.method, request.operation) == ("GET", "GET")
    assert (request.remote_ip, request.remote_port, request.server_port) == ("10.0.0.9", "4711", 8888)


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"PATH_INFO": ""}, "http://stock.example"),
        ({"SCRIPT_NAME": "/app"}, "http://stock.example/app/x"),
        ({"QUERY_STRING": "page=2"}, "http://stock.example/x?page=2"),
        ({"HTTP_HOST": "stock.example:8080"}, "http://stock.example:8080/x"),
        ({"PATH_INFO": "/a b/\u00c3\u00a9"}, "http://stock.example/a%20b/%C3%A9"),
        ({"PATH_INFO": "/100%"}, "http://stock.example/100%25"),
    ],
)
def test_the_url_of_a_wsgi_request(variables: dict[str, str], url: str) -> None:
    assert wrapped(**variables).full_url == url


@pytest.mark.parametrize(
    ("scheme", "port", "url"),
    [
        ("http", "80", "http://server/x"),
        ("http", 80, "http://server/x"),
        ("http", 8080, "http://server:8080/x"),
        ("http", "443", "http://server:443/x"),
        ("https", "443", "https://server/x"),
        ("https", 80, "https://server:80/x"),
    ],
)
def test_without_a_host_header_the_server_names_itself(scheme: str, port: Any, url: str) -> None:
    environ = environment(**{"wsgi.url_scheme": scheme, "SERVER_NAME": "server", "SERVER_PORT": port})
    del environ["HTTP_HOST"]
    assert WSGIRequestWrapper.from_wsgi_environ(environ).full_url == url


PATHS = st.text(st.characters(max_codepoint=255), max_size=20)


@given(
    script=PATHS,
    path=PATHS,
    query=st.text(string.ascii_letters + "=&%+", max_size=20),
    scheme=st.sampled_from(["http", "https"]),
    host=st.sampled_from(["stock.example", "stock.example:8080", "[::1]:80", None]),
    port=st.sampled_from(["80", "443", "8080"]),
)
def test_the_url_is_the_one_that_the_standard_library_puts_together(
    script: str, path: str, query: str, scheme: str, host: str | None, port: str
) -> None:
    environ = {
        "wsgi.url_scheme": scheme,
        "SERVER_NAME": "server",
        "SERVER_PORT": port,
        "SCRIPT_NAME": script and f"/{script}",
        "PATH_INFO": f"/{path}",
        "QUERY_STRING": query,
        **({} if host is None else {"HTTP_HOST": host}),
    }
    ours, reference = WSGIRequestWrapper.from_wsgi_environ(environ).full_url, request_uri(environ)
    for mark in ";=,":  # the standard library leaves parameters of a path's segments as they are
        ours = ours.replace(f"%{ord(mark):X}", mark)
        reference = reference.replace(f"%{ord(mark):X}", mark)
    assert ours == reference
