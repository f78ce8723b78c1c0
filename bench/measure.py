"""Measuring differences of microseconds on a machine that does other things as well.

A *round* times one short block of calls of each variant, one after the other, in an order that rotates. The difference
of two blocks of one round is what a hook adds: a clock that slows down, or a neighbour who fills the caches, meets both
alike. The median over many rounds is the result: it stays where it is when something else disturbs fewer than half of
them, whichever of the two blocks it meets (the difference of two minima compares rounds that had different luck). The
clock is the processor time of this process, in which neither other processes' turns count nor waiting for a server.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import repeat
from statistics import median
from time import process_time

Call = Callable[[], object]
#: A variant of a case: gives the call to be timed, and has the variant's hook installed meanwhile.
Variant = Callable[[], AbstractContextManager[Call]]


def costs(bare: Variant, variants: Mapping[str, Variant], rounds: int, block: float) -> dict[str, float]:
    """Return what one call costs, in seconds: ``"bare"``, and for each variant what it adds to that.

    Args:
        bare: the variant without tracing.
        variants: the others, by name; all are called equally often.
        rounds: number of blocks that each variant gets.
        block: length of a block of the slowest variant, in seconds.
    """
    all_variants = {"bare": bare, **variants}
    calls = _calls_in(block, all_variants)
    with _garbage_left():
        measured = [_round(all_variants, turn, calls) for turn in range(rounds)]
    added = {name: median(times[name] - times["bare"] for times in measured) for name in variants}
    return {"bare": median(times["bare"] for times in measured), **added}


def cost(call: Call, times: int = 100, rounds: int = 30) -> float:
    """Return what a call costs by itself, in a loop of its own, in seconds: the median of some rounds."""
    with _garbage_left():
        return median(_repeat(call, times) for _ in range(rounds)) / times


def _round(variants: Mapping[str, Variant], turn: int, calls: int) -> dict[str, float]:
    gc.collect()
    names = list(variants)
    first = turn % len(names)
    times = {}
    for name in names[first:] + names[:first]:
        with variants[name]() as call:
            _repeat(call, calls // 4 + 20)  # the interpreter adapts anew to what has been patched
            times[name] = _repeat(call, calls) / calls
    return times


def _calls_in(seconds: float, variants: Mapping[str, Variant]) -> int:
    slowest = 0.0
    for variant in variants.values():
        with variant() as call:
            _repeat(call, 50)
            slowest = max(slowest, _repeat(call, 50) / 50)
    return max(10, round(seconds / slowest))


def _repeat(call: Call, times: int) -> float:
    start = process_time()
    for _ in repeat(None, times):
        call()
    return process_time() - start


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Keep the garbage collector from running inside a block, and from looking at what is here to stay."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
