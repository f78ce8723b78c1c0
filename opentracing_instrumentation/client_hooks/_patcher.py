"""The base class of hooks, under the name by which hooks outside of this package import it."""

from __future__ import annotations

from .._core.patching import Patcher

__all__ = ["Patcher"]
