"""One container: its process on this machine, its limits, what it has used, and its removal."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from aiodocker import Docker

from isol8.engines.docker import owners
from isol8.engines.docker.client import DaemonFailure, Place, translated
from isol8.engines.docker.description import changeable
from isol8.engines.docker.kills import Kills
from isol8.engines.docker.streams import Stream
from isol8.errors import Conflict, EngineFailure
from isol8.kernel import cgroups, mounts
from isol8.kernel.cgroups import Group, Hierarchy
from isol8.model import Limits, Usage

_LOG = logging.getLogger("isol8.docker")
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0
_REMOVE_TIMEOUT_S = 10.0
_BUSY = ("device or resource busy", "EBUSY")
_TOO_SMALL = "The sandbox already uses more than the new limits allow"
_NOTHING_USED = Usage(cpu_ms=0, peak_memory_bytes=0, oom_kills=0)


@dataclass(slots=True)
class Container:
    """What is known of one, from before it is made until it is removed, when `gone` is called. `name` is the sandbox's,
    `id` the daemon's."""

    docker: Docker
    hierarchy: Hierarchy
    gone: Callable[[Container], None]
    name: str
    uid: int
    limits: Limits
    id: str = ""
    pid: int = 0  # of process 1, where this machine has it; else 0
    group: Group | None = None  # where this machine has it: it ends with the container
    used: Usage = _NOTHING_USED  # when that was asked last
    stream: Stream | None = None
    removal: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    trouble: asyncio.Event = field(default_factory=asyncio.Event)  # its removal has failed once
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # the daemon has said whether it has made it

    async def attach(self, place: Place) -> Stream:
        """Its stream, not yet begun. Raises DaemonFailure."""
        self.stream = Stream(place, self.docker.api_version)
        await self.stream.attach(self.id)
        return self.stream

    def own_group(self, pid: int) -> Group | None:
        """A process's cgroup, if it is this container's; else it is another machine's, or another pid namespace's."""
        group = cgroups.group_of(pid, self.hierarchy) if pid else None
        if group is None or not any(self.id in path for path in group.directories):
            return None
        return group

    def process(self) -> int:
        """Process 1. Raises EngineFailure when it is gone or was never on this machine."""
        if self.own_group(self.pid) is None:
            raise EngineFailure("the sandbox is gone, or not on this machine")
        return self.pid

    async def limit(self, limits: Limits) -> None:
        """Put other limits on it. Raises EngineFailure, Conflict."""
        if changeable(limits) != changeable(self.limits):
            await self._update(limits)
        try:
            for path, size, before in _sizes(limits, self.limits):
                if size != before:
                    mounts.resize_in(self.process(), path, size)
        except OSError as error:
            await self._update(self.limits)
            if error.errno == errno.EINVAL:
                raise Conflict(_TOO_SMALL) from error
            raise EngineFailure(f"limits could not be changed: {error}") from error
        self.limits = limits

    async def _update(self, limits: Limits) -> None:
        try:
            with translated("limits could not be changed"):
                # aiodocker has no method for it.
                await self.docker._query_json(f"containers/{self.id}/update", "POST", data=changeable(limits))
        except DaemonFailure as error:
            if any(sign in error.message for sign in _BUSY):
                raise Conflict(_TOO_SMALL) from error
            raise

    async def usage(self, kills: Kills) -> Usage:
        """What it has consumed; when it has ended, the last there was to know. Raises DaemonFailure."""
        ended = (self.group is not None and not self.look()) or self.ended.is_set()
        if self.group is None and not ended:
            self.used = await self._ask()
        seen = await kills.of(self.id, ending=ended)
        return dataclasses.replace(self.used, oom_kills=max(self.used.oom_kills, seen))

    def look(self) -> bool:
        """Note down what its cgroup has counted, if that is still there. Whether it was."""
        try:
            if self.group:
                self.used = self.group.usage()
        except OSError:
            return False
        return self.group is not None

    async def _ask(self) -> Usage:
        """With `one-shot` the daemon does not wait for a second sample."""
        with translated("usage could not be read"):
            query = f"containers/{self.id}/stats"
            stats = await self.docker._query_json(query, params={"stream": "false", "one-shot": "true"})
            state = (await self.docker.containers.container(self.id).show())["State"]
        memory = stats.get("memory_stats", {})
        return Usage(
            cpu_ms=stats["cpu_stats"]["cpu_usage"]["total_usage"] // 1_000_000,
            peak_memory_bytes=memory.get("max_usage", memory.get("usage", 0)),
            oom_kills=int(state.get("OOMKilled", False)),
        )

    async def destroy(self) -> None:
        """Remove it; returns when it is gone. Raises EngineFailure when it is still being tried."""
        removal = self.remove()
        trouble = asyncio.create_task(self.trouble.wait())
        await asyncio.wait([removal, trouble], timeout=_REMOVE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        trouble.cancel()
        if not removal.done():
            raise EngineFailure("the Docker daemon does not remove a container; this is tried again")

    def remove(self) -> asyncio.Task[None]:
        """Begin to remove it, if that has not begun. When the daemon does not answer, it goes on trying."""
        if self.removal is None:
            self.removal = asyncio.create_task(self._until_removed())
        return self.removal

    async def _until_removed(self) -> None:
        await self.asked.wait()  # until then it has no name, and would be there afterwards
        if self.stream:
            await self.stream.close()
        delay = _FIRST_DELAY_S
        while True:
            try:
                # By name: it may have been made though nobody was told its id.
                await owners.remove(self.docker, self.id or f"{owners.PREFIX}{self.name}")
                break
            except DaemonFailure as error:
                _LOG.warning("%s", error.message)
                self.trouble.set()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_S)
        self.gone(self)


def _sizes(wanted: Limits, now: Limits) -> Iterator[tuple[str, int, int]]:
    """Of each file system: where it is, how large it should be, how large it is."""
    yield "sandbox", wanted.sandbox_bytes, now.sandbox_bytes
    yield "tmp", wanted.tmp_bytes, now.tmp_bytes
    yield "dev/shm", wanted.tmp_bytes, now.tmp_bytes
