"""Measuring differences of microseconds on a machine that does other things as well.

A *round* times one short block of each variant, one after the other, in an order that rotates. What disturbs a block
(another process, a cold cache, a slower clock) only ever makes it longer; so a variant's cost is the minimum over many
rounds, and what a hook adds is the difference of two minima. Blocks are short so that some of them are disturbed by
nothing. The clock is the processor time of this process, in which nobody else's turns count, nor waiting for a server.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import repeat
from time import process_time

Call = Callable[[], object]
#: A variant of a case: gives the call to be timed, and has the variant's hook installed meanwhile.
Variant = Callable[[], AbstractContextManager[Call]]


def cheapest(variants: Mapping[str, Variant], rounds: int, block: float) -> dict[str, float]:
    """Return what one call costs in each variant, in seconds: the minimum over all rounds.

    Args:
        variants: by name; all are called equally often.
        rounds: number of blocks that each variant gets.
        block: length of a block of the slowest variant, in seconds.
    """
    calls = _calls_in(block, variants)
    names = list(variants)
    costs = dict.fromkeys(names, float("inf"))
    with _garbage_left():
        for turn in range(rounds):
            gc.collect()
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                with variants[name]() as call:
                    _repeat(call, calls // 4 + 20)  # the interpreter learns anew what has been patched
                    costs[name] = min(costs[name], _repeat(call, calls) / calls)
    return costs


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
