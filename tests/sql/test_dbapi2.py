"""The proxies for PEP 249 drivers that have no hook, shown with sqlite3 and PyMySQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import opentracing
import pymysql
import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import _dbapi2
from opentracing_instrumentation.client_hooks._dbapi2 import (
    NO_ARG,
    ConnectionFactory,
    ConnectionWrapper,
    ContextManagerConnectionWrapper,
    CursorWrapper,
    db_span,
)
from opentracing_instrumentation.client_hooks.mysqldb import ConnectionWrapper as MySQLdbConnectionWrapper
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans, Told, failed
from tests.services import Service

from .told import WORK, coded

CLIENT = {"span.kind": "client"}
CONN = {"sql.conn": ((":memory:",), {})}


def span(verb: str, parent: str | None = "work", module: str = "sqlite3", **tags: Any) -> Told:
    return {"operation": f"{module}:{verb}", "parent": parent, "tags": {**CLIENT, **tags}}


def with_name(span: Told, error: sqlite3.Error) -> Told:
    """The same span, with the name of SQLite's error, which sqlite3 tells since Python 3.11."""
    name = getattr(error, "sqlite_errorname", None)
    return coded(span, name) if name else span


@pytest.fixture(params=[None, ContextManagerConnectionWrapper])
def connection(request: pytest.FixtureRequest, tracer: MockTracer) -> Iterator[Any]:
    connection = ConnectionFactory(sqlite3.connect, "sqlite3", request.param)(":memory:")
    connection.execute("CREATE TABLE t (a int)")
    tracer.reset()
    yield connection
    connection.close()


def test_connecting_is_a_span(tracer: MockTracer, spans: Spans) -> None:
    ConnectionFactory(sqlite3.connect, "sqlite3")(":memory:").close()
    with pytest.raises(sqlite3.OperationalError) as error:
        ConnectionFactory(sqlite3.connect, "sqlite3")("/nowhere/at/all")
    assert spans() == [span("connect", None), with_name(failed(span("connect", None), error.value), error.value)]


def test_statements_are_spans(connection: Any, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        cursor = connection.cursor()
        assert cursor.execute("INSERT INTO t VALUES (?)", (1,)) is cursor.__wrapped__
        cursor.executemany("INSERT INTO t VALUES (?)", iter([(2,), (3,)]))
        cursor.execute("SELECT\nsum(a) FROM t")
        assert cursor.fetchone() == (6,)
        assert [*cursor.execute("VALUES(1),(2)")] == [(1,), (2,)]
    insert = span("INSERT", sql="INSERT INTO t VALUES (?)", **CONN)
    assert spans() == [
        insert,
        insert,
        span("SELECT", sql="SELECT\nsum(a) FROM t", **CONN),
        span("", sql="VALUES(1),(2)", **CONN),
        WORK,
    ]


@pytest.mark.timeout(10)
def test_many_comments_in_front_take_no_time(connection: Any, tracer: MockTracer, spans: Spans) -> None:
    statement = "/* a */" * 40 + "VALUES(1)"
    with tracer.start_active_span("work"):
        connection.cursor().execute(statement)
    assert spans() == [span("", sql=statement, **CONN), WORK]


def test_wrappers_pass_for_what_they_wrap(connection: Any) -> None:
    cursor = connection.cursor()
    assert isinstance(connection, ConnectionWrapper)
    assert isinstance(connection, sqlite3.Connection)
    assert isinstance(cursor, CursorWrapper)
    assert isinstance(cursor, sqlite3.Cursor)
    assert type(connection.__wrapped__) is sqlite3.Connection
    assert type(cursor.__wrapped__) is sqlite3.Cursor
    assert cursor.connection is connection.__wrapped__
    cursor.arraysize = 7
    assert cursor.__wrapped__.arraysize == 7


def test_a_failing_statement_is_an_error(connection: Any, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"), pytest.raises(sqlite3.OperationalError) as error:
        connection.cursor().execute("SELECT 1 FROM nowhere")
    expected = failed(span("SELECT", sql="SELECT 1 FROM nowhere", **CONN), error.value)
    assert spans() == [with_name(expected, error.value), WORK]


def test_commit_and_rollback_are_spans(connection: Any, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        connection.commit()
        connection.rollback()
        with pytest.raises(AttributeError):
            connection.begin()  # sqlite3 has none
    assert [told["operation"] for told in spans()] == [
        "sqlite3:commit",
        "sqlite3:rollback",
        "sqlite3:begin-trans",
        "work",
    ]
    assert spans()[:2] == [span("commit"), span("rollback")]


def test_with_no_current_span_there_is_none(tracer: MockTracer, spans: Spans) -> None:
    connection = ConnectionFactory(sqlite3.connect, "sqlite3")(":memory:")
    connection.cursor().execute("SELECT 1")
    connection.commit()
    connection.close()
    assert spans() == [span("connect", None)]


def test_with_no_tracer_all_goes_through() -> None:
    opentracing.tracer = opentracing.Tracer()
    connection = ConnectionFactory(sqlite3.connect, "sqlite3", ContextManagerConnectionWrapper)(":memory:")
    with connection as entered:
        assert entered.cursor().execute("SELECT 1").fetchall() == [(1,)]
    connection.close()


def test_a_block_begins_and_ends_a_transaction(tracer: MockTracer, spans: Spans) -> None:
    connection = ConnectionFactory(sqlite3.connect, "sqlite3", ContextManagerConnectionWrapper)(":memory:")
    with tracer.start_active_span("work"):
        with connection as entered:
            assert entered is connection
            entered.cursor().execute("SELECT 1")
        with pytest.raises(ZeroDivisionError), connection:
            raise ZeroDivisionError
    connection.close()
    begin = {"operation": "sqlite3:begin_transaction", "parent": "work", "tags": {}}
    select = span("SELECT", sql="SELECT 1", **CONN)
    assert spans() == [span("connect", None), begin, select, span("commit"), begin, span("rollback"), WORK]


def test_a_block_of_a_driver_that_gives_a_cursor_gives_a_traced_one(tracer: MockTracer, spans: Spans) -> None:
    class Connection(sqlite3.Connection):
        """Does what drivers did before the connection's block was agreed to give the connection."""

        def __enter__(self) -> Any:
            return self.cursor()

        def __exit__(self, *_: object) -> bool:
            self.commit()
            return True

    connection = ConnectionFactory(Connection, "old", ContextManagerConnectionWrapper)(":memory:")
    with tracer.start_active_span("work"), connection as cursor:
        cursor.execute("SELECT 1")
        raise ZeroDivisionError
    connection.close()
    assert [told["operation"].removeprefix("old:") for told in spans()] == [
        "Connection",
        "begin_transaction",
        "SELECT",
        "rollback",
        "work",
    ]


def test_wrappers_of_ones_own_are_used(tracer: MockTracer, spans: Spans) -> None:
    class Cursor(CursorWrapper):  # type: ignore[misc]
        def execute(self, sql: str, params: Any = NO_ARG) -> Any:
            return super().execute(sql.upper()) if params is NO_ARG else super().execute(sql.upper(), params)

    class Connection(ConnectionWrapper):  # type: ignore[misc]
        pass

    connection = ConnectionFactory(sqlite3.connect, "sqlite3", Connection, cursor_wrapper=Cursor)(":memory:")
    with tracer.start_active_span("work"):
        connection.cursor().execute("select ?", (1,))
    assert type(connection) is Connection
    assert spans()[1] == span("SELECT", sql="SELECT ?", **CONN)
    connection.close()


@pytest.fixture
def arguments(mariadb: Service) -> dict[str, Any]:
    server = mariadb
    return {"host": server.host, "port": server.port, "user": server.user, "database": server.database}


@pytest.fixture
def my(arguments: dict[str, Any], mariadb: Service, tracer: MockTracer) -> Iterator[Any]:
    connect = ConnectionFactory(pymysql.connect, "pymysql", ContextManagerConnectionWrapper)
    connection = connect(**arguments, password=mariadb.password)
    tracer.reset()
    yield connection
    if connection.open:
        connection.close()


def test_pymysql_is_traced_in_its_usual_idioms(
    my: Any, tracer: MockTracer, spans: Spans, arguments: dict[str, Any]
) -> None:
    with tracer.start_active_span("work"):
        my.begin()
        with my as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
            assert (connection, type(cursor)) == (my, CursorWrapper)
            cursor.execute(query="SELECT %s AS a", args=(1,))
            assert cursor.fetchall() == [{"a": 1}]
            cursor.execute(args={"a": 2}, query="SELECT %(a)s AS a")
            assert cursor.fetchall() == [{"a": 2}]
            with pytest.raises(pymysql.err.ProgrammingError) as error:
                cursor.execute("SELECT 1 FROM nowhere")
        assert not my.open
    code = getattr(error.value, "sqlstate", None) or "1146"  # newer versions tell both
    params = {"sql.conn": ((), arguments), "sql.cursor": ((pymysql.cursors.DictCursor,), {})}
    begin = {"operation": "pymysql:begin_transaction", "parent": "work", "tags": {}}
    assert spans() == [
        span("begin-trans", module="pymysql"),
        begin,
        span("SELECT", module="pymysql", sql="SELECT %s AS a", **params),
        span("SELECT", module="pymysql", sql="SELECT %(a)s AS a", **params),
        coded(failed(span("SELECT", module="pymysql", sql="SELECT 1 FROM nowhere", **params), error.value), code),
        WORK,
    ]


def test_pymysqls_executemany_and_procedures_are_one_span_each(
    my: Any, tracer: MockTracer, spans: Spans, arguments: dict[str, Any]
) -> None:
    with my.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE t (a int)")
        cursor.execute("DROP PROCEDURE IF EXISTS thrice")
        cursor.execute("CREATE PROCEDURE thrice(a int) SELECT 3 * a")
        with tracer.start_active_span("work"):
            assert cursor.executemany("INSERT INTO t (a) VALUES (%s)", [(1,), (2,)]) == 2
            cursor.callproc("thrice", (14,))
            assert cursor.fetchall() == ((42,),)
    params = {"sql.conn": ((), arguments)}
    assert spans() == [
        span("INSERT", module="pymysql", sql="INSERT INTO t (a) VALUES (%s)", **params),
        span("", module="pymysql", sql="sproc:thrice", **params),
        WORK,
    ]


def test_parameters_are_captured_only_if_asked_for(my: Any, tracer: MockTracer, spans: Spans) -> None:
    parameters = ("secret",)
    with tracer.start_active_span("work"), my.cursor() as cursor:
        cursor.execute("SELECT %s", parameters)
        CONFIG.capture_sql_parameters = True
        cursor.execute("SELECT %s", parameters)
        cursor.execute("SELECT 1", None)
    assert [told["tags"].get("sql.params") for told in spans()] == [None, parameters, None, None]


@pytest.mark.parametrize(
    ("statement", "operation"),
    [
        ("select * from X", "select"),
        ("  select * from X\n", "select"),
        (b"select * from X", "select"),
        (b"select \xff1", "select"),
        ("SELECT\n1", "SELECT"),
        ("(SELECT 1) UNION (SELECT 2)", "(SELECT"),
        ("COMMIT", ""),
        ("", ""),
        ("sproc:f", ""),
        ("/* open", ""),
        ("/* a */ -- b", ""),
        (f"/* {'long ' * 100} */ SELECT 1", ""),
        (None, ""),
        (42, ""),
    ],
)
def test_the_span_of_a_statement(tracer: MockTracer, spans: Spans, statement: Any, operation: str) -> None:
    with tracer.start_active_span("work"), db_span(statement, "MySQLdb") as begun:
        assert begun.operation_name == f"MySQLdb:{operation}"
    text = statement.decode("utf-8", "ignore") if isinstance(statement, bytes) else statement
    sql = {"sql": text.strip()} if isinstance(text, str) else {}
    assert spans() == [span(operation, module="MySQLdb", **sql), WORK]


@pytest.mark.parametrize("name", ["_BEGIN", "_COMMIT", "_ROLLBACK"])
def test_the_span_of_a_transactions_end(tracer: MockTracer, spans: Spans, name: str) -> None:
    operation = getattr(_dbapi2, name)
    with tracer.start_active_span("work"), db_span(operation, "MySQLdb", connect_params=((1,), {})):
        pass
    assert spans() == [span(operation, module="MySQLdb"), WORK]


def test_the_span_of_a_statement_tells_what_it_is_given(tracer: MockTracer, spans: Spans) -> None:
    CONFIG.capture_sql_parameters = True
    params, conn, cursor = (1,), (("host",), {}), ((), {"buffered": True})
    with tracer.start_active_span("work"), db_span("SELECT %s", "MySQLdb", params, conn, cursor):
        pass
    expected = {"sql": "SELECT %s", "sql.params": params, "sql.conn": conn, "sql.cursor": cursor}
    assert spans() == [span("SELECT", module="MySQLdb", **expected), WORK]


def test_with_no_current_span_a_statement_has_none(tracer: MockTracer) -> None:
    with db_span("SELECT 1", "MySQLdb") as begun:
        assert begun is None
    assert tracer.finished_spans() == []


def test_the_hook_of_mysqldb_has_its_old_name_of_the_wrapper() -> None:
    assert MySQLdbConnectionWrapper is ContextManagerConnectionWrapper
