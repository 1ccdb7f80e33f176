"""Whether the server gets slower or larger the longer it runs.

A shared machine gets slower and faster by itself, by more than a server would. So the first and the last executions
take turns with bare interpreters, in parts, and how long they take beside those is compared, too.
"""

from __future__ import annotations

import itertools

from bench import census
from bench.bare import Calls, Spawners, milliseconds
from bench.connection import hello
from bench.figures import apart_ratio, percentile, quotient, sliced_ratio
from bench.load import Load, Next
from bench.results import Ratio, Soak
from bench.setting import Setting

_CLIENTS = 8
_WINDOW = 1000
_PARTS = 5
_BARE_SHARE = 0.4  # of each part's executions; it is as steady
_WARM_UP = 200


class _Window:
    """Executions in turns with bare interpreters; times in ms, part by part."""

    def __init__(self, load: Load, spawners: Spawners, request: bytes, count: int) -> None:
        self.calls = Calls()
        self.took = 0.0
        self._ours: list[list[float]] = []
        self._bare: list[list[float]] = []
        for _ in range(_PARTS):
            calls = load.run(_times(request, count // _PARTS))
            self.calls.add(calls)
            self.took += calls.seconds()
            self._ours.append(milliseconds(calls.spans))
            bare = spawners.run_count(max(1, int(count // _PARTS * _BARE_SHARE)))
            self._bare.append(milliseconds(bare.spans))

    def times(self) -> list[float]:
        return [time for part in self._ours for time in part]

    def bare(self) -> list[float]:
        return [time for part in self._bare for time in part]

    def beside_bare(self) -> Ratio:
        return sliced_ratio(*([percentile(sorted(part), 50) for part in parts] for parts in (self._ours, self._bare)))


def measure(setting: Setting) -> Soak:
    """Python hellos in a closed loop, after some that warm the server up and are not counted."""
    count = setting.sizes.soak
    window = min(_WINDOW, count // 2)
    with setting.serving() as server, Spawners(setting.bare("python"), _CLIENTS) as spawners:
        load, request = Load(server, _CLIENTS), hello(server, "python", setting.code("python"))
        load.run(_times(request, _WARM_UP))
        before = census.take(server)
        first = _Window(load, spawners, request, window)
        middle = load.run(_times(request, count - 2 * window)) if count > 2 * window else Calls()
        last = _Window(load, spawners, request, window)
        load.check_fresh()
        after = census.take(server)
    calls = Calls()
    for each in (first.calls, middle, last.calls):
        calls.add(each)
    times = milliseconds(sorted(calls.spans))  # in the order in which they began
    took = first.took + middle.seconds() + last.took
    tenth = max(1, len(times) // 10)
    found = Soak(
        executions=len(times),
        clients=_CLIENTS,
        errors=calls.errors,
        took_s=round(took, 2),
        per_s=round(len(times) / took, 1),
        window=window,
        first_p50=round(percentile(sorted(first.times()), 50), 3),
        last_p50=round(percentile(sorted(last.times()), 50), 3),
        drift=apart_ratio(last.times(), first.times(), 50),
        bare_drift=apart_ratio(last.bare(), first.bare(), 50),
        drift_beside_bare=quotient(last.beside_bare(), first.beside_bare()),
        tenths_p50=[round(percentile(sorted(times[at : at + tenth]), 50), 3) for at in range(0, tenth * 10, tenth)],
        before=before,
        after=after,
    )
    setting.say(
        f"soak of {count}: p50 of the first {window} {found['first_p50']:.2f} ms, of the last {found['last_p50']:.2f}:"
        f" ratio {found['drift']['value']:.3f}; of bare interpreters {found['bare_drift']['value']:.3f},"
        f" beside those {found['drift_beside_bare']['value']:.3f}; errors {sum(found['errors'].values())}"
    )
    setting.say(f"  before {before}\n  after  {after}")
    return found


def _times(request: bytes, count: int) -> Next:
    left = itertools.repeat(request, count)
    return lambda: next(left, None)
