"""Layers that several ask for at once: held once, whoever is the first to hear of one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from isol8.packages.layers import BuildBounds, Layers
from isol8.packages.shares import Need, Share

NEED = Need("python", ("numpy",), "key", "/packages", ())


class Layer:
    """One that is held, and how often it was let go of."""

    name, boots, modules = "key-digest", False, ()

    def __init__(self) -> None:
        self.closed = 0
        self._gone = asyncio.Event()

    async def gone(self) -> None:
        await self._gone.wait()

    def close(self) -> None:
        self.closed += 1
        self._gone.set()


class Keeper:
    """It answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Layer | None]] = []

    async def find(self, key: str) -> Layer | None:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


def _layers(keeper: Keeper) -> Layers:
    nothing: Any = None
    kitchen: Any = SimpleNamespace(scripts=False)
    asked: Any = keeper
    return Layers(nothing, nothing, asked, kitchen, {}, nothing, BuildBounds())


async def _until_asked(keeper: Keeper, times: int) -> None:
    while len(keeper.asked) < times:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def _found(finding: asyncio.Task[Share | None]) -> Share:
    share = await finding
    assert share
    return share


@pytest.mark.parametrize("first", [0, 1])
async def test_two_who_find_it_at_once_hold_it_once(first: int) -> None:
    """The next in line asks the keeper, and so does who comes while nobody seems to."""
    keeper = Keeper()
    layers = _layers(keeper)
    before, queued = (asyncio.create_task(layers.find(NEED)) for _ in range(2))
    await _until_asked(keeper, 1)
    keeper.asked[0].set_result(None)
    assert await before is None
    late = asyncio.create_task(layers.find(NEED))
    await _until_asked(keeper, 3)
    held, other = Layer(), Layer()
    keeper.asked[1 + first].set_result(held)
    shares = [await _found((queued, late)[first])]
    keeper.asked[2 - first].set_result(other)
    shares.append(await _found((queued, late)[1 - first]))
    assert layers.holding([shares[0].mount])[0].name == Layer.name
    assert (held.closed, other.closed) == (0, 1)
    layers._entries[NEED.key].give_back()  # the one of `holding`
    for share in shares:
        share.close()
    assert (held.closed, other.closed, layers._entries) == (1, 1, {})


async def test_one_that_is_built_while_the_keeper_looks_is_found() -> None:
    keeper = Keeper()
    layers = _layers(keeper)
    finding = asyncio.create_task(layers.find(NEED))
    await _until_asked(keeper, 1)
    built: Any = Layer()
    entry = layers._adopt(NEED.key, built)
    entry.shares += 1
    keeper.asked[0].set_result(None)
    share = await _found(finding)
    entry.give_back()
    assert built.closed == 0
    share.close()
    assert built.closed == 1
