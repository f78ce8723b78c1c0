"""What an AWS API call is about, by its parameters: the bucket, table, queue, topic or function, and nothing else.

Parameters are what the application wrote, before anything has checked them; of those of any other kind than expected
there is no tag, and botocore will say what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from opentracing.ext import tags as standard

#: Name of the bucket (OpenTelemetry semantic conventions, "AWS SDK attributes").
BUCKET = "aws.s3.bucket"
#: Name of the table or tables.
TABLE = "aws.dynamodb.table"
#: Name of the invoked function (OpenTelemetry semantic conventions, "Function as a service").
FUNCTION = "faas.invoked_name"

Params = Mapping[str, Any]
Tag = tuple[str, str]

_FUNCTION_NAME = re.compile(r"(?:.*function:)?([^:]*)")


def target_tag(service: str, params: Any) -> Tag | None:
    """Return the tag for what a call is about, as name and value, if there is one.

    Args:
        service: name of the service, as ``boto3.client`` takes it.
        params: the call's parameters.
    """
    find = _FINDERS.get(service)
    return None if find is None or not isinstance(params, dict) else find(params)


def _bucket(params: Params) -> Tag | None:
    bucket = params.get("Bucket")
    return (BUCKET, bucket) if isinstance(bucket, str) else None


def _table(params: Params) -> Tag | None:
    name = params.get("TableName")
    if isinstance(name, str):
        return TABLE, _last(name, "/") if "/" in name else name
    names = _tables_of(params.get("RequestItems")) | _tables_of_transaction(params.get("TransactItems"))
    return (TABLE, ",".join(sorted(names))) if names else None


def _tables_of(items: Any) -> set[str]:
    return {_last(name, "/") for name in items if isinstance(name, str)} if isinstance(items, dict) else set()


def _tables_of_transaction(items: Any) -> set[str]:
    if not isinstance(items, list | tuple):
        return set()
    actions = [action for item in items if isinstance(item, dict) for action in item.values()]
    names = [action.get("TableName") for action in actions if isinstance(action, dict)]
    return {_last(name, "/") for name in names if isinstance(name, str)}


def _queue(params: Params) -> Tag | None:
    name = params.get("QueueUrl") or params.get("QueueName")
    return (standard.MESSAGE_BUS_DESTINATION, _last(name, "/")) if isinstance(name, str) else None


def _topic(params: Params) -> Tag | None:
    name = params.get("TopicArn") or params.get("TargetArn") or params.get("Name")
    if not isinstance(name, str) or ":endpoint/" in name:  # the endpoint is somebody's telephone
        return None
    return standard.MESSAGE_BUS_DESTINATION, _last(name, ":")


def _function(params: Params) -> Tag | None:
    name = params.get("FunctionName")
    match = _FUNCTION_NAME.match(name) if isinstance(name, str) else None
    return (FUNCTION, match.group(1)) if match else None


def _last(name: str, separator: str) -> str:
    """Return the name at the end of a URL or ARN, or a name as it is."""
    return name.rpartition(separator)[2]


_FINDERS: Mapping[str, Callable[[Params], Tag | None]] = {
    "s3": _bucket,
    "dynamodb": _table,
    "sqs": _queue,
    "sns": _topic,
    "lambda": _function,
}
