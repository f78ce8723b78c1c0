"""Publishing and listening: spans of the commands, and of received messages where both sides want that."""

from __future__ import annotations

import time
from typing import Any

import opentracing
import pytest
import redis
from opentracing import Tracer
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import strict_redis
from tests.opentracing_instrumentation.told import Spans, Told
from tests.services import Service

from .conftest import Kind
from .told import command

MAJOR = int(redis.__version__.split(".")[0])


def message(at: Service, channel: str, parent: str | None) -> Told:
    """The span of a received message."""
    told = command("MESSAGE", at, parent, **{"message_bus.destination": channel})
    return {**told, "tags": {**told["tags"], "span.kind": "consumer"}}


def about(name: str, at: Service, channel: str, parent: str | None = None) -> Told:
    """The span of a command about a channel."""
    return command(name, at, parent, **{"message_bus.destination": channel})


@pytest.fixture
def listener(kind: Kind, client: Any) -> Any:
    """A subscription that has no channel yet."""
    return kind.open(client.pubsub(ignore_subscribe_messages=True))


def received(kind: Kind, listener: Any) -> Any:
    """The next message, or ``None`` when a handler got it."""
    for _ in range(100):
        got = kind.get(listener.get_message(timeout=0.05))
        if got is not None or kind.handled:
            return got
    raise AssertionError("no message")


def subscribe(kind: Kind, listener: Any, *channels: str, **handlers: Any) -> None:
    """Subscribe, and wait until the server has confirmed it."""
    kind.get(listener.subscribe(*channels, **handlers))
    assert kind.get(listener.get_message(timeout=1)) is None


def both(patterns: list[str]) -> None:
    strict_redis.patcher.publish_context = strict_redis.patcher.continue_context = patterns


def test_publishing_and_subscribing_are_spans(
    kind: Kind, client: Any, listener: Any, address: Service, spans: Spans
) -> None:
    """A received message is none unless that is asked for, and it comes as it was sent."""
    subscribe(kind, listener, "orders")
    assert kind.get(client.publish("orders", "42")) == 1
    got = received(kind, listener)
    kind.get(listener.unsubscribe("orders"))
    assert got == {"type": "message", "pattern": None, "channel": b"orders", "data": b"42"}
    assert spans() == [
        about("SUBSCRIBE", address, "orders"),
        about("PUBLISH", address, "orders"),
        about("UNSUBSCRIBE", address, "orders"),
    ]


def test_a_received_message_continues_the_trace(
    kind: Kind, client: Any, listener: Any, address: Service, spans: Spans, tracer: MockTracer
) -> None:
    """Its span is below that of its publication, and what comes of it can be below its own."""
    both(["orders*"])
    subscribe(kind, listener, "orders")
    with tracer.start_active_span("request"):
        kind.get(client.publish("orders", "42"))
    got = received(kind, listener)
    tracer.start_span("work", child_of=got.pop("span_context")).finish()
    assert got == {"type": "message", "pattern": None, "channel": b"orders", "data": b"42"}
    assert spans()[1:] == [
        about("PUBLISH", address, "orders", parent="request"),
        {"operation": "request", "parent": None, "tags": {}},
        message(address, "orders", parent="redis:PUBLISH"),
        {"operation": "work", "parent": "redis:MESSAGE", "tags": {}},
    ]


def test_a_publication_without_a_parent_is_continued_too(
    kind: Kind, client: Any, listener: Any, address: Service, spans: Spans
) -> None:
    both(["orders"])
    subscribe(kind, listener, "orders")
    kind.get(client.publish(channel="orders", message="42"))
    assert received(kind, listener)["data"] == b"42"
    assert spans()[1:] == [about("PUBLISH", address, "orders"), message(address, "orders", "redis:PUBLISH")]


def test_a_handler_runs_inside_the_messages_span(
    kind: Kind, client: Any, listener: Any, address: Service, spans: Spans, tracer: MockTracer
) -> None:
    both(["orders"])

    def handle(got: Any) -> None:
        tracer.start_span("work").finish()
        kind.handled.append(got["data"])

    async def handle_later(got: Any) -> None:
        handle(got)

    subscribe(kind, listener, orders=handle_later if kind.is_async else handle)
    kind.get(client.publish("orders", "42"))
    assert received(kind, listener) is None
    assert kind.handled == [b"42"]
    assert tracer.active_span is None
    assert spans()[2:] == [
        {"operation": "work", "parent": "redis:MESSAGE", "tags": {}},
        message(address, "orders", "redis:PUBLISH"),
    ]


def test_what_a_handler_raises_is_raised_and_told(
    kind: Kind, client: Any, listener: Any, address: Service, spans: Spans
) -> None:
    both(["orders"])

    def handle(got: Any) -> None:
        raise LookupError("no such order")

    subscribe(kind, listener, orders=handle)
    kind.get(client.publish("orders", "42"))
    with pytest.raises(LookupError) as caught:
        received(kind, listener)
    span = spans()[-1]
    assert (span["operation"], span["tags"]["error"]) == ("redis:MESSAGE", True)
    assert span["logs"][0]["error.object"] is caught.value


def test_listen_and_patterns(kind: Kind, client: Any, listener: Any, address: Service, spans: Spans) -> None:
    both(["orders.*"])

    async def next_message() -> Any:
        return await listener.listen().__anext__()

    kind.get(listener.psubscribe("orders.*"))
    assert kind.get(listener.get_message(timeout=1)) is None
    kind.get(client.publish("orders.new", b"\x00\xff"))
    got = kind.get(next_message()) if kind.is_async else next(listener.listen())
    del got["span_context"]
    assert got == {"type": "pmessage", "pattern": b"orders.*", "channel": b"orders.new", "data": b"\x00\xff"}
    assert spans() == [
        about("PSUBSCRIBE", address, "orders.*"),
        about("PUBLISH", address, "orders.new"),
        message(address, "orders.new", "redis:PUBLISH"),
    ]


@pytest.mark.parametrize("payload", ["", "text", "zwölf\n\x00", "\x00ot1 not ours", 12, 1.5])
def test_decoded_messages_are_what_was_sent(payload: Any, kind: Kind, address: Service, spans: Spans) -> None:
    both(["orders"])
    client = kind.client(address, decode_responses=True)
    listener = kind.open(client.pubsub(ignore_subscribe_messages=True))
    subscribe(kind, listener, "orders")
    kind.get(client.publish("orders", payload))
    assert received(kind, listener)["data"] == str(payload)
    assert spans()[-1]["operation"] == "redis:MESSAGE"


def test_a_publisher_alone_sends_an_envelope(kind: Kind, client: Any, listener: Any, spans: Spans) -> None:
    """So whoever listens has to want it; what is sent ends with the message."""
    strict_redis.patcher.publish_context = ["orders"]
    subscribe(kind, listener, "orders")
    kind.get(client.publish("orders", "42"))
    data = received(kind, listener)["data"]
    assert data.startswith(b'\x00ot1 {"')
    assert data.endswith(b"}\n42")


def test_a_listener_alone_gets_a_span_of_its_own(
    kind: Kind, client: Any, listener: Any, address: Service, spans: Spans, tracer: MockTracer
) -> None:
    """Below the current span, if there is one."""
    strict_redis.patcher.continue_context = ["orders"]
    subscribe(kind, listener, "orders")
    kind.get(client.publish("orders", "42"))
    with tracer.start_active_span("loop"):
        assert received(kind, listener)["data"] == b"42"
    assert spans()[2] == message(address, "orders", "loop")


def test_other_channels_are_left_alone(kind: Kind, client: Any, listener: Any, address: Service, spans: Spans) -> None:
    both(["orders"])
    subscribe(kind, listener, "prices")
    kind.get(client.publish("prices", "42"))
    assert received(kind, listener) == {"type": "message", "pattern": None, "channel": b"prices", "data": b"42"}
    assert [span["operation"] for span in spans()] == ["redis:SUBSCRIBE", "redis:PUBLISH"]


def test_a_pipelines_messages_carry_the_current_span(
    kind: Kind, client: Any, listener: Any, address: Service, spans: Spans, tracer: MockTracer
) -> None:
    """Their own has not begun when they are put into the pipeline. Without a current span they are sent as they are."""
    both(["orders"])
    subscribe(kind, listener, "orders")
    pipeline = kind.open(client.pipeline())
    with tracer.start_active_span("request"):
        pipeline.publish("orders", "1")
    pipeline.publish("orders", "2")
    assert kind.get(pipeline.execute()) == [1, 1]
    assert [received(kind, listener)["data"] for _ in range(2)] == [b"1", b"2"]
    assert spans()[2:] == [
        command("MULTI", address, commands="PUBLISH, PUBLISH", command_count=2),
        message(address, "orders", "request"),
        message(address, "orders", None),
    ]


def test_without_a_tracer_messages_come_out_of_their_envelopes(
    kind: Kind, client: Any, listener: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(["orders"])
    subscribe(kind, listener, "orders")
    kind.get(client.publish("orders", "42"))
    recording = opentracing.tracer
    monkeypatch.setattr(opentracing, "tracer", Tracer())
    assert received(kind, listener)["data"] == b"42"
    kind.get(client.publish("orders", "43"))
    strict_redis.patcher.continue_context = ()
    assert received(kind, listener)["data"] == b"43"
    monkeypatch.setattr(opentracing, "tracer", recording)


def test_a_tracer_that_cannot_inject_publishes_the_message_itself(
    kind: Kind, client: Any, listener: Any, monkeypatch: pytest.MonkeyPatch, tracer: MockTracer
) -> None:
    def inject(*_: Any) -> None:
        raise opentracing.UnsupportedFormatException

    both(["orders"])
    monkeypatch.setattr(tracer, "inject", inject)
    strict_redis.patcher.continue_context = ()
    subscribe(kind, listener, "orders")
    kind.get(client.publish("orders", "42"))
    assert received(kind, listener)["data"] == b"42"


def test_failures_of_the_tracer_change_no_message(
    lenient: None,
    kind: Kind,
    client: Any,
    listener: Any,
    monkeypatch: pytest.MonkeyPatch,
    tracer: MockTracer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise LookupError("broken")

    both(["orders"])
    subscribe(kind, listener, "orders")
    with tracer.start_active_span("request"):
        kind.get(client.publish("orders", "1"))
        monkeypatch.setattr(tracer, "extract", fail)
        assert received(kind, listener)["data"] == b"1"
        monkeypatch.setattr(tracer, "inject", fail)
        assert kind.get(client.publish("orders", "2")) == 1
        assert received(kind, listener)["data"] == b"2"
    assert [record.getMessage().partition(" failed")[0] for record in caplog.records] == [
        "extracting the span context from a Redis message",
        "putting the span context into a Redis message",
    ]


def test_wrong_arguments_are_the_librarys_error(kind: Kind, client: Any) -> None:
    both(["orders"])
    with pytest.raises(TypeError, match="publish"):
        client.publish("orders")
    with pytest.raises(TypeError, match="publish"):
        client.publish("orders", "42", 43, 44)


def test_after_reset_nothing_is_added(kind: Kind, client: Any, listener: Any, spans: Spans) -> None:
    both(["orders"])
    subscribe(kind, listener, "orders")
    publish = client.publish
    strict_redis.reset_patches()
    kind.get(publish("orders", "42"))
    assert received(kind, listener) == {"type": "message", "pattern": None, "channel": b"orders", "data": b"42"}
    assert [span["operation"] for span in spans()] == ["redis:SUBSCRIBE"]


@pytest.mark.skipif(MAJOR < 5, reason="RESP3 and sharded channels came with redis-py 5")
def test_resp3(kind: Kind, address: Service, spans: Spans) -> None:
    both(["orders"])
    client = kind.client(address, protocol=3)
    listener = kind.open(client.pubsub(ignore_subscribe_messages=True))
    subscribe(kind, listener, "orders")
    kind.get(client.publish("orders", "42"))
    assert received(kind, listener)["data"] == b"42"
    assert spans()[-1] == message(address, "orders", "redis:PUBLISH")


@pytest.mark.skipif(MAJOR < 5, reason="the method came with redis-py 5")
def test_messages_on_sharded_channels(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    both(["orders"])
    assert kind.get(client.spublish("orders", "42")) == 0
    assert spans() == [about("SPUBLISH", address, "orders")]


def test_a_thread_of_handlers(address: Service, spans: Spans, tracer: MockTracer) -> None:
    """``run_in_thread`` of the blocking client: each handler runs in its message's span, on that thread."""
    both(["orders"])
    handled: list[Any] = []
    with (
        redis.Redis(host=address.host, port=address.port, password=address.password) as client,
        client.pubsub() as listener,
    ):
        listener.subscribe(orders=lambda got: handled.append((got["data"], tracer.active_span.operation_name)))
        thread = listener.run_in_thread(sleep_time=0.01)
        for number in range(3):
            client.publish("orders", number)
        limit = time.monotonic() + 10
        while len(handled) < 3 and time.monotonic() < limit:
            time.sleep(0.01)
        thread.stop()
        thread.join(10)
    assert handled == [(b"%d" % number, "redis:MESSAGE") for number in range(3)]
    parents = [span["parent"] for span in spans() if span["operation"] == "redis:MESSAGE"]
    assert parents == ["redis:PUBLISH"] * 3
