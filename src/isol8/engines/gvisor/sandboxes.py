"""Sandboxes of gVisor as the supervisor holds them: `runsc run` on a bundle, in a cgroup of its own.

No daemon is needed. runsc and what it starts (the kernel of the sandbox, and the process that opens files for it) are
in the cgroup from the start, so that the machine's kernel limits and counts all of it. The runner speaks over the two
pipes that are its standard streams; a pair of sockets makes one stream of them for the API process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

from isol8.engines import bundle
from isol8.engines.gvisor.bundle import make_root, write_bundle
from isol8.engines.gvisor.streams import Stream
from isol8.engines.resources import with_own_kernel
from isol8.engines.supervisor import SIZES
from isol8.engines.user_ids import OF_THE_MACHINE, UserIds
from isol8.errors import Conflict, EngineFailure
from isol8.kernel import cgroups, sweeping
from isol8.kernel.cgroups import Group, Hierarchy
from isol8.model import Limits, Usage

_LOG = logging.getLogger("isol8.gvisor")
_SWEEP_TIMEOUT_S = 60.0  # for a machine that is busy: what is killed needs the processor to end
# Enters the groups whose files follow their number, and becomes the command after them: runsc is never outside.
_ENTER = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 >"$1" || exit 70; shift; n=$((n - 1)); done; exec "$@"'


@dataclass(slots=True)
class _Live:
    uid: int
    directory: str
    group: Group
    limits: Limits
    stream: Stream | None = None
    removal: asyncio.Task[None] | None = None


class Sandboxes:
    """All sandboxes of one server. `start` it, and `close` it. `options` are runsc's own, such as --platform=ptrace."""

    fixed = SIZES
    keeping = None  # its sandboxes end with the supervisor
    mountable = False

    def __init__(
        self,
        owner: int,
        hierarchy: Hierarchy,
        runsc: str,
        options: list[str],
        prefixes: dict[str, str],
        environment: dict[str, str],
    ) -> None:
        self._owner = owner
        self._hierarchy = hierarchy
        self._command = [runsc, *options]
        self._prefixes = prefixes
        self._environment = environment
        self._users = UserIds(OF_THE_MACHINE)
        self._live: dict[str, _Live] = {}
        self._closing = False

    async def start(self) -> None:
        """Make the root that sandboxes share, and the server's cgroup. Raises EngineFailure."""
        bundle.preload()
        hierarchy = self._hierarchy
        try:
            sweeping.sweep_all(cgroups.stale_directories(hierarchy), _SWEEP_TIMEOUT_S)
            self._parent = cgroups.server_group(hierarchy, self._owner)
            cgroups.create_parent(self._parent)
            self._directory = tempfile.mkdtemp(prefix=f"isol8-{self._owner}-", dir="/run")
            os.chmod(self._directory, 0o755)
            self._root = f"{self._directory}/root"
            make_root(self._root, self._prefixes)
        except OSError as error:
            raise EngineFailure(f"the gVisor engine cannot start: {error}") from error

    async def create(self, name: str, request: dict[str, Any]) -> tuple[Group, int]:
        """See isol8.engines.supervisor.Sandboxes."""
        if self._closing:
            raise EngineFailure("the server is stopping")
        group, directory = self._parent.child(name), f"{self._directory}/{name}"
        live = self._live[name] = _Live(self._users.take(), directory, group, Limits(**request["limits"]))
        try:
            return group, await self._make(name, live, request)
        except BaseException as error:
            if name in self._live:  # else somebody has seen to it meanwhile
                await asyncio.shield(self._remove(name))
            if isinstance(error, OSError):
                raise EngineFailure(f"a sandbox could not be made: {error}") from error
            raise

    async def _make(self, name: str, live: _Live, request: dict[str, Any]) -> int:
        os.mkdir(live.directory, 0o755)
        write_bundle(live.directory, self._root, self._prefixes, live.uid, request)
        live.group.create()
        live.group.harden()
        live.group.limit(with_own_kernel(live.limits))
        network = "host" if request["network"] == "host" else "none"
        command = [*self._command, f"--network={network}", f"--root={live.directory}/state", "--ignore-cgroups"]
        groups = [f"{path}/cgroup.procs" for path in live.group.directories]
        entering = ["/bin/sh", "-c", _ENTER, "sh", str(len(groups)), *groups]
        live.stream = await Stream.start([*entering, *command, "run", f"--bundle={live.directory}", name])
        if live.removal:  # which has not seen the process
            await live.stream.close()
            await live.stream.ended()
            raise EngineFailure("the sandbox is gone")
        settings = {
            "environment": self._environment,
            "inherit": False,
            "boot": request["boot"],
            "keeping": None,
            "relay": "",
        }
        return await live.stream.begin(bundle.pack(settings))

    async def limit(self, name: str, values: dict[str, Any]) -> None:
        """See isol8.engines.supervisor.Sandboxes."""
        live = self._live.get(name)
        if live is None:
            raise EngineFailure("the sandbox is gone")
        limits = Limits(**values)
        try:
            live.group.limit(with_own_kernel(limits))
        except OSError as error:
            live.group.limit(with_own_kernel(live.limits))
            raise Conflict("The sandbox already uses more than the new limits allow") from error
        live.limits = limits

    def mount(self, name: str, wanted: list[list[str]]) -> None:
        """See Sandboxes. Layers of packages are not for this engine so far."""
        raise EngineFailure("this engine cannot show directories in a live sandbox")

    def listen(self, name: str, port: int) -> int:
        """See Sandboxes. Filtered networks are not for this engine so far."""
        raise EngineFailure("this engine cannot listen on a sandbox's loopback")

    async def usage(self, name: str) -> Usage:
        """See isol8.engines.supervisor.Sandboxes."""
        try:
            return self._live[name].group.usage()
        except (KeyError, OSError) as error:
            raise EngineFailure("the sandbox is gone") from error

    async def destroy(self, name: str) -> None:
        """See isol8.engines.supervisor.Sandboxes."""
        if name in self._live:
            await asyncio.shield(self._remove(name))

    def _remove(self, name: str) -> asyncio.Task[None]:
        live = self._live[name]
        if live.removal is None:
            live.removal = asyncio.create_task(self._take_apart(name, live))
        return live.removal

    async def _take_apart(self, name: str, live: _Live) -> None:
        """Kill all that is in the cgroup, which is all there is of it. The mounts are in namespaces of what is
        killed."""
        if live.stream:
            await live.stream.close()
        try:
            await asyncio.to_thread(sweeping.sweep_all, live.group.directories, _SWEEP_TIMEOUT_S)
            if live.stream:
                await live.stream.ended()
            await asyncio.to_thread(shutil.rmtree, live.directory, ignore_errors=True)
        except OSError as error:
            _LOG.error("something of %s stays behind: %s", name, error)
            return  # nobody else may have its user
        self._users.give_back(live.uid)
        del self._live[name]

    async def close(self) -> None:
        """Destroy every sandbox, and remove what they shared."""
        self._closing = True
        await asyncio.gather(*(self.destroy(name) for name in list(self._live)))
        for path in self._parent.directories:
            await asyncio.to_thread(sweeping.sweep, path, _SWEEP_TIMEOUT_S)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._directory)
        self._users.close()
