"""An OpenTelemetry SDK that keeps its spans, and our tracer on top of it."""

from __future__ import annotations

from collections.abc import Iterator

import opentracing
import pytest
from opentelemetry import context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opentracing_instrumentation.otel import Tracer


@pytest.fixture(autouse=True)
def empty_context() -> Iterator[None]:
    """No test begins in the context that another has left, and none leaves one."""
    before = context.get_current()
    context.attach(context.Context())
    yield
    context.attach(before)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """What keeps finished spans."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    """The SDK, which samples whatever its parent does."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def tracer(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """Our tracer, in force."""
    tracer = Tracer(provider)
    monkeypatch.setattr(opentracing, "tracer", tracer)
    return tracer
