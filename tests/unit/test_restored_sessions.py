"""Sessions that a crashed server has left, on a scripted engine: who has them again, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from isol8.errors import EngineFailure
from isol8.service.callers import fingerprints
from isol8.service.service import Service
from tests.unit.scripted_engine import ScriptedEngine, ScriptedSandbox, until
from tests.unit.test_executor import engine, execute, make

__all__ = ["engine", "make"]
Make = Callable[..., Service]
OWNER = fingerprints(["one"])["key1"]


def _note(**changes: Any) -> dict[str, Any]:
    now = time.time()
    base = {"session": "s", "owner": OWNER, "createdAt": now - 50, "lastAccessedAt": now - 10, "busy": False}
    return base | changes


async def _leave(engine: ScriptedEngine, service: Service, *notes: dict[str, Any]) -> None:
    for number, note in enumerate(notes):
        spec = next(iter(service._templates._pools.values())).spec
        engine.left[f"left-{number}"] = ScriptedSandbox(f"left-{number}", spec, engine)
        engine.notes[f"left-{number}"] = note
    await service.sessions.restore()


async def test_it_is_its_callers_again(make: Make, engine: ScriptedEngine) -> None:
    service = make(apiKeys=["two", "one"])
    note = _note()
    await _leave(engine, service, note)
    assert service.sessions.list("key1") == []
    (session,) = service.sessions.list("key2")
    assert (session.id, session.active) == ("s", False)
    assert session.created_at.timestamp() == pytest.approx(note["createdAt"])
    await service.sessions.put("key2", "s", "/tmp/a", b"x")
    assert engine.live["left-0"].files == {"/tmp/a": b"x"}


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": "somebody"},
        {"session": "a/b"},
        {"session": 1},
        {"busy": "no"},
        {"createdAt": "yesterday"},
        {"createdAt": 1e300},
        {"lastAccessedAt": 0},
        {"lastAccessedAt": None},
        {"owner": None},
    ],
    ids=str,
)
async def test_what_is_nobodys_is_destroyed(make: Make, engine: ScriptedEngine, changes: dict[str, Any]) -> None:
    service = make(apiKeys=["one"])
    await _leave(engine, service, _note(**changes))
    assert service.sessions.list("key1") == []
    await until(lambda: "left-0" not in engine.live)


async def test_what_was_in_use_or_is_of_the_future_has_all_its_time(make: Make, engine: ScriptedEngine) -> None:
    service = make(apiKeys=["one"])
    future = _note(session="t", lastAccessedAt=time.time() + 10**6)
    await _leave(engine, service, _note(busy=True, lastAccessedAt=0), future)
    assert {session.id for session in service.sessions.list("key1")} == {"s", "t"}


async def test_the_rest_of_its_time(make: Make, engine: ScriptedEngine) -> None:
    service = make(apiKeys=["one"], cleanup={"maxContainerAgeMs": 10_200})
    await _leave(engine, service, _note())
    assert service.sessions.list("key1")
    await until(lambda: not service.sessions.list("key1"))
    await until(lambda: "left-0" not in engine.live)


async def test_one_of_two_of_the_same_name(make: Make, engine: ScriptedEngine) -> None:
    service = make(apiKeys=["one"])
    await _leave(engine, service, _note(), _note())
    assert len(service.sessions.list("key1")) == 1
    await until(lambda: len({"left-0", "left-1"} & engine.live.keys()) == 1)


async def test_one_that_cannot_be_adopted_is_no_trouble(make: Make, engine: ScriptedEngine) -> None:
    service = make(apiKeys=["one"])

    async def fail(name: str) -> Any:
        raise EngineFailure("it has ended")

    engine.adopt = fail  # type: ignore[method-assign]
    await _leave(engine, service, _note())
    assert service.sessions.list("key1") == []


async def test_a_session_in_use_is_noted_down_once(make: Make, engine: ScriptedEngine) -> None:
    service = make(apiKeys=["one"], cleanup={"maxContainerAgeMs": 500})
    calls = [asyncio.create_task(execute(service, script, "s")) for script in ("wait go", *["exit 0"] * 19)]
    await until(lambda: engine.calls["keep"] == 1)
    (note,) = engine.notes.values()
    assert note["busy"]
    engine.events["go"].set()
    await asyncio.gather(*calls)
    await until(lambda: engine.calls["keep"] == 2)
    (note,) = engine.notes.values()
    assert not note["busy"]
    await until(lambda: not service.sessions.list("key1"))


async def test_where_nothing_is_kept_nothing_is_noted_down(make: Make, engine: ScriptedEngine) -> None:
    engine.keeps = False
    service = make(apiKeys=["one"], cleanup={"maxContainerAgeMs": 100})
    await execute(service, "exit 0", "s")
    await until(lambda: not service.sessions.list("key1"))
    assert engine.calls["keep"] == 0
