"""Who may execute now, and who waits: a bound on what runs at once, taken in turns by the keys that ask."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from isol8.errors import AtCapacity, RateLimited

CALM_S = 0.003  # an answer is on its way by then, and a caller in no hurry has not come back


class _Bucket:
    """A key's budget: `per_minute` at once, refilled evenly over a minute."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._tokens = float(per_minute)
        self._updated = now

    def take(self, now: float) -> float:
        """Take one. 0.0 if there was one, else the seconds until there is."""
        rate = self._per_minute / 60
        self._tokens = min(self._per_minute, self._tokens + (now - self._updated) * rate)
        self._updated = now
        if self._tokens < 1:
            return (1 - self._tokens) / rate
        self._tokens -= 1
        return 0.0


class Admission:
    """`max_concurrent` executions run; up to `max_queue` wait. Among keys that wait, each has its turn; among the
    executions of one key, the first comes first. `requests_per_minute` bounds each key; 0 does not.

    `clock` gives seconds.
    """

    def __init__(
        self,
        max_concurrent: int,
        max_queue: int,
        requests_per_minute: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_concurrent = self._free = max_concurrent
        self._max_queue = max_queue
        self._per_minute = requests_per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._queued = 0
        self._for_calm: list[Callable[[], None]] = []
        self._calm: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """How many are executed."""
        return self._max_concurrent - self._free

    def when_calm(self, call: Callable[[], None]) -> None:
        """Make the call once nothing has been executed for 3 ms. It takes the processor from no request then: neither
        from one whose answer is on its way, nor from the next one of a caller who comes back at once.
        """
        self._for_calm.append(call)
        if not self.running and self._calm is None:
            self._wait_for_calm()

    def _wait_for_calm(self) -> None:
        if self._calm:
            self._calm.cancel()
        self._calm = asyncio.get_running_loop().call_later(CALM_S, self._calmed)

    def _calmed(self) -> None:
        self._calm = None
        if self.running:
            return  # whoever leaves last begins anew
        calls, self._for_calm = self._for_calm, []
        for call in calls:
            call()

    @property
    def queued(self) -> int:
        """How many wait."""
        return self._queued

    def charge(self, caller: str) -> None:
        """Count one request. Raises RateLimited."""
        if not self._per_minute:
            return
        now = self._clock()
        bucket = self._buckets.setdefault(caller, _Bucket(self._per_minute, now))
        wait_s = bucket.take(now)
        if wait_s:
            raise RateLimited(
                f"This key is over its rate of {self._per_minute} requests per minute",
                retry_after_s=math.ceil(wait_s),
            )

    async def enter(self, caller: str, *, bounded: bool = True) -> None:
        """Wait for a place. The caller must `leave` when it returns. Raises AtCapacity, if `bounded`."""
        if self._free > 0:
            self._free -= 1
            return
        if bounded and self._queued >= self._max_queue:
            raise AtCapacity("The server is at capacity; try again")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(place)
        self._queued += 1
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._withdraw(caller, place)
            else:
                self.leave()  # the place was given in the same moment
            raise

    def _withdraw(self, caller: str, place: asyncio.Future[None]) -> None:
        queue = self._waiting.get(caller)
        if queue is None or place not in queue:
            return  # `leave` has passed it over already
        queue.remove(place)
        self._queued -= 1
        if not queue:
            del self._waiting[caller]

    @asynccontextmanager
    async def outside(self, caller: str) -> AsyncIterator[None]:
        """Without the place that the caller has, for the length of the block; afterwards it waits for one again, in
        line with the others but never turned away."""
        self.leave()
        try:
            yield
        except BaseException:
            self._free -= 1  # whoever unwinds will leave, and has nothing to wait for
            raise
        await self._again(caller)

    async def _again(self, caller: str) -> None:
        try:
            await self.enter(caller, bounded=False)
        except BaseException:
            self._free -= 1
            raise

    def leave(self) -> None:
        """Give a place back: to the next in turn, if anyone waits."""
        while self._waiting:
            caller, queue = next(iter(self._waiting.items()))
            place = queue.popleft()
            self._queued -= 1
            if queue:
                self._waiting.move_to_end(caller)
            else:
                del self._waiting[caller]
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
        if self._for_calm and not self.running:
            self._wait_for_calm()
