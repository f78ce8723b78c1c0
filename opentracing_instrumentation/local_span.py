"""Spans for work inside the process: functions of the user's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast, overload

import opentracing

from . import request_context, utils
from ._core.calls import Description, instrument
from ._core.safety import report

_Function = TypeVar("_Function", bound=Callable[..., Any])


def func_span(
    func: Any, tags: dict[str, Any] | None = None, require_active_trace: bool = False
) -> AbstractContextManager[Any]:
    """Begin a span for a block: ``with func_span("parse"): ...``.

    Args:
        func: names the span, by ``str(func)``.
        tags: tags to begin with.
        require_active_trace: begin none where there is no current span; the block then gets ``None``.

    Returns:
        the span itself, as a context manager: it finishes with the block, and is not made current in it.
    """
    parent = request_context.get_current_span()
    if parent is None and require_active_trace:
        return nullcontext()
    return cast(AbstractContextManager[Any], utils.start_child_span(operation_name=str(func), parent=parent, tags=tags))


@overload
def traced_function(func: _Function) -> _Function: ...
@overload
def traced_function(
    func: None = None,
    name: str | None = None,
    on_start: Callable[..., Any] | None = None,
    require_active_trace: bool = False,
) -> Callable[[_Function], _Function]: ...
@overload
def traced_function(
    func: _Function,
    name: str | None = None,
    on_start: Callable[..., Any] | None = None,
    require_active_trace: bool = False,
) -> _Function: ...
def traced_function(
    func: Any = None,
    name: str | None = None,
    on_start: Callable[..., Any] | None = None,
    require_active_trace: bool = False,
) -> Any:
    """Trace the calls of a function: ``@traced_function`` or ``@traced_function(name="parse")``.

    Args:
        func: a function, coroutine function, generator function or asynchronous generator function, or any callable.
            What it is, its wrapper is too. A future that it returns is returned as it is.
        name: name of the spans; the function's name by default.
        on_start: called as ``on_start(span, *args, **kwargs)`` with the call's arguments, before the span becomes
            current. What it raises is logged once.
        require_active_trace: trace only calls that have a current span for parent.

    The span is current while the function runs, in it and in what it calls, and finishes when the function is done:
    for a coroutine when it has been awaited, for a generator when it is exhausted or closed, for a future when it
    resolves. An exception is tagged, logged on the span, and raised on. As thread- and async-safe as the function.

    Raises:
        TypeError: ``func`` can't be called.
    """
    if func is None:

        def decorate(function: _Function) -> _Function:
            return traced_function(function, name, on_start, require_active_trace)

        return decorate
    if isinstance(func, classmethod | staticmethod):
        return type(func)(traced_function(func.__func__, name, on_start, require_active_trace))
    if not callable(func):
        raise TypeError(f"traced_function: {func!r} is not callable")
    operation = name or _name(func)
    if callable(on_start):
        describe = _with_on_start(operation, on_start, require_active_trace)
        return instrument(func, _LocalDescription(describe, operation, activate=True, idle=lambda: False))
    return instrument(func, _LocalDescription(_plain(operation, require_active_trace), operation, activate=True))


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _plain(operation: str, require_active_trace: bool) -> Callable[[], Any]:
    def describe() -> Any:
        parent = request_context.get_current_span()
        if parent is None and require_active_trace:
            return None
        return opentracing.tracer.start_span(
            operation_name=operation, child_of=None if parent is None else parent.context, tags=None
        )

    return describe


def _with_on_start(operation: str, on_start: Callable[..., Any], require_active_trace: bool) -> Callable[..., Any]:
    start = _plain(operation, require_active_trace)

    def describe(*args: Any, **kwargs: Any) -> Any:
        span = start()
        if span is not None:
            try:
                on_start(span, *args, **kwargs)
            except Exception as error:
                report(f"on_start of {operation}", error)
        return span

    return describe


class _LocalDescription(Description):
    """Local spans tell of errors in words of their own, which dashboards know."""

    def fail(self, handle: Any, error: BaseException) -> None:
        try:
            handle.set_tag("error", "true")
            handle.log_kv({"event": "exception", "payload": error})
        except Exception as failure:
            report(f"{self.place}: error", failure)
        self.succeed(handle, None)
