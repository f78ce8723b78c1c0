"""One stack: what is current, for both worlds, however scopes are closed. Nothing of this logs a line."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentracing import Span as OpenTracingSpan
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation import get_current_span, span_in_context
from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.request_context import span_in_stack_context

from .spans import tree


@pytest.fixture(autouse=True)
def silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does, it logs nothing."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert [record for record in caplog.records if record.name != "asyncio"] == []


def native(provider: TracerProvider) -> trace.Tracer:
    return provider.get_tracer("native")


def ended(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


def test_the_active_span_is_the_one_that_was_activated(tracer: Tracer) -> None:
    """It is the very object, and OpenTelemetry's current span is the one inside."""
    span = tracer.start_span("span")
    with tracer.scope_manager.activate(span, True) as scope:
        assert tracer.active_span is span
        assert tracer.scope_manager.active is scope
        assert get_current_span() is span
        assert trace.get_current_span() is span.unwrap()
    assert tracer.active_span is None
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_native_spans_and_ours_nest_in_any_order(
    tracer: Tracer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Both ways to begin a span, and both worlds, choose the same parent."""
    with (
        native(provider).start_as_current_span("native"),
        tracer.start_active_span("ours"),
        native(provider).start_as_current_span("native inside"),
    ):
        tracer.start_span("leaf").finish()
        tracer.start_active_span("active leaf").close()
        native(provider).start_span("native leaf").end()
    assert tree(exporter.get_finished_spans()) == [
        "native",
        ["ours", ["native inside", ["leaf", "active leaf", "native leaf"]]],
    ]


def test_a_native_span_is_seen_as_the_current_one(tracer: Tracer, provider: TracerProvider) -> None:
    """What is told to it arrives there; closing its scope does not end it."""
    with native(provider).start_as_current_span("native") as span:
        current = get_current_span()
        assert current.unwrap() is span
        current.set_tag("colour", "red")
        tracer.scope_manager.active.close()
        assert trace.get_current_span() is span
    assert span.attributes == {"colour": "red"}


def test_a_native_span_hides_ours_until_it_ends(tracer: Tracer, provider: TracerProvider) -> None:
    """The current span is the innermost of either world."""
    with tracer.start_active_span("ours") as scope:
        with native(provider).start_as_current_span("native"):
            assert tracer.scope_manager.active is not scope
        assert tracer.scope_manager.active is scope


def test_scopes_closed_in_the_wrong_order(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """The outer one ends with the inner one, at the time of its own close; then nothing is current."""
    outer, inner = tracer.start_active_span("outer"), tracer.start_active_span("inner")
    outer.close()
    assert tracer.active_span is inner.span
    assert ended(exporter) == []
    inner.close()
    assert tracer.active_span is None
    assert trace.get_current_span() is trace.INVALID_SPAN
    first, second = exporter.get_finished_spans()
    assert (first.name, second.name) == ("inner", "outer")
    assert second.end_time < first.end_time


def test_a_scope_closed_below_two_others(tracer: Tracer) -> None:
    """What is left open stays current."""
    one, two, three = (tracer.start_active_span(name) for name in "123")
    two.close()
    three.close()
    assert tracer.active_span is one.span
    one.close()
    assert tracer.active_span is None


def test_a_scope_closed_below_a_native_span(
    tracer: Tracer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Its span ends at once, and is not current any more when the native one has ended."""
    scope = tracer.start_active_span("ours")
    with native(provider).start_as_current_span("native") as span:
        scope.close()
        assert ended(exporter) == ["ours"]
        assert trace.get_current_span() is span
    assert tracer.active_span is None
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_scope_closed_twice(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """The second time nothing happens."""
    with tracer.start_active_span("outer") as outer:
        inner = tracer.start_active_span("inner")
        inner.close()
        inner.close()
        assert tracer.active_span is outer.span
    assert ended(exporter) == ["inner", "outer"]


def test_a_scope_closed_by_another_thread(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Its span ends, and is not current any more in the thread that opened it."""
    outer, inner = tracer.start_active_span("outer"), tracer.start_active_span("inner")
    thread = threading.Thread(target=inner.close)
    thread.start()
    thread.join()
    assert ended(exporter) == ["inner"]
    assert tracer.active_span is outer.span
    outer.close()
    assert tracer.active_span is None


def test_a_scope_closed_in_a_copy_of_its_context(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Neither there nor where it was opened its span is current any more."""
    scope = tracer.start_active_span("span")

    def close() -> Any:
        scope.close()
        return tracer.active_span

    assert contextvars.copy_context().run(close) is None
    assert ended(exporter) == ["span"]
    assert tracer.active_span is None


def test_a_scope_opened_in_a_task_and_closed_in_another(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """As above; each task has its own current span meanwhile."""

    async def main() -> None:
        opened = asyncio.get_running_loop().create_future()
        closed = asyncio.Event()

        async def opening() -> None:
            opened.set_result(tracer.start_active_span("span"))
            await closed.wait()
            assert tracer.active_span is None

        async def closing() -> None:
            scope = await opened
            with tracer.start_active_span("other") as other:
                scope.close()
                assert tracer.active_span is other.span
            closed.set()

        await asyncio.gather(opening(), closing())

    asyncio.run(main())
    assert ended(exporter) == ["span", "other"]


def test_a_task_that_outlives_the_scope_it_was_begun_in(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Its spans are children of that scope's, although that has ended long since."""

    async def main() -> None:
        async def work() -> None:
            await asyncio.sleep(0.01)
            with tracer.start_active_span("child"):
                tracer.start_span("grandchild").finish()
            tracer.start_span("second child").finish()

        with tracer.start_active_span("parent"):
            task = asyncio.ensure_future(work())
        assert tracer.active_span is None
        await task

    asyncio.run(main())
    assert tree(exporter.get_finished_spans()) == ["parent", ["child", ["grandchild"], "second child"]]


def test_a_task_that_repeats_itself_keeps_no_chain_of_scopes(tracer: Tracer) -> None:
    """A callback that is scheduled inside a scope and opens another leaves the former to the garbage collector."""

    def step() -> contextvars.Context:
        with tracer.start_active_span("step", ignore_active_span=True):
            return contextvars.copy_context()

    context = contextvars.copy_context()
    for _ in range(100):
        context = context.run(step)
    gc.collect()
    chain, scope = 0, context.run(lambda: tracer.scope_manager.active)
    while scope is not None:
        chain, scope = chain + 1, scope._outer
    assert chain <= 2


def test_a_generator_that_is_left_behind(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Its scope is closed by the garbage collector, wherever that happens to run."""

    def numbers() -> Iterator[int]:
        with tracer.start_active_span("numbers"):
            yield 1
            yield 2

    def consume() -> Any:
        generator = numbers()
        next(generator)
        return generator

    generators = [contextvars.copy_context().run(consume)]
    with tracer.start_active_span("other") as scope:
        generators.clear()
        gc.collect()
        assert ended(exporter) == ["numbers"]
        assert tracer.active_span is scope.span
    assert tracer.active_span is None


def test_an_asynchronous_generator_that_is_left_behind(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """The event loop closes it in a task of its own."""

    async def numbers() -> AsyncIterator[int]:
        with tracer.start_active_span("numbers"):
            yield 1
            yield 2

    async def main() -> None:
        async for _ in numbers():
            break
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ended(exporter) == ["numbers"]


def test_an_exception_in_a_block_is_told_and_goes_on(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """The span has the status and one exception event."""
    with pytest.raises(ValueError, match="wrong"), tracer.start_active_span("span"):
        raise ValueError("wrong")
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "ValueError: wrong")
    assert span.attributes == {"error.type": "ValueError"}
    (event,) = span.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ValueError"
    assert event.attributes["exception.message"] == "wrong"
    assert event.attributes["exception.stacktrace"].endswith("ValueError: wrong\n")
    assert __file__ in event.attributes["exception.stacktrace"]


def test_a_block_without_a_current_span(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Neither world sees one inside; afterwards it is back."""
    with tracer.start_active_span("outer") as scope:
        with span_in_stack_context(None):
            assert tracer.active_span is None
            assert get_current_span() is None
            tracer.start_span("root").finish()
        assert tracer.active_span is scope.span
    assert tree(exporter.get_finished_spans()) == ["outer", "root"]


def test_a_span_of_another_tracer_is_active_but_no_parent(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """OpenTelemetry does not know it; what was current for OpenTelemetry stays."""
    foreign: OpenTracingSpan = MockTracer().start_span("foreign")
    with tracer.start_active_span("ours"), span_in_context(foreign):
        assert tracer.active_span is foreign
        tracer.start_span("child").finish()
        tracer.start_span("child of foreign", child_of=foreign).finish()
    assert tree(exporter.get_finished_spans()) == ["ours", ["child", "child of foreign"]]


def test_two_tracers_share_the_stack(tracer: Tracer, provider: TracerProvider) -> None:
    """There is one, OpenTelemetry's."""
    other = Tracer(provider)
    with tracer.start_active_span("span") as scope:
        assert other.active_span is scope.span
