"""Celery: publishing a task down to the producer, and running one as a worker does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import opentracing
from basictracer.text_propagator import TextPropagator
from opentracing import Format

from .cases import Hook
from .measure import Call

TRACEPARENT = "00-00000000000000005b8aa5a2d2c872e8-051581bf3cb55c13-01"
#: The caller's context in a message's headers, by basictracer's propagator and by OpenTelemetry's.
CALLER = {
    "ot-tracer-traceid": "5b8aa5a2d2c872e8",
    "ot-tracer-spanid": "051581bf3cb55c13",
    "ot-tracer-sampled": "true",
    "traceparent": TRACEPARENT,
}


class Celery(Hook):
    """What both cases have in common."""

    hook, instrumentor = "celery", "celery:CeleryInstrumentor"

    def __init__(self, stack: ExitStack) -> None:
        import celery

        app = celery.Celery("bench", broker="memory://", set_as_current=False)
        app.conf.task_ignore_result = True

        @app.task(name="work", shared=False)
        def work() -> None:
            pass

        app.finalize()
        self.app, self.task = app, app.tasks["work"]
        self.call = self.prepared()

    def prepared(self) -> Call:
        """Give the call."""
        raise NotImplementedError

    @contextmanager
    def ours(self) -> Iterator[Call]:
        tracer = opentracing.tracer
        if hasattr(tracer, "register_propagator"):
            tracer.register_propagator(Format.TEXT_MAP, TextPropagator())
        with super().ours() as call:
            yield call


class CeleryPublish(Celery):
    """``delay``, with a producer that sends nothing."""

    name, ratio, idle = "celery publish", 0.3, 2

    def prepared(self) -> Call:
        class Connection:
            def _reraise_as_library_errors(self) -> Any:
                return nullcontext()

        class Producer:
            connection = Connection()

            def publish(self, *_: Any, **__: Any) -> None:
                pass

        producer = Producer()
        return lambda: self.task.apply_async(producer=producer)


class CeleryRun(Celery):
    """A run, from the message's headers to the state of the task."""

    name, ratio, idle, has_parent = "celery run", 0.3, 2, False

    def prepared(self) -> Call:
        from celery.app.trace import build_tracer

        request = {
            "id": "5b8aa5a2-d2c8-72e8",
            "task": "work",
            "retries": 0,
            "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False},
            "reply_to": "",
            "correlation_id": "5b8aa5a2-d2c8-72e8",
            "hostname": "worker@example",
            "parent_span_context": CALLER,
            "parent_span_published": 1.0,
            "traceparent": TRACEPARENT,
        }
        run = build_tracer("work", self.task, app=self.app)
        return lambda: run("5b8aa5a2-d2c8-72e8", (), {}, request)
