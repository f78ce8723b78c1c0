"""Modules to be patched, imported by the real import system; hooks that are reset after the test."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opentracing_instrumentation._core.patching import Patcher

_numbers = itertools.count()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """The function that writes a module that can be imported, and returns its name: never the same twice."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(source: str) -> str:
        name = f"patched_library_{next(_numbers)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source).replace("THIS", name))
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def install() -> Iterator[Callable[[Patcher], Patcher]]:
    """The function that installs a hook, which is reset after the test."""
    installed = []

    def install(patcher: Patcher) -> Patcher:
        installed.append(patcher)
        patcher.install_patches()
        return patcher

    yield install
    for patcher in installed:
        patcher.reset_patches()
