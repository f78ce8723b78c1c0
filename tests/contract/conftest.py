"""Every test of this folder that takes ``hook`` runs once for each hook, present and future."""

from __future__ import annotations

import importlib.util

import pytest

from opentracing_instrumentation._core.registry import Hook
from opentracing_instrumentation.client_hooks import hooks

from .library import modules_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "each_hook" in metafunc.fixturenames:
        found = list(hooks())
        metafunc.parametrize("each_hook", found, ids=[hook.name for hook in found])


@pytest.fixture
def hook(each_hook: Hook, pytestconfig: pytest.Config) -> Hook:
    """A hook whose library is installed and not patched."""
    library = each_hook.patcher.library
    if library and importlib.util.find_spec(library) is None:
        message = f"{library}, which the hook {each_hook.name} patches, is not installed: see requirements-test.txt"
        if pytestconfig.getoption("--without-services"):
            pytest.skip(message)
        pytest.fail(message, pytrace=False)
    assert modules_of(each_hook), "none of the modules that it patches can be imported"
    each_hook.reset()
    return each_hook
