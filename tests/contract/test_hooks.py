"""What every hook has to satisfy: installing, resetting, patches of others, absent libraries and absent targets."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from opentracing_instrumentation._core.registry import Hook

from .library import OURS, attributes, changes, modules_of, targets


def states(hook: Hook) -> dict[str, str]:
    return {patch.target: patch.state for patch in hook.patcher.all_patches}


def test_every_target_is_patched_or_not_there(hook: Hook) -> None:
    """A target that the library has is never refused: strict mode would raise that, too."""
    hook.install()
    waiting = {patch.module_name for patch in hook.patcher.all_patches if patch.state == "waiting"}
    assert waiting.isdisjoint(modules_of(hook))
    refused = [patch for patch in hook.patcher.all_patches if patch.detail and "AttributeError" not in patch.detail]
    assert refused == []
    assert "applied" in states(hook).values()


def test_reset_restores_the_very_objects_and_leaves_no_shadow(hook: Hook) -> None:
    """Module by module, class by class, listener by listener, any number of times."""
    before = attributes(hook)
    for _ in range(3):
        hook.install()
        assert changes(before, attributes(hook)) != set()
        hook.reset()
        assert changes(before, attributes(hook)) == set()


def test_installing_again_changes_nothing(hook: Hook) -> None:
    """One layer, and one reset takes it away."""
    before = attributes(hook)
    hook.install()
    installed = attributes(hook)
    hook.install()
    hook.patcher.install_patches()
    assert changes(installed, attributes(hook)) == set()
    hook.reset()
    hook.reset()
    assert changes(before, attributes(hook)) == set()


def test_eight_threads_install_one_layer(hook: Hook) -> None:
    """All at once, again and again."""
    before = attributes(hook)
    for _ in range(5):
        barrier = threading.Barrier(8)
        threads = [
            threading.Thread(target=lambda barrier=barrier: (barrier.wait(10), hook.install())) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        for patch, owner, name, present in targets(hook):
            if patch.state == "applied":
                assert present is patch._replacement
                assert patch._original is before.get(key_of(owner, name), patch._original)
        hook.reset()
        assert changes(before, attributes(hook)) == set()


def install_together(hook: Hook, barrier: threading.Barrier) -> None:
    barrier.wait(10)
    hook.install()


def key_of(owner: Any, name: str) -> tuple[str, ...]:
    return (owner.__module__, owner.__name__, name) if isinstance(owner, type) else (owner.__name__, name)


def foreign(present: Any) -> Any:
    """Wrap a target as other people's patches do."""
    if isinstance(present, classmethod | staticmethod):
        return type(present)(foreign(present.__func__))

    @functools.wraps(present)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return present(*args, **kwargs)

    return wrapper


@pytest.fixture
def patched_by_others(hook: Hook) -> Iterator[Callable[[], dict[Any, Any]]]:
    """The function that patches all functions that the hook patches, on top of it. It is undone after the test."""
    undo = []

    def patch_all() -> dict[Any, Any]:
        wrappers = {}
        for patch, owner, name, present in targets(hook):
            if callable(present) or isinstance(present, classmethod | staticmethod):
                undo.append((owner, name, patch._inherited, patch._original))
                wrappers[patch] = wrapper = foreign(present)
                setattr(owner, name, wrapper)
        return wrappers

    yield patch_all
    hook.reset()
    for owner, name, inherited, original in undo:
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)


def test_reset_leaves_the_patches_of_others_and_reinstall_adds_no_layer(hook: Hook, patched_by_others: Any) -> None:
    """Ours is a pass-through below theirs, and is woken on the next install."""
    hook.install()
    wrappers = patched_by_others()
    for _ in range(2):
        hook.reset()
        for patch, _, _, present in targets(hook):
            if patch in wrappers:
                assert present is wrappers[patch]
                assert patch.switch.active is False
        hook.install()
        for patch, _, _, present in targets(hook):
            if patch in wrappers:
                assert present is wrappers[patch]
                assert patch.switch.active is True


def test_a_missing_target_does_not_hinder_the_others(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each target in turn, as if the library were of another version."""
    hook.install()
    complete = states(hook)
    hook.reset()
    there = list(targets(hook))
    for patch, owner, name, _ in there:
        if name not in vars(owner) or patch.module_name.startswith(OURS):
            continue
        with monkeypatch.context() as patched:
            patched.delattr(owner, name)
            gone = {other.target for other, heir, inherited, _ in there if not hasattr(heir, inherited)}
            hook.install()
            others = {target: state for target, state in states(hook).items() if target not in gone}
            assert others == {target: state for target, state in complete.items() if target not in gone}
            hook.reset()


def run(script: str, *arguments: str) -> Any:
    """Run a script in a fresh interpreter; return what it prints, as JSON. It must not complain."""
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (process.returncode, process.stderr) == (0, "")
    return json.loads(process.stdout)


BEFORE_IMPORT = """
import importlib, json, logging, sys
logging.basicConfig(level="WARNING")
import opentracing_instrumentation.client_hooks
module, *modules = sys.argv[1:]
before = set(sys.modules)
hook = importlib.import_module(module)
hook.install_patches()
hook.install_patches()
imported = sorted(set(modules) & (set(sys.modules) - before))
for name in modules:
    importlib.import_module(name)
print(json.dumps([imported, {patch.target: patch.state for patch in hook.patcher.all_patches}]))
hook.reset_patches()
"""


def test_nothing_is_imported_and_all_is_patched_when_the_application_imports_it(hook: Hook) -> None:
    """The targets are the same as when the library is imported first."""
    hook.install()
    assert run(BEFORE_IMPORT, hook.module.__name__, *modules_of(hook)) == [[], states(hook)]


ABSENT = """
import importlib, json, logging, sys
logging.basicConfig(level="WARNING")

class Absent:
    def find_spec(self, name, *_):
        if name in absent or name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

module, *absent = sys.argv[1:]
import opentracing_instrumentation.client_hooks
for name in absent:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
hook = importlib.import_module(module)
hook.install_patches()
hook.reset_patches()
hook.install_patches()
patches = [patch for patch in hook.patcher.all_patches if not patch.module_name.startswith("opentracing_")]
print(json.dumps([hook.patcher.applicable, sorted({patch.state for patch in patches})]))
"""


def test_without_its_library_a_hook_installs_and_waits(hook: Hook) -> None:
    """Nothing is said of it, and nothing fails."""
    library = hook.patcher.library
    is_ours_to_hide = library not in sys.stdlib_module_names
    absent = [library, *modules_of(hook)] if is_ours_to_hide else modules_of(hook)
    assert run(ABSENT, hook.module.__name__, *absent) == [not is_ours_to_hide, ["waiting"]]


def test_a_hook_tells_its_library_and_versions(hook: Hook) -> None:
    """The documentation is made of that."""
    assert hook.patcher.library
    assert hook.patcher.supports or hook.patcher.library in sys.stdlib_module_names
    distribution = importlib.metadata.packages_distributions().get(hook.patcher.library)
    assert distribution or hook.patcher.library in sys.stdlib_module_names
