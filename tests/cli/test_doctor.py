"""`opentracing-instrument doctor`: what it says of hooks, tracers and traps."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from opentracing_instrumentation.cli import doctor
from opentracing_instrumentation.cli.doctor import HookReport

PER_THREAD = "opentracing.scope_managers.ThreadLocalScopeManager"


@pytest.fixture
def module(tmp_path):
    """Writes a module into the folder in which the command runs."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text))

    return write


@pytest.fixture
def examined(command):
    """Runs the doctor with `--json`; returns its exit code and what it says."""

    def examine(*arguments, **variables):
        code, output, errors = command("doctor", "--json", *arguments, **variables)
        assert errors == "", errors
        return code, json.loads(output)

    return examine


def hook(diagnosis, name):
    return next(each for each in diagnosis["hooks"] if each["name"] == name)


def test_a_hook_is_reported_with_its_library_and_each_of_its_targets(examined):
    code, diagnosis = examined("--hooks", "requests,urllib2")
    assert (code, diagnosis["problems"], diagnosis["warnings"]) == (0, [], [])
    reported = hook(diagnosis, "requests")
    assert reported.pop("installed")
    assert reported == {
        "name": "requests",
        "distribution": None,
        "library": "requests",
        "supports": ">=2.27",
        "supported": True,
        "state": "patched",
        "detail": "",
        "targets": [{"target": "requests.adapters:HTTPAdapter.send", "state": "applied", "detail": ""}],
    }
    assert hook(diagnosis, "urllib2")["state"] == "patched"
    assert {each["state"] for each in diagnosis["hooks"]} <= {"patched", "left out", "not installed"}
    assert hook(diagnosis, "sqlalchemy")["state"] == "left out"


def test_the_commands_own_tracer_is_the_default(examined):
    assert examined("--hooks", "requests")[1]["tracer"] == {
        "tracer": "opentracing_instrumentation.cli.tracer.Tracer",
        "scope_manager": "opentracing.scope_managers.contextvars.ContextVarsScopeManager",
        "propagation": {"text_map": ["traceparent"], "http_headers": ["traceparent"], "binary": None},
        "threads": [],
        "per_thread": False,
    }


def test_a_library_that_is_not_installed_is_a_problem_only_if_its_hook_was_asked_for(examined, module):
    """The library is hidden by a finder; nothing of it can be imported."""
    module("sitecustomize.py", """
        import sys

        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "requests":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Hidden())
    """)  # fmt: skip
    path = {"PYTHONPATH": f".:{doctor.__file__.partition('/opentracing_instrumentation/')[0]}"}
    code, diagnosis = examined("--hooks", "requests,urllib2", **path)
    assert (code, diagnosis["problems"]) == (1, ["requests: requests is not installed"])
    assert hook(diagnosis, "requests")["state"] == "not installed"
    assert examined("--disable", "boto3,celery,strict_redis", **path)[0] == 0


def test_a_library_without_any_of_the_targets_is_a_problem(examined, module):
    module("requests/__init__.py", "")
    module("requests/adapters.py", "class HTTPAdapter: pass")
    code, diagnosis = examined("--hooks", "requests")
    reported = hook(diagnosis, "requests")
    assert (code, reported["state"], reported["targets"]) == (
        1,
        "not patched",
        [{"target": "requests.adapters:HTTPAdapter.send", "state": "missing", "detail": "AttributeError: send"}],
    )
    assert diagnosis["problems"][0].endswith("has nothing of what the hook patches")


THIRD = """
    from opentracing_instrumentation._core.patching import Patcher, trace

    class ThirdPatcher(Patcher):
        library, supports = "colours", ">=1.2"

        @trace("colours:mix", "colours:dry")
        def mix(self):
            return None

    ThirdPatcher.configure_hook_module(globals())
"""


@pytest.fixture
def distribution(module):
    """A distribution that brings the hooks `third` and `broken`, and the library of the first."""
    module("third_hooks.py", THIRD)
    module("colours.py", "def mix(): pass")
    module("third_hooks-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: third-hooks\nVersion: 1\n")
    module("third_hooks-1.dist-info/entry_points.txt", """
        [opentracing_instrumentation.client_hooks]
        third = third_hooks
        broken = nowhere
    """)  # fmt: skip


def test_hooks_of_other_distributions_are_reported_and_a_broken_one_is_a_problem(command, distribution):
    code, output, _ = command("doctor", "--json", "--hooks", "third")
    diagnosis = json.loads(output)
    assert (code, diagnosis["problems"]) == (1, ["broken: ModuleNotFoundError: No module named 'nowhere'"])
    assert hook(diagnosis, "third") == {
        "name": "third",
        "distribution": "third-hooks",
        "library": "colours",
        "installed": None,
        "supports": ">=1.2",
        "supported": None,
        "state": "partly patched",
        "detail": "",
        "targets": [
            {"target": "colours:mix", "state": "applied", "detail": ""},
            {"target": "colours:dry", "state": "missing", "detail": "AttributeError: dry"},
        ],
    }


def test_a_tracer_is_described_and_one_that_knows_threads_only_is_warned_of(examined):
    code, diagnosis = examined("--hooks", "requests", "--tracer", "opentracing.mocktracer:MockTracer")
    assert (code, diagnosis["problems"]) == (0, [])
    assert diagnosis["tracer"]["tracer"] == "opentracing.mocktracer.tracer.MockTracer"
    assert diagnosis["tracer"]["scope_manager"] == PER_THREAD
    assert diagnosis["tracer"]["propagation"]["text_map"] == ["ot-tracer-spanid", "ot-tracer-traceid"]
    assert [each.split(":")[0] for each in diagnosis["warnings"]] == [f"{PER_THREAD} knows threads only"]


EXPORTING = """
    import os, threading
    from opentracing.mocktracer import MockTracer
    from opentracing.scope_managers.contextvars import ContextVarsScopeManager

    def start():
        threading.Thread(target=threading.Event().wait, name="exporter", daemon=True).start()

    def lost():
        start()
        return MockTracer(ContextVarsScopeManager())

    def kept():
        os.register_at_fork(after_in_child=start)
        return lost()
"""


@pytest.mark.parametrize(("factory", "threads"), [("lost", ["exporter"]), ("kept", [])])
def test_an_exporter_that_does_not_survive_a_fork_is_warned_of(examined, module, factory, threads):
    module("exporting.py", EXPORTING)
    _, diagnosis = examined("--hooks", "requests", "--tracer", f"exporting:{factory}")
    assert diagnosis["tracer"]["threads"] == threads
    assert len(diagnosis["warnings"]) == len(threads)
    assert all("(exporter) that a forked process lacks" in warning for warning in diagnosis["warnings"])


INSTRUMENTOR = """
    class RequestsInstrumentor:
        _instance = None

    def instrument():
        RequestsInstrumentor._instance = RequestsInstrumentor()
        RequestsInstrumentor._instance._is_instrumented_by_opentelemetry = True
"""


@pytest.mark.parametrize("on", [True, False])
def test_opentelemetrys_own_instrumentation_of_the_same_library_is_warned_of_if_it_is_on(examined, module, on):
    """By the interface of OpenTelemetry's instrumentors: a singleton, with the mark that it is on."""
    module("instrumentation.py", INSTRUMENTOR)
    module("tracing.py", f"""
        import importlib.util, sys
        from opentracing.mocktracer import MockTracer
        from opentracing.scope_managers.contextvars import ContextVarsScopeManager

        def make():
            name = "opentelemetry.instrumentation.requests"
            spec = importlib.util.spec_from_file_location(name, "instrumentation.py")
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            if {on}:
                module.instrument()
            return MockTracer(ContextVarsScopeManager())
    """)  # fmt: skip
    _, diagnosis = examined("--hooks", "requests", "--tracer", "tracing:make")
    assert [each.partition(":")[0] for each in diagnosis["warnings"]] == [
        "OpenTelemetry's own instrumentation of requests is on, too"
    ] * on
    assert examined("--hooks", "urllib2", "--tracer", "tracing:make")[1]["warnings"] == []


@pytest.mark.parametrize(
    ("tracer", "problem"),
    [
        ("nowhere:make", "the tracer: No module named 'nowhere'"),
        ("json:dumps", "the tracer: TypeError: "),
        ("json:nothing", "the tracer: ValueError: json:nothing: accepted is module:factory"),
        ("builtins:dict", "the tracer: ValueError: builtins:dict made no opentracing.Tracer, but {}"),
    ],
)
def test_a_tracer_that_can_not_be_made_is_a_problem(examined, tracer, problem):
    code, diagnosis = examined("--hooks", "requests", "--tracer", tracer)
    assert (code, diagnosis["tracer"]) == (1, None)
    assert diagnosis["problems"][0].startswith(problem)


def test_the_table_fits_eighty_columns_without_colour(command, distribution):
    code, output, errors = command("doctor", COLUMNS="80")
    lines = output.splitlines()
    assert (code, errors.count("Traceback")) == (1, 1)  # the log of the hook that could not be loaded
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in output
    assert lines[0].split() == ["hook", "library", "installed", "supported", "state"]
    assert any(line.startswith("requests  ") and line.rstrip().endswith("patched (1/1)") for line in lines)
    assert "  third: colours:dry missing: AttributeError: dry" in [line.rstrip() for line in lines]
    assert lines[-1].rstrip() == "problem: broken: ModuleNotFoundError: No module named 'nowhere'"


def test_a_table_without_problems_says_so(command):
    code, output, _ = command("doctor", "--hooks", "requests")
    assert (code, output.splitlines()[-1]) == (0, "Everything asked for works.")


def test_a_hook_that_there_is_not_is_a_mistake(command):
    code, output, errors = command("doctor", "--hooks", "nosql")
    assert (code, output) == (2, "")
    assert "Error: no such hook: nosql; there are boto3, celery, " in errors


@pytest.mark.parametrize(
    ("installed", "specifier", "within"),
    [
        ("2.27", ">=2.27", True),
        ("2.27.0", "==2.27", True),
        ("2.9.9", ">=2.27", False),
        ("3.0.0rc1", ">=2,<3", False),
        ("3.0.1", "!=3.0,<4,>3", True),
        ("3.11.7", "part of Python", None),
        (None, ">=1", None),
    ],
)
def test_versions_are_compared_by_their_numbers(installed, specifier, within):
    assert doctor._within(installed, specifier) is within


def test_the_examination_leaves_no_patch_behind(monkeypatch):
    from requests.adapters import HTTPAdapter

    before = HTTPAdapter.__dict__["send"]
    reports = doctor.examine(doctor.Plan(hooks=("requests",))).hooks
    assert isinstance(reports[0], HookReport)
    assert HTTPAdapter.__dict__["send"] is before
