"""The containers of a server, by name, as the supervisor asks for them: how they are made, and what they share."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from aiodocker import Docker

from isol8.engines import bundle
from isol8.engines.directories import Directories
from isol8.engines.docker import baking, images, outlets, owners
from isol8.engines.docker.client import DaemonFailure, Place, connect, disconnect, translated
from isol8.engines.docker.container import Container
from isol8.engines.docker.description import HOME_LABEL, LABEL, Daemon, Making, describe
from isol8.engines.docker.keeping import Kept
from isol8.engines.docker.kills import Kills
from isol8.engines.docker.outlets import Outlets
from isol8.engines.docker.records import Record, Records
from isol8.engines.docker.seccomp import Profile
from isol8.engines.docker.users import Users
from isol8.errors import Conflict, EngineFailure
from isol8.kernel import cgroups
from isol8.kernel.cgroups import Group
from isol8.model import Limits, Usage

_LOG = logging.getLogger("isol8.docker")
# What a program may count on in whatever image.
_ESSENTIAL = {"HOME": "/sandbox", "LANG": "C.UTF-8"}


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
        self._live: dict[str, Container] = {}
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
        taken_over = {HOME_LABEL: self.keeping.home} if self.keeping else {}
        self._kills = Kills(self._place, self._making.labels | taken_over, self._look)
        if podman:  # which tells of no kills
            self.keeping = None  # its containers' input ends when nobody is attached, whatever they were made with
        else:
            self._kills.start()
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
        live = self._enter(name, self._users.take(), request)
        try:
            return await self._make(live, request)
        except BaseException:
            live.asked.set()
            if name in self._live:  # else somebody has seen to it meanwhile
                live.remove()  # not waited for: it may take as long as the daemon is away
            raise

    def _enter(self, name: str, uid: int, request: dict[str, Any]) -> Container:
        limits = Limits(**request["limits"])
        live = self._live[name] = Container(self._docker, self._hierarchy, self._forget, name, uid, limits)
        return live

    async def _make(self, live: Container, request: dict[str, Any]) -> tuple[Group | None, int]:
        if request["image"]:
            await images.check(self._docker, request["image"])
        image, wanted = self._image_for(request)
        let_out = request["network"] != "host" and request.get("way_out", True)
        outlet = self._outlets.make(live.name) if self._outlets and let_out else ""
        shown = {outlets.INSIDE: outlet} if outlet else {}
        if not self.mountable:
            shown |= self._by_daemon(wanted)
        keeping = self.keeping if request["kept"] else None
        home = keeping.home if keeping else ""
        body = describe(self._making, self.daemon, request, live.uid, shown, home) | {"Image": image}
        try:
            with translated(f"a container of {image} could not be made"):
                made = await self._docker.containers.create(body, name=f"{owners.PREFIX}{live.name}")
        except DaemonFailure:
            self._baked = {layer: each for layer, each in self._baked.items() if each != image}  # it may be gone
            raise
        live.id = made.id
        live.asked.set()
        if live.removal:
            raise EngineFailure("the sandbox is gone")
        stream = await live.attach(self._place)
        try:
            with translated(f"a container of {image} could not be started"):
                await made.start()
                state = (await made.show())["State"]
        except DaemonFailure as error:
            raise images.explain(error, image) from error
        group = self._group_of(live, state["Pid"])
        if self.mountable and wanted:
            self._directories.show(live.process(), wanted)  # nothing has run in there so far
        settings = {
            "environment": self._making.environment if not request["image"] else _ESSENTIAL,
            "inherit": bool(request["image"]),
            "boot": request["boot"],
            "keeping": keeping.begin(live.name, made.id, live.uid, request) if keeping else None,
            "relay": outlets.SOCKET if outlet else "",
        }
        return group, await stream.begin(bundle.pack(settings), live.ended.set)

    def _image_for(self, request: dict[str, Any]) -> tuple[str, list[list[str]]]:
        """What to make a container from, and what is to be shown in it that it does not hold."""
        wanted = request["mounts"]
        held = [layer for layer, _ in wanted if layer in self._baked and not request["image"]]
        if not held:
            return request["image"] or self._making.image, wanted
        return self._baked[held[0]], [[layer, target] for layer, target in wanted if layer != held[0]]

    def _group_of(self, live: Container, pid: int) -> Group | None:
        """Its cgroup, where this machine has it."""
        if group := live.own_group(pid):
            live.pid = pid
            try:
                group.harden()  # what Docker does not do: on cgroup v1, bound the buffers of sockets
            except OSError as error:
                self.unhardened = str(error)
            live.group = group
        return None if self.daemon.gvisor else group

    async def join(self, name: str, record: Record) -> tuple[Group | None, int]:
        """See isol8.engines.docker.keeping.Containers."""
        live = self._enter(name, record.uid, record.request)
        live.id = record.container
        live.asked.set()
        try:
            with translated("a container could not be looked at"):
                state = (await self._docker.containers.container(live.id).show())["State"]
            if not state["Running"]:
                raise EngineFailure("the container has ended")
            stream = await live.attach(self._place)
            return self._group_of(live, state["Pid"]), await stream.begin(b"", live.ended.set)
        except BaseException:
            if name in self._live:
                live.remove()
            raise

    async def let_go(self, name: str) -> bool:
        """See isol8.engines.docker.keeping.Containers."""
        live = self._live.get(name)
        if live is None or live.removal or live.stream is None:
            return False
        del self._live[name]
        await live.stream.close()
        return True

    def _find(self, name: str) -> Container:
        live = self._live.get(name)
        if live is None or live.removal or live.ended.is_set():
            raise EngineFailure("the sandbox is gone")
        return live

    async def limit(self, name: str, values: dict[str, Any]) -> None:
        """See isol8.engines.supervisor.Sandboxes."""
        live, limits = self._find(name), Limits(**values)
        await live.limit(limits)
        if self.keeping:
            self.keeping.limited(name, limits)

    def process(self, name: str) -> int:
        """Process 1 of a live sandbox; 0 where this machine does not have it. Raises EngineFailure."""
        return self._find(name).pid

    def group(self, name: str) -> Group | None:
        """The cgroup of a live sandbox, where this machine has it. Raises EngineFailure."""
        return self._find(name).group

    def mount(self, name: str, wanted: list[list[str]]) -> None:
        """See isol8.engines.supervisor.Sandboxes."""
        live = self._find(name)
        if not self.mountable or any(target.startswith("/run/") for _, target in wanted):
            raise Conflict("a container has the directories that it was made with")
        self._directories.show(live.process(), wanted)
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
        """Make containers without a way out from now on. Raises EngineFailure when requests were promised one."""
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
        """Also of one that has ended by itself. See isol8.engines.supervisor.Sandboxes."""
        live = self._live.get(name)
        if live is None or live.removal:
            raise EngineFailure("the sandbox is gone")
        return await live.usage(self._kills)

    def _look(self, container: str) -> None:
        for live in self._live.values():
            if live.id == container:
                live.look()

    async def destroy(self, name: str) -> None:
        """See isol8.engines.supervisor.Sandboxes. When the daemon does not answer, it goes on trying."""
        if live := self._live.get(name):
            await live.destroy()

    def _forget(self, live: Container) -> None:
        """It is gone."""
        if self._outlets:
            self._outlets.remove(live.name)
        self._users.give_back(live.uid)
        del self._live[live.name]
        if self.keeping:
            self.keeping.forget(live.name)

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
