"""Functions that run once, for hooks outside of this package that are built on ``singleton``."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

NOT_CALLED = 1
CALLED = 2


def singleton(func: Callable[..., Any]) -> Any:
    """Let a function run once; later calls return ``None``. A run that raises does not count.

    The returned function has ``reset()``, which lets it run once more, ``__original_func``, the function itself, and
    ``__call_state__``. Threads that call it at once wait for the first.
    """
    lock = threading.RLock()

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with lock:
            if wrapper.__call_state__ == CALLED:  # type: ignore[attr-defined]
                return None
            result = func(*args, **kwargs)
            wrapper.__call_state__ = CALLED  # type: ignore[attr-defined]
            return result

    def reset() -> None:
        wrapper.__call_state__ = NOT_CALLED  # type: ignore[attr-defined]

    reset()
    setattr(wrapper, "__original_func", func)
    wrapper.reset = reset  # type: ignore[attr-defined]
    return wrapper
