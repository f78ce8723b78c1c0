"""Values of tags as OpenTelemetry takes them: text, numbers, booleans, and sequences of one of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_SCALARS = (str, bool, int, float)
_LARGEST = 2**63


def plain(value: Any) -> Any:
    """Return a value that every exporter can send: the value itself, or its text. It never raises."""
    kind = type(value)
    if kind is str or kind is bool or kind is float or (kind is int and -_LARGEST <= value < _LARGEST):
        return value
    try:
        return _converted(value)
    except Exception:  # its __str__ or __iter__ is broken, and that is the application's own affair
        return f"<{kind.__module__}.{kind.__qualname__}>"


def _converted(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple):
        kinds = {type(item) for item in value}
        if len(kinds) <= 1 and kinds <= set(_SCALARS):
            return tuple(plain(item) for item in value)
    if isinstance(value, str):  # of a subclass, as it may come from a database or a template
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int) and -_LARGEST <= value < _LARGEST:
        return int(value)
    return str(value)


def attempt(convert: Callable[[Any], Any], value: Any) -> Any:
    """Return the value converted, or as it is if it can't be."""
    try:
        return convert(value)
    except (TypeError, ValueError):
        return plain(value)


def nanoseconds(seconds: float | None) -> int | None:
    """Return a time in OpenTelemetry's unit."""
    return None if seconds is None else int(seconds * 1_000_000_000)
