"""One query, one span: tells a driver's hook that SQLAlchemy's hook has a span for what a cursor is executing."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

_executing: ContextVar[tuple[Any, Any] | None] = ContextVar("opentracing_instrumentation.sql", default=None)


def begin(cursor: Any, span: Any) -> None:
    """Note that a statement with this span is about to be executed on this cursor of the driver."""
    _executing.set((cursor, span))


def end() -> None:
    """Note that it is over."""
    _executing.set(None)


def span_above(cursor: Any) -> Any:
    """Return the span of the statement that is being executed on this cursor, or ``None``."""
    executing = _executing.get()
    return executing[1] if executing is not None and executing[0] is cursor else None
