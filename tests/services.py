"""The servers that tests talk to, as a pytest plugin: the fixture `service`, the option --without-services.

`make services-up` starts them and writes down where they listen. A test that needs one which does not run
fails: a skipped test looks like a passed one to whoever is in a hurry.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("SERVICES_DIR") or Path(__file__).parent.parent / ".services")


@dataclass(frozen=True)
class Service:
    """Where a server listens, and what a client needs to get in."""

    name: str
    host: str
    port: int
    user: str
    password: str
    database: str
    url: str
    log: str  # the file in which the server notes each statement; empty when it runs in a container

    def logged(self, sign: str) -> list[str]:
        """Return the lines of its log in which a text occurs."""
        if not self.log:
            pytest.skip(f"the log of {self.name} is in a container")
        return [line for line in Path(self.log).read_text("utf-8", "replace").splitlines() if sign in line]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-services", action="store_true", help="skip the tests that need a server")


@pytest.fixture(scope="session")
def service(pytestconfig: pytest.Config) -> Callable[[str], Service]:
    """The function that finds a server: one of postgresql, mariadb, redis, rabbitmq and moto."""

    def find(name: str) -> Service:
        if pytestconfig.getoption("--without-services"):
            pytest.skip(f"{name} is left out: --without-services")
        try:
            found = Service(name, **json.loads((FOLDER / "services.json").read_text())["services"][name])
            socket.create_connection((found.host, found.port), timeout=5).close()
        except (OSError, KeyError) as error:
            pytest.fail(f"{name} does not run ({error!r}): make services-up", pytrace=False)
        return found

    return find
