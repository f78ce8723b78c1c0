"""Comments in what MySQLdb sends: the server's log has them, and nobody else notices."""

from __future__ import annotations

from typing import Any

import MySQLdb
import MySQLdb.cursors
import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import mysqldb as hook
from opentracing_instrumentation.sqlcommenter import parse
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service

from .conftest import ROUTE, Said

SAID = {"db_driver": f"MySQLdb:{MySQLdb.release.__version__}", "route": ROUTE}


@pytest.fixture
def server() -> str:
    return "mariadb"


@pytest.mark.parametrize("is_traced", [False, True])
@pytest.mark.parametrize("kind", [str, bytes])
@pytest.mark.usefixtures("static")
def test_the_number_of_statements_stays(my: Any, tracer: MockTracer, kind: Any, is_traced: bool) -> None:
    """The driver makes one INSERT out of an executemany only as long as that has no comment."""
    text = "INSERT INTO commented (a, b) VALUES (%s, %s)"
    if kind is bytes and not _takes_bytes(my):
        pytest.skip("this driver's executemany takes text only")
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


def _takes_bytes(connection: Any) -> bool:
    """Tell whether the driver's own ``executemany`` takes bytes: before mysqlclient 2.1.1 it does not."""
    hook.reset_patches()
    try:
        with connection.cursor() as cursor:
            cursor.executemany(b"SELECT %s", [(1,)])
    except TypeError:
        return False
    finally:
        hook.install_patches()
    return True


def _inserts(cursor: Any) -> int:
    cursor.execute("SHOW SESSION STATUS LIKE 'Com_insert'")
    return int(cursor.fetchone()[1])


@pytest.mark.parametrize("name", ["Cursor", "SSCursor", "DictCursor", "SSDictCursor"])
@pytest.mark.usefixtures("static")
def test_all_cursors_send_comments(my: Any, sign: str, said: Said, name: str) -> None:
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
