"""AWS: a call of boto3's client, from its parameters to the parsing of a response that is canned below botocore."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from .cases import Hook


class Boto3(Hook):
    """An item read from DynamoDB."""

    name, ratio, idle = "boto3", 0.2, 2
    hook, instrumentor = "boto3", "botocore:BotocoreInstrumentor"

    def __init__(self, stack: ExitStack) -> None:
        import boto3
        from botocore.awsrequest import AWSResponse

        class Answer(AWSResponse):
            content = b'{"Item": {"id": {"S": "42"}}}'

        def answer(request: Any, **_: Any) -> AWSResponse:
            return Answer(request.url, 200, {"x-amzn-RequestId": "5b8aa5a2d2c872e8"}, None)

        client: Any = boto3.client(
            "dynamodb", region_name="eu-west-1", aws_access_key_id="key", aws_secret_access_key="secret"
        )
        client.meta.events.register("before-send.dynamodb", answer)
        stack.callback(client.close)
        self.call = lambda: client.get_item(TableName="articles", Key={"id": {"S": "42"}})
