"""The example shop, run as its reader runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from examples.shop.__main__ import running
from examples.shop.tracing import read_spans
from opentracing_instrumentation.cli.waterfall import SpanRecord, to_json

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(tmp_path):
    """Starts the example, with its temporary files below `tmp_path`."""
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    environ["OPENTRACING_INSTRUMENTATION_SQL_CHECKOUT_THRESHOLD"] = "60"  # a busy machine makes waits out of nothing
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "examples.shop", *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def services(folder):
    """The command lines of the services that keep their files below the folder."""
    commands = subprocess.run(["ps", "-axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in commands.splitlines() if "examples.shop." in line and str(folder) in line]


def await_that(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def tree(spans, parent_id=None):
    """What a trace is made of: (service, kind, name, has it failed, what lies below), in order of time."""
    return [
        (span.service, span.kind, span.name, span.error is not None, tree(spans, span.span_id))
        for span in sorted(spans, key=lambda span: span.start)
        if span.parent_id == parent_id
    ]


def test_each_order_is_one_trace_through_all_three_processes(demo, tmp_path):
    output, errors = demo("--json").communicate(timeout=50)
    traces = {}
    for span in map(SpanRecord.of, sorted(json.loads(output), key=lambda span: span["start"])):
        traces.setdefault(span.trace_id, []).append(span)
    placed, refused = map(tree, traces.values())
    assert placed == [
        ("browser", None, "place order", False, [
            ("browser", "client", "POST", False, [
                ("shop", "server", "POST", False, [
                    ("shop", "client", "SQL SELECT", False, []),
                    ("shop", "client", "POST", False, [
                        ("inventory", "server", "POST", False, [
                            ("inventory", "client", "SQL INSERT", False, []),
                            ("inventory", "client", "SQL UPDATE", False, []),
                        ]),
                    ]),
                    ("shop", "client", "SQL INSERT", False, []),
                ]),
            ]),
        ]),
    ]  # fmt: skip
    assert refused == [
        ("browser", None, "place order", True, [
            ("browser", "client", "POST", False, [
                ("shop", "server", "POST", True, [
                    ("shop", "client", "SQL SELECT", False, []),
                    ("shop", "client", "POST", False, [
                        ("inventory", "server", "POST", True, [
                            ("inventory", "client", "SQL INSERT", False, []),
                            ("inventory", "client", "SQL UPDATE", True, []),
                        ]),
                    ]),
                ]),
            ]),
        ]),
    ]  # fmt: skip
    assert (errors, services(tmp_path), list(tmp_path.iterdir())) == ("", [], [])


def test_it_draws_both_traces(demo):
    process = demo()
    output, _errors = process.communicate(timeout=50)
    lines = output.splitlines()
    assert [line.split(" · ")[1:4] for line in lines if line.startswith("trace ")] == [
        ["9 spans", "3 services", lines[0].split(" · ")[3]],
        ["8 spans", "3 services", "4 errors"],
    ]
    assert "            IntegrityError: CHECK constraint failed: in_stock" in lines
    assert max(map(len, lines)) == 80
    assert process.returncode == 0


def test_an_interrupt_leaves_neither_a_process_nor_a_file(demo, tmp_path):
    process = demo()
    await_that(lambda: services(tmp_path))
    process.send_signal(signal.SIGINT)
    output, _errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (1, "")
    assert (services(tmp_path), list(tmp_path.iterdir())) == ([], [])


def test_the_services_do_not_outlive_the_one_that_started_them(demo, tmp_path):
    process = demo()
    await_that(lambda: services(tmp_path))
    process.kill()
    await_that(lambda: not services(tmp_path))


def test_a_service_that_does_not_start_tells_why(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with (
        pytest.raises(click.ClickException, match=r"the bank did not start:\n.*No module named examples.shop.bank"),
        running("bank", tmp_path),
    ):
        pass


def test_a_line_that_was_cut_off_is_no_span(tmp_path):
    span = SpanRecord("1", "1", name="whole")
    line = json.dumps(json.loads(to_json([span]))[0])
    (tmp_path / "shop.spans").write_text(f"{line}\n{line[:20]}")
    assert read_spans(tmp_path) == [span]
