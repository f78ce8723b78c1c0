"""The current span: who it is, how it is made current, and the deprecated ways of both.

The span of a request is current in the code that serves it, so that hooks and helpers find their parent without
being handed it. What is current is the business of the tracer's scope manager; state of this module is in context
variables, which threads do not share and which asyncio tasks, gevent's greenlets and SQLAlchemy's inherit.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Literal

import opentracing
from opentracing import Scope, Span
from opentracing.scope_managers import ThreadLocalScopeManager
from opentracing.scope_managers.contextvars import ContextVarsScopeManager, no_parent_scope

from ._core.safety import report

__all__ = [
    "RequestContext",
    "RequestContextManager",
    "ThreadSafeStackContext",
    "TornadoScopeManager",
    "current_span",
    "get_current_span",
    "run_coroutine_with_span",
    "set_current_span_func",
    "span_in_context",
    "span_in_stack_context",
    "tracer_stack_context",
]


class RequestContext:
    """Deprecated: a span in a box. Activate the span through the tracer's scope manager instead."""

    __slots__ = ("span",)

    def __init__(self, span: Any) -> None:
        self.span = span


#: The innermost context of a ``with RequestContextManager(...)`` block that is being executed.
_entered: ContextVar[Any] = ContextVar("opentracing_instrumentation.request_context", default=None)


class RequestContextManager:
    """Deprecated: makes a span current for :func:`get_current_span` only. Use :func:`span_in_context` instead.

    Inside the block it hides whatever the scope manager holds, even with a span of ``None``.
    """

    def __init__(self, context: Any = None, span: Any = None) -> None:
        """Take a context, or a span to put into one.

        Args:
            context: what ``__enter__`` returns; a span is put into a :class:`RequestContext`.
            span: the span for a new :class:`RequestContext`, when there is no ``context``.
        """
        if isinstance(context, Span):
            context = RequestContext(span=context)
        elif context is None:
            context = RequestContext(span=span)
        self._context = context
        self._outer: Any = None

    @classmethod
    def current_context(cls) -> Any:
        """Return the context of the innermost block, or ``None`` outside of any."""
        return _entered.get()

    def __enter__(self) -> Any:
        self._outer = _entered.get()
        _entered.set(self._context)
        return self._context

    def __exit__(self, *_: object) -> Literal[False]:
        _entered.set(self._outer)
        return False


def get_current_span() -> Any:
    """Return the current span of this thread, task or greenlet, or ``None``.

    That is the span of the innermost :class:`RequestContextManager` block, else the active span of
    ``opentracing.tracer``. With OpenTracing's default no-op tracer it is the no-op span.
    """
    context = _entered.get()
    if context is not None:
        return getattr(context, "span", None)
    scope = opentracing.tracer.scope_manager.active
    return None if scope is None else scope.span


_current_span_func: Callable[[], Any] = get_current_span


def set_current_span_func(func: Callable[[], Any]) -> None:
    """Set the function by which all hooks find the parent of a client span.

    Args:
        func: returns a span, or ``None`` for no parent. It is called by the thread or task that makes the call, once
            for each span. If it raises, that is logged once and :func:`get_current_span` is asked instead.

    It may be called at any time, before or after patches are installed.
    """
    global _current_span_func  # noqa: PLW0603 - one setting for the process, on purpose
    _current_span_func = func


def current_span() -> Any:
    """Return the span that a hook takes for parent: by the function set last, :func:`get_current_span` by default."""
    try:
        return _current_span_func()
    except Exception as error:
        report("the function given to set_current_span_func", error)
        return get_current_span()


def span_in_context(span: Any) -> Scope:
    """Make a span current: ``with span_in_context(span): ...``.

    Args:
        span: the span, or ``None`` to change nothing.

    Returns:
        OpenTracing's scope: the span is current from this call on until the scope is closed. Closing never finishes the
        span; an exception that leaves the ``with`` block is tagged and logged on it.
    """
    if span is None:
        return Scope(None, None)
    return opentracing.tracer.scope_manager.activate(span, False)


class TornadoScopeManager(ContextVarsScopeManager):  # type: ignore[misc]
    """A scope manager for Tornado: since Tornado 6 its coroutines run in copies of their caller's context."""


class ThreadSafeStackContext:
    """Deprecated: what Tornado < 6 called a stack context. Enters the context manager that the factory makes."""

    def __init__(self, context_factory: Callable[[], AbstractContextManager[Any]]) -> None:
        self._context_factory = context_factory
        self._entered: list[AbstractContextManager[Any]] = []

    def __enter__(self) -> Callable[[], None]:
        context = self._context_factory()
        context.__enter__()
        self._entered.append(context)
        return lambda: None

    def __exit__(self, *exc_info: Any) -> bool | None:
        return self._entered.pop().__exit__(*exc_info)


def tracer_stack_context() -> ThreadSafeStackContext:
    """Deprecated: a block without a current span, after which the one before it is current again."""
    return ThreadSafeStackContext(no_parent_scope)


#: Tells, by its tokens, in which context a block of :func:`span_in_stack_context` was begun.
_block: ContextVar[None] = ContextVar("opentracing_instrumentation.block")


class _StackContext:
    """The block of :func:`span_in_stack_context`; entering gives the function that ends it early."""

    def __init__(self, activated: AbstractContextManager[Any]) -> None:
        self._activated = activated
        self._token = _block.set(None)

    def _deactivate(self) -> None:
        try:
            _block.reset(self._token)
        except (ValueError, RuntimeError):  # in another context, where there is nothing to end; or ended already
            return
        self._activated.__exit__(None, None, None)

    def __enter__(self) -> Callable[[], None]:
        return self._deactivate

    def __exit__(self, *_: object) -> Literal[False]:
        self._deactivate()
        return False


def span_in_stack_context(span: Any) -> AbstractContextManager[Callable[[], None]]:
    """Make a span current for a block and for every coroutine that is started in it.

    Args:
        span: the span, or ``None`` for a block without a current span.

    Returns:
        a context manager, in force from this call on. Entering it gives a function without arguments that ends the
        block early. Neither finishes the span.

    Raises:
        RuntimeError: the tracer's scope manager keeps its state in threads, where coroutines would mix up their spans.

    A coroutine of ``async def`` that is merely *created* in the block runs when it is awaited, thus outside; await it
    in the block, or use :func:`run_coroutine_with_span`.
    """
    manager = opentracing.tracer.scope_manager
    if isinstance(manager, ThreadLocalScopeManager) or type(manager).__name__ == "GeventScopeManager":
        raise RuntimeError(
            f"scope_manager is not TornadoScopeManager nor another one on context variables: {type(manager).__name__}"
        )
    if span is None and isinstance(manager, ContextVarsScopeManager):
        nothing = no_parent_scope()
        nothing.__enter__()
        return _StackContext(nothing)
    return _StackContext(manager.activate(span, False))


def run_coroutine_with_span(span: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``func(*args, **kwargs)`` with ``span`` current, until its coroutine ends if it is one.

    Args:
        span: the span to make current; it is not finished here.
        func: a plain function, a Tornado coroutine or an ``async def``.

    Returns:
        what ``func`` returns; for the coroutine of an ``async def``, a coroutine with the same outcome.

    Raises:
        RuntimeError: see :func:`span_in_stack_context`.
    """
    with span_in_stack_context(span):
        result = func(*args, **kwargs)
    return _awaited_with_span(span, result) if isinstance(result, types.CoroutineType) else result


async def _awaited_with_span(span: Any, coroutine: Awaitable[Any]) -> Any:
    with span_in_stack_context(span):
        return await coroutine
