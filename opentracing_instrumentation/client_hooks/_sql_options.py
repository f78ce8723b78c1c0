"""How the statements of an engine are traced: by options of its own and, where it has none, by the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .. import sqlcommenter
from .._core.safety import report
from .._core.statements import masked
from ..config import CONFIG, FLAG, SETTINGS

#: The options that are settings, too: the setting in force is the default.
_SETTINGS = {
    "mask_literals": "sql_mask_literals",
    "min_duration": "sql_min_duration",
    "checkout_threshold": "sql_checkout_threshold",
    "trace_connects": "sql_trace_connects",
    "trace_pings": "sql_trace_pings",
    "trace_transactions": "sql_trace_transactions",
}
_COMMENTS = {
    "commenter_mode": "mode",
    "commenter_options": "commenter_options",
    "enable_attribute_commenter": "enable_attribute_commenter",
    "commenter_force": "force",
    "commenter_prepend": "prepend",
}
#: What kinds of values the options accept; those of comments are checked by :meth:`sqlcommenter.Options.of`.
_KINDS = {name: SETTINGS[setting].kind for name, setting in _SETTINGS.items()} | {"enable_commenter": FLAG}
_ACCEPTED = ("filter", *_SETTINGS, "enable_commenter", *_COMMENTS)


class Rules(NamedTuple):
    """How statements are traced, by options and settings."""

    is_mysql: bool
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
        return masked(statement, self.is_mysql) if self.mask_literals else statement.strip()


class Options:
    """The options of an engine.

    Args:
        given: ``filter``, a function that takes the text of a statement and tells whether that shall have a span; and
            ``mask_literals``, ``min_duration``, ``checkout_threshold``, ``trace_connects``, ``trace_pings`` and
            ``trace_transactions``, each instead of the setting ``CONFIG.sql_...`` of that name; ``enable_commenter``,
            which puts comments into statements, or none, whatever ``CONFIG.sql_comments`` says, and the arguments of
            :meth:`sqlcommenter.Options.of`: ``commenter_mode``, ``"full"`` by default, ``commenter_options``,
            ``enable_attribute_commenter``, ``commenter_force`` and ``commenter_prepend``.

    Raises:
        TypeError: there is no such option.
        ValueError: it does not accept the value.
    """

    __slots__ = ("_comments", "_given")

    def __init__(self, **given: Any) -> None:
        for name, value in given.items():
            if name not in _ACCEPTED:
                raise TypeError(f"{name}={value!r}: there is no such option; there are {', '.join(_ACCEPTED)}")
            kind = _KINDS.get(name)
            if kind is not None and not kind.accepts(value):
                raise ValueError(f"{name}={value!r}: accepted is {kind.accepted}")
            if name == "filter" and not (value is None or callable(value)):
                raise ValueError(f"{name}={value!r}: accepted is a function that takes a statement's text, or None")
        self._comments = _comments(given)
        self._given: Mapping[str, Any] = given

    def in_force(self, is_mysql: bool) -> Rules:
        """Return what holds, for an engine of this kind, while the settings stay as they are."""
        given = {name: self._given.get(name, getattr(CONFIG, setting)) for name, setting in _SETTINGS.items()}
        return Rules(is_mysql, filter=self._given.get("filter"), **given)

    @property
    def comments(self) -> sqlcommenter.Options:
        """What the comments in statements say."""
        return self._comments or sqlcommenter.default_options()


def _comments(given: Mapping[str, Any]) -> sqlcommenter.Options | None:
    wanted = {argument: given[name] for name, argument in _COMMENTS.items() if name in given}
    if "enable_commenter" not in given and not wanted:
        return None
    options = sqlcommenter.Options.of(**{"mode": sqlcommenter.FULL, **wanted})
    return options if given.get("enable_commenter", True) else sqlcommenter.Options.of(sqlcommenter.OFF)
