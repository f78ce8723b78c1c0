"""aiobotocore: the same spans, of calls that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError, EndpointConnectionError
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import boto3 as hook
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.loopback import Loopback
from tests.opentracing_instrumentation.told import Spans, failed, unused_port
from tests.services import Service

from .told import called

pytestmark = pytest.mark.usefixtures("patched")

Run = Callable[..., Any]


@pytest.fixture
def run(options: dict[str, Any]) -> Run:
    """The function that calls an asynchronous function with a client: of a service, at a server."""

    def run(service: str, at: Any, function: Callable[[Any], Awaitable[Any]], attempts: int = 1) -> Any:
        async def main() -> Any:
            config = AioConfig(retries={"total_max_attempts": attempts}, s3={"addressing_style": "path"})
            made = get_session().create_client(service, endpoint_url=at.url, config=config, **options)
            async with made as client:
                return await function(client)

        return asyncio.run(main())

    return run


def test_a_call_is_a_span_below_the_current_one(
    run: Run, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    async def put(s3: Any) -> Any:
        with tracer.start_active_span("work"):
            response = await s3.put_object(Bucket=bucket, Key="k", Body=b"")
            assert tracer.active_span.operation_name == "work"
        return response

    response = run("s3", moto, put)
    assert spans() == [
        called(moto, "s3", "PutObject", response, parent="work", **{"aws.s3.bucket": bucket}),
        {"operation": "work", "parent": None, "tags": {}},
    ]


def test_an_error_of_the_service_is_told(run: Run, moto: Service, name: str, tracer: MockTracer, spans: Spans) -> None:
    with pytest.raises(ClientError) as raised:
        run("dynamodb", moto, lambda dynamodb: dynamodb.describe_table(TableName=name))
    tags = {"aws.dynamodb.table": name}
    assert spans() == [failed(called(moto, "dynamodb", "DescribeTable", raised.value.response, **tags), raised.value)]


def test_retries_are_one_span_that_counts_them(
    run: Run, tracer: MockTracer, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(_: float) -> None:
        pass

    monkeypatch.setattr("aiobotocore.endpoint.asyncio.sleep", at_once)
    nowhere = type("Nowhere", (), {"port": unused_port()})
    nowhere.url = f"http://127.0.0.1:{nowhere.port}"
    with pytest.raises(EndpointConnectionError) as raised:
        run("s3", nowhere, lambda s3: s3.list_buckets(), attempts=3)
    assert spans() == [failed(called(nowhere, "s3", "ListBuckets", **{"http.resend_count": 2}), raised.value)]


def test_a_cancelled_call_ends_its_span(run: Run, server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    async def cancel(s3: Any) -> None:
        await asyncio.wait_for(s3.get_object(Bucket="hang", Key="k"), 0.2)

    with pytest.raises(asyncio.TimeoutError):
        run("s3", server, cancel)
    (span,) = spans()
    assert span["operation"] == "boto3:client:s3:get_object"
    assert span["tags"]["error"] is True
    assert span["logs"][0]["error.kind"] is asyncio.CancelledError


def test_calls_at_the_same_time_have_parents_of_their_own(
    run: Run, moto: Service, tracer: MockTracer, spans: Spans
) -> None:
    async def many(s3: Any) -> None:
        async def work(number: int) -> None:
            with tracer.start_active_span(f"work {number}"):
                await s3.list_buckets()

        await asyncio.gather(*map(work, range(20)))

    run("s3", moto, many)
    parents = sorted(span["parent"] for span in spans() if span["parent"])
    assert parents == sorted(f"work {number}" for number in range(20))


def test_messages_bring_the_context(run: Run, moto: Service, queue: str, tracer: MockTracer) -> None:
    CONFIG.aws_propagation = True

    async def there_and_back(sqs: Any) -> Any:
        await sqs.send_message(QueueUrl=queue, MessageBody="text")
        return (await sqs.receive_message(QueueUrl=queue))["Messages"]

    (message,) = run("sqs", moto, there_and_back)
    sender = tracer.finished_spans()[0].context
    assert hook.extract_context(message).span_id == sender.span_id


def test_clients_of_before_are_traced_while_patched_and_no_longer(
    run: Run, moto: Service, tracer: MockTracer, spans: Spans
) -> None:
    hook.reset_patches()

    async def calls(s3: Any) -> None:
        await s3.list_buckets()
        hook.install_patches()
        await s3.list_buckets()
        hook.reset_patches()
        await s3.list_buckets()

    run("s3", moto, calls)
    assert [span["operation"] for span in spans()] == ["boto3:client:s3:list_buckets"]
