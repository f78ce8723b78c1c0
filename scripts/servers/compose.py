"""The servers of docker-compose.yml, where a container engine answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from . import ROOT, ServiceError

FILE = ROOT / "docker-compose.yml"


def engine_answers() -> bool:
    """Whether there is a `docker compose`, and an engine behind it."""
    try:
        for command in (["docker", "info"], ["docker", "compose", "version"]):
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20)
    except (FileNotFoundError, PermissionError, subprocess.SubprocessError):
        return False
    return True


def up(project: str, password: str, names: Sequence[str], seconds: float) -> None:
    """Start the services `names` and wait until their health checks pass."""
    arguments = ["up", "--detach", "--wait", "--wait-timeout", str(int(seconds)), *names]
    try:
        _compose(project, *arguments, password=password)
    except ServiceError as error:
        logs = _compose(project, "logs", "--tail", "20", *names, password=password)
        raise ServiceError(f"{error}{logs}") from error


def port(project: str, name: str, container_port: int) -> int:
    """The port of this machine at which the service is found."""
    return int(_compose(project, "port", name, str(container_port)).rpartition(":")[2])


def down(project: str, names: Sequence[str], everything: bool) -> None:
    """Remove the services `names` and their data; with `everything`, the project's network as well."""
    arguments = ["down", "--volumes"] if everything else ["rm", "--force", "--stop", "--volumes", *names]
    _compose(project, *arguments)


def _compose(project: str, *arguments: str, password: str = "") -> str:
    """What `docker compose` prints; raises ServiceError with its complaint when it fails."""
    done = subprocess.run(
        ["docker", "compose", "--project-name", project, "--file", str(FILE), *arguments],
        env={**os.environ, "SERVICES_PASSWORD": password},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"docker compose {' '.join(arguments)} failed\n{done.stderr}")
    return done.stdout
