"""Marks beside the hooks: a statement has one span, in whichever order they are installed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from sqlalchemy.exc import OperationalError

from opentracing_instrumentation import sqlalchemy_opentracing as marks
from opentracing_instrumentation.client_hooks import _sql_events, install_all_patches
from opentracing_instrumentation.client_hooks._dbapi2 import ConnectionFactory, ContextManagerConnectionWrapper
from opentracing_instrumentation.config import CONFIG

ONE = sa.select(sa.literal(1))
Trace = Callable[[], None]


@pytest.fixture
def traced_driver() -> Iterator[Any]:
    """An engine whose driver is traced, too."""
    connect = ConnectionFactory(sqlite3.connect, "sqlite3", ContextManagerConnectionWrapper)
    engine = sa.create_engine("sqlite://", creator=lambda: connect(":memory:"), poolclass=sa.pool.StaticPool)
    with engine.connect():
        yield engine


def marks_then_hooks(tracer: MockTracer, engine: Any) -> None:
    marks.init_tracing(tracer)
    install_all_patches()


def hooks_then_marks(tracer: MockTracer, engine: Any) -> None:
    install_all_patches()
    marks.init_tracing(tracer)


def hooks_then_an_engine(tracer: MockTracer, engine: Any) -> None:
    install_all_patches()
    marks.init_tracing(tracer, trace_all_engines=False)
    marks.register_engine(engine)


BOTH = pytest.mark.parametrize("install", [marks_then_hooks, hooks_then_marks, hooks_then_an_engine])


def statements(tracer: MockTracer) -> list[str]:
    return [span.tags["db.statement"] for span in tracer.finished_spans()]


@BOTH
def test_a_statement_has_one_span(install: Any, tracer: MockTracer, engine: Any) -> None:
    """Marked or not, failing or not."""
    install(tracer, engine)
    marked = sa.text("SELECT 2")
    with tracer.start_span("request") as parent:
        marks.set_parent_span(marked, parent)
    tracer.reset()
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        connection.execute(marked)
        with pytest.raises(OperationalError):
            connection.execute(sa.text("SELECT 3 FROM nowhere"))
    assert statements(tracer) == ["SELECT 1", "SELECT 2", "SELECT 3 FROM nowhere"]
    assert not marks.get_traced(marked)


def test_a_marked_statement_in_between_changes_nothing(tracer: MockTracer, traced_driver: Any) -> None:
    hooks_then_an_engine(tracer, traced_driver)
    marks.g_trace_all_queries = False

    @sa.event.listens_for(traced_driver, "before_cursor_execute")
    def prepare(connection: Any, _: Any, statement: str, *__: Any) -> None:
        if statement == "SELECT 2":
            marked = sa.text("SELECT 1")
            marks.set_traced(marked)
            connection.execute(marked)

    tracer.reset()
    with traced_driver.connect() as connection, tracer.start_active_span("request"):
        connection.execute(sa.text("SELECT 2"))
    assert [span.operation_name for span in tracer.finished_spans()] == ["textclause", "SQL SELECT", "request"]


@BOTH
def test_a_comment_of_the_hook_is_not_in_the_tag(install: Any, tracer: MockTracer, engine: Any) -> None:
    install(tracer, engine)
    CONFIG.sql_comments = "full"
    sent: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert "/*db_driver=" in sent[0]
    assert statements(tracer) == ["SELECT 1"]


@BOTH
def test_without_marks_the_hook_has_them_all(install: Any, tracer: MockTracer, engine: Any) -> None:
    install(tracer, engine)
    marks.g_trace_all_queries = False
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert [span.operation_name for span in tracer.finished_spans()] == ["SQL SELECT"]


def test_the_drivers_span_is_left_out(traced_driver: Any, tracer: MockTracer) -> None:
    marks.init_tracing(tracer)
    with tracer.start_active_span("request"), traced_driver.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    operations = [span.operation_name for span in tracer.finished_spans()]
    assert [name for name in operations if name != "sqlite3:rollback"] == ["textclause", "request"]


def test_a_statement_that_will_be_traced_is_claimed(marked_only: Any) -> None:
    """Before it is sent; unmarked ones, and those of engines that are not registered, are not."""
    claims: list[bool] = []

    def ask(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        claims.append(_sql_events.is_claimed(context, statement))

    other = sa.create_engine("sqlite://")
    for engine in (marked_only, other):
        sa.event.listen(engine, "before_cursor_execute", ask)
        marked = sa.select(sa.literal(1))
        marks.set_traced(marked)
        with engine.connect() as connection:
            connection.execute(ONE)
            connection.execute(marked)
            connection.execute(ONE)
    assert claims == [False, True, False, False, False, False]


@BOTH
def test_a_marked_statement_has_the_span_of_its_mark(install: Any, tracer: MockTracer, engine: Any) -> None:
    """The others of the same text have the hook's, three times over."""
    install(tracer, engine)
    marks.g_trace_all_queries = False
    parent = tracer.start_span("request")
    plain, marked = sa.text("SELECT 1"), sa.text("SELECT 1")
    for _ in range(3):
        tracer.reset()
        marks.set_parent_span(marked, parent)
        with engine.connect() as connection:
            for statement in (plain, marked, plain):
                connection.execute(statement)
        told = [(span.operation_name, span.parent_id) for span in tracer.finished_spans()]
        assert told == [("SQL SELECT", None), ("textclause", parent.context.span_id), ("SQL SELECT", None)]
