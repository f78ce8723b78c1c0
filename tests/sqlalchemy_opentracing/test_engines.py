"""Which engines are registered, and what there is without SQLAlchemy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import create_async_engine

from opentracing_instrumentation import sqlalchemy_opentracing as marks

from .conftest import MinimalTracer, Tell


def run(engine: Any, times: int = 1) -> None:
    with engine.connect() as connection:
        for _ in range(times):
            connection.execute(sa.text("SELECT 1"))


def test_init_sets_the_globals(own: MinimalTracer) -> None:
    marks.init_tracing(own, trace_all_engines=False, trace_all_queries=False)
    assert (marks.g_tracer, marks.g_trace_all_engines, marks.g_trace_all_queries) == (own, False, False)
    marks.init_tracing(own)
    assert (marks.g_tracer, marks.g_trace_all_engines, marks.g_trace_all_queries) == (own, True, True)


def test_the_tracer_is_taken_out_of_an_integration(own: MinimalTracer) -> None:
    class Integration:
        _tracer = own

    marks.init_tracing(Integration())
    assert marks.g_tracer is own


@pytest.mark.parametrize(("every", "calls"), [(True, [((Engine,),)]), (False, [])])
def test_init_registers_by_the_name_of_the_function(own: MinimalTracer, every: bool, calls: list[Any]) -> None:
    with patch.object(marks, "register_engine") as register:
        marks.init_tracing(own, trace_all_engines=every)
    assert register.call_args_list == calls


def test_globals_are_heeded_at_each_statement(own: MinimalTracer, engine: Any, told: Tell) -> None:
    marks.init_tracing(own)
    with patch.object(marks, "g_trace_all_queries", False):
        run(engine)
    assert told() == []
    other = MinimalTracer()
    with patch.object(marks, "g_tracer", other):
        run(engine)
    assert (told(), len(other.spans)) == ([], 1)


def test_an_engine_is_refused_without_a_tracer_and_beside_all(own: MinimalTracer, engine: Any) -> None:
    with pytest.raises(RuntimeError, match="no tracer"):
        marks.register_engine(engine)
    marks.init_tracing(own)
    with pytest.raises(RuntimeError, match="All engines"):
        marks.register_engine(engine)
    marks.register_engine(Engine)


@pytest.mark.parametrize("wrong", ["sqlite://", None, sa.MetaData()])
def test_what_is_no_engine_is_refused(own: MinimalTracer, wrong: Any) -> None:
    marks.init_tracing(own, trace_all_engines=False)
    with pytest.raises(InvalidRequestError, match="is no engine"):
        marks.register_engine(wrong)


def test_engines_of_before_and_after_are_traced(own: MinimalTracer, engine: Any, told: Tell) -> None:
    """Connections that were open already, too."""
    with engine.connect() as connection:
        marks.init_tracing(own)
        connection.execute(sa.text("SELECT 1"))
    run(sa.create_engine("sqlite://"))
    assert told() == [("textclause", None)] * 2


def test_a_registered_engine_is_traced_and_no_other(own: MinimalTracer, engine: Any, told: Tell) -> None:
    """Nor its neighbours; what it makes by `execution_options` is traced with it."""
    marks.init_tracing(own, trace_all_engines=False)
    with engine.connect() as connection:
        marks.register_engine(engine)
        connection.execute(sa.text("SELECT 1"))
    run(sa.create_engine("sqlite://"))
    run(engine.execution_options(isolation_level="AUTOCOMMIT"))
    assert told() == [("textclause", None)] * 2


def test_registered_twice_and_with_all_gives_one_span(own: MinimalTracer, engine: Any, told: Tell) -> None:
    marks.init_tracing(own, trace_all_engines=False)
    marks.register_engine(engine)
    marks.register_engine(engine)
    marks.init_tracing(own, trace_all_engines=True)
    run(engine)
    assert told() == [("textclause", None)]


def test_unregistering_undoes_it(own: MinimalTracer, engine: Any, told: Tell) -> None:
    """Each of the two registrations by itself; nobody listens after the last."""
    marks.init_tracing(own, trace_all_engines=False)
    marks.register_engine(engine)
    marks.register_engine(Engine)
    marks.unregister_engine(Engine)
    run(engine)
    assert told() == [("textclause", None)]
    marks.unregister_engine(engine)
    run(engine)
    assert told() == []
    assert {patch.state for patch in marks._statements.all_patches} == {"off"}
    marks.register_engine(engine)
    run(engine)
    assert told() == [("textclause", None)]


def test_what_is_not_registered_can_not_be_unregistered(own: MinimalTracer, engine: Any) -> None:
    for obj in (Engine, engine):
        with pytest.raises(InvalidRequestError, match="is not registered"):
            marks.unregister_engine(obj)
    marks.init_tracing(own)
    with pytest.raises(InvalidRequestError, match="is not registered"):
        marks.unregister_engine(engine)
    marks.unregister_engine(Engine)


def test_turning_all_engines_off_does_not_unregister(own: MinimalTracer, engine: Any, told: Tell) -> None:
    marks.init_tracing(own)
    marks.init_tracing(own, trace_all_engines=False)
    run(engine)
    assert told() == [("textclause", None)]


def test_an_async_engine_is_taken_by_its_sync_engine(own: MinimalTracer) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    marks.init_tracing(own, trace_all_engines=False)
    marks.register_engine(engine)
    marks.unregister_engine(engine.sync_engine)
    marks.register_engine(engine.sync_engine)
    marks.unregister_engine(engine)
    with pytest.raises(InvalidRequestError, match="is not registered"):
        marks.unregister_engine(engine)


def test_a_statement_in_flight_at_the_end_of_the_registration_is_finished(own: MinimalTracer, engine: Any) -> None:
    marks.init_tracing(own)
    event.listen(engine, "do_execute", lambda *_: marks.unregister_engine(Engine))
    run(engine)
    assert [span.finished for span in own.spans] == [1]


def test_the_module_needs_no_sqlalchemy() -> None:
    """It imports none, and its marks work on anything."""
    program = """
import sys
sys.modules["sqlalchemy"] = None
from opentracing_instrumentation import sqlalchemy_opentracing as marks
class Anything: pass
it, span = Anything(), object()
marks.set_parent_span(it, span)
assert marks.get_traced(it) and marks.get_parent_span(it) is span and marks.has_parent_span(it)
marks.clear_traced(it)
marks.clear_traced(it)
assert not marks.get_traced(it) and not marks.has_parent_span(it) and vars(it) == {}
assert marks.get_parent_span(None) is None
marks.init_tracing(object(), trace_all_engines=False)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
