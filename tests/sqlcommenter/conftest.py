"""What the tests of comments share: options that are put back, and a tracer of OpenTelemetry's."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import opentracing
import pytest
from opentelemetry.sdk.trace import TracerProvider

from opentracing_instrumentation import sqlcommenter
from opentracing_instrumentation.client_hooks import mysqldb, psycopg2
from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.sqlcommenter import parse
from tests.opentracing_instrumentation.conftest import spans  # noqa: F401 - the fixture
from tests.services import Service
from tests.sql.conftest import mariadb, my, my_connect, pg, pg_connect, postgresql  # noqa: F401 - the fixtures

Said = Callable[[], list[dict[str, str]]]

ROUTE = "/50%/{id}"  # has a percent sign, and a brace


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sqlcommenter, "_warned", set())
    yield
    sqlcommenter.configure("off")
    psycopg2.set_comments(None)
    mysqldb.set_comments(None)


@pytest.fixture
def otel(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    tracer = Tracer(TracerProvider(shutdown_on_exit=False))
    monkeypatch.setattr(opentracing, "tracer", tracer)
    return tracer


@pytest.fixture
def static() -> None:
    """Comments are on, and tell a route."""
    sqlcommenter.configure("static", {"route": ROUTE})


@pytest.fixture
def sign() -> str:
    """What tells the statements of one test from all others in a server's log."""
    return uuid.uuid4().hex


@pytest.fixture
def said(service: Callable[[str], Service], server: str, sign: str) -> Said:
    """The function that returns what the comments of this test's statements say, by the log of its server."""
    return lambda: [parse(line) for line in service(server).logged(sign)]
