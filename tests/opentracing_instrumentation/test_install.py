"""Turning hooks on: all of them, some by name, those of other distributions; nothing is imported for it."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation import client_hooks
from opentracing_instrumentation.client_hooks import (
    BUILT_IN,
    hooks,
    install_all_patches,
    install_client_interceptors,
    install_patches,
    reset_all_patches,
    set_current_span_func,
    sqlalchemy,
    urllib2,
)
from opentracing_instrumentation.client_hooks import requests as requests_hook
from opentracing_instrumentation.client_hooks._patcher import Patcher
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.http_client import ClientInterceptors
from opentracing_instrumentation.interceptors import OpenTracingInterceptor

from .loopback import Loopback
from .told import Spans

HERE = __name__
LIBRARIES = [
    *("boto3", "botocore", "s3transfer", "celery", "kombu", "MySQLdb", "psycopg2", "redis"),
    *("sqlalchemy", "tornado", "requests", "urllib3"),
]


def run(program: str) -> str:
    """What a fresh interpreter prints for a program."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_installing_all_patches_imports_no_library() -> None:
    program = f"""
        import sys
        from opentracing_instrumentation.client_hooks import hooks, install_all_patches
        install_all_patches()
        assert all(hook.patcher.patches_installed for hook in hooks())
        print(sorted(set(sys.modules) & set({LIBRARIES!r})))
    """
    assert run(program) == "[]"


def test_installing_all_patches_is_quick() -> None:
    program = """
        import time
        import opentracing_instrumentation.client_hooks as client_hooks
        list(client_hooks.hooks())
        begin = time.perf_counter()
        client_hooks.install_all_patches()
        print(time.perf_counter() - begin)
    """
    assert min(float(run(program)) for _ in range(3)) < 0.05  # meant to take 15 ms, on a machine with other work to do


def test_a_library_is_patched_when_the_application_imports_it() -> None:
    program = """
        from opentracing_instrumentation.client_hooks import install_all_patches, requests as hook
        install_all_patches()
        states = [patch.state for patch in hook.patcher.all_patches]
        import requests
        print(states, [patch.state for patch in hook.patcher.all_patches], requests.adapters.HTTPAdapter.send.__name__)
    """
    assert run(program) == "['waiting'] ['applied'] send"


def test_the_hooks_are_told_by_name() -> None:
    assert [hook.name for hook in hooks() if hook.distribution is None] == list(BUILT_IN)


def test_all_patches_are_installed_and_reset_any_number_of_times(server: Loopback, spans: Spans) -> None:
    for _ in range(2):
        install_all_patches()
        install_all_patches()
        requests.get(server.url)
        reset_all_patches()
        reset_all_patches()
        requests.get(server.url)
    assert [span["operation"] for span in spans()] == ["GET", "GET"]


def test_threads_that_install_at_once_install_one_layer(server: Loopback, spans: Spans) -> None:
    start = threading.Barrier(8)

    def install() -> None:
        start.wait(5)
        install_all_patches()

    threads = [threading.Thread(target=install) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    requests.get(server.url)
    assert [span["operation"] for span in spans()] == ["GET"]


def test_installing_goes_through_the_present_install_patches_of_each_module(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    with monkeypatch.context() as patched:
        for name in BUILT_IN:
            module = importlib.import_module(f"{client_hooks.__name__}.{name}")
            patched.setattr(module, "install_patches", lambda name=name: calls.append(name))
        install_all_patches()
    assert calls == list(BUILT_IN)


def test_a_hook_that_fails_is_reported_and_the_others_are_installed(
    monkeypatch: pytest.MonkeyPatch, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise OSError

    monkeypatch.setattr(sqlalchemy, "install_patches", broken)
    install_all_patches()
    assert "install_patches() of the hook sqlalchemy" in caplog.text
    assert requests_hook.patcher.patches_installed is True
    assert sqlalchemy.patcher.patches_installed is False


def test_disabled_hooks_are_left_out() -> None:
    CONFIG.disabled_hooks = ["requests"]
    install_all_patches()
    assert (requests_hook.patcher.patches_installed, urllib2.patcher.patches_installed) == (False, True)


def test_a_disabled_hook_that_does_not_exist_is_refused() -> None:
    CONFIG.disabled_hooks = ["requets"]
    with pytest.raises(ValueError, match=r"disabled_hooks = .'requets'.: accepted are .*requests"):
        install_all_patches()


@pytest.mark.parametrize("what", ["all", None])
def test_install_patches_means_all_unless_told_otherwise(what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(client_hooks, "install_all_patches", lambda: calls.append(True))
    install_patches(what)
    install_patches()
    assert calls == [True, True]


called: list[str] = []


def note() -> None:
    called.append("function")


class Notes:
    @staticmethod
    def note() -> None:
        called.append("method")


not_callable = 7


@pytest.mark.parametrize("kind", [list, tuple])
def test_install_patches_calls_functions_by_their_dotted_names(kind: Callable[..., Any]) -> None:
    called.clear()
    install_patches(kind([f"{HERE}.note", f"{HERE}.Notes.note"]))
    assert called == ["function", "method"]


def test_install_patches_of_nothing_does_nothing() -> None:
    install_patches([])
    assert [hook.name for hook in hooks() if hook.patcher.patches_installed] == []


@pytest.mark.parametrize(
    "wrong",
    ["requests", 7, {"requests"}, [f"{HERE}.absent"], [f"{HERE}.Notes.absent"], [f"{HERE}.not_callable"], ["note"]],
)
def test_install_patches_refuses_what_leads_to_no_function(wrong: Any) -> None:
    with pytest.raises(ValueError):
        install_patches(wrong)


@pytest.mark.parametrize(
    "name",
    [
        "no_such_package.install_patches",
        "opentracing_instrumentation.client_hooks.requets.install_patches",
        "opentracing_instrumentation.absent.module.f",
        f"{HERE}.Absent.method",
    ],
)
def test_a_module_that_does_not_exist_is_an_import_error(name: str) -> None:
    with pytest.raises(ImportError):
        install_patches([name])


def test_a_module_that_fails_to_import_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_module.py").write_text("import what_it_needs")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="what_it_needs"):
        install_patches(["needy_module.install"])


class Quiet(OpenTracingInterceptor):
    def process(self, request: Any, span: Any) -> None:
        pass


def test_interceptors_are_made_and_appended_by_their_dotted_names() -> None:
    install_client_interceptors([f"{HERE}.Quiet", f"{HERE}.Quiet"])
    assert [type(interceptor) for interceptor in ClientInterceptors.get_interceptors()] == [Quiet, Quiet]
    install_client_interceptors()
    assert len(ClientInterceptors.get_interceptors()) == 2


@pytest.mark.parametrize("wrong", ["abc", 7, [f"{HERE}.note"], [f"{HERE}.Notes"], [f"{HERE}.absent"]])
def test_what_is_no_interceptor_class_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError):
        install_client_interceptors(wrong)
    assert ClientInterceptors.get_interceptors() == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_function_for_the_parent_may_be_set_before_and_after_installing(
    server: Loopback, tracer: MockTracer, spans: Spans, when: str
) -> None:
    mine = tracer.start_span("mine")
    if when == "before":
        set_current_span_func(lambda: mine)
        install_all_patches()
    else:
        install_all_patches()
        set_current_span_func(lambda: mine)
    requests.get(server.url)
    mine.finish()
    assert [(span["operation"], span["parent"]) for span in spans()] == [("GET", "mine"), ("mine", None)]


class OldHook(Patcher):
    """A hook as they were written for versions before 4.0."""

    applicable = True

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def _install_patches(self) -> None:
        self.calls.append("install")

    def _reset_patches(self) -> None:
        self.calls.append("reset")


def test_a_hook_that_patches_by_itself_is_installed_and_reset_once() -> None:
    context: dict[str, Any] = {"__name__": HERE}
    OldHook.configure_hook_module(context)
    for name in ("reset", "install", "install", "reset", "reset", "install", "reset"):
        context[f"{name}_patches"]()
    assert context["patcher"].calls == ["install", "reset", "install", "reset"]
    other = OldHook()
    context["set_patcher"](other)
    context["install_patches"]()
    assert (context["patcher"], other.calls, other.patches_installed) == (other, ["install"], True)


def test_a_hook_whose_library_is_absent_installs_nothing() -> None:
    class Absent(OldHook):
        applicable = False

    hook = Absent()
    hook.install_patches()
    assert (hook.calls, hook.patches_installed) == ([], True)


HOOK = '''
"""A hook of another distribution."""
from typing import ClassVar

from opentracing_instrumentation._core.patching import Patcher, trace
from opentracing_instrumentation.utils import child_span


class TillPatcher(Patcher):
    library: ClassVar[str] = "till_library"

    @trace("till_library:ring")
    def ring(self, amount):
        return child_span("ring", {"amount": amount})


TillPatcher.configure_hook_module(globals())
'''


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with three hooks, installed: one that works, one that raises, one that is none."""
    (tmp_path / "till_library.py").write_text("def ring(amount):\n    return amount\n")
    (tmp_path / "till_hook.py").write_text(HOOK)
    (tmp_path / "till_broken.py").write_text("raise OSError('no till here')\n")
    (tmp_path / "till_none.py").write_text("")
    info = tmp_path / "till-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: till\nVersion: 1.0\n")
    entries = "till = till_hook\nbroken = till_broken\nnone = till_none\n"
    (info / "entry_points.txt").write_text(f"[opentracing_instrumentation.client_hooks]\n{entries}")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("till_library", "till_hook", "till_broken", "till_none"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_hooks_of_other_distributions_are_installed_and_broken_ones_reported(
    distribution: None, spans: Spans, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    install_all_patches()
    import till_library  # type: ignore[import-not-found]

    assert till_library.ring(7) == 7
    assert spans() == [{"operation": "ring", "parent": None, "tags": {"amount": 7}}]
    told = [(record.levelno, record.getMessage().split(" failed")[0]) for record in caplog.records]
    assert sorted(told) == [
        (logging.ERROR, "loading the hook broken = till_broken"),
        (logging.ERROR, "loading the hook none = till_none"),
    ]
    assert [(hook.name, hook.distribution) for hook in hooks()][len(BUILT_IN) :] == [("till", "till")]
    reset_all_patches()
    till_library.ring(8)
    assert len(spans()) == 1


def test_hooks_of_other_distributions_can_be_disabled(distribution: None, spans: Spans, lenient: None) -> None:
    CONFIG.disabled_hooks = ["till"]
    install_all_patches()
    import till_library

    assert till_library.ring(7) == 7
    assert spans() == []
