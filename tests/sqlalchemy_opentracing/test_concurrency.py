"""Sixteen threads and five hundred tasks on one engine, each with marks of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from opentracing_instrumentation import sqlalchemy_opentracing as marks

from .conftest import MinimalSpan, MinimalTracer

#: The parent that whatever is traced here and now must have.
due: ContextVar[MinimalSpan] = ContextVar("due")

#: More waiters than connections.
POOL: Any = {"poolclass": sa.pool.AsyncAdaptedQueuePool, "pool_size": 8, "max_overflow": 0, "pool_timeout": 50}


class ComparingTracer(MinimalTracer):
    """Notes the spans that are begun below another parent than is due."""

    def __init__(self) -> None:
        super().__init__()
        self.astray: list[MinimalSpan] = []

    def start_span(self, operation_name: str, child_of: Any = None) -> MinimalSpan:
        span = super().start_span(operation_name, child_of)
        if child_of is not due.get():
            self.astray.append(span)
        return span


@pytest.fixture
def comparing() -> ComparingTracer:
    return ComparingTracer()


def statement() -> Any:
    """A new one, compiled like all the others."""
    return sa.select(sa.literal(1))


def check(tracer: ComparingTracer, parents: list[MinimalSpan], each: int) -> None:
    """Each parent has as many spans below it, each of them ended once; and there are no others."""
    assert tracer.astray == []
    assert [span for span in tracer.spans if span.finished != 1] == []
    assert Counter(id(span.child_of) for span in tracer.spans) == {id(parent): each for parent in parents}


def test_threads(comparing: ComparingTracer, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/database", poolclass=sa.pool.NullPool)
    marks.init_tracing(comparing, trace_all_engines=False, trace_all_queries=False)
    marks.register_engine(engine)
    start = Barrier(16)

    def work(parents: list[MinimalSpan]) -> None:
        start.wait()
        for parent in parents:
            due.set(parent)
            marked = statement()
            marks.set_parent_span(marked, parent)
            with engine.connect() as connection:
                connection.execute(statement())
                connection.execute(marked)
                connection.execute(statement())
                marks.set_parent_span(connection, parent)
                connection.execute(statement())
            with Session(engine) as session:
                marks.set_parent_span(session, parent)
                session.execute(statement())
                session.rollback()
                session.execute(statement())

    parents = [[MinimalSpan(f"{thread}.{number}") for number in range(20)] for thread in range(16)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, parents))
    engine.dispose()
    check(comparing, [parent for some in parents for parent in some], each=3)


def test_tasks(comparing: ComparingTracer, tmp_path: Path) -> None:
    async def work(engine: Any, parent: MinimalSpan) -> None:
        due.set(parent)
        marked = statement()
        marks.set_parent_span(marked, parent)
        async with engine.connect() as connection:
            await connection.execute(statement())
            await connection.execute(marked)
            await asyncio.sleep(0)
            marks.set_parent_span(connection, parent)
            await connection.execute(statement())
        async with AsyncSession(engine) as session:
            marks.set_parent_span(session, parent)
            await session.execute(statement())
            await session.rollback()
            await session.execute(statement())

    async def main(parents: list[MinimalSpan]) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/database", **POOL)
        marks.init_tracing(comparing, trace_all_engines=False, trace_all_queries=False)
        marks.register_engine(engine)
        await asyncio.gather(*(work(engine, parent) for parent in parents))
        await engine.dispose()

    parents = [MinimalSpan(str(number)) for number in range(500)]
    asyncio.run(main(parents))
    check(comparing, parents, each=3)
