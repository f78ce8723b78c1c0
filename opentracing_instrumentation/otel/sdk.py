"""One call that sets OpenTelemetry's SDK up, for a program that has not done so itself."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any

import opentracing
from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentracing.ext import tags as standard

from .._core.safety import report
from .semconv import Translation
from .tracer import Tracer

_EXPORTERS = "opentelemetry_traces_exporter"
_WATERFALL = "opentracing_instrumentation.cli.waterfall:render"
_FLUSH_SECONDS = 5
_MOST_PENDING = 100_000  # spans of traces that have not ended


def setup(service_name: str | None = None, exporter: Any = None, sampler: Any = None) -> Tracer:
    """Set up OpenTelemetry's SDK and make a :class:`Tracer` on it ``opentracing.tracer``.

    Spans are sent in batches by a thread, in processes forked later by one of their own, and when a process ends.

    Args:
        service_name: the service; ``None`` leaves it to ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES``.
        exporter: where spans go: an exporter of the SDK's, or names with commas between: ``"otlp"``, ``"console"``
            for each finished trace as a tree on standard error, ``"none"``, or any that is installed. ``None``
            leaves it to ``OTEL_TRACES_EXPORTER``, which is ``otlp`` by default. The exporter's own settings are the
            variables ``OTEL_EXPORTER_*``.
        sampler: a sampler of the SDK's, or the part of all traces that is recorded, from 0.0 to 1.0. ``None`` leaves
            it to ``OTEL_TRACES_SAMPLER``. The tag ``sampling.priority`` of a span that begins a trace overrides it.

    Returns:
        the tracer.

    Raises:
        RuntimeError: a tracer provider is set already.
        ValueError: there is no such exporter, or no such part of traces.
    """
    present = trace.get_tracer_provider()
    if not isinstance(present, trace.ProxyTracerProvider):
        raise RuntimeError(
            f"OpenTelemetry has a tracer provider already, which setup() would replace ({type(present).__name__}): "
            "use opentracing_instrumentation.otel.Tracer() with it, or call setup() alone"
        )
    processors = _processors(exporter)
    resource = Resource.create({} if service_name is None else {SERVICE_NAME: service_name})
    provider = TracerProvider(sampler=_sampler(sampler), resource=resource, shutdown_on_exit=False)
    provider.sampler = _Prioritizing(provider.sampler)
    for processor in processors:
        provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    atexit.register(provider.shutdown)
    _flush_forked(provider)
    tracer = Tracer(provider)
    opentracing.set_global_tracer(tracer)
    return tracer


def _sampler(wanted: Any) -> Sampler | None:
    if wanted is None or isinstance(wanted, Sampler):
        return wanted
    return ParentBased(TraceIdRatioBased(float(wanted)))


class _Prioritizing(Sampler):
    """Records a span whose tag ``sampling.priority`` asks for it; of any other, leaves the decision to a sampler."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        tags = attributes.tags if isinstance(attributes, Translation) else attributes or {}
        if standard.SAMPLING_PRIORITY in tags:  # greater than 0: else no sampler is asked
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return self._sampler.get_description()


# Exporters


def _processors(exporter: Any) -> list[SpanProcessor]:
    if exporter is None:
        exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if not isinstance(exporter, str):
        return [BatchSpanProcessor(exporter)]
    names = [name.strip() for name in exporter.split(",")]
    return [_processor(name) for name in names if name not in ("", "none")]


def _processor(name: str) -> SpanProcessor:
    if name == "console":
        return _Console(resolve_name(_WATERFALL))
    if name == "otlp":
        variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        protocol = next((os.environ[name] for name in variables if os.environ.get(name)), "http/protobuf")
        name = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}.get(protocol, protocol)
    found = list(entry_points(group=_EXPORTERS, name=name))
    if not found:
        installed = sorted({entry_point.name for entry_point in entry_points(group=_EXPORTERS)})
        raise ValueError(f"there is no exporter {name!r}; there are otlp, console, none and {', '.join(installed)}")
    return BatchSpanProcessor(_PerProcess(found[0].load()))


class _PerProcess(SpanExporter):
    """An exporter that is made anew in each process: connections and locks do not survive a fork."""

    def __init__(self, make: Callable[[], SpanExporter]) -> None:
        self._make = make
        self._exporter = make()
        self._pid = os.getpid()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._pid != os.getpid():
            self._exporter = self._make()
            self._pid = os.getpid()
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        if self._pid == os.getpid():
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._pid != os.getpid() or self._exporter.force_flush(timeout_millis)


class _Console(SpanProcessor):
    """Draws each trace on standard error as soon as its first span of this process has ended; late spans at the end."""

    def __init__(self, render: Callable[..., None]) -> None:
        self._draw = render
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[int, list[ReadableSpan]] = {}
        self._count = 0

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            spans = self._pending.setdefault(span.context.trace_id, [])
            spans.append(span)
            self._count += 1
            if span.parent is None or span.parent.is_remote:
                self._render(self._pending.pop(span.context.trace_id))
            elif self._count > _MOST_PENDING:
                self._render_pending()

    def _render(self, spans: list[ReadableSpan]) -> None:
        self._count -= len(spans)
        try:
            self._draw(spans, file=sys.stderr)
        except Exception as error:  # standard error is closed
            report("drawing a trace", error)

    def _render_pending(self) -> None:
        while self._pending:
            self._render(self._pending.popitem()[1])

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        with self._lock:
            self._render_pending()
        return True

    def shutdown(self) -> None:
        self.force_flush()


# Forked processes


def _flush_forked(provider: TracerProvider) -> None:
    """Have processes that are forked from now on send their last spans even if they end by ``os._exit``.

    That is how the children of ``multiprocessing`` and of Celery's pool end, without any regard to ``atexit``.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(_flush_at_exit, provider))


def _flush_at_exit(provider: TracerProvider) -> None:
    leave = os._exit

    def flush_and_exit(status: int) -> None:
        try:
            provider.force_flush(_FLUSH_SECONDS * 1000)
        except Exception as error:
            report("sending the last spans of a process", error)
        finally:
            leave(status)

    if not hasattr(leave, "flushes"):
        flush_and_exit.flushes = True  # type: ignore[attr-defined]
        os._exit = flush_and_exit  # type: ignore[assignment]
