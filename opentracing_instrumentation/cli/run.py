"""`opentracing-instrument run`: from a command line to a traced program in this process's place."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from . import collector, startup, tracing
from .plan import VARIABLE, Plan
from .records import SpanRecord
from .waterfall import render

#: The folder whose sitecustomize begins the tracing.
_STARTUP = str(Path(startup.__file__).parent)


def run(plan: Plan, command: Sequence[str]) -> None:
    """Replace this process by a program, traced; never returns.

    Args:
        plan: how to trace it.
        command: the program and its arguments; a script, or options of Python's own, such as ``-m``, mean this Python.

    Raises:
        click.ClickException: the plan can't be carried out, or there is no such program.
    """
    check_hooks(plan)
    path, arguments = program(command)
    if plan.tracer is None:
        if plan.exporter == "console":
            plan = replace(plan, main=os.getpid(), socket=_start_collector())
        else:
            _try_opentelemetry(plan)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(path, arguments, traced_environment(plan, os.environ))
    except OSError as error:
        raise _NotStarted(f"{path}: {error.strerror}") from error


def check_hooks(plan: Plan) -> None:
    """Raise a usage error for hooks that there are not."""
    known = [hook.name for hook in tracing.hooks()]
    unknown = [name for name in (*(plan.hooks or ()), *plan.disable) if name not in known]
    if unknown:
        raise click.UsageError(f"no such hook: {', '.join(unknown)}; there are {', '.join(known)}")


def program(command: Sequence[str]) -> tuple[str, list[str]]:
    """The file to execute, and its arguments from the zeroth on.

    Commands are those beside this Python first, so that they are of the same environment, then those on the path.

    Raises:
        click.ClickException: there is none; its exit code is a shell's, 127.
    """
    first = command[0]
    if first.startswith("--"):
        raise click.UsageError(f"no such option: {first}")
    if first.startswith("-") or (first.endswith((".py", ".pyc")) and os.path.isfile(first)):
        return sys.executable, [sys.executable, *command]
    folders = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    path = shutil.which(first, path=os.pathsep.join(folders))
    if path is None:
        raise _NotFound(f"{first}: there is no such program")
    return path, [path, *command[1:]]  # by its path Python finds its own environment


def traced_environment(plan: Plan, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Python starts as the plan says."""
    others = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry not in ("", _STARTUP)]
    return {**environ, VARIABLE: plan.to_json(), "PYTHONPATH": os.pathsep.join([_STARTUP, *others])}


def _start_collector() -> str:
    try:
        return collector.start(draw)
    except OSError as error:
        raise click.ClickException(f"no socket for the spans of the program: {error}") from error


def _try_opentelemetry(plan: Plan) -> None:
    """Tell a mistake before the program runs, rather than leave it untraced."""
    try:
        tracing.set_up_opentelemetry(plan)
    except (ImportError, RuntimeError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def draw(spans: Iterable[SpanRecord]) -> None:
    """Draw finished traces on standard error, apart from what the program writes there."""
    sys.stderr.write("\n")
    render(spans, file=sys.stderr)
    sys.stderr.flush()


class _NotFound(click.ClickException):
    """There is no such program; the exit codes of this and the next are those of a shell."""

    exit_code = 127


class _NotStarted(click.ClickException):
    """The system does not execute the program."""

    exit_code = 126
