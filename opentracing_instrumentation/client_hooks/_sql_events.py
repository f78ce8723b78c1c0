"""One query, one span: who has it, of those who could have one for the same statement.

A driver's hook is told of the span that SQLAlchemy's hook has for what a cursor is executing, and SQLAlchemy's hook of
those who want to have the span in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

#: What SQLAlchemy has a driver do: on which of its cursors or connections, and in which span, if in any.
Executing = tuple[Any, Any]

_executing: ContextVar[Executing | None] = ContextVar("opentracing_instrumentation.sql", default=None)

#: Stands for any cursor and connection.
ANYWHERE = object()

#: Each tells, of an execution context of SQLAlchemy's and the statement's text, whether it will begin a span for it.
claimants: list[Callable[[Any, str], bool]] = []


def is_claimed(context: Any, statement: str) -> bool:
    """Tell whether somebody else will begin the span of a statement that SQLAlchemy is about to execute."""
    return any(claims(context, statement) for claims in claimants)


def begin(place: Any, span: Any) -> Executing | None:
    """Note that something is about to be done by the driver, and what the span is for it.

    Args:
        place: the driver's cursor or connection, or :data:`ANYWHERE`.
        span: the span, or ``None`` if it is left out: the driver's hook has none either, then.

    Returns:
        what was being done before, for :func:`end`.
    """
    before = _executing.get()
    _executing.set((place, span))
    return before


def end(before: Executing | None) -> None:
    """Note that it is over, and that what was being done before goes on."""
    _executing.set(before)


def executing_on(place: Any) -> Executing | None:
    """Return what SQLAlchemy is doing on a driver's cursor or connection, or ``None``."""
    executing = _executing.get()
    if executing is not None and (executing[0] is place or executing[0] is ANYWHERE):
        return executing
    return None
