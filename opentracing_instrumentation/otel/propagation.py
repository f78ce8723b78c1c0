"""Span contexts in carriers: headers, messages, bytes. OpenTelemetry's propagators do it; this is how they see ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from opentelemetry import trace as otel
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator
from opentelemetry.trace import TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .span import BAGGAGE_KEY, SPAN_KEY, SpanContext

#: What a BINARY carrier holds, as the lines of a message's header (RFC 9112), in ASCII.
_BAGGAGE = W3CBaggagePropagator()
_PARTS = (TraceContextTextMapPropagator(), _BAGGAGE)
_W3C = CompositePropagator(_PARTS)

#: The headers of W3C's trace context and baggage.
W3C_HEADERS = _TRACEPARENT, *_OTHER_HEADERS = "traceparent", "tracestate", "baggage"
_VERSION_00 = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch

_JAEGER_HEADER = "uber-trace-id"
_JAEGER_BAGGAGE = "uberctx-"


class _Setter(Setter[MutableMapping[str, str]]):
    """Puts text into a carrier; of Jaeger's flags only "sampled": no span of OpenTelemetry's is for debugging."""

    def set(self, carrier: MutableMapping[str, str], key: str, value: str) -> None:
        if key == _JAEGER_HEADER:
            identity, _, flags = value.rpartition(":")
            value = f"{identity}:{int(flags, 16) & TraceFlags.SAMPLED:02x}"
        carrier[key] = value


class _Getter(Getter[Mapping[str, Any]]):
    """Reads a carrier that :func:`_readable` has made; names are looked up in lower case."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        if value is None:
            value = carrier.get(key.lower())
            if value is None:
                return None
        return [_text(item) for item in value] if isinstance(value, list | tuple) else [_text(value)]

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return list(carrier)


_setter, _getter = _Setter(), _Getter()


def is_w3c(propagator: TextMapPropagator) -> bool:
    """Tell whether a propagator is OpenTelemetry's default: W3C's trace context and baggage, and nothing else."""
    return type(propagator) is CompositePropagator and _is_default(propagator)


@lru_cache(maxsize=16)
def _is_default(propagator: CompositePropagator) -> bool:
    return [type(part) for part in getattr(propagator, "_propagators", ())] == [type(part) for part in _PARTS]


def inject(span_context: SpanContext, carrier: MutableMapping[str, str], propagator: TextMapPropagator) -> None:
    """Put a span context into a mapping, by the propagator."""
    if not is_w3c(propagator):
        propagator.inject(carrier, span_context.otel_context(), _setter)
        return
    identity = span_context.unwrap()  # what the propagator would do, in a third of the time
    if identity.is_valid:
        facts = identity.trace_id, identity.span_id, identity.trace_flags
        carrier[_TRACEPARENT] = "00-%032x-%016x-%02x" % facts  # noqa: UP031 - at half the cost of an f-string
        if identity.trace_state:
            carrier["tracestate"] = identity.trace_state.to_header()
    if span_context.items:
        _BAGGAGE.inject(carrier, span_context.otel_context())


def extract(carrier: Mapping[Any, Any], propagator: TextMapPropagator) -> SpanContext | None:
    """Return the span context that a mapping holds, or its baggage alone, or ``None`` if it can't be read."""
    try:
        readable = _readable(carrier)
        if is_w3c(propagator) and readable.keys().isdisjoint(_OTHER_HEADERS):
            known = _known(readable.get(_TRACEPARENT))
            if known is not None:
                return known
        context = propagator.extract(readable, Context(), _getter)
    except Exception:  # whatever strangers send: it begins a new trace
        return None
    span: Any = context.get(SPAN_KEY)
    is_empty = (span is None or not span.get_span_context().is_valid) and not context.get(BAGGAGE_KEY)
    return None if is_empty else SpanContext.of(context)


def _known(traceparent: Any) -> SpanContext | None:
    """Return what a header of today's version says, as the propagator would; ``None`` if that has to see to it."""
    match = _VERSION_00(traceparent) if type(traceparent) is str else None
    if match is None:
        return None
    flags = TraceFlags(int(match[3], 16))
    identity = otel.SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)
    return SpanContext(otel.NonRecordingSpan(identity), None) if identity.is_valid else None


def inject_binary(span_context: SpanContext, carrier: bytearray) -> None:
    """Append a span context to a ``bytearray``."""
    headers: dict[str, str] = {}
    inject(span_context, headers, _W3C)
    carrier.extend("".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii", "ignore"))


def extract_binary(carrier: bytes | bytearray | memoryview) -> SpanContext | None:
    """Return the span context that bytes hold, or ``None`` if they can't be read."""
    try:
        lines = bytes(carrier).decode("ascii").split("\r\n")
    except (TypeError, ValueError):
        return None
    pairs = [line.partition(": ") for line in lines]
    return extract({name: value for name, separator, value in pairs if separator}, _W3C)


def _readable(carrier: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the carrier with names in lower case, but for a Jaeger baggage item's, which is its key as it is."""
    if type(carrier) is dict and _are_lower(carrier):
        return carrier
    return {
        key.lower() if type(key) is str and key[:8] != _JAEGER_BAGGAGE else _name(key): value
        for key, value in carrier.items()
    }


def _are_lower(names: Iterable[Any]) -> bool:
    try:
        return "".join(names).islower()
    except TypeError:  # one of them is no text
        return False


def _name(key: Any) -> str:
    name = _text(key)
    return name if name.startswith(_JAEGER_BAGGAGE) else name.lower()


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
