"""What a server takes of the processor while nobody asks for anything."""

from __future__ import annotations

import time

from bench import census
from bench.results import Idle
from bench.setting import Setting


def measure(setting: Setting) -> Idle:
    """All processes of a server with full pools, those in the warm sandboxes included."""
    with setting.serving() as server:
        census.settle(server)
        processes = server.processes()
        began, before = time.monotonic(), census.cpu_s(processes)
        time.sleep(setting.sizes.idle_s)
        after, seconds = census.cpu_s(processes), time.monotonic() - began
        # A process that came or went would have used what was not counted.
        assert server.processes() == processes, "an idle server starts or ends processes"
    found = Idle(
        seconds=round(seconds, 2),
        cpu_ms=round((after - before) * 1000, 3),
        percent=round((after - before) / seconds * 100, 4),
        processes=len(processes),
    )
    setting.say(f"idle: {found['cpu_ms']:.2f} ms of processor time in {found['seconds']:.0f} s")
    return found
