"""A thousand sessions, created at once, kept, asked again, and removed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from bench import census
from bench.bare import Spawners, milliseconds
from bench.connection import bodiless, hello
from bench.figures import summarise
from bench.load import Load, Next
from bench.results import Crowd, Memory, Ratio
from bench.setting import Setting
from tests.support.server import Server

_CLIENTS, _BARE_AT_ONCE = 16, 8


def measure(setting: Setting) -> Crowd:
    """Of Python. Half of the bare spawns go before and half after, so that a drift of the machine cancels."""
    count = setting.sizes.sessions
    command = setting.bare("python")
    policy = {"maxSessionsPerKey": count + 1}
    with setting.serving(policy=policy) as server, Spawners(command, _BARE_AT_ONCE) as spawners:
        census.settle(server)
        spawners.run_count(_BARE_AT_ONCE)  # caches
        halves = [_bare_s(spawners, count // 2)]
        found = _crowd(setting, server, count)
        census.settle(server)
        halves.append(_bare_s(spawners, count - count // 2))
    found["bare_s"] = round(sum(halves), 3)
    ratios = [found["create_s"] / (half * 2) for half in halves]
    found["ratio"] = Ratio(
        value=round(found["create_s"] / sum(halves), 4), low=round(min(ratios), 4), high=round(max(ratios), 4)
    )
    setting.say(
        f"{count} sessions: created in {found['create_s']:.2f} s, {count} bare spawns {found['bare_s']:.2f} s: ratio"
        f" {found['ratio']['value']:.2f}; {found['sandbox']['mean_mb']:.2f} MB each (PSS), {found['machine_mb']:.2f} MB"
        f" of the machine; all asked again in {found['again_s']:.2f} s, removed in {found['delete_s']:.2f} s;"
        f" errors {sum(found['errors'].values())}"
    )
    return found


def _bare_s(spawners: Spawners, count: int) -> float:
    calls = spawners.run_count(count)
    if calls.errors:
        raise AssertionError(f"bare: {calls.errors}")
    return calls.seconds()


def _crowd(setting: Setting, server: Server, count: int) -> Crowd:
    names = [f"crowd-{number}" for number in range(count)]
    requests = [hello(server, "python", setting.code("python"), sessionId=name) for name in names]
    removals = [bodiless(server, "DELETE", f"/session/{name}") for name in names]
    before = census.available_bytes()
    load = Load(server, _CLIENTS)
    created = load.run(_each(requests))
    load.check_fresh()
    made = {name.decode() for name in load.sandboxes}
    census.settle(server)
    machine_mb = (before - census.available_bytes()) / count / 1e6
    sandbox = _memory_of(server, made)
    again_s = _again(load, requests, made)
    began = time.monotonic()
    load.run(_each(removals), check=lambda body: bytes(body))
    delete_s = time.monotonic() - began
    return Crowd(
        sessions=count,
        clients=_CLIENTS,
        errors=created.errors,
        create_s=round(created.seconds(), 3),
        times=summarise(milliseconds(created.spans)),
        bare_s=0.0,
        bare_at_once=_BARE_AT_ONCE,
        ratio=Ratio(value=0.0, low=0.0, high=0.0),
        again_s=round(again_s, 3),
        delete_s=round(delete_s, 3),
        sandbox=sandbox,
        machine_mb=round(machine_mb, 3),
    )


def _memory_of(server: Server, made: set[str]) -> Memory:
    """Memory of the sandboxes that were made for the sessions."""
    return census.memory(pids for name, pids in census.sandboxes(server).items() if name in made)


def _again(load: Load, requests: Iterable[bytes], made: set[str]) -> float:
    """Call every session once more, which must be answered by the sandbox it has. Seconds."""
    load.sandboxes.clear()
    calls = load.run(_each(requests))
    assert not calls.errors, f"sessions that do not answer again: {calls.errors}"
    assert {name.decode() for name in load.sandboxes} == made, "sessions have moved to other sandboxes"
    return calls.seconds()


def _each(requests: Iterable[bytes]) -> Next:
    left: Iterator[bytes] = iter(requests)
    return lambda: next(left, None)
