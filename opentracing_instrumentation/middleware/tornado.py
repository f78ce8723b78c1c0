"""The server side of Tornado >= 6.1: for a whole application, or for single handlers by a mixin.

A handler's span lasts as long as its coroutine, a websocket's as long as its connection. It is current in the
handler, and in what the handler awaits or starts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import CoroutineType
from typing import Any

from opentracing import Tracer

from .._core.calls import idle
from .._core.safety import report
from ..http_server import TornadoRequestWrapper
from ..request_context import run_coroutine_with_span
from ._served import ServedRequest

__all__ = ["TracingHandlerMixin", "run_coroutine_with_span", "trace_application", "untrace_application"]

_HOOK = "_opentracing_hook"
_SERVED = "_opentracing_served"


def trace_application(application: Any, tracer: Tracer | None = None) -> None:
    """Trace all requests that an application's handlers answer, in whatever way, or fail to answer.

    Args:
        application: a ``tornado.web.Application``.
        tracer: begins the spans and makes them current; ``None`` for ``opentracing.tracer``, as it is by then.
            Its scope manager must keep its state in tasks or context variables, else spans do not become current.

    Tracing an application again changes its tracer. To be called by the thread of the application's event loop, or
    before the application serves.
    """
    hook = vars(application).get(_HOOK)
    if hook is None:
        hook = _Delegates(application)
        setattr(application, _HOOK, hook)
        application.get_handler_delegate = hook
    hook.tracer = tracer
    hook.active = True


def untrace_application(application: Any) -> None:
    """Undo :func:`trace_application`; requests that are being served keep their spans.

    Where somebody else has replaced ``get_handler_delegate`` since, what is below does nothing any more.
    """
    hook = vars(application).get(_HOOK)
    if hook is None:
        return
    hook.active = False
    if vars(application).get("get_handler_delegate") is hook:
        hook.restore(application)
        delattr(application, _HOOK)


class _Delegates:
    """An application's ``get_handler_delegate``, whose delegates make traced handlers."""

    def __init__(self, application: Any) -> None:
        self.tracer: Tracer | None = None
        self.active = False
        self._own = "get_handler_delegate" in vars(application)
        self._original = application.get_handler_delegate

    def restore(self, application: Any) -> None:
        if self._own:
            application.get_handler_delegate = self._original
        else:
            del application.get_handler_delegate

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        delegate = self._original(*args, **kwargs)
        if self.active and not (self.tracer is None and idle()):
            try:
                delegate.handler_class = partial(_make_handler, delegate.handler_class, self.tracer)
            except Exception as error:
                report("tornado.web:Application.get_handler_delegate", error)
        return delegate


def _make_handler(handler_class: Any, tracer: Tracer | None, application: Any, request: Any, **kwargs: Any) -> Any:
    """Begin the span of a request and make its handler, whose ``initialize()`` may fail."""
    served = ServedRequest()
    if not served.begin(TornadoRequestWrapper, request, tracer):
        return handler_class(application, request, **kwargs)
    scope = served.enter()
    try:
        handler = handler_class(application, request, **kwargs)
    except BaseException as error:
        served.leave(scope)
        served.fail(error)
        served.finish()
        raise
    served.leave(scope)
    setattr(handler, _SERVED, served)
    handler._execute = partial(_execute, served, handler, handler._execute)
    return handler


class TracingHandlerMixin:
    """Traces the requests of one handler: ``class Orders(TracingHandlerMixin, RequestHandler)``, in this order.

    It covers what happens before ``prepare()`` too, such as a rejected XSRF cookie, but not a failing ``initialize()``.
    Its tracer is ``opentracing.tracer``. Under :func:`trace_application` it has nothing to do.
    """

    async def _execute(self, *args: Any, **kwargs: Any) -> None:
        execute = super()._execute  # type: ignore[misc]
        if _SERVED in vars(self) or idle():
            return await execute(*args, **kwargs)  # type: ignore[no-any-return]
        served = ServedRequest()
        if not served.begin(TornadoRequestWrapper, self.request, None):  # type: ignore[attr-defined]
            return await execute(*args, **kwargs)  # type: ignore[no-any-return]
        return await _execute(served, self, execute, *args, **kwargs)


async def _execute(
    served: ServedRequest, handler: Any, execute: Callable[..., Awaitable[None]], *args: Any, **kwargs: Any
) -> None:
    """Run a handler's ``_execute``, which turns exceptions into responses after a call of ``log_exception``."""
    vars(handler).pop("_execute", None)
    handler.log_exception = partial(_log_exception, served, handler.log_exception)
    if getattr(handler, "_stream_request_body", False):
        handler.data_received = partial(_run, served, handler.data_received)
    scope = served.enter_task()
    try:
        await execute(*args, **kwargs)
    except BaseException as error:
        served.fail(error)
        raise
    finally:
        served.leave(scope)
        for name in ("log_exception", "data_received", _SERVED):
            vars(handler).pop(name, None)
        _tell_outcome(served, handler)
        served.finish()


def _log_exception(served: ServedRequest, log_exception: Callable[..., Any], typ: Any, value: Any, tb: Any) -> Any:
    """Log an exception on the span, then as the handler does. A refusal (4xx) that a handler raises is no error."""
    from tornado.web import HTTPError

    if not isinstance(value, HTTPError) or value.status_code >= 500:
        served.fail(value)
    return log_exception(typ, value, tb)


def _run(served: ServedRequest, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the handler that Tornado calls outside of the handler's task."""
    scope = served.enter()
    try:
        result = function(*args)
    finally:
        served.leave(scope)
    return _awaited(served, result) if isinstance(result, CoroutineType) else result


async def _awaited(served: ServedRequest, coroutine: Awaitable[Any]) -> Any:
    scope = served.enter_task()
    try:
        return await coroutine
    finally:
        served.leave(scope)


def _tell_outcome(served: ServedRequest, handler: Any) -> None:
    try:
        if handler._headers_written:  # else nothing was sent, and the status is but Tornado's default
            served.status = handler.get_status()
        served.close_code = getattr(handler, "close_code", None)
    except Exception as error:
        report("tornado.web:RequestHandler.get_status", error)
