"""A container that is let go of while the daemon makes it: it does not stay."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from isol8.engines.directories import Directories
from isol8.engines.docker.client import Place
from isol8.engines.docker.description import Daemon, Making
from isol8.engines.docker.sandboxes import Sandboxes
from isol8.engines.looking import specimen_request
from isol8.errors import EngineFailure


class SlowDaemon:
    """Has made a container when `go` is set, and knows of none before. Stands for a `Docker`, and for all below it."""

    def __init__(self) -> None:
        self.containers, self.api_version = self, "1.41"
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.names: set[str] = set()
        self._name = ""

    async def create(self, body: dict[str, Any], name: str) -> SlowDaemon:
        self.asked.set()
        await self.go.wait()
        self.names.add(name)
        return self.container(name)

    def container(self, name: str) -> SlowDaemon:
        self._name = name
        return self

    @property
    def id(self) -> str:
        return self._name

    async def delete(self, **_: object) -> None:
        if self._name not in self.names:
            raise DockerError(404, "No such container")
        self.names.remove(self._name)


@pytest.mark.parametrize("turns", range(4))
async def test_it_does_not_stay(turns: int) -> None:
    """The API process has gone, or the server stops; to remove it before the daemon knows it removes nothing."""
    daemon = SlowDaemon()
    making = Making("image", "", {"isol8.server": "x"})
    sandboxes = Sandboxes(Place("unix:///nowhere"), making, None, Directories("", {}))
    sandboxes._docker = cast(Docker, daemon)
    sandboxes.daemon, sandboxes._baked = Daemon("", podman=False, gvisor=False), {}
    name, request = specimen_request()
    creating = asyncio.create_task(sandboxes.create(name, request))
    await daemon.asked.wait()
    destroying = asyncio.create_task(sandboxes.destroy(name))
    for _ in range(turns):
        await asyncio.sleep(0)
    daemon.go.set()
    with pytest.raises(EngineFailure):
        await creating
    await destroying
    assert daemon.names == set()
    assert not sandboxes._live
