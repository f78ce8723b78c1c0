"""The tracer of each process: basictracer, its finished spans as lines of JSON in a file.

A service of yours has the tracer of your choice here; nothing else in the example knows which.
"""

import json
import threading
from dataclasses import asdict
from pathlib import Path

import opentracing
from basictracer import BasicTracer
from basictracer.recorder import SpanRecorder
from basictracer.text_propagator import TextPropagator
from opentracing.scope_managers.contextvars import ContextVarsScopeManager

from opentracing_instrumentation.cli.waterfall import SpanRecord


def init_tracer(service: str, folder: Path) -> None:
    """Make a tracer the global one. It appends what it finishes to `<service>.spans` in the folder."""
    tracer = BasicTracer(FileRecorder(service, folder), scope_manager=ContextVarsScopeManager())
    for carrier in opentracing.Format.TEXT_MAP, opentracing.Format.HTTP_HEADERS:
        tracer.register_propagator(carrier, TextPropagator())
    opentracing.set_global_tracer(tracer)


class FileRecorder(SpanRecorder):
    """Keeps finished spans, one per line; may be called from any thread."""

    def __init__(self, service: str, folder: Path) -> None:
        self.service = service
        self.path = folder / f"{service}.spans"
        self.lock = threading.Lock()

    def record_span(self, span: opentracing.Span) -> None:
        line = json.dumps(asdict(SpanRecord.of(span, self.service)))
        with self.lock, self.path.open("a", encoding="ascii") as file:
            file.write(line + "\n")


def read_spans(folder: Path) -> list[SpanRecord]:
    """The spans of all processes; a line that its process did not live to end is left out."""
    texts = [path.read_text(encoding="ascii") for path in sorted(folder.glob("*.spans"))]
    lines = [line for text in texts for line in text.split("\n")[:-1]]
    return [SpanRecord.of(json.loads(line)) for line in lines]
