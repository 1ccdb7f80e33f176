"""Builds as those see them who wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from isol8.errors import EngineFailure, SetupFailed
from isol8.packages.shares import Entry, Need, Share


class Pending:
    """One caller's wait for a layer that is being built. `progress` to its end, then `share`; `close` in any case."""

    def __init__(self, build: Building, need: Need) -> None:
        self._build: Building | None = build
        self._need = need
        build.waiters += 1

    async def progress(self) -> AsyncGenerator[str, None]:
        """What the installer prints, from its first line on. Ends with the build. Raises SetupFailed, EngineFailure."""
        assert self._build is not None
        build, at = self._build, 0
        while True:
            while at < len(build.lines):
                yield build.lines[at]
                at += 1
            if build.over:
                break
            await build.changed()
        if build.error:
            raise build.error

    def share(self) -> Share:
        """The layer, once `progress` has ended."""
        assert self._build is not None
        assert self._build.entry is not None
        return Share(self._build.entry, self._need.target)

    def close(self) -> None:
        """Wait no longer. Idempotent."""
        build, self._build = self._build, None
        if build:
            build.leave()


class Building:
    """A build that goes on, its lines so far, and how many wait for it."""

    def __init__(self, caller: str, abandon: Callable[[], None]) -> None:
        self.caller = caller
        self.abandon = abandon
        self.lines: list[str] = []
        self.waiters = 0
        self.running = False
        self.over = False
        self.entry: Entry | None = None
        self.error: SetupFailed | EngineFailure | None = None
        self._change = asyncio.Event()

    def say(self, line: str) -> None:
        self.lines.append(line)
        self._notify()

    def end(self) -> None:
        self.over = True
        self._notify()

    def _notify(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()

    async def changed(self) -> None:
        await self._change.wait()

    def leave(self) -> None:
        self.waiters -= 1
        if self.waiters:
            return
        if not self.over:
            self.abandon()
        elif self.entry:
            self.entry.give_back()
            self.entry = None
