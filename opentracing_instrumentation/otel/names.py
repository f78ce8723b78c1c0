"""Names of spans by OpenTelemetry's conventions, for the spans of hooks: ``SELECT orders``, ``GET``, ``publish queue``.

The names that hooks give follow OpenTracing's habit. They are recognised by their form together with their tags; any
other name was chosen by somebody who wants to find it again, and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from opentracing.ext import tags as standard

from .._core.statements import summarize

_Tags = Mapping[str, Any]
_Namer = Callable[[_Tags], str | None]

#: Tags of many different values that names follow from.
NAMING = (standard.DATABASE_STATEMENT, "sql", "redis.commands", standard.MESSAGE_BUS_DESTINATION)

_TRANSACTIONS = {
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "begin-trans": "BEGIN",
    "connect": "connect",
    "Connect": "connect",
}
_AWS_SERVICES = {"dynamodb": "DynamoDB", "lambda": "Lambda", "s3": "S3", "sns": "SNS", "sqs": "SQS"}
_AWS_MESSAGES = {
    "SendMessage": "send",
    "SendMessageBatch": "send",
    "Publish": "send",
    "PublishBatch": "send",
    "ReceiveMessage": "receive",
}


def span_name(operation: str, tags: _Tags) -> str:
    """Return the name by the conventions for a client's or server's span, or ``operation`` itself."""
    namer = _namer(operation)
    return (namer(tags) or operation) if namer is not None else operation


@lru_cache(maxsize=1024)
def _namer(operation: str) -> _Namer | None:
    """Return what names the spans that hooks call so, by their tags; ``None`` if no hook does."""
    first, colon, rest = operation.partition(":")
    if operation == "SQL" or operation.startswith("SQL "):
        return lambda tags: _of_statement(tags.get(standard.DATABASE_STATEMENT))
    if not colon:
        return None
    return _OF_HOOKS.get(first, _of_endpoint_or_statement)(first, rest)


def _of_statement(statement: Any) -> str | None:
    return summarize(statement).text if isinstance(statement, str) else None


def _of_redis(_: str, command: str) -> _Namer:
    if command == "MESSAGE":
        return _of_message

    def name(tags: _Tags) -> str:
        commands = tags.get("redis.commands")
        if isinstance(commands, str) and len(set(commands.split(", "))) == 1:
            return f"{command} {commands.partition(', ')[0]}"
        return command

    return name


def _of_message(tags: _Tags) -> str | None:
    destination = tags.get(standard.MESSAGE_BUS_DESTINATION)
    return f"process {destination}" if destination else None


def _of_aws(_: str, call: str) -> _Namer:
    method = call.rpartition(":")[2]

    def name(tags: _Tags) -> str | None:
        service, operation = tags.get("boto3.service_name"), tags.get("aws.operation") or method
        if not (isinstance(service, str) and isinstance(operation, str)):
            return None
        destination = tags.get(standard.MESSAGE_BUS_DESTINATION)
        if destination and operation in _AWS_MESSAGES:
            return f"{_AWS_MESSAGES[operation]} {destination}"
        return f"{_AWS_SERVICES.get(service, service)}.{operation}"

    return name


def _of_task(_: str, call: str) -> _Namer:
    doing, _, task = call.partition(":")
    verb = {"apply_async": "publish", "run": "process"}.get(doing)

    def name(tags: _Tags) -> str | None:
        return f"{verb} {task}" if verb and tags.get(standard.COMPONENT) == "Celery" else None

    return name


def _of_endpoint_or_statement(first: str, rest: str) -> _Namer:
    def name(tags: _Tags) -> str | None:
        if standard.HTTP_METHOD in tags:
            return f"{first} {rest}" if tags[standard.HTTP_METHOD] == first else None
        if rest in _TRANSACTIONS:
            return _TRANSACTIONS[rest]
        statement = tags.get("sql")
        if not isinstance(statement, str):
            return None
        if statement.startswith("sproc:"):
            return f"CALL {statement[6:]}"
        return summarize(statement).text

    return name


_OF_HOOKS: Mapping[str, Callable[[str, str], _Namer]] = {"redis": _of_redis, "boto3": _of_aws, "Celery": _of_task}
