"""Comments in what psycopg2 sends: the server's log has them, and nobody else notices."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from psycopg2 import sql
from psycopg2.extras import DictCursor, NamedTupleCursor, RealDictCursor, execute_batch, execute_values, wait_select

from opentracing_instrumentation import sqlcommenter
from opentracing_instrumentation.client_hooks import psycopg2 as hook
from opentracing_instrumentation.client_hooks import sqlalchemy as sqlalchemy_hook
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.sqlcommenter import configure, parse
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service
from tests.sql.conftest import Connect

from .conftest import ROUTE, Said

SAID = {"db_driver": f"psycopg2:{psycopg2.__version__.split()[0]}", "route": ROUTE}


@pytest.fixture
def server() -> str:
    return "postgresql"


def _named(pg: Any, sign: str) -> Any:
    with pg.cursor("names") as cursor:
        cursor.execute(f"SELECT '{sign}' FROM generate_series(1, %s)", (3,))
        return cursor.fetchall()


def _keyword(pg: Any, sign: str) -> Any:
    with pg.cursor() as cursor:
        cursor.execute(query=f"SELECT '{sign}', %(a)s", vars={"a": 1})
        return cursor.fetchall()


def _values(pg: Any, sign: str) -> Any:
    with pg.cursor() as cursor:
        return execute_values(cursor, f"SELECT '{sign}', a FROM (VALUES %s) t (a)", [(1,), (2,)], fetch=True)


def _batch(pg: Any, sign: str) -> Any:
    with pg.cursor() as cursor:
        execute_batch(cursor, f"SELECT '{sign}', '%%', %s", [(1,), (2,)])
        return cursor.fetchall()


def _mogrified(pg: Any, sign: str) -> Any:
    with pg.cursor() as cursor:
        text = cursor.mogrify(f"SELECT '{sign}', %s", ("50%",))
        assert b"/*" not in text
        cursor.execute(text)
        return cursor.fetchall()


def _composed(pg: Any, sign: str) -> Any:
    with pg.cursor() as cursor:
        query = sql.SQL("SELECT {}, {}, %s AS {};").format(sql.Literal(sign), sql.Literal("a"), sql.Identifier("b%%"))
        cursor.execute(query, (1,))
        return cursor.fetchall(), cursor.description[2].name


def _identified(pg: Any, sign: str) -> Any:
    with pg.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT ") + sql.Literal(sign) + sql.SQL(" ") + sql.Identifier("a--b"))
        return cursor.fetchall(), cursor.description[0].name


def _rows(pg: Any, sign: str) -> Any:
    told: list[Any] = []
    for factory in (DictCursor, RealDictCursor, NamedTupleCursor):
        with pg.cursor(cursor_factory=factory) as cursor:
            cursor.execute(f"SELECT '{sign}' AS a")
            told.append(cursor.fetchone())
    return told


@pytest.mark.parametrize("use", [_named, _keyword, _values, _batch, _mogrified, _composed, _identified, _rows])
@pytest.mark.usefixtures("static")
def test_whatever_is_sent_is_the_same_but_for_its_comment(
    pg: Any, pg_connect: Connect, sign: str, said: Said, use: Callable[[Any, str], Any]
) -> None:
    """Each statement is sent once, with one comment."""
    commented = use(pg, sign)
    comments = said()
    hook.reset_patches()
    assert use(pg_connect(), sign) == commented
    assert comments == [SAID] * (len(said()) // 2)
    assert said()[len(comments) :] == [{}] * len(comments)


@pytest.mark.usefixtures("static")
def test_procedures_and_copies_get_none(pg: Any, postgresql: Service, sign: str) -> None:
    with pg.cursor() as cursor:
        cursor.callproc("concat", [sign])
        assert cursor.fetchone() == (sign,)
        cursor.execute(f'CREATE TEMPORARY TABLE "{sign}" (a int)')
        cursor.copy_from(io.StringIO("1\n2\n"), sign)
        cursor.copy_expert(f'COPY "{sign}" FROM STDIN', io.StringIO("3\n"))
        cursor.copy_expert(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(sign)), io.StringIO("4\n"))
        cursor.copy_to(out := io.StringIO(), sign)
    assert out.getvalue() == "1\n2\n3\n4\n"
    lines = postgresql.logged(sign)
    assert len(lines) == 6
    assert not any("/*" in line for line in lines)


def test_an_asynchronous_connection_sends_comments(pg_connect: Connect, otel: Tracer, sign: str, said: Said) -> None:
    hook.install_patches()
    hook.set_comments("full", {"db_driver": False})
    with otel.start_active_span("work"):
        connection = pg_connect(async_=True)
        wait_select(connection)
        cursor = connection.cursor()
        cursor.execute(f"SELECT '{sign}', %s", (1,))
        wait_select(connection)
        assert cursor.fetchall() == [(sign, 1)]
    (comment,) = said()
    assert set(comment) == {"traceparent"}


class Recording(psycopg2.extensions.cursor):
    """A cursor class that calls the driver's by its name; what it gets has a comment, therefore."""

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002
        self.connection.notices.append((type(query).__mro__[-2], query))
        return psycopg2.extensions.cursor.execute(self, query, vars)


@pytest.mark.usefixtures("static")
def test_a_composable_remains_one(pg: Any) -> None:
    with pg.cursor(cursor_factory=Recording) as cursor:
        for query in (sql.SQL("SELECT 1"), sql.SQL("SELECT {};").format(sql.Literal(1)), "SELECT 1", b"SELECT 1"):
            cursor.execute(query)
            assert cursor.fetchone() == (1,)
    kinds = [kind for kind, _ in pg.notices]
    assert kinds == [sql.Composable, sql.Composable, str, bytes]
    assert parse(pg.notices[1][1].as_string(pg)) == SAID


class Polite(psycopg2.extensions.cursor):
    """A cursor class that calls the driver's by ``super()``."""

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002
        self.connection.notices.append(query)
        return super().execute(query, vars)


@pytest.mark.usefixtures("static")
def test_a_class_of_the_applications_sees_its_own_statement(pg: Any, sign: str, said: Said) -> None:
    pg.cursor(cursor_factory=Polite).execute(f"SELECT '{sign}'")
    assert pg.notices == [f"SELECT '{sign}'"]
    assert said() == [SAID]


def test_the_tag_has_the_comment_on_demand(pg: Any, tracer: MockTracer, spans: Spans) -> None:
    query = sql.SQL("SELECT 1")
    for shown in (False, True):
        hook.set_comments("static", {"db_driver": False, "a": "b"}, enable_attribute_commenter=shown)
        with tracer.start_active_span("work"), pg.cursor() as cursor:
            for statement in ("SELECT 1 ", b"SELECT 1", query, "SELECT 1 -- c"):
                cursor.execute(statement)
    told = [one["tags"]["sql"] for one in spans() if one["operation"] != "work"]
    commented = "SELECT 1 /*a='b'*/"
    assert told == ["SELECT 1", "SELECT 1", "SELECT 1", "SELECT 1 -- c", *[commented] * 3, "SELECT 1 -- c"]


@pytest.mark.usefixtures("static")
def test_errors_are_the_databases(pg: Any, pg_connect: Connect) -> None:
    """Only what it quotes of the statement has the comment, too."""

    def outcome(connection: Any, query: Any, parameters: Any) -> Any:
        try:
            connection.cursor().execute(query, parameters)
        except psycopg2.Error as error:
            connection.rollback()
            return type(error), error.pgcode, error.diag.message_primary, error.diag.statement_position
        except Exception as error:
            return type(error), str(error)
        pytest.fail("it is wrong")

    cases = [
        ("SELECT nothing", None),
        ("SELECT 'a", None),
        ("", None),
        (" -- nothing", None),
        ("SELECT %s", ()),
        (1, None),
    ]
    commented = [outcome(pg, *case) for case in cases]
    hook.reset_patches()
    assert [outcome(pg_connect(), *case) for case in cases] == commented


def test_a_statement_of_sqlalchemys_has_one_comment(
    service: Callable[[str], Service], otel: Tracer, sign: str, said: Said
) -> None:
    """SQLAlchemy's, if it makes one; else the driver's, which tells of SQLAlchemy's span."""
    for module in (hook, sqlalchemy_hook):
        module.install_patches()
    configure("full")
    engine = sa.create_engine(service("postgresql").url.replace("postgresql:", "postgresql+psycopg2:"))
    comments = []
    for enabled in (True, False):
        sqlalchemy_hook.instrument_engine(engine, enable_commenter=enabled)
        with otel.start_active_span("work"), engine.connect() as connection:
            assert connection.execute(sa.text(f"SELECT '{sign}', :n"), {"n": 1}).all() == [(sign, 1)]
        comments += said()[len(comments) :]
    engine.dispose()
    assert [set(comment) for comment in comments] == [
        {"db_driver", "db_framework", "traceparent"},
        {"db_driver", "traceparent"},
    ]
    assert comments[1]["db_driver"] == SAID["db_driver"]


def test_the_setting_of_the_process_is_heeded_at_once(pg: Any, sign: str, said: Said) -> None:
    for mode in ("off", "static", "off"):
        CONFIG.sql_comments = mode
        pg.cursor().execute(f"SELECT '{sign}'")
    assert [set(comment) for comment in said()] == [set(), {"db_driver"}, set()]
    assert sqlcommenter.default_options().mode == "off"


def test_a_driver_of_which_less_is_known_is_no_trouble_either(
    pg: Any, lenient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(psycopg2, "apilevel")
    hook.set_comments("static")
    with pg.cursor() as cursor:
        for _ in range(2):
            cursor.execute("SELECT 1")
            assert cursor.query == b"SELECT 1"
    assert len(caplog.records) == 1
