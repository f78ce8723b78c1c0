"""What the tests of the Redis hook share: servers, clients of both kinds, and how their spans look."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff

from opentracing_instrumentation.client_hooks import strict_redis
from tests.opentracing_instrumentation.conftest import spans  # noqa: F401 - the fixture
from tests.services import Service

from . import servers
from .servers import Server

DATABASE = 5  # not the one that other tests use


class Kind:
    """redis-py's blocking or its asyncio client. The tests are the same: what one returns, one awaits of the other."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.is_async = module is redis.asyncio
        self.loop = asyncio.new_event_loop()
        self.handled: list[Any] = []  # what handlers got
        self._opened: list[Any] = []

    def open(self, client: Any) -> Any:
        """Return a client, pipeline or subscription, which is closed after the test."""
        self._opened.append(client)
        return client

    def client(self, at: Service | Server | None = None, **options: Any) -> Any:
        """Return a client of a server, which is closed after the test. It gives up at the first error."""
        retry = redis.asyncio.retry.Retry if self.is_async else redis.retry.Retry
        options = {"retry": retry(NoBackoff(), 0), **options}
        if isinstance(at, Service):
            options = {"host": at.host, "port": at.port, "db": DATABASE, "password": at.password, **options}
        elif at is not None:
            options = {"host": servers.HOST, "port": at.port, **options}
        return self.open(self.module.Redis(**options))

    def get(self, result: Any) -> Any:
        """Return what a call gives in the end. Awaits it in a task that has the present context."""
        return self.loop.run_until_complete(_awaited(result)) if inspect.isawaitable(result) else result

    def close(self) -> None:
        for opened in reversed(self._opened):
            ends = [getattr(opened, name, None) for name in self._endings(opened)]
            self.get(next(filter(None, ends))())
            self.get(opened.connection_pool.disconnect())
        self.loop.close()

    def _endings(self, opened: Any) -> tuple[str, ...]:
        if hasattr(opened, "immediate_execute_command"):  # a pipeline, some versions of which can't be closed
            return ("reset",)
        return ("aclose", "close") if self.is_async else ("close",)


async def _awaited(result: Any) -> Any:
    return await result


@pytest.fixture(params=[redis, redis.asyncio], ids=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """Either kind of client."""
    made = Kind(request.param)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _installed() -> None:
    strict_redis.install_patches()


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may set what it likes on the patcher."""
    for name in "tag_keys", "sanitize", "publish_context", "continue_context":
        monkeypatch.setattr(strict_redis.patcher, name, getattr(strict_redis.patcher, name), raising=False)


@pytest.fixture
def address(service: Callable[[str], Service]) -> Service:
    """The server of all tests, with an empty database, and no script."""
    found = service("redis")
    connection = redis.Connection(host=found.host, port=found.port, db=DATABASE, password=found.password)
    servers.ask(connection, "FLUSHDB")
    servers.ask(connection, "SCRIPT FLUSH")
    return found


@pytest.fixture
def client(kind: Kind, address: Service) -> Any:
    """A client of that server."""
    return kind.client(address)


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that the test may kill."""
    with servers.server() as server:
        yield server


@pytest.fixture(scope="session")
def nodes() -> Iterator[list[Server]]:
    """The three nodes of a cluster."""
    with servers.cluster() as nodes:
        yield nodes
