"""Single engines: traced alone or beside all others, with options of their own, and never twice."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import create_async_engine

from opentracing_instrumentation.client_hooks import _sql_engines
from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.client_hooks._driver import SideTable
from tests.opentracing_instrumentation.told import Spans

from .conftest import Make


def run(engine: Any, text: str = "SELECT 1") -> None:
    with engine.connect() as connection:
        connection.execute(sa.text(text))


def statements(spans: Spans) -> list[str]:
    return [told["tags"]["db.statement"] for told in spans() if told["operation"].startswith("SQL")]


def test_one_engine_is_traced_alone(make: Make, spans: Spans) -> None:
    traced, other = make("pysqlite"), make("pysqlite")
    hook.instrument_engine(traced)
    run(traced, "SELECT 1")
    run(other, "SELECT 2")
    hook.uninstrument_engine(traced)
    run(traced, "SELECT 3")
    assert statements(spans) == ["SELECT 1"]


def test_any_number_of_engines_each_with_its_options(make: Make, spans: Spans) -> None:
    engines = [make("pysqlite") for _ in range(3)]
    for number, engine in enumerate(engines):
        hook.instrument_engine(engine, filter=lambda text, number=number: str(number) in text)
    for engine in engines:
        for number in range(3):
            run(engine, f"SELECT {number}")
    assert statements(spans) == ["SELECT 0", "SELECT 1", "SELECT 2"]


def test_an_engine_and_all_of_them_are_one_span(make: Make, spans: Spans) -> None:
    engine = make("pysqlite")
    for install in (hook.install_patches, lambda: hook.instrument_engine(engine)):
        install()
        install()
    run(engine)
    assert statements(spans) == ["SELECT 1"]


def test_while_all_are_traced_an_engine_falls_back_on_their_options(make: Make, spans: Spans) -> None:
    engine = make("pysqlite")
    hook.install_patches()
    hook.instrument_engine(engine, filter=lambda _: False)
    run(engine, "SELECT 1")
    hook.uninstrument_engine(engine)
    run(engine, "SELECT 2")
    assert statements(spans) == ["SELECT 2"]


def test_the_class_stands_for_all_engines_without_options(make: Make, spans: Spans) -> None:
    engine, other = make("pysqlite"), make("pysqlite")
    hook.instrument_engine(Engine, filter=lambda text: "2" in text)
    hook.instrument_engine(other)
    hook.install_patches()  # keeps the options
    for text in ("SELECT 1", "SELECT 2"):
        run(engine, text)
    run(other, "SELECT 3")
    hook.uninstrument_engine(Engine)
    run(engine, "SELECT 2")
    run(other, "SELECT 4")
    assert statements(spans) == ["SELECT 2", "SELECT 3", "SELECT 4"]


def test_the_options_given_last_are_in_force(make: Make, spans: Spans) -> None:
    engine = make("pysqlite")
    hook.instrument_engine(engine, filter=lambda _: False)
    run(engine, "SELECT 1")
    hook.instrument_engine(engine)
    run(engine, "SELECT 2")
    assert statements(spans) == ["SELECT 2"]


def test_an_async_engine_is_taken_by_the_one_below_it(spans: Spans) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")

    async def work() -> None:
        for _ in range(2):
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT 1"))
            hook.uninstrument_engine(engine.sync_engine)
        await engine.dispose()

    hook.instrument_engine(engine)
    asyncio.run(work())
    assert statements(spans) == ["SELECT 1"]


def test_an_engine_with_other_execution_options_is_the_same(make: Make, spans: Spans) -> None:
    engine = make("pysqlite")
    hook.instrument_engine(engine.execution_options(stream_results=True))
    run(engine)
    run(engine.execution_options(logging_token="other"))
    assert statements(spans) == ["SELECT 1"] * 2


@pytest.mark.parametrize("wrong", [None, "sqlite://", object, sa.text("SELECT 1")])
def test_what_is_no_engine_is_refused(wrong: Any) -> None:
    for function in (hook.instrument_engine, hook.uninstrument_engine):
        with pytest.raises(TypeError, match="accepted are an Engine, an AsyncEngine, and the class Engine"):
            function(wrong)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"trace_ping": True}, TypeError, r"trace_ping=True: there is no such option; there are .*trace_pings"),
        ({"min_duration": -1}, ValueError, r"min_duration=-1: accepted is a number of seconds"),
        ({"min_duration": "1"}, ValueError, r"min_duration='1'"),
        ({"checkout_threshold": float("nan")}, ValueError, r"checkout_threshold=nan"),
        ({"mask_literals": 1}, ValueError, r"mask_literals=1: accepted is True or False"),
        ({"filter": "SELECT"}, ValueError, r"filter='SELECT': accepted is a function"),
    ],
)
def test_a_wrong_option_is_refused_and_changes_nothing(
    make: Make, spans: Spans, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    engine = make("pysqlite")
    with pytest.raises(error, match=said):
        hook.instrument_engine(engine, **options)
    run(engine)
    assert spans() == []


def test_reset_turns_everything_off(make: Make, spans: Spans) -> None:
    engine, original = make("pysqlite"), Engine.raw_connection
    hook.instrument_engine(engine)
    assert Engine.raw_connection is not original
    hook.reset_patches()
    run(engine)
    assert Engine.raw_connection is original
    assert spans() == []


def test_uninstrumenting_the_last_engine_takes_the_patches_back(make: Make) -> None:
    engine, original = make("pysqlite"), Engine.raw_connection
    hook.instrument_engine(engine)
    for _ in range(2):
        hook.uninstrument_engine(engine)
    assert Engine.raw_connection is original


def test_an_engine_that_another_thread_instruments_meanwhile_stays_so(
    make: Make, monkeypatch: pytest.MonkeyPatch, spans: Spans
) -> None:
    last, next_one = make("pysqlite"), make("pysqlite")
    hook.instrument_engine(last)
    any_traced = _sql_engines.any_traced

    def slowly() -> bool:
        answer = any_traced()
        monkeypatch.setattr(_sql_engines, "any_traced", any_traced)
        hook.instrument_engine(next_one)
        return answer

    monkeypatch.setattr(_sql_engines, "any_traced", slowly)
    hook.uninstrument_engine(last)
    run(next_one)
    assert len(spans()) == 1


def test_nothing_is_kept_of_a_thousand_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spans: Spans) -> None:
    monkeypatch.setattr(_sql_engines, "_known", SideTable())
    last = None
    for _ in range(1000):
        engine = sa.create_engine(f"sqlite:///{tmp_path}/database", poolclass=sa.pool.NullPool)
        hook.instrument_engine(engine, filter=lambda _: False)
        run(engine)
        last = weakref.ref(engine)
    del engine
    gc.collect()
    assert last is not None
    assert last() is None
    assert len(_sql_engines._known) == len(_sql_engines._of_one) == 0


def test_the_statement_of_a_single_engine_is_below_the_current_span(
    make: Make, tracer: MockTracer, spans: Spans
) -> None:
    engine = make("pysqlite")
    hook.instrument_engine(engine)
    with tracer.start_active_span("work"):
        run(engine)
    assert [told["parent"] for told in spans() if told["operation"] == "SQL SELECT"] == ["work"]
