"""OpenTelemetry behind OpenTracing's interface: :class:`Tracer` for any set-up, :func:`setup` for a program without."""

from __future__ import annotations

from typing import Any

from .span import Span, SpanContext
from .tracer import Tracer

__all__ = ["Span", "SpanContext", "Tracer", "setup"]

try:
    from .sdk import setup
except ModuleNotFoundError as missing:
    if not str(missing.name).startswith("opentelemetry.sdk"):
        raise

    def setup(*_: Any, **__: Any) -> Tracer:  # type: ignore[misc]
        """Say what is missing: all else works with OpenTelemetry's API alone."""
        raise ImportError('setup() needs OpenTelemetry\'s SDK: pip install "opentracing_instrumentation[otel]"')
