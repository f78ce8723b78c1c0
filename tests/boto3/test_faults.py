"""Servers that refuse, hang, reset or fail: a span ends with what went wrong, and tells how often it was tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from opentracing.mocktracer import MockTracer

from tests.opentracing_instrumentation.loopback import Loopback
from tests.opentracing_instrumentation.told import Spans, failed, unused_port

from .told import ACCESS_KEY, SECRET_KEY, called

pytestmark = pytest.mark.usefixtures("patched", "impatient")

Make = Callable[..., Any]


class Nowhere:
    """Where nobody listens."""

    def __init__(self) -> None:
        self.port = unused_port()
        self.url = f"http://127.0.0.1:{self.port}"


def test_a_refused_connection(client: Make, tracer: MockTracer, spans: Spans) -> None:
    nowhere = Nowhere()
    with pytest.raises(EndpointConnectionError) as raised:
        client("s3", nowhere).list_buckets()
    assert spans() == [failed(called(nowhere, "s3", "ListBuckets"), raised.value)]


def test_a_timeout(client: Make, server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    with pytest.raises(ReadTimeoutError) as raised:
        client("s3", server, read_timeout=0.1).get_object(Bucket="hang", Key="k")
    assert spans() == [failed(called(server, "s3", "GetObject", **{"aws.s3.bucket": "hang"}), raised.value)]


def test_a_reset_connection_is_tried_again_in_the_same_span(
    client: Make, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    s3 = client("s3", server, retries={"total_max_attempts": 3})
    with pytest.raises(ConnectionClosedError) as raised:
        s3.get_object(Bucket="reset", Key="k")
    tags = {"aws.s3.bucket": "reset", "http.resend_count": 2}
    assert spans() == [failed(called(server, "s3", "GetObject", **tags), raised.value)]
    assert len(server.seen) == 3


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_retries_are_one_span_that_counts_them(
    client: Make, server: Loopback, tracer: MockTracer, spans: Spans, mode: str
) -> None:
    s3 = client("s3", server, retries={"total_max_attempts": 4, "mode": mode})
    response = s3.get_object(Bucket="flaky", Key="2")
    assert response["ResponseMetadata"]["RetryAttempts"] == 2
    tags = {"aws.s3.bucket": "flaky", "http.resend_count": 2}
    assert spans() == [called(server, "s3", "GetObject", response, **tags)]
    assert len(server.seen) == 3


def test_retries_that_do_not_help_are_counted_too(
    client: Make, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    s3 = client("s3", server, retries={"total_max_attempts": 2})
    with pytest.raises(ClientError) as raised:
        s3.get_object(Bucket="status", Key="500")
    response = raised.value.response
    assert response["ResponseMetadata"]["RetryAttempts"] == 1
    tags = {"aws.s3.bucket": "status", "http.resend_count": 1}
    assert spans() == [failed(called(server, "s3", "GetObject", response, **tags), raised.value)]


def test_a_call_inside_of_another_has_a_count_of_its_own(
    client: Make, server: Loopback, tracer: MockTracer, spans: Spans
) -> None:
    """As when credentials are fetched for a call."""
    inner = client("s3", server)
    outer = client("s3", server, retries={"total_max_attempts": 3})
    outer.meta.events.register("before-send.s3", lambda **_: inner.get_object(Bucket="inside", Key="k") and None)
    outer.get_object(Bucket="flaky", Key="1")
    assert [(span["tags"]["aws.s3.bucket"], span["tags"].get("http.resend_count")) for span in spans()] == [
        ("inside", None),
        ("inside", None),
        ("flaky", 1),
    ]


@pytest.mark.parametrize("signature", ["s3v4-query", "s3-query"])
def test_a_signature_in_the_url_is_in_no_span(client: Make, tracer: MockTracer, spans: Spans, signature: str) -> None:
    with pytest.raises(EndpointConnectionError, match="Signature=") as raised:
        client("s3", Nowhere(), signature_version=signature).get_object(Bucket="bucket", Key="key")
    (span,) = spans()
    (log,) = span["logs"]
    assert span["tags"]["error"] is True
    assert log["error.kind"] is type(raised.value)
    assert "/bucket/key?" in log["message"]
    secrets = [ACCESS_KEY, SECRET_KEY, str(raised.value).rpartition("Signature=")[2].strip('"')[:12]]
    assert [secret for secret in secrets if secret in repr(span)] == []


def test_credentials_are_in_no_span(client: Make, server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    client("s3", server).put_object(Bucket="status", Key="200", Body=b"hunter2", SSECustomerKey="x" * 32)
    assert b"hunter2" in server.seen[0].body
    assert ACCESS_KEY in server.seen[0].headers["authorization"]
    told = repr(spans())
    assert [word for word in (ACCESS_KEY, SECRET_KEY, "hunter2", "x" * 32) if word in told] == []
