"""How long a sandbox may take to end its program when that one's time is over."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from isol8.engines.base import Engine
from isol8.engines.sandbox import Sandbox
from isol8.service import deadline
from isol8.service.deadline import Deadline
from isol8.tasks import Tasks


class Held:
    """A sandbox whose runner has to wait for the processor, and its engine: `killed` is set when it was told to kill,
    `destroyed` when it was given up; it confirms with `go`."""

    def __init__(self) -> None:
        self.killed, self.destroyed, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def kill(self) -> None:
        self.killed.set()
        await self.go.wait()

    async def destroy(self, sandbox: Sandbox) -> None:
        self.destroyed.set()


@pytest.mark.parametrize("once", [True, False])
async def test_a_sessions_sandbox_is_waited_for(monkeypatch: pytest.MonkeyPatch, once: bool) -> None:
    """It has something to lose, which one that is used once has not."""
    monkeypatch.setattr(deadline, "_GRACE_S", 0.0)
    held, tasks = Held(), Tasks()
    with Deadline(1, cast(Sandbox, held), cast(Engine, held), tasks, once=once) as passing:
        await held.killed.wait()
        if once:
            await held.destroyed.wait()
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(held.destroyed.wait(), 0.1)
        held.go.set()
        await tasks.finish()
    assert passing.passed
