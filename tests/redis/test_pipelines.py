"""Pipelines and transactions: one span each, with the names and the number of the commands."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from opentracing_instrumentation.client_hooks import strict_redis
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service

from .conftest import Kind
from .told import command

SECRET = "hunter2"


@pytest.mark.parametrize(("transaction", "name"), [(True, "MULTI"), (False, "PIPELINE")])
def test_a_pipeline_is_one_span(
    transaction: bool, name: str, kind: Kind, client: Any, address: Service, spans: Spans
) -> None:
    pipeline = kind.open(client.pipeline(transaction))
    pipeline.set("a", SECRET).get("a").config_get("maxmemory")
    assert spans() == []
    replies = kind.get(pipeline.execute())
    assert replies[:2] == [True, SECRET.encode()]
    assert spans() == [command(name, address, commands="SET, GET, CONFIG GET", command_count=3)]


def test_the_list_of_commands_is_bounded(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    pipeline = kind.open(client.pipeline())
    for number in range(1000):
        pipeline.set(f"key {number}", "value")
    kind.get(pipeline.execute())
    names = ", ".join(["SET"] * 20)
    assert spans() == [command("MULTI", address, commands=f"{names}, ...", command_count=1000)]


def test_raw_commands_of_a_pipeline_are_only_named(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    pipeline = kind.open(client.pipeline())
    pipeline.execute_command(f"set a {SECRET}")
    pipeline.execute_command(b"GET", "a")
    kind.get(pipeline.execute())
    assert spans() == [command("MULTI", address, commands="SET, GET", command_count=2)]


def test_a_pipeline_that_sends_nothing_is_no_span(kind: Kind, client: Any, spans: Spans) -> None:
    assert kind.get(kind.open(client.pipeline()).execute()) == []
    assert spans() == []


def test_a_pipeline_is_used_again(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    pipeline = kind.open(client.pipeline())
    kind.get(pipeline.set("a", 1).execute())
    kind.get(pipeline.get("a").execute())
    assert spans() == [
        command("MULTI", address, commands="SET", command_count=1),
        command("MULTI", address, commands="GET", command_count=1),
    ]


def test_commands_between_watch_and_multi_are_spans_of_their_own(
    kind: Kind, client: Any, address: Service, spans: Spans
) -> None:
    pipeline = kind.open(client.pipeline())
    kind.get(pipeline.watch("a"))
    kind.get(pipeline.get("a"))
    pipeline.multi()
    pipeline.set("a", "1")
    assert kind.get(pipeline.execute()) == [True]
    assert spans() == [
        command("WATCH", address, key="a"),
        command("GET", address, key="a"),
        command("MULTI", address, commands="SET", command_count=1),
    ]


def test_a_lost_race_is_an_error(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    pipeline = kind.open(client.pipeline())
    kind.get(pipeline.watch("a"))
    kind.get(client.set("a", "other"))
    pipeline.multi()
    pipeline.set("a", "1")
    with pytest.raises(redis.WatchError) as caught:
        kind.get(pipeline.execute())
    span = spans()[-1]
    assert (span["operation"], span["tags"]["error"]) == ("redis:MULTI", True)
    assert span["logs"][0]["error.object"] is caught.value


def test_the_transaction_function_is_traced(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    def blocking(pipeline: Any) -> None:
        pipeline.multi()
        pipeline.incr("a")

    async def awaited(pipeline: Any) -> None:
        blocking(pipeline)

    assert kind.get(client.transaction(awaited if kind.is_async else blocking, "a")) == [1]
    assert spans() == [
        command("WATCH", address, key="a"),
        command("MULTI", address, commands="INCRBY", command_count=1),
    ]


@pytest.mark.parametrize("transaction", [True, False])
def test_values_stay_out_of_the_log_of_an_error(transaction: bool, kind: Kind, client: Any, spans: Spans) -> None:
    """redis-py writes the failed command into the error, and so the caller gets it."""
    pipeline = kind.open(client.pipeline(transaction))
    pipeline.set("a", "1").lpush("a", f"{SECRET} (of pipeline)")
    with pytest.raises(redis.ResponseError, match=SECRET) as caught:
        kind.get(pipeline.execute())
    (span,) = spans()
    (log,) = span["logs"]
    assert log["message"].startswith("Command # 2 (...) of pipeline caused error: ")
    assert (log["event"], log["error.kind"], span["tags"]["error"]) == ("error", type(caught.value), True)
    assert SECRET not in str(span)


def test_an_error_that_is_not_raised_is_none(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    pipeline = kind.open(client.pipeline(transaction=False))
    pipeline.set("a", "1").lpush("a", "2")
    replies = kind.get(pipeline.execute(raise_on_error=False))
    assert isinstance(replies[1], redis.ResponseError)
    assert spans() == [command("PIPELINE", address, commands="SET, LPUSH", command_count=2)]


def test_the_sanitizer_sees_the_first_twenty_commands(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    strict_redis.patcher.sanitize = lambda name, args: f"{name} {args[0]}" if name == "SET" else None
    pipeline = kind.open(client.pipeline())
    pipeline.get("a").set("b", SECRET)
    for _ in range(30):
        pipeline.set("c", SECRET)
    kind.get(pipeline.execute())
    (span,) = spans()
    assert span["tags"]["db.statement"].splitlines() == ["SET b", *["SET c"] * 18]


def test_a_pipeline_of_before_is_traced_and_stops_at_reset(
    kind: Kind, client: Any, address: Service, spans: Spans
) -> None:
    strict_redis.reset_patches()
    pipeline = kind.open(client.pipeline())
    pipeline.get("a")
    strict_redis.install_patches()
    kind.get(pipeline.execute())
    pipeline.get("a")
    strict_redis.reset_patches()
    kind.get(pipeline.execute())
    assert spans() == [command("MULTI", address, commands="GET", command_count=1)]
