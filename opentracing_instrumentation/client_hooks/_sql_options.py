"""How the statements of an engine are traced: by options of its own and, where it has none, by the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


class Rules(NamedTuple):
    """How statements are traced, by options and settings."""

    filter: Callable[[str], Any] | None
    mask_literals: bool
    min_duration: float
    checkout_threshold: float
    trace_connects: bool
    trace_pings: bool
    trace_transactions: bool

    def admits(self, statement: str) -> bool:
        """Tell whether the filter lets a statement have a span."""
        try:
            return self.filter is None or bool(self.filter(statement))
        except Exception as error:
            report("filter of statements", error)
            return True

    def shown(self, statement: str) -> str:
        """Return a statement as a span shows it."""
        return masked(statement) if self.mask_literals else statement.strip()


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

    __slots__ = ("_given",)

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
        self._given: Mapping[str, Any] = given

    def in_force(self) -> Rules:
        """Return what holds while the settings stay as they are."""
        given = {name: self._given.get(name, getattr(CONFIG, setting)) for name, setting in _SETTINGS.items()}
        return Rules(filter=self._given.get("filter"), **given)


def _callable_or_none(value: object) -> bool:
    return value is None or callable(value)
