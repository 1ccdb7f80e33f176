"""Warm sandboxes of one runtime: made ahead of time, handed out once, never taken back.

A pool has `size` sandboxes ready, and makes a new one for each that it hands out: four at a time when little is left of
the stock, else one at a time, in calm moments, so that making the next sandbox takes the processor from no request.
Who comes when there is none waits in line. When making fails, the first in line is told; refilling is tried again,
later each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from isol8.engines.base import Engine
from isol8.engines.sandbox import Sandbox
from isol8.errors import EngineFailure
from isol8.model import SandboxSpec
from isol8.tasks import Tasks

_LOG = logging.getLogger("isol8.pool")
_PARALLEL = 4  # two processors are busy with them then: each waits for the kernel now and then
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 30.0


class Pool:
    """`spec` is what the warm sandboxes are made from; `when_calm` makes a call in the next calm moment. `start`
    it, and `close` it."""

    def __init__(
        self,
        engine: Engine,
        spec: SandboxSpec,
        size: int,
        when_calm: Callable[[Callable[[], None]], None] = lambda call: call(),
    ) -> None:
        self._engine = engine
        self.spec = spec
        self._size = size
        self._when_calm = when_calm
        self._warm: deque[Sandbox] = deque()
        self._waiting: deque[asyncio.Future[Sandbox]] = deque()
        self._making = 0
        self._delay_s = _FIRST_DELAY_S
        self._pause: asyncio.TimerHandle | None = None  # after a failure
        self._due = False  # one is to be made in the next calm moment
        self._closed = False
        self._tasks = Tasks()

    def start(self) -> None:
        """Begin to fill. Returns at once."""
        self._top_up()

    @property
    def ready(self) -> int:
        """How many wait."""
        return len(self._warm)

    async def acquire(self) -> Sandbox:
        """A sandbox that nobody has used, with the pool's own limits. The caller must destroy it.

        Raises EngineFailure.
        """
        if self._closed:
            raise EngineFailure("the server is stopping")
        return self.take() or await self._wait()

    def take(self) -> Sandbox | None:
        """One that is ready, like `acquire`; None when it would have to be waited for."""
        while self._warm:
            sandbox = self._warm.popleft()
            self._top_up()
            if not sandbox.dead:
                return sandbox
            self._tasks.start(self._engine.destroy(sandbox))
        return None

    async def _wait(self) -> Sandbox:
        place: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._top_up()
        try:
            return await place
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            elif not place.cancelled() and place.exception() is None:
                self._give(place.result())  # it came in the same moment, and nobody has used it
            raise

    def _top_up(self) -> None:
        """Start making as many as are wanted, in time."""
        if self._closed:
            return
        while self._making < _PARALLEL and self._made < len(self._waiting) + self._least:
            self._start_making()
        if not self._making and not self._due and not self._pause and self._made < self._size:
            self._due = True
            self._when_calm(self._make_good)

    @property
    def _made(self) -> int:
        """How many are ready, or will soon be."""
        return len(self._warm) + self._making

    @property
    def _least(self) -> int:
        """How many must be ready at any time: half of the stock."""
        return 0 if self._pause else (self._size + 1) // 2

    def _make_good(self) -> None:
        self._due = False
        if not (self._closed or self._making or self._pause) and self._made < self._size:
            self._start_making()

    def _start_making(self) -> None:
        self._making += 1
        self._tasks.start(self._make())

    async def _make(self) -> None:
        try:
            sandbox = await self._engine.create(self.spec)
        except EngineFailure as error:
            self._failed(error)
        except Exception:  # noqa: BLE001 - a bug here must neither leave anyone waiting nor repeat at once
            _LOG.exception("a sandbox could not be made")
            self._failed(EngineFailure("a sandbox could not be made"))
        else:
            self._delay_s = _FIRST_DELAY_S
            self._give(sandbox)
        finally:
            self._making -= 1
            self._top_up()

    def _give(self, sandbox: Sandbox) -> None:
        """To the first in line, else to the stock."""
        if self._closed:
            self._tasks.start(self._engine.destroy(sandbox))
            return
        place = self._first_waiting()
        if place:
            place.set_result(sandbox)
        else:
            self._warm.append(sandbox)

    def _first_waiting(self) -> asyncio.Future[Sandbox] | None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                return place
        return None

    def _failed(self, error: EngineFailure) -> None:
        """Tell who waits; without anyone, nothing but the delay keeps this from turning into a busy loop."""
        _LOG.warning("no sandbox for %s: %s", self.spec.runtime, error.message)
        place = self._first_waiting()
        if place:
            place.set_exception(EngineFailure(error.message))
        if self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(self._delay_s, self._resume)
            self._delay_s = min(self._delay_s * 2, _LONGEST_DELAY_S)

    def _resume(self) -> None:
        self._pause = None
        self._top_up()

    async def close(self) -> None:
        """Destroy the stock, and tell who waits. Idempotent."""
        self._closed = True
        if self._pause:
            self._pause.cancel()
        while place := self._first_waiting():
            place.set_exception(EngineFailure("the server is stopping"))
        while self._warm:
            self._tasks.start(self._engine.destroy(self._warm.popleft()))
        await self._tasks.finish()
