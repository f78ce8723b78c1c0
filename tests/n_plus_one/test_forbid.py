"""Blocks and tests in which an N+1 is an error, with a tracer and without."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import opentracing
import pytest
import sqlalchemy as sa
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentracing.mocktracer import MockTracer
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, selectinload

from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.n_plus_one import Cause, Finding, NPlusOneError, forbid, observe, wanted
from opentracing_instrumentation.otel import Tracer

from .shop import ORDERS, Base, Order, customers_names, fill, line_of


@pytest.fixture
def untraced() -> None:
    """OpenTracing's own tracer, as it comes."""
    opentracing.tracer = opentracing.Tracer()


def send(times: int, statement: str = "SELECT 1", parent: Any = None) -> None:
    for _ in range(times):
        observe(parent, statement, 0.001)


def test_an_n_plus_one_is_an_error_without_any_tracer(untraced: None, session: Session) -> None:
    with pytest.raises(NPlusOneError) as caught, forbid():
        customers_names(session)
    (finding,) = caught.value.findings
    assert (finding.count, finding.parent) == (ORDERS, None)
    assert finding.cause == Cause("Order.customer", "selectinload(Order.customer)")
    assert finding.line == line_of(customers_names, 2)
    assert isinstance(caught.value, AssertionError)
    first, line = str(caught.value).splitlines()
    assert (first, line) == ("1 N+1 found:", f"- {finding}")
    assert f"50 similar statements in {finding.seconds * 1000:.1f} ms at {finding.line}: SELECT" in line
    assert line.endswith("(lazy load of Order.customer; selectinload(Order.customer) avoids it)")


def test_nothing_is_traced_for_it(untraced: None, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(opentracing.Tracer, "start_span", lambda *args, **kwargs: begun.append(args))
    with forbid():
        customers_names(session, selectinload(Order.customer))
    assert begun == []


def test_where_instrumentation_is_suppressed_nothing_is_traced_either(session: Session) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    opentracing.tracer = Tracer(provider)
    with pytest.raises(NPlusOneError), forbid(), suppress_instrumentation():
        customers_names(session)
    assert exporter.get_finished_spans() == ()


def test_below_a_span_it_is_that_of_the_span(tracer: MockTracer, session: Session) -> None:
    with tracer.start_active_span("request") as scope, pytest.raises(NPlusOneError) as caught, forbid():
        customers_names(session)
    assert [finding.parent for finding in caught.value.findings] == [scope.span]
    assert scope.span.tags["db.n_plus_one.count"] == ORDERS


def test_below_several_spans_each_is_counted_by_itself(session: Session) -> None:
    spans = [MockTracer().start_span(str(number)) for number in range(3)]
    with forbid():
        for span in spans:
            send(9, parent=span)
        send(9)
    with pytest.raises(NPlusOneError) as caught, forbid():
        for span in spans:
            send(10, parent=span)
    assert [finding.parent for finding in caught.value.findings] == spans


def test_without_a_current_span_the_statements_are_those_of_the_block(tracer: MockTracer, session: Session) -> None:
    with pytest.raises(NPlusOneError), forbid():
        customers_names(session)


def test_all_findings_are_listed_as_they_are_at_the_end(session: Session) -> None:
    with pytest.raises(NPlusOneError, match="2 N\\+1 found") as caught, forbid() as block:
        send(12, "SELECT a")
        assert [finding.count for finding in block.findings] == [12]
        send(11, "SELECT b")
        send(3, "SELECT a")
    assert [(finding.statement, finding.count) for finding in caught.value.findings] == [
        ("SELECT a", 15),
        ("SELECT b", 11),
    ]


def test_of_many_findings_the_first_hundred_are_remembered(session: Session) -> None:
    with pytest.raises(NPlusOneError) as caught, forbid(threshold=1):
        for number in range(200):
            send(1, "SELECT 1", MockTracer().start_span(str(number)))
    assert len(caught.value.findings) == 100


def test_the_threshold_is_the_blocks_own(session: Session) -> None:
    with pytest.raises(NPlusOneError), forbid(threshold=2):
        send(2)
    with forbid(threshold=11):
        send(10)


@pytest.mark.parametrize(("setting", "enough"), [(3, 3), (0, 10)])
def test_by_default_it_is_that_of_the_setting(session: Session, setting: int, enough: int) -> None:
    """Where the setting switches findings off, its default."""
    CONFIG.n_plus_one_threshold = setting
    with forbid():
        send(enough - 1)
    with pytest.raises(NPlusOneError), forbid():
        send(enough)


@pytest.mark.parametrize("threshold", [0, -1, 1.5, True, "10"])
def test_a_threshold_that_makes_no_sense_is_refused(threshold: Any) -> None:
    with pytest.raises(ValueError, match=r"forbid\(threshold=.*\): accepted is a whole number, 1 or more"):
        forbid(threshold)


class BlockError(Exception):
    """What a block raises."""


def test_a_block_that_raises_raises_what_it_raises(session: Session) -> None:
    with pytest.raises(BlockError), forbid():
        send(50)
        raise BlockError


def test_nested_blocks_count_for_themselves(session: Session) -> None:
    with pytest.raises(NPlusOneError) as outer, forbid(threshold=10):
        send(5)
        with pytest.raises(NPlusOneError) as inner, forbid(threshold=5):
            send(5)
        assert [finding.count for finding in inner.value.findings] == [5]
    assert [finding.count for finding in outer.value.findings] == [10]
    assert not wanted()


def test_an_inner_block_that_allows_more_does_not_excuse(session: Session) -> None:
    with pytest.raises(NPlusOneError), forbid(threshold=10), forbid(threshold=100):
        send(50)


# Who counts


def test_other_threads_do_not_count_unless_they_have_the_context(session: Session) -> None:
    with forbid(), ThreadPoolExecutor(1) as pool:
        pool.submit(send, 50).result()
    with pytest.raises(NPlusOneError), forbid(), ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, send, 50).result()


def test_everywhere_they_do(session: Session) -> None:
    """Also threads that are older than the block, as those of a server are."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(send, 1).result()
        with pytest.raises(NPlusOneError), forbid(everywhere=True):
            assert pool.submit(wanted).result()
            pool.submit(send, 50).result()
        assert not pool.submit(wanted).result()


def test_sixteen_threads_count_together(session: Session) -> None:
    start = threading.Barrier(16)

    def work(_: int) -> None:
        start.wait()
        send(100)

    with pytest.raises(NPlusOneError) as caught, forbid(everywhere=True), ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert [finding.count for finding in caught.value.findings] == [1600]


async def order(engine: Any, number: int) -> None:
    async with AsyncSession(engine) as session:
        await session.get(Order, number)


def test_tasks_that_are_begun_inside_count_and_others_do_not(untraced: None) -> None:
    hook.install_patches()

    async def unconcerned(engine: Any, inside: asyncio.Event) -> None:
        await inside.wait()
        for number in range(20):
            await order(engine, number)

    async def main() -> list[Finding]:
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=sa.pool.StaticPool)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            await session.run_sync(fill)
        inside = asyncio.Event()
        other = asyncio.ensure_future(unconcerned(engine, inside))
        await asyncio.sleep(0)
        with pytest.raises(NPlusOneError) as caught, forbid():
            inside.set()
            await asyncio.gather(*(order(engine, number) for number in range(12)))
            await other
        await engine.dispose()
        return list(caught.value.findings)

    (finding,) = asyncio.run(main())
    assert finding.count == 12
    assert finding.line == line_of(order, 2)


def test_a_task_that_goes_on_after_the_block_counts_no_more(session: Session) -> None:
    async def main() -> Any:
        with forbid() as block:
            send(5)
            task = asyncio.ensure_future(asyncio.sleep(0.01))
            task.add_done_callback(lambda _: send(50))
        await task
        await asyncio.sleep(0)
        return block

    assert asyncio.run(main()).findings == []


# Who reports


def test_a_block_in_which_nobody_reports_says_so() -> None:
    said = r"nobody reports statements.*client_hooks\.sqlalchemy\.install_patches"
    with pytest.raises(RuntimeError, match=said), forbid():
        pass
    with pytest.raises(BlockError), forbid():
        raise BlockError


def test_the_hook_is_there_to_report_from_install_to_reset() -> None:
    hook.install_patches()
    with forbid():
        pass
    hook.reset_patches()
    with pytest.raises(RuntimeError), forbid():
        pass


def test_what_was_reported_all_the_same_will_do() -> None:
    with forbid():
        send(1)


def test_a_hook_that_is_installed_inside_will_do() -> None:
    with forbid():
        hook.install_patches()
