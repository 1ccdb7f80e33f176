"""Who runs now, who is next, and who is turned away."""

from __future__ import annotations

import asyncio

import pytest

from isol8.errors import AtCapacity, RateLimited
from isol8.service.admission import CALM_S, Admission
from tests.unit.scripted_engine import until

LONGER_THAN_CALM_S = CALM_S * 4


async def arrive(admission: Admission, *callers: str) -> tuple[list[asyncio.Task[None]], list[str]]:
    """Let callers come in this order; gives their tasks, and a list that grows as they enter."""
    entered: list[str] = []

    async def enter(caller: str) -> None:
        await admission.enter(caller)
        entered.append(caller)

    tasks = []
    for caller in callers:
        tasks.append(asyncio.create_task(enter(caller)))
        await asyncio.sleep(0)
    return tasks, entered


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_so_many_at_once_and_no_more() -> None:
    admission = Admission(2, 10, 0)
    _, entered = await arrive(admission, "a", "a", "a")
    await settle()
    assert entered == ["a", "a"]
    admission.leave()
    await settle()
    assert entered == ["a", "a", "a"]


async def test_keys_take_turns_and_each_is_served_in_order() -> None:
    admission = Admission(1, 10, 0)
    await admission.enter("z")
    _, entered = await arrive(admission, "a", "a", "a", "b", "c", "b")
    for _ in range(6):
        admission.leave()
        await settle()
    assert entered == ["a", "b", "c", "a", "b", "a"]


async def test_the_queue_has_an_end() -> None:
    admission = Admission(1, 1, 0)
    await admission.enter("a")
    tasks, _ = await arrive(admission, "a")
    with pytest.raises(AtCapacity) as raised:
        await admission.enter("a")
    assert raised.value.retry_after_s == 1
    admission.leave()
    await tasks[0]


async def test_no_queue_at_all() -> None:
    admission = Admission(1, 0, 0)
    await admission.enter("a")
    with pytest.raises(AtCapacity):
        await admission.enter("a")
    admission.leave()
    await admission.enter("a")


async def test_who_gives_up_leaves_no_gap() -> None:
    admission = Admission(1, 2, 0)
    await admission.enter("a")
    tasks, entered = await arrive(admission, "b", "c")
    tasks[0].cancel()
    await settle()
    admission.leave()
    await settle()
    assert entered == ["c"]
    await arrive(admission, "d", "e")  # there is room for two again


@pytest.mark.parametrize("leave_first", [True, False])
async def test_a_place_given_to_someone_who_gave_up_goes_on(leave_first: bool) -> None:
    admission = Admission(1, 9, 0)
    await admission.enter("a")
    tasks, entered = await arrive(admission, "b", "c")
    if leave_first:
        admission.leave()
        tasks[0].cancel()
    else:
        tasks[0].cancel()
        admission.leave()
    await settle()
    assert entered == ["c"]


async def test_a_rate_is_refilled_evenly_and_kept_apart_for_each_key() -> None:
    now = 100.0
    admission = Admission(1, 1, 2, clock=lambda: now)
    admission.charge("a")
    admission.charge("a")
    with pytest.raises(RateLimited) as raised:
        admission.charge("a")
    assert raised.value.retry_after_s == 30
    admission.charge("b")
    now += 29.0
    with pytest.raises(RateLimited):
        admission.charge("a")
    now += 1.0
    admission.charge("a")
    now += 3600.0
    admission.charge("a")
    admission.charge("a")
    with pytest.raises(RateLimited):
        admission.charge("a")


async def test_who_steps_outside_gives_the_place_to_the_next() -> None:
    admission = Admission(max_concurrent=1, max_queue=0, requests_per_minute=0)
    await admission.enter("a")
    async with admission.outside("a"):
        await admission.enter("b")
        with pytest.raises(AtCapacity):
            await admission.enter("c")
        returning = asyncio.create_task(_again(admission))
        await asyncio.sleep(0)
        assert not returning.done()
        admission.leave()
        await returning
    admission.leave()
    await admission.enter("c")
    with pytest.raises(AtCapacity):
        await admission.enter("d")


async def _again(admission: Admission) -> None:
    """Wait for a place however full it is, as who was outside does, and leave it."""
    await admission.enter("b", bounded=False)
    admission.leave()


@pytest.mark.parametrize("when", ["outside", "coming back"])
async def test_who_is_cancelled_outside_takes_no_place_along(when: str) -> None:
    admission = Admission(max_concurrent=1, max_queue=5, requests_per_minute=0)
    away = asyncio.Event()

    async def execute() -> None:
        await admission.enter("a")
        try:
            async with admission.outside("a"):
                await away.wait()
        finally:
            admission.leave()

    running = asyncio.create_task(execute())
    await asyncio.sleep(0)
    await admission.enter("b")
    if when == "coming back":
        away.set()
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    admission.leave()
    await admission.enter("c")  # there is exactly one place again
    waiting = asyncio.create_task(admission.enter("d"))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_what_is_for_calm_moments_waits_for_the_last_to_leave() -> None:
    admission = Admission(2, 10, 0)
    called: list[str] = []
    admission.when_calm(lambda: called.append("first"))
    assert not called
    await until(lambda: called)
    await arrive(admission, "a", "b", "c")
    await settle()
    admission.when_calm(lambda: called.append("second"))
    admission.leave()  # c has the place
    await asyncio.sleep(LONGER_THAN_CALM_S)
    admission.leave()
    await asyncio.sleep(LONGER_THAN_CALM_S)
    assert called == ["first"]
    admission.leave()
    await admission.enter("d")  # before the moment was a calm one
    await asyncio.sleep(LONGER_THAN_CALM_S)
    assert called == ["first"]
    admission.leave()
    await until(lambda: len(called) == 2)
    await admission.enter("e")
    admission.leave()
    await asyncio.sleep(LONGER_THAN_CALM_S)
    assert called == ["first", "second"]


async def test_a_moment_is_calm_when_it_has_been_so_since_the_last_execution() -> None:
    admission = Admission(1, 10, 0)
    calls: list[float] = []
    admission.when_calm(lambda: calls.append(asyncio.get_running_loop().time()))
    await asyncio.sleep(0)
    await admission.enter("a")
    admission.leave()
    left = asyncio.get_running_loop().time()
    await until(lambda: calls)
    assert calls[0] - left >= CALM_S / 2  # the loop's clock may be behind
