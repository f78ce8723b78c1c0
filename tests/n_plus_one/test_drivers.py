"""Statements of drivers without SQLAlchemy."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import MySQLdb
import psycopg2
import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import install_all_patches
from opentracing_instrumentation.client_hooks._dbapi2 import ConnectionFactory
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.n_plus_one import Finding, NPlusOneError, forbid

from ..services import Service
from .shop import line_of


def postgresql(service: Callable[[str], Service]) -> Any:
    server = service("postgresql")
    return psycopg2.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, dbname=server.database
    )


def mariadb(service: Callable[[str], Service]) -> Any:
    server = service("mariadb")
    return MySQLdb.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, database=server.database
    )


def sqlite(service: Callable[[str], Service]) -> Any:
    return ConnectionFactory(sqlite3.connect, "sqlite3")(":memory:")


def ask(cursor: Any, times: int) -> None:
    for number in range(times):
        cursor.execute(f"SELECT {number}")


@pytest.fixture(params=[postgresql, mariadb, sqlite], ids=lambda connect: connect.__name__)
def cursor(request: pytest.FixtureRequest, service: Callable[[str], Service], tracer: MockTracer) -> Any:
    install_all_patches()
    connection = request.param(service)
    yield connection.cursor()
    connection.close()


def test_the_statements_of_a_driver_are_counted(cursor: Any, tracer: MockTracer, findings: list[Finding]) -> None:
    with tracer.start_active_span("request") as scope:
        ask(cursor, 50)
    assert [(finding.statement, finding.line, finding.cause) for finding in findings] == [
        ("SELECT ?", line_of(ask, 2), None)
    ]
    assert scope.span.tags["db.n_plus_one.count"] == 50
    assert 0 < scope.span.tags["db.n_plus_one.duration_ms"] < 10_000


def test_failed_statements_of_a_driver_count(cursor: Any, tracer: MockTracer, findings: list[Finding]) -> None:
    with tracer.start_active_span("request"):
        for number in range(10):
            with pytest.raises(Exception, match=r"(?i)nowhere|aborted"):
                cursor.execute(f"SELECT {number} FROM nowhere")
    assert [finding.statement for finding in findings] == ["SELECT ? FROM nowhere"]


@pytest.mark.parametrize("with_sqlalchemy", [False, True])
def test_what_mysql_takes_for_a_value_is_not_told(
    service: Callable[[str], Service], tracer: MockTracer, findings: list[Finding], with_sqlalchemy: bool
) -> None:
    install_all_patches()
    CONFIG.sql_mask_literals = True
    engine = sa.create_engine("mysql+mysqldb://", creator=lambda: mariadb(service), poolclass=sa.pool.NullPool)
    with engine.connect() as connection, tracer.start_active_span("request"):
        execute = connection.exec_driver_sql if with_sqlalchemy else connection.connection.cursor().execute
        for number in range(10):
            execute(f'SELECT "secret{number}"')
    assert [finding.statement for finding in findings] == ["SELECT ?"]
    shown = {span.tags["db.statement"] for span in tracer.finished_spans() if "db.statement" in span.tags}
    assert shown == ({"SELECT ?"} if with_sqlalchemy else set())


def test_they_are_forbidden(cursor: Any, tracer: MockTracer) -> None:
    with tracer.start_active_span("request"):
        with forbid():
            ask(cursor, 9)
        with pytest.raises(NPlusOneError), forbid():
            ask(cursor, 10)


def test_bytes_are_text(service: Callable[[str], Service], tracer: MockTracer, findings: list[Finding]) -> None:
    install_all_patches()
    connection = postgresql(service)
    with tracer.start_active_span("request"), connection.cursor() as cursor:
        for number in range(10):
            cursor.execute(b"SELECT %d" % number)
    connection.close()
    assert [finding.statement for finding in findings] == ["SELECT ?"]
