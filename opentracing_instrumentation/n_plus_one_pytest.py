"""A fixture for pytest: ``forbid_n_plus_one`` makes a test fail in which there is an N+1.

To be named in a ``conftest.py``: ``pytest_plugins = ["opentracing_instrumentation.n_plus_one_pytest"]``. Statements
that other fixtures send are not counted: they make and remove what the test needs, often row by row.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from .client_hooks import sqlalchemy
from .n_plus_one import forbid

_FIXTURE = "forbid_n_plus_one"


@pytest.fixture(name=_FIXTURE)
def _forbid_n_plus_one() -> Iterator[None]:
    """Make the test fail if there is an N+1 in it, be it in a thread or task; the hook of SQLAlchemy is installed."""
    traced_all = sqlalchemy.patcher.traces_all
    sqlalchemy.install_patches()
    yield
    if not traced_all:
        sqlalchemy.patcher.trace_engine(type, None)  # any class stands for all engines; single ones stay traced


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Count the statements of a test that has the fixture."""
    if _FIXTURE not in getattr(item, "fixturenames", ()):
        return (yield)
    with forbid(everywhere=True):
        return (yield)
