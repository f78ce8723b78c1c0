"""Marks on connections and sessions: they hold for what is done in a transaction, savepoints included, no longer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.event import registry
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from opentracing_instrumentation import sqlalchemy_opentracing as marks

from .conftest import MinimalSpan, Tell, User, users

ONE = sa.select(sa.literal(1))


@pytest.fixture
def parent() -> MinimalSpan:
    return MinimalSpan()


def bears_marks(obj: Any) -> bool:
    return marks.get_traced(obj) or marks.has_parent_span(obj)


def test_a_connection_is_marked_until_its_commit(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    with marked_only.connect() as connection:
        with connection.begin():
            marks.set_parent_span(connection, parent)
            connection.execute(users.insert())
            connection.execute(ONE)
        assert not bears_marks(connection)
        with connection.begin():
            connection.execute(ONE)
    assert told() == [("insert", parent), ("select", parent)]


def test_a_connection_is_marked_until_its_rollback(marked_only: Any, told: Tell) -> None:
    """After a failure, thrice with another parent."""
    with marked_only.connect() as connection:
        for number in range(3):
            parent = MinimalSpan(str(number))
            with pytest.raises(IntegrityError), connection.begin():
                marks.set_parent_span(connection, parent)
                connection.execute(users.insert().values(id=1))
                connection.execute(users.insert().values(id=1))
            assert not bears_marks(connection)
            with connection.begin():
                connection.execute(ONE)
            assert told() == [("insert", parent)] * 2


def test_savepoints_of_a_marked_connection_are_spans(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    with marked_only.connect() as connection, connection.begin():
        marks.set_parent_span(connection, parent)
        with connection.begin_nested():
            connection.execute(ONE)
        nested = connection.begin_nested()
        connection.execute(ONE)
        nested.rollback()
        connection.execute(ONE)
    operations = ["savepoint", "select", "release_savepoint"]
    operations += ["savepoint", "select", "rollback_to_savepoint", "select"]
    assert told() == [(operation, parent) for operation in operations]


def test_clearing_a_connection_takes_effect_at_once(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    with marked_only.connect() as connection, connection.begin():
        marks.set_parent_span(connection, parent)
        connection.execute(ONE)
        for _ in range(2):
            marks.clear_traced(connection)
            connection.execute(ONE)
    assert told() == [("select", parent)]


def test_a_connection_marked_before_anything_is_registered_loses_its_mark(engine: Any) -> None:
    with engine.connect() as connection:
        with connection.begin():
            marks.set_traced(connection)
        assert not bears_marks(connection)


@pytest.mark.parametrize("end", ["commit_twophase", "rollback_twophase"])
def test_the_end_of_a_transaction_of_two_phases_is_one(end: str, marked_only: Any) -> None:
    """SQLite has none, the events are those of a database that has."""
    with marked_only.connect() as connection:
        marks.set_traced(connection)
        getattr(connection.dispatch, end)(connection, "xid", True)
        assert not bears_marks(connection)


def commit(session: Any) -> None:
    session.commit()


def rollback(session: Any) -> None:
    session.rollback()


def close(session: Any) -> None:
    session.close()


def clear(session: Any) -> None:
    marks.clear_traced(session)


@pytest.mark.parametrize("end", [commit, rollback, close, clear])
def test_a_session_is_marked_until_its_end(end: Any, marked_only: Any, told: Tell) -> None:
    """Thrice with another parent; nothing is traced in between."""
    session = Session(marked_only)
    for number in range(3):
        parent = MinimalSpan(str(number))
        marks.set_parent_span(session, parent)
        session.execute(ONE)
        session.execute(ONE)
        end(session)
        assert not bears_marks(session)
        session.execute(ONE)
        session.commit()
        assert told() == [("select", parent)] * 2
    session.close()


def test_a_session_that_fails_is_marked_no_longer(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    with Session(marked_only) as session:
        session.add(User(id=1))
        session.commit()
        marks.set_parent_span(session, parent)
        session.add(User(id=1))
        with pytest.raises(IntegrityError):
            session.commit()
        assert not bears_marks(session)
        session.rollback()
        session.execute(ONE)
    assert told() == [("insert", parent)]


def test_what_the_orm_does_in_a_marked_session_is_traced(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    with Session(marked_only) as session:
        marks.set_parent_span(session, parent)
        session.add(User(name="a"))
        session.flush()
        session.query(User).filter_by(name="a").one().name = "b"
        session.commit()
    assert told() == [("insert", parent), ("select", parent), ("update", parent)]


def test_a_nested_transaction_ends_the_marks_of_the_session_not_of_its_connection(
    marked_only: Any, told: Tell, parent: MinimalSpan
) -> None:
    with Session(marked_only) as session:
        marks.set_parent_span(session, parent)
        session.execute(ONE)
        with session.begin_nested():
            assert marks.get_traced(session)
            session.execute(ONE)
        assert not marks.get_traced(session)
        session.execute(ONE)
        connection = session.connection()
        assert marks.get_parent_span(connection) is parent
        session.commit()
        assert not bears_marks(connection)
        session.execute(ONE)
    expected = ["select", "savepoint", "select", "release_savepoint", "select"]
    assert told() == [(operation, parent) for operation in expected]


def test_a_nested_transaction_that_is_rolled_back(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    with Session(marked_only) as session:
        marks.set_parent_span(session, parent)
        nested = session.begin_nested()
        session.execute(ONE)
        nested.rollback()
        session.execute(ONE)
        session.rollback()
        session.execute(ONE)
    expected = ["savepoint", "select", "rollback_to_savepoint", "select"]
    assert told()[-len(expected) :] == [(operation, parent) for operation in expected]


def test_a_session_may_be_marked_in_its_transaction(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    """And be marked anew, with another parent."""
    other = MinimalSpan("other")
    with Session(marked_only) as session:
        session.execute(ONE)
        for span in (parent, other):
            marks.set_parent_span(session, span)
            session.execute(ONE)
        session.commit()
        session.execute(ONE)
    assert told() == [("select", parent), ("select", other)]


def test_clearing_a_session_takes_effect_at_once(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    with Session(marked_only) as session:
        marks.set_parent_span(session, parent)
        session.execute(ONE)
        connection = session.connection()
        marks.clear_traced(session)
        assert not bears_marks(connection)
        session.execute(ONE)
    assert told() == [("select", parent)]


@pytest.mark.parametrize("end", [commit, rollback, close, clear])
def test_a_connection_that_a_session_is_bound_to_is_left_as_it_was(
    end: Any, marked_only: Any, told: Tell, parent: MinimalSpan
) -> None:
    """The session's marks go with it, those of the connection's own stay until the connection's own end."""
    other = MinimalSpan("other")
    for before in (None, other):
        with marked_only.connect() as connection:
            with connection.begin():
                if before:
                    marks.set_parent_span(connection, before)
                with Session(bind=connection, **_joining()) as session:
                    marks.set_parent_span(session, parent)
                    session.execute(ONE)
                    assert marks.get_parent_span(connection) is parent
                    end(session)
                    assert marks.get_parent_span(connection) is (before if connection.in_transaction() else None)
            assert not bears_marks(connection)
        assert ("select", parent) in told()


def _joining() -> dict[str, Any]:
    """The option by which a session's rollback does not end a connection's transaction, where there is one."""
    return {} if sa.__version__ < "2" else {"join_transaction_mode": "create_savepoint"}


def test_sessions_of_a_scope_are_marked_and_cleared(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    scope = scoped_session(sessionmaker(marked_only))
    marks.set_parent_span(scope, parent)
    assert (marks.get_traced(scope), marks.has_parent_span(scope)) == (True, True)
    assert marks.get_parent_span(scope()) is parent
    scope.execute(ONE)
    scope.commit()
    assert not bears_marks(scope)
    marks.set_parent_span(scope, parent)
    marks.clear_traced(scope)
    scope.execute(ONE)
    scope.remove()
    assert told() == [("select", parent)]


def _hides_listeners() -> bool:
    """Tell whether a listener to a class of sessions hides those to its base, as with SQLAlchemy 1.4.20."""
    heard = []

    class Base(Session):
        pass

    event.listen(Base, "after_begin", lambda *_: heard.append(True))
    factory = sessionmaker(sa.create_engine("sqlite://"), class_=Base)
    event.listen(factory, "after_begin", lambda *_: None)
    with factory() as session:
        session.execute(ONE)
    return not heard


def test_every_session_may_mark_itself(marked_only: Any, told: Tell, parent: MinimalSpan) -> None:
    """In a listener of its own, as each transaction begins."""
    if _hides_listeners():
        pytest.skip("this SQLAlchemy hides our listener behind the session's own")
    factory = sessionmaker(marked_only)
    event.listen(factory, "after_begin", lambda session, *_: marks.set_parent_span(session, parent))
    for _ in range(3):
        with factory() as session:
            session.execute(ONE)
            session.commit()
    assert told() == [("select", parent)] * 3


@pytest.mark.parametrize("abandon", [close, commit, lambda session: None], ids=["close", "commit", "abandon"])
def test_ten_thousand_marked_sessions_leave_nothing(marked_only: Any, abandon: Callable[[Any], None]) -> None:
    """No session, no span, no listener; however they end."""
    gc.collect()
    listeners, references = len(registry._key_to_collection), weakref.WeakSet[Any]()
    for _ in range(10_000):
        session = Session(marked_only)
        span = MinimalSpan()
        references |= {session, span}
        marks.set_parent_span(session, span)
        session.connection()
        abandon(session)
    del session, span
    gc.collect()
    gc.collect()  # the connections that the first has returned to their pool
    assert (len(references), len(marks._works)) == (0, 0)
    assert len(registry._key_to_collection) == listeners
