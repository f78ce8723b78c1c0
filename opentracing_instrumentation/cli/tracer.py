"""A tracer that tells of each span where it begins and where it ends, and keeps nothing.

It is for looking at a program from a terminal without installing another tracer. The context of a span travels in the
headers of the W3C (Trace Context, Baggage), in text maps and HTTP headers; what is current is in context variables.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from random import SystemRandom
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import opentracing
from opentracing import (
    Format,
    InvalidCarrierException,
    Reference,
    Scope,
    UnsupportedFormatException,
)
from opentracing.scope_managers.contextvars import ContextVarsScopeManager

#: Not seeded, so that forked processes do not choose the same ids.
_random = SystemRandom()

_NO_BAGGAGE: Mapping[str, str] = MappingProxyType({})


class SpanContext(opentracing.SpanContext):  # type: ignore[misc]
    """The ids of a span, in hexadecimal, and its baggage. Immutable."""

    def __init__(self, trace_id: str, span_id: str, baggage: Mapping[str, str] = _NO_BAGGAGE) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self._baggage = baggage

    @property
    def baggage(self) -> Mapping[str, str]:
        """The baggage, not to be changed."""
        return self._baggage


class Log(NamedTuple):
    """What was logged on a span, and when, in seconds since the epoch."""

    key_values: Mapping[str, Any]
    timestamp: float


class Span(opentracing.Span):  # type: ignore[misc]
    """A span of this module's tracer. Any thread may use it."""

    def __init__(
        self, tracer: Tracer, context: SpanContext, parent_id: str | None, name: str, tags: dict[str, Any], start: float
    ) -> None:
        super().__init__(tracer, context)
        self.parent_id = parent_id
        self.operation_name = name
        self.tags = tags
        self.logs: list[Log] = []
        self.start_time = start
        self.duration: float | None = None

    @property
    def context(self) -> SpanContext:
        """The ids and the baggage as they are now."""
        return self._context

    def set_operation_name(self, operation_name: str) -> Span:
        self.operation_name = operation_name
        return self

    def set_tag(self, key: str, value: Any) -> Span:
        self.tags[key] = value
        return self

    def log_kv(self, key_values: Mapping[str, Any], timestamp: float | None = None) -> Span:
        self.logs.append(Log(key_values, time.time() if timestamp is None else timestamp))
        return self

    def set_baggage_item(self, key: str, value: str) -> Span:
        context = self.context
        self._context = SpanContext(context.trace_id, context.span_id, {**context.baggage, key: value})
        return self

    def get_baggage_item(self, key: str) -> str | None:
        return self.context.baggage.get(key)

    def finish(self, finish_time: float | None = None) -> None:
        """End the span, in seconds since the epoch; nothing if it has ended."""
        if self.duration is None:
            self.duration = max(0.0, (time.time() if finish_time is None else finish_time) - self.start_time)
            self._tracer.ended(self)


class Tracer(opentracing.Tracer):  # type: ignore[misc]
    """A tracer on context variables. Thread-safe, as far as the two functions that it calls are."""

    def __init__(self, began: Callable[[Span], None], ended: Callable[[Span], None]) -> None:
        """Take the functions that are told of each span, when it begins and when it ends. They must not raise."""
        super().__init__(ContextVarsScopeManager())
        self.began = began
        self.ended = ended

    def start_active_span(
        self,
        operation_name: str,
        child_of: Any = None,
        references: Sequence[Reference] | None = None,
        tags: dict[str, Any] | None = None,
        start_time: float | None = None,
        ignore_active_span: bool = False,
        finish_on_close: bool = True,
    ) -> Scope:
        span = self.start_span(operation_name, child_of, references, tags, start_time, ignore_active_span)
        return self.scope_manager.activate(span, finish_on_close)

    def start_span(
        self,
        operation_name: str | None = None,
        child_of: Any = None,
        references: Sequence[Reference] | None = None,
        tags: dict[str, Any] | None = None,
        start_time: float | None = None,
        ignore_active_span: bool = False,
    ) -> Span:
        parent = self._parent(child_of, references, ignore_active_span)
        span_id = f"{_random.getrandbits(64):016x}"
        if parent is None:
            context, parent_id = SpanContext(f"{_random.getrandbits(128):032x}", span_id), None
        else:
            context, parent_id = SpanContext(parent.trace_id, span_id, parent.baggage), parent.span_id
        start = time.time() if start_time is None else start_time
        span = Span(self, context, parent_id, operation_name or "", dict(tags or {}), start)
        self.began(span)
        return span

    def _parent(self, child_of: Any, references: Sequence[Reference] | None, ignore_active: bool) -> SpanContext | None:
        """The first context that is one of ours: a stranger's, such as that of a no-op span, is none."""
        candidates = [child_of, *(each.referenced_context for each in references or ())]
        if not ignore_active and all(each is None for each in candidates):
            candidates.append(self.active_span)
        contexts = (each.context if isinstance(each, opentracing.Span) else each for each in candidates)
        return next((each for each in contexts if isinstance(each, SpanContext)), None)

    def inject(self, span_context: Any, format: str, carrier: MutableMapping[str, str]) -> None:  # noqa: A002
        """Write `traceparent`, and `baggage` where there is some. Raises what OpenTracing says."""
        _check(format, carrier)
        if not isinstance(span_context, SpanContext):
            return
        carrier["traceparent"] = f"00-{span_context.trace_id}-{span_context.span_id}-01"
        if span_context.baggage:
            items = span_context.baggage.items()
            carrier["baggage"] = ",".join(f"{quote(str(key))}={quote(str(value))}" for key, value in items)

    def extract(self, format: str, carrier: Mapping[str, str]) -> SpanContext | None:  # noqa: A002
        """The context in the carrier, whose names may be in any case; None where there is none that can be read."""
        _check(format, carrier)
        headers = {str(name).lower(): str(value) for name, value in carrier.items()}
        found = _TRACEPARENT(headers.get("traceparent", "").strip())
        return SpanContext(found[1], found[2], dict(_baggage(headers.get("baggage", "")))) if found else None


#: <https://www.w3.org/TR/trace-context/>, section 3.2: a version above 00 may have more behind, and ff is none.
_TRACEPARENT = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?"
).fullmatch


def _baggage(header: str) -> Iterator[tuple[str, str]]:
    for member in header.split(","):
        key, separator, value = member.partition(";")[0].partition("=")
        if separator:
            yield unquote(key.strip()), unquote(value.strip())


def _check(form: str, carrier: object) -> None:
    if form not in (Format.TEXT_MAP, Format.HTTP_HEADERS):
        raise UnsupportedFormatException(form)
    if not isinstance(carrier, Mapping):
        raise InvalidCarrierException(f"{type(carrier).__name__} is not a mapping")
