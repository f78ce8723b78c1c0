"""Span contexts in carriers: headers, messages, bytes. OpenTelemetry's propagators do it; this is how they see ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator
from opentelemetry.trace import TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .span import SpanContext

#: What a BINARY carrier holds, as the lines of a message's header (RFC 9112), in ASCII.
_W3C = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])

_JAEGER_HEADER = "uber-trace-id"
_JAEGER_BAGGAGE = "uberctx-"


class _Setter(Setter[MutableMapping[str, str]]):
    """Puts text into a carrier; of Jaeger's flags only "sampled": no span of OpenTelemetry's is for debugging."""

    def set(self, carrier: MutableMapping[str, str], key: str, value: str) -> None:
        if key == _JAEGER_HEADER:
            identity, _, flags = value.rpartition(":")
            value = f"{identity}:{int(flags, 16) & TraceFlags.SAMPLED:02x}"
        carrier[key] = value


class _Getter(Getter[Mapping[str, list[str]]]):
    """Reads a carrier that :func:`_readable` has made; names are looked up in lower case."""

    def get(self, carrier: Mapping[str, list[str]], key: str) -> list[str] | None:
        return carrier.get(key) or carrier.get(key.lower())

    def keys(self, carrier: Mapping[str, list[str]]) -> list[str]:
        return list(carrier)


_setter, _getter = _Setter(), _Getter()


def inject(span_context: SpanContext, carrier: MutableMapping[str, str], propagator: TextMapPropagator) -> None:
    """Put a span context into a mapping, by the propagator."""
    propagator.inject(carrier, span_context.otel_context(), _setter)


def extract(carrier: Mapping[Any, Any], propagator: TextMapPropagator) -> SpanContext | None:
    """Return the span context that a mapping holds, or its baggage alone, or ``None`` if it can't be read."""
    try:
        context = propagator.extract(_readable(carrier), Context(), _getter)
    except Exception:  # whatever strangers send: it begins a new trace
        return None
    is_empty = not trace.get_current_span(context).get_span_context().is_valid and not baggage.get_all(context)
    return None if is_empty else SpanContext(context)


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


def _readable(carrier: Mapping[Any, Any]) -> dict[str, list[str]]:
    """Return the carrier with names in lower case, but for a Jaeger baggage item's, which is its key as it is."""
    pairs: Iterable[tuple[Any, Any]] = carrier.items()
    readable: dict[str, list[str]] = {}
    for key, value in pairs:
        name = _text(key)
        values = [_text(item) for item in value] if isinstance(value, list | tuple) else [_text(value)]
        readable[name if name.startswith(_JAEGER_BAGGAGE) else name.lower()] = values
    return readable


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
