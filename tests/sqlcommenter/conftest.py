"""What the tests of comments share: options that are put back, and a tracer of OpenTelemetry's."""

from __future__ import annotations

from collections.abc import Iterator

import opentracing
import pytest
from opentelemetry.sdk.trace import TracerProvider

from opentracing_instrumentation import sqlcommenter
from opentracing_instrumentation.client_hooks import mysqldb, psycopg2
from opentracing_instrumentation.otel import Tracer
from tests.opentracing_instrumentation.conftest import spans  # noqa: F401 - the fixture
from tests.sql.conftest import mariadb, my, my_connect, pg, pg_connect, postgresql  # noqa: F401 - the fixtures


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
