"""One query, one span: what a driver does for a statement of SQLAlchemy's is left out, or told below it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, declarative_base

from opentracing_instrumentation.client_hooks import mysqldb, psycopg2, sqlalchemy
from opentracing_instrumentation.client_hooks._dbapi2 import ConnectionFactory, ContextManagerConnectionWrapper
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service

Base: Any = declarative_base()
articles = sa.table("traced_article", sa.column("id"), sa.column("name"))


class Article(Base):
    __tablename__ = "traced_article"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(50))


def _postgresql(service: Callable[[str], Service]) -> Any:
    return sa.create_engine(service("postgresql").url.replace("postgresql:", "postgresql+psycopg2:"))


def _mariadb(service: Callable[[str], Service]) -> Any:
    return sa.create_engine(service("mariadb").url.replace("mysql:", "mysql+mysqldb:"))


def _sqlite(_: Callable[[str], Service]) -> Any:
    connect = ConnectionFactory(sqlite3.connect, "sqlite3", ContextManagerConnectionWrapper)
    return sa.create_engine("sqlite://", creator=lambda: connect(":memory:"), poolclass=sa.pool.StaticPool)


ENGINES = {"psycopg2": _postgresql, "MySQLdb": _mariadb, "sqlite3": _sqlite}


@pytest.fixture(params=ENGINES)
def module(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(module: str, service: Callable[[str], Service], tracer: MockTracer) -> Iterator[Any]:
    """An engine that has connected and asked what it wants to know."""
    for hook in (sqlalchemy, psycopg2, mysqldb):
        hook.install_patches()
    engine = ENGINES[module](service)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    tracer.reset()
    yield engine
    engine.dispose()


def outline(spans: Spans) -> list[tuple[str, str | None]]:
    return [(told["operation"], told["parent"]) for told in spans()]


def test_a_statement_has_no_span_of_its_driver(engine: Any, module: str, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"), Session(engine) as session:
        session.add_all([Article(id=number, name="pen") for number in (1, 2, 3)])
        session.commit()
        assert session.execute(sa.text("SELECT count(*) FROM traced_article")).scalar() == 3
    told = outline(spans)
    ends = {(f"{module}:commit", "work"), (f"{module}:rollback", "work")}
    assert [one for one in told if one not in ends] == [("SQL INSERT", "work"), ("SQL SELECT", "work"), ("work", None)]
    assert set(told) > ends


def test_a_statement_may_have_the_drivers_span_below_it(
    engine: Any, module: str, tracer: MockTracer, spans: Spans
) -> None:
    CONFIG.nest_driver_spans = True
    with engine.begin() as connection:
        connection.execute(articles.insert(), [{"id": number, "name": "pen"} for number in (1, 2, 3)])
    with engine.connect() as connection, tracer.start_active_span("work"):
        assert connection.execute(sa.text("SELECT count(*) FROM traced_article")).scalar() == 3
    assert outline(spans) == [
        (f"{module}:INSERT", "SQL INSERT"),
        ("SQL INSERT", None),
        (f"{module}:SELECT", "SQL SELECT"),
        ("SQL SELECT", "work"),
        ("work", None),
    ]


def test_a_statement_that_a_listener_executes_in_between_changes_nothing(
    engine: Any, tracer: MockTracer, spans: Spans
) -> None:
    @sa.event.listens_for(engine, "before_cursor_execute")
    def prepare(connection: Any, _: Any, statement: str, *__: Any) -> None:
        if statement == "SELECT 2":
            connection.exec_driver_sql("SELECT 1")

    with engine.connect() as connection, tracer.start_active_span("work"):
        assert connection.exec_driver_sql("SELECT 2").scalar() == 2
    assert outline(spans) == [("SQL SELECT", "work"), ("SQL SELECT", "work"), ("work", None)]


def test_an_error_is_told_once(engine: Any, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"), engine.connect() as connection, pytest.raises(sa.exc.DBAPIError):
        connection.execute(sa.text("SELECT 1 FROM nowhere"))
    assert [told["operation"] for told in spans() if "error" in told["tags"]] == ["SQL SELECT"]


def test_what_the_application_asks_the_driver_itself_is_traced(
    engine: Any, module: str, tracer: MockTracer, spans: Spans
) -> None:
    """Also while a result of SQLAlchemy's is being read, and below the same parent."""
    with tracer.start_active_span("work"), engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT 1"))
        cursor = connection.connection.cursor()
        cursor.execute("SELECT 2")
        assert rows.scalar() == 1
        cursor.close()
    assert outline(spans)[:2] == [("SQL SELECT", "work"), (f"{module}:SELECT", "work")]


def test_sqlalchemy_registers_its_types_with_a_traced_connection(
    service: Callable[[str], Service], tracer: MockTracer, spans: Spans
) -> None:
    psycopg2.install_patches()
    url = service("postgresql").url.replace("postgresql:", "postgresql+psycopg2:")
    engine = sa.create_engine(url, json_deserializer=lambda text: ("json", text))
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.cast({"a": 1}, JSONB))).scalar() == ("json", '{"a": 1}')
    engine.dispose()
    assert [told["operation"] for told in spans()] == ["psycopg2:connect"]
