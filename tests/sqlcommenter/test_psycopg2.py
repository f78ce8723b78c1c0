"""Comments in what psycopg2 sends: the server's log has them, and nobody else notices."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from typing import Any

import opentracing
import psycopg2
import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from opentracing.mocktracer import MockTracer
from psycopg2 import sql
from psycopg2.extras import DictCursor, NamedTupleCursor, RealDictCursor, execute_batch, execute_values, wait_select

from opentracing_instrumentation import sqlcommenter
from opentracing_instrumentation.client_hooks import psycopg2 as hook
from opentracing_instrumentation.client_hooks import sqlalchemy as sqlalchemy_hook
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.sqlcommenter import attributes, configure, parse, strip
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service
from tests.sql.conftest import Connect

ROUTE = "/50%/{id}"  # has a percent sign, and a brace
SAID = {"db_driver": f"psycopg2:{psycopg2.__version__.split()[0]}", "route": ROUTE}


@pytest.fixture
def sign() -> str:
    """What tells the statements of one test from all others in the log."""
    return uuid.uuid4().hex


@pytest.fixture
def said(postgresql: Service, sign: str) -> Callable[[], list[dict[str, str]]]:
    """The function that returns what the comments of this test's statements say, by the server's log."""
    return lambda: [parse(line) for line in postgresql.logged(sign)]


@pytest.fixture
def static() -> None:
    configure("static", {"route": ROUTE})


def test_the_servers_log_names_the_span_of_the_statement(
    pg_connect: Connect, otel: Tracer, monkeypatch: pytest.MonkeyPatch, sign: str, said: Callable[[], Any]
) -> None:
    spans: list[Any] = []
    start_span = otel.start_span
    monkeypatch.setattr(otel, "start_span", lambda *args, **kw: spans.append(start_span(*args, **kw)) or spans[-1])
    hook.install_patches()
    configure("full", {"route": ROUTE})
    with otel.start_active_span("work"), pg_connect().cursor() as cursor:
        del spans[:]
        cursor.execute(f"SELECT '{sign}'")
        cursor.execute(f"SELECT '{sign}', %s", (1,))
        cursor.executemany(f"SELECT '{sign}', %s", [(1,), (2,)])
        cursor.copy_expert(f"COPY (SELECT '{sign}') TO STDOUT", io.StringIO())
        cursor.execute(f"SELECT '{sign}'")
    contexts = [span.unwrap().get_span_context() for span in spans]
    one, other, many, _, last = [
        {**SAID, "traceparent": f"00-{c.trace_id:032x}-{c.span_id:016x}-{c.trace_flags:02x}"} for c in contexts
    ]
    assert said() == [one, other, many, many, {}, last]


@pytest.mark.parametrize("parameters", [None, (), [], {}, (7,), {"n": 7}, [7]])
@pytest.mark.parametrize("text", ["SELECT '{sign}', '100%'{n};", "SELECT '{sign}'{n} /* why */", "SELECT '{sign}'{n}"])
@pytest.mark.parametrize("kind", [str, bytes, "sql"])
@pytest.mark.usefixtures("static")
def test_percent_signs_come_out_right_for_all_parameters(
    pg: Any, sign: str, said: Callable[[], Any], parameters: Any, text: str, kind: Any
) -> None:
    place = {tuple: ", %s", list: ", %s", dict: ", %(n)s"}[type(parameters)] if parameters else ""
    text = text.replace("%", "%%" if parameters is not None else "%").format(sign=sign, n=place)
    query = text if kind is str else text.encode() if kind is bytes else sql.SQL(text)
    with pg.cursor() as cursor:
        cursor.execute(query, parameters)
        rows = cursor.fetchall()
        sent = cursor.query.decode()
    assert rows[0][0] == sign
    assert rows[0][1:] == (*(["100%"] if "100%" in text else []), *([7] if place else []))
    assert said() == [{} if "why" in text else SAID]
    assert strip(sent).rstrip(";").endswith(("'", "7", "/* why */"))


@pytest.mark.usefixtures("static")
def test_arguments_that_the_driver_does_not_need_do_no_more_harm(pg_connect: Connect) -> None:
    def outcomes() -> list[Any]:
        told: list[Any] = []
        with pg_connect() as connection, connection.cursor() as cursor:
            for parameters in (None, (), {}, (1,), {"n": 1}, [1, 2], 1, "a"):
                for query in ("SELECT 1", "SELECT 5 %% 3", "SELECT 5 % 3", "SELECT %s", "SELECT %(n)s", "SELECT 5 %2"):
                    try:
                        cursor.execute(query, parameters)
                        told.append(cursor.fetchall())
                    except Exception as error:
                        told.append(type(error))
                        connection.rollback()
        return told

    before = outcomes()
    hook.install_patches()
    assert outcomes() == before


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
    pg: Any, pg_connect: Connect, sign: str, said: Callable[[], Any], use: Callable[[Any, str], Any]
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


def test_an_asynchronous_connection_sends_comments(
    pg_connect: Connect, otel: Tracer, sign: str, said: Callable[[], Any]
) -> None:
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
def test_a_class_of_the_applications_sees_its_own_statement(pg: Any, sign: str, said: Callable[[], Any]) -> None:
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


def test_comments_are_there_without_spans_and_end_with_a_reset(
    pg_connect: Connect, monkeypatch: pytest.MonkeyPatch, sign: str, said: Callable[[], Any]
) -> None:
    """The same for all that has no more to say, traced or not, or a statement had two plans."""
    hook.install_patches()
    configure("full", {"route": ROUTE})
    connection = pg_connect()
    cursor = connection.cursor()
    for tracer in (opentracing.Tracer(), MockTracer(), Tracer(TracerProvider(shutdown_on_exit=False))):
        monkeypatch.setattr(opentracing, "tracer", tracer)
        with attributes(action="list"):
            cursor.execute(f"SELECT '{sign}'")
    hook.reset_patches()
    cursor.execute(f"SELECT '{sign}'")
    hook.install_patches()
    hook.set_comments("off")
    cursor.execute(f"SELECT '{sign}'")
    hook.set_comments(None)
    cursor.execute(f"SELECT '{sign}'")
    assert said() == [*[{**SAID, "action": "list"}] * 3, {}, {}, SAID]


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
    service: Callable[[str], Service], otel: Tracer, sign: str, said: Callable[[], Any]
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


def test_more_is_told_of_the_driver_on_demand(pg: Any, sign: str, said: Callable[[], Any]) -> None:
    keys = ("dbapi_level", "dbapi_threadsafety", "driver_paramstyle", "libpq_version")
    hook.set_comments("static", {"db_driver": False, **dict.fromkeys(keys, True)})
    pg.cursor().execute(f"SELECT '{sign}'")
    values = (psycopg2.apilevel, psycopg2.threadsafety, psycopg2.paramstyle, psycopg2.__libpq_version__)
    assert said() == [dict(zip(keys, map(str, values), strict=True))]


def test_trouble_is_reported_and_leaves_the_statement_as_it_was(
    pg: Any, lenient: None, caplog: pytest.LogCaptureFixture, sign: str, said: Callable[[], Any]
) -> None:
    hook.set_comments("static", {"route": lambda: 1 / 0})
    pg.cursor().execute(f"SELECT '{sign}'")
    assert said() == [{}]
    assert "SQL comments for psycopg2 failed" in caplog.text
    with pytest.raises(ValueError, match="mode = 'on': accepted is 'off' or 'static' or 'full'"):
        hook.set_comments("on")


def test_the_setting_of_the_process_is_heeded_at_once(pg: Any, sign: str, said: Callable[[], Any]) -> None:
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
