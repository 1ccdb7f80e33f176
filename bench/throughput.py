"""How many executions a second, with many clients at once, beside bare interpreters at the same concurrency.

Ours and theirs take turns in slices of some seconds. In each slice only what ends after a lead-in counts, while
the load goes on: neither what was warm at the beginning nor the last stragglers at the end count for anyone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bench.bare import Calls, Spawners, milliseconds
from bench.connection import hello
from bench.figures import percentile, sliced_ratio, summarise
from bench.load import Load
from bench.results import Rate, Ratio, Throughput
from bench.setting import Setting
from tests.support.server import Server

RUNTIMES = ("python", "node")
_SLICE_S = 5.0
_LEAD_IN_S = 0.5
_REST_S = 0.2
# Bare gets shorter slices, for the time of a run: what it does is steady.
_BARE_SHARE = 0.4
Slice = Callable[[float, float], Calls]


def measure(setting: Setting) -> dict[str, list[Throughput]]:
    """For each of the two runtimes, and each number of clients."""
    with setting.serving() as server:
        return {
            name: [_measure(setting, server, name, clients) for clients in setting.sizes.clients]
            for name in setting.installed
            if name in RUNTIMES
        }


def _measure(setting: Setting, server: Server, name: str, clients: int) -> Throughput:
    request = hello(server, name, setting.code(name))
    load = Load(server, clients)
    with Spawners(setting.bare(name), clients) as spawners:
        ours, bare = alternate(
            [lambda begin, end: load.until(request, begin, end), spawners.run], setting.sizes.seconds, _BARE_SHARE
        )
    load.check_fresh()
    found = Throughput(
        clients=clients,
        isol8=ours.rate(),
        bare=bare.rate(),
        ratio=sliced_ratio(ours.rates, bare.rates),
        p99_to_p50=_tail(ours),
    )
    setting.say(
        f"throughput {name}, {clients} clients: {found['isol8']['per_s']:.0f}/s, bare {found['bare']['per_s']:.0f}/s:"
        f" ratio {found['ratio']['value']:.2f} ({found['ratio']['low']:.2f} to {found['ratio']['high']:.2f});"
        f" p50 {found['isol8']['times']['p50']:.1f} ms, p99 {found['isol8']['times']['p99']:.1f} ms;"
        f" errors {sum(found['isol8']['errors'].values())}"
    )
    return found


class Slices:
    """What came of all slices of one kind: times in ms, slice by slice, of the calls that count."""

    def __init__(self) -> None:
        self.times: list[list[float]] = []
        self.rates: list[float] = []
        self._calls = Calls()

    def add(self, calls: Calls, begin: float, end: float) -> None:
        """A slice of which the time from `begin` to `end` counts."""
        counted = milliseconds(calls.within(begin, end))
        self.times.append(counted)
        self.rates.append(len(counted) / (end - begin))
        self._calls.add(calls)

    def rate(self) -> Rate:
        """Raises ValueError when nothing was answered at all."""
        return Rate(
            per_s=round(sum(self.rates) / len(self.rates), 1),
            calls=len(self._calls.spans),
            errors=self._calls.errors,
            times=summarise([time for times in self.times for time in times]),
            own_cpu_us=round(self._calls.own_cpu_s / len(self._calls.spans) * 1e6, 1),
            slices=[round(rate, 1) for rate in self.rates],
        )


def alternate(
    kinds: Sequence[Slice], seconds: float, second_share: float = 1.0, slice_s: float = _SLICE_S
) -> list[Slices]:
    """Run the kinds in turn until `seconds` of the first have counted; others get `second_share` of that. Every second
    round is in reverse, so that nobody always comes behind the same one."""
    rounds = max(1, round(seconds / slice_s))
    lengths = [seconds / rounds * (second_share if number else 1.0) for number in range(len(kinds))]
    found = [Slices() for _ in kinds]
    for number in range(rounds):
        order = list(zip(kinds, lengths, found, strict=True))
        for run, length, slices in order if number % 2 == 0 else reversed(order):
            begin = time.monotonic() + _REST_S
            counted = begin + _LEAD_IN_S
            slices.add(run(begin, counted + length), counted, counted + length)
    return found


def _tail(slices: Slices) -> Ratio:
    """p99 divided by p50: of all times together, and the lowest and highest of the slices."""

    def tail(times: list[float]) -> float:
        ordered = sorted(times)
        return percentile(ordered, 99) / percentile(ordered, 50)

    each = [tail(times) for times in slices.times if times]
    whole = tail([time for times in slices.times for time in times])
    return Ratio(value=round(whole, 3), low=round(min(each), 3), high=round(max(each), 3))
