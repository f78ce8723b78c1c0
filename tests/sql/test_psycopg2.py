"""The hook of psycopg2 on PostgreSQL: what is a span, and what it says."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import opentracing
import psycopg2
import pytest
from opentracing.mocktracer import MockTracer
from psycopg2 import connect as connect_of_before
from psycopg2 import extras, sql

from opentracing_instrumentation import span_in_context
from opentracing_instrumentation.client_hooks import psycopg2 as hook
from opentracing_instrumentation.client_hooks import set_current_span_func
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans, failed, unused_port
from tests.services import Service

from . import told
from .conftest import Connect
from .told import WORK, coded


def span(at: Service, verb: str, parent: str | None = "work", **tags: Any) -> told.Told:
    return told.span("psycopg2", at, verb, parent, **tags)


def statement(at: Service, text: str | None, verb: str | None = None, **tags: Any) -> told.Told:
    return told.statement("psycopg2", at, text, verb, **tags)


def dsn(at: Service) -> str:
    return f"host={at.host} port={at.port} user={at.user} password={at.password} dbname={at.database}"


def test_connecting_is_a_span_with_no_need_of_a_parent(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    hook.install_patches()
    pg_connect()
    with tracer.start_active_span("work"):
        pg_connect()
    assert spans() == [span(postgresql, "connect", None), span(postgresql, "connect"), WORK]


def test_a_name_taken_before_patching_is_traced(tracer: MockTracer, spans: Spans, postgresql: Service) -> None:
    hook.install_patches()
    connection = connect_of_before(dsn(postgresql))
    with tracer.start_active_span("work"), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()
    shown = (f"user=tester dbname=postgres host=127.0.0.1 port={postgresql.port}",), {}
    assert spans() == [
        span(postgresql, "connect", None),
        span(postgresql, "SELECT", sql="SELECT 1", **{"sql.conn": shown}),
        WORK,
    ]


def test_a_connection_that_is_refused_is_an_error(pg_connect: Connect, spans: Spans, postgresql: Service) -> None:
    hook.install_patches()
    port = unused_port()
    with pytest.raises(psycopg2.OperationalError) as error:
        pg_connect(port=port)
    assert spans() == [failed(span(postgresql, "connect", None, **{"peer.port": port}), error.value)]


def test_what_only_the_server_knows_is_tagged_after_connecting(
    pg_connect: Connect, spans: Spans, postgresql: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host, port, user and database may come from the environment; one of several hosts answers."""
    hook.install_patches()
    monkeypatch.setenv("PGPORT", str(postgresql.port))
    monkeypatch.setenv("PGUSER", postgresql.user)
    monkeypatch.setenv("PGPASSWORD", postgresql.password)
    monkeypatch.setenv("PGDATABASE", postgresql.database)
    pg_connect(f"host={postgresql.host},192.0.2.1")
    assert spans() == [span(postgresql, "connect", None)]


@pytest.mark.parametrize(
    ("query", "text", "verb"),
    [
        ("SELECT 1", "SELECT 1", "SELECT"),
        ("  select\n1 ", "select\n1", "select"),
        ("SELECT\t1", "SELECT\t1", "SELECT"),
        (b"SELECT 1", "SELECT 1", "SELECT"),
        ("-- why\n/* and\nhow */ SELECT 1", "-- why\n/* and\nhow */ SELECT 1", "SELECT"),
        ("VALUES(1)", "VALUES(1)", ""),
        (sql.SQL("SELECT {}").format(sql.Literal("it's")), "SELECT 'it''s'", "SELECT"),
        (
            sql.SQL("SELECT {} FROM pg_class").format(sql.Identifier("relname")),
            'SELECT "relname" FROM pg_class',
            "SELECT",
        ),
    ],
)
def test_a_statement_is_a_span_named_by_its_first_word(
    pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service, query: Any, text: str, verb: str
) -> None:
    with tracer.start_active_span("work"), pg.cursor() as cursor:
        cursor.execute(query)
        assert cursor.fetchall()
    assert spans() == [statement(postgresql, text, verb), WORK]


@pytest.mark.parametrize("query", ["", "  ", "-- nothing", "/* nothing */", b"\xff", ";"])
def test_odd_statements_are_left_to_the_driver(pg: Any, tracer: MockTracer, spans: Spans, query: Any) -> None:
    with tracer.start_active_span("work"), pg.cursor() as cursor, pytest.raises(psycopg2.Error):
        cursor.execute(query)
        cursor.fetchall()
    assert [told["operation"] for told in spans()] == ["psycopg2:", "work"]


@pytest.mark.parametrize("query", [None, 1, object(), sql.SQL("SELECT {}").format(sql.Literal(object()))])
def test_what_is_no_statement_gets_the_drivers_own_error(
    pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service, query: Any
) -> None:
    with tracer.start_active_span("work"), pytest.raises((TypeError, psycopg2.ProgrammingError)) as error:
        pg.cursor().execute(query)
    assert spans() == [failed(statement(postgresql, None), error.value), WORK]


def test_the_drivers_own_keywords_work(pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service) -> None:
    with tracer.start_active_span("work"), pg.cursor() as cursor:
        cursor.execute(query="SELECT %s", vars=(1,))
        cursor.executemany(query="SELECT %s", vars_list=[(1,), (2,)])
        cursor.copy_expert(sql="COPY (SELECT 1) TO STDOUT", file=io.StringIO(), size=1)
    assert spans() == [
        statement(postgresql, "SELECT %s"),
        statement(postgresql, "SELECT %s"),
        statement(postgresql, "COPY (SELECT 1) TO STDOUT"),
        WORK,
    ]


def test_wrong_arguments_are_a_type_error_and_no_span(pg: Any, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"), pg.cursor() as cursor:
        with pytest.raises(TypeError):
            cursor.execute()
        with pytest.raises(TypeError):
            cursor.execute("SELECT 1", (), 3)
    assert spans() == [WORK]


def test_a_failing_statement_tells_its_sqlstate(pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service) -> None:
    with tracer.start_active_span("work"), pytest.raises(psycopg2.errors.UndefinedTable) as error:
        pg.cursor().execute("SELECT 1 FROM nowhere")
    assert spans() == [coded(failed(statement(postgresql, "SELECT 1 FROM nowhere"), error.value), "42P01"), WORK]


def test_a_connection_that_the_server_ends_is_an_error(
    pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    text = "SELECT pg_terminate_backend(pg_backend_pid())"
    with tracer.start_active_span("work"):
        cursor = pg.cursor()
        with pytest.raises(psycopg2.OperationalError) as error:
            cursor.execute(text)
        with pytest.raises(psycopg2.InterfaceError) as closed:
            cursor.execute("SELECT 1")
    assert spans() == [
        failed(statement(postgresql, text), error.value),
        failed(statement(postgresql, "SELECT 1"), closed.value),
        WORK,
    ]


def test_every_way_to_send_a_statement(pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service) -> None:
    """Each call of the application's is one span; the helpers of psycopg2.extras make several."""
    with tracer.start_active_span("work"), pg.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE t (a int)")
        cursor.executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)])
        cursor.callproc("abs", (-3,))
        assert cursor.fetchall() == [(3,)]
        cursor.callproc("now")
        cursor.copy_from(io.StringIO("4\n5\n"), "t", columns=("a",))
        cursor.copy_to(out := io.StringIO(), "t", sep="|")
        cursor.copy_expert("COPY t FROM STDIN", io.StringIO("6\n"))
        extras.execute_values(cursor, "INSERT INTO t VALUES %s", [(7,), (8,), (9,)], page_size=2)
        extras.execute_batch(cursor, "INSERT INTO t VALUES (%s)", [(10,), (11,)])
        cursor.execute("SELECT sum(a) FROM t")
        assert cursor.fetchall() == [(63,)]
    assert out.getvalue() == "1\n2\n4\n5\n"
    texts = [
        "CREATE TEMPORARY TABLE t (a int)",
        "INSERT INTO t VALUES (%s)",
        "sproc:abs",
        "sproc:now",
        "COPY t FROM STDIN",
        "COPY t TO STDOUT",
        "COPY t FROM STDIN",
        "INSERT INTO t VALUES (7),(8)",
        "INSERT INTO t VALUES (9)",
        "INSERT INTO t VALUES (10);INSERT INTO t VALUES (11)",
        "SELECT sum(a) FROM t",
    ]
    assert spans() == [*(statement(postgresql, text) for text in texts), WORK]


def test_commit_and_rollback_are_spans(pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service) -> None:
    with tracer.start_active_span("work"):
        pg.commit()
        pg.rollback()
    assert spans() == [span(postgresql, "commit"), span(postgresql, "rollback"), WORK]


def test_a_block_begins_and_ends_a_transaction(pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service) -> None:
    begin = {"operation": "psycopg2:begin_transaction", "parent": "work", "tags": {}}
    with tracer.start_active_span("work"):
        with pg as entered, entered.cursor() as cursor:
            assert entered is pg
            cursor.execute("SELECT 1")
        with pytest.raises(ZeroDivisionError), pg:
            raise ZeroDivisionError
    assert spans() == [
        begin,
        statement(postgresql, "SELECT 1"),
        span(postgresql, "commit"),
        begin,
        span(postgresql, "rollback"),
        WORK,
    ]


def test_a_failing_commit_is_an_error(pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service) -> None:
    with tracer.start_active_span("work"):
        pg.close()
        with pytest.raises(psycopg2.InterfaceError) as error:
            pg.commit()
    assert spans() == [failed(span(postgresql, "commit"), error.value), WORK]


def test_a_named_cursor_is_traced_where_it_is_declared(
    pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    with tracer.start_active_span("work"), pg.cursor("c", withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        assert list(cursor) == [(1,), (2,), (3,)]
    arguments = (("c",), {"withhold": True})
    assert spans() == [statement(postgresql, "SELECT generate_series(1, 3)", sql_cursor=arguments), WORK]


def test_only_connecting_is_traced_with_no_current_span(pg: Any, spans: Spans) -> None:
    with pg, pg.cursor() as cursor:
        cursor.execute("SELECT 1")
    pg.rollback()
    assert spans() == [{"operation": "psycopg2:begin_transaction", "parent": None, "tags": {}}]


def test_parameters_are_captured_only_if_asked_for(
    pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    parameters = {"a": "secret"}
    with tracer.start_active_span("work"), pg.cursor() as cursor:
        cursor.execute("SELECT %(a)s", parameters)
        CONFIG.capture_sql_parameters = True
        cursor.execute("SELECT %(a)s", parameters)
        cursor.execute("SELECT 1", ())
    expected = [
        statement(postgresql, "SELECT %(a)s"),
        statement(postgresql, "SELECT %(a)s", sql_params=parameters),
        statement(postgresql, "SELECT 1"),
    ]
    assert spans() == [*expected, WORK]
    assert spans()[1]["tags"]["sql.params"] is parameters


def test_the_parent_is_found_by_the_function_set_last(
    pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    work = tracer.start_span("work")
    set_current_span_func(lambda: work)
    with pg.cursor() as cursor:
        cursor.execute("SELECT 1")
    work.finish()
    assert spans() == [statement(postgresql, "SELECT 1"), WORK]


def test_a_connection_made_before_a_tracer_was_set_tells_as_much(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    hook.install_patches()
    opentracing.tracer = opentracing.Tracer()
    connection = pg_connect()
    opentracing.tracer = tracer
    with tracer.start_active_span("work"):
        connection.cursor().execute("SELECT 1")
    assert spans() == [statement(postgresql, "SELECT 1"), WORK]


def test_reset_and_install_work_on_live_connections(
    pg: Any, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    with tracer.start_active_span("work"):
        cursor = pg.cursor()
        hook.reset_patches()
        assert psycopg2.connect is connect_of_before
        for unpatched in (cursor, pg.cursor()):
            unpatched.execute("SELECT 1")
        with pg:
            pg.rollback()
        assert type(pg.cursor()) is psycopg2.extensions.cursor
        hook.install_patches()
        cursor.execute("SELECT 2")
    assert spans() == [statement(postgresql, "SELECT 2"), WORK]


def test_connections_made_before_installing_or_after_reset_are_the_drivers_own(pg_connect: Connect) -> None:
    assert type(pg_connect()) is psycopg2.extensions.connection
    hook.install_patches()
    assert isinstance(pg_connect(), hook.ConnectionWrapper)
    hook.reset_patches()
    assert type(pg_connect()) is psycopg2.extensions.connection


def test_threads_that_share_a_connection_have_their_own_parents(pg: Any, tracer: MockTracer, spans: Spans) -> None:
    def work(number: int) -> None:
        with tracer.start_active_span(f"work {number}"):
            for _ in range(50):
                pg.cursor().execute(f"SELECT {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statements = [told for told in spans() if told["parent"]]
    assert len(statements) == 400
    assert all(told["tags"]["sql"] == told["parent"].replace("work", "SELECT") for told in statements)


@pytest.fixture
def secret_files(postgresql: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service file and a password file with what the server wants to know."""
    server = postgresql
    service = tmp_path / "pg_service.conf"
    service.write_text(
        f"[shop]\nhost={server.host}\nport={server.port}\nuser={server.user}\n"
        f"dbname={server.database}\npassword={server.password}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"*:*:*:*:{server.password}\n")
    passfile.chmod(0o600)
    return passfile


@pytest.mark.parametrize(
    "way", ["keywords", "dsn", "dsn keyword", "url", "query", "mixed", "service", "passfile", "env"]
)
def test_no_password_reaches_a_tag_or_log_by_any_way(
    pg_connect: Connect,
    tracer: MockTracer,
    spans: Spans,
    postgresql: Service,
    secret_files: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    server = postgresql
    place = f"host={server.host} port={server.port} user={server.user} dbname={server.database}"
    address = f"{server.host}:{server.port}/{server.database}"
    ways: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "keywords": ((), {}),
        "dsn": ((f"{place} password = '{server.password}'",), {}),
        "dsn keyword": ((), {"dsn": f"{place} password={server.password}"}),
        "url": ((f"postgresql://{server.user}:{server.password}@{address}",), {}),
        "query": ((f"postgresql://{address}?user={server.user}&password={server.password}",), {}),
        "mixed": ((place,), {"password": server.password, "application_name": "shop"}),
        "service": (("service=shop",), {}),
        "passfile": ((f"{place} passfile={secret_files}",), {}),
        "env": ((place,), {}),
    }
    args, kwargs = ways[way]
    if way == "env":
        monkeypatch.setenv("PGPASSWORD", server.password)
    hook.install_patches()
    CONFIG.capture_sql_parameters = True
    connection = psycopg2.connect(*args, **kwargs) if args or kwargs.get("dsn") else pg_connect()
    with span_in_context(tracer.start_span("work")) as scope, connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    scope.span.finish()
    connection.close()
    assert [told["operation"] for told in spans()] == [
        "psycopg2:connect",
        "psycopg2:begin_transaction",
        "psycopg2:SELECT",
        "psycopg2:commit",
        "work",
    ]
    assert server.password not in repr(spans())
    tags = spans()[2]["tags"]
    assert (tags["db.user"], tags["db.instance"], tags["peer.port"]) == (server.user, server.database, server.port)
    assert [type(part) for part in tags["sql.conn"]] == [tuple, dict]


def test_a_connection_of_before_is_traced_on_request(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    """Statements of the driver's very class and all of an application's, but for cursors of a class asked for."""
    plain, dictionaries = pg_connect(), pg_connect(connection_factory=extras.DictConnection)
    hook.install_patches()
    for _ in range(2):
        assert hook.instrument_connection(plain) is plain
        assert hook.instrument_connection(dictionaries) is dictionaries
    with tracer.start_active_span("work"):
        with plain.cursor() as cursor, plain.cursor("named") as named:
            cursor.execute("SELECT 1")
            named.execute("SELECT 2")
            assert (cursor.fetchall(), named.fetchall()) == ([(1,)], [(2,)])
        with plain.cursor(cursor_factory=extras.DictCursor) as cursor:
            cursor.execute("SELECT 3 AS three")
            assert cursor.fetchone()["three"] == 3
        plain.commit()
        with dictionaries.cursor() as cursor:
            cursor.execute("SELECT 4 AS four")
            assert cursor.fetchone()["four"] == 4
        dictionaries.commit()
        hook.reset_patches()
        with plain.cursor() as cursor:
            cursor.execute("SELECT 5")
    assert spans() == [
        span(postgresql, "SELECT", sql="SELECT 1"),
        span(postgresql, "SELECT", sql="SELECT 2"),
        span(
            *(postgresql, "SELECT"),
            sql="SELECT 4 AS four",
            **{"sql.cursor": ((), {"cursor_factory": extras.DictCursor})},
        ),
        span(postgresql, "commit"),
        WORK,
    ]
    with pytest.raises(TypeError, match="'postgresql://' is no connection of psycopg2"):
        hook.instrument_connection("postgresql://")
