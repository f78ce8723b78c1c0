"""Traced and untraced, generators and coroutines do the same, whatever is done to them; the span ends when they end."""

from __future__ import annotations

import inspect
import itertools
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest
from opentracing.mocktracer import MockTracer

from .spans import GOOD, traced

Outcome = tuple[Any, ...]


def outcome_of(step: Callable[[], Any]) -> Outcome:
    """Return what a step gives or raises, with all that its caller can see."""
    try:
        return ("gives", step())
    except BaseException as error:
        cause, context = error.__cause__, error.__context__
        return ("raises", type(error), str(error), type(cause), type(context), error.__suppress_context__)


def counting() -> Generator[Any, Any, Any]:
    yield 1
    yield 2
    return "counted"


def echoing() -> Generator[Any, Any, Any]:
    sent = yield "ready"
    while True:
        sent = yield ("echo", sent)


def empty() -> Generator[Any, Any, Any]:
    return "nothing"
    yield


def enduring() -> Generator[Any, Any, Any]:
    try:
        yield 1
    except ValueError as error:
        yield ("caught", error)
    yield 2


def replacing() -> Generator[Any, Any, Any]:
    try:
        yield 1
    except ValueError as error:
        raise KeyError("other") from error


def hiding() -> Generator[Any, Any, Any]:
    try:
        yield 1
    finally:
        raise LookupError("in finally")


def stubborn() -> Generator[Any, Any, Any]:
    while True:
        try:
            yield 1
        except GeneratorExit:
            yield "no"


def polite() -> Generator[Any, Any, Any]:
    try:
        yield 1
    except GeneratorExit:
        return "closed"


def stopping() -> Generator[Any, Any, Any]:
    yield 1
    raise StopIteration("inside")


def stopping_async() -> Generator[Any, Any, Any]:
    yield 1
    raise StopAsyncIteration("inside")


def broken() -> Generator[Any, Any, Any]:
    raise ZeroDivisionError("at once")
    yield


def delegating() -> Generator[Any, Any, Any]:
    return (yield from enduring())


GENERATORS = (
    *(counting, echoing, empty, enduring, replacing, hiding, stubborn, polite),
    *(stopping, stopping_async, broken, delegating),
)
STEPS: dict[str, Callable[[Any], Any]] = {
    "next": next,
    "send": lambda steps: steps.send("sent"),
    "throw ValueError": lambda steps: steps.throw(ValueError("thrown")),
    "throw StopIteration": lambda steps: steps.throw(StopIteration("thrown")),
    "throw GeneratorExit": lambda steps: steps.throw(GeneratorExit("thrown")),
    "throw KeyboardInterrupt": lambda steps: steps.throw(KeyboardInterrupt("thrown")),
    "close": lambda steps: steps.close(),
}


def play(steps: Any, names: tuple[str, ...], methods: dict[str, Callable[[Any], Any]]) -> list[Outcome]:
    return [normal(outcome_of(lambda name=name: methods[name](steps))) for name in names]


def normal(outcome: Outcome) -> Outcome:
    """Replace an exception in a given value by what can be compared."""
    if outcome[0] == "gives" and isinstance(outcome[1], tuple):
        return ("gives", *(repr(item) for item in outcome[1]))
    return outcome


def scripts(names: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    return itertools.product(names, repeat=3)


@pytest.mark.parametrize("function", GENERATORS)
@pytest.mark.parametrize("activate", [False, True])
def test_a_generator_does_all_that_it_does_untraced(function: Any, activate: bool, tracer: MockTracer) -> None:
    """Every sequence of three steps gives and raises the same, and the span is ended exactly with the generator."""
    wrapper = traced(function, activate=activate)
    assert inspect.isgeneratorfunction(wrapper)
    for names in scripts(STEPS):
        tracer.reset()
        bare, steps = function(), wrapper()
        assert play(steps, names, STEPS) == play(bare, names, STEPS), names
        started = inspect.getgeneratorstate(bare) != "GEN_CREATED" and names[0] == "next"
        ended = inspect.getgeneratorstate(bare) == "GEN_CLOSED"
        assert inspect.getgeneratorstate(steps) == inspect.getgeneratorstate(bare), names
        if started:
            assert len(tracer.finished_spans()) == int(ended), names
        assert tracer.active_span is None
        exhaust(bare)
        exhaust(steps)


def exhaust(steps: Any) -> None:
    """Bring a generator to its end that refuses to be closed."""
    while inspect.getgeneratorstate(steps) != "GEN_CLOSED":
        try:
            steps.throw(KeyboardInterrupt)
        except BaseException:
            continue


@pytest.mark.parametrize("function", GENERATORS)
def test_a_returned_generator_does_all_that_it_does_untraced(function: Any, tracer: MockTracer) -> None:
    """What a plain function returns is traced to its end in the same way."""

    def returning() -> Any:
        return function()

    wrapper = traced(returning)
    for names in scripts(STEPS):
        bare, steps = returning(), wrapper()
        assert isinstance(steps, types.GeneratorType)
        assert (steps.__name__, steps.__qualname__) == (bare.__name__, bare.__qualname__)
        assert play(steps, names, STEPS) == play(bare, names, STEPS), names
        exhaust(bare)
        exhaust(steps)


@types.coroutine
def nap(what: Any = "nap") -> Generator[Any, Any, Any]:
    """Suspend the coroutine once; give what it is resumed with."""
    return (yield what)


async def awaiting() -> Any:
    return ("woken", await nap(), await nap())


async def awaiting_nothing() -> Any:
    return "at once"


async def catching() -> Any:
    try:
        await nap()
    except ValueError:
        return await nap("after the error")
    finally:
        await nap("finally")


async def failing() -> Any:
    await nap()
    raise ZeroDivisionError("later")


async def stopping_coroutine() -> Any:
    await nap()
    raise StopIteration("inside")


async def stubborn_coroutine() -> Any:
    while True:
        try:
            await nap()
        except GeneratorExit:
            await nap("no")


@types.coroutine
def iterable_coroutine() -> Generator[Any, Any, Any]:
    first = yield "first"
    return ("iterated", first)


COROUTINES = (
    *(awaiting, awaiting_nothing, catching, failing),
    *(stopping_coroutine, stubborn_coroutine, iterable_coroutine),
)
COROUTINE_STEPS: dict[str, Callable[[Any], Any]] = {
    **{name: step for name, step in STEPS.items() if name != "next"},
    "send": lambda steps: steps.send(None),
}


class Awaiting:
    """Drives ``await awaitable`` step by step, as an event loop does."""

    def __init__(self, awaitable: Any) -> None:
        async def wait() -> Any:
            return await awaitable

        self._coroutine: Coroutine[Any, Any, Any] = wait()
        self.send, self.throw, self.close = self._coroutine.send, self._coroutine.throw, self._coroutine.close

    def finish(self) -> None:
        while inspect.getcoroutinestate(self._coroutine) != "CORO_CLOSED":
            try:
                self.throw(KeyboardInterrupt)
            except BaseException:
                continue


@pytest.mark.parametrize("function", COROUTINES)
@pytest.mark.parametrize("activate", [False, True])
def test_a_coroutine_does_all_that_it_does_untraced(function: Any, activate: bool, tracer: MockTracer) -> None:
    """Awaited, thrown into (as by a cancellation) and closed, at each of its first three steps."""

    def returning() -> Any:
        return function()

    for called in (function, returning):
        wrapper = traced(called, activate=activate)
        assert inspect.iscoroutinefunction(wrapper) is inspect.iscoroutinefunction(called)
        for names in scripts(COROUTINE_STEPS):
            if names[0] != "send":
                continue
            tracer.reset()
            bare, steps = Awaiting(called()), Awaiting(wrapper())
            assert play(steps, names, COROUTINE_STEPS) == play(bare, names, COROUTINE_STEPS), names
            ended = inspect.getcoroutinestate(bare._coroutine) == "CORO_CLOSED"
            assert len(tracer.finished_spans()) == int(ended), names
            bare.finish()
            steps.finish()
            assert len(tracer.finished_spans()) == 1
            assert tracer.active_span is None


def test_a_generator_based_coroutine_can_be_awaited_and_iterated(tracer: MockTracer) -> None:
    """``types.coroutine`` makes generators that can be awaited: so does its traced function."""
    wrapper = traced(iterable_coroutine)
    assert list(wrapper()) == ["first"]
    assert outcome_of(lambda: Awaiting(wrapper()).send(None)) == ("gives", "first")


async def counting_async() -> AsyncGenerator[Any, Any]:
    yield 1
    await nap()
    yield 2


async def echoing_async() -> AsyncGenerator[Any, Any]:
    sent = yield "ready"
    while True:
        sent = yield ("echo", sent)


async def enduring_async() -> AsyncGenerator[Any, Any]:
    try:
        yield 1
    except ValueError as error:
        await nap()
        yield ("caught", error)
    finally:
        await nap("finally")


async def stubborn_async() -> AsyncGenerator[Any, Any]:
    try:
        yield 1
    except GeneratorExit:
        yield "no"


async def polite_async() -> AsyncGenerator[Any, Any]:
    try:
        yield 1
    except GeneratorExit:
        return


async def stopping_in_async() -> AsyncGenerator[Any, Any]:
    yield 1
    raise StopAsyncIteration("inside")


async def broken_async() -> AsyncGenerator[Any, Any]:
    raise ZeroDivisionError("at once")
    yield


async def empty_async() -> AsyncGenerator[Any, Any]:
    return
    yield


ASYNC_GENERATORS = (
    *(counting_async, echoing_async, enduring_async, stubborn_async),
    *(polite_async, stopping_in_async, broken_async, empty_async),
)


def driven(awaitable: Any) -> Any:
    """Await something without an event loop; return the result after all that it was suspended with."""
    steps, seen = awaitable.__await__(), []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return (*seen, stop.value)


ASYNC_STEPS: dict[str, Callable[[Any], Any]] = {
    "anext": lambda steps: driven(steps.__anext__()),
    "asend": lambda steps: driven(steps.asend("sent")),
    "athrow ValueError": lambda steps: driven(steps.athrow(ValueError("thrown"))),
    "athrow StopAsyncIteration": lambda steps: driven(steps.athrow(StopAsyncIteration("thrown"))),
    "athrow GeneratorExit": lambda steps: driven(steps.athrow(GeneratorExit("thrown"))),
    "aclose": lambda steps: driven(steps.aclose()),
}


def exhaust_async(steps: Any) -> None:
    for _ in range(2):
        try:
            driven(steps.athrow(KeyboardInterrupt))
        except BaseException:
            continue


@pytest.mark.parametrize("function", ASYNC_GENERATORS)
@pytest.mark.parametrize("activate", [False, True])
def test_an_async_generator_does_all_that_it_does_untraced(function: Any, activate: bool, tracer: MockTracer) -> None:
    """Every sequence of three steps gives and raises the same, and the span is ended exactly with the generator."""

    def returning() -> Any:
        return function()

    for called in (function, returning):
        wrapper = traced(called, activate=activate)
        assert inspect.isasyncgenfunction(wrapper) is inspect.isasyncgenfunction(called)
        for names in scripts(ASYNC_STEPS):
            tracer.reset()
            bare, steps = called(), wrapper()
            assert play(steps, names, ASYNC_STEPS) == play(bare, names, ASYNC_STEPS), names
            ended = bare.ag_frame is None
            assert (steps.ag_frame is None) is ended, names
            if names[0] == "anext" and (ended or "aclose" not in names):
                assert len(tracer.finished_spans()) == int(ended), names
            exhaust_async(bare)
            exhaust_async(steps)
            assert tracer.active_span is None


@pytest.mark.parametrize("function", [counting, enduring, delegating])
def test_an_abandoned_generator_ends_its_span(function: Any, tracer: MockTracer) -> None:
    """A generator that is collected before it is exhausted is closed by the interpreter, and so is its span."""
    steps = traced(function)()
    next(steps)
    assert tracer.finished_spans() == []
    del steps
    assert [span.operation_name for span in tracer.finished_spans()] == ["call"]


def test_a_generator_that_is_closed_early_went_well(tracer: MockTracer) -> None:
    """To stop early is the consumer's right and no error."""
    steps = traced(counting)()
    next(steps)
    steps.close()
    assert [(span.operation_name, span.tags) for span in tracer.finished_spans()] == [(GOOD["operation"], GOOD["tags"])]


def test_the_returned_value_of_a_generator_comes_through(tracer: MockTracer) -> None:
    """``yield from`` gives the value that the generator returns."""

    def consuming() -> Generator[Any, Any, Any]:
        return (yield from traced(counting)())

    steps = consuming()
    assert [next(steps), next(steps)] == [1, 2]
    with pytest.raises(StopIteration) as stopped:
        next(steps)
    assert stopped.value.value == "counted"


def test_a_running_generator_cannot_be_resumed(tracer: MockTracer) -> None:
    """A generator that iterates itself gets the interpreter's own error."""
    own: list[Any] = []

    def iterating_itself() -> Generator[Any, Any, Any]:
        yield next(own[0])

    own.append(traced(iterating_itself)())
    with pytest.raises(ValueError, match="generator already executing"):
        next(own[0])


def test_a_coroutine_is_awaited_once(tracer: MockTracer) -> None:
    """A second ``await`` gets the interpreter's own error; there is one span."""
    coroutine = traced(awaiting_nothing)()
    assert driven(coroutine) == ("at once",)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        driven(coroutine)
    assert len(tracer.finished_spans()) == 1
