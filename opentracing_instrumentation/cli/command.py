"""The command `opentracing-instrument`: its options, and nothing of what they do."""

from __future__ import annotations

import json
import os
from typing import Any

try:
    import click
except ImportError as missing:
    raise ImportError(
        'opentracing-instrument needs click: pip install "opentracing_instrumentation[cli]"', name=missing.name
    ) from missing

from .plan import Plan


def _names(_context: Any, _parameter: Any, text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _shared(function: Any) -> Any:
    """The options by which the two commands agree on what is asked for."""
    options = [
        click.option("--service-name", "service", metavar="NAME", help="What the spans say they come from."),
        click.option(
            "--exporter",
            default="console",
            envvar="OTEL_TRACES_EXPORTER",
            show_default=True,
            show_envvar=True,
            metavar="NAME",
            help="console draws each trace on standard error; otlp, none and others are OpenTelemetry's.",
        ),
        click.option("--hooks", callback=_names, metavar="A,B", help="Install these hooks only."),
        click.option("--disable", callback=_names, metavar="C,D", help="Leave these hooks out."),
        click.option("--tracer", metavar="MODULE:FACTORY", help="Call this function for the tracer to use."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _plan(disable: tuple[str, ...] | None, **options: Any) -> Plan:
    return Plan(folder=os.getcwd(), disable=disable or (), **options)


# No option has a short name: those before a program are Python's own, and many of them may stand in one word.
@click.group()
@click.version_option(package_name="opentracing_instrumentation")
def main() -> None:
    """See what a Python program does, without a change to its code."""


@main.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_shared
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND with every hook installed, in its children, too.

    COMMAND is a script, -m and a module, or any program that is started by Python, with its arguments.
    """
    from .run import run

    run(_plan(**options), command)


@main.command()
@_shared
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool, **options: Any) -> None:
    """Tell what is traced here, and what is not and why.

    Takes the options of `run`. The exit code is 1 when something asked for does not work.
    """
    from .doctor import examine
    from .report import show
    from .run import check_hooks

    plan = _plan(**options)
    check_hooks(plan)
    diagnosis = examine(plan)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), indent=2))
    else:
        show(diagnosis)
    raise SystemExit(1 if diagnosis.problems else 0)
