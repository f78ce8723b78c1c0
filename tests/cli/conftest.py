"""The command as its user runs it, and what it draws."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "opentracing_instrumentation.cli")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command in an empty folder, with arguments and variables of the environment."""
    started: list[subprocess.Popen[str]] = []

    def start_command(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env={**environment(tmp_path), **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start_command
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def command(start: Start) -> Callable[..., tuple[int, str, str]]:
    """Runs the command to its end. Returns its exit code and what it wrote to standard output and standard error."""

    def run_command(*arguments: str, given: str = "", **variables: str) -> tuple[int, str, str]:
        process = start(*arguments, **variables)
        output, errors = process.communicate(given, timeout=45)
        return process.returncode, output, errors

    return run_command


def environment(folder: Path) -> Mapping[str, str]:
    """Where the command draws wide lines in Unicode, asks no proxy, and keeps its files in the folder."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OTEL_", "OPENTRACING"))
    }
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "200",
        "TMPDIR": str(temporary),
        "no_proxy": "127.0.0.1",
        "OPENTRACING_INSTRUMENTATION_SQL_TRACE_CONNECTS": "0",  # which request makes a connection, is chance
        "OPENTRACING_INSTRUMENTATION_SQL_CHECKOUT_THRESHOLD": "60",
    }


_LINE = re.compile(r"(?P<guides>(?:[│├└ ] )*)(?P<label>\S.*?) {2,}(?P<service>\S+) +[━╸╺◂ ]+ +[\d.]+ \S+")


def trees(errors: str) -> list[list[tuple[int, str, str]]]:
    """The traces drawn on standard error, each line of one as its depth, service and label; ports are left out."""
    found: list[list[tuple[int, str, str]]] = []
    for line in errors.splitlines():
        if line.startswith("trace "):
            found.append([])
        elif found and (drawn := _LINE.fullmatch(line.rstrip())):
            label = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", drawn["label"])
            found[-1].append((len(drawn["guides"]) // 2, drawn["service"], label))
    return found
