"""Our own failures never reach the application; they are logged once for each place where they happen.

A service keeps running when its tracing breaks, but somebody has to hear of it: every ``except Exception``
round our own code ends in :func:`report`. Tests that want to see such failures set :data:`strict`.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _thread import RLock

logger = logging.getLogger("opentracing_instrumentation")

#: Raise what would otherwise be logged. For the tests of this package; never set it in a service.
strict = False

#: As many different failures are remembered; a program that has more is told of the later ones each time.
_REMEMBERED = 1000
_reported: set[tuple[str, type[BaseException]]] = set()


def report(place: str, error: BaseException) -> None:
    """Log a failure of ours, once for each pair of place and exception type.

    Args:
        place: what failed, in words that tell a user where to look (``"redis.client:Redis.get: description"``).
        error: what was raised. It is logged with its traceback and then forgotten.

    Raises:
        BaseException: ``error`` itself, only when :data:`strict` is set.

    Thread- and async-safe. A broken logging configuration can't make it fail.
    """
    if strict:
        raise error
    key = (place, type(error))
    if key in _reported:
        return
    if len(_reported) < _REMEMBERED:
        _reported.add(key)
    try:
        logger.error(
            "%s failed; the call itself goes on (reported once)",
            place,
            exc_info=(type(error), error, error.__traceback__),
        )
    except Exception:  # a filter or a handler of the application's raised: there is nobody left to tell
        return


def fork_safe_lock() -> RLock:
    """Return a reentrant lock that no child process inherits locked: keep it for good, at the top of a module."""
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


def forget_reports() -> None:
    """Report everything anew, as after a change of the logging configuration."""
    _reported.clear()
