"""Whether the server gets slower or larger the longer it runs."""

from __future__ import annotations

import itertools

from bench import census
from bench.connection import hello
from bench.figures import apart_ratio, percentile
from bench.load import Load, Next
from bench.results import Soak
from bench.setting import Setting

_CLIENTS = 8
_WINDOW = 1000
_WARM_UP = 200


def measure(setting: Setting) -> Soak:
    """Python hellos in a closed loop, after some that warm the server up and are not counted."""
    count = setting.sizes.soak
    window = min(_WINDOW, count // 2)
    with setting.serving() as server:
        load, request = Load(server, _CLIENTS), hello(server, "python", setting.code("python"))
        load.run(_times(request, _WARM_UP))
        before = census.take(server)
        calls = load.run(_times(request, count))
        load.check_fresh()
        after = census.take(server)
    calls.spans.sort()
    times = [(end - begin) * 1000 for begin, end in calls.spans]
    took = max(end for _, end in calls.spans) - calls.spans[0][0]
    first, last = times[:window], times[-window:]
    tenth = max(1, len(times) // 10)
    found = Soak(
        executions=len(times),
        clients=_CLIENTS,
        errors=calls.errors,
        took_s=round(took, 2),
        per_s=round(len(times) / took, 1),
        window=window,
        first_p50=round(percentile(sorted(first), 50), 3),
        last_p50=round(percentile(sorted(last), 50), 3),
        drift=apart_ratio(last, first, 50),
        tenths_p50=[round(percentile(sorted(times[at : at + tenth]), 50), 3) for at in range(0, tenth * 10, tenth)],
        before=before,
        after=after,
    )
    setting.say(
        f"soak of {count}: p50 of the first {window} {found['first_p50']:.2f} ms, of the last {found['last_p50']:.2f}:"
        f" ratio {found['drift']['value']:.3f}; errors {sum(found['errors'].values())}"
    )
    setting.say(f"  before {before}\n  after  {after}")
    return found


def _times(request: bytes, count: int) -> Next:
    left = itertools.repeat(request, count)
    return lambda: next(left, None)
