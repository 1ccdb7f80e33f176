"""What a server takes of the processor while nobody asks for anything."""

from __future__ import annotations

import time

from bench import census
from bench.results import Idle
from bench.setting import Setting
from tests.support.server import Server

_TRIES = 5


def measure(setting: Setting) -> Idle:
    """All processes of a server with full pools, those in the warm sandboxes included."""
    with setting.serving() as server:
        for _ in range(_TRIES):
            census.settle(server)
            found = _watch(server, setting.sizes.idle_s)
            if found:
                break
        else:
            raise AssertionError("an idle server goes on starting or ending processes")
    setting.say(f"idle: {found['cpu_ms']:.2f} ms of processor time in {found['seconds']:.0f} s")
    return found


def _watch(server: Server, seconds: float) -> Idle | None:
    """None when a process came or went: what it used was not counted."""
    processes = server.processes()
    began, before = time.monotonic(), census.cpu_s(processes)
    time.sleep(seconds)
    used, seconds = census.cpu_s(processes) - before, time.monotonic() - began
    if server.processes() != processes:
        return None
    return Idle(
        seconds=round(seconds, 2),
        cpu_ms=round(used * 1000, 3),
        percent=round(used / seconds * 100, 4),
        processes=len(processes),
    )
