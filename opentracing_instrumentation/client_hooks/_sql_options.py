"""How the statements of an engine are traced: by options of its own and, where it has none, by the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._core.safety import report
from .._core.statements import masked
from ..config import CONFIG, SETTINGS

#: The options that are settings, too: the setting in force is the default.
_SETTINGS = {
    "mask_literals": "sql_mask_literals",
    "min_duration": "sql_min_duration",
    "checkout_threshold": "sql_checkout_threshold",
    "trace_connects": "sql_trace_connects",
    "trace_pings": "sql_trace_pings",
    "trace_transactions": "sql_trace_transactions",
}
_ACCEPTED = ("filter", *_SETTINGS)


class Options:
    """The options of an engine.

    Args:
        given: ``filter``, a function that takes the text of a statement and tells whether that shall have a span; and
            ``mask_literals``, ``min_duration``, ``checkout_threshold``, ``trace_connects``, ``trace_pings`` and
            ``trace_transactions``, each instead of the setting ``CONFIG.sql_...`` of that name.

    Raises:
        TypeError: there is no such option.
        ValueError: it does not accept the value.
    """

    __slots__ = ("_filter", "_given")

    def __init__(self, **given: Any) -> None:
        for name, value in given.items():
            if name not in _ACCEPTED:
                raise TypeError(f"{name}={value!r}: there is no such option; there are {', '.join(_ACCEPTED)}")
            if name in _SETTINGS:
                kind = SETTINGS[_SETTINGS[name]].kind
                accepts, accepted = kind.accepts, kind.accepted
            else:
                accepts, accepted = _callable_or_none, "a function that takes a statement's text, or None"
            if not accepts(value):
                raise ValueError(f"{name}={value!r}: accepted is {accepted}")
        self._filter: Callable[[str], Any] | None = given.pop("filter", None)
        self._given: Mapping[str, Any] = given

    def admits(self, statement: str) -> bool:
        """Tell whether a statement shall have a span."""
        if self._filter is None:
            return True
        try:
            return bool(self._filter(statement))
        except Exception as error:
            report("filter of statements", error)
            return True

    def shown(self, statement: str) -> str:
        """Return a statement as a span shows it."""
        return masked(statement) if self.mask_literals else statement.strip()

    @property
    def mask_literals(self) -> bool:
        """Whether a span shows ``?`` for the literals in a statement."""
        return bool(self._given.get("mask_literals", CONFIG.sql_mask_literals))

    @property
    def min_duration(self) -> float:
        """How many seconds a statement must take to have a span, if it does not fail."""
        return float(self._given.get("min_duration", CONFIG.sql_min_duration))

    @property
    def checkout_threshold(self) -> float:
        """How many seconds the wait for a connection must take to have a span."""
        return float(self._given.get("checkout_threshold", CONFIG.sql_checkout_threshold))

    @property
    def trace_connects(self) -> bool:
        """Whether a new connection is a span."""
        return bool(self._given.get("trace_connects", CONFIG.sql_trace_connects))

    @property
    def trace_pings(self) -> bool:
        """Whether the ping of ``pool_pre_ping`` is a span."""
        return bool(self._given.get("trace_pings", CONFIG.sql_trace_pings))

    @property
    def trace_transactions(self) -> bool:
        """Whether begin, commit and rollback are spans, and transactions are counted on their parent."""
        return bool(self._given.get("trace_transactions", CONFIG.sql_trace_transactions))


def _callable_or_none(value: object) -> bool:
    return value is None or callable(value)
