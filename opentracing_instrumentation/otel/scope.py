"""The current span, kept where OpenTelemetry keeps it: its context is the only stack.

A scope is an entry of OpenTelemetry's current context, next to the span that it makes current there. It counts as long
as that span is the current one: a native span that is begun inside hides it, and uncovers it when it ends. To close a
scope is to put back the context that it was opened in; tokens, which only one context accepts, are not used for that.

Scopes are closed in the wrong order, in another thread, task or generator, or twice. A scope that is closed in its own
context below others that are open ends with those; one that is closed in a foreign context ends its span, and whoever
comes upon it in any context steps over it. Neither raises nor logs.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import time
from typing import Any

from opentelemetry.context import Context, attach, create_key, get_current
from opentelemetry.trace import INVALID_SPAN, SpanKind, get_current_span
from opentracing import Scope as OpenTracingScope
from opentracing import ScopeManager as OpenTracingScopeManager

from .span import BAGGAGE_KEY, SPAN_KEY, Span

_EMPTY = Context()
SCOPE_KEY = create_key("opentracing_instrumentation.otel.scope")

#: Tells, by its tokens, in which of Python's contexts a scope was opened.
_opened: ContextVar[None] = ContextVar("opentracing_instrumentation.otel.opened")


def current_context() -> Context:
    """Return OpenTelemetry's current context, after it has been rid of scopes that were closed from elsewhere."""
    context = get_current()
    scope: Any = context.get(SCOPE_KEY)
    if scope is not None and scope.is_left and context.get(SPAN_KEY) is scope.current:
        context = scope.end()
        attach(context)
    return context


def _top(context: Context) -> Scope | None:
    """Return the scope whose span is the current one."""
    scope: Any = context.get(SCOPE_KEY)
    return scope if scope is not None and context.get(SPAN_KEY) is scope.current else None


class Scope(OpenTracingScope):  # type: ignore[misc]
    """A span that is current, from now on until the scope is closed.

    Args:
        manager: the scope manager.
        span: a span of :class:`Tracer`; another tracer's, which OpenTelemetry does not see; ``None`` for none.
        finish_on_close: whether the span ends with the scope.

    Any thread or task may close it, any number of times.
    """

    #: Whether it was closed other than as the innermost scope of the context that it was opened in.
    is_left = False
    #: What OpenTelemetry takes for the current span in this scope.
    current: Any

    _end_time: float | None = None
    _is_closed = False

    def __init__(self, manager: ScopeManager, span: Any, finish_on_close: bool) -> None:
        self._manager = manager
        self._span = span
        self._to_finish = span if finish_on_close else None
        self._around = context = current_context()
        self._outer = None if SCOPE_KEY not in context else _top(context)
        if isinstance(span, Span):
            current: Any = span._span
            if context.get(BAGGAGE_KEY) is not span._baggage:
                context = span.current_in(context)
        else:
            current = INVALID_SPAN if span is None else context.get(SPAN_KEY)
        self.current = current
        attach(Context({**context, SPAN_KEY: current, SCOPE_KEY: self}))
        self._token = _opened.set(None)

    def close(self) -> None:
        """Make the span before this one current again, and finish this one if that was asked for."""
        if self._is_closed:
            return
        self._is_closed = True
        is_here = True  # in the context that the scope was opened in, rather than in a copy or a stranger
        try:
            _opened.reset(self._token)
        except ValueError:
            is_here = False
        context = get_current()
        if context.get(SCOPE_KEY) is self and context.get(SPAN_KEY) is self.current:
            self.is_left = not is_here
            attach(self.end())
            if is_here:  # nobody will step over it: let go of what was before
                self._around, self._outer = _EMPTY, None
            return
        self.is_left = True
        if is_here and self._is_below(_top(context)):
            self._end_time = time()  # the scopes above end it
        else:
            self._finish()

    def _is_below(self, scope: Scope | None) -> bool:
        while scope is not None and scope is not self:
            scope = scope._outer
        return scope is self

    def end(self) -> Context:
        """Finish the span, and those of the scopes below that were closed before; return the context to go on in."""
        if self._to_finish is not None:
            self._finish()
        context, outer = self._around, self._outer
        while outer is not None and outer.is_left:
            outer._finish()
            context, outer = outer._around, outer._outer
        return context

    def _finish(self) -> None:
        span, self._to_finish = self._to_finish, None
        if span is None:
            return
        if self._end_time is None:
            span.finish()
        else:
            span.finish(self._end_time)


class ScopeManager(OpenTracingScopeManager):  # type: ignore[misc]
    """Makes spans current in OpenTelemetry's context. Safe for threads, tasks and greenlets."""

    def __init__(self, tracer: Any) -> None:
        """Take the tracer to which native spans are shown to belong."""
        self._tracer = tracer

    def activate(self, span: Any, finish_on_close: bool) -> Scope:
        """Make a span current; see :class:`Scope`."""
        return Scope(self, span, finish_on_close)

    @property
    def active(self) -> OpenTracingScope | None:
        """The current scope, or ``None``.

        While a native span is current, or the context of a remote one, that is a scope which closes nothing.
        """
        context = get_current()
        scope: Any = context.get(SCOPE_KEY)
        if scope is None:
            if SPAN_KEY not in context:
                return None
        elif context.get(SPAN_KEY) is scope.current:
            if not scope.is_left:
                return scope if scope._span is not None else None
            current_context()  # steps over it
            return self.active
        native = get_current_span(context)
        if not native.get_span_context().is_valid:
            return None
        kind = getattr(native, "kind", SpanKind.INTERNAL)
        return OpenTracingScope(self, Span(self._tracer, native, context, kind))
