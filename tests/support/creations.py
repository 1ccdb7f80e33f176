"""Sandboxes whose making nobody waits for to the end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from isol8.engines.sandbox import Sandbox
from isol8.engines.supervised import SupervisedEngine
from tests.unit.scripted_engine import until


async def give_up_making(engine: SupervisedEngine, create: Callable[[], Awaitable[Sandbox]]) -> None:
    """Have some sandboxes made, and go away meanwhile. When this returns, one that was asked for later has been made
    and is gone."""
    for _ in range(3):
        making = asyncio.ensure_future(create())
        await until(lambda: engine._answers)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
    await engine.destroy(await create())
