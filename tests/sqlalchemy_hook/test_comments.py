"""Comments in SQLAlchemy's statements, as the servers' own logs have them; results and caches stay as they are."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import opentracing
import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentracing.mocktracer import MockTracer
from sqlalchemy.orm import Session, declarative_base

from opentracing_instrumentation import sqlcommenter
from opentracing_instrumentation.client_hooks import mysqldb, psycopg2
from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.otel import Tracer
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service
from tests.sqlcommenter.told import begun, traceparent

from .conftest import Make

Base: Any = declarative_base()


class Article(Base):
    __tablename__ = "commented_articles"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(200))


articles = Article.__table__


@pytest.fixture
def otel(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    tracer = Tracer(TracerProvider(shutdown_on_exit=False))
    monkeypatch.setattr(opentracing, "tracer", tracer)
    return tracer


def logged(server: Service, sign: str) -> list[dict[str, str]]:
    """What the comments of those statements say that the server has logged, and that hold a sign."""
    return [sqlcommenter.parse(line) for line in server.logged(sign) if "/*" in line]


@pytest.mark.parametrize(("driver", "server"), [("psycopg2", "postgresql"), ("mysqldb", "mariadb")])
def test_the_servers_log_names_the_span_of_the_statement(
    make: Make,
    service: Callable[[str], Service],
    otel: Tracer,
    monkeypatch: pytest.MonkeyPatch,
    driver: str,
    server: str,
) -> None:
    engine, sign = make(driver), uuid.uuid4().hex
    for module in (psycopg2, mysqldb):
        module.install_patches()
    hook.instrument_engine(engine, enable_commenter=True, commenter_options={"service": "shop", "route": "/a/{id}"})
    with engine.connect() as connection:
        spans = begun(monkeypatch, otel)
        assert connection.execute(sa.text(f"SELECT '{sign}', :n"), {"n": 1}).all() == [(sign, 1)]
    (comment,) = logged(service(server), sign)
    assert comment == {
        "db_driver": driver,
        "db_framework": f"sqlalchemy:{sa.__version__}",
        "service": "shop",
        "route": "/a/{id}",
        "traceparent": traceparent(spans[0]),
    }


@pytest.mark.parametrize("force", [False, True])
def test_asyncpg_gets_the_context_only_if_forced(
    make: Make,
    service: Callable[[str], Service],
    otel: Tracer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    force: bool,
) -> None:
    sign, spans = uuid.uuid4().hex, begun(monkeypatch, otel)
    monkeypatch.setattr(sqlcommenter, "_warned", set())

    async def main() -> None:
        engine = make("asyncpg")
        hook.instrument_engine(engine, enable_commenter=True, commenter_force=force)
        async with engine.connect() as connection:
            await connection.execute(sa.text(f"SELECT '{sign}', CAST(:n AS int)"), {"n": 1})
            await connection.execute(sa.text(f"SELECT '{sign}', CAST(:n AS int)"), {"n": 2})
        await engine.dispose()

    asyncio.run(main())
    comments = logged(service("postgresql"), sign)
    assert {comment["db_driver"] for comment in comments} == {"asyncpg"}
    contexts = {comment.get("traceparent") for comment in comments}
    assert contexts == ({traceparent(span) for span in spans} if force else {None})
    assert ("asyncpg prepares statements" in caplog.text) is not force


@pytest.mark.parametrize("mode", ["off", "static", "full"])
def test_asyncpg_prepares_a_statement_once(make: Make, otel: Tracer, mode: str) -> None:
    """Comments that name the span would make a hundred statements out of one: they do not, unless they are forced."""
    CONFIG.sql_comments = mode
    hook.install_patches()

    async def main() -> Any:
        engine = make("asyncpg")
        async with engine.connect() as connection:
            for number in range(100):
                with otel.start_active_span("request"):
                    await connection.execute(sa.text("SELECT CAST(:n AS int)"), {"n": number})
            count = sa.text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT CAST%'")
            prepared = (await connection.execute(count)).scalar()
        await engine.dispose()
        return prepared

    assert asyncio.run(main()) == 1


def test_the_number_of_statements_stays(make: Make, otel: Tracer) -> None:
    """MySQLdb makes one INSERT out of an executemany only as long as that has no comment."""
    engine = make("mysqldb")
    hook.instrument_engine(engine, enable_commenter=True)
    Base.metadata.create_all(engine)
    rows = [{"name": f"article {number}"} for number in range(2000)]
    with engine.begin() as connection:
        before = inserts(connection)
        connection.execute(articles.insert(), rows)
        assert inserts(connection) - before == 1
        connection.execute(articles.delete())


def inserts(connection: Any) -> int:
    return int(connection.execute(sa.text("SHOW SESSION STATUS LIKE 'Com_insert'")).one()[1])


TEXTS = [
    "SELECT 1",
    "SELECT 1;",
    "SELECT '100 %', 'it''s'",
    "SELECT 1 -- note",
    "SELECT /* why */ 1",
    "SELECT '/*'",
]


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg2", "mysqldb"])
@pytest.mark.parametrize("text", TEXTS)
def test_results_stay(make: Make, tracer: MockTracer, driver: str, text: str) -> None:
    engine = make(driver)
    with engine.connect() as connection:
        text = text if driver == "pysqlite" else text.replace("%", "%%")
        expected = connection.exec_driver_sql(text).all()
        hook.instrument_engine(engine, enable_commenter=True, commenter_options={"route": "/50%25/*'"})
        again = connection.exec_driver_sql(text).all()
    assert again == expected


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg2", "mysqldb"])
def test_the_orm_does_not_notice(make: Make, tracer: MockTracer, driver: str) -> None:
    engine = make(driver)
    hook.instrument_engine(engine, enable_commenter=True, commenter_options={"action": "50 % off"})
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Article(id=number, name=f"{number} %") for number in (1, 2, 3)])
        session.commit()
        found = session.query(Article).filter(Article.name.contains("%", autoescape=True)).order_by(Article.id)
        assert [article.name for article in found] == ["1 %", "2 %", "3 %"]
    Base.metadata.drop_all(engine)


def test_the_span_shows_the_comment_on_demand(make: Make, spans: Spans) -> None:
    engine = make("pysqlite")
    options = {"db_driver": False, "db_framework": False, "service": "shop"}
    for shown in (False, True):
        hook.instrument_engine(
            engine, commenter_mode="static", commenter_options=options, enable_attribute_commenter=shown
        )
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    assert [told["tags"]["db.statement"] for told in spans()] == ["SELECT 1", "SELECT 1 /*service='shop'*/"]


def sent(engine: Any) -> list[str]:
    """The list of the statements that the driver gets from now on."""
    statements: list[str] = []
    sa.event.listen(engine, "do_execute", lambda cursor, statement, *_: statements.append(statement))
    return statements


@pytest.mark.parametrize("driver", ["psycopg2", "mysqldb"])
def test_a_statement_is_commented_whether_or_not_its_span_is_recorded(
    make: Make, otel: Tracer, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    """The bounded part is always the same, or a statement that is sampled out had a plan of its own."""
    CONFIG.sql_comments = "static"
    hook.install_patches()
    engine = make(driver)
    statements = sent(engine)
    unsampled = Tracer(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    for tracer in (otel, unsampled, opentracing.Tracer()):
        monkeypatch.setattr(opentracing, "tracer", tracer)
        with tracer.start_active_span("request"), engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    assert len([text for text in statements if text.startswith("SELECT 1")]) == 3
    assert len({text for text in statements if text.startswith("SELECT 1")}) == 1
    assert "/*db_driver=" in statements[-1]


def test_full_comments_without_a_tracer_say_what_static_ones_do(make: Make) -> None:
    engine = make("pysqlite")
    statements = sent(engine)
    for mode in ("static", "full"):
        hook.instrument_engine(engine, enable_commenter=True, commenter_mode=mode, commenter_force=True)
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    assert statements[0] == statements[1] != "SELECT 1"


def test_statements_that_are_sampled_out_name_the_span_that_they_are_below(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make("pysqlite")
    hook.instrument_engine(engine, enable_commenter=True, commenter_force=True)
    statements = sent(engine)
    tracer = Tracer(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    monkeypatch.setattr(opentracing, "tracer", tracer)
    expected = []
    with engine.connect() as connection:
        for _ in range(2):
            with tracer.start_active_span("request") as scope:
                expected += [traceparent(scope.span)] * 2
                for number in range(2):
                    connection.execute(sa.text(f"SELECT {number}"))
    assert [sqlcommenter.parse(statement)["traceparent"] for statement in statements] == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"commenter_mode": "all"}, "mode = 'all': accepted is 'off' or 'static' or 'full'"),
        ({"enable_commenter": 1}, "enable_commenter=1: accepted is True or False"),
        ({"commenter_options": ["service"]}, "commenter_options = .'service'.: accepted is a mapping"),
    ],
)
def test_wrong_options_are_refused(make: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        hook.instrument_engine(make("pysqlite"), **options)


def test_a_function_that_raises_leaves_the_statement_as_it_was(make: Make, lenient: None, spans: Spans) -> None:
    engine = make("pysqlite")
    hook.instrument_engine(engine, enable_commenter=True, commenter_options={"route": lambda: 1 / 0})
    statements = sent(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    assert statements == ["SELECT 1"]
    assert len(spans()) == 1
