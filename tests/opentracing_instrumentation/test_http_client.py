"""What an outgoing HTTP request means: the helpers that HTTP client hooks, also those of others, are built on."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import opentracing
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentracing import Format
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation._core.tags import redact_url
from opentracing_instrumentation.config import CONFIG, SETTINGS
from opentracing_instrumentation.http_client import (
    HOST_PORT_RE,
    AbstractRequestWrapper,
    before_http_request,
    host_and_port,
    split_host_and_port,
    without_secrets,
)
from opentracing_instrumentation.request_context import get_current_span

from .told import Spans


class Request(AbstractRequestWrapper):
    def __init__(
        self, url: str = "http://stock.example/x", host_port: Any = ("stock.example", 80), **headers: str
    ) -> None:
        self.url, self.peer, self.headers, self.added = url, host_port, headers, dict[str, str]()

    def add_header(self, key: str, value: str) -> None:
        self.added[key] = value

    @property
    def _headers(self) -> Mapping[str, str]:
        return self.headers

    @property
    def host_port(self) -> Any:
        return self.peer

    @property
    def method(self) -> str:
        return "GET"

    @property
    def full_url(self) -> str:
        return self.url


TAGS = {
    "span.kind": "client",
    "http.url": "http://stock.example/x",
    "http.method": "GET",
    "peer.hostname": "stock.example",
    "peer.port": 80,
}


def test_the_span_is_begun_tagged_injected_and_left_to_the_caller(tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        request = Request()
        span = before_http_request(request, get_current_span)
        assert spans() == []
        injected: dict[str, str] = {}
        tracer.inject(span.context, Format.HTTP_HEADERS, injected)
        assert request.added == injected != {}
        span.finish()
    assert spans()[0] == {"operation": "GET", "parent": "work", "tags": TAGS}


def test_the_extractor_names_the_parent(tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_span("mine") as mine, before_http_request(Request(), lambda: mine):
        pass
    assert [span["parent"] for span in spans()] == ["mine", None]


def test_a_port_given_as_text_is_tagged_as_a_number_and_unknown_peers_not_at_all(spans: Spans) -> None:
    for peer in (("10.0.0.1", "8080"), (None, None), ("::1", 0)):
        before_http_request(Request(host_port=peer), lambda: None).finish()
    common = {key: value for key, value in TAGS.items() if not key.startswith("peer.")}
    assert [span["tags"] for span in spans()] == [
        {**common, "peer.ipv4": "10.0.0.1", "peer.port": 8080},
        common,
        {**common, "peer.ipv6": "::1"},
    ]


def test_requests_to_the_same_peer_have_tags_of_their_own(spans: Spans) -> None:
    with before_http_request(Request(), lambda: None) as first:
        first.set_tag("own", 1)
    before_http_request(Request(), lambda: None).finish()
    CONFIG.legacy_peer_tags = True
    before_http_request(Request(), lambda: None).finish()
    legacy = {"peer.ipv4" if name == "peer.hostname" else name: value for name, value in TAGS.items()}
    assert [span["tags"] for span in spans()] == [{**TAGS, "own": 1}, TAGS, legacy]


def test_settings_name_the_headers_of_service_and_endpoint_at_call_time(spans: Spans) -> None:
    request = Request(svc="stock", op="count")
    before_http_request(request, lambda: None).finish()
    CONFIG.callee_name_headers, CONFIG.callee_endpoint_headers = ["absent", "svc"], ["op"]
    before_http_request(request, lambda: None).finish()
    assert spans() == [
        {"operation": "GET", "parent": None, "tags": TAGS},
        {"operation": "GET:count", "parent": None, "tags": {**TAGS, "peer.service": "stock"}},
    ]


def test_the_wrapper_of_a_hook_that_tells_next_to_nothing() -> None:
    bare = AbstractRequestWrapper()
    assert (bare._headers, bare.host_port, bare.service_name) == ({}, (None, None), None)
    assert bare.add_header("a", "b") is None  # type: ignore[func-returns-value]
    for name in ("method", "full_url", "operation"):
        with pytest.raises(NotImplementedError):
            getattr(bare, name)


def test_a_wrapper_with_an_operation_but_no_method_is_traced(spans: Spans) -> None:
    class Call(AbstractRequestWrapper):
        operation, full_url = "Stock.count", "tchannel://stock/count"  # type: ignore[assignment]

    before_http_request(Call(), lambda: None).finish()
    tags = {"span.kind": "client", "http.url": "tchannel://stock/count"}
    assert spans() == [{"operation": "Stock.count", "parent": None, "tags": tags}]


@pytest.mark.parametrize(
    ("text", "scheme", "expected"),
    [
        ("stock", "http", ("stock", 80)),
        ("stock", "https", ("stock", 443)),
        ("stock", "gopher", ("stock", 80)),
        ("stock:8080", "https", ("stock", 8080)),
        ("10.0.0.1:1", "http", ("10.0.0.1", 1)),
        ("[::1]:8080", "http", ("[::1]", 8080)),
        ("[::1]", "http", ("[::1]", 80)),
        ("stock:", "http", ("stock:", 80)),
        ("stock:http", "http", ("stock:http", 80)),
    ],
)
def test_split_host_and_port(text: str, scheme: str, expected: tuple[str, int]) -> None:
    assert split_host_and_port(text, scheme) == expected


def test_split_host_and_port_takes_http_for_granted() -> None:
    assert split_host_and_port("stock") == ("stock", 80)
    assert split_host_and_port(host_string="stock", scheme="https") == ("stock", 443)


HOSTS = st.text(string.ascii_letters + string.digits + ".-", min_size=1)


@given(host=HOSTS, port=st.integers(0, 65535), scheme=st.sampled_from(["http", "https"]))
def test_split_host_and_port_splits_what_was_joined(host: str, port: int, scheme: str) -> None:
    assert split_host_and_port(f"{host}:{port}", scheme) == (host, port)
    assert split_host_and_port(host, scheme) == (host, 443 if scheme == "https" else 80)


@given(text=st.text(), scheme=st.text())
def test_split_host_and_port_loses_nothing_of_any_text(text: str, scheme: str) -> None:
    host, port = split_host_and_port(text, scheme)
    assert host == text or (
        HOST_PORT_RE.match(text) and text.startswith(f"{host}:") and int(text[len(host) + 1 :]) == port
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://stock/x", ("stock", 80)),
        ("https://stock/x", ("stock", 443)),
        ("https://bob:pw@stock:8443/x", ("stock", 8443)),
        ("http://[::1]:8080/x", ("::1", 8080)),
        ("http://stock:99999/x", (None, None)),
        ("http://[::1/x", (None, None)),
    ],
)
def test_host_and_port_of_a_url(url: str, expected: Any) -> None:
    assert host_and_port(url) == expected


SECRET_NAMES = ["password", "PASSWORD", "user_password", "pwd", "token", "X-Api-Key", "client_secret", "sig", "code"]
WORDS = st.text(string.ascii_letters + string.digits + "-._~%", max_size=8)
NAMES = st.sampled_from(["page", "q", "sort", "id", *SECRET_NAMES])


@st.composite
def urls(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A URL, and the secrets in it."""
    secrets: list[str] = []

    def secret() -> str:
        secrets.append(f"s3cr3t{len(secrets)}{draw(WORDS)}")
        return secrets[-1]

    user_info = draw(st.sampled_from(["", "bob@", "bob:{}@", ":{}@"])).format(secret())
    query = [f"{name}={secret() if name in SECRET_NAMES else draw(WORDS)}" for name in draw(st.lists(NAMES))]
    path = "/".join(draw(st.lists(WORDS, max_size=3)))
    fragment = draw(st.sampled_from(["", "#top", f"#access_token={secret()}&page=2"]))
    separator = draw(st.sampled_from("&;"))
    return f"https://{user_info}stock.example:8443/{path}?{separator.join(query)}{fragment}", secrets


@given(drawn=urls())
def test_redact_url_removes_every_secret_and_is_idempotent(drawn: tuple[str, list[str]]) -> None:
    url, secrets = drawn
    patterns: Any = SETTINGS["secret_query_parameters"].default
    clean = redact_url(url, patterns)
    assert not [secret for secret in secrets if secret in clean]
    assert clean.startswith("https://stock.example:8443/")
    assert redact_url(clean, patterns) == clean


@given(url=st.text(string.ascii_lowercase + "/:.?&=#;%1", max_size=60))
@example(url="//a@b?c=d#e=f")
@example(url="http://h/?page=1&&sort=#top?x=1")
def test_redact_url_leaves_a_url_without_secrets_alone(url: str) -> None:
    if "@" not in url:
        assert redact_url(url, []) == url


def test_which_query_parameters_are_secret_is_a_setting(spans: Spans) -> None:
    CONFIG.secret_query_parameters = ["iban"]
    before_http_request(Request("http://stock.example/x?IBAN=DE01&token=t"), lambda: None).finish()
    assert spans()[0]["tags"]["http.url"] == "http://stock.example/x?IBAN=[redacted]&token=t"


def test_a_message_is_freed_from_the_secrets_of_its_urls_and_of_nothing_else() -> None:
    message = "no route to http://bob:pw@stock.example/x?page=2&token=t, url: /x;token=u (Caused by?)"
    clean = "no route to http://stock.example/x?page=2&token=[redacted] url: /x;token=[redacted] (Caused by?)"
    assert without_secrets(message) == clean
    assert without_secrets("mail to bob@example.com? page=2") == "mail to bob@example.com? page=2"


def test_with_the_default_tracer_nothing_is_tagged_and_nothing_sent() -> None:
    request = Request()
    assert before_http_request(request, get_current_span) is opentracing.tracer.start_span()
    assert request.added == {}
