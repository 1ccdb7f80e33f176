"""Warm sandboxes: ready when asked for, never given twice, never the dead ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from isol8.errors import EngineFailure
from isol8.model import Limits, SandboxSpec
from isol8.pool import Pool
from tests.unit.scripted_engine import ScriptedEngine, until

SPEC = SandboxSpec(
    runtime="python",
    limits=Limits(memory_bytes=1 << 26, cpus=1, pids=9, sandbox_bytes=1 << 20, tmp_bytes=1 << 20),
)


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest_asyncio.fixture
async def pool(engine: ScriptedEngine) -> AsyncIterator[Pool]:
    made = Pool(engine, SPEC, 3)
    yield made
    await made.close()
    assert not engine.live


async def filled(pool: Pool, engine: ScriptedEngine, live: int = 3) -> None:
    pool.start()
    await until(lambda: len(engine.live) == live and not engine.making)


async def test_it_fills_half_at_once_and_then_rests(pool: Pool, engine: ScriptedEngine) -> None:
    await filled(pool, engine)
    assert (engine.most_making, engine.calls["create"]) == (2, 3)


async def test_a_warm_one_is_there_at_once_and_is_made_good(pool: Pool, engine: ScriptedEngine) -> None:
    await filled(pool, engine)
    engine.gate.clear()
    sandboxes = [await pool.acquire() for _ in range(3)]
    assert len({sandbox.id for sandbox in sandboxes}) == 3
    engine.gate.set()
    await until(lambda: len(engine.live) == 6)
    for sandbox in sandboxes:
        await engine.destroy(sandbox)


async def test_more_than_half_of_the_stock_is_made_in_calm_moments_alone(engine: ScriptedEngine) -> None:
    calm: list[Callable[[], None]] = []
    pool = Pool(engine, SPEC, 4, calm.append)
    pool.start()

    async def made(count: int) -> None:
        """So many have been made, and the next one waits for a calm moment."""
        await until(lambda: engine.calls["create"] == count and len(calm) == 1)

    await made(2)
    calm.pop()()
    await made(3)
    calm.pop()()
    await until(lambda: pool.ready == 4)
    assert not calm
    used = [await pool.acquire() for _ in range(2)]
    await made(4)
    used.append(await pool.acquire())
    await made(5)
    calm.pop()()
    await made(6)
    calm.pop()()
    await until(lambda: pool.ready == 4)
    assert (engine.calls["create"], calm) == (7, [])
    for sandbox in used:
        await engine.destroy(sandbox)
    await pool.close()


async def test_a_calm_moment_after_the_end_makes_nothing(engine: ScriptedEngine) -> None:
    calm: list[Callable[[], None]] = []
    pool = Pool(engine, SPEC, 2, calm.append)
    pool.start()
    await until(lambda: len(calm) == 1)
    await pool.close()
    calm.pop()()
    await asyncio.sleep(0)
    assert (engine.calls["create"], engine.live) == (1, {})


async def test_who_waits_is_served_in_order(engine: ScriptedEngine) -> None:
    pool = Pool(engine, SPEC, 0)
    engine.gate.clear()
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(6)]
    await asyncio.sleep(0)
    engine.gate.set()
    names = [(await task).id for task in waiting]
    assert names == sorted(names)
    assert (engine.calls["create"], engine.most_making) == (6, 4)
    for sandbox in [task.result() for task in waiting]:
        await engine.destroy(sandbox)
    await pool.close()


async def test_one_that_died_while_it_waited_is_replaced(pool: Pool, engine: ScriptedEngine) -> None:
    await filled(pool, engine)
    for sandbox in list(engine.live.values()):
        sandbox.disconnect()
    fresh = await pool.acquire()
    assert not fresh.dead
    await until(lambda: len(engine.live) == 4)
    await engine.destroy(fresh)


async def test_a_failure_reaches_the_first_who_waits_alone(pool: Pool, engine: ScriptedEngine) -> None:
    engine.failures = 1
    first, second = asyncio.create_task(pool.acquire()), asyncio.create_task(pool.acquire())
    with pytest.raises(EngineFailure, match="no more room"):
        await first
    await engine.destroy(await second)


async def test_failing_to_refill_is_retried_but_not_at_once(pool: Pool, engine: ScriptedEngine) -> None:
    engine.failures = 2
    pool.start()
    await until(lambda: engine.failures == 0 and not engine.making)
    assert engine.calls["create"] == 2
    await until(lambda: len(engine.live) == 3)


async def test_giving_up_costs_no_sandbox(pool: Pool, engine: ScriptedEngine) -> None:
    engine.gate.clear()
    task = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    task.cancel()
    engine.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await filled(pool, engine)
    assert engine.calls["create"] == 3


async def test_closing_tells_who_waits_and_destroys_what_comes_late(engine: ScriptedEngine) -> None:
    pool = Pool(engine, SPEC, 1)
    engine.gate.clear()
    task = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    engine.gate.set()
    await closing
    with pytest.raises(EngineFailure, match="stopping"):
        await task
    with pytest.raises(EngineFailure, match="stopping"):
        await pool.acquire()
    assert not engine.live
