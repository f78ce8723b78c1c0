"""Calls of clients and actions of resources, against moto's server: one span each, whoever makes the call."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import opentracing
import pytest
import requests
from botocore.exceptions import ClientError, WaiterError
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers import ThreadLocalScopeManager

from opentracing_instrumentation.client_hooks import boto3 as hook
from opentracing_instrumentation.client_hooks import set_current_span_func
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans, failed
from tests.services import Service

from .told import acted, called

pytestmark = pytest.mark.usefixtures("patched")

Make = Callable[..., Any]


def test_a_call_is_a_span_below_the_current_one(
    client: Make, moto: Service, table: str, tracer: MockTracer, spans: Spans
) -> None:
    dynamodb = client("dynamodb", moto)
    with tracer.start_active_span("work"):
        put = dynamodb.put_item(TableName=table, Item={"id": {"S": "a"}})
    assert spans() == [
        called(moto, "dynamodb", "PutItem", put, parent="work", **{"aws.dynamodb.table": table}),
        {"operation": "work", "parent": None, "tags": {}},
    ]


def test_an_error_of_the_service_is_told_with_its_request_id(
    client: Make, moto: Service, name: str, tracer: MockTracer, spans: Spans
) -> None:
    with pytest.raises(ClientError) as raised:
        client("dynamodb", moto).describe_table(TableName=name)
    tags = {"aws.dynamodb.table": name}
    assert spans() == [failed(called(moto, "dynamodb", "DescribeTable", raised.value.response, **tags), raised.value)]
    assert spans()[0]["tags"]["http.status_code"] == 400
    assert spans()[0]["tags"]["aws.request_id"]


def test_an_action_of_a_resource_is_a_span_with_the_call_below(
    resource: Make, moto: Service, table: str, tracer: MockTracer, spans: Spans
) -> None:
    users = resource("dynamodb", moto).Table(table)
    put = users.put_item(Item={"id": "a", "name": "Jane"})
    tags = {"aws.dynamodb.table": table}
    assert spans() == [
        called(moto, "dynamodb", "PutItem", put, parent="boto3:resource:dynamodb:put_item", **tags),
        acted(moto, "dynamodb", "PutItem", put),
    ]


def test_an_action_without_a_response_has_no_request_id(
    resource: Make, moto: Service, table: str, tracer: MockTracer, spans: Spans
) -> None:
    assert resource("dynamodb", moto).Table(table).creation_date_time
    assert spans()[1:] == [acted(moto, "dynamodb", "DescribeTable")]


def test_a_failed_action_tells_the_error_on_both_spans(
    resource: Make, moto: Service, name: str, tracer: MockTracer, spans: Spans
) -> None:
    with pytest.raises(ClientError) as raised:
        resource("dynamodb", moto).Table(name).delete_item(Key={"id": "a"})
    response, parent = raised.value.response, "boto3:resource:dynamodb:delete_item"
    below = called(moto, "dynamodb", "DeleteItem", response, parent=parent, **{"aws.dynamodb.table": name})
    assert spans() == [
        failed(below, raised.value),
        failed(acted(moto, "dynamodb", "DeleteItem", response), raised.value),
    ]


def test_the_span_is_current_while_the_call_is_made(
    client: Make, moto: Service, tracer: MockTracer, spans: Spans
) -> None:
    s3 = client("s3", moto)
    seen = []
    s3.meta.events.register("before-send.s3", lambda **_: seen.append(tracer.active_span.operation_name))
    s3.list_buckets()
    assert seen == ["boto3:client:s3:list_buckets"]
    assert tracer.active_span is None


def test_each_page_is_a_span(client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans) -> None:
    s3 = client("s3", moto)
    for key in "abc":
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2}))
    assert spans()[3:] == [called(moto, "s3", "ListObjectsV2", page, **{"aws.s3.bucket": bucket}) for page in pages]
    assert len(pages) == 2


def test_each_question_of_a_waiter_is_a_span(
    client: Make, moto: Service, name: str, tracer: MockTracer, spans: Spans
) -> None:
    waiter = client("s3", moto).get_waiter("bucket_exists")
    with pytest.raises(WaiterError) as raised:
        waiter.wait(Bucket=name, WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    *_, last = spans()
    error = last.pop("logs")[0]["error.object"]
    tags = {"aws.s3.bucket": name, "error": True}
    assert last == called(moto, "s3", "HeadBucket", raised.value.last_response, **tags)
    assert error.response == raised.value.last_response
    assert len(spans()) == 2


def test_a_presigned_url_is_no_span(client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans) -> None:
    s3 = client("s3", moto)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    s3.generate_presigned_post(Bucket=bucket, Key="k")
    assert spans() == []
    assert requests.get(url).status_code == 404


def test_a_streaming_body_is_read_after_the_span(
    client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    s3 = client("s3", moto)
    s3.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(b"content"))
    got = s3.get_object(Bucket=bucket, Key="k")
    assert spans()[-1] == called(moto, "s3", "GetObject", got, **{"aws.s3.bucket": bucket})
    assert got["Body"].read() == b"content"


def test_the_name_of_a_queue_is_tagged(
    client: Make, moto: Service, queue: str, name: str, tracer: MockTracer, spans: Spans
) -> None:
    sent = client("sqs", moto).send_message(QueueUrl=queue, MessageBody="text")
    assert spans() == [called(moto, "sqs", "SendMessage", sent, **{"message_bus.destination": name})]


def test_the_name_of_a_topic_is_tagged(
    client: Make, moto: Service, name: str, tracer: MockTracer, spans: Spans
) -> None:
    sns = client("sns", moto)
    made = sns.create_topic(Name=name)
    published = sns.publish(TopicArn=made["TopicArn"], Message="text")
    tags = {"message_bus.destination": name}
    assert spans() == [
        called(moto, "sns", "CreateTopic", made, **tags),
        called(moto, "sns", "Publish", published, **tags),
    ]


@pytest.fixture
def function(client: Make, moto: Service, name: str) -> Iterator[str]:
    """The name of a function that moto pretends to run."""
    settings = f"{moto.url}/moto-api/config"
    before = requests.get(settings).json()
    requests.post(settings, json={"lambda": {"use_docker": False}}).raise_for_status()
    role = client("iam", moto).create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({}))["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("main.py", "def handler(event, context): return event")
    client("lambda", moto).create_function(
        FunctionName=name, Runtime="python3.12", Role=role, Handler="main.handler", Code={"ZipFile": code.getvalue()}
    )
    yield name
    requests.post(settings, json={"lambda": before["lambda"]}).raise_for_status()


def test_the_name_of_a_function_is_tagged(
    client: Make, moto: Service, function: str, tracer: MockTracer, spans: Spans
) -> None:
    invoked = client("lambda", moto).invoke(FunctionName=function, Payload=b"{}")
    assert spans() == [called(moto, "lambda", "Invoke", invoked, **{"faas.invoked_name": function})]


def test_clients_and_resources_of_before_are_traced_while_patched_and_no_longer(
    client: Make, resource: Make, moto: Service, table: str, tracer: MockTracer, spans: Spans
) -> None:
    hook.reset_patches()
    old, old_table = client("dynamodb", moto), resource("dynamodb", moto).Table(table)
    get = old.get_item
    hook.install_patches()
    new, new_table = client("dynamodb", moto), resource("dynamodb", moto).Table(table)

    def call_all() -> None:
        get(TableName=table, Key={"id": {"S": "a"}})
        new.get_item(TableName=table, Key={"id": {"S": "a"}})
        old_table.get_item(Key={"id": "a"})
        new_table.get_item(Key={"id": "a"})

    call_all()
    call, action = "boto3:client:dynamodb:get_item", "boto3:resource:dynamodb:get_item"
    assert [span["operation"] for span in spans()] == [call, call, call, action, call, action]
    hook.reset_patches()
    call_all()
    assert len(spans()) == 6


def test_the_parent_is_the_one_of_set_current_span_func(
    client: Make, moto: Service, tracer: MockTracer, spans: Spans
) -> None:
    request = tracer.start_span("request")
    set_current_span_func(lambda: request)
    client("s3", moto).list_buckets()
    request.finish()
    assert spans()[0]["parent"] == "request"


@pytest.mark.parametrize("manager", [ThreadLocalScopeManager, None], ids=["threads", "no tracer"])
def test_any_scope_manager_will_do(client: Make, moto: Service, manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = MockTracer(manager()) if manager else opentracing.Tracer()
    monkeypatch.setattr(opentracing, "tracer", tracer)
    assert "Buckets" in client("s3", moto).list_buckets()
    if manager:
        assert [span.operation_name for span in tracer.finished_spans()] == ["boto3:client:s3:list_buckets"]


def test_wrong_parameters_are_told_without_their_values(
    client: Make, moto: Service, tracer: MockTracer, spans: Spans
) -> None:
    dynamodb = client("dynamodb", moto)
    with pytest.raises(Exception, match="hunter2") as raised:
        dynamodb.get_item(TableName="t", Key="hunter2")
    tags = {"aws.dynamodb.table": "t", "error": True}
    log = {"event": "error", "message": "Parameter validation failed", "error.kind": type(raised.value)}
    assert spans() == [{**called(moto, "dynamodb", "GetItem", **tags), "logs": [log]}]


def test_a_positional_argument_gets_botocores_own_error(client: Make, moto: Service, spans: Spans) -> None:
    with pytest.raises(TypeError, match="only accepts keyword arguments"):
        client("s3", moto).list_objects("bucket")
    assert spans() == []


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_the_endpoint_of_aws_is_the_peer(region: str, tracer: MockTracer, spans: Spans) -> None:
    kms = boto3.client("kms", region_name=region, aws_access_key_id="a", aws_secret_access_key="b")
    kms.meta.events.register("before-call.kms", lambda **_: (_Accepted, {"ResponseMetadata": {}}))
    kms.list_keys()
    (span,) = spans()
    tags = span["tags"]
    assert (tags["cloud.region"], tags["peer.hostname"], tags["peer.port"]) == (
        region,
        f"kms.{region}.amazonaws.com",
        443,
    )


class _Accepted:
    status_code = 200


def test_legacy_peer_tags(client: Make, moto: Service, tracer: MockTracer, spans: Spans) -> None:
    s3 = client("s3", type("Named", (), {"url": f"http://localhost:{moto.port}"}))
    for legacy in False, True, False:
        CONFIG.legacy_peer_tags = legacy
        s3.list_buckets()
    names = ["peer.hostname", "peer.ipv4", "peer.hostname"]
    assert [span["tags"][name] for span, name in zip(spans(), names, strict=True)] == ["localhost"] * 3


def test_threads_do_not_mix_up_their_parents(client: Make, moto: Service, tracer: MockTracer, spans: Spans) -> None:
    s3 = client("s3", moto)

    def work(number: int) -> None:
        with tracer.start_active_span(f"work {number}"):
            for _ in range(5):
                s3.list_buckets()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parents = sorted(span["parent"] for span in spans() if span["parent"])
    assert parents == sorted(f"work {number}" for number in range(8) for _ in range(5))


def test_a_request_id_is_tagged_by_what_a_subclass_says(client: Make, moto: Service, spans: Spans) -> None:
    class Quiet(hook.Boto3Patcher):
        @staticmethod
        def set_request_id_tag(span: Any, response: Any) -> None:
            span.set_tag("status", response["ResponseMetadata"]["HTTPStatusCode"])

    ours = hook.patcher
    hook.set_patcher(Quiet())
    try:
        client("s3", moto).list_buckets()
    finally:
        hook.set_patcher(ours)
    assert spans() == [called(moto, "s3", "ListBuckets", **{"status": 200, "http.status_code": 200})]


def test_perform_call_makes_a_span_of_any_function(tracer: MockTracer, spans: Spans) -> None:
    response = {"ResponseMetadata": {"RequestId": "7", "HTTPStatusCode": 200}}

    def function(number: int, *, word: str) -> Any:
        assert tracer.active_span.operation_name == "boto3:client:glacier:fetch"
        return {**response, "got": (number, word)}

    result = hook.patcher.perform_call(function, "client", "glacier", "fetch", 1, word="x")
    assert result == {**response, "got": (1, "x")}
    tags = {"span.kind": "client", "component": "boto3", "boto3.service_name": "glacier", "aws.operation": "fetch"}
    told = {**tags, "aws.request_id": "7", "http.status_code": 200}
    assert spans() == [{"operation": "boto3:client:glacier:fetch", "parent": None, "tags": told}]
