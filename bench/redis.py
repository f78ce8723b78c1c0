"""Redis: a command and a pipeline through redis-py's client, its connection pool and its packing of commands."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from .cases import Hook


def _client() -> Any:
    """Return a client whose connection takes every command and answers at once."""
    import redis

    class Connection(redis.Connection):
        def connect(self) -> None:
            pass

        def can_read(self, *_: Any, **__: Any) -> bool:
            return False

        def send_packed_command(self, *_: Any, **__: Any) -> None:
            pass

        def read_response(self, *_: Any, **__: Any) -> bytes:
            return b"OK"

    return redis.Redis(connection_pool=redis.ConnectionPool(Connection, host="redis.example", port=6379, db=0))


class Redis(Hook):
    """A command."""

    name, ratio, idle = "redis", 0.2, 1
    hook, instrumentor = "strict_redis", "redis:RedisInstrumentor"

    def __init__(self, stack: ExitStack) -> None:
        client = _client()
        stack.callback(client.close)
        self.call = lambda: client.get("session:42")


class RedisPipeline(Hook):
    """A pipeline of ten commands."""

    name, ratio, idle = "redis pipeline", 0.2, 1
    hook, instrumentor = "strict_redis", "redis:RedisInstrumentor"

    def __init__(self, stack: ExitStack) -> None:
        client = _client()
        stack.callback(client.close)

        def call() -> None:
            pipeline = client.pipeline(transaction=False)
            for index in range(10):
                pipeline.set(f"session:{index}", "value")
            pipeline.execute()

        self.call = call
