"""Sandboxes whose making nobody waits for to the end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from isol8.engines.sandbox import Sandbox
from isol8.engines.supervised import SupervisedEngine

_LONGEST_S = 120


async def give_up_making(engine: SupervisedEngine, create: Callable[[], Awaitable[Sandbox]]) -> None:
    """Have some sandboxes made, and go away meanwhile. When this returns, one that was asked for later has been made
    and is gone."""
    for _ in range(3):
        making = asyncio.ensure_future(create())
        await _asked(engine)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
    await engine.destroy(await create())


async def _asked(engine: SupervisedEngine) -> None:
    """Until an answer is waited for. Looked for in every turn of the loop: it may come within a millisecond."""
    async with asyncio.timeout(_LONGEST_S):
        while not engine._requests._answers:  # noqa: ASYNC110
            await asyncio.sleep(0)
