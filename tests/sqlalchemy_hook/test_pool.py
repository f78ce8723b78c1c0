"""The pool: waits for a connection are bars, new connections and pings are spans, and all are below the request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from psycopg2 import connect as connect_to_postgresql
from sqlalchemy.ext.asyncio import create_async_engine

from opentracing_instrumentation.client_hooks import mysqldb, psycopg2
from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.config import CONFIG, SETTINGS
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service

from .conftest import Make
from .told import named, names

POOL: Any = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 30}


@pytest.fixture(autouse=True)
def every_wait() -> None:
    CONFIG.sql_checkout_threshold = SETTINGS["sql_checkout_threshold"].default  # type: ignore[assignment]


def seconds(tracer: MockTracer, name: str) -> float:
    return float(
        sum(span.finish_time - span.start_time for span in tracer.finished_spans() if span.operation_name == name)
    )


def test_the_waits_of_ten_workers_for_two_connections_add_up(tmp_path: Path, tracer: MockTracer, spans: Spans) -> None:
    engine = sa.create_engine(
        f"sqlite:///{tmp_path}/database",
        poolclass=sa.pool.QueuePool,
        connect_args={"check_same_thread": False},
        **POOL,
    )
    hook.install_patches()
    waited, lock = 0.0, threading.Lock()

    def work(number: int) -> None:
        nonlocal waited
        with tracer.start_active_span(f"worker {number}"):
            before = time.perf_counter()
            with engine.connect() as connection:
                took = time.perf_counter() - before
                connection.execute(sa.text("SELECT 1"))
                time.sleep(0.1)
        with lock:
            waited += took

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, range(10)))
    engine.dispose()
    told = seconds(tracer, "sqlalchemy:checkout") + seconds(tracer, "sqlalchemy:connect")
    assert told == pytest.approx(waited, rel=0.05)
    waits = named(spans, "sqlalchemy:checkout")
    assert len(waits) >= 8
    assert {wait["parent"] for wait in waits} <= {f"worker {number}" for number in range(10)}
    full = [wait["tags"] for wait in waits if wait["tags"]["sqlalchemy.pool.checked_out"] == 2]
    assert {"sqlalchemy.pool.size": 2, "sqlalchemy.pool.overflow": 0, "sqlalchemy.pool.timeout": 30}.items() <= full[
        0
    ].items()
    assert "span.kind" not in full[0]


def test_the_waits_of_ten_tasks_add_up(tmp_path: Path, tracer: MockTracer, spans: Spans) -> None:
    hook.install_patches()
    waited = 0.0

    async def work(engine: Any, number: int) -> None:
        nonlocal waited
        with tracer.start_active_span(f"task {number}"):
            before = time.perf_counter()
            async with engine.connect() as connection:
                waited += time.perf_counter() - before
                await connection.execute(sa.text("SELECT 1"))
                await asyncio.sleep(0.1)

    async def main() -> None:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path}/database", poolclass=sa.pool.AsyncAdaptedQueuePool, **POOL
        )
        await asyncio.gather(*(work(engine, number) for number in range(10)))
        await engine.dispose()

    asyncio.run(main())
    told = seconds(tracer, "sqlalchemy:checkout") + seconds(tracer, "sqlalchemy:connect")
    assert told == pytest.approx(waited, rel=0.05)
    parents = [wait["parent"] for wait in named(spans, "sqlalchemy:checkout")]
    assert len(parents) == len(set(parents)) == 8


def test_an_exhausted_pool_is_an_error_of_the_wait(tmp_path: Path, tracer: MockTracer, spans: Spans) -> None:
    engine = sa.create_engine(
        f"sqlite:///{tmp_path}/database", poolclass=sa.pool.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05
    )
    hook.install_patches()
    with engine.connect(), tracer.start_active_span("work"), pytest.raises(sa.exc.TimeoutError) as caught:
        engine.connect()
    engine.dispose()
    wait, _ = spans()
    assert (wait["operation"], wait["parent"], wait["tags"]["error"]) == ("sqlalchemy:checkout", "work", True)
    assert wait["logs"][0]["error.object"] is caught.value
    (span, _) = tracer.finished_spans()
    assert span.finish_time - span.start_time >= 0.05


def test_a_cancelled_wait_ends_its_span(tmp_path: Path, tracer: MockTracer, spans: Spans) -> None:
    hook.install_patches()

    async def main() -> None:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path}/database", poolclass=sa.pool.AsyncAdaptedQueuePool, **POOL
        )
        async with engine.connect(), engine.connect():
            with tracer.start_active_span("work"), pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(engine.connect().start(), 0.05)
        async with engine.connect() as connection:
            with tracer.start_active_span("later"):
                await connection.execute(sa.text("SELECT 1"))
        await engine.dispose()

    asyncio.run(main())
    assert [(name, parent) for name, parent in names(spans) if parent] == [
        ("sqlalchemy:checkout", "work"),
        ("SQL SELECT", "later"),
    ]


@pytest.mark.parametrize(("threshold", "told"), [(0, 1), (3600, 0)])
def test_the_threshold_says_which_waits_are_told(
    make: Make, tracer: MockTracer, spans: Spans, threshold: float, told: int
) -> None:
    engine = make("pysqlite")
    with engine.connect():
        pass
    hook.instrument_engine(engine, checkout_threshold=threshold)
    with tracer.start_active_span("work"), engine.connect():
        pass
    assert len(named(spans, "sqlalchemy:checkout")) == told


def test_without_a_span_above_the_pool_is_silent(make: Make, spans: Spans) -> None:
    hook.instrument_engine(make("pysqlite"), checkout_threshold=0)
    engine = make("pysqlite", pool_pre_ping=True)
    hook.instrument_engine(engine, checkout_threshold=0)
    for _ in range(2):
        with engine.connect():
            pass
    assert spans() == []


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg2", "mysqldb"])
def test_a_new_connection_is_a_span(make: Make, tracer: MockTracer, spans: Spans, driver: str) -> None:
    engine = make(driver, pool_pre_ping=True)
    CONFIG.sql_checkout_threshold = 3600
    hook.install_patches()
    with tracer.start_active_span("work"), engine.connect():
        pass
    assert names(spans) == [("sqlalchemy:connect", "work"), ("work", None)]


@pytest.mark.parametrize(("driver", "connect"), [("psycopg2", "psycopg2:connect"), ("mysqldb", "MySQLdb:Connect")])
def test_what_the_driver_does_to_connect_is_below_it(
    make: Make, tracer: MockTracer, spans: Spans, driver: str, connect: str
) -> None:
    engine = make(driver)
    for module in (hook, psycopg2, mysqldb):
        module.install_patches()
    with tracer.start_active_span("work"), engine.connect():
        pass
    told = dict(names(spans))
    assert told[connect] == "sqlalchemy:connect"
    assert told["sqlalchemy:connect"] == "work"


def test_new_connections_can_be_left_out(make: Make, tracer: MockTracer, spans: Spans) -> None:
    engine = make("psycopg2")
    psycopg2.install_patches()
    hook.instrument_engine(engine, trace_connects=False)
    with tracer.start_active_span("work"), engine.connect():
        pass
    assert ("psycopg2:connect", "work") in names(spans)
    assert named(spans, "sqlalchemy:connect") == []


def test_a_connection_that_fails_is_an_error(tracer: MockTracer, spans: Spans, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/no/such/folder")
    hook.install_patches()
    with tracer.start_active_span("work"), pytest.raises(sa.exc.OperationalError):
        engine.connect()
    (connect,) = named(spans, "sqlalchemy:connect")
    assert connect["tags"]["error"] is True
    assert connect["logs"][0]["message"] == "unable to open database file"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:%rosebud@localhost/shop",
        "postgresql://[::1]rosebud/shop",
        "postgresql://localhost/shop?rosebud",
        "host=localhost password=a rosebud",
    ],
)
def test_a_connection_string_that_can_not_be_read_is_not_quoted(dsn: str, tracer: MockTracer, spans: Spans) -> None:
    engine = sa.create_engine("postgresql+psycopg2://", creator=lambda: connect_to_postgresql(dsn))
    hook.install_patches()
    with tracer.start_active_span("work"), pytest.raises(sa.exc.ProgrammingError, match="rosebud"):
        engine.connect()
    (connect,) = named(spans, "sqlalchemy:connect")
    assert connect["tags"]["error"] is True
    assert connect["logs"][0]["message"]
    assert "rosebud" not in str(connect)


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg2", "mysqldb"])
def test_a_ping_is_marked_as_one_and_is_one_span(make: Make, tracer: MockTracer, spans: Spans, driver: str) -> None:
    engine = make(driver, pool_pre_ping=True)
    with engine.connect():
        pass
    for module in (hook, psycopg2, mysqldb):
        module.install_patches()
    with tracer.start_active_span("work"), engine.connect():
        told = names(spans)
    assert [name for name, _ in told if name != "sqlalchemy:checkout"] == ["sqlalchemy:ping"]
    assert dict(told)["sqlalchemy:ping"] == "work"


@pytest.mark.parametrize("driver", ["psycopg2", "mysqldb"])
def test_pings_can_be_left_out(make: Make, tracer: MockTracer, spans: Spans, driver: str) -> None:
    engine = make(driver, pool_pre_ping=True)
    with engine.connect():
        pass
    CONFIG.sql_checkout_threshold, CONFIG.sql_trace_pings = 3600, False
    for module in (hook, psycopg2, mysqldb):
        module.install_patches()
    with tracer.start_active_span("work"), engine.connect():
        assert spans() == []


def test_the_ping_of_a_dead_connection_is_an_error_and_a_new_one_is_made(
    make: Make, tracer: MockTracer, spans: Spans, service: Callable[[str], Service]
) -> None:
    engine = make("psycopg2", pool_pre_ping=True)
    CONFIG.sql_checkout_threshold = 3600
    with engine.connect() as connection:
        process = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
    other = make("psycopg2")
    with other.connect() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:process)"), {"process": process})
    time.sleep(0.1)
    hook.install_patches()
    with tracer.start_active_span("work"), engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    assert names(spans) == [
        ("sqlalchemy:ping", "work"),
        ("sqlalchemy:connect", "work"),
        ("SQL SELECT", "work"),
        ("work", None),
    ]
    assert named(spans, "sqlalchemy:ping")[0]["tags"]["error"] is True


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg"])
def test_an_async_pool_is_traced_alike(make: Make, tracer: MockTracer, spans: Spans, driver: str) -> None:
    hook.install_patches()

    async def main() -> None:
        engine = make(driver, pool_pre_ping=True)
        for name in ("first", "second"):
            with tracer.start_active_span(name):
                async with engine.connect() as connection:
                    await connection.execute(sa.text("SELECT 1"))
        await engine.dispose()

    CONFIG.sql_checkout_threshold = 3600
    asyncio.run(main())
    assert names(spans) == [
        ("sqlalchemy:connect", "first"),
        ("SQL SELECT", "first"),
        ("first", None),
        ("sqlalchemy:ping", "second"),
        ("SQL SELECT", "second"),
        ("second", None),
    ]
