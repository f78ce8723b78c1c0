"""Marks on asynchronous connections and sessions, on aiosqlite."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, create_async_engine
from sqlalchemy.orm import sessionmaker

from opentracing_instrumentation import sqlalchemy_opentracing as marks

from .conftest import MinimalSpan, MinimalTracer, Tell

ONE = sa.select(sa.literal(1))
SLOW = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 2000000) SELECT count(*) FROM c"


@pytest.fixture
def run(own: MinimalTracer, tmp_path: Path) -> Callable[[Callable[[Any], Awaitable[None]]], None]:
    """Run a coroutine function with an engine that is registered and traces what is marked."""

    async def with_engine(work: Callable[[Any], Awaitable[None]]) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/database")
        marks.init_tracing(own, trace_all_engines=False, trace_all_queries=False)
        marks.register_engine(engine)
        try:
            await work(engine)
        finally:
            await engine.dispose()

    return lambda work: asyncio.run(with_engine(work))


def test_a_connection_is_marked_until_its_end(run: Any, told: Tell) -> None:
    parent = MinimalSpan()

    async def work(engine: Any) -> None:
        async with engine.connect() as connection:
            marks.set_parent_span(connection, parent)
            assert (marks.get_traced(connection), marks.get_parent_span(connection)) == (True, parent)
            await connection.execute(ONE)
            async with connection.begin_nested():
                await connection.execute(ONE)
            await connection.commit()
            assert not marks.has_parent_span(connection)
            await connection.execute(ONE)
            marks.set_traced(connection)
            marks.clear_traced(connection)
            await connection.execute(ONE)

    run(work)
    expected = ["select", "savepoint", "select", "release_savepoint"]
    assert told() == [(operation, parent) for operation in expected]


def test_a_session_is_marked_until_its_end(run: Any, told: Tell) -> None:
    """Whether committed, rolled back, closed or cleared."""

    async def work(engine: Any) -> None:
        session = AsyncSession(engine)
        for number, end in enumerate((session.commit, session.rollback, session.close)):
            parent = MinimalSpan(str(number))
            marks.set_parent_span(session, parent)
            await session.execute(ONE)
            await end()
            assert not marks.get_traced(session)
            await session.execute(ONE)
            marks.set_traced(session)
            marks.clear_traced(session)
            await session.execute(ONE)
            await session.close()
            assert told() == [("select", parent)]

    run(work)


def test_sessions_of_a_scope_are_marked(run: Any, told: Tell) -> None:
    parent = MinimalSpan()

    async def work(engine: Any) -> None:
        factory = sessionmaker(engine, class_=AsyncSession)
        scope = async_scoped_session(factory, scopefunc=asyncio.current_task)
        marks.set_parent_span(scope, parent)
        await scope.execute(ONE)
        await scope.commit()
        assert not marks.get_traced(scope)
        await scope.execute(ONE)
        await scope.remove()

    run(work)
    assert told() == [("select", parent)]


def test_a_connection_that_has_not_been_started_bears_no_marks(run: Any) -> None:
    async def work(engine: Any) -> None:
        connection = engine.connect()
        for mark in (marks.set_traced, lambda it: marks.set_parent_span(it, MinimalSpan())):
            with pytest.raises(RuntimeError, match="has not been started"):
                mark(connection)
        marks.clear_traced(connection)
        assert (marks.get_traced(connection), marks.has_parent_span(connection)) == (False, False)

    run(work)


def test_failures_and_cancellations_end_the_span(run: Any, own: MinimalTracer) -> None:
    async def work(engine: Any) -> None:
        async with AsyncSession(engine) as session:
            marks.set_traced(session)
            with pytest.raises(OperationalError):
                await session.execute(sa.text("SELECT 1 FROM nowhere"))
            await session.rollback()
        async with engine.connect() as connection:
            marks.set_traced(connection)
            task = asyncio.ensure_future(connection.execute(sa.text(SLOW)))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    run(work)
    assert [span.tags.get("sqlalchemy.exception") for span in own.spans] == ["no such table: nowhere", ""]
    assert [span.tags["error"] for span in own.spans] == ["true", "true"]
