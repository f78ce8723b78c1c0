"""The list of hooks: those of this package and those that others register as entry points."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from .patching import Patcher
from .safety import report

#: The entry-point group of hooks. An entry point's value names a module with ``install_patches``, ``reset_patches`` and
#: ``patcher``, as :meth:`Patcher.configure_hook_module` makes it.
GROUP = "opentracing_instrumentation.client_hooks"


@dataclass(frozen=True)
class Hook:
    """A hook by its name, its module, and the distribution that it comes from (``None`` for this one)."""

    name: str
    module: ModuleType
    distribution: str | None = None

    @property
    def patcher(self) -> Patcher:
        """The patcher in force."""
        return self.module.patcher  # type: ignore[no-any-return]

    def install(self) -> None:
        """Install the hook through its module's present ``install_patches``. A hook that fails is reported."""
        self._call("install_patches")

    def reset(self) -> None:
        """Reset the hook through its module's present ``reset_patches``. A hook that fails is reported."""
        self._call("reset_patches")

    def _call(self, name: str) -> None:
        try:
            getattr(self.module, name)()
        except Exception as error:
            report(f"{name}() of the hook {self.name}", error)


def built_in(names: Sequence[str]) -> Iterator[Hook]:
    """Load hooks of this package by the names of their modules."""
    package = __name__.partition(".")[0]
    for name in names:
        yield Hook(name, importlib.import_module(f"{package}.client_hooks.{name}"))


def third_party() -> Iterator[Hook]:
    """Load the hooks that other distributions register. One that can't be loaded is reported and left out."""
    for entry_point in entry_points(group=GROUP):
        try:
            module = _module(entry_point)
        except Exception as error:
            report(f"loading the hook {entry_point.name} = {entry_point.value}", error)
        else:
            yield Hook(entry_point.name, module, entry_point.dist.name if entry_point.dist else None)


def _module(entry_point: EntryPoint) -> Any:
    module = entry_point.load()
    missing = [name for name in ("install_patches", "reset_patches", "patcher") if not hasattr(module, name)]
    if missing:
        raise TypeError(f"a hook's module needs {', '.join(missing)}: see Patcher.configure_hook_module")
    return module
