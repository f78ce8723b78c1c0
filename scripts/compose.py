"""The servers of docker-compose.yml, where a container engine answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "docker-compose.yml"


def engine_answers() -> bool:
    """Whether there is a `docker compose`, and an engine behind it."""
    try:
        for command in (["docker", "info"], ["docker", "compose", "version"]):
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20)
    except (FileNotFoundError, PermissionError, subprocess.SubprocessError):
        return False
    return True


def up(project: str, password: str, names: Sequence[str], seconds: float) -> None:
    """Start the services `names` and wait until their health checks pass; raise OSError when one fails."""
    arguments = ["up", "--detach", "--wait", "--wait-timeout", str(int(seconds)), *names]
    started = _compose(project, *arguments, password=password)
    if started.returncode:
        logs = _compose(project, "logs", "--tail", "20", *names, password=password)
        raise OSError(f"docker compose up failed\n{started.stderr}{logs.stdout}")


def port(project: str, name: str, container_port: int) -> int:
    """The port of this machine at which the service is found."""
    return int(_compose(project, "port", name, str(container_port)).stdout.rpartition(":")[2])


def down(project: str, names: Sequence[str], everything: bool) -> None:
    """Remove the services `names` and their data; with `everything`, the project's network as well."""
    arguments = ["down", "--volumes"] if everything else ["rm", "--force", "--stop", "--volumes", *names]
    _compose(project, *arguments)


def _compose(project: str, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "compose", "--project-name", project, "--file", str(FILE), *arguments],
        env={**os.environ, "SERVICES_PASSWORD": password},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
