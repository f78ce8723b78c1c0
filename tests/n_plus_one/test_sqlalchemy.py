"""The N+1 of an ORM, with its cause and line, on SQLite, aiosqlite and asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import opentracing
import pytest
import sqlalchemy as sa
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider
from opentracing.mocktracer import MockTracer
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, immediateload, joinedload, selectin_polymorphic, selectinload, undefer
from sqlalchemy.orm.context import QueryContext

from opentracing_instrumentation import n_plus_one
from opentracing_instrumentation.client_hooks import set_current_span_func
from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.n_plus_one import Cause, Finding
from opentracing_instrumentation.otel import Tracer

from ..services import Service
from .shop import ORDERS, Base, Book, Customer, Item, Order, Tag, customers_names, fill, line_of, orders


@pytest.fixture(autouse=True)
def request_span(tracer: MockTracer) -> Any:
    """All is done below one span."""
    with tracer.start_active_span("request") as scope:
        yield scope.span


def test_the_n_plus_one_of_fifty_orders_is_named_with_relationship_and_line(
    session: Session, request_span: Any, findings: list[Finding], warnings: list[str]
) -> None:
    customers_names(session)
    (finding,) = findings
    assert finding.cause == Cause("Order.customer", "selectinload(Order.customer)")
    assert finding.line == line_of(customers_names, 2)
    assert "WHERE customers.id = ?" in finding.statement
    (warning,) = warnings
    assert "N+1: 10 similar statements" in warning
    assert f" at {finding.line}: " in warning
    assert warning.endswith("(lazy load of Order.customer; selectinload(Order.customer) avoids it)")
    told = {name: request_span.tags[name] for name in (n_plus_one.STATEMENT, n_plus_one.COUNT)}
    assert told == {n_plus_one.STATEMENT: finding.statement, n_plus_one.COUNT: ORDERS}
    assert request_span.tags[n_plus_one.DURATION] > 0


@pytest.mark.parametrize("load", [selectinload, joinedload])
def test_with_the_option_there_is_none(
    session: Session, request_span: Any, findings: list[Finding], warnings: list[str], load: Any
) -> None:
    customers_names(session, load(Order.customer))
    assert (findings, warnings, request_span.tags) == ([], [], {})


def test_a_thousand_different_statements_are_none(session: Session, findings: list[Finding]) -> None:
    for number in range(1000):
        session.execute(sa.text(f"SELECT 1 AS number_{number}"))
    assert findings == []


def test_values_in_the_text_make_no_difference(session: Session, findings: list[Finding]) -> None:
    for number in range(10):
        session.execute(sa.text(f"SELECT name FROM customers WHERE id = {number} AND name <> 'n{number}'"))
    assert [finding.statement for finding in findings] == ["SELECT name FROM customers WHERE id = ? AND name <> ?"]


def commit_first(session: Session) -> list[Any]:
    """The orders, expired."""
    found = orders(session)
    session.commit()
    return found


def expired(session: Session, name: str) -> list[Any]:
    found = orders(session)
    for order in found:
        session.expire(order, [name])
    return found


def items(session: Session, *options: Any) -> list[Any]:
    return list(session.execute(sa.select(Item).options(*options)).scalars())


def customers(session: Session) -> list[Any]:
    return list(session.execute(sa.select(Customer)).scalars())


LATE = [
    (lambda s: [o.customer for o in orders(s)], "lazy load of Order.customer; selectinload(Order.customer)"),
    (lambda s: [c.orders for c in customers(s)], "lazy load of Customer.orders; selectinload(Customer.orders)"),
    (lambda s: [o.tags for o in orders(s)], "lazy load of Order.tags; selectinload(Order.tags)"),
    (
        lambda s: orders(s, immediateload(Order.customer)),
        "lazy load of Order.customer; selectinload(Order.customer)",
    ),
    (
        lambda s: [o.items for o in orders(s, selectinload(Order.customer))],
        "lazy load of Order.items; selectinload(Order.items)",
    ),
    (lambda s: [o.note for o in orders(s)], "deferred load of Order.note; undefer(Order.note)"),
    (lambda s: [b.isbn for b in items(s)], "late load of Book.isbn; selectin_polymorphic(Item, [Book])"),
    (lambda s: [o.id for o in commit_first(s)], "refresh after expiry of Order; expire_on_commit=False"),
    (lambda s: [o.state for o in expired(s, "state")], "refresh after expiry of Order.state; eager_defaults=True"),
]


@pytest.mark.parametrize(("load", "cause"), LATE, ids=[cause for _, cause in LATE])
def test_what_an_orm_loads_late_is_named_with_what_avoids_it(
    session: Session, findings: list[Finding], load: Callable[[Session], Any], cause: str
) -> None:
    load(session)
    assert [str(finding.cause) for finding in findings] == [f"{cause} avoids it"]


def test_what_has_been_expired_by_itself_is_named_without_advice(session: Session, findings: list[Finding]) -> None:
    assert [order.customer_id for order in expired(session, "customer_id")]
    assert [finding.cause for finding in findings] == [Cause("Order.customer_id", None, "refresh after expiry")]
    assert str(findings[0].cause) == "refresh after expiry of Order.customer_id"


@pytest.mark.parametrize(
    "load",
    [
        lambda s: [o.note for o in orders(s, undefer(Order.note))],
        lambda s: [b.isbn for b in items(s, selectin_polymorphic(Item, [Book]))],
        lambda s: [o.items for o in orders(s, selectinload(Order.items))],
        lambda s: [o.tags for o in orders(s, selectinload(Order.tags))],
    ],
)
def test_the_advice_is_right(session: Session, findings: list[Finding], load: Callable[[Session], Any]) -> None:
    load(session)
    assert findings == []


@pytest.mark.parametrize(
    "load",
    [
        lambda s: [s.get(Tag, number) for number in range(1, 11)],
        lambda s: [s.refresh(order) for order in orders(s)],
        lambda s: [s.execute(sa.text("SELECT :n"), {"n": number}) for number in range(10)],
        lambda s: [s.connection().exec_driver_sql("SELECT ?", (number,)) for number in range(10)],
        lambda s: [s.execute(sa.select(Order).where(Order.id == number)) for number in range(10)],
    ],
)
def test_of_other_statements_no_cause_is_told(
    session: Session, findings: list[Finding], load: Callable[[Session], Any]
) -> None:
    load(session)
    assert [finding.cause for finding in findings] == [None]
    assert findings[0].line is not None
    assert findings[0].line.startswith(f"{__file__}:")


def test_a_batch_counts_as_nothing(engine: Any, findings: list[Finding]) -> None:
    with engine.begin() as connection:
        for number in range(100, 200, 10):
            connection.execute(Tag.__table__.insert(), [{"id": number}, {"id": number + 1}])
    assert findings == []


@pytest.mark.skipif(sa.__version__.startswith("1."), reason="SQLAlchemy < 2 has no insertmanyvalues")
def test_what_sqlalchemy_cuts_into_batches_counts_as_nothing(engine: Any, findings: list[Finding]) -> None:
    with engine.begin() as connection:
        paged = connection.execution_options(insertmanyvalues_page_size=2)
        paged.execute(Tag.__table__.insert().returning(Tag.id), [{"id": number} for number in range(100, 150)])
    assert findings == []


def test_failed_statements_count(engine: Any, findings: list[Finding]) -> None:
    with engine.connect() as connection:
        for number in range(10):
            with pytest.raises(sa.exc.OperationalError):
                connection.execute(sa.text(f"SELECT {number} FROM nowhere"))
    assert [finding.statement for finding in findings] == ["SELECT ? FROM nowhere"]


def test_statements_without_a_span_above_are_nobodys(engine: Any, findings: list[Finding]) -> None:
    set_current_span_func(lambda: None)
    with Session(engine) as session:
        customers_names(session)
    assert findings == []


def test_an_unknown_orm_costs_the_cause_alone(
    lenient: None, session: Session, findings: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ORM keeps of a statement is its own affair, and may change."""
    monkeypatch.setattr(QueryContext.default_load_options, "_lazy_loaded_from", property(), raising=True)
    for number in range(10):
        session.execute(sa.select(Order).where(Order.id == number))
    assert [finding.cause for finding in findings] == [None]


# OpenTelemetry: a native span is wrapped anew each time that it is asked for


def test_statements_below_a_native_span_count_together(engine: Any, findings: list[Finding]) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    opentracing.tracer = Tracer(provider)
    with provider.get_tracer("native").start_as_current_span("request") as native, Session(engine) as session:
        customers_names(session)
    assert [finding.count for finding in findings] == [10]
    assert native.attributes["db.n_plus_one.count"] == ORDERS
    assert native.attributes["db.n_plus_one.statement"] == findings[0].statement
    assert otel.get_current_span() is otel.INVALID_SPAN


def test_a_span_that_has_finished_is_told_nothing(engine: Any, warnings: list[str]) -> None:
    opentracing.tracer = tracer = Tracer(TracerProvider(shutdown_on_exit=False))
    with tracer.start_active_span("request") as scope:
        scope.span.finish()
        with Session(engine) as session:
            customers_names(session)
    assert ["N+1" in line for line in warnings] == [True]


# asyncio


async def lazy(session: AsyncSession) -> None:
    await session.run_sync(customers_names)


async def one_by_one(session: AsyncSession) -> None:
    for number in range(1, ORDERS + 1):
        await session.execute(sa.select(Order).where(Order.id == number))


async def through_another(session: AsyncSession) -> None:
    async def order(number: int) -> Any:
        return await session.get(Order, number)

    assert [await order(number) for number in range(1, ORDERS + 1)]


async def streamed(session: AsyncSession) -> None:
    for number in range(1, ORDERS + 1):
        async for _ in await session.stream(sa.select(Order.id).where(Order.id == number)):
            pass


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg"])
@pytest.mark.parametrize(
    ("work", "line", "cause"),
    [
        (lazy, line_of(customers_names, 2), Cause("Order.customer", "selectinload(Order.customer)")),
        (one_by_one, line_of(one_by_one, 2), None),
        (through_another, line_of(through_another, 2, "order"), None),
        (streamed, line_of(streamed, 2), None),
    ],
    ids=["lazy", "one by one", "through another", "streamed"],
)
def test_the_line_is_found_behind_an_await(
    work: Any, line: str, cause: Any, driver: str, request: Any, tmp_path: Path, findings: list[Finding]
) -> None:
    hook.install_patches()
    url = f"sqlite+aiosqlite:///{tmp_path}/database" if driver == "aiosqlite" else _postgresql(request)

    async def main() -> None:
        CONFIG.n_plus_one_threshold = 0  # to look for each table and to fill it is one
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            await session.run_sync(fill)
        CONFIG.n_plus_one_threshold = 10
        async with AsyncSession(engine) as session:
            await work(session)
        CONFIG.n_plus_one_threshold = 0
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()

    asyncio.run(main())
    assert [(finding.line, finding.cause) for finding in findings] == [(line, cause)]


def _postgresql(request: Any) -> Any:
    server: Service = request.getfixturevalue("service")("postgresql")
    return sa.engine.make_url(server.url).set(drivername="postgresql+asyncpg")
