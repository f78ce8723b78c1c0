"""The list of hooks: those of the package, those of others, and what becomes of the ones that fail."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from opentracing_instrumentation import client_hooks
from opentracing_instrumentation._core import registry
from opentracing_instrumentation._core.registry import Hook
from opentracing_instrumentation.client_hooks import BUILT_IN

Write = Callable[[str], str]

HOOK = """
    from opentracing_instrumentation.client_hooks._patcher import Patcher

    class OwnPatcher(Patcher):
        library = "own"

    OwnPatcher.configure_hook_module(globals())
"""


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The function that registers modules as hooks, as the metadata of installed distributions does."""

    def register(**modules: str) -> None:
        found = [EntryPoint(name, module, registry.GROUP) for name, module in modules.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: found if group == registry.GROUP else [])

    return register


def test_the_built_in_hooks_are_the_modules_of_the_package() -> None:
    """By name, in their order, each with its patcher."""
    hooks = list(registry.built_in(BUILT_IN))
    assert [hook.name for hook in hooks] == list(BUILT_IN)
    for hook in hooks:
        assert hook.module.__name__ == f"opentracing_instrumentation.client_hooks.{hook.name}"
        assert hook.patcher is hook.module.patcher
        assert hook.distribution is None


def test_the_hooks_of_other_distributions_are_in_the_list(write: Write, register: Any) -> None:
    """Behind the built-in ones."""
    register(own=write(HOOK))
    assert [hook.name for hook in client_hooks.hooks()] == [*BUILT_IN, "own"]


def test_a_hook_of_another_distribution_is_installed_and_reset_with_all(write: Write, register: Any) -> None:
    """As if it were built in."""
    register(own=write(HOOK))
    (own,) = registry.third_party()
    client_hooks.install_all_patches()
    assert own.patcher.patches_installed
    client_hooks.reset_all_patches()
    assert not own.patcher.patches_installed


def test_a_hook_that_cannot_be_loaded_is_reported_and_left_out(
    write: Write, register: Any, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """One is broken, one is no hook; the others are there."""
    broken, other, own = write("raise RuntimeError('broken')"), write("answer = 42"), write(HOOK)
    register(broken=broken, other=other, missing="no_such_module", own=own)
    assert [hook.name for hook in registry.third_party()] == ["own"]
    assert [record.getMessage().partition(" failed")[0] for record in caplog.records] == [
        f"loading the hook broken = {broken}",
        f"loading the hook other = {other}",
        "loading the hook missing = no_such_module",
    ]
    error = caplog.records[1].exc_info[1]
    assert str(error) == (
        "a hook's module needs install_patches, reset_patches, patcher: see Patcher.configure_hook_module"
    )


def test_a_hook_that_fails_is_reported_and_stops_nobody(lenient: None, caplog: pytest.LogCaptureFixture) -> None:
    """Installing and resetting alike."""

    def failing() -> None:
        raise RuntimeError("broken")

    hook = Hook("own", SimpleNamespace(install_patches=failing, reset_patches=failing, patcher=None))
    hook.install()
    hook.reset()
    assert [record.getMessage().partition(" failed")[0] for record in caplog.records] == [
        "install_patches() of the hook own",
        "reset_patches() of the hook own",
    ]


def test_the_present_functions_of_a_module_count() -> None:
    """A hook's ``install_patches`` may be replaced, as by a test or by another patcher."""
    called: list[str] = []
    module = SimpleNamespace(
        install_patches=lambda: called.append("old"), reset_patches=lambda: called.append("reset"), patcher=None
    )
    hook = Hook("own", module)
    module.install_patches = lambda: called.append("new")
    hook.install()
    hook.reset()
    assert called == ["new", "reset"]
