"""How long one unhurried caller waits for hello, beside the bare interpreter."""

from __future__ import annotations

from bench.bare import time_spawn
from bench.connection import Connection, check_hello, hello
from bench.figures import paired_ratio, summarise
from bench.paced import in_turn, timed
from bench.results import Latency
from bench.setting import Setting
from tests.support.server import Server


def measure(setting: Setting) -> dict[str, Latency]:
    """For each runtime."""
    # First of all, while there is no server: what a server does in the background must not make bare look slow.
    alone = {name: _alone(setting, name) for name in setting.installed}
    with setting.serving() as server:
        return {name: _measure(setting, server, name, alone[name]) for name in setting.installed}


def _alone(setting: Setting, name: str) -> list[float]:
    command = setting.bare(name)
    return in_turn([lambda: time_spawn(command)], max(1, setting.sizes.pairs // 4))[0]


def _measure(setting: Setting, server: Server, name: str, alone: list[float]) -> Latency:
    request, command = hello(server, name, setting.code(name)), setting.bare(name)
    with Connection(server) as connection:
        used: list[bytes] = []
        execute = timed(lambda: used.append(check_hello(connection.call(request))))
        ours, bare = in_turn([execute, lambda: time_spawn(command)], setting.sizes.pairs)
    assert len(set(used)) == len(used), "a sandbox was used twice"
    found = Latency(
        isol8=summarise(ours),
        bare=summarise(bare),
        bare_alone=summarise(alone),
        p50_ratio=paired_ratio(ours, bare, 50, of=50),
        p99_ratio=paired_ratio(ours, bare, 99, of=50),
    )
    ratio = found["p50_ratio"]
    setting.say(
        f"latency {name}: p50 {found['isol8']['p50']:.2f} ms, p99 {found['isol8']['p99']:.2f} ms; bare p50"
        f" {found['bare']['p50']:.2f} ms (alone {found['bare_alone']['p50']:.2f}): ratio {ratio['value']:.3f}"
        f" ({ratio['low']:.3f} to {ratio['high']:.3f})"
    )
    return found
