"""Real workers on real brokers, and the traces that they and their callers leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import opentracing
from celery import Celery

from examples.shop.tracing import init_tracer, read_spans
from tests.opentracing_instrumentation.told import Told
from tests.services import Service

from .tasks import make_app

ROOT = Path(__file__).parents[2]
PATIENCE = 20  # seconds

Find = Callable[[str], Service]


class Worker:
    """A worker process with a queue of its own, and an application that publishes to it."""

    def __init__(self, broker: str, backend: str, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self.settings = {"broker": broker, "backend": backend, "queue": f"test-{uuid.uuid4()}", "folder": str(folder)}
        self.app: Celery = make_app(broker, backend, self.settings["queue"])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it takes tasks."""
        command = [sys.executable, "-m", "tests.celery_hook.tasks", json.dumps(self.settings), *self.arguments]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        until(lambda: (self.folder / "ready").exists() or self.process.poll() is not None, self.log)
        assert self.process.poll() is None, self.log()

    def ask_to_stop(self) -> None:
        """Ask the process to end."""
        if self.process is not None:
            self.process.terminate()

    def stop(self) -> None:
        """Wait until the process has ended, and see to it."""
        if self.process is not None:
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.app.close()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        """Publish a task of the application by its name."""
        return self.app.tasks[f"shop.{name}"].apply_async(args, **options)

    def get(self, result: Any) -> Any:
        return result.get(timeout=PATIENCE)

    @contextmanager
    def trace(self, *, baggage: dict[str, str] | None = None) -> Iterator[Trace]:
        """Have a span ``work`` for the current one during the block."""
        init_tracer("client", self.folder)
        span = opentracing.tracer.start_span("work")
        for key, value in (baggage or {}).items():
            span.set_baggage_item(key, value)
        with opentracing.tracer.scope_manager.activate(span, True):
            yield Trace(self, format(span.context.trace_id, "x"))

    def runs(self, task_id: str, count: int = 1) -> list[Told]:
        """Return the runs of a task, whichever trace they belong to."""
        return self.spans(lambda span: _is_run(span, task_id), count)

    def queue_time(self, task_id: str) -> float:
        """Return for how long a task has waited, in seconds."""
        self.runs(task_id)
        (seconds,) = (s.tags["celery.queue_time"] for s in read_spans(self.folder) if _is_run(s, task_id))
        return float(seconds)

    def spans(self, wanted: Callable[[Any], bool], count: int) -> list[Told]:
        """Wait for so many spans; return all that are wanted, in the order of their beginnings."""
        found: list[Any] = []

        def are_there() -> bool:
            found[:] = filter(wanted, read_spans(self.folder))
            return len(found) >= count

        until(are_there, lambda: f"{found}\n{self.log()}")
        time.sleep(0.05)  # for one more, which there must not be
        are_there()
        names = {span.span_id: span.name for span in found}
        return [_told(span, names) for span in sorted(found, key=lambda span: span.start)]


class Trace:
    """What becomes of a ``work`` in all processes."""

    def __init__(self, worker: Worker, trace_id: str) -> None:
        self._worker = worker
        self._id = trace_id

    def spans(self, count: int) -> list[Told]:
        """Return the spans below ``work``, which shall be so many."""
        return self._worker.spans(lambda span: int(span.trace_id, 16) == int(self._id, 16), count + 1)[1:]


def _is_run(span: Any, task_id: str) -> bool:
    return span.kind == "server" and span.tags.get("celery.task_id") == task_id


def _told(span: Any, names: dict[str, str]) -> Told:
    tags = dict(span.tags)
    if "celery.queue_time" in tags:
        assert 0 <= tags.pop("celery.queue_time") < PATIENCE
    parent = names.get(span.parent_id, span.parent_id)
    return {"name": span.name, "parent": parent, "tags": tags, "error": span.error}


def until(happens: Callable[[], bool], told: Callable[[], str]) -> None:
    """Wait for something; say what there is instead if it does not come."""
    end = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < end, told()
        time.sleep(0.02)


def published(name: str, task_id: str, parent: str = "work") -> Told:
    """The span of a task that was published."""
    tags = {"span.kind": "client", "component": "Celery", "celery.task_name": name, "celery.task_id": task_id}
    return {"name": f"Celery:apply_async:{name}", "parent": parent, "tags": tags, "error": None}


def run(name: str, task_id: str, state: str | None = "SUCCESS", **more: Any) -> Told:
    """The span of a run; ``more`` are its parent, its error, and further tags."""
    parent = more.pop("parent", f"Celery:apply_async:{name}")
    error = more.pop("error", None)
    tags = {"span.kind": "server", "component": "Celery", "celery.task_name": name, "celery.task_id": task_id}
    if state is not None:
        tags["celery.state"] = state
    if error is not None:
        tags["error"] = True
    return {"name": f"Celery:run:{name}", "parent": parent, "tags": {**tags, **more}, "error": error}
