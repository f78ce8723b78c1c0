"""OpenTelemetry behind OpenTracing's interface: :class:`Tracer` for any set-up, :func:`setup` for a program without."""

from .span import Span, SpanContext
from .tracer import Tracer

__all__ = ["Span", "SpanContext", "Tracer"]
