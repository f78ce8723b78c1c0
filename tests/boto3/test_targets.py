"""What a call is about, told by parameters of every kind: names, ARNs, URLs, batches and nonsense."""

from __future__ import annotations

from typing import Any

import pytest

from opentracing_instrumentation.client_hooks._aws_targets import target_tag

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"
ARN = "arn:aws:{}:eu-west-1:123456789012:{}"


@pytest.mark.parametrize(
    ("service", "params", "expected"),
    [
        ("s3", {"Bucket": "b", "Key": "k"}, {"aws.s3.bucket": "b"}),
        ("s3", {}, {}),
        ("s3", {"Bucket": 7}, {}),
        ("dynamodb", {"TableName": "users"}, {"aws.dynamodb.table": "users"}),
        ("dynamodb", {"TableName": ARN.format("dynamodb", "table/users")}, {"aws.dynamodb.table": "users"}),
        ("dynamodb", {"RequestItems": {"users": [], "carts": []}}, {"aws.dynamodb.table": "carts,users"}),
        (
            "dynamodb",
            {"TransactItems": [{"Put": {"TableName": "users"}}, {"Delete": {"TableName": "carts"}}]},
            {"aws.dynamodb.table": "carts,users"},
        ),
        ("dynamodb", {"RequestItems": [1], "TransactItems": [None, {"Put": 1}, {"Put": {"TableName": 1}}]}, {}),
        ("dynamodb", {"RequestItems": {1: []}, "TransactItems": 1}, {}),
        ("sqs", {"QueueUrl": QUEUE}, {"message_bus.destination": "orders"}),
        ("sqs", {"QueueName": "orders"}, {"message_bus.destination": "orders"}),
        ("sqs", {"QueueUrl": None}, {}),
        ("sns", {"TopicArn": ARN.format("sns", "news")}, {"message_bus.destination": "news"}),
        ("sns", {"TargetArn": ARN.format("sns", "news")}, {"message_bus.destination": "news"}),
        ("sns", {"TargetArn": ARN.format("sns", "endpoint/GCM/app/5e3e9847")}, {}),
        ("sns", {"Name": "news"}, {"message_bus.destination": "news"}),
        ("sns", {"PhoneNumber": "+15555550100"}, {}),
        ("lambda", {"FunctionName": "resize"}, {"faas.invoked_name": "resize"}),
        ("lambda", {"FunctionName": "resize:live"}, {"faas.invoked_name": "resize"}),
        ("lambda", {"FunctionName": "123456789012:function:resize"}, {"faas.invoked_name": "resize"}),
        ("lambda", {"FunctionName": ARN.format("lambda", "function:resize:7")}, {"faas.invoked_name": "resize"}),
        ("lambda", {"FunctionName": 7}, {}),
        ("kms", {"KeyId": "k"}, {}),
        ("s3", None, {}),
    ],
)
def test_a_call_is_tagged_with_what_it_is_about(service: str, params: Any, expected: dict[str, str]) -> None:
    tag = target_tag(service, params)
    assert dict([tag] if tag else []) == expected
