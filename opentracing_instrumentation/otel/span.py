"""A span of OpenTelemetry's with the methods of OpenTracing's."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any

import opentracing
from opentelemetry import baggage
from opentelemetry import trace as otel
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode
from opentracing import logs

from .values import nanoseconds, plain

if TYPE_CHECKING:
    from .tracer import Tracer

#: Where a context keeps the current span and the baggage, by OpenTelemetry's own account.
(SPAN_KEY,) = otel.set_span_in_context(otel.INVALID_SPAN, Context())
(BAGGAGE_KEY,) = baggage.set_baggage("key", "value", Context())

_EXCEPTION = "exception"
_ERROR_TYPE = "error.type"
_baggage_lock = Lock()


class SpanContext(opentracing.SpanContext):  # type: ignore[misc]
    """What identifies a span, with its baggage. It never changes.

    Args:
        span: OpenTelemetry's span, or the stand-in for a remote one; ``None`` if there is baggage only.
        items: the baggage.
        adds_baggage: whether there is baggage among it that the current context may lack.
        context: an OpenTelemetry context with these two, if there is more in it.
    """

    __slots__ = ("_context", "adds_baggage", "items", "span")

    def __init__(self, span: Any, items: Any, adds_baggage: bool = True, context: Context | None = None) -> None:
        self.span = span
        self.items = items
        self.adds_baggage = adds_baggage
        self._context = context

    @classmethod
    def of(cls, context: Context) -> SpanContext:
        """Return what identifies the current span of an OpenTelemetry context."""
        return cls(context.get(SPAN_KEY), context.get(BAGGAGE_KEY), context=context)

    @property
    def baggage(self) -> dict[str, str]:
        """The baggage, in a dict of the caller's own."""
        return {key: str(value) for key, value in (self.items or {}).items()}

    @property
    def trace_id(self) -> int:
        """The trace's number; 0 if there is none."""
        return self.unwrap().trace_id

    @property
    def span_id(self) -> int:
        """The span's number; 0 if there is none."""
        return self.unwrap().span_id

    def unwrap(self) -> otel.SpanContext:
        """Return OpenTelemetry's span context."""
        return (otel.INVALID_SPAN if self.span is None else self.span).get_span_context()

    def otel_context(self) -> Context:
        """Return an OpenTelemetry context in which the span is the current one."""
        if self._context is None:
            self._context = Context({SPAN_KEY: self.span, BAGGAGE_KEY: self.items})
        return self._context

    def with_baggage(self, context: Context) -> Context:
        """Return an OpenTelemetry context with the baggage of this span added to its own."""
        present: Any = context.get(BAGGAGE_KEY)
        if not self.items or self.items is present:
            return context
        return Context({**context, BAGGAGE_KEY: {**(present or {}), **self.items}})

    def __repr__(self) -> str:
        identity = self.unwrap()
        ids = f"{otel.format_trace_id(identity.trace_id)}:{otel.format_span_id(identity.span_id)}"
        return f"<SpanContext {ids} {self.baggage}>"


def is_dropped(span: NonRecordingSpan) -> bool:
    """Tell whether a span of OpenTelemetry's was sampled out in this process, and so are its children as a rule.

    What to do below a remote span is the sampler's to say.
    """
    identity = span.get_span_context()
    return identity.is_valid and not identity.is_remote and not identity.trace_flags.sampled


class Span(opentracing.Span):  # type: ignore[misc]
    """A span of OpenTelemetry's, as OpenTracing sees it; see :meth:`unwrap` for the other view.

    After its end, and if it does not record, whatever is told to it is ignored.
    Its methods may be called by any thread.
    """

    #: Whether what is told to the span is kept: worth asking before something is worked out for a tag.
    is_recording: bool

    _context: SpanContext | None = None
    _adds_baggage = False
    _is_finished = False
    _has_error_type = False
    _is_explained = False  # whether the status says what the error was

    def __init__(self, tracer: Tracer, span: otel.Span, context: Context, kind: SpanKind = SpanKind.INTERNAL) -> None:
        """Take OpenTelemetry's span, the context that it was begun in, and its kind."""
        self._tracer = tracer
        #: OpenTelemetry's kind of span.
        self.kind = kind
        self._span = span
        self._baggage: Any = context.get(BAGGAGE_KEY)
        self.is_recording = span.is_recording()

    @property
    def is_dropped(self) -> bool:
        """Whether the span is sampled out, and its children with it: worth asking before tags are worked out."""
        return type(self._span) is NonRecordingSpan and is_dropped(self._span)

    @property
    def context(self) -> SpanContext:
        """The span's identity, with the baggage that the span has now."""
        context = self._context
        if context is None:
            self._context = context = SpanContext(self._span, self._baggage, self._adds_baggage)
        return context

    def unwrap(self) -> otel.Span:
        """Return OpenTelemetry's span."""
        return self._span

    def set_operation_name(self, operation_name: str) -> Span:
        """Rename the span, to this very name."""
        if self.is_recording:
            self._span.update_name(str(operation_name))
        return self

    def set_tag(self, key: str, value: Any) -> Span:
        """Set a tag, which becomes one or several attributes, or the status, as :mod:`semconv` has it.

        A value of any type is accepted. ``span.kind`` and ``sampling.priority`` have effect only among the tags that a
        span begins with.
        """
        if self.is_recording:
            self._tracer.conventions.tell(self, key, value)
        return self

    def current_in(self, context: Context) -> Context:
        """Return an OpenTelemetry context with the baggage that it has once this span is made current in it.

        To its own trace the span adds its baggage; in any other, there is the span's only.
        """
        present: Any = context.get(BAGGAGE_KEY)
        current = otel.get_current_span(context).get_span_context()
        if current.is_valid and current.trace_id != self._span.get_span_context().trace_id:
            present = None
        return Context({**context, BAGGAGE_KEY: {**(present or {}), **(self._baggage or {})}})

    def tell(self, attributes: dict[str, Any], is_error: bool | None = None) -> None:
        """Set attributes, and the status if ``is_error`` says which. What was told of an error first stands."""
        if _ERROR_TYPE in attributes:
            if self._has_error_type:
                del attributes[_ERROR_TYPE]
            self._has_error_type = True
        if len(attributes) == 1:
            self._span.set_attribute(*attributes.popitem())
        elif attributes:
            self._span.set_attributes(attributes)
        if is_error is False:
            self._span.set_status(StatusCode.OK)
        elif is_error and not self._is_explained:
            self._span.set_status(StatusCode.ERROR)

    def log_kv(self, key_values: Mapping[str, Any], timestamp: float | None = None) -> Span:
        """Add an event, named by ``event``; one that tells of an error becomes an exception event.

        Args:
            key_values: what happened. An ``error.object`` that is an exception tells type, message and stack.
            timestamp: when, in seconds since the epoch; now, if ``None``.
        """
        if self.is_recording:
            fields = dict(key_values)
            name = str(fields.pop(logs.EVENT, "log"))
            if logs.ERROR_OBJECT in fields or logs.ERROR_KIND in fields:
                attributes = self._exception(fields)
                name = _EXCEPTION
            else:
                attributes = {str(key): plain(value) for key, value in fields.items()}
            self._span.add_event(name, attributes, nanoseconds(timestamp))
        return self

    def _exception(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Take what OpenTracing says of an error out of the fields of a log; set the status, return the attributes."""
        error = fields.pop(logs.ERROR_OBJECT, None)
        kind = fields.pop(logs.ERROR_KIND, None)
        message = fields.pop(logs.MESSAGE, None)
        stack = fields.pop(logs.STACK, None)
        if isinstance(error, BaseException):
            kind, stack = type(error), stack or error.__traceback__
        message = str(plain(error if message is None and error is not None else message or ""))
        name = _type_name(kind) if isinstance(kind, type) else str(plain(kind or type(error)))
        attributes = {f"{_EXCEPTION}.type": name, f"{_EXCEPTION}.message": message}
        if stack is not None:
            attributes[f"{_EXCEPTION}.stacktrace"] = _stack(kind, message, error, stack)
        self._tracer.conventions.tell_error_type(self, name)
        self._span.set_status(StatusCode.ERROR, f"{name}: {message}" if message else name)
        self._is_explained = True
        return {**{str(key): plain(value) for key, value in fields.items()}, **attributes}

    def set_baggage_item(self, key: str, value: str) -> Span:
        """Put an item into the baggage of the span and of all spans that are begun below it from now on.

        Where the span is current, native spans see it as well.
        """
        key, value = str(key), str(value)
        with _baggage_lock:
            self._baggage = {**(self._baggage or {}), key: value}
            self._adds_baggage = True
            self._context = None
        current = get_current()
        if otel.get_current_span(current) is self._span:
            attach(baggage.set_baggage(key, value, current))
        return self

    def get_baggage_item(self, key: str) -> str | None:
        """Return an item of the baggage, or ``None``."""
        value = (self._baggage or {}).get(str(key))
        return None if value is None else str(value)

    def finish(self, finish_time: float | None = None) -> None:
        """End the span, once.

        Args:
            finish_time: when, in seconds since the epoch; now, if ``None``.
        """
        if self._is_finished:
            return
        self._is_finished = True
        self.is_recording = False
        self._span.end(None if finish_time is None else nanoseconds(finish_time))

    def __repr__(self) -> str:
        return f"<Span {getattr(self._span, 'name', '')!r} of {self.context!r}>"


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _stack(kind: Any, message: str, error: Any, stack: Any) -> str:
    """Return a stack as text: that of the exception, if it is told with it and the message is the exception's own."""
    if not isinstance(stack, TracebackType):
        return str(plain(stack))
    if isinstance(error, BaseException) and str(plain(error)) == message:
        return "".join(traceback.format_exception(type(error), error, stack))
    name = _type_name(kind) if isinstance(kind, type) else str(kind)
    return "Traceback (most recent call last):\n" + "".join(traceback.format_tb(stack)) + f"{name}: {message}\n"
