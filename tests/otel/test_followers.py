"""What code written for OpenTelemetry's instrumentors asks for: functions that are shown calls, and URLs left out."""

from __future__ import annotations

import asyncio
import logging
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import HTTPError

import boto3
import botocore.exceptions
import pytest
import redis
import redis.asyncio
import requests
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentracing.mocktracer import MockTracer
from tornado.httpclient import HTTPClientError
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from opentracing_instrumentation.client_hooks import requests as requests_hook
from opentracing_instrumentation.client_hooks import strict_redis
from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.otel.instrumentors import (
    BotocoreInstrumentor,
    Instrumentor,
    RedisInstrumentor,
    RequestsInstrumentor,
    TornadoInstrumentor,
    URLLibInstrumentor,
)
from tests.opentracing_instrumentation.conftest import _server, server  # noqa: F401 - the fixtures
from tests.opentracing_instrumentation.loopback import Loopback
from tests.services import Service

Seen = list[tuple[Any, ...]]


@pytest.fixture
def instrument(tracer: Tracer) -> Iterator[Callable[..., None]]:
    """The function that calls ``instrument`` of an instrumentor, which is undone after the test."""
    used: list[Instrumentor] = []

    def instrument(kind: type[Instrumentor], **options: Any) -> None:
        used.append(kind())
        used[-1].instrument(**options)

    yield instrument
    for instrumentor in used:
        instrumentor.uninstrument()


@pytest.fixture
def seen() -> Seen:
    """What functions made by :func:`noting` were called with, behind the span."""
    return []


def noting(seen: Seen) -> Callable[..., None]:
    def note(span: Any, *told: Any) -> None:
        assert span.is_recording()
        span.set_attribute("noted", len(seen))
        seen.append(told)

    return note


def both(seen: Seen, prefix: str = "") -> dict[str, Callable[..., None]]:
    return {f"{prefix}request_hook": noting(seen), f"{prefix}response_hook": noting(seen)}


def test_requests(instrument: Any, seen: Seen, server: Loopback, exporter: InMemorySpanExporter) -> None:  # noqa: F811
    """Request and response are shown; of a request that fails, the response of the error, if it has one."""
    instrument(RequestsInstrumentor, **both(seen))
    with requests.Session() as session:
        response = session.get(f"{server.url}/status/404")
        with pytest.raises(requests.ConnectionError):
            session.get("http://127.0.0.1:1/")
    ((first,), (second, answer), (third,), (fourth, none)) = seen
    assert first is second is response.request
    assert answer is response
    assert third is fourth
    assert none is None
    spans = exporter.get_finished_spans()
    assert [span.attributes["noted"] for span in spans] == [1, 3]
    assert spans[0].attributes["http.response.status_code"] == 404
    assert [event.name for event in spans[1].events] == ["exception"]


def test_urllib(instrument: Any, seen: Seen, server: Loopback, exporter: InMemorySpanExporter) -> None:  # noqa: F811
    """The request and what the handler returned, each hop of a redirect by itself."""
    instrument(URLLibInstrumentor, **both(seen))
    request = urllib.request.Request(f"{server.url}/redirect/1")
    with urllib.request.urlopen(request) as response:
        assert response.status == 200
    with pytest.raises(HTTPError) as raised:
        urllib.request.urlopen(f"{server.url}/status/404")
    raised.value.close()
    assert [told[0].full_url.removeprefix(server.url) for told in seen] == [
        *("/redirect/1", "/redirect/1", "/", "/"),
        *("/status/404", "/status/404"),
    ]
    assert seen[0] == (request,)
    assert [told[1].code for told in seen[1::2]] == [302, 200, 404]
    assert len(exporter.get_finished_spans()) == 3


def test_tornado(instrument: Any, seen: Seen, server: Loopback, exporter: InMemorySpanExporter) -> None:  # noqa: F811
    """The request, and a future that is done."""
    instrument(TornadoInstrumentor, **both(seen, "client_"))

    async def fetch() -> Any:
        client = SimpleAsyncHTTPClient(force_instance=True)
        try:
            answer = await client.fetch(f"{server.url}/")
            with pytest.raises(HTTPClientError):
                await client.fetch(f"{server.url}/status/500")
        finally:
            client.close()
        return answer

    answer = asyncio.run(fetch())
    ((request,), (future,), _, (failed,)) = seen
    assert request.url == f"{server.url}/"
    assert future.result() is answer
    assert failed.exception().code == 500
    assert [span.attributes["noted"] for span in exporter.get_finished_spans()] == [1, 3]


def test_redis(instrument: Any, seen: Seen, service: Callable[[str], Service], exporter: InMemorySpanExporter) -> None:
    """Client, arguments and response, of commands and pipelines, blocking and not; what was set on the hook holds."""
    strict_redis.patcher.tag_keys = False
    instrument(RedisInstrumentor, **both(seen))
    at = service("redis")
    options = {"host": at.host, "port": at.port, "password": at.password, "db": 5, "decode_responses": True}
    with redis.Redis(**options) as client:
        assert client.set("followers", "1", ex=9)
        with pytest.raises(redis.ResponseError):
            client.lpush("followers", "x")
        pipeline = client.pipeline().get("followers")
        assert pipeline.execute() == ["1"]

    async def get() -> Any:
        async with redis.asyncio.Redis(**options) as other:
            return await other.get("followers")

    assert asyncio.run(get()) == "1"
    strict_redis.patcher.tag_keys = True
    assert seen[:6] == [
        (client, ("SET", "followers", "1", "EX", 9), {}),
        (client, True),
        (client, ("LPUSH", "followers", "x"), {}),
        (client, None),
        (pipeline, (), {}),
        (pipeline, ["1"]),
    ]
    assert [told[1] for told in seen[6:]] == [("GET", "followers"), "1"]
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["SET", "LPUSH", "MULTI GET", "GET"]
    assert all("redis.key" not in span.attributes for span in spans)


def test_botocore(
    instrument: Any, seen: Seen, service: Callable[[str], Service], exporter: InMemorySpanExporter
) -> None:
    """Service, operation, parameters and result; an error's response is a result."""
    instrument(BotocoreInstrumentor, **both(seen))
    secrets = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client: Any = boto3.client("sqs", region_name="eu-west-1", endpoint_url=service("moto").url, **secrets)
    result = client.list_queues(QueueNamePrefix="followers")
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        client.get_queue_url(QueueName="followers-none")
    client.close()
    assert seen == [
        ("sqs", "ListQueues", {"QueueNamePrefix": "followers"}),
        ("sqs", "ListQueues", result),
        ("sqs", "GetQueueUrl", {"QueueName": "followers-none"}),
        ("sqs", "GetQueueUrl", raised.value.response),
    ]
    assert [span.attributes["noted"] for span in exporter.get_finished_spans()] == [1, 3]


def test_functions_that_fail(
    instrument: Any,
    server: Loopback,  # noqa: F811
    lenient: None,
    caplog: pytest.LogCaptureFixture,
    exporter: InMemorySpanExporter,
) -> None:
    """The call goes on; that is reported once for each."""

    def fail(*_: Any) -> None:
        raise LookupError("in a function of the user's")

    instrument(RequestsInstrumentor, request_hook=fail, response_hook=fail)
    with requests.Session() as session:
        assert [session.get(server.url).status_code for _ in range(2)] == [200, 200]
    assert [record.getMessage().partition(" failed")[0] for record in caplog.records] == [
        "RequestsInstrumentor: the function for requests",
        "RequestsInstrumentor: the function for responses",
    ]
    assert len(exporter.get_finished_spans()) == 2


@pytest.mark.parametrize(
    ("options", "environment", "traced"),
    [
        ({"excluded_urls": "/health, status/20[0-4]"}, {}, ["/", "/status/404"]),
        ({}, {"OTEL_PYTHON_EXCLUDED_URLS": "status"}, ["/", "/health"]),
        (
            {},
            {"OTEL_PYTHON_EXCLUDED_URLS": "status", "OTEL_PYTHON_REQUESTS_EXCLUDED_URLS": "health"},
            ["/", "/status/404", "/status/204"],
        ),
        ({"excluded_urls": ""}, {"OTEL_PYTHON_EXCLUDED_URLS": "."}, ["/", "/health", "/status/404", "/status/204"]),
    ],
)
def test_excluded_urls(
    instrument: Any,
    server: Loopback,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    exporter: InMemorySpanExporter,
    options: dict[str, Any],
    environment: dict[str, str],
    traced: list[str],
) -> None:
    """Requests for them have no span and take no context along."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    instrument(RequestsInstrumentor, **options)
    with requests.Session() as session:
        for path in "/", "/health", "/status/404", "/status/204":
            session.get(server.url + path)
    urls = [str(span.attributes["url.full"]) for span in exporter.get_finished_spans()]
    assert urls == [server.url + path for path in traced]
    assert [seen.path for seen in server.seen if "traceparent" in seen.headers] == traced


def test_excluded_urls_of_urllib(instrument: Any, server: Loopback, exporter: InMemorySpanExporter) -> None:  # noqa: F811
    """Neither of the two places that a request passes makes a span."""
    instrument(URLLibInstrumentor, excluded_urls="health")
    for path in "/", "/health":
        with urllib.request.urlopen(server.url + path) as response:
            assert response.status == 200
    assert [span.attributes["url.full"] for span in exporter.get_finished_spans()] == [f"{server.url}/"]


@pytest.mark.parametrize("options", [{"excluded_urls": "["}, {"excluded_urls": ["a"]}])
def test_patterns_that_are_none(options: dict[str, Any]) -> None:
    """They are refused at once, by their name; nothing is installed."""
    with pytest.raises(ValueError, match=r"^excluded_urls=.*: accepted are regular expressions with commas between"):
        RequestsInstrumentor().instrument(**options)
    assert not RequestsInstrumentor().is_instrumented_by_opentelemetry


def test_a_function_that_is_none() -> None:
    """It is refused at once."""
    with pytest.raises(TypeError, match=r"^request_hook='x': accepted is a function$"):
        RequestsInstrumentor().instrument(request_hook="x")


def test_once_more_and_back(
    instrument: Any,
    server: Loopback,  # noqa: F811
    seen: Seen,
    exporter: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was asked for last is in force, without what was before; a hook that is turned off is as it was."""
    others: Seen = []
    original = requests.adapters.HTTPAdapter.send
    instrument(RequestsInstrumentor, **both(others))
    with caplog.at_level(logging.WARNING):
        instrument(RequestsInstrumentor, request_hook=noting(seen), tracer_provider=None)
    assert caplog.records == []
    with requests.Session() as session:
        session.get(server.url)
        assert (len(others), len(seen), len(exporter.get_finished_spans())) == (0, 1, 1)
        RequestsInstrumentor().uninstrument()
        assert requests.adapters.HTTPAdapter.send is original
        requests_hook.install_patches()
        session.get(server.url)
    assert (len(others), len(seen), len(exporter.get_finished_spans())) == (0, 1, 2)


def test_another_tracer(
    instrument: Any,
    server: Loopback,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tracer: Tracer,
) -> None:
    """Its spans are not OpenTelemetry's: functions get an invalid one, of which nothing is kept."""
    valid = []
    instrument(RequestsInstrumentor, request_hook=lambda span, _: valid.append(span.get_span_context().is_valid))
    monkeypatch.setattr("opentracing.tracer", other := MockTracer())
    with requests.Session() as session:
        session.get(server.url)
    assert valid == [False]
    assert len(other.finished_spans()) == 1
