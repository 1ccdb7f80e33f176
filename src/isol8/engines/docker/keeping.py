"""Containers of sessions, which outlive a crash of their server: noted down, let go of, and found by the next one.

Such a container's standard input stays open when nobody is attached any more, and its runner waits (runner/
resumption.py). A server that stops in order removes them like all others. After a crash of all of it, the supervisor of
the next server with the same data directory takes over those whose records can be believed, and removes the others; its
API process then asks for them one by one. The same when the API process alone has gone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from typing import Any, Protocol

from aiodocker import Docker

from isol8.engines import bundle
from isol8.engines.docker import owners
from isol8.engines.docker.client import translated
from isol8.engines.docker.description import HOME_LABEL, LABEL
from isol8.engines.docker.records import InvalidRecord, Record, Records
from isol8.engines.docker.users import Users
from isol8.errors import EngineFailure
from isol8.kernel.cgroups import Group
from isol8.model import Limits
from isol8.runner.resumption import TOKEN_BYTES

_LOG = logging.getLogger("isol8.docker")


class Containers(Protocol):
    """Those that somebody is connected to (sandboxes.py)."""

    async def join(self, name: str, record: Record) -> tuple[Group | None, int]:
        """Attach to one that runs. Raises EngineFailure; it is removed then."""

    async def let_go(self, name: str) -> bool:
        """End its stream, and nothing else. False when it has ended, or is being removed."""


class Kept:
    """Implements isol8.engines.supervisor.Keeping. `owner` is this server's label."""

    def __init__(self, records: Records, owner: str, containers: Containers, patience_s: float) -> None:
        self._records = records
        self._owner = owner
        self._containers = containers
        self._patience_s = patience_s
        self._noted: dict[str, Record] = {}  # of those that somebody is connected to
        self._waiting: dict[str, Record] = {}  # of those that nobody is
        self._leaving: set[asyncio.Task[bool]] = set()
        self._spared = False

    @property
    def home(self) -> str:
        """The label that says which servers may take a container over."""
        return self._records.home

    def begin(self, name: str, container: str, uid: int, request: dict[str, Any]) -> tuple[str, float]:
        """One is being made that may be kept. What its runner is told: see isol8.engines.inside."""
        token = secrets.token_hex(TOKEN_BYTES)
        made = {key: request[key] for key in ("runtime", "limits", "network", "image", "boot", "mounts")}
        self._noted[name] = Record(self._owner, container, uid, bundle.version(), token, made, {})
        return token, self._patience_s

    async def keep(self, name: str, note: dict[str, Any]) -> None:
        """See Keeping."""
        if name not in self._noted:
            raise EngineFailure("the sandbox is gone, or cannot be kept")
        self._write(name, note=note)

    def limited(self, name: str, limits: Limits) -> None:
        """It has other limits now."""
        if name in self._noted:
            self._change(name, limits=dataclasses.asdict(limits))

    def mounted(self, name: str, wanted: list[list[str]]) -> None:
        """It is shown more directories now."""
        if name in self._noted:
            self._change(name, mounts=[*self._noted[name].request["mounts"], *wanted])

    def _change(self, name: str, **values: Any) -> None:
        try:
            self._write(name, request={**self._noted[name].request, **values})
        except EngineFailure as error:
            _LOG.warning("%s", error.message)  # it is so all the same

    def _write(self, name: str, **changes: Any) -> None:
        record = self._noted[name] = dataclasses.replace(self._noted[name], **changes)
        if record.note:
            self._records.write(name, record)

    def forget(self, name: str) -> None:
        """It is gone."""
        if self._noted.pop(name, None) or self._waiting.pop(name, None):
            self._records.forget(name)

    async def take_over(self, docker: Docker, users: Users) -> None:
        """Find what crashed servers of this home have left; remove what cannot be used. Raises EngineFailure."""
        with translated("containers could not be listed"):
            found = await docker.containers.list(all=True, filters=f'{{"label": ["{HOME_LABEL}={self.home}"]}}')
        there, doomed = {_name_of(container) for container in found}, {}
        with self._records.locked():
            for container in found:
                name = _name_of(container)
                owner = container["Labels"].get(LABEL, "")
                try:
                    record = self._records.read(name)
                    owner = record.owner
                    if owners.is_stale(owner):
                        self._claim(name, container.id, record, users)
                except EngineFailure as error:  # no room on the disk, perhaps
                    _LOG.warning("a session is left where it is: %s", error.message)
                except InvalidRecord as error:
                    if owners.is_stale(owner):
                        _LOG.warning("the container of the session's sandbox %s is removed: %s", name, error)
                        doomed[name] = container.id
            self._forget_strays(there - doomed.keys())
        await asyncio.gather(*(owners.remove(docker, container) for container in doomed.values()))

    def _claim(self, name: str, container: str, record: Record, users: Users) -> None:
        """Raises InvalidRecord."""
        if record.container != container:
            raise InvalidRecord("its record is of another container")
        if record.runner != bundle.version():
            raise InvalidRecord("it was made by another version of isol8")
        if not users.claim(record.uid):
            raise InvalidRecord("its user is not one of a sandbox's")
        mine = dataclasses.replace(record, owner=self._owner)
        self._records.write(name, mine)
        self._waiting[name] = mine

    def _forget_strays(self, there: set[str]) -> None:
        """Records without a container: it has ended meanwhile, or was never made."""
        for name in set(self._records.names()) - there - set(self._waiting):
            try:
                stray = owners.is_stale(self._records.read(name).owner)
            except InvalidRecord:
                stray = True
            if stray and name.isalnum():
                self._records.forget(name)

    async def kept(self) -> list[str]:
        """See Keeping."""
        await asyncio.gather(*self._leaving)
        return list(self._waiting)

    async def adopt(self, name: str) -> tuple[dict[str, Any], Group | None, int]:
        """See Keeping."""
        record = self._waiting.get(name)
        if record is None:
            raise EngineFailure("nobody waits under this name")
        del self._waiting[name]
        self._noted[name] = record
        group, stream = await self._containers.join(name, record)
        return {"request": record.request, "note": record.note, "token": record.token}, group, stream

    async def leave(self, name: str) -> bool:
        """See Keeping."""
        record = self._noted.get(name)
        if record is None or not record.note:
            return False
        leaving = asyncio.create_task(self._leave(name, record))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        return await leaving

    async def _leave(self, name: str, record: Record) -> bool:
        if not await self._containers.let_go(name):
            return False
        del self._noted[name]
        self._waiting[name] = record
        return True

    async def spare(self) -> None:
        """See Keeping."""
        self._spared = True
        await asyncio.gather(*(self.leave(name) for name in list(self._noted)))

    async def close(self, docker: Docker) -> None:
        """Remove those that nobody is connected to, unless they are spared. Raises EngineFailure."""
        await asyncio.gather(*self._leaving)
        if self._spared:
            return
        for name, record in list(self._waiting.items()):
            await owners.remove(docker, record.container)
            self.forget(name)


def _name_of(container: Any) -> str:
    """The sandbox's."""
    return str(container["Names"][0]).removeprefix(f"/{owners.PREFIX}")
