"""What the documentation says of hooks and settings is what the code says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opentracing_instrumentation._core.registry import Hook
from scripts import reference


@pytest.mark.parametrize("path", reference.pages(), ids=lambda path: path.name)
def test_pages_are_up_to_date(path: Path) -> None:
    """``python scripts/reference.py`` would change nothing."""
    assert path.read_text() == reference.pages()[path]


@pytest.mark.parametrize("hook", reference.HOOKS, ids=lambda hook: hook.name)
def test_hooks_declare_their_tags(hook: Hook, service: Callable[[str], Any]) -> None:
    """A call leaves spans whose tags all are in the hook's table, and that table has what the page's example shows."""
    spans = reference.spans(hook, service)
    assert spans
    for span in spans:
        assert span.tags.keys() <= hook.patcher.tags.keys() | {"error"}


def test_settings_of_hooks_exist() -> None:
    """A hook names settings that there are."""
    for hook in reference.HOOKS:
        assert set(hook.patcher.settings) <= reference.SETTINGS.keys()
