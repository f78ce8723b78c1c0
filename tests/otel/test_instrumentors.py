"""Code written for OpenTelemetry's instrumentors runs with ours."""

from __future__ import annotations

import logging

import opentracing
import pytest
import sqlalchemy
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.shim.opentracing_shim import create_tracer
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import BUILT_IN
from opentracing_instrumentation.otel import Tracer, instrumentors
from opentracing_instrumentation.otel.instrumentors import Instrumentor, RequestsInstrumentor, SQLAlchemyInstrumentor

from .spans import tree


def test_every_hook_has_its_instrumentor() -> None:
    """One class for each hook of this package."""
    classes = [kind for kind in vars(instrumentors).values() if isinstance(kind, type)]
    names = [kind.hook for kind in classes if issubclass(kind, Instrumentor) and kind is not Instrumentor]
    assert set(BUILT_IN) <= set(names)
    assert len(names) == len(set(names))
    for name in names:
        instrumentors.resolve_name(f"opentracing_instrumentation.client_hooks.{name}")


def test_there_and_back(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """Below a native span a query is traced, until another instance of the class turns that off."""
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.NullPool)
    SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=provider)
    assert SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry
    with provider.get_tracer("native").start_as_current_span("native"), engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        SQLAlchemyInstrumentor().uninstrument()
        connection.exec_driver_sql("SELECT 2")
    assert not SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry
    assert tree(exporter.get_finished_spans()) == ["native", ["connect", "SELECT"]]


def test_a_tracer_of_the_shim_is_replaced(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours begins its spans by the same tracer of OpenTelemetry's."""
    shim = create_tracer(provider)
    monkeypatch.setattr(opentracing, "tracer", shim)
    RequestsInstrumentor().instrument()
    assert isinstance(opentracing.tracer, Tracer)
    assert opentracing.tracer.unwrap() is shim.unwrap()


def test_another_tracer_stays(provider: TracerProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever has set one is told that the provider is not used, and which arguments are not."""
    opentracing.tracer = mock = MockTracer()
    with caplog.at_level(logging.WARNING):
        RequestsInstrumentor().instrument(tracer_provider=provider, excluded_urls="x", meter_provider=None)
    assert opentracing.tracer is mock
    assert [record.getMessage() for record in caplog.records] == [
        "RequestsInstrumentor: the tracer that is set stays; tracer_provider has no effect",
        "RequestsInstrumentor: excluded_urls, meter_provider: no effect on this hook",
    ]


def test_what_it_depends_on() -> None:
    """The library and its versions, as requirements are written."""
    (requirement,) = RequestsInstrumentor().instrumentation_dependencies()
    assert requirement.startswith("requests >=")
