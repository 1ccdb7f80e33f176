"""Layers as the service sees them: which there are, which are being built, and who holds what.

A set of requirements has one key: runtime, its version, the image that it is in, the processor, and the set. Whoever
wants it gets the layer that is in the store; if there is none, one build is begun, which everybody who wants the same
waits for and hears of. When the last of them has gone, the build is given up.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isol8.egress.client import Egress
from isol8.engines.base import Engine
from isol8.errors import AtCapacity, EngineFailure, InvalidRequest, SetupFailed
from isol8.model import Mount
from isol8.packages.build import Build, BuildLimits
from isol8.packages.client import HeldLayer, KeeperClient
from isol8.packages.recipe import Kitchen, Order, order_for
from isol8.packages.shares import Entry, Need, Place, Share
from isol8.packages.waiting import Building, Pending
from isol8.tasks import Tasks

_LOG = logging.getLogger("isol8.packages")
_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class BuildBounds:
    """How many builds run at once, and how many may wait besides, in all and for one caller."""

    running: int = 2
    waiting: int = 32
    waiting_per_caller: int = 8


class Layers:
    """`close` ends the builds. `kitchen` is what recipes need; `places` those of runtimes that can have packages."""

    def __init__(
        self,
        engine: Engine,
        egress: Egress,
        keeper: KeeperClient,
        kitchen: Kitchen,
        places: Mapping[str, Place],
        limits: BuildLimits,
        bounds: BuildBounds,
    ) -> None:
        self._engine = engine
        self._egress = egress
        self._keeper = keeper
        self._kitchen = kitchen
        self._places = places
        self._limits = limits
        self._bounds = bounds
        self._entries: dict[str, Entry] = {}
        self._builds: dict[str, Building] = {}
        self._turns = asyncio.Semaphore(bounds.running)
        self._finding: dict[str, asyncio.Lock] = {}
        self._tasks = Tasks()
        self._watches = Tasks()  # they end when the layers are given back

    def need(self, runtime: str, requirements: tuple[str, ...]) -> Need:
        """The need behind requirements in normal form. Raises InvalidRequest when this runtime has no place for
        packages."""
        place = self._places.get(runtime)
        if place is None:
            raise InvalidRequest(
                f"request.installPackages is not available: the machine's {runtime} has no directory for packages"
            )
        wanted = json.dumps([runtime, place.version, place.surroundings, self._kitchen.scripts, requirements])
        key = f"{runtime}-{place.version}-{platform.machine()}-{hashlib.sha256(wanted.encode()).hexdigest()[:32]}"
        return Need(runtime, requirements, key, place.target, place.options)

    async def find(self, need: Need) -> Share | None:
        """The layer, if it is there. Raises EngineFailure."""
        entry = self._entries.get(need.key)
        if entry:
            return Share(entry, need.target)
        lock = self._finding.setdefault(need.key, asyncio.Lock())
        try:
            async with lock:
                entry = self._entries.get(need.key)
                if entry is None:
                    layer = await self._keeper.find(need.key)
                    entry = self._entries.get(need.key)  # of a build that came to its end, or of who asked as well
                    if layer and entry:
                        layer.close()
                    elif layer:
                        entry = self._adopt(need.key, layer)
                return Share(entry, need.target) if entry else None
        except TimeoutError as error:
            raise EngineFailure("the keeper of packages does not answer") from error
        finally:
            if not lock.locked():
                self._finding.pop(need.key, None)

    def _adopt(self, key: str, layer: HeldLayer) -> Entry:
        self._entries[key] = entry = Entry(layer, self._entries, key)
        self._watches.start(self._watch(key, entry))
        return entry

    async def _watch(self, key: str, entry: Entry) -> None:
        """Hold the layer again when the keeper has died, before a new one makes room with it."""
        await entry.layer.gone()
        while entry.shares:
            try:
                layer = await self._keeper.find(key)
            except (EngineFailure, TimeoutError):
                await asyncio.sleep(_AGAIN_S)  # it is started again
                continue
            if layer is None:
                _LOG.error("a layer that is in use is not in the store any more: %s", key)
                return
            entry.layer = layer
            if entry.shares == 0:  # given back meanwhile
                layer.close()
            await layer.gone()

    def build(self, need: Need, caller: str) -> Pending:
        """Begin to build the layer, or join who does. Raises AtCapacity when too many builds wait, InvalidRequest when
        this machine cannot."""
        building = self._builds.get(need.key)
        if building is None:
            self._check_bounds(caller)
            order = order_for(need.runtime, need.requirements, self._kitchen)
            building = self._begin(need, order, caller)
        return Pending(building, need)

    def _begin(self, need: Need, order: Order, caller: str) -> Building:
        def abandon() -> None:
            del self._builds[need.key]  # who comes from now on begins anew
            task.cancel()

        building = self._builds[need.key] = Building(caller, abandon)
        task = self._tasks.start(self._build(need, order, building))
        return building

    def _check_bounds(self, caller: str) -> None:
        waiting = [build for build in self._builds.values() if not build.running]
        if len(waiting) >= self._bounds.waiting:
            raise AtCapacity("Too many packages are waiting to be installed; try again")
        if sum(build.caller == caller for build in waiting) >= self._bounds.waiting_per_caller:
            raise AtCapacity("This key has too many packages waiting to be installed; try again")

    async def _build(self, need: Need, order: Order, building: Building) -> None:
        try:
            async with self._turns:
                building.running = True
                build = Build(self._engine, self._egress, self._keeper, self._limits, building.say)
                layer = await build.run(need.key, need.runtime, order)
            building.entry = self._entries.get(need.key) or self._adopt(need.key, layer)
            if building.entry.layer is not layer:
                layer.close()
            building.entry.shares += 1  # until the last one who waits has gone
        except (SetupFailed, EngineFailure) as error:
            building.error = error
        except BaseException:
            building.error = EngineFailure("the packages could not be installed")
            raise
        finally:
            if self._builds.get(need.key) is building:
                del self._builds[need.key]
            building.end()

    async def close(self) -> None:
        """End every build. What is held stays held until its holders let go."""
        for building in list(self._builds.values()):
            building.abandon()
        await self._tasks.finish()

    def holding(self, mounts: Iterable[Mount]) -> list[Share]:
        """A share of each layer among `mounts`, all of which are held already; other directories need none."""
        by_name = {entry.layer.name: entry for entry in self._entries.values()}
        return [Share(by_name[mount.name], mount.target) for mount in mounts if mount.name in by_name]

    async def hold_again(self, mounts: Iterable[Mount]) -> list[Share]:
        """A share of each layer among `mounts` of a sandbox that nobody held them for. Raises EngineFailure when one is
        not there any more."""
        shares: list[Share] = []
        try:
            for mount in mounts:
                key, _, _ = mount.name.rpartition("-")
                if not key:
                    continue  # a directory of another kind
                share = await self.find(Need("", (), key, mount.target, ()))
                if share is None:
                    raise EngineFailure("packages of the sandbox are not in the store any more")
                shares.append(share)
                if share.name != mount.name:
                    raise EngineFailure("packages of the sandbox have been installed anew meanwhile")
        except BaseException:
            for share in shares:
                share.close()
            raise
        return shares
