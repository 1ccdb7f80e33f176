"""Sessions on a scripted engine: one sandbox, one at a time, gone when nobody needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from isol8.errors import AtCapacity, Conflict, EngineFailure, Forbidden, NotFound
from isol8.model import Network
from isol8.service.service import Service
from tests.unit.scripted_engine import ScriptedEngine, pause, until
from tests.unit.test_executor import engine, execute, make, service

__all__ = ["engine", "make", "service"]
Make = Callable[..., Service]


async def test_executions_share_a_sandbox_whatever_their_runtime(service: Service) -> None:
    first = await execute(service, "exit 0", "s")
    second = await execute(service, "exit 0", "s", runtime="python")
    assert first.sandbox_id == second.sandbox_id
    assert (await execute(service, "exit 0", "t")).sandbox_id != first.sandbox_id


async def test_first_calls_at_once_make_one_sandbox_and_take_turns(service: Service, engine: ScriptedEngine) -> None:
    results = await asyncio.gather(*(execute(service, f"out {number}", "s") for number in range(8)))
    assert len({result.sandbox_id for result in results}) == 1
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(8)]
    (sandbox,) = [sandbox for sandbox in engine.live.values() if sandbox.plans]
    assert [plan.source for plan in sandbox.plans] == [f"out {number}".encode() for number in range(8)]


async def test_a_busy_session_keeps_nobody_else_waiting(make: Make, engine: ScriptedEngine) -> None:
    service = make(maxConcurrent=2)
    busy = [asyncio.create_task(execute(service, "wait go", "s")) for _ in range(5)]
    await until(lambda: engine.running == 1)
    assert (await execute(service, "out x")).stdout == "x\n"
    engine.events["go"].set()
    await asyncio.gather(*busy)


async def test_files(service: Service) -> None:
    await execute(service, "exit 0", "s")
    await service.sessions.put("key1", "s", "/tmp/a", b"x")
    assert await service.sessions.get("key1", "s", "/tmp/a") == b"x"
    with pytest.raises(NotFound, match="File not found"):
        await service.sessions.get("key1", "s", "/tmp/b")


async def test_other_keys_do_not_see_it(service: Service) -> None:
    await execute(service, "exit 0", "s")
    assert [session.id for session in service.sessions.list("key1")] == ["s"]
    assert service.sessions.list("key2") == []
    with pytest.raises(NotFound, match="Session not found"):
        await service.sessions.get("key2", "s", "/tmp/a")
    await service.sessions.delete("key2", "s")
    assert len(service.sessions.list("key1")) == 1


async def test_a_file_goes_in_while_a_program_runs(service: Service, engine: ScriptedEngine) -> None:
    running = asyncio.create_task(execute(service, "say begun; wait go", "s"))
    await engine.events["begun"].wait()
    assert service.sessions.list("key1")[0].active
    await service.sessions.put("key1", "s", "/tmp/a", b"x")
    engine.events["go"].set()
    await running
    assert not service.sessions.list("key1")[0].active


async def test_a_file_waits_for_the_first_sandbox(service: Service, engine: ScriptedEngine) -> None:
    engine.gate.clear()
    first = asyncio.create_task(execute(service, "exit 0", "s"))
    await pause()
    upload = asyncio.create_task(service.sessions.put("key1", "s", "/tmp/a", b"x"))
    await pause()
    engine.gate.set()
    await asyncio.gather(first, upload)


async def test_a_file_does_not_wait_for_the_first_execution(service: Service, engine: ScriptedEngine) -> None:
    """For its sandbox alone: the program may be waiting for the file."""
    engine.gate.clear()
    first = asyncio.create_task(execute(service, "wait go", "s"))
    await pause()
    upload = asyncio.create_task(service.sessions.put("key1", "s", "/tmp/a", b"x"))
    await pause()
    engine.gate.set()
    await asyncio.wait_for(upload, 60)
    engine.events["go"].set()
    await first


async def test_deleting_ends_what_runs_and_what_waits(service: Service, engine: ScriptedEngine) -> None:
    running = asyncio.create_task(execute(service, "say begun; hang", "s"))
    await engine.events["begun"].wait()
    waiting = asyncio.create_task(execute(service, "exit 0", "s"))
    await pause()
    await service.sessions.delete("key1", "s")
    for task in (running, waiting):
        with pytest.raises(Conflict, match="was deleted"):
            await task
    await service.sessions.delete("key1", "s")
    assert service.sessions.list("key1") == []
    assert (await execute(service, "out new", "s")).stdout == "new\n"


async def test_deleting_while_the_first_sandbox_is_made(service: Service, engine: ScriptedEngine) -> None:
    engine.gate.clear()
    first = asyncio.create_task(execute(service, "exit 0", "s"))
    await pause()
    await service.sessions.delete("key1", "s")
    engine.gate.set()
    with pytest.raises(Conflict):
        await first


async def test_a_client_that_goes_leaves_the_session_usable(service: Service, engine: ScriptedEngine) -> None:
    gone = asyncio.create_task(execute(service, "say begun; hang", "s"))
    await engine.events["begun"].wait()
    following = asyncio.create_task(execute(service, "out next", "s"))
    await asyncio.sleep(0)
    gone.cancel()
    result = await following
    assert (result.stdout, result.warnings) == ("next\n", ())
    assert engine.calls["kill"] == 1


async def test_a_sandbox_that_died_is_replaced_with_a_warning(service: Service) -> None:
    first = await execute(service, "exit 0", "s")
    with pytest.raises(EngineFailure):
        await execute(service, "die", "s")
    with pytest.raises(NotFound, match="Session not found"):
        await service.sessions.get("key1", "s", "/tmp/a")
    second = await execute(service, "exit 0", "s")
    assert second.sandbox_id != first.sandbox_id
    assert "this is a new one" in second.warnings[0]
    assert (await execute(service, "exit 0", "s")).warnings == ()


async def test_a_session_survives_a_timeout(service: Service) -> None:
    first = await execute(service, "hang", "s", timeoutMs=20)
    assert (await execute(service, "out x", "s")).sandbox_id == first.sandbox_id


async def test_limits_may_change_and_stay(service: Service, engine: ScriptedEngine) -> None:
    await execute(service, "exit 0", "s", options={"pidsLimit": 5})
    await execute(service, "exit 0", "s")
    spec = service.sessions.spec("key1", "s")
    assert spec is not None
    assert spec.limits.pids == 5
    with pytest.raises(Conflict):
        await execute(service, "exit 0", "s", options={"memoryLimit": 1})
    assert (await execute(service, "out x", "s")).stdout == "x\n"


async def test_the_network_may_not_change(make: Make) -> None:
    service = make(policy={"networks": ["none", "host"]})
    await execute(service, "exit 0", "s", options={"network": "host"})
    spec = service.sessions.spec("key1", "s")
    assert spec is not None
    assert spec.network is Network.HOST
    await execute(service, "exit 0", "s")
    with pytest.raises(Conflict, match="network"):
        await execute(service, "exit 0", "s", options={"network": "none"})


async def test_idle_ones_end_and_busy_ones_do_not(make: Make, engine: ScriptedEngine) -> None:
    service = make(cleanup={"maxContainerAgeMs": 30})
    busy = asyncio.create_task(execute(service, "wait go", "busy"))
    await execute(service, "exit 0", "idle")
    await until(lambda: [session.id for session in service.sessions.list("key1")] == ["busy"])
    await asyncio.sleep(0.06)
    engine.events["go"].set()
    await busy
    await until(lambda: not service.sessions.list("key1"))


async def test_they_make_ready_when_nothing_is_executed(service: Service, engine: ScriptedEngine) -> None:
    busy = asyncio.create_task(execute(service, "wait go"))
    for name in ("a", "b", "a"):
        await execute(service, "exit 0", name)
    await asyncio.sleep(0.05)
    assert not engine.calls["prepare"]
    engine.events["go"].set()
    await busy
    await until(lambda: engine.calls["prepare"] == 2)


async def test_one_that_has_ended_does_not_make_ready(service: Service, engine: ScriptedEngine) -> None:
    await execute(service, "exit 0", "kept")
    await execute(service, "exit 0", "deleted")
    with pytest.raises(EngineFailure):
        await execute(service, "die", "dead")
    await service.sessions.delete("key1", "deleted")
    await until(lambda: engine.calls["prepare"] == 1)


async def test_nothing_ends_without_pruning(make: Make) -> None:
    service = make(cleanup={"maxContainerAgeMs": 1, "autoPrune": False})
    await execute(service, "exit 0", "s")
    await asyncio.sleep(0.02)
    assert len(service.sessions.list("key1")) == 1


async def test_a_session_whose_sandbox_cannot_be_made_is_none(service: Service, engine: ScriptedEngine) -> None:
    engine.failures = 1
    with pytest.raises(EngineFailure):
        await execute(service, "exit 0", "s", runtime="python")
    assert service.sessions.list("key1") == []


async def test_a_key_may_have_so_many(make: Make) -> None:
    service = make(policy={"maxSessionsPerKey": 1})
    await execute(service, "exit 0", "s")
    await execute(service, "exit 0", "s")
    with pytest.raises(Forbidden, match=r"policy\.maxSessionsPerKey"):
        await execute(service, "exit 0", "t")


async def test_the_line_at_a_session_has_an_end(make: Make, engine: ScriptedEngine) -> None:
    service = make(maxQueue=1)
    tasks = [asyncio.create_task(execute(service, "wait go", "s")) for _ in range(2)]
    await until(lambda: engine.running == 1)
    with pytest.raises(AtCapacity):
        await execute(service, "exit 0", "s")
    engine.events["go"].set()
    await asyncio.gather(*tasks)
