"""SQLAlchemy's transactions, if they are traced: the spans of their ends, and their statements and time, counted."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from opentracing import Span

from .._core.side_table import SideTable
from ..request_context import current_span
from ..utils import start_child_span
from . import _sql_counts, _sql_events
from ._sql_engines import traced


class _Transaction:
    __slots__ = ("started", "statements")

    def __init__(self) -> None:
        self.started = perf_counter()
        self.statements = 0


#: The open transactions, by their connections.
_open: SideTable[_Transaction] = SideTable()


def count_statement(connection: Any) -> None:
    """Count a statement in the transaction that is open on a connection of SQLAlchemy's."""
    transaction = _open.get(connection)
    if transaction is not None:
        transaction.statements += 1


class TransactionCall:
    """A begin, commit or rollback in a span; the driver's hook has none for it."""

    __slots__ = ("_before", "_connection", "_parent", "_span")

    def __init__(self, parent: Any, span: Span, connection: Any) -> None:
        self._parent = parent
        self._span = span
        self._connection = connection
        self._before = _sql_events.begin(_sql_events.ANYWHERE, span)

    def finish(self) -> None:
        """Note that the call returned."""
        self._end()
        self._span.finish()

    def __exit__(self, *error: Any) -> None:
        """Note that the call raised."""
        self._end()
        self._span.__exit__(*error)

    def _end(self) -> None:
        _sql_events.end(self._before)
        transaction = None if self._connection is None else _open.get(self._connection)
        if transaction is not None:
            _open.pop(self._connection)
            _sql_counts.add(
                self._parent,
                {
                    _sql_counts.TRANSACTIONS: 1,
                    _sql_counts.TRANSACTION_STATEMENTS: transaction.statements,
                    _sql_counts.TRANSACTION_TIME: (perf_counter() - transaction.started) * 1000,
                },
            )


def transaction_call(connection: Any, operation: str) -> TransactionCall | None:
    """Return the traced call of a begin, prepare, commit or rollback, unless there is to be none."""
    engine = traced(connection.engine)
    if not engine or not engine.rules.trace_transactions:
        return None
    parent = current_span()
    if parent is None:
        return None
    if operation == "begin":
        _open.put(connection, _Transaction())
    span = start_child_span(f"sqlalchemy:{operation}", parent=parent, tags=engine.tags.copy())
    return TransactionCall(parent, span, connection if operation in ("commit", "rollback") else None)
