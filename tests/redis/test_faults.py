"""What can go wrong between client and server: the library's own error reaches the caller, and the span tells it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import socket
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import opentracing
import pytest
import redis
from opentracing import Tracer
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import strict_redis
from opentracing_instrumentation.client_hooks.strict_redis import RedisPatcher
from tests.opentracing_instrumentation.told import Spans, failed
from tests.services import Service

from . import servers
from .conftest import Kind
from .servers import Server
from .told import command


def told(name: str, at: Server, error: BaseException, **tags: Any) -> Any:
    """The span of a command that failed."""
    return failed(command(name, at, **{"db.instance": "0", **tags}), error)


def test_a_server_that_dies_and_comes_back(kind: Kind, own: Server, spans: Spans) -> None:
    client = kind.client(own)
    kind.get(client.set("a", "1"))
    own.kill()
    with pytest.raises(redis.ConnectionError) as caught:
        kind.get(client.get("a"))
    own.start()
    assert kind.get(client.get("a")) is None
    well = {"db.instance": "0", "key": "a"}
    assert spans() == [
        command("SET", own, **well),
        told("GET", own, caught.value, key="a"),
        command("GET", own, **well),
    ]


def test_the_librarys_retries_are_inside_one_span(kind: Kind, own: Server, spans: Spans) -> None:
    if "retry_on_error" not in inspect.signature(kind.module.Redis.__init__).parameters:
        pytest.skip("this redis-py does not try again")
    retry = (redis.asyncio.retry if kind.is_async else redis.retry).Retry
    client = kind.client(own, retry=retry(redis.backoff.NoBackoff(), 3), retry_on_error=[redis.ConnectionError])
    kind.get(client.set("a", "1"))
    own.ask("CLIENT KILL", "TYPE", "normal")
    assert kind.get(client.get("a")) == b"1"
    assert [span["operation"] for span in spans()] == ["redis:SET", "redis:GET"]
    assert "error" not in spans()[1]["tags"]


def test_a_connection_that_is_reset(kind: Kind, own: Server, spans: Spans) -> None:
    client = kind.client(own)
    kind.get(client.ping())
    killing = _later(lambda: own.ask("CLIENT KILL", "TYPE", "normal"))
    with pytest.raises(redis.ConnectionError) as caught:
        kind.get(client.blpop("queue"))
    killing.join()
    assert spans()[1] == told("BLPOP", own, caught.value, key="queue")


def _later(do: Callable[[], Any]) -> threading.Timer:
    timer = threading.Timer(0.2, do)
    timer.start()
    return timer


def test_a_timeout(kind: Kind, own: Server, spans: Spans) -> None:
    client = kind.client(own, socket_timeout=0.2)
    kind.get(client.ping())
    with own.hanging(), pytest.raises(redis.TimeoutError) as caught:
        kind.get(client.get("a"))
    assert spans()[1] == told("GET", own, caught.value, key="a")


def test_a_pipeline_whose_server_hangs(kind: Kind, own: Server, spans: Spans) -> None:
    pipeline = kind.open(kind.client(own, socket_timeout=0.2).pipeline())
    kind.get(pipeline.get("a").execute())
    pipeline.get("b")
    with own.hanging(), pytest.raises(redis.TimeoutError) as caught:
        kind.get(pipeline.execute())
    assert spans()[1] == told("MULTI", own, caught.value, commands="GET", command_count=1)


def test_a_pool_that_is_exhausted(kind: Kind, own: Server, spans: Spans) -> None:
    client = kind.client(own, max_connections=1)
    pipeline = kind.open(client.pipeline())
    kind.get(pipeline.watch("a"))  # holds the one connection
    with pytest.raises(redis.ConnectionError) as caught:
        kind.get(client.get("a"))
    assert spans()[1] == told("GET", own, caught.value, key="a")


def test_a_server_out_of_memory(kind: Kind, own: Server, spans: Spans) -> None:
    own.ask("CONFIG SET", "maxmemory", "1")
    client = kind.client(own)
    with pytest.raises(redis.ResponseError, match="maxmemory") as caught:
        kind.get(client.set("a", "1"))
    assert spans() == [told("SET", own, caught.value, key="a")]


def test_a_reply_that_makes_no_sense(kind: Kind, spans: Spans) -> None:
    """Somebody else listens on that port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = kind.client(host="127.0.0.1", port=listener.getsockname()[1])
        answering = _later(lambda: _answer(listener, b"SSH-2.0\r\n"))
        with pytest.raises(redis.RedisError) as caught:
            kind.get(client.get("a"))
        answering.join()
    (span,) = spans()
    assert span["logs"][0]["error.object"] is caught.value


def _answer(listener: socket.socket, reply: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(reply)


def test_a_cancelled_command_ends_its_span(own: Server, spans: Spans) -> None:
    async def cancel() -> BaseException:
        client = redis.asyncio.Redis(host=servers.HOST, port=own.port)
        await client.ping()
        waiting = asyncio.ensure_future(client.blpop("queue"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        await client.connection_pool.disconnect()
        return caught.value

    error = asyncio.run(cancel())
    span = spans()[1]
    assert (span["operation"], span["tags"]["error"]) == ("redis:BLPOP", True)
    assert span["logs"][0]["error.kind"] is type(error)


def test_concurrent_commands_have_each_its_parent(address: Service, spans: Spans, tracer: MockTracer) -> None:
    """Of tasks that share one client."""

    async def request(client: Any, number: int) -> None:
        with tracer.start_active_span(f"request {number}"):
            await client.set(f"key {number}", "1")

    async def serve() -> None:
        client = redis.asyncio.Redis(host=address.host, port=address.port, password=address.password)
        await asyncio.gather(*(request(client, number) for number in range(20)))
        await client.connection_pool.disconnect()

    asyncio.run(serve())
    told = [(span["parent"], span["tags"]["redis.key"]) for span in spans() if span["operation"] == "redis:SET"]
    assert sorted(told) == sorted((f"request {number}", f"key {number}") for number in range(20))


@pytest.mark.parametrize("broken", ["start_span", "scope_manager", "finish", "__exit__"])
def test_failures_of_the_tracer_change_nothing(
    broken: str, lenient: None, kind: Kind, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Tracer):
        def start_span(self, *_: Any, **__: Any) -> Any:
            if broken == "start_span":
                raise LookupError(broken)
            return Span(self, None)

        @property
        def scope_manager(self) -> Any:
            if broken == "scope_manager":
                raise LookupError(broken)
            return self._scope_manager

    class Span(opentracing.Span):
        def finish(self, finish_time: float | None = None) -> None:
            if broken == "finish":
                raise LookupError(broken)

        def __exit__(self, *_: Any) -> None:
            if broken == "__exit__":
                raise LookupError(broken)

    monkeypatch.setattr(opentracing, "tracer", Broken())
    pipeline = kind.open(client.pipeline())
    pipeline.get("a").get("b")
    assert kind.get(client.set("a", "1")) is True
    assert kind.get(pipeline.execute()) == [b"1", None]
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        kind.get(client.lpush("a", "2"))


def test_a_library_that_keeps_its_pipelines_otherwise_is_not_disturbed(
    lenient: None, kind: Kind, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A future version may rename what the hook reads: the call goes on untraced."""

    def describe(*_: Any) -> Any:
        raise AttributeError("command_stack")

    monkeypatch.setattr(strict_redis, "_tags_of_pipeline", describe)
    pipeline = kind.open(client.pipeline())
    assert kind.get(pipeline.set("a", "1").execute()) == [True]


def test_nothing_is_kept_of_clients_and_commands(address: Service, tracer: MockTracer) -> None:
    """Of a thousand clients, each with a command and a pipeline."""

    def work() -> None:
        client = redis.Redis(connection_pool=pool)
        client.set("a", "1")
        client.pipeline().get("a").execute()
        tracer.reset()

    pool = redis.ConnectionPool(host=address.host, port=address.port, password=address.password)
    for _ in range(200):
        work()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        work()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    pool.disconnect()
    assert grown < 50_000  # bytes: less than a dict for each


def test_a_subclass_can_take_the_hooks_place(kind: Kind, client: Any, spans: Spans) -> None:
    """It keeps the targets of a method that it redefines."""

    class Quiet(RedisPatcher):
        tag_keys = False

        def sanitize(self, command: str, args: tuple[Any, ...]) -> str:  # type: ignore[override]
            return command

    before = strict_redis.patcher
    strict_redis.set_patcher(Quiet())
    try:
        kind.get(client.set("a", "1"))
    finally:
        strict_redis.set_patcher(before)
    kind.get(client.set("a", "1"))
    assert [span["tags"].get("redis.key") for span in spans()] == [None, "a"]
    assert [span["tags"].get("db.statement") for span in spans()] == ["SET", None]
