"""Span contexts in the attributes of SQS and SNS messages, by which a trace goes on where a message is received.

A message that does not fit is refused by the service, and an SNS message with more attributes than SQS takes is lost on
its way to a queue. So the context travels only where there is room for it, and only in what the services accept for
names and values of attributes (Amazon SQS developer guide, "Message metadata" and "Message quotas").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import opentracing
from opentracing import Format, Span, UnsupportedFormatException

from .._core.safety import report

MOST_ATTRIBUTES = 10
MOST_BYTES = 256 * 1024  # of a message, or of a batch

#: The operations that send messages, with the parameter that holds a batch of them.
_SENDING: Mapping[tuple[str, str], str | None] = {
    ("sqs", "SendMessage"): None,
    ("sqs", "SendMessageBatch"): "Entries",
    ("sns", "Publish"): None,
    ("sns", "PublishBatch"): "PublishBatchRequestEntries",
}
_RECEIVING = ("sqs", "ReceiveMessage")

_NAME = re.compile(r"(?!aws\.|amazon\.)[\w-]+(?:\.[\w-]+)*", re.ASCII | re.IGNORECASE)


def propagate(span: Span, service: str, operation: str, params: dict[str, Any]) -> None:
    """Put the context of a span into the messages that a call sends, or have a call that receives ask for it.

    Args:
        span: the span of the call.
        service: name of the service, as ``boto3.client`` takes it.
        operation: name of the operation, as in the API's reference.
        params: the call's parameters. Values in it are replaced, never changed: they are the application's.
    """
    if (service, operation) == _RECEIVING:
        _ask(params, list(_carrier(span)))
    elif (service, operation) in _SENDING and "PhoneNumber" not in params:
        batch = _SENDING[service, operation]
        if batch is None:
            params.update(_with_context([params], span)[0])
        elif isinstance(params.get(batch), list):
            params[batch] = _with_context(params[batch], span)


def extract_context(message: Any) -> Any:
    """Return the span context that a received message brings, to be the parent or a reference of the span of its work.

    Args:
        message: a message as ``receive_message`` returns it; boto3's ``Message`` resource; a record of the event that a
            Lambda function gets from SQS or SNS. A message that SNS has put into a queue in its envelope is opened.

    Returns:
        the ``SpanContext``, or ``None`` if there is none or the tracer can't read it.
    """
    try:
        texts = {name: _text(value) for name, value in _attributes(message).items()}
        carrier = {name: text for name, text in texts.items() if text}
        return opentracing.tracer.extract(Format.TEXT_MAP, carrier) if carrier else None
    except (UnsupportedFormatException, opentracing.SpanContextCorruptedException):
        return None
    except Exception as error:
        report("extracting the span context from a message", error)
        return None


def _carrier(span: Span) -> dict[str, str]:
    carrier: dict[str, Any] = {}
    try:
        opentracing.tracer.inject(span.context, Format.TEXT_MAP, carrier)
    except UnsupportedFormatException:  # a tracer may well have no way to travel
        pass
    texts = {name: str(value) for name, value in carrier.items()}
    return {name: text for name, text in texts.items() if _NAME.fullmatch(name) and text and text.isprintable()}


def _ask(params: dict[str, Any], names: list[str]) -> None:
    asked = params.get("MessageAttributeNames") or []
    if isinstance(asked, list | tuple) and not {"All", ".*"} & set(asked):
        params["MessageAttributeNames"] = [*asked, *(name for name in names if name not in asked)]


def _with_context(messages: Sequence[Any], span: Span) -> list[Any]:
    """Return the messages with the span's context in those that have room, or all as they are."""
    ours = {name: {"DataType": "String", "StringValue": text} for name, text in _carrier(span).items()}
    if not ours or sum(map(_size, messages)) + len(messages) * _size({"MessageAttributes": ours}) > MOST_BYTES:
        return list(messages)
    return [_joined(message, ours) for message in messages]


def _joined(message: Any, ours: Mapping[str, Any]) -> Any:
    attributes = {**(message.get("MessageAttributes") or {}), **ours}
    return message if len(attributes) > MOST_ATTRIBUTES else {**message, "MessageAttributes": attributes}


def _size(message: Any) -> int:
    """Return how many bytes of a message count: its body and the names, types and values of its attributes."""
    size = len(str(message.get("MessageBody") or message.get("Message") or "").encode())
    for name, value in (message.get("MessageAttributes") or {}).items():
        size += len(name.encode())
        size += sum(len(part if isinstance(part, bytes) else str(part).encode()) for part in value.values())
    return size


def _attributes(message: Any) -> Mapping[str, Any]:
    if not isinstance(message, Mapping):
        message = {"MessageAttributes": message.message_attributes, "Body": message.body}
    message = message.get("Sns", message)
    attributes = message.get("MessageAttributes") or message.get("messageAttributes")
    return attributes or _enveloped(message.get("Body") or message.get("body"))


def _enveloped(body: Any) -> Mapping[str, Any]:
    """Return the attributes of the message in an SNS notification, as a queue gets it without raw delivery."""
    if not isinstance(body, str) or '"Notification"' not in body:
        return {}
    try:
        return json.loads(body).get("MessageAttributes") or {}
    except (ValueError, AttributeError):
        return {}


def _text(attribute: Mapping[str, Any]) -> str:
    """Return the value of an attribute: SQS, the event of a Lambda function and SNS each have a name of their own."""
    return str(attribute.get("StringValue") or attribute.get("stringValue") or attribute.get("Value") or "")
