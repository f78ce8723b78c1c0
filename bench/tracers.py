"""The two tracers that are compared, each as light as it comes: spans are recorded and dropped when they finish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import opentracing
from basictracer import BasicTracer
from basictracer.recorder import SpanRecorder
from basictracer.text_propagator import TextPropagator
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentracing import Format
from opentracing.scope_managers.contextvars import ContextVarsScopeManager

#: OpenTelemetry's hooks measure durations besides; no such meter is at work, since ours have none.
METERS = NoOpMeterProvider()


@contextmanager
def opentracing_tracer(recorder: SpanRecorder | None = None) -> Iterator[BasicTracer]:
    """Have basictracer for the global tracer during a block.

    Args:
        recorder: what gets the finished spans; by default nobody does.
    """
    tracer = BasicTracer(recorder, scope_manager=ContextVarsScopeManager())
    for carrier in Format.TEXT_MAP, Format.HTTP_HEADERS:
        tracer.register_propagator(carrier, TextPropagator())
    with _global_tracer(tracer):
        yield tracer


@contextmanager
def no_tracer() -> Iterator[None]:
    """Have the API's own no-op for the global tracer during a block, as in a service that has set none."""
    with _global_tracer(opentracing.Tracer()):
        yield


@contextmanager
def _global_tracer(tracer: opentracing.Tracer) -> Iterator[None]:
    before = opentracing.tracer
    opentracing.tracer = tracer
    try:
        yield
    finally:
        opentracing.tracer = before


def opentelemetry_provider(*processors: SpanProcessor) -> TracerProvider:
    """Return a provider of the OpenTelemetry SDK with its default sampler, which samples what its parent does."""
    provider = TracerProvider(shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider
