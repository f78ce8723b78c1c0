"""Code written for OpenTelemetry's instrumentors runs with ours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import opentracing
import psycopg2
import pytest
import sqlalchemy
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.shim.opentracing_shim import create_tracer
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation import sqlcommenter
from opentracing_instrumentation.client_hooks import BUILT_IN
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.otel import Tracer, instrumentors
from opentracing_instrumentation.otel.instrumentors import (
    Instrumentor,
    Psycopg2Instrumentor,
    RequestsInstrumentor,
    SQLAlchemyInstrumentor,
    URLLibInstrumentor,
)
from tests.services import Service

from .spans import tree


def test_every_hook_has_its_instrumentor() -> None:
    """One class for each hook of this package."""
    classes = {kind for kind in vars(instrumentors).values() if isinstance(kind, type)}
    names = [kind.hook for kind in classes if issubclass(kind, Instrumentor) and hasattr(kind, "hook")]
    assert set(BUILT_IN) <= set(names)
    assert len(names) == len(set(names))
    for name in names:
        instrumentors.resolve_name(f"opentracing_instrumentation.client_hooks.{name}")


def test_there_and_back(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """Below a native span a query is traced, until another instance of the class turns that off."""
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.NullPool)
    SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=provider)
    assert SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry
    with provider.get_tracer("native").start_as_current_span("native"), engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        SQLAlchemyInstrumentor().uninstrument()
        connection.exec_driver_sql("SELECT 2")
    assert not SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry
    assert tree(exporter.get_finished_spans()) == ["native", ["connect", "SELECT"]]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_drivers_comment_their_statements(
    provider: TracerProvider, service: Callable[[str], Service], enabled: bool
) -> None:
    """The arguments of comments are those of OpenTelemetry's instrumentor."""
    options = {"db_driver": False, "route": "/orders"}
    Psycopg2Instrumentor().instrument(
        tracer_provider=provider, enable_commenter=enabled, commenter_options=options, enable_attribute_commenter=False
    )
    connection = psycopg2.connect(service("postgresql").url)
    with provider.get_tracer("native").start_as_current_span("native"), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        sent = sqlcommenter.parse(cursor.query.decode())
        Psycopg2Instrumentor().uninstrument()
        cursor.execute("SELECT 2")
        assert cursor.query == b"SELECT 2"
    connection.close()
    assert sent.keys() == ({"route", "traceparent"} if enabled else set())


def sent_by(engine: Any, statement: str) -> str:
    """Execute a statement; return what the driver was given."""
    sent: list[str] = []
    with engine.connect() as connection:
        connection.connection.set_trace_callback(sent.append)
        connection.exec_driver_sql(statement)
    return sent[0]


def test_engines_one_by_one(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """Each call adds its engines, with options of their own."""
    one, two, three = (sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.NullPool) for _ in range(3))
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(engine=one, tracer_provider=provider)
    options = {"opentelemetry_values": False, "service": "shop"}
    instrumentor.instrument(engines=[two], enable_commenter=True, commenter_options=options)
    with provider.get_tracer("native").start_as_current_span("native"):
        sent = [sent_by(engine, "SELECT 1") for engine in (one, two, three)]
    instrumentor.uninstrument()
    assert tree(exporter.get_finished_spans()) == ["native", ["connect", "SELECT", "connect", "SELECT"]]
    assert ["service='shop'" in statement for statement in sent] == [False, True, False]


def test_comments_for_all_engines(provider: TracerProvider) -> None:
    """Without an engine, options of comments are for all that have none of their own."""
    options = {"service": "shop"}
    SQLAlchemyInstrumentor().instrument(tracer_provider=provider, enable_commenter=True, commenter_options=options)
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.NullPool)
    assert "service='shop'" in sent_by(engine, "SELECT 1")
    SQLAlchemyInstrumentor().uninstrument()
    assert sent_by(engine, "SELECT 1") == "SELECT 1"


def test_the_provider_of_the_tracer_that_is_set(provider: TracerProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Instrumentors that are all given the same one agree."""
    for kind in RequestsInstrumentor, URLLibInstrumentor:
        kind().instrument(tracer_provider=provider)
        kind().uninstrument()
    assert caplog.records == []


def test_captured_parameters(provider: TracerProvider, caplog: pytest.LogCaptureFixture) -> None:
    """They are a setting of all hooks."""
    Psycopg2Instrumentor().instrument(tracer_provider=provider, capture_parameters=True)
    assert CONFIG.capture_sql_parameters is True
    Psycopg2Instrumentor().uninstrument()
    assert caplog.records == []


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
        RequestsInstrumentor().instrument(tracer_provider=provider, semconv="x", meter_provider=NoOpMeterProvider())
    assert opentracing.tracer is mock
    assert [record.getMessage() for record in caplog.records] == [
        "RequestsInstrumentor: the tracer that is set stays; tracer_provider has no effect",
        "RequestsInstrumentor: meter_provider, semconv: no effect on this hook",
    ]


def test_what_it_depends_on() -> None:
    """The library and its versions, as requirements are written."""
    (requirement,) = RequestsInstrumentor().instrumentation_dependencies()
    assert requirement.startswith("requests >=")
