"""The current span: who it is, how it becomes current, and where it stops being so."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

import opentracing
import pytest
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers import ThreadLocalScopeManager
from opentracing.scope_managers.asyncio import AsyncioScopeManager
from opentracing.scope_managers.contextvars import ContextVarsScopeManager
from opentracing.scope_managers.gevent import GeventScopeManager
from tornado import gen

import opentracing_instrumentation
from opentracing_instrumentation import get_current_span, request_context, span_in_context, span_in_stack_context
from opentracing_instrumentation.client_hooks import _current_span
from opentracing_instrumentation.request_context import (
    RequestContext,
    RequestContextManager,
    ThreadSafeStackContext,
    TornadoScopeManager,
    current_span,
    run_coroutine_with_span,
    set_current_span_func,
    tracer_stack_context,
)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], MockTracer]:
    """The function that puts a tracer with another scope manager in force."""

    def put(scope_manager: Any) -> MockTracer:
        tracer = MockTracer(scope_manager)
        monkeypatch.setattr(opentracing, "tracer", tracer)
        return tracer

    return put


def test_with_the_default_tracer_the_current_span_is_the_no_op_span() -> None:
    assert type(get_current_span()) is opentracing.Span


def test_the_package_offers_what_applications_import_from_it() -> None:
    assert opentracing_instrumentation.__all__ == [
        "get_current_span",
        "span_in_context",
        "span_in_stack_context",
        "traced_function",
    ]


def test_outside_of_any_span_there_is_none(tracer: MockTracer) -> None:
    assert get_current_span() is None


def test_span_in_context_is_in_force_from_the_call_to_the_end_of_the_block(tracer: MockTracer) -> None:
    outer, inner = tracer.start_span("outer"), tracer.start_span("inner")
    scope = span_in_context(outer)
    assert get_current_span() is outer
    with scope:
        with span_in_context(inner) as active:
            assert active.span is get_current_span() is inner
        assert get_current_span() is outer
    assert get_current_span() is None
    assert tracer.finished_spans() == []


def test_an_error_in_the_block_is_told_on_the_span_and_raised_on(tracer: MockTracer) -> None:
    span, error = tracer.start_span("work"), ValueError("oh")
    with pytest.raises(ValueError, match="oh") as caught, span_in_context(span):
        raise error
    assert caught.value is error
    assert span.tags == {"error": True}
    assert [log.key_values["error.object"] for log in span.logs] == [error]
    assert get_current_span() is None


def test_span_in_context_of_none_changes_nothing(tracer: MockTracer) -> None:
    span = tracer.start_span("work")
    with span_in_context(span), span_in_context(None) as scope:
        assert (scope.span, scope.manager) == (None, None)
        assert get_current_span() is span


@pytest.mark.parametrize("manager", [ThreadLocalScopeManager, ContextVarsScopeManager, GeventScopeManager])
def test_a_thread_does_not_see_the_spans_of_another(use: Callable[[Any], MockTracer], manager: Any) -> None:
    tracer = use(manager())
    seen: list[Any] = []
    with span_in_context(tracer.start_span("work")):
        thread = threading.Thread(target=lambda: seen.append(get_current_span()))
        thread.start()
        thread.join()
    assert seen == [None]


@pytest.mark.parametrize("manager", [AsyncioScopeManager, ContextVarsScopeManager])
def test_each_task_has_a_current_span_of_its_own(use: Callable[[Any], MockTracer], manager: Any) -> None:
    tracer = use(manager())

    async def task(name: str) -> None:
        with span_in_context(tracer.start_span(name)) as scope:
            for _ in range(3):
                await asyncio.sleep(0)
                assert get_current_span() is scope.span

    async def main() -> None:
        await asyncio.gather(*(task(str(number)) for number in range(10)))
        assert get_current_span() is None

    asyncio.run(main())


def test_request_context_holds_a_span_and_nothing_else() -> None:
    assert RequestContext("span").span == "span"
    assert RequestContext.__slots__ == ("span",)
    with pytest.raises(AttributeError):
        RequestContext("span").other = 1  # type: ignore[attr-defined]


def test_request_context_manager_boxes_a_span_however_it_is_given(tracer: MockTracer) -> None:
    span = tracer.start_span("work")
    for manager in (RequestContextManager(span), RequestContextManager(context=span), RequestContextManager(span=span)):
        assert isinstance(manager._context, RequestContext)
        assert manager._context.span is span
    other = object()
    assert RequestContextManager(other)._context is other
    assert RequestContextManager(RequestContext("x"))._context.span == "x"


def test_request_context_managers_nest_and_hide_the_scope_manager(tracer: MockTracer) -> None:
    active, outer = tracer.start_span("active"), tracer.start_span("outer")
    assert RequestContextManager.current_context() is None
    with span_in_context(active):
        with RequestContextManager(outer) as context:
            assert context is RequestContextManager.current_context()
            assert get_current_span() is outer
            with RequestContextManager(span=None):
                assert get_current_span() is None
            with span_in_context(active):
                assert get_current_span() is outer
        assert get_current_span() is active
    assert RequestContextManager.current_context() is None


def test_a_request_context_that_is_no_context_has_no_span(tracer: MockTracer) -> None:
    with RequestContextManager(object()):
        assert get_current_span() is None


def test_a_request_context_is_left_after_an_error(tracer: MockTracer) -> None:
    with pytest.raises(KeyError), RequestContextManager(tracer.start_span("work")):
        raise KeyError
    assert get_current_span() is None


def test_set_current_span_func_is_one_setting_under_three_names(tracer: MockTracer) -> None:
    span = tracer.start_span("mine")
    assert _current_span.set_current_span_func is set_current_span_func
    set_current_span_func(lambda: span)
    assert current_span() is _current_span.current_span_func() is span
    set_current_span_func(get_current_span)
    assert current_span() is None


def test_a_current_span_func_that_raises_is_reported_and_passed_over(
    tracer: MockTracer, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise LookupError

    set_current_span_func(broken)
    span = tracer.start_span("work")
    with span_in_context(span):
        assert [current_span(), current_span()] == [span, span]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("manager", [TornadoScopeManager, ContextVarsScopeManager])
def test_span_in_stack_context_gives_a_function_that_ends_it_early(
    use: Callable[[Any], MockTracer], manager: Any
) -> None:
    tracer = use(manager())
    outer, inner = tracer.start_span("outer"), tracer.start_span("inner")
    with span_in_context(outer):
        block = span_in_stack_context(inner)
        assert get_current_span() is inner
        with block as deactivate:
            deactivate()
            assert get_current_span() is outer
            deactivate()
            assert get_current_span() is outer
        assert get_current_span() is outer
    assert tracer.finished_spans() == []


def test_span_in_stack_context_of_none_is_a_block_without_a_span(tracer: MockTracer) -> None:
    with span_in_context(tracer.start_span("outer")) as scope:
        with span_in_stack_context(None):
            assert get_current_span() is None
            assert tracer.start_span("root").parent_id is None
        assert get_current_span() is scope.span


@pytest.mark.parametrize("manager", [ThreadLocalScopeManager, GeventScopeManager, AsyncioScopeManager])
def test_span_in_stack_context_refuses_scope_managers_that_would_mix_up_coroutines(
    use: Callable[[Any], MockTracer], manager: Any
) -> None:
    use(manager())
    with pytest.raises(RuntimeError, match="scope_manager is not TornadoScopeManager"):
        span_in_stack_context("work")
    with pytest.raises(RuntimeError, match=manager.__name__):
        span_in_stack_context(None)


@gen.coroutine
def tornado_work(expected: Any) -> Any:
    assert get_current_span() == expected
    yield gen.sleep(0.001)
    assert get_current_span() == expected
    return "done"


def test_a_tornado_coroutine_called_in_the_block_keeps_the_span(tracer: MockTracer) -> None:
    @gen.coroutine
    def nested() -> Any:
        with span_in_stack_context("inner"):
            future = tornado_work("inner")
        yield future
        assert get_current_span() == "outer"
        yield tornado_work("outer")

    async def main() -> None:
        with span_in_stack_context("outer"):
            future = nested()
        assert get_current_span() is None
        await future
        assert get_current_span() is None

    asyncio.run(main())


def test_threads_in_a_copy_of_the_context_have_the_span(tracer: MockTracer) -> None:
    seen: list[Any] = []
    with span_in_stack_context("span"):
        contexts = [contextvars.copy_context() for _ in range(8)]
    threads = [
        threading.Thread(target=context.run, args=(lambda: seen.append(get_current_span()),)) for context in contexts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["span"] * 8
    assert get_current_span() is None


def test_a_block_that_is_left_in_another_context_changes_nothing_there(tracer: MockTracer) -> None:
    block = contextvars.copy_context().run(span_in_stack_context, "elsewhere")
    with span_in_context(tracer.start_span("here")) as scope:
        with block:
            pass
        assert get_current_span() is scope.span


@pytest.mark.parametrize("block_of", ["work", None])
def test_a_block_ends_in_the_context_that_it_was_begun_in(tracer: MockTracer, block_of: Any) -> None:
    with span_in_context(tracer.start_span("outer")) as outer:
        with span_in_stack_context(block_of) as deactivate:
            contextvars.copy_context().run(deactivate)
            contextvars.Context().run(deactivate)
            assert get_current_span() == block_of
        assert get_current_span() is outer.span
    assert get_current_span() is None


def test_run_coroutine_with_span_takes_functions_tornado_coroutines_and_async_def(tracer: MockTracer) -> None:
    span = tracer.start_span("work")

    async def native(a: int, *, b: int) -> Any:
        await asyncio.sleep(0)
        return a, b, get_current_span()

    async def main() -> Any:
        coroutine = run_coroutine_with_span(span, native, 1, b=2)
        future = run_coroutine_with_span(span, tornado_work, span)
        assert run_coroutine_with_span(span, get_current_span) is span
        assert get_current_span() is None
        return await coroutine, await future

    assert asyncio.run(main()) == ((1, 2, span), "done")


def test_tracer_stack_context_is_a_block_without_a_span(tracer: MockTracer) -> None:
    with span_in_context(tracer.start_span("work")) as scope:
        with tracer_stack_context():
            assert get_current_span() is None
            with span_in_context(tracer.start_span("inner")) as inner:
                assert get_current_span() is inner.span
        assert get_current_span() is scope.span


def test_a_stack_context_enters_what_its_factory_makes_each_time(tracer: MockTracer) -> None:
    span = tracer.start_span("work")
    made: list[Any] = []

    def factory() -> Any:
        made.append(RequestContextManager(span))
        return made[-1]

    context = ThreadSafeStackContext(factory)
    with context as deactivate, context:
        assert get_current_span() is span
        deactivate()
    assert get_current_span() is None
    assert len(made) == 2


def test_the_old_names_of_tornados_scope_manager_are_there() -> None:
    assert issubclass(request_context.TornadoScopeManager, ContextVarsScopeManager)
