"""What the doctor finds out about the tracer that is asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import opentracing
from opentracing import Format, UnsupportedFormatException
from opentracing.scope_managers import ThreadLocalScopeManager

from . import tracing
from .plan import Plan
from .tracer import Tracer

_FORMATS = (Format.TEXT_MAP, Format.HTTP_HEADERS, Format.BINARY)


@dataclass(frozen=True)
class TracerReport:
    """A tracer.

    Arguments: its class; that of its scope manager; by the name of each format of propagation the headers that it
    writes, None where it does not support it; the names of `threads` that it has started and that a forked process
    lacks; whether its scopes are kept per thread, whatever task runs there.
    """

    tracer: str
    scope_manager: str
    propagation: dict[str, list[str] | None]
    threads: list[str]
    per_thread: bool


def examine(plan: Plan) -> TracerReport:
    """Make the plan's tracer and look at it; the global tracer stays as it is.

    Raises:
        Exception: what the tracer's factory, or importing it, raises.
    """
    before, present = set(threading.enumerate()), opentracing.tracer
    try:
        tracing.set_tracer(plan)
        asked = plan.tracer is not None or plan.exporter != "console"
        tracer = opentracing.tracer if asked else Tracer(_ignore, _ignore)
    finally:
        opentracing.tracer = present
    started = [thread for thread in threading.enumerate() if thread not in before]
    return TracerReport(
        tracer=_name(tracer),
        scope_manager=_name(tracer.scope_manager),
        propagation={form: _propagation(tracer, form) for form in _FORMATS},
        threads=[thread.name for thread in started if _is_lost_in_fork(thread)],
        per_thread=isinstance(tracer.scope_manager, ThreadLocalScopeManager),
    )


def _ignore(_span: Any) -> None:
    """Take no notice of a span."""


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _propagation(tracer: Any, form: str) -> list[str] | None:
    """What the tracer writes into a carrier of this format. The span for that is never finished, and so never seen."""
    carrier: Any = bytearray() if form == Format.BINARY else {}
    try:
        tracer.inject(tracer.start_span("doctor").context, form, carrier)
    except UnsupportedFormatException:
        return None
    return [f"{len(carrier)} bytes"] if isinstance(carrier, bytearray) else sorted(carrier)


def _is_lost_in_fork(thread: threading.Thread) -> bool:
    """Fork, and see whether a tracer that had this thread has as many threads of that name in the child."""
    name = thread.name
    child = os.fork()
    if not child:
        os._exit(any(each.name == name for each in threading.enumerate()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def warnings(report: TracerReport | None) -> Iterator[str]:
    """Say which traps lie in a tracer."""
    if report is None:
        return
    if report.per_thread:
        yield (
            f"{report.scope_manager} knows threads only: in an asyncio program it mixes up the spans of tasks;"
            " opentracing.scope_managers.contextvars.ContextVarsScopeManager does not"
        )
    if report.threads:
        yield (
            f"{report.tracer} has threads ({', '.join(report.threads)}) that a forked process lacks: under gunicorn or"
            " a Celery prefork worker make the tracer after the fork (post_fork, worker_process_init)"
        )
