"""The hook of SQLAlchemy on SQLite and aiosqlite: each statement that is sent is one span, which always ends."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from opentracing.mocktracer.span import MockSpan
from sqlalchemy import create_engine as create_engine_of_before
from sqlalchemy import event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Session, declarative_base

from opentracing_instrumentation._core import patching
from opentracing_instrumentation.client_hooks import set_current_span_func
from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.config import CONFIG

from .told import Spans, Told, failed

TWO = tuple(int(part) for part in sa.__version__.split(".")[:2]) >= (2, 0)
#: What the span of an INSERT tells besides, and that of a SELECT from a table that is not there.
INTO_USER: Any = {"db.collection.name": "user"}
NOWHERE: Any = {"db.collection.name": "nowhere"}
if sys.version_info >= (3, 11):  # before, sqlite3 had no names of errors
    NOWHERE["db.response.status_code"] = "SQLITE_ERROR"
SLOW = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 2000000) SELECT count(*) FROM c"

Base: Any = declarative_base()


class User(Base):
    __tablename__ = "user"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(50), unique=True)


users = User.__table__


def statement(
    text: str, instance: str = "sqlite://", parent: str | None = None, operation: str | None = None, **more: Any
) -> Told:
    """The span of a statement."""
    operation = operation or f"SQL {text.split(maxsplit=1)[0]}"
    tags = {
        "span.kind": "client",
        "component": "sqlalchemy",
        "db.type": "sqlite",
        "db.instance": instance,
        "db.statement": text,
        "sqlalchemy.driver": "aiosqlite" if "aiosqlite" in instance else "pysqlite",
        **more,
    }
    word = operation.removeprefix("SQL").strip()
    if word:
        tags["db.operation.name"] = word
    return {"operation": operation, "parent": parent, "tags": tags}


def operations(spans: Spans) -> list[str]:
    return [span["operation"].removeprefix("SQL ") for span in spans()]


@pytest.fixture(autouse=True)
def patched() -> None:
    hook.install_patches()


@pytest.fixture
def engine(tracer: MockTracer) -> Any:
    engine = create_engine_of_before("sqlite://")
    Base.metadata.create_all(engine)
    tracer.reset()
    yield engine
    engine.dispose()


def test_a_statement_is_a_span_below_the_current_one(engine: Engine, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"), engine.connect() as connection:
        assert connection.execute(sa.text("  SELECT :n + 1\n"), {"n": 1}).scalar() == 2
    assert spans()[0] == statement("SELECT ? + 1", parent="work")


def test_the_function_set_for_the_parent_is_asked(engine: Engine, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_span("mine") as mine, engine.connect() as connection:
        set_current_span_func(lambda: mine)
        connection.execute(sa.text("SELECT 1"))
    assert spans()[0] == statement("SELECT 1", parent="mine")


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("select 1", "SQL SELECT"),
        ("SELECT\n1", "SQL SELECT"),
        ("\tSELECT\t1", "SQL SELECT"),
        ("-- why\nSELECT 1", "SQL SELECT"),
        ("/* why\nso */ SELECT 1", "SQL SELECT"),
        ("VALUES(1)", "SQL VALUES"),
        ("PRAGMA user_version", "SQL PRAGMA"),
        ("  ", "SQL"),
        ("-- nothing", "SQL"),
    ],
)
def test_the_first_word_names_the_span(engine: Engine, spans: Spans, text: str, operation: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(text)
    assert spans() == [statement(text.strip(), operation=operation)]


@pytest.mark.timeout(10)
def test_many_comments_in_front_take_no_time(engine: Engine, spans: Spans) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("/* a */" * 40 + "SELECT 1")
    assert [told["operation"] for told in spans()] == ["SQL"]  # that far, nobody looks for the first word


def test_engines_are_traced_whenever_they_were_made(tmp_path: Path, spans: Spans) -> None:
    hook.reset_patches()
    older = sa.create_engine(f"sqlite:///{tmp_path}/older")
    with older.connect() as open_before:
        hook.install_patches()
        younger = sa.create_engine(f"sqlite:///{tmp_path}/younger")
        copied = create_engine_of_before(f"sqlite:///{tmp_path}/copied")
        open_before.execute(sa.text("SELECT 0"))
        for engine in (older, younger, copied):
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
    for engine in (older, younger, copied):
        engine.dispose()
    told = [(span["tags"]["db.statement"], Path(span["tags"]["db.instance"]).name) for span in spans()]
    assert told == [("SELECT 0", "older"), ("SELECT 1", "older"), ("SELECT 1", "younger"), ("SELECT 1", "copied")]


def test_an_engine_goes_on_after_dispose(engine: Engine, spans: Spans) -> None:
    for _ in range(2):
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
        engine.dispose()
    assert spans() == [statement("SELECT 1")] * 2


def test_a_failed_statement_ends_with_the_drivers_error(engine: Engine, spans: Spans) -> None:
    with engine.connect() as connection, pytest.raises(OperationalError) as caught:
        connection.execute(sa.text("SELECT x FROM nowhere"))
    assert isinstance(caught.value.orig, sqlite3.OperationalError)
    assert spans() == [failed(statement("SELECT x FROM nowhere", **NOWHERE), caught.value.orig)]


def test_many_rows_in_one_statement_are_one_span(engine: Engine, spans: Spans) -> None:
    with engine.begin() as connection:
        connection.execute(users.insert(), [{"name": "a"}, {"name": "b"}])
    written = {"db.operation.batch.size": 2, "db.rows_affected": 2}
    assert spans() == [statement("INSERT INTO user (name) VALUES (?)", **INTO_USER, **written)]


def test_a_failed_executemany_is_one_span(engine: Engine, spans: Spans) -> None:
    with engine.connect() as connection, pytest.raises(IntegrityError) as caught:
        connection.execute(users.insert(), [{"name": "a"}, {"name": "a"}])
    told = {"db.operation.batch.size": 2}
    if sys.version_info >= (3, 11):
        told["db.response.status_code"] = "SQLITE_CONSTRAINT_UNIQUE"
    assert spans() == [failed(statement("INSERT INTO user (name) VALUES (?)", **INTO_USER, **told), caught.value.orig)]


@pytest.mark.skipif(not TWO, reason="SQLAlchemy < 2 has no insertmanyvalues")
def test_each_batch_of_insertmanyvalues_is_a_span(engine: Engine, spans: Spans) -> None:
    with engine.begin() as connection:
        batched = connection.execution_options(insertmanyvalues_page_size=2)
        rows = batched.execute(users.insert().returning(users.c.id), [{"name": name} for name in "abcde"])
        assert len(rows.all()) == 5
    assert operations(spans) == ["INSERT"] * 3
    assert [span["tags"]["db.statement"].count("(?") for span in spans()] == [2, 2, 1]


@pytest.mark.skipif(not TWO, reason="SQLAlchemy < 2 has no insertmanyvalues")
def test_a_batch_that_fails_leaves_no_span_open(engine: Engine, spans: Spans) -> None:
    rows = [{"name": name} for name in ("a", "b", "c", "a")]
    with engine.connect() as connection, pytest.raises(IntegrityError) as caught:
        batched = connection.execution_options(insertmanyvalues_page_size=2)
        batched.execute(users.insert().returning(users.c.id), rows)
    first, second = spans()
    assert ("error" in first["tags"], second["tags"]["error"]) == (False, True)
    assert second["logs"][0]["error.object"] is caught.value.orig


def test_a_streamed_result_ends_its_span_when_the_statement_has_run(engine: Engine, spans: Spans) -> None:
    with engine.connect() as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=1)
        result = streaming.execute(sa.text("VALUES (1), (2), (3)"))
        assert result.fetchone() == (1,)
        assert spans() == [statement("VALUES (1), (2), (3)")]
        result.close()


def test_savepoints_are_statements(engine: Engine, spans: Spans) -> None:
    with engine.connect() as connection, connection.begin():
        with connection.begin_nested():
            connection.execute(users.insert().values(name="a"))
        inner = connection.begin_nested()
        with pytest.raises(IntegrityError):
            connection.execute(users.insert().values(name="a"))
        inner.rollback()
    assert operations(spans) == ["SAVEPOINT", "INSERT", "RELEASE", "SAVEPOINT", "INSERT", "ROLLBACK"]


def test_the_orm_sends_what_it_sends(engine: Engine, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("request"), Session(engine) as session:
        user = User(name="a")
        session.add(user)
        session.commit()
        user.name = "b"
        session.commit()
        session.delete(user)
        session.flush()
        session.rollback()
    *told, _ = spans()
    assert [span["operation"] for span in told][:1] == ["SQL INSERT"]
    assert {span["parent"] for span in told} == {"request"}
    assert [word for word in operations(spans) if word in ("INSERT", "UPDATE", "DELETE")] == [
        "INSERT",
        "UPDATE",
        "DELETE",
    ]


def test_a_failed_flush_leaves_no_span_open(engine: Engine, spans: Spans) -> None:
    with Session(engine) as session:
        session.add_all([User(id=1, name="a"), User(id=2, name="a")])
        with pytest.raises(IntegrityError) as caught:
            session.commit()
    assert spans()[-1]["logs"][0]["error.object"] is caught.value.orig


class UsersError(Exception):
    """Raised by event listeners of the application's."""


def _raise(*_: Any, **__: Any) -> None:
    raise UsersError


@pytest.mark.parametrize("where", ["engine", "class", "class, before ours"])
def test_an_error_handler_that_raises_is_obeyed_and_the_span_ends(
    engine: Engine, spans: Spans, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listened = (engine if where == "engine" else Engine, "handle_error", _raise)
    event.listen(*listened)
    if where == "class, before ours":  # as in a process that has not listened before
        hook.reset_patches()
        monkeypatch.setattr(patching, "_relays", WeakKeyDictionary())
        hook.install_patches()
    try:
        with engine.connect() as connection, pytest.raises(UsersError):
            connection.execute(sa.text("SELECT x FROM nowhere"))
    finally:
        event.remove(*listened)
    gc.collect()
    (span,) = spans()
    assert {**statement("SELECT x FROM nowhere")["tags"], **span["tags"]} == span["tags"]
    assert span["tags"].get("error", False) is (where != "class, before ours")


def test_a_listener_that_raises_before_the_statement_runs_leaves_no_span_open(engine: Engine, spans: Spans) -> None:
    event.listen(engine, "before_cursor_execute", _raise)
    with engine.connect() as connection:
        try:
            connection.execute(sa.text("SELECT 1"))
        except UsersError:
            pass
        else:
            pytest.fail("the listener's error was lost")
    gc.collect()
    (span,) = spans()
    assert span["operation"] == "SQL SELECT"


def test_a_statement_without_error_events_ends_its_span(engine: Engine, spans: Spans) -> None:
    with engine.connect() as connection:
        silent = connection.execution_options(skip_user_error_events=True)
        with pytest.raises(OperationalError):
            silent.execute(sa.text("SELECT x FROM nowhere"))
    gc.collect()
    (span,) = spans()
    assert span["operation"] == "SQL SELECT"


def test_a_reset_in_the_middle_of_a_statement_ends_its_span(engine: Engine, spans: Spans) -> None:
    event.listen(engine, "before_cursor_execute", lambda *_: hook.reset_patches())
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    gc.collect()
    assert spans() == [statement("SELECT 1")]


@pytest.mark.parametrize("name", ["before_cursor_execute", "after_cursor_execute"])
def test_a_reset_while_listeners_are_called_does_not_break_the_statement(
    engine: Engine, spans: Spans, name: str
) -> None:
    """SQLAlchemy's own list of listeners stays as it is: a thread may be going through it."""

    def reset(*_: Any) -> None:
        hook.reset_patches()
        hook.install_patches()

    event.listen(Engine, name, reset)
    try:
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    finally:
        event.remove(Engine, name, reset)
    assert spans() == [statement("SELECT 1")]


def test_an_install_in_the_middle_of_a_statement_traces_the_next_one(engine: Engine, spans: Spans) -> None:
    hook.reset_patches()
    event.listen(engine, "before_cursor_execute", lambda *_: hook.install_patches())
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        connection.execute(sa.text("SELECT 2"))
    assert spans() == [statement("SELECT 2")]


def test_without_a_tracer_statements_just_run() -> None:
    engine = create_engine_of_before("sqlite://")
    contexts: list[Any] = []
    event.listen(engine, "after_cursor_execute", lambda *args: contexts.append(args[4]))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    engine.dispose()
    assert [hasattr(context, "opentracing_span") for context in contexts] == [False]


def test_a_tracer_that_breaks_does_not_break_the_statement(
    engine: Engine, tracer: MockTracer, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenSpan(MockSpan):
        def finish(self, finish_time: float | None = None) -> None:
            raise UsersError

    span = BrokenSpan(tracer)
    monkeypatch.setattr(tracer, "start_span", lambda **_: span)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
        with pytest.raises(OperationalError):
            connection.execute(sa.text("SELECT x FROM nowhere"))
        silent = connection.execution_options(skip_user_error_events=True)
        with pytest.raises(OperationalError):
            silent.execute(sa.text("SELECT x FROM nowhere"))
    gc.collect()
    monkeypatch.setattr(tracer, "start_span", _raise)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 2")).scalar() == 2


def test_listeners_find_the_span_on_the_execution_context(engine: Engine, tracer: MockTracer, spans: Spans) -> None:
    def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        context.opentracing_span.set_tag("rows", len(parameters))

    event.listen(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert spans()[0]["tags"]["rows"] == 0


def test_reset_stops_tracing_and_may_be_called_at_any_time(engine: Engine, spans: Spans) -> None:
    for _ in range(2):
        hook.reset_patches()
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        assert spans() == []
        for _ in range(2):
            hook.install_patches()
        connection.execute(sa.text("SELECT 2"))
    assert spans() == [statement("SELECT 2")]


class Anywhere(SQLiteDialect_pysqlite):
    """SQLite behind a URL of any shape."""

    supports_statement_cache = True

    def create_connect_args(self, url: Any) -> Any:
        return [":memory:"], {}


registry.register("anywhere", __name__, "Anywhere")


@pytest.mark.parametrize("name", ["password", "passwd", "sslpassword", "Token", "api_key"])
def test_no_password_of_the_url_is_tagged(spans: Spans, name: str) -> None:
    engine = sa.create_engine(f"anywhere://bob:hunter2@db.example/orders?charset=utf8&{name}=hunter3")
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    engine.dispose()
    (span,) = spans()
    instance = span["tags"]["db.instance"]
    assert "hunter" not in str(span)
    assert instance.startswith("anywhere://bob:***@db.example/orders?")
    assert "charset=utf8" in instance


def test_which_parameters_of_the_url_are_secret_may_change_at_any_time(spans: Spans) -> None:
    engine = sa.create_engine("anywhere://db.example/orders?iban=DE01")
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        CONFIG.secret_query_parameters.append("IBAN")
        connection.execute(sa.text("SELECT 2"))
    engine.dispose()
    assert [span["tags"]["db.instance"] for span in spans()] == [
        "anywhere://db.example/orders?iban=DE01",
        "anywhere://db.example/orders?iban=[redacted]",
    ]


def test_threads_of_one_engine_keep_their_parents(tmp_path: Path, tracer: MockTracer, spans: Spans) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shared")

    def work(number: int) -> None:
        with tracer.start_active_span(f"work {number}"):
            for _ in range(20):
                with engine.connect() as connection:
                    connection.execute(sa.text(f"SELECT {number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    told = [(span["tags"]["db.statement"], span["parent"]) for span in spans() if span["operation"] == "SQL SELECT"]
    assert sorted(told) == sorted((f"SELECT {number}", f"work {number}") for number in range(8) for _ in range(20))


async def _on(engine: AsyncEngine, work: Any) -> Any:
    try:
        async with engine.connect() as connection:
            return await work(connection)
    finally:
        await engine.dispose()


@pytest.fixture
def async_engine() -> AsyncEngine:
    return create_async_engine("sqlite+aiosqlite://")


def async_statement(text: str, parent: str | None = None, **more: Any) -> Told:
    return statement(text, "sqlite+aiosqlite://", parent, **more)


def test_an_async_engine_finds_the_parent_of_the_task(
    async_engine: AsyncEngine, tracer: MockTracer, spans: Spans
) -> None:
    async def work(connection: Any) -> Any:
        with tracer.start_active_span("work"):
            return (await connection.execute(sa.text("SELECT 1"))).scalar()

    assert asyncio.run(_on(async_engine, work)) == 1
    assert spans()[0] == async_statement("SELECT 1", "work")


def test_an_async_stream_is_a_span(async_engine: AsyncEngine, spans: Spans) -> None:
    async def work(connection: Any) -> Any:
        return [row[0] async for row in await connection.stream(sa.text("VALUES (1), (2), (3)"))]

    assert asyncio.run(_on(async_engine, work)) == [1, 2, 3]
    assert spans() == [async_statement("VALUES (1), (2), (3)")]


def test_a_failed_async_statement_is_an_error(async_engine: AsyncEngine, spans: Spans) -> None:
    async def work(connection: Any) -> None:
        await connection.execute(sa.text("SELECT x FROM nowhere"))

    with pytest.raises(OperationalError) as caught:
        asyncio.run(_on(async_engine, work))
    assert spans() == [failed(async_statement("SELECT x FROM nowhere", **NOWHERE), caught.value.orig)]


def test_a_cancelled_async_statement_ends_its_span(async_engine: AsyncEngine, spans: Spans) -> None:
    async def work(connection: Any) -> None:
        task = asyncio.ensure_future(connection.execute(sa.text(SLOW)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(_on(async_engine, work))
    gc.collect()
    (span,) = spans()
    slow = statement(SLOW, "sqlite+aiosqlite://", operation="SQL SELECT")["tags"]
    assert span["tags"] == {**slow, "db.collection.name": "c", "error": True}
    assert isinstance(span["logs"][0]["error.object"], asyncio.CancelledError)


def test_tasks_that_share_an_async_engine_keep_their_parents(tmp_path: Path, tracer: MockTracer, spans: Spans) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shared")

    async def work(number: int) -> None:
        with tracer.start_active_span(f"work {number}"):
            async with engine.connect() as connection:
                for _ in range(3):
                    await connection.execute(sa.text(f"SELECT {number}"))

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(10)))
        await engine.dispose()

    asyncio.run(main())
    told = [(span["tags"]["db.statement"], span["parent"]) for span in spans() if span["operation"] == "SQL SELECT"]
    assert sorted(told) == sorted((f"SELECT {number}", f"work {number}") for number in range(10) for _ in range(3))
