"""tests/services.py: a server that does not run fails its test, and skips it only when that is asked for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.conftest import SCRIPTS

TEST = "def test_it(service):\n    assert service('redis').url == 'redis://here'\n"


def outcome(tmp_path: Path, *arguments: str) -> str:
    """The last lines of a pytest run over a test that wants a Redis server."""
    (tmp_path / "test_it.py").write_text(TEST)
    environment = {
        **os.environ,
        "SERVICES_DIR": str(tmp_path),
        "PYTHONPATH": str(SCRIPTS.parent),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "tests.services", *arguments, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


def write_state(tmp_path: Path, port: int) -> None:
    texts = ("host", "user", "password", "database", "url", "log")
    redis = {**dict.fromkeys(texts, ""), "host": "127.0.0.1", "port": port, "url": "redis://here"}
    (tmp_path / "services.json").write_text(json.dumps({"services": {"redis": redis}}))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket at a port of its own; nobody is let in before `listen`."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def test_a_missing_server_fails_the_test_and_says_how_to_start_it(tmp_path: Path) -> None:
    lines = outcome(tmp_path)
    assert "1 failed" in lines
    assert "redis does not run" in lines
    assert "make services-up" in lines


def test_a_server_that_has_gone_fails_the_test(tmp_path: Path, listener: socket.socket) -> None:
    write_state(tmp_path, listener.getsockname()[1])
    assert "redis does not run (ConnectionRefusedError" in outcome(tmp_path)


def test_a_missing_server_is_skipped_when_that_is_asked_for(tmp_path: Path) -> None:
    lines = outcome(tmp_path, "--without-services")
    assert "1 skipped" in lines
    assert "redis is left out: --without-services" in lines


def test_a_running_server_is_found(tmp_path: Path, listener: socket.socket) -> None:
    listener.listen()
    write_state(tmp_path, listener.getsockname()[1])
    assert "1 passed" in outcome(tmp_path)
