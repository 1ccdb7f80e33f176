"""Sandboxes as the supervisor holds them: a process, a cgroup, a user id; made, limited, and taken apart."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
from dataclasses import dataclass
from typing import Any

from isol8.engines.directories import Directories
from isol8.engines.native.copying.templates import Templates
from isol8.engines.native.surroundings import pack_request, plain_message
from isol8.engines.native.zygotes import Zygote, describe_root
from isol8.engines.sandbox import port_taken
from isol8.engines.user_ids import OF_THE_MACHINE, IdRange, OneUser, UserIds
from isol8.errors import Conflict, EngineFailure
from isol8.kernel import cgroups, mounts, network, sweeping, user_namespaces
from isol8.kernel.cgroups import Group, Hierarchy
from isol8.model import Limits, Usage

_LOG = logging.getLogger("isol8.supervisor")
_SWEEP_TIMEOUT_S = 20.0
# As long as a sweep may take: what stays behind is removed by nobody before the server ends.
_REMOVE_TRIES = 2_000
_RETRY_S = 0.01


@dataclass(slots=True)
class _Live:
    name: str
    uid: int
    pid: int
    pidfd: int
    group: Group
    limits: Limits
    gone: asyncio.Future[None]
    unwanted: bool = False  # it has been destroyed


@dataclass(frozen=True, slots=True)
class Means:
    """What this machine has for sandboxes: the cgroup controllers that work, the names of layers to do without, and
    user ids; None where every sandbox is the server's own user, in a user namespace of its own."""

    hierarchy: Hierarchy
    without: frozenset[str] = frozenset()
    ids: IdRange | None = OF_THE_MACHINE


class Sandboxes:
    """All sandboxes of one server. `close` when done."""

    fixed: tuple[str, ...] = ()
    keeping = None  # its sandboxes end with the supervisor
    mountable = True

    def __init__(
        self,
        owner: int,
        python: str,
        prefixes: dict[str, str],
        environment: dict[str, str],
        means: Means,
        directories: Directories | None = None,
    ) -> None:
        self._owner = owner
        self._directories = directories or Directories()
        self._means = means
        self._uids = UserIds(means.ids) if means.ids else OneUser()
        self._live: dict[str, _Live] = {}
        self._last: dict[str, Usage] = {}  # of those that were killed, and are not destroyed
        self._closing = False
        self._root_arguments = (python, prefixes)
        self._environment = environment
        self._zygote_lock = asyncio.Lock()
        self._zygote: Zygote | None = None
        self._templates = Templates(environment, _no_templates(means))

    async def start(self) -> None:
        """Make the server's cgroup and start the zygote. Raises EngineFailure."""
        hierarchy = self._means.hierarchy
        try:
            stale = cgroups.stale_directories(hierarchy)
            for path in stale:
                _LOG.info("removing what a dead server left: %s", path)
            sweeping.sweep_all(stale, _SWEEP_TIMEOUT_S)
            self._parent = cgroups.server_group(hierarchy, self._owner)
            cgroups.create_parent(self._parent)
        except OSError as error:
            raise EngineFailure(f"cgroups cannot be used: {error}") from error
        await self._ready_zygote()

    async def _ready_zygote(self) -> Zygote:
        """The zygote, started anew if it has died."""
        if self._zygote and self._zygote.alive:
            return self._zygote
        async with self._zygote_lock:
            if self._zygote is None or not self._zygote.alive:
                python, prefixes = self._root_arguments
                zygote = Zygote(python, describe_root(python, prefixes), self._environment)
                await zygote.start()
                self._zygote = zygote
            return self._zygote

    async def copying_problem(self, boot: dict[str, Any]) -> str:
        """Why an interpreter that could be copied into sandboxes boots in each of them; empty when it is copied."""
        zygote = await self._ready_zygote()
        return await self._templates.problem(boot, zygote.pid, len(self._parent.directories))

    async def create(self, name: str, request: dict[str, Any]) -> tuple[Group, int]:
        """Make a sandbox; its cgroup and its stream (the caller's to close). Raises EngineFailure."""
        if self._closing:
            raise EngineFailure("the server is stopping")
        if request["network"] == "host" and not self._means.ids:
            # As the server's own user, a program would pass for it with all that listens there.
            raise EngineFailure('network "host" needs user ids for sandboxes, which this server has none of')
        zygote = await self._ready_zygote()
        limits = Limits(**request["limits"])
        uid = self._uids.take()
        group = self._parent.child(name)
        ours, theirs = socket.socketpair()
        entries: list[int] = []
        trees: list[int] = []
        try:
            trees = self._directories.open(request["mounts"])
            group.create()
            group.harden()
            group.limit(limits)
            entries = group.entries()
            template = await self._templates.template(request["boot"], zygote.pid, len(entries))
            words = template.words(uid) if template else b""
            asked = [template.socket.fileno()] if template and template.socket else []
            if zygote.takes_plain and _is_plain(request, self._means):
                message = plain_message(uid, limits.sandbox_bytes, limits.tmp_bytes)
            else:
                fields = [*_fields(uid, limits, request, self._means), ("words", words)]
                fields += [("leaving", template.leaving)] if template else []
                message = pack_request(fields)
            pid = await zygote.clone(message, [theirs.fileno(), *asked, *entries, *trees])
        except BaseException as error:
            ours.close()
            self._uids.give_back(uid)
            with contextlib.suppress(OSError):
                group.remove()
            if isinstance(error, OSError):
                _LOG.error("a sandbox could not be made: %s", error)  # the caller is not told which file
                raise EngineFailure(f"a sandbox could not be made: {error.strerror}") from error
            raise
        finally:
            theirs.close()
            for descriptor in (*entries, *trees):
                os.close(descriptor)
        self._adopt(name, uid, pid, group, limits)
        return group, ours.detach()

    def _adopt(self, name: str, uid: int, pid: int, group: Group, limits: Limits) -> None:
        loop = asyncio.get_running_loop()
        live = _Live(name, uid, pid, os.pidfd_open(pid), group, limits, loop.create_future())
        self._live[name] = live
        loop.add_reader(live.pidfd, self._ended, live)

    def _ended(self, live: _Live) -> None:
        """Process 1 is dead, and with it, by the kernel's doing, every process of its pid namespace."""
        asyncio.get_running_loop().remove_reader(live.pidfd)
        _, status = os.waitpid(live.pid, 0)
        os.close(live.pidfd)
        live.pidfd = -1
        if status and not live.unwanted:  # for memory, perhaps: whoever asks may come when the cgroup is gone
            with contextlib.suppress(OSError):  # nothing may keep it from being removed
                self._last[live.name] = live.group.usage()
        self._remove_group(live, _REMOVE_TRIES)

    def _remove_group(self, live: _Live, tries: int) -> None:
        """Remove the cgroup. The kernel lets go of a dead task's cgroup a moment after it can be reaped."""
        try:
            live.group.remove()
        except OSError as error:
            if error.errno == errno.EBUSY and tries:
                asyncio.get_running_loop().call_later(_RETRY_S, self._remove_group, live, tries - 1)
                return
            _LOG.error("the cgroup of %s stays behind: %s", live.name, error)
        self._uids.give_back(live.uid)
        del self._live[live.name]
        live.gone.set_result(None)

    async def limit(self, name: str, values: dict[str, Any]) -> None:
        """Put other limits on a live sandbox. Raises EngineFailure, Conflict."""
        live = self._live.get(name)
        if live is None:
            raise EngineFailure("the sandbox is gone")
        limits = Limits(**values)
        try:
            live.group.limit(limits)
            for path, size, before in (
                ("sandbox", limits.sandbox_bytes, live.limits.sandbox_bytes),
                ("tmp", limits.tmp_bytes, live.limits.tmp_bytes),
                ("dev/shm", limits.tmp_bytes, live.limits.tmp_bytes),
            ):
                if size != before:
                    mounts.resize_in(live.pid, path, size)
        except OSError as error:
            live.group.limit(live.limits)
            if error.errno in (errno.EBUSY, errno.EINVAL):
                raise Conflict("The sandbox already uses more than the new limits allow") from error
            _LOG.error("limits could not be changed: %s", error)
            raise EngineFailure(f"limits could not be changed: {error.strerror}") from error
        live.limits = limits

    def mount(self, name: str, mounts: list[list[str]]) -> None:
        """Show further directories in a live sandbox. Raises EngineFailure."""
        live = self._live.get(name)
        if live is None:
            raise EngineFailure("the sandbox is gone")
        self._directories.show(live.pid, mounts)

    def listen(self, name: str, port: int) -> int:
        """A socket that listens on a sandbox's loopback (the caller's to close). Raises EngineFailure, Conflict."""
        live = self._live.get(name)
        if live is None:
            raise EngineFailure("the sandbox is gone")
        try:
            return network.in_network_of(live.pidfd, lambda: _listen(port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise port_taken(port) from error
            raise EngineFailure(f"the sandbox's network cannot be entered: {error}") from error

    def identity(self, name: str) -> tuple[int, int]:
        """Process 1 of a live sandbox, and its user. Raises KeyError when it is gone."""
        live = self._live[name]
        return live.pid, live.uid

    async def usage(self, name: str) -> Usage:
        """What a sandbox has consumed, or one that was killed had. Raises EngineFailure."""
        try:
            return self._last.get(name) or self._live[name].group.usage()
        except (KeyError, OSError) as error:
            raise EngineFailure("the sandbox is gone") from error

    async def destroy(self, name: str) -> None:
        """Kill a sandbox; returns when nothing of it is left. One that does not exist is fine."""
        self._last.pop(name, None)
        live = self._live.get(name)
        if live is None:
            return
        live.unwanted = True
        if live.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(live.pidfd, signal.SIGKILL)
            if live.limits.cpus < 1:
                # Giving back its memory counts as its use of the processor, and would take as long as it was slow.
                live.group.unleash()
        await asyncio.shield(live.gone)

    async def close(self) -> None:
        """Destroy every sandbox, end the zygote, remove the server's cgroup."""
        self._closing = True
        self._templates.close()
        if self._zygote:
            self._zygote.close()
        await asyncio.gather(*(self.destroy(name) for name in list(self._live)))
        for path in self._parent.directories:
            sweeping.sweep(path, _SWEEP_TIMEOUT_S)
        self._uids.close()


def _no_templates(means: Means) -> str:
    """Why this machine has none, if so: a copy must have every layer that a sandbox can have."""
    if not means.ids or not user_namespaces.is_initial():
        return "the server is an ordinary user's"
    return f"not enforced: {', '.join(sorted(means.without))}" if means.without else ""


def _is_plain(request: dict[str, Any], means: Means) -> bool:
    """Whether the sandbox has nothing but what all have."""
    boot = request["boot"]
    special = boot["modules"] or request["mounts"] or request["network"] == "host" or means.without or not means.ids
    return boot["forked"] and not special


def _fields(uid: int, limits: Limits, request: dict[str, Any], means: Means) -> list[tuple[str, bytes]]:
    """The request to the zygote."""
    network, boot = request["network"], request["boot"]
    resolver = b""
    if network == "host":
        with contextlib.suppress(FileNotFoundError), open("/etc/resolv.conf", "rb") as file:
            resolver = file.read(4096)
    return [
        ("uid", str(uid).encode()),
        ("alone", b"" if means.ids else b"1"),
        ("sandbox", str(limits.sandbox_bytes).encode()),
        ("tmp", str(limits.tmp_bytes).encode()),
        ("network", network.encode()),
        ("resolver", resolver),
        ("without", " ".join(means.without).encode()),
        ("executable", boot["executable"].encode()),
        ("path", boot["path"].encode()),
        ("opens", str(boot["opens"]).encode()),
        ("forked", b"1" if boot["forked"] else b"0"),
        *(("argv", value.encode()) for value in boot["argv"] if not boot["forked"]),
        *(("stamp", str(offset).encode()) for offset in boot["stamps"]),
        *(("module", name.encode()) for name in boot["modules"]),
        *(("target", target.encode()) for _, target in request["mounts"]),
    ]


def _listen(port: int) -> int:
    with socket.create_server(("127.0.0.1", port)) as listener:
        return listener.detach()
