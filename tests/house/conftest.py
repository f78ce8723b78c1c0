"""What the tests of the scripts share: a machine on which only the programs that a test names can be seen to act."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

Program = Callable[[str, str], None]
Services = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The scratch folder of the servers."""
    return tmp_path / "scratch"


@pytest.fixture
def programs() -> Iterator[Path]:
    """A folder before those of the machine, which unprivileged servers may look into."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def program(programs: Path) -> Program:
    """Put a shell script by this name before the programs of the machine."""

    def write(name: str, script: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    return write


@pytest.fixture
def environment(programs: Path, program: Program, folder: Path) -> dict[str, str]:
    """The environment of the script: no container engine answers."""
    program("docker", "exit 1")
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "SERVICES_DIR": str(folder)}


@pytest.fixture
def services(environment: dict[str, str]) -> Iterator[Services]:
    """Call scripts/services; whatever it started is stopped at the end of the test."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPTS / "services"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)

    yield call
    assert call("down").returncode == 0
