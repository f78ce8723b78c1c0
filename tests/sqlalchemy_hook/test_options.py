"""What is left out of a trace, and is counted instead; and literals that are not shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from sqlalchemy import event

from opentracing_instrumentation.client_hooks import _sql_counts, psycopg2
from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans

from .conftest import Make
from .told import named, names


def sleeping(engine: Any) -> None:
    """Have SQLite know a function ``sleep(seconds)``."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.create_function("sleep", 1, time.sleep)


@pytest.fixture
def engine(make: Make, tracer: MockTracer) -> Any:
    engine = make("pysqlite")
    sleeping(engine)
    with engine.connect():
        pass
    return engine


def test_only_slow_statements_have_spans_and_the_others_are_counted(
    engine: Any, tracer: MockTracer, spans: Spans
) -> None:
    hook.instrument_engine(engine, min_duration=0.05)
    with tracer.start_active_span("work"), engine.connect() as connection:
        for _ in range(3):
            connection.execute(sa.text("SELECT 1"))
        before = time.time()
        connection.execute(sa.text("SELECT sleep(0.1)"))
        after = time.time()
    slow, work = spans()
    assert (slow["operation"], slow["parent"]) == ("SQL SELECT", "work")
    assert slow["tags"]["db.statement"] == "SELECT sleep(0.1)"
    assert work["tags"]["db.left_out.count"] == 3
    assert 0 < work["tags"]["db.left_out.duration_ms"] < 50
    (span, _) = tracer.finished_spans()
    assert before <= span.start_time <= span.finish_time <= after + 0.001
    assert span.finish_time - span.start_time >= 0.1


def test_a_statement_that_fails_has_a_span_whatever_its_duration(engine: Any, tracer: MockTracer, spans: Spans) -> None:
    hook.instrument_engine(engine, min_duration=60)
    with tracer.start_active_span("work"), engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
        connection.execute(sa.text("SELECT 1 FROM nowhere"))
    failed, work = spans()
    assert failed["tags"]["error"] is True
    assert failed["tags"]["db.collection.name"] == "nowhere"
    assert "db.left_out.count" not in work["tags"]


def test_a_filter_leaves_statements_out(engine: Any, tracer: MockTracer, spans: Spans) -> None:
    hook.instrument_engine(engine, filter=lambda statement: "health" not in statement)
    with tracer.start_active_span("work"), engine.connect() as connection:
        connection.execute(sa.text("SELECT 'health'"))
        connection.execute(sa.text("SELECT 'orders'"))
    assert names(spans) == [("SQL SELECT", "work"), ("work", None)]
    assert named(spans, "work")[0]["tags"]["db.left_out.count"] == 1


def test_a_filter_that_raises_leaves_nothing_out(engine: Any, lenient: None, spans: Spans) -> None:
    hook.instrument_engine(engine, filter=lambda _: 1 / 0)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    assert [told["operation"] for told in spans()] == ["SQL SELECT"]


class Span:
    """A span that takes its first tag slowly: something else happens meanwhile."""

    def __init__(self, meanwhile: Callable[[], object] | None = None) -> None:
        self.tags: dict[str, Any] = {}
        self._meanwhile = meanwhile

    def set_tag(self, name: str, value: Any) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        self.tags[name] = value


def test_threads_count_together() -> None:
    def meanwhile() -> None:
        thread.start()
        thread.join(0.2)

    span = Span(meanwhile)
    thread = threading.Thread(target=_sql_counts.add, args=(span, {"n": 1}))
    _sql_counts.add(span, {"n": 1})
    thread.join()
    assert span.tags == {"n": 2}


class Amounts(dict[str, float]):
    """Something in the midst of which garbage is collected, and a destructor sends a statement."""

    def items(self) -> Any:
        _sql_counts.add(self.span, {"n": 1})
        return super().items()

    span: Any = None


@pytest.mark.timeout(10)
def test_a_destructor_that_sends_a_statement_is_counted() -> None:
    amounts = Amounts(n=1)
    amounts.span = Span()
    _sql_counts.add(amounts.span, amounts)
    assert amounts.span.tags == {"n": 2}


def test_without_a_span_above_what_is_left_out_is_not_counted(engine: Any, spans: Spans) -> None:
    hook.instrument_engine(engine, min_duration=60)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    assert spans() == []


def test_what_is_left_out_has_no_span_of_the_driver_either(make: Make, tracer: MockTracer, spans: Spans) -> None:
    engine = make("psycopg2")
    hook.instrument_engine(engine, filter=lambda _: False, trace_connects=False)
    psycopg2.install_patches()
    with tracer.start_active_span("work"), engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    told = [told["operation"] for told in spans() if told["tags"].get("sql", "").upper() != "SHOW TRANSACTION"]
    assert "SQL SELECT" not in told
    assert told[-2:] == ["psycopg2:rollback", "work"]


def test_literals_are_masked_on_demand(engine: Any, spans: Spans) -> None:
    hook.instrument_engine(engine)
    CONFIG.sql_mask_literals = True
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 'alice', 42 -- secret\n AS n"))
    assert [told["tags"]["db.statement"] for told in spans()] == ["SELECT ?, ? AS n"]


def test_the_settings_may_change_at_any_time(engine: Any, tracer: MockTracer, spans: Spans) -> None:
    hook.install_patches()
    with engine.connect() as connection:
        for CONFIG.sql_min_duration in (0, 60, 0):
            connection.execute(sa.text("SELECT 1"))
    assert len(spans()) == 2
