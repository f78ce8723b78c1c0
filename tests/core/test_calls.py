"""Calls: functions, futures, callbacks, descriptions that follow the outcome; what failures of ours change: nothing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import inspect
import threading
import traceback
import tracemalloc
from collections.abc import Callable, Generator
from typing import Any

import opentracing
import pytest
import wrapt
from opentracing import Scope, ScopeManager
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers import ThreadLocalScopeManager

from opentracing_instrumentation._core import calls
from opentracing_instrumentation._core.calls import Description, Switch, instrument
from opentracing_instrumentation.interceptors import ClientInterceptors, OpenTracingInterceptor

from .spans import GOOD, bad, describe, followed, told, traced


def test_a_function_is_called_once_and_its_result_is_the_same_object(tracer: MockTracer) -> None:
    """The span is finished when the function returns, and not before."""
    result, called = object(), []

    def function(argument: Any) -> Any:
        called.append((argument, told(tracer)))
        return result

    assert traced(function)("a") is result
    assert called == [("a", [])]
    assert told(tracer) == [GOOD]


@pytest.mark.parametrize("error", [ValueError("v"), KeyboardInterrupt(), SystemExit(1), StopIteration(1)])
def test_an_error_comes_through_untouched(error: BaseException, tracer: MockTracer) -> None:
    """The same object, with its cause, its context and the traceback that it had below our frame."""
    error.__cause__, context = KeyError("cause"), LookupError("context")
    error.__context__ = context

    def function() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        traced(function)()
    assert raised.value is error
    assert (str(error.__cause__), error.__context__, error.__suppress_context__) == ("'cause'", context, True)
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames == ["test_an_error_comes_through_untouched", "_ot_call", "function"]
    assert told(tracer) == [bad(error)]


@pytest.mark.parametrize("follows", [False, True])
def test_an_error_that_says_too_much_is_logged_without_itself(follows: bool, tracer: MockTracer) -> None:
    """A description may say what the log may, also of errors that a description lets pass which follows the call."""
    error = ValueError("wrong: sesame")

    def function() -> None:
        raise error

    def steps() -> Generator[Any, Any, None]:
        yield describe()

    options: Any = {"message_of": lambda error: str(error).replace("sesame", "...")}
    call = followed(function, steps, **options) if follows else traced(function, **options)
    with pytest.raises(ValueError, match="wrong: sesame") as raised:
        call()
    assert raised.value is error
    (span,) = tracer.finished_spans()
    (log,) = span.logs
    assert span.tags == {"kind": "test", "error": True}
    assert log.key_values == {
        "event": "error",
        "message": "wrong: ...",
        "error.kind": ValueError,
        "stack": raised.tb.tb_next,
    }


def test_an_error_keeps_the_context_of_where_it_was_raised(tracer: MockTracer) -> None:
    """In an ``except`` block the context is the error handled there; ours leaves no trace."""
    handled = KeyError("handled")

    def function() -> None:
        raise ValueError

    with pytest.raises(ValueError) as raised:
        try:
            raise handled
        except KeyError:
            traced(function)()
    assert raised.value.__context__ is handled
    assert handled.__context__ is None


def test_the_span_is_current_only_where_that_is_asked_for(tracer: MockTracer) -> None:
    """``activate`` makes the span current during the call, and what was current before is so again."""

    def function() -> Any:
        return tracer.active_span

    with tracer.start_active_span("outer") as scope:
        assert traced(function)() is scope.span
        inner = traced(function, activate=True)()
        assert (inner.operation_name, inner.parent_id) == ("call", scope.span.context.span_id)
        assert tracer.active_span is scope.span


@pytest.mark.parametrize("idle", ["no tracer", "switch"])
def test_nothing_is_described_when_nobody_listens(idle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a tracer, or switched off, the function is just called."""
    if idle == "switch":
        monkeypatch.setattr(opentracing, "tracer", MockTracer())
    else:
        monkeypatch.setattr(opentracing, "tracer", opentracing.Tracer())
    described: list[Any] = []
    wrapper = instrument(lambda: "result", Description(lambda: described.append(1), "test"), Switch(idle != "switch"))
    assert wrapper() == "result"
    assert described == []


class Nosy(OpenTracingInterceptor):
    """An interceptor."""

    def process(self, request: Any, span: Any) -> None:
        """See nothing."""


def test_somebody_listens_who_sets_a_tracer_a_scope_manager_or_an_interceptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the API's own no-op tracer, as it came, with its no-op scope manager, is nobody."""
    monkeypatch.setattr(opentracing, "tracer", opentracing.Tracer())
    assert calls.idle()
    ClientInterceptors.append(Nosy())
    assert not calls.idle()
    ClientInterceptors.clear()
    assert calls.idle()
    opentracing.tracer = opentracing.Tracer(ThreadLocalScopeManager())
    assert not calls.idle()
    opentracing.tracer = opentracing.Tracer()
    opentracing.tracer.start_span = lambda *_, **__: None
    assert not calls.idle()


class OwnFuture(concurrent.futures.Future):
    """A library's own kind of future."""


@pytest.mark.parametrize("kind", [concurrent.futures.Future, OwnFuture])
@pytest.mark.parametrize("outcome", ["result", "error", "cancelled", "done", "failed"])
def test_a_future_is_returned_as_it_is_and_ends_the_span(kind: Any, outcome: str, tracer: MockTracer) -> None:
    """The span ends when the future resolves, fails or is cancelled."""
    future, error = kind(), ValueError("v")
    if outcome == "done":
        future.set_result(1)
    if outcome == "failed":
        future.set_exception(error)
    assert traced(lambda: future)() is future
    if outcome in ("result", "error", "cancelled"):
        assert told(tracer) == []
    if outcome == "result":
        future.set_result(1)
    if outcome == "error":
        future.set_exception(error)
    if outcome == "cancelled":
        assert future.cancel()
    (span,) = told(tracer)
    if outcome == "cancelled":
        assert [type(error) for error in span["errors"]] == [concurrent.futures.CancelledError]
    else:
        assert span == (GOOD if outcome in ("result", "done") else bad(error))


@pytest.mark.parametrize("outcome", ["result", "error", "cancelled"])
def test_a_future_of_asyncio_is_returned_as_it_is_and_ends_the_span(outcome: str, tracer: MockTracer) -> None:
    """A task is one as well. Its error still counts as never retrieved."""
    complaints: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
        for future in (loop.create_future(), loop.create_task(asyncio.sleep(10))):
            assert traced(lambda future=future: future)() is future
            assert told(tracer) == []
            if outcome == "cancelled" or isinstance(future, asyncio.Task):
                future.cancel()
            elif outcome == "result":
                future.set_result(1)
            else:
                future.set_exception(ValueError("v"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(told(tracer)) == 1
            tracer.reset()
            del future
            gc.collect()

    asyncio.run(main())
    assert complaints == (["Future exception was never retrieved"] if outcome == "error" else [])


def test_a_future_of_a_closed_loop_ends_the_span(tracer: MockTracer) -> None:
    """A future that is done when its loop is gone can't call anybody back; the caller gets it all the same."""
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.set_result(1)
    loop.close()
    assert traced(lambda: future)() is future
    assert told(tracer) == [GOOD]


def test_a_future_that_takes_no_callback_is_returned(
    tracer: MockTracer, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong with a future on our side is reported; the span ends with the call."""

    class Refusing(concurrent.futures.Future):
        def add_done_callback(self, fn: Any) -> None:
            raise RuntimeError("no callbacks")

    future = Refusing()
    assert traced(lambda: future)() is future
    assert told(tracer) == [GOOD]
    assert len(caplog.records) == 1


def test_a_proxy_of_a_generator_is_a_result_like_any_other(tracer: MockTracer) -> None:
    """What merely passes for a generator or a coroutine is returned as it is."""
    for result in (wrapt.ObjectProxy(number for number in [1]), wrapt.ObjectProxy(concurrent.futures.Future())):
        tracer.reset()
        assert traced(lambda result=result: result)() is result


def test_a_cancelled_coroutine_ends_its_span(tracer: MockTracer) -> None:
    """A cancellation is the span's error, and goes on to the canceller."""

    async def main() -> None:
        task = asyncio.create_task(traced(asyncio.sleep)(10))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (span,) = told(tracer)
    assert [type(error) for error in span["errors"]] == [asyncio.CancelledError]


def test_a_coroutine_that_is_never_awaited_has_no_span(tracer: MockTracer) -> None:
    """An ``async def`` begins with its first await."""

    async def function() -> None:
        return None

    coroutine = traced(function)()
    coroutine.close()
    assert told(tracer) == []


def test_concurrent_coroutines_do_not_see_each_others_spans(tracer: MockTracer) -> None:
    """Each task has its own current span."""
    seen: list[bool] = []

    async def child() -> Any:
        span = tracer.active_span
        await asyncio.sleep(0)
        seen.append(tracer.active_span is span)
        return span

    async def main() -> Any:
        return await asyncio.gather(*(traced(child, activate=True)() for _ in range(5)))

    spans = asyncio.run(main())
    assert len({span.context.span_id for span in spans}) == 5
    assert seen == [True] * 5
    assert {span.parent_id for span in spans} == {None}


def test_a_generator_closed_in_another_thread_or_context_leaves_nothing_current(tracer: MockTracer) -> None:
    """A scope is left in the step in which it was entered, so it does not matter who takes the next."""

    def counting() -> Generator[Any, Any, Any]:
        yield tracer.active_span
        yield tracer.active_span

    steps = traced(counting, activate=True)()
    first = next(steps)
    assert tracer.active_span is None
    thread = threading.Thread(target=lambda: [*steps])
    thread.start()
    thread.join()
    assert tracer.finished_spans() == [first]
    assert tracer.active_span is None


# Callbacks


def fetching(*, raises: BaseException | None = None) -> Any:
    """Return a function that keeps its callback, and the list in which it keeps it."""
    kept: list[Any] = []

    def fetch(request: Any, callback: Any = None, *, raising: bool = False) -> str:
        kept.append(callback)
        if raises is not None:
            raise raises
        return f"sent {request}"

    return fetch, kept


def test_a_call_with_a_callback_ends_in_the_callback(tracer: MockTracer) -> None:
    """The callback is called as the library calls it, once the span is finished; its result goes back."""
    fetch, kept = fetching()
    heard: list[Any] = []

    def callback(*args: Any, **kwargs: Any) -> str:
        heard.append((args, kwargs, told(tracer)))
        return "heard"

    assert traced(fetch, callback="callback")("a", callback) == "sent a"
    assert told(tracer) == []
    assert kept[0](1, key=2) == "heard"
    assert kept[0]() == "heard"
    assert heard == [((1,), {"key": 2}, [GOOD]), ((), {}, [GOOD])]


def test_a_call_without_its_callback_ends_when_it_returns(tracer: MockTracer) -> None:
    """``None`` for a callback stays ``None``."""
    fetch, kept = fetching()
    assert traced(fetch, callback="callback")("a") == "sent a"
    assert kept == [None]
    assert told(tracer) == [GOOD]


def test_a_call_with_a_callback_that_raises_ends_at_once(tracer: MockTracer) -> None:
    """It ends but once, even if the callback is called after all."""
    error = ValueError("v")
    fetch, kept = fetching(raises=error)
    with pytest.raises(ValueError) as raised:
        traced(fetch, callback="callback")("a", lambda _: "heard")
    assert raised.value is error
    assert kept[0](1) == "heard"
    assert told(tracer) == [bad(error)]


def test_an_error_of_the_users_callback_is_the_callers(tracer: MockTracer) -> None:
    """It reaches whoever calls the callback, and is no error of the span."""
    fetch, kept = fetching()

    def callback(_: Any) -> None:
        raise ZeroDivisionError

    traced(fetch, callback="callback")("a", callback)
    with pytest.raises(ZeroDivisionError):
        kept[0](1)
    assert told(tracer) == [GOOD]


def test_a_function_without_the_callback_is_refused() -> None:
    """A callback that can't be told apart can't be listened to."""
    for function in (lambda request: request, len, lambda *args: args):
        with pytest.raises(TypeError, match="takes no 'callback'"):
            traced(function, callback="callback")


# Descriptions that yield the span


def test_a_description_that_yields_is_resumed_with_the_result(tracer: MockTracer) -> None:
    """What it does then is done before the span is finished."""

    def description() -> Generator[Any, Any, None]:
        span = describe()
        result = yield span
        span.set_tag("result", result)

    assert followed(lambda: "r", description)() == "r"
    assert told(tracer) == [{**GOOD, "tags": {"kind": "test", "result": "r"}}]


def test_a_description_that_yields_nothing_leaves_the_call_alone(tracer: MockTracer) -> None:
    """``return`` before the ``yield``, or a yielded ``None``, mean: not traced."""

    def silent() -> Generator[Any, Any, None]:
        return
        yield

    def blank() -> Generator[Any, Any, None]:
        yield None

    for description in (silent, blank):
        assert followed(lambda: "r", description)() == "r"
    assert tracer.finished_spans() == []


@pytest.mark.parametrize("error", [ValueError("v"), StopIteration("s"), StopAsyncIteration("s"), GeneratorExit("g")])
def test_an_error_is_thrown_into_a_description_and_told_when_it_lets_it_pass(
    error: BaseException, tracer: MockTracer
) -> None:
    """Also one that has a meaning for generators. Its traceback does not show the description."""

    def description() -> Generator[Any, Any, None]:
        span = describe()
        try:
            yield span
        finally:
            span.set_tag("finally", True)

    def function() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        followed(function, description)()
    assert raised.value is error
    assert error.__context__ is None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][1:] == ["_ot_call", "function"]
    assert told(tracer) == [{**bad(error), "tags": {"kind": "test", "finally": True, "error": True}}]


@pytest.mark.parametrize("error", [ValueError("v"), StopIteration("s")])
def test_an_error_that_a_description_catches_is_told_by_it(error: BaseException, tracer: MockTracer) -> None:
    """The caller gets it all the same."""

    def description() -> Generator[Any, Any, None]:
        span = describe()
        try:
            yield span
        except (ValueError, StopIteration) as caught:
            span.set_tag("caught", caught is error)

    def function() -> None:
        raise error

    with pytest.raises(type(error)):
        followed(function, description)()
    assert told(tracer) == [{**GOOD, "tags": {"kind": "test", "caught": True}}]


def test_wrong_arguments_are_the_librarys_affair(tracer: MockTracer) -> None:
    """They get its own ``TypeError``, and no report, by whichever kind of description."""

    def description(client: Any, url: Any) -> Any:
        return describe()

    def following(client: Any, url: Any) -> Generator[Any, Any, None]:
        yield describe()

    for wrapper in (traced(divmod, description), followed(divmod, following)):
        with pytest.raises(TypeError, match="divmod expected 2 arguments, got 3"):
            wrapper(1, 2, 3)
        assert wrapper(7, 2) == (3, 1)
    assert told(tracer) == [GOOD, GOOD]


# Failures of ours


class Failing(Exception):
    """What goes wrong on our side."""


def failing(*_: Any, **__: Any) -> Any:
    raise Failing


class FailingManager(ScopeManager):
    """A scope manager that can't activate."""

    activate = failing


class LeavingManager(ScopeManager):
    """A scope manager whose scopes can't be closed."""

    def activate(self, span: Any, finish_on_close: bool) -> Scope:
        scope = Scope(self, span)
        scope.close = failing
        return scope


def failing_description() -> Any:
    raise Failing


def fails_after() -> Generator[Any, Any, None]:
    yield describe()
    raise Failing


def fails_in_finally() -> Generator[Any, Any, None]:
    try:
        yield describe()
    finally:
        raise Failing


def yields_twice() -> Generator[Any, Any, None]:
    try:
        yield describe()
        yield describe()
    finally:
        raise Failing


def replaces_the_error() -> Generator[Any, Any, None]:
    try:
        yield describe()
    except Exception as error:
        raise Failing from error


def failing_span(*methods: str) -> Callable[[], Any]:
    def description() -> Any:
        span = describe()
        for method in methods:
            setattr(span, method, failing)
        return span

    return description


class FailingExit:
    """A span that can neither be finished nor left."""

    finish = __exit__ = failing


WRAPPERS = {
    "description": lambda function: traced(function, failing_description),
    "TypeError in description": lambda function: traced(function, lambda: 1 + None),
    "yielding description": lambda function: followed(function, lambda: (yield failing())),
    "description after": lambda function: followed(function, fails_after),
    "description finally": lambda function: followed(function, fails_in_finally),
    "description twice": lambda function: followed(function, yields_twice),
    "description replaces": lambda function: followed(function, replaces_the_error),
    "finish": lambda function: traced(function, failing_span("finish")),
    "tags": lambda function: traced(function, failing_span("set_tag", "log_kv")),
    "span": lambda function: traced(function, FailingExit),
    "no span at all": lambda function: traced(function, lambda: 5),
    "activation": lambda function: traced(function, activate=True),
    "deactivation": lambda function: traced(function, activate=True),
    "start": traced,
    "scope manager": lambda function: traced(function, activate=True),
}

#: Places that a call must reach by an error, or by a result, to fail.
NEED_AN_ERROR, NEED_A_RESULT = {"tags", "description replaces"}, {"description after"}


def plain() -> Any:
    return "result"


def raising() -> Any:
    raise LookupError("theirs")


async def coroutine() -> Any:
    await asyncio.sleep(0)
    return "result"


async def raising_coroutine() -> Any:
    await asyncio.sleep(0)
    raise LookupError("theirs")


def generator() -> Any:
    yield 1
    return "result"


async def async_generator() -> Any:
    yield 1
    await asyncio.sleep(0)
    yield 2


def future() -> Any:
    return concurrent.futures.Future()


async def collect(steps: Any) -> list[Any]:
    return [item async for item in steps]


def outcome(function: Callable[[], Any]) -> Any:
    """Return what comes of a call in the end, whatever kind it is."""
    try:
        result = function()
        if inspect.iscoroutine(result):
            return asyncio.run(result)
        if isinstance(result, concurrent.futures.Future):
            result.set_result("result")
            return result.result()
        if hasattr(result, "__aiter__"):
            return asyncio.run(collect(result))
        return list(result) if hasattr(result, "__next__") else result
    except LookupError as error:
        return (error.args, error.__cause__, error.__context__)


KINDS = (plain, raising, coroutine, raising_coroutine, generator, async_generator, future)


@pytest.fixture
def broken(request: pytest.FixtureRequest, tracer: MockTracer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The place where something of ours fails; the tracer is broken if it is there."""
    place: str = request.param
    if place == "activation":
        tracer._scope_manager = FailingManager()
    elif place == "deactivation":
        tracer._scope_manager = LeavingManager()
    elif place == "start":
        monkeypatch.setattr(MockTracer, "start_span", failing)
    elif place == "scope manager":
        monkeypatch.setattr(MockTracer, "scope_manager", property(failing))
    return place


@pytest.mark.parametrize("function", KINDS)
@pytest.mark.parametrize("broken", WRAPPERS, indirect=True)
def test_a_failure_of_ours_changes_nothing_and_is_reported_once(
    function: Any, broken: str, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The outcome is the one without tracing, twice; each place is reported once for both."""
    wrapper = WRAPPERS[broken](function)
    expected = outcome(function)
    assert [outcome(wrapper), outcome(wrapper)] == [expected, expected]
    messages = [record.getMessage() for record in caplog.records]
    happens = broken not in (NEED_A_RESULT if isinstance(expected, tuple) else NEED_AN_ERROR)
    assert bool(messages) is happens
    assert sorted(set(messages)) == sorted(messages)
    assert {record.name for record in caplog.records} <= {"opentracing_instrumentation"}


@pytest.mark.parametrize("broken", sorted(WRAPPERS.keys() - NEED_AN_ERROR), indirect=True)
def test_strict_mode_raises_failures_of_ours(broken: str) -> None:
    """The tests of this package would not see them otherwise."""
    wrapper = WRAPPERS[broken](plain)
    with pytest.raises((Failing, TypeError, AttributeError)):
        wrapper()


# Memory


def growth(calls: Callable[[], Any]) -> int:
    """Return by how many bytes the memory grows in 50,000 calls, after as many as it takes to warm up."""
    for _ in range(1000):
        calls()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(50_000):
            calls()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


class Forgetful(MockTracer):
    """A tracer that keeps no spans."""

    def _append_finished_span(self, span: Any) -> None:
        """Forget it."""


def test_fifty_thousand_calls_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those that return nor those that raise."""
    monkeypatch.setattr(opentracing, "tracer", Forgetful())
    returning, failing_call = traced(plain, activate=True), followed(raising, lambda: (yield describe()))

    def call() -> None:
        returning()
        try:
            failing_call()
        except LookupError:
            pass

    assert growth(call) < 20_000


def test_traced_functions_are_collected_with_their_functions(tracer: MockTracer) -> None:
    """Nothing keeps a wrapper alive: functions may be traced in a loop."""

    class Marker:
        alive = 0

        def __init__(self) -> None:
            Marker.alive += 1

        def __del__(self) -> None:
            Marker.alive -= 1

    for _ in range(1000):
        marker = Marker()
        assert traced(lambda marker=marker: marker)() is marker
    del marker
    gc.collect()
    assert Marker.alive == 0
