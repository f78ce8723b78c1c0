"""What the tests of the drivers share: the servers, and connections that are closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import MySQLdb
import psycopg2
import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import mysqldb as mysqldb_hook
from opentracing_instrumentation.client_hooks import psycopg2 as psycopg2_hook
from tests.opentracing_instrumentation.conftest import spans  # noqa: F401 - the fixture
from tests.services import Service

Connect = Callable[..., Any]
Find = Callable[[str], Service]


@pytest.fixture
def postgresql(service: Find) -> Service:
    return service("postgresql")


@pytest.fixture
def mariadb(service: Find) -> Service:
    return service("mariadb")


def _connecting(driver: ModuleType, at: Service, **arguments: Any) -> Iterator[Connect]:
    opened = []
    arguments |= {"host": at.host, "port": at.port, "user": at.user, "password": at.password}

    def connect(*args: Any, **kwargs: Any) -> Any:
        opened.append(driver.connect(*args, **kwargs) if args else driver.connect(**{**arguments, **kwargs}))
        return opened[-1]

    yield connect
    for connection in opened:
        try:
            connection.close()
        except driver.Error:  # the test has closed it
            pass


@pytest.fixture
def pg_connect(postgresql: Service) -> Iterator[Connect]:
    """psycopg2's ``connect`` as it is at the time, with the server's arguments unless there are positional ones."""
    yield from _connecting(psycopg2, postgresql, dbname=postgresql.database)


@pytest.fixture
def my_connect(mariadb: Service) -> Iterator[Connect]:
    """MySQLdb's ``connect`` as it is at the time, with the server's arguments unless there are positional ones."""
    yield from _connecting(MySQLdb, mariadb, database=mariadb.database)


@pytest.fixture
def pg(pg_connect: Connect, tracer: MockTracer) -> Any:
    """A traced connection to PostgreSQL; its own span is forgotten."""
    psycopg2_hook.install_patches()
    connection = pg_connect()
    tracer.reset()
    return connection


@pytest.fixture
def my(my_connect: Connect, tracer: MockTracer) -> Any:
    """A traced connection to MariaDB; its own span is forgotten."""
    mysqldb_hook.install_patches()
    connection = my_connect()
    tracer.reset()
    return connection
