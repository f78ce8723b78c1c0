"""The line of the application's code that led to where we are: not a library's, not Python's, not ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

_OURS = str(Path(__file__).parent.parent) + os.sep
_PYTHON = str(Path(os.__file__).parent) + os.sep
_INSTALLED = ("site-packages", "dist-packages")  # folders into which packages are installed, by their names

_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # functions to Python, not to who wrote them


def call_site(library_between: bool) -> str | None:
    """Return the innermost line of the application's code as ``file:line in function``.

    Args:
        library_between: whether an installed library has called this package. Where the application is installed like
            a library, the line is the innermost one of another installed package.

    Returns:
        the line; ``None`` if the call does not come from an application.

    Behind an ``await`` that SQLAlchemy has turned into a switch of greenlets, it is looked for on the other side.
    """
    library = None if library_between else ""
    installed = None
    for frame in _frames(sys._getframe(1)):
        home = _home(frame)
        if home is None:
            return _told(frame)
        if library is None and home:
            library = home
        elif installed is None and home not in ("", library):
            installed = frame
    return None if installed is None else _told(installed)


def _told(frame: FrameType) -> str:
    file, function = frame.f_code.co_filename, frame
    while function.f_code.co_name in _COMPREHENSIONS and function.f_back and function.f_back.f_code.co_filename == file:
        function = function.f_back
    return f"{file}:{frame.f_lineno} in {function.f_code.co_name}"


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of this greenlet, from the inside out, and those of the greenlets that wait for it."""
    greenlets = sys.modules.get("greenlet")
    greenlet: Any = None if greenlets is None else greenlets.getcurrent()
    while frame is not None:
        while frame is not None:
            yield frame
            frame = frame.f_back
        greenlet = getattr(greenlet, "parent", None)
        frame = getattr(greenlet, "gr_frame", None)


def _home(frame: FrameType) -> str | None:
    """Return the installed package that a frame's code is part of, "" for Python and us, ``None`` for the application.

    Code without a file, such as libraries make, is part of the module in which it runs.
    """
    file = frame.f_code.co_filename
    if file.startswith("<"):
        module = frame.f_globals.get("__name__")
        if module == "__main__":  # a prompt, a notebook, `python -c`
            return None
        file = getattr(sys.modules.get(module or ""), "__file__", None) or _PYTHON
    return _home_of(file)


@lru_cache(maxsize=1024)
def _home_of(file: str) -> str | None:
    if file.startswith(_OURS):
        return ""
    parts = Path(file).parts
    for at, part in enumerate(parts[:-1]):
        if part in _INSTALLED:
            return parts[at + 1]
    return "" if file.startswith(_PYTHON) else None
