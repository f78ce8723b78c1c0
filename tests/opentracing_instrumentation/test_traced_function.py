"""traced_function: one span for each call of a function, whatever kind of function it is."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import inspect
import logging
import time
from collections.abc import Callable
from typing import Any

import opentracing
import pytest
from opentracing.mocktracer import MockTracer
from opentracing.mocktracer.span import MockSpan
from tornado import gen

from opentracing_instrumentation import get_current_span, traced_function

from .told import Spans, Told


def done(operation: str, parent: str | None = None, error: BaseException | None = None) -> Told:
    """The span of a call."""
    told: Told = {"operation": operation, "parent": parent, "tags": {}}
    if error is not None:
        told |= {"tags": {"error": "true"}, "logs": [{"event": "exception", "payload": error}]}
    return told


def current() -> str | None:
    """The operation of the current span."""
    span = get_current_span()
    return None if span is None else getattr(span, "operation_name", "no-op")


class Mistake(Exception):
    pass


@traced_function
def plain(value: Any, *, fail: BaseException | None = None) -> Any:
    """Say who is current."""
    if fail is not None:
        raise fail
    return value, current()


@traced_function
async def coroutine(value: Any, *, fail: BaseException | None = None) -> Any:
    before = current()
    await asyncio.sleep(0)
    if fail is not None:
        raise fail
    return value, before, current()


@traced_function
@gen.coroutine
def tornado_inside(value: Any) -> Any:
    before = current()
    yield gen.sleep(0.001)
    return value, before, current()


@gen.coroutine
@traced_function
def tornado_outside(value: Any) -> Any:
    before = current()
    yield gen.sleep(0.001)
    return value, before, current()


@traced_function
def counting(limit: int) -> Any:
    """Count up to ``limit``, add up what is sent, swallow a mistake that is thrown in."""
    total = 0
    for number in range(limit):
        assert current() == "counting"
        try:
            total += (yield number) or 0
        except Mistake:
            total += 100
        assert current() == "counting"
    return total


@traced_function
async def counting_slowly(limit: int) -> Any:
    for number in range(limit):
        await asyncio.sleep(0)
        assert current() == "counting_slowly"
        try:
            if (yield number) == "stop":
                return
        except Mistake:
            yield -1
        assert current() == "counting_slowly"


def test_a_function_runs_in_its_span(tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        assert plain(1) == (1, "plain")
        assert current() == "work"
    assert spans() == [done("plain", "work"), done("work")]


@pytest.mark.parametrize("error", [Mistake("oh"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_function_raises_is_logged_and_raised_on(tracer: MockTracer, spans: Spans, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, tracer.start_active_span("work"):
        try:
            plain(1, fail=error)
        finally:
            assert current() == "work"
    assert caught.value is error
    assert spans()[0] == done("plain", "work", error)


@pytest.mark.parametrize("wrap", [traced_function, traced_function(), traced_function(require_active_trace=False)])
def test_it_decorates_bare_called_and_with_keywords(spans: Spans, wrap: Callable[..., Any]) -> None:
    def work(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    traced = wrap(work)
    assert traced(1) == 3
    assert spans() == [done("work")]
    assert (traced.__name__, traced.__doc__, traced.__wrapped__) == ("work", "Add.", work)
    assert inspect.signature(traced) == inspect.signature(work)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        traced()


def test_a_name_of_the_users_own(spans: Spans) -> None:
    traced_function(lambda: None, name="parse")()
    traced_function(name="render")(lambda: None)()
    assert spans() == [done("parse"), done("render")]


def test_the_kind_of_a_function_stays() -> None:
    assert asyncio.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(counting)
    assert inspect.isasyncgenfunction(counting_slowly)


def test_calls_nest(spans: Spans) -> None:
    @traced_function
    def outer() -> Any:
        return plain(1)

    assert outer() == (1, "plain")
    assert spans() == [done("plain", "outer"), done("outer")]


def test_methods_of_all_kinds(spans: Spans) -> None:
    class Service:
        @traced_function
        def method(self, n: int) -> Any:
            return self, n, current()

        @traced_function
        @classmethod
        def above(cls, n: int) -> Any:
            return cls, n, current()

        @classmethod
        @traced_function
        def below(cls, n: int) -> Any:
            return cls, n, current()

        @traced_function
        @staticmethod
        def static(n: int) -> Any:
            return n, current()

        @property
        @traced_function
        def size(self) -> Any:
            return current()

    service = Service()
    assert service.method(n=1) == (service, 1, "method")
    assert service.above(1) == (Service, 1, "above")
    assert service.below(1) == (Service, 1, "below")
    assert Service.static(1) == service.static(1) == (1, "static")
    assert service.size == "size"
    assert [span["operation"] for span in spans()] == ["method", "above", "below", "static", "static", "size"]


class Greeter:
    def __call__(self, name: str) -> str:
        return f"{name} {current()}"


def greet(greeting: str, name: str) -> str:
    return f"{greeting} {name} {current()}"


@pytest.mark.parametrize("thing", [5, property(len)])
def test_what_cannot_be_called_cannot_be_traced(thing: Any) -> None:
    """That is told where it is decorated, not by each call."""
    with pytest.raises(TypeError, match="is not callable"):
        traced_function(thing)


@pytest.mark.parametrize(
    ("callable_", "arguments", "name", "result"),
    [
        (functools.partial(greet, "hi"), ("bob",), "greet", "hi bob greet"),
        (functools.partial(functools.partial(greet, "hi"), name="al"), (), "greet", "hi al greet"),
        (Greeter(), ("bob",), "Greeter", "bob Greeter"),
        (len, ("bob",), "len", 3),
    ],
)
def test_callables_that_are_no_functions(spans: Spans, callable_: Any, arguments: Any, name: str, result: Any) -> None:
    assert traced_function(callable_)(*arguments) == result
    assert spans() == [done(name)]


def test_a_coroutine_function_runs_in_its_span_until_it_has_been_awaited(tracer: MockTracer, spans: Spans) -> None:
    async def main() -> Any:
        with tracer.start_active_span("work"):
            call = coroutine(1)
            assert spans() == []
            result = await call
            assert current() == "work"
        return result

    assert asyncio.run(main()) == (1, "coroutine", "coroutine")
    assert spans() == [done("coroutine", "work"), done("work")]


def test_what_a_coroutine_raises_is_logged_and_raised_on(spans: Spans) -> None:
    error = Mistake("oh")
    with pytest.raises(Mistake) as caught:
        asyncio.run(coroutine(1, fail=error))
    assert caught.value is error
    assert spans() == [done("coroutine", error=error)]


def test_a_cancelled_coroutine_ends_its_span(spans: Spans) -> None:
    @traced_function
    async def forever() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.ensure_future(forever())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    (span,) = spans()
    assert isinstance(span["logs"][0]["payload"], asyncio.CancelledError)


def test_tasks_of_one_loop_do_not_mix_up_their_spans(tracer: MockTracer, spans: Spans) -> None:
    @traced_function
    async def child() -> Any:
        await asyncio.sleep(0)
        return get_current_span()

    async def task(number: int) -> None:
        with tracer.start_active_span(f"task {number}") as scope:
            for _ in range(2):
                assert (await child()).parent_id == scope.span.context.span_id

    async def main() -> None:
        await asyncio.gather(*(task(number) for number in range(1000)))

    asyncio.run(main())
    assert sorted(span["parent"] for span in spans() if span["operation"] == "child") == sorted(
        f"task {number}" for number in range(1000) for _ in range(2)
    )


@pytest.mark.parametrize("function", [tornado_inside, tornado_outside])
def test_tornado_coroutines_in_both_orders_of_decorators(tracer: MockTracer, spans: Spans, function: Any) -> None:
    async def main() -> Any:
        with tracer.start_active_span("work"):
            result = await function(1)
            assert current() == "work"
        return result

    name = function.__name__
    assert asyncio.run(main()) == (1, name, name)
    assert spans() == [done(name, "work"), done("work")]


def test_a_tornado_coroutine_that_ends_at_once_has_ended_its_span_for_the_caller(spans: Spans) -> None:
    @traced_function
    @gen.coroutine
    def at_once() -> Any:
        raise gen.Return(current())

    async def main() -> Any:
        future = at_once()
        assert spans() == [done("at_once")]
        return await future

    assert asyncio.run(main()) == "at_once"


def test_a_generator_runs_in_its_span_and_its_consumer_does_not(tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        seen = [(number, current()) for number in counting(3)]
    assert seen == [(0, "work"), (1, "work"), (2, "work")]
    assert spans() == [done("counting", "work"), done("work")]


def test_a_generator_takes_what_is_sent_and_thrown_and_returns(spans: Spans) -> None:
    steps = counting(3)
    assert (next(steps), steps.send(5), steps.throw(Mistake())) == (0, 1, 2)
    assert spans() == []
    with pytest.raises(StopIteration) as stop:
        steps.send(7)
    assert stop.value.value == 112
    assert spans() == [done("counting")]


def test_what_a_generator_raises_is_logged(spans: Spans) -> None:
    steps, error = counting(3), ValueError("not swallowed")
    next(steps)
    with pytest.raises(ValueError, match="not swallowed") as caught:
        steps.throw(error)
    assert caught.value is error
    assert spans() == [done("counting", error=error)]


def test_a_generator_that_is_left_ends_its_span(spans: Spans) -> None:
    for _ in counting(3):
        break
    gc.collect()
    steps = counting(3)
    next(steps)
    steps.close()
    assert spans() == [done("counting")] * 2


def test_generators_that_alternate_keep_their_spans_apart(tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        assert [*zip(counting(2), counting(2), strict=True)] == [(0, 0), (1, 1)]
        assert current() == "work"


def test_an_async_generator_runs_in_its_span_and_its_consumer_does_not(tracer: MockTracer, spans: Spans) -> None:
    async def main() -> Any:
        with tracer.start_active_span("work"):
            return [(number, current()) async for number in counting_slowly(2)]

    assert asyncio.run(main()) == [(0, "work"), (1, "work")]
    assert spans() == [done("counting_slowly", "work"), done("work")]


def test_an_async_generator_takes_what_is_sent_and_thrown(spans: Spans) -> None:
    async def main() -> None:
        steps = counting_slowly(3)
        assert await steps.asend(None) == 0
        assert await steps.athrow(Mistake()) == -1
        assert await steps.asend(None) == 1
        with pytest.raises(StopAsyncIteration):
            await steps.asend("stop")

    asyncio.run(main())
    assert spans() == [done("counting_slowly")]


def test_an_async_generator_that_is_closed_ends_its_span(spans: Spans) -> None:
    async def main() -> None:
        steps = counting_slowly(3)
        await steps.asend(None)
        await steps.aclose()
        assert spans() == [done("counting_slowly")]
        async for _ in counting_slowly(3):
            break
        gc.collect()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert spans() == [done("counting_slowly")] * 2


def test_what_an_async_generator_raises_is_logged(spans: Spans) -> None:
    error = ValueError("not swallowed")

    async def main() -> None:
        steps = counting_slowly(3)
        await steps.asend(None)
        await steps.athrow(error)

    with pytest.raises(ValueError, match="not swallowed") as caught:
        asyncio.run(main())
    assert caught.value is error
    assert spans() == [done("counting_slowly", error=error)]


def test_a_future_is_returned_as_it_is_and_ends_the_span_when_it_resolves(tracer: MockTracer, spans: Spans) -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    returned = traced_function(lambda: future, name="call")()
    assert returned is future
    assert spans() == []
    future.set_result(7)
    assert spans() == [done("call")]


def test_a_future_that_fails_is_an_error(spans: Spans) -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    traced_function(lambda: future, name="call")()
    error = Mistake("oh")
    future.set_exception(error)
    assert spans() == [done("call", error=error)]


def test_a_future_that_is_cancelled_ends_the_span(spans: Spans) -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    traced_function(lambda: future, name="call")()
    assert future.cancel()
    (span,) = spans()
    assert isinstance(span["logs"][0]["payload"], concurrent.futures.CancelledError)


@pytest.mark.parametrize("end", ["result", "error", "cancel"])
def test_an_asyncio_future_ends_the_span_likewise(spans: Spans, end: str) -> None:
    error = Mistake("oh")

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        assert traced_function(lambda: future, name="call")() is future
        assert spans() == []
        if end == "cancel":
            future.cancel()
        elif end == "error":
            future.set_exception(error)
        else:
            future.set_result(7)
        await asyncio.wait([future])
        await asyncio.sleep(0)
        if end == "error":
            assert future.exception() is error

    asyncio.run(main())
    (span,) = spans()
    if end == "cancel":
        assert span["tags"] == {"error": "true"}
    else:
        assert span == done("call", error=error if end == "error" else None)


def test_asyncio_still_complains_of_an_exception_that_nobody_retrieved(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        future = traced_function(asyncio.get_running_loop().create_future, name="call")()
        future.set_exception(Mistake("lost"))
        await asyncio.sleep(0)
        del future
        gc.collect()

    asyncio.run(main())
    assert [span["operation"] for span in spans()] == ["call"]
    gc.collect()
    assert "Future exception was never retrieved" in caplog.text


def test_on_start_gets_the_span_and_the_arguments_as_they_were_spelt(tracer: MockTracer, spans: Spans) -> None:
    calls: list[Any] = []

    def note(span: Any, *args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs, current()))
        span.set_tag("seen", True)

    class Service:
        @traced_function(on_start=note)
        def work(self, a: int, b: int = 2, *rest: int, c: int = 3) -> Any:
            return a, b, rest, c

    service = Service()
    with tracer.start_active_span("outer"):
        assert service.work(1) == (1, 2, (), 3)
        assert service.work(a=1, c=5) == (1, 2, (), 5)
        assert service.work(1, 2, 3) == (1, 2, (3,), 3)
    assert calls == [
        ((service, 1), {}, "outer"),
        ((service,), {"a": 1, "c": 5}, "outer"),
        ((service, 1, 2, 3), {}, "outer"),
    ]
    assert [span["tags"] for span in spans()] == [{"seen": True}] * 3 + [{}]


def test_on_start_of_a_coroutine_function_and_of_a_generator_function(spans: Spans) -> None:
    calls: list[Any] = []

    def note(span: Any, *args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))

    @traced_function(on_start=note)
    async def work(a: int, *, b: int = 2) -> int:
        return a + b

    @traced_function(on_start=note)
    def parts(a: int, b: int = 2) -> Any:
        yield a + b

    assert asyncio.run(work(1, b=3)) == 4
    assert list(parts(b=5, a=1)) == [6]
    assert calls == [((1,), {"b": 3}), ((), {"b": 5, "a": 1})]


def test_an_on_start_that_raises_is_reported_and_the_call_goes_on(
    spans: Spans, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(span: Any, n: int) -> None:
        raise Mistake("in on_start")

    traced = traced_function(lambda n: (n, current()), name="call", on_start=broken)
    assert [traced(1), traced(2)] == [(1, "call"), (2, "call")]
    assert spans() == [done("call")] * 2
    assert [(record.levelno, record.getMessage().split(" failed")[0]) for record in caplog.records] == [
        (logging.ERROR, "on_start of call")
    ]


def test_an_on_start_that_is_no_function_is_ignored(spans: Spans) -> None:
    traced_function(lambda: None, name="call", on_start="nonsense")()  # type: ignore[call-overload]
    assert spans() == [done("call")]


def test_require_active_trace_traces_only_below_a_span(tracer: MockTracer, spans: Spans) -> None:
    starts: list[Any] = []
    traced = traced_function(current, name="call", on_start=starts.append, require_active_trace=True)
    assert traced() is None
    assert (spans(), starts) == ([], [])
    with tracer.start_active_span("work"):
        assert traced() == "call"
    assert spans() == [done("call", "work"), done("work")]
    assert len(starts) == 1


def test_the_span_is_begun_with_the_arguments_that_tracers_and_tests_know(
    tracer: MockTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    real = tracer.start_span
    monkeypatch.setattr(tracer, "start_span", lambda **kwargs: begun.append(kwargs) or real(**kwargs))
    with real("work") as work, tracer.scope_manager.activate(work, False):
        plain(1)
    plain(1)
    assert begun == [
        {"operation_name": "plain", "child_of": work.context, "tags": None},
        {"operation_name": "plain", "child_of": None, "tags": None},
    ]


def test_the_duration_is_that_of_the_work(tracer: MockTracer) -> None:
    @traced_function
    async def work() -> None:
        await asyncio.sleep(0.05)

    async def main() -> None:
        call = work()
        await asyncio.sleep(0.2)
        await call

    begin = time.time()
    asyncio.run(main())
    elapsed = time.time() - begin
    (span,) = tracer.finished_spans()
    assert 0.045 <= span.finish_time - span.start_time <= elapsed - 0.19


def test_without_a_tracer_functions_just_run() -> None:
    assert type(opentracing.tracer) is opentracing.Tracer
    assert plain(1) == (1, "no-op")
    assert list(traced_function(lambda: (yield 1))()) == [1]


def test_a_span_that_breaks_does_not_hide_the_functions_error(
    tracer: MockTracer, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenSpan(MockSpan):
        def set_tag(self, key: str, value: Any) -> Any:
            raise LookupError

        finish = set_tag  # type: ignore[assignment]

    span = BrokenSpan(tracer)
    monkeypatch.setattr(tracer, "start_span", lambda **_: span)
    error = Mistake("oh")
    with pytest.raises(Mistake) as caught:
        plain(1, fail=error)
    assert caught.value is error


@pytest.mark.parametrize("failing", ["start_span", "scope_manager"])
def test_a_tracer_that_breaks_does_not_break_the_function(
    tracer: MockTracer, lenient: None, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise Mistake("in the tracer")

    if failing == "start_span":
        monkeypatch.setattr(tracer, "start_span", broken)
    else:
        monkeypatch.setattr(tracer.scope_manager, "activate", broken)
    calls: list[int] = []
    traced = traced_function(lambda n: calls.append(n) or n, name="call")
    assert [traced(1), traced(2)] == [1, 2]
    assert calls == [1, 2]
