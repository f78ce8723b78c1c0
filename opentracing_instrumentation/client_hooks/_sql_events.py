"""One query, one span: who has it, of those who could have one for the same statement.

A driver's hook is told of the span that SQLAlchemy's hook has for what a cursor is executing, and SQLAlchemy's hook of
those who want to have the span in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

_executing: ContextVar[tuple[Any, Any] | None] = ContextVar("opentracing_instrumentation.sql", default=None)

#: Each tells, of an execution context of SQLAlchemy's and the statement's text, whether it will begin a span for it.
claimants: list[Callable[[Any, str], bool]] = []


def is_claimed(context: Any, statement: str) -> bool:
    """Tell whether somebody else will begin the span of a statement that SQLAlchemy is about to execute."""
    return any(claims(context, statement) for claims in claimants)


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
