"""The fixture for pytest, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = 'pytest_plugins = ["opentracing_instrumentation.n_plus_one_pytest"]'

TESTS = """
import threading
import pytest
import sqlalchemy
from opentracing_instrumentation.client_hooks import sqlalchemy as hook


@pytest.fixture
def connection():
    with sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.StaticPool).connect() as connection:
        select(connection, 50)
        yield connection
        select(connection, 50)


def select(connection, times):
    for number in range(times):
        connection.execute(sqlalchemy.text("SELECT :n"), {"n": number})


def test_bad(forbid_n_plus_one, connection):
    select(connection, 10)


def test_bad_in_a_thread(forbid_n_plus_one):
    def work():
        with sqlalchemy.create_engine("sqlite://").connect() as connection:
            select(connection, 10)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_good(forbid_n_plus_one, connection):
    assert hook.patcher.patches_installed
    select(connection, 9)


def test_not_asked(connection):
    assert not hook.patcher.patches_installed
    select(connection, 10)


@pytest.fixture
def installed():
    hook.install_patches()
    yield
    assert hook.patcher.patches_installed
    hook.reset_patches()


def test_leaves_the_hook_alone(installed, forbid_n_plus_one):
    pass


@pytest.fixture
def one_engine(connection):
    hook.instrument_engine(connection.engine)
    yield
    assert hook.patcher.patches_installed
    assert not hook.patcher.traces_all
    hook.reset_patches()


def test_leaves_one_engine_alone(one_engine, forbid_n_plus_one):
    assert hook.patcher.traces_all


@pytest.mark.parametrize("number", range(3))
def test_raises_its_own(forbid_n_plus_one, connection, number):
    select(connection, 10)
    raise KeyError(number)
"""


@pytest.fixture
def outcome(tmp_path: Path) -> str:
    """What pytest says of the tests."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_shop.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False).stdout


def test_the_fixture_fails_tests_with_an_n_plus_one(outcome: str) -> None:
    summary = [line.partition(" - ") for line in outcome.splitlines() if line.startswith(("PASSED", "FAILED", "ERROR"))]
    results = {line.partition("::")[2]: (line.split()[0], why.split(":")[0]) for line, _, why in summary}
    assert {name: word for name, (word, _) in results.items()} == {
        "test_bad": "FAILED",
        "test_bad_in_a_thread": "FAILED",
        "test_good": "PASSED",
        "test_not_asked": "PASSED",
        "test_leaves_the_hook_alone": "PASSED",
        "test_leaves_one_engine_alone": "PASSED",
        "test_raises_its_own[0]": "FAILED",
        "test_raises_its_own[1]": "FAILED",
        "test_raises_its_own[2]": "FAILED",
    }
    assert "NPlusOneError".startswith(results["test_bad"][1].rpartition(".")[2].rstrip("."))
    assert results["test_raises_its_own[1]"][1] == "KeyError"
    assert "10 similar statements in" in outcome
    assert "test_shop.py:18 in select: SELECT ?" in outcome


def test_the_package_does_not_import_pytest() -> None:
    program = "import sys; import opentracing_instrumentation.n_plus_one; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
