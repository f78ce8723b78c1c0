"""Asynchronous connections of psycopg2: a span ends when the work is done, which is in ``poll()``."""

from __future__ import annotations

import gc
import select
import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from opentracing.mocktracer import MockTracer
from psycopg2 import extensions, extras

from opentracing_instrumentation.client_hooks import psycopg2 as hook
from tests.opentracing_instrumentation.told import Spans, failed, unused_port
from tests.services import Service

from .conftest import Connect
from .test_psycopg2 import span
from .told import WORK, coded


def statement(at: Service, text: str, **tags: Any) -> Any:
    conn = (), {"host": at.host, "port": at.port, "user": at.user, "dbname": at.database, "async_": True}
    return span(at, text.split(maxsplit=1)[0], sql=text, **{"sql.conn": conn}, **tags)


@pytest.fixture(autouse=True)
def patched() -> None:
    hook.install_patches()


@pytest.fixture
def connection(pg_connect: Connect, tracer: MockTracer) -> Any:
    connection = pg_connect(async_=True)
    extras.wait_select(connection)
    tracer.reset()
    return connection


def test_connecting_ends_when_the_connection_is_there(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    connection = pg_connect(async_=1)
    assert spans() == []
    extras.wait_select(connection)
    assert spans() == [span(postgresql, "connect", None)]


def test_connecting_that_fails_later_is_an_error(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    port = unused_port()
    connection = pg_connect(port=port, async_=True)
    with pytest.raises(psycopg2.OperationalError) as error:
        extras.wait_select(connection)
    assert spans() == [failed(span(postgresql, "connect", None, **{"peer.port": port}), error.value)]


def test_a_statement_ends_when_its_result_is_there(
    connection: Any, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    with tracer.start_active_span("work"):
        cursor = connection.cursor()
        cursor.execute("SELECT pg_sleep(0.05)")
        assert spans() == []
        extras.wait_select(connection)
        cursor.callproc("abs", (-1,))
        extras.wait_select(connection)
        assert cursor.fetchall() == [(1,)]
    procedure = statement(postgresql, "sproc:abs x")
    procedure["operation"], procedure["tags"]["sql"] = "psycopg2:", "sproc:abs"
    assert spans() == [statement(postgresql, "SELECT pg_sleep(0.05)"), procedure, WORK]
    slept = tracer.finished_spans()[0]
    assert slept.finish_time - slept.start_time > 0.05


def test_a_statement_that_fails_tells_its_error(
    connection: Any, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    with tracer.start_active_span("work"):
        cursor = connection.cursor()
        cursor.execute("SELECT 1 FROM nowhere")
        with pytest.raises(psycopg2.errors.UndefinedTable) as error:
            extras.wait_select(connection)
        second = connection.cursor()
        second.execute("SELECT 1")
        with pytest.raises(psycopg2.ProgrammingError) as busy:
            second.execute("SELECT 2")
        extras.wait_select(connection)
    assert spans() == [
        coded(failed(statement(postgresql, "SELECT 1 FROM nowhere"), error.value), "42P01"),
        failed(statement(postgresql, "SELECT 2"), busy.value),
        statement(postgresql, "SELECT 1"),
        WORK,
    ]


def test_a_statement_that_is_abandoned_ends_with_its_connection(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    connection = psycopg2.connect(postgresql.url, async_=True)
    extras.wait_select(connection)
    with tracer.start_active_span("work"):
        connection.cursor().execute("SELECT pg_sleep(10)")
        connection.close()
        del connection
        gc.collect()
    assert [told["operation"] for told in spans()] == ["psycopg2:connect", "psycopg2:SELECT", "work"]
    assert len(hook._flights) == 0


def test_a_cursor_that_is_dropped_is_an_error(
    connection: Any, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    with tracer.start_active_span("work"):
        connection.cursor().execute("SELECT 1")
        with pytest.raises(psycopg2.InterfaceError) as error:
            extras.wait_select(connection)
    assert spans() == [failed(statement(postgresql, "SELECT 1"), error.value), WORK]


def test_a_cancelled_statement_tells_so(connection: Any, tracer: MockTracer, spans: Spans, postgresql: Service) -> None:
    with tracer.start_active_span("work"):
        cursor = connection.cursor()
        cursor.execute("SET statement_timeout = 50")
        extras.wait_select(connection)
        cursor.execute("SELECT pg_sleep(10)")
        with pytest.raises(extensions.QueryCanceledError) as error:
            extras.wait_select(connection)
    expected = coded(failed(statement(postgresql, "SELECT pg_sleep(10)"), error.value), "57014")
    assert spans() == [statement(postgresql, "SET statement_timeout = 50"), expected, WORK]


def test_a_reset_in_between_leaves_no_span_open(postgresql: Service, tracer: MockTracer, spans: Spans) -> None:
    connection = psycopg2.connect(postgresql.url, async_=True)
    extras.wait_select(connection)
    with tracer.start_active_span("work"):
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        hook.reset_patches()
        extras.wait_select(connection)
        connection.close()
        del connection, cursor
        gc.collect()
    assert [told["operation"] for told in spans()] == ["psycopg2:connect", "psycopg2:SELECT", "work"]


@pytest.fixture
def waits() -> Iterator[list[int]]:
    """The states in which a wait callback, as of gevent or eventlet, has waited."""
    states: list[int] = []

    def wait(connection: Any) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            states.append(state)
            readable = [connection.fileno()] if state == extensions.POLL_READ else []
            select.select(readable, [] if readable else [connection.fileno()], [], 5)

    extensions.set_wait_callback(wait)
    yield states
    extensions.set_wait_callback(None)


def test_with_a_wait_callback_a_call_is_one_span(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, waits: list[int]
) -> None:
    connection = pg_connect()
    with tracer.start_active_span("work"), connection, connection.cursor() as cursor:
        begun = time.monotonic()
        cursor.execute("SELECT pg_sleep(0.02)")
        assert time.monotonic() - begun > 0.02
        with pytest.raises(psycopg2.errors.UndefinedTable):
            cursor.execute("SELECT 1 FROM nowhere")
    assert waits
    assert [told["operation"].removeprefix("psycopg2:") for told in spans()] == [
        "connect",
        "begin_transaction",
        "SELECT",
        "SELECT",
        "commit",
        "work",
    ]
    assert spans()[3]["tags"]["db.response.status_code"] == "42P01"
