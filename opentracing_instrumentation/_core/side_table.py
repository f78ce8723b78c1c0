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
        entries, key = self._entries, id(owner)
        entries[key] = (weakref.ref(owner, lambda _: entries.pop(key, None)), value)

    def pop(self, owner: Any) -> None:
        """Forget what was put down for this object."""
        self._entries.pop(id(owner), None)

    def __len__(self) -> int:
        return len(self._entries)
