"""The suites: what to fetch, what their tests require, how they are run, and which parts are left out and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Services = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Suite:
    """A library's own tests, as its source distribution holds them.

    Attributes:
        distribution: the library, by the name of its distribution.
        requires: what its tests import besides.
        arguments: of pytest, in the folder of the source distribution.
        environment: variables that lead the tests to the servers.
        left_out: arguments that leave tests out, each with the reason.
    """

    distribution: str
    requires: tuple[str, ...]
    arguments: Callable[[Services], list[str]]
    environment: Callable[[Services], dict[str, str]] = lambda _: {}
    left_out: Mapping[str, str] = field(default_factory=dict)


def _psycopg2(services: Services) -> dict[str, str]:
    server = services["postgresql"]
    return {
        "PSYCOPG2_TESTDB": server["database"],
        "PSYCOPG2_TESTDB_HOST": server["host"],
        "PSYCOPG2_TESTDB_PORT": str(server["port"]),
        "PSYCOPG2_TESTDB_USER": server["user"],
        "PSYCOPG2_TESTDB_PASSWORD": server["password"],
        "PGPASSWORD": server["password"],
    }


# What needs a cluster of its own, modules, certificates or containers is marked so by redis-py.
REDIS = "not (onlycluster or redismod or ssl or cp_integration or multidb_integration)"

SUITES = (
    Suite(
        "psycopg2",
        ("setuptools",),
        lambda _: ["tests"],
        _psycopg2,
        {
            "--deselect=tests/test_connection.py::ConnectionTests::test_cursor_factory_none": (
                "asks whether a cursor's type is the driver's very class; traced cursors are of a subclass"
            )
        },
    ),
    Suite(
        "redis",
        (
            *("pytest-asyncio", "numpy", "cachetools", "hiredis", "uvloop", "mock", "coverage<7.11.1", "packaging"),
            *("requests", "opentelemetry-sdk", "pybreaker", "aiohttp", "redis-entraid", "xxhash"),
        ),
        lambda services: ["tests", f"--redis-url={services['redis']['url']}", "-m", REDIS],
        left_out={
            "--ignore=tests/maint_notifications": "notices of a managed service, waited for in real time",
            "--ignore=tests/test_scenario": "likewise",
            "--ignore=tests/test_asyncio/test_scenario": "likewise",
        },
    ),
    Suite(
        "requests",
        ("pytest-httpbin==2.1.0", "pytest-mock", "trustme", "PySocks", "httpbin"),
        lambda _: ["tests"],
    ),
    Suite(
        "tornado",
        ("pycurl",),
        lambda _: ["-p", "no:logging", "-p", "scripts.transparency.quiet_tornado", "tornado/test"],
    ),
    Suite(
        "sqlalchemy",
        ("aiosqlite", "greenlet", "mypy", "pytest-xdist"),
        lambda _: ["-p", "no:logging", "test/base", "test/engine", "test/ext/asyncio", "test/orm/test_session.py"],
    ),
)
