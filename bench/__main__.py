"""The command: measures the cases, prints a table or JSON, and fails when a budget is broken."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from .results import Result, measure
from .suite import CASES

ROUNDS, QUICK_ROUNDS = 300, 60
BLOCK = 0.002  # seconds
CAPTION = "Microseconds: of the call itself, and what tracing adds to it; in brackets, budgets for this machine."

PACKAGES = (
    "opentracing_instrumentation",
    "basictracer",
    "opentracing",
    "wrapt",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation",
    "requests",
    "SQLAlchemy",
    "psycopg2-binary",
    "mysqlclient",
    "redis",
    "celery",
    "boto3",
    "tornado",
)


def circumstances(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the command and the versions that a measurement depends on."""
    return {
        "command": shlex.join(["python", "-m", "bench", *arguments]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {package: number for package in PACKAGES if (number := _version(package))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # not needed by the cases that were asked for
        return None


def as_json(results: Sequence[Result], about: dict[str, Any]) -> str:
    """Return everything as JSON; costs are in microseconds per call."""
    cases = [{**asdict(result), "ratio": result.ratio, "over": result.over} for result in results]
    return json.dumps({**about, "cases": cases}, indent=2)


def print_table(results: Sequence[Result], about: dict[str, Any], console: Console) -> None:
    """Print the results, readable on 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=CAPTION)
    for title in "case", "call", "ours", "theirs", "ratio", "no tracer", "":
        table.add_column(title, justify="left" if title in ("case", "") else "right", no_wrap=True)
    for result in results:
        table.add_row(
            result.name,
            *(f"{microseconds:.1f}" for microseconds in (result.bare, result.ours, result.theirs)),
            _judged(f"{result.ratio:.2f} ({result.ratio_budget:g})", "ratio" in result.over),
            _judged(f"{result.idle:.2f} ({result.idle_budget:.1f})", "idle" in result.over),
            _judged("over" if result.over else "ok", bool(result.over)),
        )
    console.print(about["command"], "-", about["python"], "-", about["machine"], highlight=False)
    console.print(", ".join(f"{name} {number}" for name, number in about["packages"].items()), highlight=False)
    console.print(table)


def _judged(text: str, is_over: bool) -> Text:
    return Text(text, "red" if is_over else "green")


@click.command()
@click.option("--only", multiple=True, type=click.Choice([case.name for case in CASES]), help="Measure this case only.")
@click.option("--quick", is_flag=True, help="A fifth of the rounds: seconds instead of a minute, and less exact.")
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON instead of a table.")
def main(only: tuple[str, ...], quick: bool, json_wanted: bool) -> None:
    """Measure what our hooks add to a call, beside OpenTelemetry's; the exit code is 1 if a budget is broken."""
    cases = [case for case in CASES if not only or case.name in only]
    rounds = QUICK_ROUNDS if quick else ROUNDS
    progress = track(cases, "Measuring", console=Console(stderr=True), transient=True)
    results = [measure(case, rounds, BLOCK) for case in progress]
    about = circumstances(sys.argv[1:])
    if json_wanted:
        click.echo(as_json(results, about))
    else:
        print_table(results, about, Console())
    sys.exit(any(result.over for result in results))


if __name__ == "__main__":
    main(prog_name="python -m bench")
