"""How long an unhurried caller waits for a call on a session that is there already."""

from __future__ import annotations

from bench.connection import Connection, bodiless, check_hello, hello
from bench.figures import summarise
from bench.paced import in_turn, timed
from bench.results import SessionCalls
from bench.setting import Setting
from tests.support.server import Server


def measure(setting: Setting) -> dict[str, SessionCalls]:
    """For each runtime, on a session of its own."""
    with setting.serving() as server:
        return {name: _measure(setting, server, name) for name in setting.installed}


def _measure(setting: Setting, server: Server, name: str) -> SessionCalls:
    session = f"calls-{name}"
    request = hello(server, name, setting.code(name), sessionId=session)
    with Connection(server) as connection:
        used: set[bytes] = set()
        call = timed(lambda: used.add(check_hello(connection.call(request))))
        found = SessionCalls(calls=summarise(in_turn([call], setting.sizes.calls)[0]))
        connection.call(bodiless(server, "DELETE", f"/session/{session}"))
    assert len(used) == 1, "a session moved from one sandbox to another"
    setting.say(f"session call {name}: p50 {found['calls']['p50']:.2f} ms, p99 {found['calls']['p99']:.2f} ms")
    return found
