"""What a span has to tell of the work below it that has no spans of its own: numbers, added up in its tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._core.safety import fork_safe_lock
from .._core.side_table import SideTable

#: The tags for statements without a span: how many, and their time in milliseconds.
LEFT_OUT, LEFT_OUT_TIME = "db.left_out.count", "db.left_out.duration_ms"
#: The tags for transactions: how many, their statements, and their time in milliseconds.
TRANSACTIONS, TRANSACTION_STATEMENTS = "db.transaction.count", "db.transaction.statement_count"
TRANSACTION_TIME = "db.transaction.duration_ms"

#: Held also while tags are set, so that the last one says it all; by a destructor that sends statements, once more.
_lock = fork_safe_lock()
_totals: SideTable[dict[str, float]] = SideTable()


def add(span: Any, amounts: Mapping[str, float]) -> None:
    """Add amounts to tags of a span. Any thread may do so; a span to which there can be no weak reference gets none."""
    with _lock:
        totals = _totals.get(span)
        if totals is None:
            totals = {}
            try:
                _totals.put(span, totals)
            except TypeError:
                return
        for tag, amount in amounts.items():
            totals[tag] = round(totals.get(tag, 0) + amount, 3)
            span.set_tag(tag, totals[tag])
