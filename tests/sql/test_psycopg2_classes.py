"""Traced connections and cursors of psycopg2 are what the driver, its extras and the application take them for."""

from __future__ import annotations

import functools
import gc
import logging
import weakref
from typing import Any, ClassVar

import psycopg2
import pytest
from opentracing.mocktracer import MockTracer
from psycopg2 import extensions, extras, pool, sql

from opentracing_instrumentation.client_hooks import psycopg2 as hook
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service

from .conftest import Connect
from .test_psycopg2 import span, statement
from .told import WORK


class Seen:
    """The calls that an application's own class has seen."""

    calls: ClassVar[list[str]] = []


class Cursor(extensions.cursor):
    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002
        Seen.calls.append(f"execute {query}")
        return super().execute(f"{query} + 1", vars)


class Connection(extensions.connection):
    def __init__(self, dsn: str, *more: Any) -> None:
        super().__init__(dsn, *more)
        self.name = "mine"

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        Seen.calls.append("cursor")
        kwargs.setdefault("cursor_factory", Cursor)
        return super().cursor(*args, **kwargs)

    def commit(self) -> None:
        Seen.calls.append("commit")
        super().commit()


def _make_cursor(*args: Any) -> Cursor:
    return Cursor(*args)


@pytest.fixture(autouse=True)
def patched() -> None:
    hook.install_patches()
    Seen.calls.clear()


def test_the_hook_sits_between_the_application_and_the_driver(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    """Overridden methods are called first, keep their defaults, and are one span, of what they hand on."""
    with tracer.start_active_span("work"):
        connection = pg_connect(connection_factory=Connection)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (2,)
    assert Seen.calls == ["cursor", "execute SELECT 1", "commit"]
    assert isinstance(connection, Connection)
    assert isinstance(cursor, Cursor)
    assert connection.name == "mine"
    assert [told["operation"].removeprefix("psycopg2:") for told in spans()] == [
        "connect",
        "begin_transaction",
        "SELECT",
        "commit",
        "work",
    ]
    assert spans()[2]["tags"]["sql"] == "SELECT 1 + 1"


def test_traced_objects_pass_for_the_drivers(pg: Any) -> None:
    cursor = pg.cursor()
    for traced, wrapper, own in (
        (pg, hook.ConnectionWrapper, extensions.connection),
        (cursor, hook.CursorWrapper, extensions.cursor),
    ):
        assert isinstance(traced, wrapper)
        assert isinstance(traced, own)
        assert traced.__wrapped__ is traced
        assert not hasattr(type(traced), "__wrapped__")
        assert (type(traced).__module__, type(traced).__qualname__) == (own.__module__, own.__qualname__)
        assert repr(traced).startswith(f"<{own.__name__} object at 0x")
        with pytest.raises(AttributeError):
            traced.something = "of mine"  # as on the driver's


@pytest.mark.parametrize("factory", [extras.DictConnection, extras.RealDictConnection, extras.NamedTupleConnection])
def test_connections_of_the_extras_keep_their_cursors(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, factory: Any
) -> None:
    connection = pg_connect(connection_factory=factory)
    with tracer.start_active_span("work"), connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS a")
        row = cursor.fetchone()
    assert (row.a if hasattr(row, "a") else row["a"]) == 1
    assert spans()[1]["tags"]["sql"] == "SELECT 1 AS a"


@pytest.mark.parametrize(
    "factory",
    [
        extras.DictCursor,
        extras.RealDictCursor,
        extras.NamedTupleCursor,
        Cursor,
        _make_cursor,
        functools.partial(extras.DictCursor),
    ],
)
@pytest.mark.parametrize("way", ["connect", "cursor", "cursor positionally", "attribute"])
def test_any_cursor_factory_is_traced(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, factory: Any, way: str
) -> None:
    connection = pg_connect(cursor_factory=factory if way == "connect" else None)
    if way == "attribute":
        connection.cursor_factory = factory
    args = (None, factory) if way == "cursor positionally" else ()
    kwargs = {"cursor_factory": factory} if way == "cursor" else {}
    with tracer.start_active_span("work"), connection.cursor(*args, **kwargs) as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT 2")
    assert isinstance(cursor, factory if isinstance(factory, type) else extensions.cursor)
    told = [told for told in spans() if told["operation"] == "psycopg2:SELECT"]
    assert len(told) == 2
    assert told[0]["tags"].get("sql.cursor") == ((args, kwargs) if args or kwargs else None)


class ByName(extensions.cursor):
    """Calls the driver as psycopg2's documentation showed it."""

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002
        Seen.calls.append(f"execute {query}")
        return extensions.cursor.execute(self, query, vars)


class BelowByName(ByName):
    pass


@pytest.mark.parametrize("kind", [ByName, BelowByName])
def test_a_cursor_that_calls_the_driver_by_its_name_is_traced(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service, kind: Any
) -> None:
    connection = pg_connect()
    with tracer.start_active_span("work"), connection.cursor(cursor_factory=kind) as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert isinstance(cursor, kind)
    assert Seen.calls == ["execute SELECT 1"]
    assert spans()[1:] == [statement(postgresql, "SELECT 1", sql_cursor=((), {"cursor_factory": kind})), WORK]


def test_a_cursor_that_calls_itself_is_traced_where_it_reaches_the_driver(
    pg_connect: Connect, tracer: MockTracer, spans: Spans
) -> None:
    class OneByOne(extensions.cursor):
        def executemany(self, query: Any, vars_list: Any) -> None:
            for row in vars_list:
                self.execute(query, row)

    connection = pg_connect()
    with tracer.start_active_span("work"), connection.cursor(cursor_factory=OneByOne) as cursor:
        cursor.executemany("SELECT %s", [(1,), (2,)])
    assert [told["operation"] for told in spans()] == ["psycopg2:connect", "psycopg2:SELECT", "psycopg2:SELECT", "work"]


def test_a_connection_factory_may_be_a_function(pg_connect: Connect, tracer: MockTracer, spans: Spans) -> None:
    """What it makes is traced if it is of a class of the application's, whose class can be derived from afterwards."""
    mine = pg_connect(connection_factory=functools.partial(Connection))
    plain = pg_connect(connection_factory=functools.partial(extensions.connection))
    with tracer.start_active_span("work"):
        mine.commit()
        plain.commit()
    assert isinstance(mine, hook.ConnectionWrapper)
    assert type(plain) is extensions.connection
    assert [told["operation"] for told in spans()] == [
        "psycopg2:connect",
        "psycopg2:connect",
        "psycopg2:commit",
        "work",
    ]


def test_a_factory_that_makes_no_connection_gets_the_drivers_own_error(pg_connect: Connect) -> None:
    connection = pg_connect()
    with pytest.raises(TypeError, match="cursor factory must be subclass"):
        connection.cursor(cursor_factory=lambda *_: object())


def test_a_connection_factory_may_make_anything(postgresql: Service, spans: Spans) -> None:
    made = object()
    assert psycopg2.connect(postgresql.url, connection_factory=lambda _: made) is made
    assert [told["operation"] for told in spans()] == ["psycopg2:connect"]


def test_traced_classes_are_made_once_and_forgotten(pg_connect: Connect) -> None:
    class Own(extensions.cursor):
        pass

    connection = pg_connect()
    cursors = [connection.cursor(cursor_factory=Own) for _ in range(3)]
    assert len({type(cursor) for cursor in cursors}) == 1
    assert type(connection.cursor()) is type(connection.cursor())
    own = weakref.ref(Own)
    del Own, cursors
    gc.collect()  # the traced class
    gc.collect()  # and now its base
    assert own() is None


def test_a_class_that_refuses_to_be_derived_from_is_used_as_it_is(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    class Final(extensions.cursor):
        def __init_subclass__(cls) -> None:
            raise TypeError("final")

    connection = pg_connect()
    with tracer.start_active_span("work"), connection.cursor(cursor_factory=Final) as cursor:
        cursor.execute("SELECT 1")
    assert type(cursor) is Final
    assert [told["operation"] for told in spans()] == ["psycopg2:connect", "work"]
    assert "Final'> failed" in caplog.text


def test_logging_connections_log_what_they_did(pg_connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    connection = pg_connect(connection_factory=extras.LoggingConnection)
    connection.initialize(logging.getLogger("shop"))
    with caplog.at_level(logging.DEBUG), connection.cursor() as cursor:
        cursor.execute("SELECT %s", (1,))
    assert "SELECT 1" in caplog.text


def test_c_functions_accept_traced_objects(pg: Any) -> None:
    cursor = pg.cursor()
    for scope in (pg, cursor, pg.__wrapped__, cursor.__wrapped__):
        extensions.register_type(extensions.UNICODE, scope)
        assert extensions.quote_ident('a"b', scope) == '"a""b"'
        assert sql.Composed([sql.SQL("SELECT "), sql.Literal("it's")]).as_string(scope) == "SELECT 'it''s'"
        extras.register_uuid(conn_or_curs=scope)
        extras.register_default_json(scope)
        extras.register_default_jsonb(scope)
        extras.register_json(scope, loads=lambda text: ("json", text))
    adapted = extensions.adapt("é")
    adapted.prepare(pg)
    assert adapted.encoding == "utf_8"
    assert pg.string_types
    cursor.execute("SELECT '[1]'::json, '{}'::jsonb")
    assert cursor.fetchone() == (("json", "[1]"), {})


def test_types_of_the_server_can_be_registered(pg: Any) -> None:
    cursor = pg.cursor()
    cursor.execute("CREATE EXTENSION IF NOT EXISTS hstore")
    cursor.execute("CREATE TYPE pair AS (a int, b text)")
    cursor.execute("CREATE TYPE span AS RANGE (subtype = int)")
    extras.register_hstore(pg)
    extras.register_composite("pair", pg)
    extras.register_range("span", "Span", cursor)
    cursor.execute("SELECT 'a=>1'::hstore, (1, 'x')::pair, '[1,5)'::span")
    stored, pair, spanned = cursor.fetchone()
    assert (stored, tuple(pair), spanned.lower) == ({"a": "1"}, (1, "x"), 1)
    pg.rollback()


@pytest.mark.parametrize("kind", [pool.SimpleConnectionPool, pool.ThreadedConnectionPool])
def test_connections_of_a_pool_are_traced(postgresql: Service, tracer: MockTracer, spans: Spans, kind: Any) -> None:
    connections = kind(1, 2, postgresql.url)
    with tracer.start_active_span("work"):
        connection = connections.getconn()
        connection.cursor().execute("SELECT 1")
        connections.putconn(connection)
    connections.closeall()
    assert [told["operation"].removeprefix("psycopg2:") for told in spans()] == [
        "connect",
        "SELECT",
        "rollback",
        "work",
    ]


def test_replication_connections_are_traced(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    connection = pg_connect(connection_factory=extras.PhysicalReplicationConnection)
    with tracer.start_active_span("work"), connection.cursor() as cursor:
        cursor.execute("IDENTIFY_SYSTEM")
        assert cursor.fetchone()
    assert isinstance(cursor, extras.ReplicationCursor)
    assert [told["operation"] for told in spans()] == ["psycopg2:connect", "psycopg2:", "work"]


def test_nothing_is_remembered_of_what_is_gone(postgresql: Service) -> None:
    gc.collect()
    connections, cursors = hook._driver._connections, hook._driver._cursor_params
    before = len(connections), len(cursors)
    connection = psycopg2.connect(postgresql.url)
    opened = [connection.cursor(f"c{number}") for number in range(100)]
    assert (len(connections), len(cursors)) == (before[0] + 1, before[1] + 100)
    connection.close()
    del connection, opened
    gc.collect()
    assert (len(connections), len(cursors)) == before


def test_subclasses_of_a_traced_class_are_not_traced_twice(
    pg_connect: Connect, tracer: MockTracer, spans: Spans, postgresql: Service
) -> None:
    connection = pg_connect()

    class Own(type(connection.cursor())):  # type: ignore[misc]
        pass

    with tracer.start_active_span("work"), connection.cursor(None, Own) as cursor:
        cursor.execute("SELECT 1")
    assert type(cursor) is Own
    assert spans() == [
        span(postgresql, "connect", None),
        statement(postgresql, "SELECT 1", sql_cursor=((None, Own), {})),
        WORK,
    ]


def test_the_driver_is_told_apart_from_its_lookalikes() -> None:
    """The names that earlier versions of the hook had are there."""
    assert hook.psycopg2 is psycopg2
    assert hook.ConnectionFactory
    assert hook.install_patches.reset
