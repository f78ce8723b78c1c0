"""Comments in what either driver sends: the server's log has them, and nobody else notices."""

from __future__ import annotations

from typing import Any, NamedTuple

import MySQLdb
import opentracing
import psycopg2
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentracing.mocktracer import MockTracer
from psycopg2 import sql

from opentracing_instrumentation.client_hooks import mysqldb as mysqldb_hook
from opentracing_instrumentation.client_hooks import psycopg2 as psycopg2_hook
from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.sqlcommenter import attributes, configure
from tests.sql.conftest import Connect

from .conftest import ROUTE, Said
from .told import begun, traceparent


class Driver(NamedTuple):
    """A driver, its hook, its server, what is known of it, and a mark of comments that its server has."""

    module: Any
    hook: Any
    server: str
    version: str
    facts: dict[str, Any]
    note: str


DRIVERS = {
    "psycopg2": Driver(
        psycopg2,
        psycopg2_hook,
        "postgresql",
        f"psycopg2:{psycopg2.__version__.split()[0]}",
        {"libpq_version": psycopg2.__libpq_version__},
        "/* why */",
    ),
    "MySQLdb": Driver(
        MySQLdb,
        mysqldb_hook,
        "mariadb",
        f"MySQLdb:{MySQLdb.release.__version__}",
        {"mysql_client_version": MySQLdb.get_client_info()},
        "# why",
    ),
}


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture
def server(driver: Driver) -> str:
    return driver.server


@pytest.fixture
def connect(driver: Driver, request: pytest.FixtureRequest) -> Any:
    """The driver's ``connect``, as it is at the time."""
    return request.getfixturevalue("pg_connect" if driver.module is psycopg2 else "my_connect")


@pytest.fixture
def connection(driver: Driver, connect: Connect) -> Any:
    """A connection that is traced and commented."""
    driver.hook.install_patches()
    return connect()


def test_the_servers_log_names_the_span_of_the_statement(
    driver: Driver, connection: Any, otel: Tracer, monkeypatch: pytest.MonkeyPatch, sign: str, said: Said
) -> None:
    configure("full", {"route": ROUTE})
    spans = begun(monkeypatch, otel)
    with otel.start_active_span("work"), connection.cursor() as cursor:
        cursor.execute(f"SELECT '{sign}'")
        cursor.executemany(f"SELECT '{sign}', %s", [(1,), (2,)])
        cursor.execute(f"SELECT '{sign}', %s", (1,))
    one, many, other = [
        {"db_driver": driver.version, "route": ROUTE, "traceparent": traceparent(span)} for span in spans[1:]
    ]
    rows = {} if driver.server == "mariadb" else many
    assert said() == [one, rows, rows, other]


@pytest.mark.parametrize("parameters", [None, (), [], {}, (7,), {"n": 7}, [7]])
@pytest.mark.parametrize("text", ["SELECT '{sign}', '100%'{n};", "SELECT '{sign}'{n} {note}", "SELECT '{sign}'{n}"])
@pytest.mark.parametrize("kind", [str, bytes, sql.SQL])
@pytest.mark.usefixtures("static")
def test_percent_signs_come_out_right_for_all_parameters(
    driver: Driver, connection: Any, sign: str, said: Said, parameters: Any, text: str, kind: Any
) -> None:
    """And nothing else is there that was not, be it a text, bytes, or what only psycopg2 knows."""
    place = {tuple: ", %s", list: ", %s", dict: ", %(n)s"}[type(parameters)] if parameters else ""
    text = text.replace("%", "%%" if parameters is not None else "%")
    text = text.format(sign=sign, n=place, note=driver.note)
    if kind is bytes or (kind is sql.SQL and driver.module is MySQLdb):
        query: Any = text.encode()
    else:
        query = kind(text)
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        (row,) = cursor.fetchall()
    assert row == (sign, *(["100%"] if "100%" in text else []), *([7] if place else []))
    assert said() == [{} if "why" in text else {"db_driver": driver.version, "route": ROUTE}]


@pytest.mark.usefixtures("static")
def test_arguments_that_do_not_fit_are_told_as_before(driver: Driver, connect: Connect) -> None:
    queries = ["SELECT 1", "SELECT 5 %% 3", "SELECT 5 % 3", "SELECT %s", "SELECT %(n)s", "SELECT 5 %2", "", 1]

    def outcome(connection: Any, query: Any, parameters: Any) -> Any:
        cursor = connection.cursor()
        try:
            cursor.execute(query, parameters)
            return cursor.fetchall()
        except driver.module.Error as error:
            connection.rollback()
            code = error.args[0] if driver.module is MySQLdb else error.pgcode
            return type(error), code  # a number, or what is wrong with the arguments
        except Exception as error:
            return type(error)

    def outcomes() -> list[Any]:
        connection = connect()
        given = (None, (), {}, (1,), {"n": 1}, [1, 2], 1, "a")
        return [outcome(connection, query, parameters) for parameters in given for query in queries]

    before = outcomes()
    driver.hook.install_patches()
    assert outcomes() == before


def test_comments_are_there_without_spans_and_end_with_a_reset(
    driver: Driver, connection: Any, monkeypatch: pytest.MonkeyPatch, sign: str, said: Said
) -> None:
    """The same for all that has no more to say, traced or not, or a statement had two plans."""
    configure("full", {"route": ROUTE})
    cursor = connection.cursor()
    execute = type(cursor).execute
    for tracer in (opentracing.Tracer(), MockTracer(), Tracer(TracerProvider(shutdown_on_exit=False))):
        monkeypatch.setattr(opentracing, "tracer", tracer)
        with attributes(action="list"):
            cursor.execute(f"SELECT '{sign}'")
    driver.hook.reset_patches()
    cursor.execute(f"SELECT '{sign}'")
    execute(cursor, f"SELECT '{sign}'")  # whoever has kept it
    driver.hook.install_patches()
    for mode in ("off", None):
        driver.hook.set_comments(mode)
        cursor.execute(f"SELECT '{sign}'")
    always = {"db_driver": driver.version, "route": ROUTE}
    assert said() == [*[{**always, "action": "list"}] * 3, {}, {}, {}, always]


def test_more_is_told_of_the_driver_on_demand(driver: Driver, connection: Any, sign: str, said: Said) -> None:
    module = driver.module
    facts = {
        "dbapi_level": module.apilevel,
        "dbapi_threadsafety": module.threadsafety,
        "driver_paramstyle": module.paramstyle,
        **driver.facts,
    }
    driver.hook.set_comments("static", {"db_driver": False, **dict.fromkeys(facts, True)})
    connection.cursor().execute(f"SELECT '{sign}'")
    assert said() == [{key: str(value) for key, value in facts.items()}]


def test_trouble_is_reported_and_leaves_the_statement_as_it_was(
    driver: Driver, connection: Any, lenient: None, caplog: pytest.LogCaptureFixture, sign: str, said: Said
) -> None:
    driver.hook.set_comments("static", {"route": lambda: 1 / 0})
    for _ in range(2):
        connection.cursor().execute(f"SELECT '{sign}'")
    assert said() == [{}, {}]
    (record,) = caplog.records
    assert record.message.startswith(f"SQL comments for {driver.module.__name__} failed")


def test_wrong_options_are_refused(driver: Driver) -> None:
    with pytest.raises(ValueError, match="mode = 'on': accepted is 'off' or 'static' or 'full'"):
        driver.hook.set_comments("on")
