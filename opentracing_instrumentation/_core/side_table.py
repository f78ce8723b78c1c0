"""What is known of objects that are not ours stands in tables beside them, never on them."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class SideTable(Generic[_T]):
    """What we know of objects that are not ours, by identity and for as long as they live; they stay untouched."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], _T]] = {}

    def get(self, owner: Any) -> _T | None:
        """Return what was put down for this object, or ``None``."""
        entry = self._entries.get(id(owner))
        return None if entry is None else entry[1]

    def put(self, owner: Any, value: _T) -> None:
        """Put something down for an object, in place of what was there."""
        self._entries[id(owner)] = self._entry(owner, value)

    def setdefault(self, owner: Any, value: _T) -> _T:
        """Put something down for an object, unless there is something; return what is there, to all threads the same.

        Raises:
            TypeError: the object can't be weakly referenced.
        """
        return self._entries.setdefault(id(owner), self._entry(owner, value))[1]

    def pop(self, owner: Any) -> None:
        """Forget what was put down for this object."""
        self._entries.pop(id(owner), None)

    def pop_older_half(self) -> None:
        """Forget what was put down for half of the objects, the first ones."""
        for key in list(self._entries)[: len(self._entries) // 2]:
            self._entries.pop(key, None)

    def _entry(self, owner: Any, value: _T) -> tuple[weakref.ref[Any], _T]:
        entries, key = self._entries, id(owner)
        return weakref.ref(owner, lambda _: entries.pop(key, None)), value

    def __len__(self) -> int:
        return len(self._entries)
