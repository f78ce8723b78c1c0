"""Imported by Python before the program begins: starts its tracing, then gives way to the user's own `sitecustomize`.

Nothing in here may fail the program. It is found on PYTHONPATH, and so by each Python that the program starts, too.
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder


def _begin() -> None:
    try:
        from opentracing_instrumentation.cli import tracing

        tracing.start_from_environment()
    except Exception as error:
        print(f"opentracing-instrument: this program is not traced: {error!r}", file=sys.stderr)  # noqa: T201


def _leave_path() -> None:
    """Take this folder off the program's path; the environment keeps it for the program's children."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]


def _give_way() -> None:
    """Import the module of this name that would have been imported without us. What it raises is Python's to tell."""
    spec = PathFinder.find_spec(__name__)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[__name__] = module
    spec.loader.exec_module(module)


if __name__ == "sitecustomize":  # and not a part of the package that somebody looks at
    _leave_path()
    _begin()
    _give_way()
