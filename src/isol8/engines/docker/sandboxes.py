"""Containers as the supervisor holds them: made, limited, and removed."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiodocker import Docker

from isol8.engines import bundle
from isol8.engines.directories import Directories
from isol8.engines.docker import baking, images, outlets, owners
from isol8.engines.docker.client import DaemonFailure, Place, connect, disconnect, translated
from isol8.engines.docker.description import LABEL, Daemon, Making, changeable, describe
from isol8.engines.docker.keeping import Kept
from isol8.engines.docker.kills import Kills
from isol8.engines.docker.outlets import Outlets
from isol8.engines.docker.records import Record, Records
from isol8.engines.docker.seccomp import Profile
from isol8.engines.docker.streams import Stream
from isol8.engines.docker.users import Users
from isol8.errors import Conflict, EngineFailure
from isol8.kernel import cgroups, mounts
from isol8.kernel.cgroups import Group
from isol8.model import Limits, Usage

_LOG = logging.getLogger("isol8.docker")
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0
_REMOVE_TIMEOUT_S = 10.0
_BUSY = ("device or resource busy", "EBUSY")
_TOO_SMALL = "The sandbox already uses more than the new limits allow"
# What a program may count on in whatever image.
_ESSENTIAL = {"HOME": "/sandbox", "LANG": "C.UTF-8"}
_NOTHING_USED = Usage(cpu_ms=0, peak_memory_bytes=0, oom_kills=0)


@dataclass(slots=True)
class _Live:
    uid: int
    limits: Limits
    container: str = ""
    pid: int = 0  # of process 1, where this machine has it; else 0
    group: Group | None = None  # where it may end before it is asked
    used: Usage = _NOTHING_USED  # when that was asked last
    stream: Stream | None = None
    removal: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    trouble: asyncio.Event = field(default_factory=asyncio.Event)  # its removal has failed once


class Sandboxes:
    """All containers of one server. `start` it, and `close` it. With `records`, those of sessions outlive a crash of
    the server, for `patience_s` (0: for ever)."""

    def __init__(
        self,
        place: Place,
        making: Making,
        ways: Outlets | None,
        directories: Directories,
        records: Records | None = None,
        patience_s: float = 0.0,
    ) -> None:
        self._place = place
        self._making = making
        self._outlets = ways
        self._shut_in = "the server has been started without"  # why containers have no way out, if they have none
        self._directories = directories
        self._users = Users()
        self._live: dict[str, _Live] = {}
        self._closing = False
        self.fixed: tuple[str, ...] = ()  # until it has been seen what can be changed (examination.py)
        self.mountable = False  # likewise
        self.unhardened = ""  # why the cgroups of sandboxes are as Docker made them
        self._hierarchy = cgroups.find()
        self.keeping: Kept | None = None
        if records:
            self.keeping = Kept(records, making.labels[LABEL], self, patience_s)

    async def start(self) -> None:
        """Connect, and remove what dead servers have left. Raises DaemonFailure."""
        bundle.preload()
        self._docker: Docker = connect(self._place)
        podman = await _is_podman(self._docker)
        self._profile = Profile(by_path=podman)
        runtimes = (await self.info()).get("Runtimes") or {}
        path = runtimes.get(self._making.runtime, {}).get("path", "")
        self.daemon = Daemon(self._profile.text, podman, gvisor=os.path.basename(path).startswith("runsc"))
        self._baked = await baking.baked(self._docker, self._making.image)  # images by the layers that they hold
        left = await owners.sweep(self._docker)
        if left:
            _LOG.info("removed %d containers that dead servers had left", left)
        self._kills = Kills(self._place, f"{LABEL}={self._making.labels[LABEL]}")
        if self.daemon.gvisor:
            self._kills.start()
        if podman:
            self.keeping = None  # its containers' input ends when nobody is attached, whatever they were made with
        if self._outlets:
            self._outlets.start()

    async def take_over(self) -> None:
        """Find the containers of sessions that a server before this one has left. Raises EngineFailure."""
        if self.keeping:
            await self.keeping.take_over(self._docker, self._users)

    async def info(self) -> dict[str, Any]:
        """What the daemon says about itself. Raises DaemonFailure."""
        with translated("the daemon cannot be asked what it can do"):
            return dict(await self._docker.system.info())

    async def create(self, name: str, request: dict[str, Any]) -> tuple[Group | None, int]:
        """See isol8.engines.supervisor.Sandboxes."""
        if self._closing:
            raise EngineFailure("the server is stopping")
        live = self._live[name] = _Live(self._users.take(), Limits(**request["limits"]))
        try:
            return await self._make(name, live, request)
        except BaseException:
            self._remove(name)  # not waited for: it may take as long as the daemon is away
            raise

    async def _make(self, name: str, live: _Live, request: dict[str, Any]) -> tuple[Group | None, int]:
        if request["image"]:
            await images.check(self._docker, request["image"])
        image, wanted = self._image_for(request)
        let_out = request["network"] != "host" and request.get("way_out", True)
        outlet = self._outlets.make(name) if self._outlets and let_out else ""
        shown = {outlets.INSIDE: outlet} if outlet else {}
        if not self.mountable:
            shown |= self._by_daemon(wanted)
        keeping = self.keeping if request["kept"] else None
        home = keeping.home if keeping else ""
        body = describe(self._making, self.daemon, request, live.uid, shown, home) | {"Image": image}
        try:
            with translated(f"a container of {image} could not be made"):
                made = await self._docker.containers.create(body, name=f"{owners.PREFIX}{name}")
        except DaemonFailure:
            self._baked = {layer: each for layer, each in self._baked.items() if each != image}  # it may be gone
            raise
        live.container = made.id
        live.stream = Stream(self._place, self._docker.api_version)
        await live.stream.attach(made.id)
        try:
            with translated(f"a container of {image} could not be started"):
                await made.start()
                state = (await made.show())["State"]
        except DaemonFailure as error:
            raise images.explain(error, image) from error
        group = self._group_of(live, state["Pid"])
        if self.mountable and wanted:
            self._directories.show(self._process(live), wanted)  # nothing has run in there so far
        settings = {
            "environment": self._making.environment if not request["image"] else _ESSENTIAL,
            "inherit": bool(request["image"]),
            "boot": request["boot"],
            "keeping": keeping.begin(name, made.id, live.uid, request) if keeping else None,
            "relay": outlets.SOCKET if outlet else "",
        }
        return group, await live.stream.begin(bundle.pack(settings), live.ended.set)

    def _image_for(self, request: dict[str, Any]) -> tuple[str, list[list[str]]]:
        """What to make a container from, and what is to be shown in it that it does not hold."""
        wanted = request["mounts"]
        held = [layer for layer, _ in wanted if layer in self._baked and not request["image"]]
        if not held:
            return request["image"] or self._making.image, wanted
        return self._baked[held[0]], [[layer, target] for layer, target in wanted if layer != held[0]]

    def _group_of(self, live: _Live, pid: int) -> Group | None:
        """Its cgroup, where this machine has it."""
        group = cgroups.group_of(pid, self._hierarchy) if pid else None
        if group is None or not any(live.container in path for path in group.directories):
            return None  # another machine's, or another pid namespace's
        live.pid = pid
        self._harden(group)
        if self.daemon.gvisor:
            live.group, group = group, None
        return group

    async def join(self, name: str, record: Record) -> tuple[Group | None, int]:
        """See isol8.engines.docker.keeping.Containers."""
        live = self._live[name] = _Live(record.uid, Limits(**record.request["limits"]), record.container)
        try:
            with translated("a container could not be looked at"):
                state = (await self._docker.containers.container(live.container).show())["State"]
            if not state["Running"]:
                raise EngineFailure("the container has ended")
            live.stream = Stream(self._place, self._docker.api_version)
            await live.stream.attach(live.container)
            return self._group_of(live, state["Pid"]), await live.stream.begin(b"", live.ended.set)
        except BaseException:
            self._remove(name)
            raise

    async def let_go(self, name: str) -> bool:
        """See isol8.engines.docker.keeping.Containers."""
        live = self._live.get(name)
        if live is None or live.removal or live.stream is None:
            return False
        del self._live[name]
        await live.stream.close()
        return True

    def _harden(self, group: Group) -> None:
        """What Docker does not do: on cgroup v1, bound the buffers of sockets."""
        try:
            group.harden()
        except OSError as error:
            self.unhardened = str(error)

    def _find(self, name: str) -> _Live:
        live = self._live.get(name)
        if live is None or live.removal or live.ended.is_set():
            raise EngineFailure("the sandbox is gone")
        return live

    async def limit(self, name: str, values: dict[str, Any]) -> None:
        """See isol8.engines.supervisor.Sandboxes."""
        live, limits = self._find(name), Limits(**values)
        if changeable(limits) != changeable(live.limits):
            await self._update(live, limits)
        try:
            for path, size, before in _sizes(limits, live.limits):
                if size != before:
                    self._resize(live, path, size)
        except OSError as error:
            await self._update(live, live.limits)
            if error.errno == errno.EINVAL:
                raise Conflict(_TOO_SMALL) from error
            raise EngineFailure(f"limits could not be changed: {error}") from error
        live.limits = limits
        if self.keeping:
            self.keeping.limited(name, limits)

    async def _update(self, live: _Live, limits: Limits) -> None:
        try:
            with translated("limits could not be changed"):
                # aiodocker has no method for it.
                await self._docker._query_json(f"containers/{live.container}/update", "POST", data=changeable(limits))
        except DaemonFailure as error:
            if any(sign in error.message for sign in _BUSY):
                raise Conflict(_TOO_SMALL) from error
            raise

    def _resize(self, live: _Live, path: str, size: int) -> None:
        """Raises OSError, EngineFailure."""
        mounts.resize_in(self._process(live), path, size)

    def _process(self, live: _Live) -> int:
        """Process 1. Raises EngineFailure when it is gone or was never on this machine."""
        group = cgroups.group_of(live.pid, self._hierarchy) if live.pid else None
        if group is None or not any(live.container in directory for directory in group.directories):
            raise EngineFailure("the sandbox is gone, or not on this machine")
        return live.pid

    def process(self, name: str) -> int:
        """Process 1 of a live sandbox; 0 where this machine does not have it. Raises EngineFailure."""
        return self._find(name).pid

    def group(self, name: str) -> Group | None:
        """The cgroup of a live sandbox that `create` does not give, where this machine has it. Raises EngineFailure."""
        return self._find(name).group

    def mount(self, name: str, wanted: list[list[str]]) -> None:
        """See isol8.engines.supervisor.Sandboxes."""
        live = self._find(name)
        if not self.mountable or any(target.startswith("/run/") for _, target in wanted):
            raise Conflict("a container has the directories that it was made with")
        self._directories.show(self._process(live), wanted)
        if self.keeping:
            self.keeping.mounted(name, wanted)

    def _by_daemon(self, wanted: list[list[str]]) -> dict[str, str]:
        """What the daemon is asked to show, by where it is seen: it follows links, so no layer is, below which another
        process may write. Raises EngineFailure."""
        paths = {target: self._directories.path(name) for name, target in wanted}
        if None in paths.values():
            raise EngineFailure(
                "this server cannot show layers to containers, which takes root on the daemon's machine"
            )
        return {target: path for target, path in paths.items() if path}

    def listen(self, name: str, port: int) -> int:
        """See isol8.engines.supervisor.Sandboxes."""
        self._find(name)
        if self._outlets is None:
            raise EngineFailure(f"containers have no way out: {self._shut_in}")
        return self._outlets.listen(name)

    @property
    def has_way_out(self) -> bool:
        """Whether `listen` can work."""
        return self._outlets is not None

    def shut_in(self, reason: str) -> None:
        """Make containers without a way out from now on. Raises EngineFailure when requests were promised
        one."""
        if self._outlets and self._outlets.needed:
            raise EngineFailure(
                f'containers cannot have the network "filtered", which policy.networks allows: {reason}'
            )
        _LOG.info("no packages can be installed: %s", reason)
        self._shut_in = reason
        if self._outlets:
            self._outlets.close()
        self._outlets = None

    async def usage(self, name: str) -> Usage:
        """For a daemon whose cgroups are not on this machine, or end with what they have counted. With `one-shot` the
        daemon does not wait for a second sample. See isol8.engines.supervisor.Sandboxes."""
        if (known := self._live.get(name)) and known.group:
            return await self._usage_of(known, known.group)
        live = self._find(name)
        container = self._docker.containers.container(live.container)
        with translated("usage could not be read"):
            query = f"containers/{live.container}/stats"
            stats = await self._docker._query_json(query, params={"stream": "false", "one-shot": "true"})
            state = (await container.show())["State"]
        memory = stats.get("memory_stats", {})
        return Usage(
            cpu_ms=stats["cpu_stats"]["cpu_usage"]["total_usage"] // 1_000_000,
            peak_memory_bytes=memory.get("max_usage", memory.get("usage", 0)),
            oom_kills=int(state.get("OOMKilled", False)),
        )

    async def _usage_of(self, live: _Live, group: Group) -> Usage:
        """The last there was to know."""
        with suppress(OSError):  # gone with its container
            live.used = group.usage()
        kills = await self._kills.of(live.container, ending=live.ended.is_set())
        return dataclasses.replace(live.used, oom_kills=max(live.used.oom_kills, kills))

    async def destroy(self, name: str) -> None:
        """See isol8.engines.supervisor.Sandboxes. When the daemon does not answer, it goes on trying."""
        if name not in self._live:
            return
        removal = self._remove(name)
        trouble = asyncio.create_task(self._live[name].trouble.wait())
        await asyncio.wait([removal, trouble], timeout=_REMOVE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        trouble.cancel()
        if not removal.done():
            raise EngineFailure("the Docker daemon does not remove a container; this is tried again")

    def _remove(self, name: str) -> asyncio.Task[None]:
        live = self._live[name]
        if live.removal is None:
            live.removal = asyncio.create_task(self._until_removed(name, live))
        return live.removal

    async def _until_removed(self, name: str, live: _Live) -> None:
        if live.stream:
            await live.stream.close()
        delay = _FIRST_DELAY_S
        while True:
            try:
                # By name: it may have been made though nobody was told its id.
                await owners.remove(self._docker, live.container or f"{owners.PREFIX}{name}")
                break
            except DaemonFailure as error:
                _LOG.warning("%s", error.message)
                live.trouble.set()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_S)
        if self._outlets:
            self._outlets.remove(name)
        self._users.give_back(live.uid)
        del self._live[name]
        if self.keeping:
            self.keeping.forget(name)

    async def close(self) -> None:
        """Remove every container. Those that the daemon does not remove in time end by themselves."""
        self._closing = True
        results = await asyncio.gather(*(self.destroy(name) for name in list(self._live)), return_exceptions=True)
        left = [live.removal for live in self._live.values() if live.removal]
        for removal in left:
            removal.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if any(results):
            _LOG.error("%d containers stay behind: the Docker daemon does not remove them", len(left))
        try:
            if self.keeping:
                await self.keeping.close(self._docker)
        except DaemonFailure as error:
            _LOG.error("sessions' containers stay behind: %s", error.message)
        await self._kills.close()
        if self._outlets:
            self._outlets.close()
        await disconnect(self._docker)
        self._profile.close()


async def _is_podman(docker: Docker) -> bool:
    with translated("the daemon cannot be asked what it is"):
        version = await docker.version()
    return any(part.get("Name") == "Podman Engine" for part in version.get("Components") or ())


def _sizes(wanted: Limits, now: Limits) -> Iterator[tuple[str, int, int]]:
    """Of each file system: where it is, how large it should be, how large it is."""
    yield "sandbox", wanted.sandbox_bytes, now.sandbox_bytes
    yield "tmp", wanted.tmp_bytes, now.tmp_bytes
    yield "dev/shm", wanted.tmp_bytes, now.tmp_bytes
