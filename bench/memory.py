"""Whether calls leave memory behind: many calls through hooks, traced by ``tracemalloc``.

Every call goes to a host and path of its own, so that a cache without a bound would show, as would a span, a scope or
a context variable that something keeps.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from contextlib import ExitStack
from itertools import count

import click

from opentracing_instrumentation import traced_function
from opentracing_instrumentation.client_hooks import requests as hook

from .cases import Requests
from .measure import Call
from .tracers import opentracing_tracer

CALLS = 1_000_000
#: The caches hold up to 1024 entries each; they are filled before memory is looked at.
WARM_UP = 5_000
#: What may be left: a few objects, which do not become more with more calls.
ALLOWED = 16 * 1024


def growth(calls: int = CALLS) -> int:
    """Return by how many bytes the memory in use has grown after so many traced calls of a traced function."""
    with ExitStack() as stack:
        case = Requests(stack)
        stack.enter_context(opentracing_tracer())
        hook.install_patches()
        stack.callback(hook.reset_patches)
        numbers = count()

        @traced_function
        def call() -> None:
            number = next(numbers)
            case.request.url = f"http://host-{number}.example:{1024 + number % 60_000}/articles/{number}?token={number}"
            case.adapter.send(case.request)

        _repeat(call, WARM_UP)
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        _repeat(call, WARM_UP)  # caches' entries made before are not in the books, their successors are
        before = _in_use()
        _repeat(call, calls)
        return _in_use() - before


def _repeat(call: Call, times: int) -> None:
    for _ in range(times):
        call()


def _in_use() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@click.command()
@click.option("--calls", default=CALLS, show_default=True, help="How many calls.")
def main(calls: int) -> None:
    """Make traced calls and say by how much the memory in use has grown; the exit code is 1 if it has."""
    grown = growth(calls)
    click.echo(f"{calls:,} calls through requests and traced_function: {grown:+,} bytes ({ALLOWED:,} allowed)")
    sys.exit(grown > ALLOWED)


if __name__ == "__main__":
    main(prog_name="python -m bench.memory")
