"""Comments in what MySQLdb sends: the server's log has them, and nobody else notices."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import MySQLdb
import MySQLdb.cursors
import opentracing
import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import mysqldb as hook
from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.sqlcommenter import configure, parse
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service
from tests.sql.conftest import Connect

ROUTE = "/50%/{id}"
SAID = {"db_driver": f"MySQLdb:{MySQLdb.release.__version__}", "route": ROUTE}


@pytest.fixture
def sign() -> str:
    """What tells the statements of one test from all others in the log."""
    return uuid.uuid4().hex


@pytest.fixture
def said(mariadb: Service, sign: str) -> Callable[[], list[dict[str, str]]]:
    """The function that returns what the comments of this test's statements say, by the server's log."""
    return lambda: [parse(line) for line in mariadb.logged(sign)]


@pytest.fixture
def static() -> None:
    configure("static", {"route": ROUTE})


def test_the_servers_log_names_the_span_of_the_statement(
    my_connect: Connect, otel: Tracer, monkeypatch: pytest.MonkeyPatch, sign: str, said: Callable[[], Any]
) -> None:
    spans: list[Any] = []
    start_span = otel.start_span
    monkeypatch.setattr(otel, "start_span", lambda *args, **kw: spans.append(start_span(*args, **kw)) or spans[-1])
    hook.install_patches()
    configure("full", {"route": ROUTE})
    with otel.start_active_span("work"), my_connect().cursor() as cursor:
        del spans[:]
        cursor.execute(f"SELECT '{sign}'")
        cursor.executemany(f"SELECT '{sign}', %s", [(1,)])
        cursor.execute(f"SELECT '{sign}', %s", (1,))
    contexts = [span.unwrap().get_span_context() for span in spans]
    one, _, other = [
        {**SAID, "traceparent": f"00-{c.trace_id:032x}-{c.span_id:016x}-{c.trace_flags:02x}"} for c in contexts
    ]
    assert said() == [one, {}, other]


@pytest.mark.parametrize("is_traced", [False, True])
@pytest.mark.parametrize("kind", [str, bytes])
@pytest.mark.usefixtures("static")
def test_the_number_of_statements_stays(my: Any, tracer: MockTracer, kind: Any, is_traced: bool) -> None:
    """The driver makes one INSERT out of an executemany only as long as that has no comment."""
    text = "INSERT INTO commented (a, b) VALUES (%s, %s)"
    with tracer.start_active_span("work") as scope, my.cursor() as cursor:
        if not is_traced:
            scope.close()
        cursor.execute("CREATE TEMPORARY TABLE commented (a int, b text)")
        for _ in range(2):
            before = _inserts(cursor)
            cursor.executemany(text if kind is str else text.encode(), [(n, "x") for n in range(2000)])
            assert _inserts(cursor) - before == 1
        cursor.execute(text, (1, "y"))
        assert _inserts(cursor) - before == 2
        cursor.execute("SELECT count(*) FROM commented")
        assert cursor.fetchall() == ((4001,),)


def _inserts(cursor: Any) -> int:
    cursor.execute("SHOW SESSION STATUS LIKE 'Com_insert'")
    return int(cursor.fetchone()[1])


@pytest.mark.parametrize("parameters", [None, (), [], {}, (7,), {"n": 7}, [7]])
@pytest.mark.parametrize("text", ["SELECT '{sign}', '100%'{n};", "SELECT '{sign}'{n} # why", "SELECT '{sign}'{n}"])
@pytest.mark.parametrize("kind", [str, bytes])
@pytest.mark.usefixtures("static")
def test_percent_signs_come_out_right_for_all_parameters(
    my: Any, sign: str, said: Callable[[], Any], parameters: Any, text: str, kind: Any
) -> None:
    place = {tuple: ", %s", list: ", %s", dict: ", %(n)s"}[type(parameters)] if parameters else ""
    text = text.replace("%", "%%" if parameters is not None else "%").format(sign=sign, n=place)
    with my.cursor() as cursor:
        cursor.execute(query=text if kind is str else text.encode(), args=parameters)
        (row,) = cursor.fetchall()
    assert row == (sign, *(["100%"] if "100%" in text else []), *([7] if place else []))
    assert said() == [{} if "why" in text else SAID]


@pytest.mark.usefixtures("static")
def test_arguments_that_do_not_fit_are_told_as_before(my_connect: Connect) -> None:
    def outcomes() -> list[Any]:
        told: list[Any] = []
        cursor = my_connect().cursor()
        for parameters in (None, (), {}, (1,), {"n": 1}, [1, 2], 1, "a"):
            for query in (
                "SELECT 1",
                "SELECT 5 %% 3",
                "SELECT 5 % 3",
                "SELECT %s",
                "SELECT %(n)s",
                "SELECT 5 %2",
                "",
                1,
            ):
                try:
                    cursor.execute(query, parameters)
                    told.append(cursor.fetchall())
                except MySQLdb.ProgrammingError as error:
                    told.append((type(error), error.args[0]))  # a number, or what is wrong with the arguments
                except Exception as error:
                    told.append(type(error))
        return told

    before = outcomes()
    hook.install_patches()
    assert outcomes() == before


@pytest.mark.parametrize("name", ["Cursor", "SSCursor", "DictCursor", "SSDictCursor"])
@pytest.mark.usefixtures("static")
def test_all_cursors_send_comments(my: Any, sign: str, said: Callable[[], Any], name: str) -> None:
    with my.cursor(getattr(MySQLdb.cursors, name)) as cursor:
        assert cursor.execute(f"SELECT '{sign}' AS a") is not None
        assert cursor.fetchall() == (({"a": sign},) if "Dict" in name else ((sign,),))
    assert said() == [SAID]


@pytest.mark.usefixtures("static")
def test_procedures_and_definitions_get_none(my: Any, mariadb: Service, sign: str) -> None:
    name = f"p{sign}"
    with my.cursor() as cursor:
        cursor.execute(f"CREATE PROCEDURE {name} (IN n int) SELECT n")
        cursor.callproc(name, (1,))
        assert cursor.fetchall() == ((1,),)
        cursor.nextset()
        cursor.execute(f"SHOW CREATE PROCEDURE {name}")
        assert "/*" not in cursor.fetchall()[0][2]
        cursor.execute(f"DROP PROCEDURE {name}")
    comments = [parse(line) for line in mariadb.logged(name)]
    assert comments == [*[{}] * (len(comments) - 2), SAID, SAID]
    assert len(comments) >= 4


def test_the_tag_has_the_comment_on_demand(my: Any, tracer: MockTracer, spans: Spans) -> None:
    for shown in (False, True):
        hook.set_comments("static", {"db_driver": False, "a": "b"}, enable_attribute_commenter=shown)
        with tracer.start_active_span("work"), my.cursor() as cursor:
            for statement in ("SELECT 1 ", b"SELECT 1", "SELECT 1 -- c"):
                cursor.execute(statement)
    told = [one["tags"]["sql"] for one in spans() if one["operation"] != "work"]
    assert told == ["SELECT 1", "SELECT 1", "SELECT 1 -- c", *["SELECT 1 /*a='b'*/"] * 2, "SELECT 1 -- c"]


def test_comments_are_there_without_spans_and_end_with_a_reset(
    my_connect: Connect, monkeypatch: pytest.MonkeyPatch, sign: str, said: Callable[[], Any]
) -> None:
    hook.install_patches()
    configure("full", {"route": ROUTE})
    cursor = my_connect().cursor()
    for tracer in (opentracing.Tracer(), MockTracer()):
        monkeypatch.setattr(opentracing, "tracer", tracer)
        cursor.execute(f"SELECT '{sign}'")
    execute = MySQLdb.cursors.BaseCursor.execute
    hook.reset_patches()
    execute(cursor, f"SELECT '{sign}'")
    cursor.execute(f"SELECT '{sign}'")
    assert said() == [SAID, SAID, {}, {}]


def test_more_is_told_of_the_driver_on_demand(my: Any, sign: str, said: Callable[[], Any]) -> None:
    keys = ("dbapi_level", "dbapi_threadsafety", "driver_paramstyle", "mysql_client_version")
    hook.set_comments("static", {"db_driver": False, **dict.fromkeys(keys, True)})
    my.cursor().execute(f"SELECT '{sign}'")
    values = (MySQLdb.apilevel, MySQLdb.threadsafety, MySQLdb.paramstyle, MySQLdb.get_client_info())
    assert said() == [dict(zip(keys, map(str, values), strict=True))]


def test_trouble_is_reported_and_leaves_the_statement_as_it_was(
    my: Any, lenient: None, caplog: pytest.LogCaptureFixture, sign: str, said: Callable[[], Any]
) -> None:
    hook.set_comments("static", {"route": lambda: 1 / 0})
    my.cursor().execute(f"SELECT '{sign}'")
    assert said() == [{}]
    assert "SQL comments for MySQLdb failed" in caplog.text
