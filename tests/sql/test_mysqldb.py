"""The hook of MySQLdb on MariaDB: what is a span, and what it says."""

from __future__ import annotations

import gc
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import MySQLdb
import opentracing
import pytest
from MySQLdb import connect as connect_of_before
from MySQLdb import connections, cursors
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import mysqldb as hook
from opentracing_instrumentation.client_hooks import set_current_span_func
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans, failed, unused_port
from tests.services import Service

from . import told
from .conftest import Connect
from .told import WORK, coded


def span(at: Service, verb: str, parent: str | None = "work", **tags: Any) -> told.Told:
    return told.span("MySQLdb", at, verb, parent, **tags)


def statement(at: Service, text: str | None, verb: str | None = None, **tags: Any) -> told.Told:
    return told.statement("MySQLdb", at, text, verb, **tags)


def test_connecting_is_a_span_by_any_name_and_with_no_need_of_a_parent(
    my_connect: Connect, tracer: MockTracer, spans: Spans, mariadb: Service
) -> None:
    hook.install_patches()
    arguments = (mariadb.host, mariadb.user, mariadb.password, mariadb.database, mariadb.port)
    my_connect()
    with tracer.start_active_span("work"):
        for connect in (connect_of_before, MySQLdb.Connect, MySQLdb.Connection, connections.Connection):
            connection = connect(*arguments)
            connection.cursor().execute("SELECT 1")
            connection.close()
    positional = (mariadb.host, mariadb.user, "[redacted]", mariadb.database, mariadb.port), {}
    pair = [span(mariadb, "Connect"), span(mariadb, "SELECT", sql="SELECT 1", **{"sql.conn": positional})]
    assert spans() == [span(mariadb, "Connect", None), *(4 * pair), WORK]


def test_a_connection_that_is_refused_is_an_error(my_connect: Connect, spans: Spans, mariadb: Service) -> None:
    hook.install_patches()
    port = unused_port()
    with pytest.raises(MySQLdb.OperationalError) as refused:
        my_connect(port=port)
    with pytest.raises(MySQLdb.OperationalError) as denied:
        my_connect(password="wrong")
    connect = span(mariadb, "Connect", None)
    elsewhere = {**connect, "tags": {**connect["tags"], "peer.port": port}}
    assert spans() == [
        coded(failed(elsewhere, refused.value), str(refused.value.args[0])),
        coded(failed(connect, denied.value), "1045"),
    ]


def test_what_only_an_option_file_tells_is_tagged_after_connecting(
    tracer: MockTracer, spans: Spans, mariadb: Service, tmp_path: Path
) -> None:
    options = tmp_path / "my.cnf"
    options.write_text(
        f"[client]\nhost={mariadb.host}\nport={mariadb.port}\nuser={mariadb.user}\npassword={mariadb.password}\n"
    )
    hook.install_patches()
    MySQLdb.connect(read_default_file=str(options), database=mariadb.database).close()
    connect = span(mariadb, "Connect", None)
    del connect["tags"]["db.user"]
    assert spans() == [connect]


@pytest.mark.parametrize(
    ("query", "text", "verb"),
    [
        ("SELECT 1", "SELECT 1", "SELECT"),
        ("  select\n1 ", "select\n1", "select"),
        (b"SELECT 1", "SELECT 1", "SELECT"),
        (bytearray(b"SELECT 1"), "SELECT 1", "SELECT"),
        ("-- why\n/* and\nhow */ SELECT 1", "-- why\n/* and\nhow */ SELECT 1", "SELECT"),
        ("DO(1)", "DO(1)", ""),
    ],
)
def test_a_statement_is_a_span_named_by_its_first_word(
    my: Any, tracer: MockTracer, spans: Spans, mariadb: Service, query: Any, text: str, verb: str
) -> None:
    with tracer.start_active_span("work"), my.cursor() as cursor:
        cursor.execute(query)
    assert spans() == [statement(mariadb, text, verb), WORK]


@pytest.mark.parametrize("query", ["", "  ", "-- nothing", "/* nothing */", b"\xff", ";"])
def test_odd_statements_are_left_to_the_driver(my: Any, tracer: MockTracer, spans: Spans, query: Any) -> None:
    with tracer.start_active_span("work"), suppress(MySQLdb.Error):
        my.cursor().execute(query)
    assert [told["operation"] for told in spans()] == ["MySQLdb:", "work"]


@pytest.mark.parametrize("query", [None, 1, object()])
def test_what_is_no_statement_gets_the_drivers_own_error(
    my: Any, tracer: MockTracer, spans: Spans, mariadb: Service, query: Any
) -> None:
    with tracer.start_active_span("work"), pytest.raises(AssertionError) as error:
        my.cursor().execute(query)
    assert spans() == [failed(statement(mariadb, None), error.value), WORK]


def test_the_drivers_own_keywords_work(my: Any, tracer: MockTracer, spans: Spans, mariadb: Service) -> None:
    with tracer.start_active_span("work"), my.cursor(cursorclass=cursors.DictCursor) as cursor:
        cursor.execute(query="SELECT %s AS a", args=(1,))
        assert cursor.fetchall() == ({"a": 1},)
        cursor.executemany(query="SELECT %s", args=[(1,), (2,)])
        with pytest.raises(TypeError):
            cursor.execute()
    kwargs = {"cursorclass": cursors.DictCursor}
    assert spans() == [
        statement(mariadb, "SELECT %s AS a", sql_cursor=((), kwargs)),
        statement(mariadb, "SELECT %s", sql_cursor=((), kwargs)),
        WORK,
    ]


def test_a_failing_statement_tells_its_code(my: Any, tracer: MockTracer, spans: Spans, mariadb: Service) -> None:
    with tracer.start_active_span("work"), pytest.raises(MySQLdb.ProgrammingError) as error:
        my.cursor().execute("SELECT 1 FROM nowhere")
    assert spans() == [coded(failed(statement(mariadb, "SELECT 1 FROM nowhere"), error.value), "1146"), WORK]


def test_a_connection_that_the_server_ends_is_an_error(
    my: Any, tracer: MockTracer, spans: Spans, mariadb: Service
) -> None:
    kill = f"KILL {my.thread_id()}"
    with tracer.start_active_span("work"):
        with pytest.raises(MySQLdb.OperationalError) as killed:
            my.cursor().execute(kill)
        with pytest.raises(MySQLdb.OperationalError) as gone:
            my.commit()
    assert spans() == [
        coded(failed(statement(mariadb, kill), killed.value), str(killed.value.args[0])),
        coded(failed(span(mariadb, "commit"), gone.value), str(gone.value.args[0])),
        WORK,
    ]


def test_a_closed_connection_that_was_made_before_installing_tells_little(
    my_connect: Connect, tracer: MockTracer, spans: Spans
) -> None:
    connection = my_connect()
    connection.close()
    hook.install_patches()
    with tracer.start_active_span("work"), pytest.raises(MySQLdb.OperationalError) as error:
        connection.commit()
    tags = {"span.kind": "client", "component": "MySQLdb", "db.type": "mysql"}
    commit = failed({"operation": "MySQLdb:commit", "parent": "work", "tags": tags}, error.value)
    assert spans() == [coded(commit, "2006"), WORK]


def test_statements_on_a_closed_cursor_are_errors(my: Any, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        cursor = my.cursor()
        cursor.close()
        with pytest.raises(MySQLdb.ProgrammingError) as error:
            cursor.execute("SELECT 1")
    tags = {"span.kind": "client", "component": "MySQLdb", "db.type": "mysql", "sql": "SELECT 1"}
    assert spans()[0] == failed({"operation": "MySQLdb:SELECT", "parent": "work", "tags": tags}, error.value)


@pytest.fixture
def table(my: Any, tracer: MockTracer) -> Any:
    cursor = my.cursor()
    cursor.execute("CREATE TEMPORARY TABLE t (a int)")
    return cursor


def inserts(cursor: Any) -> int:
    """The number of INSERTs that the server has seen of this connection."""
    cursor.execute("SHOW SESSION STATUS LIKE 'Com_insert'")
    return int(cursor.fetchone()[1])


def test_executemany_stays_one_statement_and_is_one_span(
    table: Any, tracer: MockTracer, spans: Spans, mariadb: Service
) -> None:
    before = inserts(table)
    with tracer.start_active_span("work"):
        assert table.executemany("INSERT INTO t (a) VALUES (%s)", [(number,) for number in range(2000)]) == 2000
        table.executemany("UPDATE t SET a = %s WHERE a = %s", [(1, 2), (3, 4)])
        table.executemany("INSERT INTO t (a) VALUES (%s)", [])
        table.execute("SELECT 1")
    assert inserts(table) == before + 1
    texts = [
        "INSERT INTO t (a) VALUES (%s)",
        "UPDATE t SET a = %s WHERE a = %s",
        "INSERT INTO t (a) VALUES (%s)",
        "SELECT 1",
    ]
    assert spans() == [*(statement(mariadb, text) for text in texts), WORK]


def test_statements_on_another_cursor_in_the_middle_of_executemany_are_spans(
    my: Any, table: Any, tracer: MockTracer, spans: Spans
) -> None:
    def rows() -> Any:
        for number in range(2):
            my.cursor().execute("SELECT %s", (number,))
            yield (number,)

    with tracer.start_active_span("work"):
        table.executemany("INSERT INTO t (a) VALUES (%s)", rows())
    assert [told["operation"] for told in spans()] == ["MySQLdb:SELECT", "MySQLdb:SELECT", "MySQLdb:INSERT", "work"]


@pytest.mark.parametrize("name", ["twice", b"twice"])
def test_a_procedure_is_a_span_and_its_result_sets_are_there(
    my: Any, tracer: MockTracer, spans: Spans, mariadb: Service, name: Any
) -> None:
    with my.cursor() as cursor:
        cursor.execute("DROP PROCEDURE IF EXISTS twice")
        cursor.execute("CREATE PROCEDURE twice(a int) BEGIN SELECT a; SELECT 2 * a; END")
    with tracer.start_active_span("work"), my.cursor() as cursor:
        assert cursor.callproc(name, (21,)) == (21,)
        assert cursor.fetchall() == ((21,),)
        assert cursor.nextset() == 1
        assert cursor.fetchall() == ((42,),)
        cursor.nextset()
    assert spans() == [statement(mariadb, "sproc:twice"), WORK]


@pytest.mark.parametrize("kind", [cursors.Cursor, cursors.DictCursor, cursors.SSCursor, cursors.SSDictCursor])
def test_all_kinds_of_cursors_are_traced(
    my: Any, tracer: MockTracer, spans: Spans, mariadb: Service, kind: Any
) -> None:
    with tracer.start_active_span("work"), my.cursor(kind) as cursor:
        cursor.execute("SELECT 1 AS a UNION SELECT 2")
        assert len(cursor.fetchall()) == 2
    assert type(cursor) is kind
    assert spans() == [statement(mariadb, "SELECT 1 AS a UNION SELECT 2", sql_cursor=((kind,), {})), WORK]


def test_begin_commit_and_rollback_are_spans(my: Any, tracer: MockTracer, spans: Spans, mariadb: Service) -> None:
    with tracer.start_active_span("work"):
        my.begin()
        my.commit()
        my.rollback()
    assert spans() == [*(span(mariadb, verb) for verb in ("begin-trans", "commit", "rollback")), WORK]


def test_a_block_ends_in_no_commit_since_the_driver_just_closes(
    my: Any, tracer: MockTracer, spans: Spans, mariadb: Service
) -> None:
    with tracer.start_active_span("work"):
        with my as entered, entered.cursor() as cursor:
            assert entered is my
            cursor.execute("SELECT 1")
        assert not my.open
    begin = {"operation": "MySQLdb:begin_transaction", "parent": "work", "tags": {}}
    assert spans() == [begin, statement(mariadb, "SELECT 1"), WORK]


class Connection(connections.Connection):
    """An application's own."""

    default_cursor = cursors.DictCursor

    def commit(self) -> None:
        self.cursor().execute("SELECT 'committing'")
        super().commit()


class Cursor(cursors.Cursor):
    def execute(self, query: Any, args: Any = None) -> Any:
        return super().execute(f"{query} + 1", args)


def test_subclasses_of_the_application_are_traced(tracer: MockTracer, spans: Spans, mariadb: Service) -> None:
    hook.install_patches()
    connection = Connection(mariadb.host, mariadb.user, mariadb.password, mariadb.database, mariadb.port)
    with tracer.start_active_span("work"):
        connection.commit()
        with connection.cursor(Cursor) as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == ((2,),)
    connection.close()
    told = spans()[1:]
    assert [one["tags"].get("sql") for one in told] == ["SELECT 'committing'", None, "SELECT 1 + 1", None]
    assert [one["operation"] for one in told] == ["MySQLdb:SELECT", "MySQLdb:commit", "MySQLdb:SELECT", "work"]


def test_only_connecting_is_traced_with_no_current_span(my: Any, spans: Spans) -> None:
    with my.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.executemany("SELECT %s", [(1,)])
    my.rollback()
    assert spans() == []


def test_parameters_are_captured_only_if_asked_for(my: Any, tracer: MockTracer, spans: Spans, mariadb: Service) -> None:
    parameters = {"a": "secret"}
    with tracer.start_active_span("work"), my.cursor() as cursor:
        cursor.execute("SELECT %(a)s", parameters)
        CONFIG.capture_sql_parameters = True
        cursor.execute("SELECT %(a)s", parameters)
        cursor.execute("SELECT 1")
    expected = [
        statement(mariadb, "SELECT %(a)s"),
        statement(mariadb, "SELECT %(a)s", sql_params=parameters),
        statement(mariadb, "SELECT 1"),
    ]
    assert spans() == [*expected, WORK]
    assert spans()[1]["tags"]["sql.params"] is parameters


def test_the_parent_is_found_by_the_function_set_last(
    my: Any, tracer: MockTracer, spans: Spans, mariadb: Service
) -> None:
    work = tracer.start_span("work")
    set_current_span_func(lambda: work)
    my.cursor().execute("SELECT 1")
    work.finish()
    assert spans() == [statement(mariadb, "SELECT 1"), WORK]


def test_connections_made_before_installing_or_before_a_tracer_was_set_are_traced(
    my_connect: Connect, tracer: MockTracer, spans: Spans, mariadb: Service
) -> None:
    """The former can't tell with which arguments they were made; user and database, if mysqlclient (>= 2.2.7) does."""
    opentracing.tracer = opentracing.Tracer()
    older = my_connect()
    hook.install_patches()
    newer = my_connect()
    opentracing.tracer = tracer
    with tracer.start_active_span("work"):
        older.cursor().execute("SELECT 1")
        newer.cursor().execute("SELECT 1")
    expected = span(mariadb, "SELECT", sql="SELECT 1")
    if not hasattr(older, "user"):
        del expected["tags"]["db.user"], expected["tags"]["db.instance"]
    assert spans() == [expected, statement(mariadb, "SELECT 1"), WORK]


def test_reset_leaves_the_driver_as_it_was_and_live_objects_untraced(
    my: Any, tracer: MockTracer, spans: Spans, mariadb: Service
) -> None:
    with tracer.start_active_span("work"):
        cursor = my.cursor()
        hook.reset_patches()
        assert not {"commit", "rollback"} & vars(connections.Connection).keys()
        cursor.execute("SELECT 1")
        my.commit()
        hook.install_patches()
        cursor.execute("SELECT 2")
    assert spans() == [statement(mariadb, "SELECT 2"), WORK]
    assert hook._MySQLdb_connect is connect_of_before


def test_threads_have_their_own_parents(my_connect: Connect, tracer: MockTracer, spans: Spans) -> None:
    hook.install_patches()

    def work(number: int) -> None:
        connection = my_connect()
        with tracer.start_active_span(f"work {number}"):
            for _ in range(50):
                connection.cursor().execute(f"SELECT {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statements = [told for told in spans() if told["parent"]]
    assert len(statements) == 400
    assert all(told["tags"]["sql"] == told["parent"].replace("work", "SELECT") for told in statements)


def test_nothing_is_remembered_of_what_is_gone(my_connect: Connect, mariadb: Service) -> None:
    hook.install_patches()
    gc.collect()
    remembered = hook._driver._connections, hook._driver._cursor_params
    before = [len(table) for table in remembered]
    connection = MySQLdb.connect(mariadb.host, mariadb.user, mariadb.password, mariadb.database, mariadb.port)
    opened = [connection.cursor(cursors.DictCursor) for _ in range(100)]
    assert [len(table) for table in remembered] == [before[0] + 1, before[1] + 100]
    connection.close()
    del connection, opened
    gc.collect()
    assert [len(table) for table in remembered] == before


@pytest.mark.parametrize("way", ["password", "passwd", "positionally", "option file"])
def test_no_password_reaches_a_tag_or_log_by_any_way(
    tracer: MockTracer, spans: Spans, mariadb: Service, tmp_path: Path, way: str
) -> None:
    server = mariadb
    rest = {"host": server.host, "port": server.port, "user": server.user, "db": server.database}
    options = tmp_path / "my.cnf"
    options.write_text(f"[client]\npassword={server.password}\n")
    hook.install_patches()
    CONFIG.capture_sql_parameters = True
    if way == "positionally":
        connection = MySQLdb.connect(server.host, server.user, server.password, server.database, server.port)
    elif way == "option file":
        connection = MySQLdb.connect(**rest, read_default_file=str(options))
    else:
        connection = MySQLdb.connect(**rest, **{way: server.password}, conv=MySQLdb.converters.conversions)
    with tracer.start_active_span("work"):
        connection.cursor().execute("SELECT 1")
    connection.close()
    assert server.password not in repr(spans())
    assert [type(part) for part in spans()[1]["tags"]["sql.conn"]] == [tuple, dict]
    assert "conv" not in spans()[1]["tags"]["sql.conn"][1]
