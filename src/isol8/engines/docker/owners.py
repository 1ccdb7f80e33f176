"""Whose a container is: a label that names the server's machine and main process, so that what a crashed server left
can be told from what belongs to a live one. Nothing without the label is ever touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from aiodocker import Docker

from isol8.engines.docker.client import DaemonFailure, translated
from isol8.engines.docker.description import HOME_LABEL, LABEL
from isol8.engines.docker.records import InvalidRecord, Records
from isol8.kernel.cgroups import process_identity

# Of a container's name; the sandbox's own follows.
PREFIX = "isol8-"
_LOG = logging.getLogger("isol8.docker")


def machine() -> str:
    """This machine, among those that may share a daemon."""
    with contextlib.suppress(OSError), open("/etc/machine-id") as file:
        if text := file.read().strip():
            return text
    return os.uname().nodename


def owner_label(pid: int) -> str:
    """The label's value for the server whose main process is `pid`."""
    return f"{machine()}/{process_identity(pid)}"


def is_stale(label: str) -> bool:
    """Whether a label is that of a server of this machine that is no more. Of one that another machine or another
    container has made, nothing can be known: False."""
    where, _, identity = label.partition("/")
    if where != machine():
        return False
    *boot, namespace, pid, _ = identity.split("-")
    mine = process_identity(os.getpid()).split("-")
    if boot != mine[: len(boot)]:
        return True  # from before the machine was started
    return namespace == mine[len(boot)] and pid.isdigit() and process_identity(int(pid)) != identity


async def sweep(docker: Docker) -> int:
    """Remove what dead servers of this machine have left; how many there were. Sessions' containers stay for the next
    server of their home (keeping.py). Raises DaemonFailure."""
    found = await _labelled(docker)
    return await _remove_all(
        docker, [each.id for each in found if HOME_LABEL not in each["Labels"] and is_stale(each["Labels"][LABEL])]
    )


async def sweep_own(docker: Docker, owner: str, records: Records | None) -> int:
    """Remove all that is this server's; how many there were. `records` tell what it has taken over from another. Raises
    DaemonFailure."""
    taken = set(_taken_over(owner, records)) if records else set()
    found = await _labelled(docker)
    own = [each.id for each in found if each["Labels"][LABEL] == owner or each["Names"][0][1:] in taken]
    removed = await _remove_all(docker, own)
    for name in taken:
        assert records
        records.forget(name.removeprefix(PREFIX))
    return removed


def _taken_over(owner: str, records: Records) -> Iterator[str]:
    """Names of the containers that are a server's by its records."""
    for name in records.names():
        with contextlib.suppress(InvalidRecord):
            if records.read(name).owner == owner:
                yield f"{PREFIX}{name}"


async def _labelled(docker: Docker) -> list[Any]:
    with translated("containers could not be listed"):
        return list(await docker.containers.list(all=True, filters=f'{{"label": ["{LABEL}"]}}'))


async def _remove_all(docker: Docker, names: list[str]) -> int:
    await asyncio.gather(*(remove(docker, name) for name in names))
    return len(names)


async def remove(docker: Docker, name: str) -> None:
    """Kill a container and remove it; returns when it is gone. One that is gone is fine. Raises DaemonFailure."""
    container = docker.containers.container(name)
    try:
        with translated("a container could not be removed"):
            await container.delete(force=True, v=True)
    except DaemonFailure as error:
        if error.status == 404:
            return
        # It is being removed already, or (Podman) has just ended and is about to be.
        if error.status != 409 and "container state improper" not in error.message:
            raise
        await _until_removed(docker, name)


async def _until_removed(docker: Docker, name: str) -> None:
    try:
        with translated("a container could not be removed"):
            await docker.containers.container(name).wait(condition="removed", timeout=30.0)
    except DaemonFailure as error:
        if error.status != 404:
            raise
