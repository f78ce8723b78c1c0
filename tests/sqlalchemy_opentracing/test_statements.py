"""Marks on statements: who is traced, below which span, and that a mark serves once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable

from opentracing_instrumentation import sqlalchemy_opentracing as marks

from .conftest import MinimalSpan, MinimalTracer, Order, Tell, User, users

CREATED = "CREATE TABLE users (id INTEGER NOT NULL, name VARCHAR, PRIMARY KEY (id), UNIQUE (name))"


def tags(statement: str, **more: str) -> dict[str, Any]:
    told = {"component": "sqlalchemy", "db.type": "sql", "sqlalchemy.dialect": "sqlite", "db.statement": statement}
    return {**told, **{key.replace("exception", "sqlalchemy.exception"): value for key, value in more.items()}}


def test_a_span_bears_the_statement_on_one_line(own: MinimalTracer) -> None:
    marks.init_tracing(own)
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(CreateTable(users))
    (span,) = own.spans
    assert (span.operation_name, span.child_of, span.tags) == ("create_table", None, tags(CREATED))


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("\n SELECT 1\nFROM t\t", "SELECT 1 FROM t"),
        ("SELECT a, \n\tb \nFROM t", "SELECT a, b FROM t"),
        ("SELECT (\n\ta\n)\n\nFROM\r\nt", "SELECT (a) FROM t"),
        ("SELECT  'a  b'", "SELECT  'a  b'"),
        ("x\n\t)y\n\n\t z", "x)y z"),
    ],
)
def test_newlines_go_without_gluing_words(statement: str, line: str) -> None:
    assert marks._on_one_line(statement) == line


def test_a_failure_is_tagged_with_the_drivers_words(marked_only: Any, own: MinimalTracer) -> None:
    statement = users.insert().values(id=1)
    marks.set_traced(statement)
    with marked_only.begin() as connection:
        connection.execute(users.insert().values(id=1))
        with pytest.raises(IntegrityError):
            connection.execute(statement)
    (span,) = own.spans
    expected = tags("INSERT INTO users (id) VALUES (?)", exception="UNIQUE constraint failed: users.id", error="true")
    assert span.tags == expected
    assert not marks.get_traced(statement)


def test_equal_statements_keep_their_own_parents(marked_only: Any, told: Tell) -> None:
    """Three times over: what was compiled for the first serves the others, their marks are their own."""
    for round_ in range(3):
        first, second = MinimalSpan(f"first {round_}"), MinimalSpan(f"second {round_}")
        one, plain, two = (sa.select(users.c.id).where(users.c.id == number) for number in range(3))
        marks.set_parent_span(one, first)
        marks.set_parent_span(two, second)
        with marked_only.connect() as connection:
            for statement in (plain, one, plain, two, plain):
                connection.execute(statement)
        assert told() == [("select", first), ("select", second)]
        assert not any(map(marks.get_traced, (one, plain, two)))
        assert not any(map(marks.has_parent_span, (one, plain, two)))


def _orm_statements() -> dict[str, Callable[[], Any]]:
    return {
        "select": lambda: sa.select(User).where(User.id == 7),
        "insert": lambda: sa.insert(User).values(id=8),
        "update": lambda: sa.update(User).where(User.id == 7).values(name="x"),
        "delete": lambda: sa.delete(User).where(User.id == 7),
        "textclause": lambda: sa.text("SELECT 1"),
    }


@pytest.mark.parametrize("operation", _orm_statements())
def test_the_mark_of_what_the_orm_copies_goes_too(operation: str, marked_only: Any, told: Tell) -> None:
    """The caller's own statement is no longer marked, three times over; unmarked ones in between are not traced."""
    for _ in range(3):
        parent = MinimalSpan()
        statement, plain = _orm_statements()[operation](), _orm_statements()[operation]()
        marks.set_parent_span(statement, parent)
        for executed in (plain, statement, plain):
            with Session(marked_only) as session:
                session.execute(executed)
        assert told() == [(operation, parent)]
        assert (marks.get_traced(statement), marks.has_parent_span(statement)) == (False, False)


def test_a_mark_serves_once_and_may_be_renewed(marked_only: Any, told: Tell) -> None:
    statement, parent = sa.select(users), MinimalSpan()
    with marked_only.connect() as connection:
        for _ in range(3):
            marks.set_parent_span(statement, parent)
            connection.execute(statement)
            connection.execute(statement)
    assert told() == [("select", parent)] * 3


def test_a_derived_statement_inherits_the_marks(marked_only: Any, told: Tell) -> None:
    """Each of the two is executed with them once."""
    parent = MinimalSpan()
    base = sa.select(users)
    marks.set_parent_span(base, parent)
    derived = base.where(users.c.id == 1)
    with marked_only.connect() as connection:
        for statement in (base, derived, base, derived):
            connection.execute(statement)
    assert told() == [("select", parent)] * 2


def test_the_mark_of_a_statement_decides_before_that_of_its_connection(marked_only: Any, told: Tell) -> None:
    first, second = MinimalSpan("first"), MinimalSpan("second")
    below, untraced, plain = sa.select(users.c.id), sa.select(users.c.id), sa.select(users.c.id)
    marks.set_parent_span(below, second)
    untraced._traced = False
    with marked_only.connect() as connection:
        marks.set_parent_span(connection, first)
        for statement in (below, untraced, plain):
            connection.execute(statement)
    assert told() == [("select", second), ("select", first)]


def test_a_lambda_is_one_by_name(marked_only: Any, told: Tell) -> None:
    with marked_only.connect() as connection:
        for _ in range(3):
            parent = MinimalSpan()
            statement = sa.lambda_stmt(lambda: sa.select(users))
            marks.set_parent_span(statement, parent)
            connection.execute(statement)
            assert told() == [("lambda_element", parent)]
            assert not marks.get_traced(statement)


def test_strings_are_text_and_pragmas_are_left_out(engine: Any, own: MinimalTracer, told: Tell) -> None:
    marks.init_tracing(own)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        connection.exec_driver_sql("PRAGMA user_version")
        connection.exec_driver_sql("pragma user_version")
    assert told() == [("textclause", None), ("textclause", None)]


def test_many_rows_are_one_span_if_they_are_sent_as_one(marked_only: Any, told: Tell) -> None:
    statement, parent = users.insert(), MinimalSpan()
    marks.set_parent_span(statement, parent)
    with marked_only.begin() as connection:
        connection.execute(statement, [{"name": "a"}, {"name": "b"}])
    assert told() == [("insert", parent)]


@pytest.mark.skipif(sa.__version__ < "2", reason="SQLAlchemy 1.4 has no batches of INSERT .. RETURNING")
def test_every_batch_of_a_marked_statement_is_traced(marked_only: Any, told: Tell) -> None:
    """One execution that is sent as several statements keeps its marks to its end."""
    statement, parent = users.insert().returning(users.c.id), MinimalSpan()
    marks.set_parent_span(statement, parent)
    with marked_only.begin() as connection:
        paged = connection.execution_options(insertmanyvalues_page_size=2)
        paged.execute(statement, [{"name": str(number)} for number in range(5)])
    assert told() == [("insert", parent)] * 3
    assert not marks.get_traced(statement)


def test_a_default_that_is_asked_for_before_does_not_use_up_the_mark(marked_only: Any, told: Tell) -> None:
    """What an INSERT asks first is sent within its execution, and bears its name."""
    default = sa.select(sa.literal(5)).scalar_subquery()
    table = sa.Table(
        "defaults", sa.MetaData(), sa.Column("id", sa.Integer, default=default, primary_key=True), **_asked_before()
    )
    statement, parent = table.insert(), MinimalSpan()
    with marked_only.begin() as connection:
        table.create(connection)
        marks.set_parent_span(statement, parent)
        connection.execute(statement)
        connection.execute(table.delete())
    assert told() == [("insert", parent)] * 2


def _asked_before() -> dict[str, Any]:
    return {} if sa.__version__ < "2" else {"implicit_returning": False}


def test_a_statement_of_an_engine_that_is_not_registered_keeps_its_mark(marked_only: Any, told: Tell) -> None:
    other = sa.create_engine("sqlite://")
    statement = sa.select(sa.literal(1))
    marks.set_traced(statement)
    for engine in (other, marked_only):
        with engine.connect() as connection:
            connection.execute(statement)
    assert told() == [("select", None)]


def test_a_failing_fetch_after_the_end_is_not_the_statements(marked_only: Any, own: MinimalTracer) -> None:
    """A statement's span ends once, without an error of later."""
    statement = sa.select(users)
    marks.set_traced(statement)
    with marked_only.connect() as connection:
        result = connection.execute(statement)
        result.cursor.close()
        with pytest.raises(sa.exc.ProgrammingError):
            result.fetchall()
    assert "error" not in own.spans[0].tags


def test_a_statement_whose_failure_nobody_announces_is_finished(marked_only: Any, own: MinimalTracer) -> None:
    with marked_only.connect() as connection:
        silent = connection.execution_options(skip_user_error_events=True)
        marks.set_traced(silent)
        with pytest.raises(OperationalError):
            silent.execute(sa.text("SELECT 1 FROM nowhere"))
    gc.collect()
    assert [span.finished for span in own.spans] == [1]


def test_a_statement_that_is_vetoed_is_no_span_and_loses_its_mark(marked_only: Any, told: Tell) -> None:
    def veto(*_: Any) -> None:
        raise PermissionError

    statement = sa.select(users)
    marks.set_traced(statement)
    event.listen(marked_only, "before_cursor_execute", veto)
    with marked_only.connect() as connection, pytest.raises(PermissionError):
        connection.execute(statement)
    event.remove(marked_only, "before_cursor_execute", veto)
    assert told() == []


def test_the_cache_of_compiled_statements_keeps_no_span(marked_only: Any, own: MinimalTracer) -> None:
    references = []
    fetch = sa.update(User).where(User.id > 7).values(name="x").execution_options(synchronize_session="fetch")
    made_once = sa.lambda_stmt(lambda: sa.select(users.c.name))
    for statement in (fetch, made_once, *(make() for make in _orm_statements().values())):
        parent = MinimalSpan()
        references.append(weakref.ref(parent))
        marks.set_parent_span(statement, parent)
        with Session(marked_only) as session:
            session.execute(statement)
    del parent
    own.spans.clear()
    gc.collect()
    assert [reference() for reference in references] == [None] * 7


def test_lazy_loads_of_a_marked_statement_are_not_marked(marked_only: Any, told: Tell) -> None:
    with Session(marked_only) as session:
        session.add(User(id=1, orders=[Order()]))
        session.commit()
        statement, parent = sa.select(User), MinimalSpan()
        marks.set_parent_span(statement, parent)
        assert len(session.execute(statement).scalars().one().orders) == 1
    assert told() == [("select", parent)]


def test_no_tracer_no_span(marked_only: Any, told: Tell) -> None:
    """Registered engines work on without one."""
    marks._clear_tracer()
    statement = sa.select(users)
    marks.set_traced(statement)
    with marked_only.connect() as connection:
        assert connection.execute(statement).fetchall() == []
    assert told() == []


@pytest.mark.usefixtures("lenient")
def test_a_tracer_that_fails_does_not_reach_the_application(marked_only: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def start_span(self, operation_name: str, child_of: Any = None) -> Any:
            raise ZeroDivisionError

    monkeypatch.setattr(marks, "g_tracer", Failing())
    monkeypatch.setattr(marks, "g_trace_all_queries", True)
    with marked_only.connect() as connection:
        assert connection.execute(sa.select(users)).fetchall() == []
