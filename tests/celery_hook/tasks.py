"""The tasks that the tests run, and the worker that runs them in a process of its own.

    python -m tests.celery_hook.tasks CONFIGURATION ARGUMENT...

starts a worker with Celery's own arguments. CONFIGURATION is a JSON object: `broker`, `backend`, `queue`, and the
`folder` for what the worker leaves behind: its finished spans, and the file `ready` once it takes tasks.
"""

from __future__ import annotations

import json
import sys

if __name__ == "__main__" and "gevent" in sys.argv:
    from gevent import monkey

    monkey.patch_all()

import os
import signal
import time
from pathlib import Path
from typing import Any

import opentracing
from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.signals import worker_ready

from opentracing_instrumentation import get_current_span


def make_app(broker: str, backend: str | None = None, queue: str = "celery") -> Celery:
    """Return an application with all tasks."""
    app = Celery("shop", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        result_expires=600,
        accept_content=["json"],
    )
    for options, function in TASKS:
        app.task(function, name=f"shop.{function.__name__}", shared=False, **options)
    app.finalize()
    return app


def add(x: int, y: int) -> int:
    return x + y


def fail(message: str) -> None:
    raise ValueError(message)


def ignored() -> None:
    raise Ignore


def rejected() -> None:
    raise Reject("no use", requeue=False)


def unlucky(self: Any, times: int) -> int:
    """Fail so many times, and retry each time."""
    if self.request.retries < times:
        raise self.retry(exc=LookupError("not yet"), countdown=0)
    return int(self.request.retries)


def replaced(self: Any, x: int) -> None:
    self.replace(self.app.signature("shop.add", (x, 1)))


def nest(self: Any, number: int, pause: float) -> int:
    """Publish a task while others run."""
    time.sleep(pause)
    self.app.send_task("shop.add", (number, 0))
    time.sleep(pause)
    return number


def sleep(seconds: float) -> str:
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "cut short"
    return "slept"


def oversleep(seconds: float) -> None:
    time.sleep(seconds)


def die(first: str) -> str:
    """Kill the process that runs the task, unless the file is there."""
    if Path(first).exists():
        return "survived"
    Path(first).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def die_late(first: str) -> str:
    return die(first)


def baggage(key: str) -> str | None:
    return get_current_span().get_baggage_item(key)  # type: ignore[no-any-return]


def leave_open() -> bool:
    """Make spans current, and forget them; tell whether the task's own was."""
    current = get_current_span()
    for name in "forgotten", "too":
        opentracing.tracer.start_active_span(name, finish_on_close=True)
    return current is not None


def collect(items: list[Any]) -> int:
    return sum(items)


def process() -> int:
    return os.getpid()


BOUND = {"bind": True}
TASKS: list[tuple[dict[str, Any], Any]] = [
    ({}, add),
    ({}, fail),
    ({}, ignored),
    ({}, rejected),
    ({**BOUND, "max_retries": 2}, unlucky),
    (BOUND, replaced),
    (BOUND, nest),
    ({}, sleep),
    ({}, oversleep),
    ({}, die),
    ({"acks_late": True, "reject_on_worker_lost": True}, die_late),
    ({}, baggage),
    ({}, leave_open),
    ({}, collect),
    ({}, process),
]


def main(configuration: str, *arguments: str) -> None:
    from examples.shop.tracing import init_tracer
    from opentracing_instrumentation.client_hooks import celery as hook

    settings = json.loads(configuration)
    folder = Path(settings["folder"])
    init_tracer("worker", folder)
    hook.install_patches()
    app = make_app(settings["broker"], settings["backend"], settings["queue"])
    worker_ready.connect(lambda **_: (folder / "ready").touch(), weak=False)
    name = f"--hostname={settings['queue']}@localhost"
    app.worker_main(["worker", name, "--loglevel=WARNING", "--without-gossip", "--without-mingle", *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
