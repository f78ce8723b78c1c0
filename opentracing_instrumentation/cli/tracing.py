"""What happens in a traced process before the program begins: hooks are armed, and a tracer is set."""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import opentracing

from .. import client_hooks
from .._core.registry import Hook
from ..config import CONFIG
from . import servers
from .plan import Plan
from .sender import Sender, program_name
from .tracer import Tracer


def hooks() -> Iterator[Hook]:
    """Return all hooks there are: of clients, built in and third party, and of servers."""
    yield from client_hooks.hooks()
    yield from servers.hooks()


def start_from_environment() -> None:
    """Begin to trace this process as the environment asks; nothing if it does not."""
    plan = Plan.of(os.environ)
    if plan is not None:
        start(plan)


def start(plan: Plan) -> None:
    """Begin to trace this process. Imports no library that is traced, but whatever the plan's tracer needs.

    Raises:
        Exception: what the tracer's factory, or importing it, raises.
    """
    for hook in hooks():
        if wanted(hook, plan):
            hook.install()
    set_tracer(plan)


def wanted(hook: Hook, plan: Plan) -> bool:
    """Tell whether a hook is to be installed, by the plan and by the settings."""
    return plan.wants(hook.name) and hook.name not in CONFIG.disabled_hooks


def set_tracer(plan: Plan) -> None:
    """Set the global tracer, or OpenTelemetry's provider below it, that the plan asks for.

    Raises:
        ImportError: the module of a tracer, or OpenTelemetry, can't be imported.
        ValueError: it is none.
    """
    if plan.tracer is not None:
        opentracing.set_global_tracer(made_tracer(plan.tracer, plan.folder))
    elif plan.exporter != "console":
        set_up_opentelemetry(plan)
    elif plan.socket is not None:
        sender = Sender(plan.socket, lambda: plan.service or CONFIG.app_name or program_name())
        opentracing.set_global_tracer(Tracer(sender.began, sender.ended))
        _close_at_exit(sender, plan.main)


def _close_at_exit(sender: Sender, main: int | None) -> None:
    """Have the program's first process wait for its last trace; those forked from it have nobody waiting for them."""

    def close() -> None:
        if os.getpid() == main:
            sender.close()

    atexit.register(close)


def made_tracer(name: str, folder: str) -> Any:
    """Call the factory of a tracer.

    Args:
        name: "module:factory", the factory a function without arguments.
        folder: the module is looked for there, too, as the program's own folder is not on its path yet.

    Raises:
        ImportError: the module can't be imported.
        ValueError: the name leads to no function, or that makes no ``opentracing.Tracer``.
    """
    module_name, _, path = name.partition(":")
    sys.path.append(folder)
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part, None)
        if not callable(found):
            raise ValueError(f"{name}: accepted is module:factory, with a function that makes a tracer")
        tracer = found()
    finally:
        sys.path.remove(folder)
    if not isinstance(tracer, opentracing.Tracer):
        raise ValueError(f"{name} made no opentracing.Tracer, but {tracer!r}")
    return tracer


def set_up_opentelemetry(plan: Plan) -> None:
    """Set OpenTelemetry's SDK up with the plan's exporter, and the global tracer on it.

    Raises:
        ImportError: it needs what is not installed; the message says what to install.
        ValueError: there is no such exporter.
        RuntimeError: somebody else has set OpenTelemetry up in this process.
    """
    try:
        from ..otel import setup
    except ImportError as missing:
        raise ImportError(
            f'--exporter {plan.exporter} needs OpenTelemetry: pip install "opentracing_instrumentation[otel]"',
            name=missing.name,
        ) from missing
    setup(service_name=plan.service or CONFIG.app_name, exporter=plan.exporter)
