"""What the tests of marks share: a tracer that can do no more than it must, tables, and nothing left registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import declarative_base, relationship

from opentracing_instrumentation import sqlalchemy_opentracing as marks

Base: Any = declarative_base()


class User(Base):
    __tablename__ = "users"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String, unique=True)
    orders = relationship("Order")


class Order(Base):
    __tablename__ = "orders"
    id = sa.Column(sa.Integer, primary_key=True)
    user_id = sa.Column(sa.ForeignKey("users.id"))


users = User.__table__
Tell = Callable[[], list[tuple[str, Any]]]


class MinimalSpan:
    """A span with `set_tag` and `finish`, and nothing else."""

    def __init__(self, operation_name: str = "parent", child_of: Any = None) -> None:
        self.operation_name = operation_name
        self.child_of = child_of
        self.tags: dict[str, Any] = {}
        self.finished = 0

    def __repr__(self) -> str:
        return f"<{self.operation_name}>"

    def set_tag(self, key: str, value: Any) -> None:
        assert not self.finished
        self.tags[key] = value

    def finish(self) -> None:
        self.finished += 1


class MinimalTracer:
    """A tracer with `start_span`, of which it knows two arguments; whatever it has begun is in `spans`."""

    def __init__(self) -> None:
        self.spans: list[MinimalSpan] = []

    def start_span(self, operation_name: str, child_of: Any = None) -> MinimalSpan:
        self.spans.append(MinimalSpan(operation_name, child_of))
        return self.spans[-1]


@pytest.fixture
def own() -> Iterator[MinimalTracer]:
    """The tracer of the marks; at the end every span that it began has ended once."""
    tracer = MinimalTracer()
    yield tracer
    assert [span for span in tracer.spans if span.finished != 1] == []


@pytest.fixture(autouse=True)
def unregistered() -> Iterator[None]:
    """After the test neither a tracer nor an engine is left."""
    yield
    marks._clear_tracer()
    marks._registered.clear()
    marks._statements.reset_patches()
    marks._transactions.reset_patches()
    marks.g_trace_all_queries = marks.g_trace_all_engines = False


@pytest.fixture
def engine() -> Iterator[Any]:
    """An engine with tables, not registered."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def marked_only(engine: Any, own: MinimalTracer) -> Any:
    """The engine, registered; marked statements are traced."""
    marks.init_tracing(own, trace_all_engines=False, trace_all_queries=False)
    marks.register_engine(engine)
    return engine


@pytest.fixture
def told(own: MinimalTracer) -> Tell:
    """Tell the operations and parents of the spans that were begun since the last time."""

    def tell() -> list[tuple[str, Any]]:
        spans = [(span.operation_name, span.child_of) for span in own.spans if span.finished == 1]
        assert len(spans) == len(own.spans)
        own.spans.clear()
        return spans

    return tell
