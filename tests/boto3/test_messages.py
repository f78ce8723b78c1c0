"""Span contexts in SQS and SNS messages: they travel when that is switched on, where there is room, and never harm."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import opentracing
import pytest
from opentracing import Format
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers.contextvars import ContextVarsScopeManager

from opentracing_instrumentation.client_hooks.boto3 import extract_context
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service

pytestmark = pytest.mark.usefixtures("patched")

Make = Callable[..., Any]
OURS = ["ot-tracer-spanid", "ot-tracer-traceid"]


@pytest.fixture
def propagating() -> None:
    CONFIG.aws_propagation = True


@pytest.fixture
def sqs(client: Make, moto: Service) -> Any:
    return client("sqs", moto)


def attributes(count: int) -> dict[str, Any]:
    return {f"name-{number}": {"DataType": "String", "StringValue": "text"} for number in range(count)}


def received(sqs: Any, queue: str, **options: Any) -> Any:
    (message,) = sqs.receive_message(QueueUrl=queue, **options)["Messages"]
    return message


def of(tracer: MockTracer, operation: str) -> tuple[int, int]:
    """The ids of the only span of that name."""
    (span,) = [span for span in tracer.finished_spans() if span.operation_name == operation]
    return span.context.trace_id, span.context.span_id


def ids(context: Any) -> tuple[int, int]:
    return context.trace_id, context.span_id


def test_by_default_messages_are_left_alone(sqs: Any, queue: str, tracer: MockTracer) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="text")
    message = received(sqs, queue, MessageAttributeNames=["All"])
    assert "MessageAttributes" not in message
    assert extract_context(message) is None


@pytest.mark.usefixtures("propagating")
def test_a_message_brings_the_context_of_the_span_that_sent_it(sqs: Any, queue: str, tracer: MockTracer) -> None:
    mine = attributes(1)
    given = copy.deepcopy(mine)
    sqs.send_message(QueueUrl=queue, MessageBody="text", MessageAttributes=mine)
    names = ["name-0"]
    message = received(sqs, queue, MessageAttributeNames=names)
    assert mine == given
    assert names == ["name-0"]
    assert sorted(message["MessageAttributes"]) == ["name-0", *OURS]
    assert ids(extract_context(message)) == of(tracer, "boto3:client:sqs:send_message")


@pytest.mark.usefixtures("propagating")
def test_each_message_of_a_batch_brings_it(sqs: Any, queue: str, tracer: MockTracer) -> None:
    entries = [{"Id": str(number), "MessageBody": "text"} for number in range(3)]
    given = copy.deepcopy(entries)
    sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert entries == given
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    sender = of(tracer, "boto3:client:sqs:send_message_batch")
    assert [ids(extract_context(message)) for message in messages] == [sender] * 3


@pytest.mark.usefixtures("propagating")
def test_resources_bring_it_too(resource: Make, moto: Service, queue: str, tracer: MockTracer) -> None:
    of_resource = resource("sqs", moto).Queue(queue)
    of_resource.send_message(MessageBody="text")
    (message,) = of_resource.receive_messages()
    assert ids(extract_context(message)) == of(tracer, "boto3:client:sqs:send_message")


@pytest.mark.usefixtures("propagating")
@pytest.mark.parametrize(("count", "travels"), [(8, True), (9, False), (10, False)])
def test_there_are_ten_attributes_at_most(sqs: Any, queue: str, tracer: MockTracer, count: int, travels: bool) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="text", MessageAttributes=attributes(count))
    message = received(sqs, queue, MessageAttributeNames=["All"])
    assert sorted(message["MessageAttributes"]) == [*sorted(attributes(count)), *(OURS if travels else [])]


@pytest.mark.usefixtures("propagating")
@pytest.mark.parametrize(("room", "travels"), [(200, True), (0, False)])
def test_a_message_that_is_full_is_left_alone(
    sqs: Any, queue: str, tracer: MockTracer, room: int, travels: bool
) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="x" * (256 * 1024 - room))
    message = received(sqs, queue, MessageAttributeNames=[".*"])
    assert ("MessageAttributes" in message) is travels


@pytest.mark.usefixtures("propagating")
def test_a_message_that_is_sent_on_brings_the_last_sender(sqs: Any, queue: str, tracer: MockTracer) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="text")
    first = received(sqs, queue)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
    tracer.reset()
    sqs.send_message(QueueUrl=queue, MessageBody="text", MessageAttributes=first["MessageAttributes"])
    assert ids(extract_context(received(sqs, queue))) == of(tracer, "boto3:client:sqs:send_message")


class Chatty(MockTracer):
    """A tracer whose contexts hold what SQS takes for no attribute, and a number."""

    def inject(self, span_context: Any, format: Any, carrier: Any) -> None:  # noqa: A002
        super().inject(span_context, format, carrier)
        carrier.update({"a b": "1", "AWS.x": "1", "a..b": "1", "empty": "", "control": "\0", "number": 7, "a.b": "1"})


@pytest.mark.usefixtures("propagating")
def test_only_what_the_service_takes_travels(sqs: Any, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentracing, "tracer", Chatty(ContextVarsScopeManager()))
    sqs.send_message(QueueUrl=queue, MessageBody="text")
    message = received(sqs, queue, MessageAttributeNames=["All"])
    assert sorted(message["MessageAttributes"]) == ["a.b", "number", *OURS]


@pytest.mark.usefixtures("propagating")
def test_a_tracer_that_can_not_inject_changes_nothing(sqs: Any, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = MockTracer(ContextVarsScopeManager())
    tracer._propagators.clear()
    monkeypatch.setattr(opentracing, "tracer", tracer)
    sqs.send_message(QueueUrl=queue, MessageBody="text")
    message = received(sqs, queue, MessageAttributeNames=["All"])
    assert "MessageAttributes" not in message
    assert extract_context({"MessageAttributes": attributes(1)}) is None


@pytest.mark.usefixtures("propagating", "lenient")
def test_a_tracer_that_breaks_changes_nothing(
    sqs: Any, queue: str, tracer: MockTracer, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ArithmeticError("ours")

    monkeypatch.setattr(MockTracer, "inject", broken)
    monkeypatch.setattr(MockTracer, "extract", broken)
    sqs.send_message(QueueUrl=queue, MessageBody="text")
    message = received(sqs, queue, MessageAttributeNames=["All"])
    assert "MessageAttributes" not in message
    assert extract_context({"MessageAttributes": attributes(1)}) is None
    assert len(spans()) == 2


@pytest.mark.usefixtures("propagating")
@pytest.mark.parametrize(
    "wrong",
    [{"MessageAttributes": {"a": "text"}}, {"MessageAttributes": ["a"]}, {"MessageBody": 7}],
    ids=["value", "attributes", "body"],
)
def test_wrong_parameters_get_botocores_own_error(
    sqs: Any, queue: str, tracer: MockTracer, lenient: None, wrong: dict[str, Any]
) -> None:
    with pytest.raises(Exception, match="Parameter validation failed"):
        sqs.send_message(**{"QueueUrl": queue, "MessageBody": "text", **wrong})


@pytest.mark.usefixtures("propagating")
@pytest.mark.parametrize("raw", ["true", "false"])
@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
def test_a_topics_message_brings_it_to_a_queue(
    client: Make, moto: Service, sqs: Any, queue: str, name: str, tracer: MockTracer, raw: str, batch: bool
) -> None:
    sns = client("sns", moto)
    topic = sns.create_topic(Name=name)["TopicArn"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": raw})
    if batch:
        sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": "1", "Message": "text"}])
    else:
        sns.publish(TopicArn=topic, Message="text")
    sender = of(tracer, "boto3:client:sns:publish_batch" if batch else "boto3:client:sns:publish")
    assert ids(extract_context(received(sqs, queue))) == sender


@pytest.mark.usefixtures("propagating")
def test_a_text_message_to_a_telephone_is_left_alone(
    client: Make, moto: Service, tracer: MockTracer, spans: Spans
) -> None:
    sns = client("sns", moto)
    sent = []
    sns.meta.events.register("before-call.sns", lambda params, **_: sent.append(params["body"]))
    sns.publish(PhoneNumber="+15555550100", Message="text")
    (body,) = sent
    assert "PhoneNumber" in body
    assert [key for key in body if "MessageAttributes" in key] == []
    assert "5555" not in repr(spans())


def carrier_of(tracer: MockTracer) -> dict[str, str]:
    carrier: dict[str, str] = {}
    tracer.inject(tracer.start_span("sender").context, Format.TEXT_MAP, carrier)
    return carrier


@pytest.mark.parametrize("place", ["sqs event", "sns event"])
def test_the_event_of_a_lambda_function_brings_it(tracer: MockTracer, place: str) -> None:
    carrier = carrier_of(tracer)
    if place == "sqs event":
        values = {name: {"stringValue": text, "dataType": "String"} for name, text in carrier.items()}
        record: Any = {"body": "text", "messageAttributes": values}
    else:
        values = {name: {"Type": "String", "Value": text} for name, text in carrier.items()}
        record = {"Sns": {"Message": "text", "MessageAttributes": values}}
    assert ids(extract_context(record)) == ids(tracer.extract(Format.TEXT_MAP, carrier))


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"Body": "text"},
        {"Body": '"Notification"'},
        {"Body": '{"Type": "Notification"'},
        {"Body": json.dumps({"Type": "Notification", "MessageAttributes": None})},
        {"MessageAttributes": {"ot-tracer-traceid": {"DataType": "Binary", "BinaryValue": b"1"}}},
        {"MessageAttributes": {"other": {"DataType": "String", "StringValue": "x"}}},
    ],
)
def test_a_message_without_a_context_brings_none(tracer: MockTracer, message: Any) -> None:
    assert extract_context(message) is None
