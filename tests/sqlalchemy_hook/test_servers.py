"""Whole spans on real servers, of every driver: names, tables, rows, codes, and where it is that they come from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, declarative_base, relationship

from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service

from .conftest import Make

Base: Any = declarative_base()
TWO = tuple(int(part) for part in sa.__version__.split(".")[:2]) >= (2, 0)


class Customer(Base):
    __tablename__ = "hook_customers"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(50), unique=True)


class Order(Base):
    __tablename__ = "hook_orders"
    id = sa.Column(sa.Integer, primary_key=True)
    customer_id = sa.Column(sa.ForeignKey(Customer.id))
    customer = relationship(Customer)


customers, orders = Customer.__table__, Order.__table__
SERVERS = {"psycopg2": "postgresql", "asyncpg": "postgresql", "mysqldb": "mariadb"}


@pytest.fixture(autouse=True)
def without_connects() -> None:
    CONFIG.sql_trace_connects = False


@pytest.fixture(params=["psycopg2", "mysqldb"])
def engine(request: pytest.FixtureRequest, make: Make) -> Any:
    engine = make(request.param)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)


def told(spans: Spans) -> list[dict[str, Any]]:
    """What is told of each statement besides what is told of the engine."""
    shown = ("db.operation.name", "db.collection.name", "db.operation.batch.size", "db.rows_affected")
    names = ("operation", "table", "batch", "rows")
    tags = [span["tags"] for span in spans() if span["operation"].startswith("SQL")]
    return [{name: some[tag] for name, tag in zip(names, shown, strict=True) if tag in some} for some in tags]


def test_the_whole_span(engine: Any, tracer: MockTracer, spans: Spans, service: Callable[[str], Service]) -> None:
    hook.install_patches()
    with tracer.start_active_span("work"), engine.connect() as connection:
        connection.execute(sa.select(customers.c.name).where(customers.c.id == 1))
    at = service(SERVERS[engine.driver])
    placeholder = "%(id_1)s" if engine.driver == "psycopg2" else "%s"
    assert spans()[0] == {
        "operation": "SQL SELECT",
        "parent": "work",
        "tags": {
            "span.kind": "client",
            "component": "sqlalchemy",
            "db.type": engine.name,
            "db.instance": repr(engine.url),
            "sqlalchemy.driver": engine.driver,
            "db.namespace": at.database,
            "db.user": at.user,
            "peer.ipv4": at.host,
            "peer.port": at.port,
            "db.operation.name": "SELECT",
            "db.collection.name": "hook_customers",
            "db.statement": "SELECT hook_customers.name \nFROM hook_customers \n"
            f"WHERE hook_customers.id = {placeholder}",
        },
    }
    assert at.password not in str(spans())


def test_operations_tables_and_rows(engine: Any, spans: Spans) -> None:
    hook.install_patches()
    with engine.begin() as connection:
        connection.execute(customers.insert(), [{"id": number, "name": f"c{number}"} for number in range(1, 6)])
        connection.execute(customers.update().where(customers.c.id > 2).values(name=sa.null()))
        connection.execute(sa.select(orders.c.id).join(customers))
        connection.execute(sa.select(sa.func.count()).select_from(customers.alias("c")))
        connection.execute(sa.text("/* why */ DELETE FROM hook_customers WHERE id = 1"))
        connection.exec_driver_sql("SELECT 1")
    assert told(spans) == [
        {"operation": "INSERT", "table": "hook_customers", "batch": 5, "rows": 5},
        {"operation": "UPDATE", "table": "hook_customers", "rows": 3},
        {"operation": "SELECT", "table": "hook_orders"},
        {"operation": "SELECT", "table": "hook_customers"},
        {"operation": "DELETE", "table": "hook_customers", "rows": 1},
        {"operation": "SELECT"},
    ]


def test_the_orm(engine: Any, spans: Spans) -> None:
    hook.install_patches()
    with Session(engine) as session:
        session.add_all([Order(id=1, customer=Customer(id=1, name="a")), Order(id=2)])
        session.flush()
        session.expire_all()
        assert session.execute(sa.select(Order).join(Order.customer)).scalars().one().customer.name == "a"
    tables = [(one["operation"], one["table"]) for one in told(spans)]
    assert tables == [
        ("INSERT", "hook_customers"),
        ("INSERT", "hook_orders"),
        ("SELECT", "hook_orders"),
        ("SELECT", "hook_customers"),
    ]


@pytest.mark.skipif(not TWO, reason="SQLAlchemy < 2 has no insertmanyvalues")
def test_each_batch_of_insertmanyvalues_has_its_size(make: Make, spans: Spans) -> None:
    engine = make("psycopg2")
    Base.metadata.create_all(engine)
    hook.install_patches()
    with engine.connect() as connection:
        batched = connection.execution_options(insertmanyvalues_page_size=2)
        rows = [{"name": f"batched {number}"} for number in range(5)]
        assert len(batched.execute(customers.insert().returning(customers.c.id), rows).all()) == 5
    assert [one.get("batch", 1) for one in told(spans)] == [2, 2, 1]


@pytest.mark.skipif(not TWO, reason="SQLAlchemy < 2 has no insertmanyvalues")
@pytest.mark.parametrize(("driver", "insert"), [("psycopg2", postgresql.insert), ("pysqlite", sqlite.insert)])
def test_so_has_each_batch_with_parameters_elsewhere(make: Make, spans: Spans, driver: str, insert: Any) -> None:
    engine = make(driver)
    upsert = insert(customers).on_conflict_do_update(index_elements=["id"], set_={"name": "again"})
    rows = [{"id": 1000 + number, "name": f"batched {number}"} for number in range(8)]
    hook.install_patches()
    with engine.connect() as connection:
        Base.metadata.create_all(connection)
        batched = connection.execution_options(insertmanyvalues_page_size=3)
        assert len(batched.execute(upsert.returning(customers.c.id), rows).all()) == 8
    assert [one.get("batch", 1) for one in told(spans) if one["operation"] == "INSERT"] == [3, 3, 2]


def test_what_is_executed_for_a_default_is_told_as_what_it_is(make: Make, spans: Spans) -> None:
    engine = make("psycopg2")
    metadata = sa.MetaData()
    numbers = sa.Sequence("hook_numbers", metadata=metadata)
    numbered = sa.Table(
        "hook_numbered", metadata, sa.Column("id", sa.Integer, numbers, primary_key=True), implicit_returning=False
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    hook.install_patches()
    with engine.begin() as connection:
        connection.execute(numbered.insert())
    hook.reset_patches()
    metadata.drop_all(engine)
    assert [(row["operation"], row.get("table"), row.get("rows")) for row in told(spans)] == [
        ("SELECT", None, None),
        ("INSERT", "hook_numbered", 1),
    ]
    assert [span["operation"] for span in spans()] == ["SQL SELECT", "SQL INSERT"]


def test_the_code_of_an_error(engine: Any, spans: Spans) -> None:
    hook.install_patches()
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        connection.execute(customers.insert(), [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}])
    (span,) = [span for span in spans() if "error" in span["tags"]]
    code = {"psycopg2": "23505", "mysqldb": "1062"}[engine.driver]
    assert span["tags"]["db.response.status_code"] == code


def test_asyncpg(make: Make, tracer: MockTracer, spans: Spans, service: Callable[[str], Service]) -> None:
    """Statements of a task nest below the span of the task, and tell what those of other drivers tell."""
    hook.install_patches()

    async def request(engine: Any, number: int) -> None:
        with tracer.start_active_span(f"request {number}"):
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT CAST(:n AS int)"), {"n": number})
                with pytest.raises(sa.exc.ProgrammingError):
                    await connection.execute(sa.text("SELECT 1 FROM nowhere"))

    async def main() -> None:
        engine = make("asyncpg")
        await asyncio.gather(*(request(engine, number) for number in range(5)))
        await engine.dispose()

    asyncio.run(main())
    at = service("postgresql")
    statements = [span for span in spans() if span["operation"] == "SQL SELECT"]
    assert sorted(span["parent"] for span in statements) == sorted(f"request {n}" for n in range(5) for _ in range(2))
    failed = [span["tags"] for span in statements if "error" in span["tags"]]
    assert {tags["db.response.status_code"] for tags in failed} == {"42P01"}
    known = {"sqlalchemy.driver": "asyncpg", "db.namespace": at.database, "peer.port": at.port, "db.user": at.user}
    assert all(known.items() <= span["tags"].items() for span in statements)
