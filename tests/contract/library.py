"""What a library looks like from outside: every attribute of its modules and classes, and who listens to it."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any

from opentracing_instrumentation._core.patching import AttributePatch, EventPatch, ListenPatch, resolve
from opentracing_instrumentation._core.registry import Hook

OURS = "opentracing_instrumentation"

#: SQLAlchemy notes on a class that it has ever been listened to, and keeps that when the listener is gone.
NOTES = {"_has_events"}


def modules_of(hook: Hook) -> list[str]:
    """Return the names of the modules that a hook patches: those that this version has, and has all that they need."""
    names = dict.fromkeys(patch.module_name for patch in hook.patcher.all_patches)
    return [name for name in names if not name.startswith(OURS) and _imports(name)]


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def attributes(hook: Hook) -> dict[tuple[str, ...], Any]:
    """Return all attributes of the library's modules and classes, and the listeners of its signals and events."""
    found: dict[tuple[str, ...], Any] = {}
    for module in _modules(hook):
        for name, value in vars(module).items():
            found[module.__name__, name] = value
            if issubclass(type(value), type) and value.__module__ == module.__name__:  # no look through a proxy
                found |= {(module.__name__, name, key): raw for key, raw in vars(value).items() if key not in NOTES}
    for number, patch in enumerate(hook.patcher.all_patches):
        found[patch.target, str(number)] = _listens(patch)
    return found


def _modules(hook: Hook) -> Iterator[types.ModuleType]:
    library = hook.patcher.library
    for name, module in list(sys.modules.items()):
        if name == library or name.startswith(f"{library}.") or name in modules_of(hook):
            yield module


def _listens(patch: Any) -> bool | None:
    if isinstance(patch, EventPatch):
        return patch._relay is not None and patch in patch._relay.patches
    if isinstance(patch, ListenPatch):
        signal = getattr(*resolve(sys.modules[patch.module_name], patch.path))
        return any(patch._receiver in receiver for receiver in signal.receivers)
    return None


def changes(before: dict[tuple[str, ...], Any], after: dict[tuple[str, ...], Any]) -> set[tuple[str, ...]]:
    """Return what is not the very same object any more."""
    missing = object()
    return {key for key in before.keys() | after.keys() if before.get(key, missing) is not after.get(key, missing)}


def targets(hook: Hook) -> Iterator[tuple[AttributePatch, Any, str, Any]]:
    """Yield the patches of attributes that the library has, with the owner, the name and what stands there itself."""
    for patch in hook.patcher.all_patches:
        if isinstance(patch, AttributePatch) and patch.module_name in sys.modules:
            try:
                owner, name = resolve(sys.modules[patch.module_name], patch.path)
            except AttributeError:
                continue
            yield patch, owner, name, inspect.getattr_static(owner, name)
