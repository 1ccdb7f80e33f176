"""One unhurried caller: calls begin 20 ms apart, and of different kinds in turn.

Paced calls find an idle machine: clocks slowed down, processors asleep, caches filled by others. That costs something
like a millisecond against calls in a tight loop, and it is what a caller sees.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

INTERVAL_S = 0.02
_REST_S = 0.005
Timed = Callable[[], float]


def in_turn(kinds: Sequence[Timed], rounds: int, warm_up: int = 5) -> list[list[float]]:
    """The times (whatever unit the calls give) of each kind. Every second round is in reverse, so that nobody always
    comes behind the same one. A call that is not over 5 ms before the next one's moment makes that one wait for the
    next multiple of 20 ms. `warm_up` rounds go first and are not counted."""
    taken: list[list[float]] = [[] for _ in kinds]
    for number in range(warm_up):
        _round(kinds, number, [[] for _ in kinds])
    with uncollected():
        for number in range(rounds):
            _round(kinds, number, taken)
    return taken


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection in this process meanwhile: its pauses are no part of what is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _round(kinds: Sequence[Timed], number: int, taken: list[list[float]]) -> None:
    pairs = list(zip(kinds, taken, strict=True))
    for call, times in pairs if number % 2 == 0 else reversed(pairs):
        _wait_for_slot()
        times.append(call())


def _wait_for_slot() -> None:
    now = time.monotonic()
    slots = (now + _REST_S) // INTERVAL_S + 1
    time.sleep(slots * INTERVAL_S - now)


def timed(call: Callable[[], object]) -> Timed:
    """The call, giving its wall time in ms."""

    def measure() -> float:
        began = time.perf_counter()
        call()
        return (time.perf_counter() - began) * 1000

    return measure
