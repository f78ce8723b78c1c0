"""Transactions, if they are switched on: spans of their ends, and a count of their statements."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from sqlalchemy.orm import Session

from opentracing_instrumentation.client_hooks import mysqldb, psycopg2
from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans

from .conftest import Make
from .told import named, names


@pytest.fixture(autouse=True)
def without_connects() -> None:
    CONFIG.sql_trace_connects = False


def connected(make: Make, driver: str) -> Any:
    engine = make(driver)
    with engine.connect():
        pass
    return engine


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg2", "mysqldb"])
def test_begin_and_commit_are_spans_and_the_drivers_are_not(
    make: Make, tracer: MockTracer, spans: Spans, driver: str
) -> None:
    engine = connected(make, driver)
    for module in (psycopg2, mysqldb):
        module.install_patches()
    hook.instrument_engine(engine, trace_transactions=True)
    with tracer.start_active_span("work"), engine.begin() as connection:
        for _ in range(3):
            connection.execute(sa.text("SELECT 1"))
    told = [name for name in names(spans) if name[0].partition(":")[2] != "rollback"]  # the pool's own, afterwards
    assert told == [
        ("sqlalchemy:begin", "work"),
        *[("SQL SELECT", "work")] * 3,
        ("sqlalchemy:commit", "work"),
        ("work", None),
    ]
    work = named(spans, "work")[0]["tags"]
    assert (work["db.transaction.count"], work["db.transaction.statement_count"]) == (1, 3)
    assert work["db.transaction.duration_ms"] > 0


def test_several_transactions_add_up_on_the_span_above(make: Make, tracer: MockTracer, spans: Spans) -> None:
    engine = connected(make, "pysqlite")
    hook.instrument_engine(engine, trace_transactions=True)
    with tracer.start_active_span("work"):
        for number in (1, 2, 3):
            with Session(engine) as session:
                for _ in range(number):
                    session.execute(sa.text("SELECT 1"))
                session.commit()
    work = named(spans, "work")[0]["tags"]
    assert (work["db.transaction.count"], work["db.transaction.statement_count"]) == (3, 6)


def test_a_rollback_is_a_span(make: Make, tracer: MockTracer, spans: Spans) -> None:
    engine = connected(make, "pysqlite")
    hook.instrument_engine(engine, trace_transactions=True)
    with tracer.start_active_span("work"), engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(sa.text("SELECT 1"))
        transaction.rollback()
    assert [name for name, _ in names(spans)] == ["sqlalchemy:begin", "SQL SELECT", "sqlalchemy:rollback", "work"]


def test_a_commit_that_fails_is_an_error(make: Make, tracer: MockTracer, spans: Spans) -> None:
    """A constraint that PostgreSQL checks at the end."""
    engine = connected(make, "psycopg2")
    hook.instrument_engine(engine, trace_transactions=True)
    unchecked = "CREATE TEMPORARY TABLE checked_at_end (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    with tracer.start_active_span("work"), engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(sa.text(unchecked))
        connection.execute(sa.text("INSERT INTO checked_at_end VALUES (1), (1)"))
        with pytest.raises(sa.exc.IntegrityError):
            transaction.commit()
    (commit,) = named(spans, "sqlalchemy:commit")
    assert commit["tags"]["error"] is True
    assert named(spans, "work")[0]["tags"]["db.transaction.count"] == 1


def test_two_phases(make: Make, tracer: MockTracer, spans: Spans) -> None:
    """PostgreSQL refuses the second phase unless it is configured for it; its error is the caller's, and the span's."""
    engine = connected(make, "psycopg2")
    hook.instrument_engine(engine, trace_transactions=True)
    with tracer.start_active_span("work"), engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(sa.text("SELECT 1"))
        with pytest.raises(sa.exc.DBAPIError):
            transaction.prepare()
        connection.invalidate()
    assert ("sqlalchemy:begin", "work") in names(spans)
    (prepare,) = named(spans, "sqlalchemy:prepare")
    assert prepare["tags"]["error"] is True


def test_off_they_are_not_traced(make: Make, tracer: MockTracer, spans: Spans) -> None:
    engine = connected(make, "pysqlite")
    hook.install_patches()
    with tracer.start_active_span("work"), engine.begin() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert names(spans) == [("SQL SELECT", "work"), ("work", None)]
    assert named(spans, "work")[0]["tags"] == {}


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg"])
def test_async_transactions_are_counted_alike(make: Make, tracer: MockTracer, spans: Spans, driver: str) -> None:
    CONFIG.sql_trace_transactions = True
    hook.install_patches()

    async def main() -> None:
        engine = make(driver)
        with tracer.start_active_span("work"):
            async with engine.begin() as connection:
                await connection.execute(sa.text("SELECT 1"))
        await engine.dispose()

    asyncio.run(main())
    told = [name for name, _ in names(spans)]
    assert told == ["sqlalchemy:begin", "SQL SELECT", "sqlalchemy:commit", "work"]
    assert named(spans, "work")[0]["tags"]["db.transaction.statement_count"] == 1
