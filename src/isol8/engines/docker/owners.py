"""Whose a container is: a label that names the server's machine and main process, so that what a crashed server left
can be told from what belongs to a live one. Nothing without the label is ever touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

from aiodocker import Docker

from isol8.engines.docker.client import DaemonFailure, translated
from isol8.engines.docker.description import LABEL
from isol8.kernel.cgroups import process_identity

_LOG = logging.getLogger("isol8.docker")


def _machine() -> str:
    """This machine, among those that may share a daemon."""
    with contextlib.suppress(OSError), open("/etc/machine-id") as file:
        if text := file.read().strip():
            return text
    return os.uname().nodename


def owner_label(pid: int) -> str:
    """The label's value for the server whose main process is `pid`."""
    return f"{_machine()}/{process_identity(pid)}"


def is_stale(label: str) -> bool:
    """Whether a label is that of a server of this machine that is no more. Of one that another machine or another
    container has made, nothing can be known: False."""
    machine, _, identity = label.partition("/")
    if machine != _machine():
        return False
    *boot, namespace, pid, _ = identity.split("-")
    mine = process_identity(os.getpid()).split("-")
    if boot != mine[: len(boot)]:
        return True  # from before the machine was started
    return namespace == mine[len(boot)] and pid.isdigit() and process_identity(int(pid)) != identity


async def sweep(docker: Docker, owner: str | None = None) -> int:
    """Remove what dead servers of this machine have left; or, when `owner` is given, all that is that server's. How
    many there were. Raises DaemonFailure."""
    with translated("containers could not be listed"):
        found = await docker.containers.list(all=True, filters=f'{{"label": ["{LABEL}"]}}')
    doomed = []
    for container in found:
        label = container["Labels"].get(LABEL, "")
        if label == owner if owner else is_stale(label):
            doomed.append(container.id)
    await asyncio.gather(*(remove(docker, name) for name in doomed))
    return len(doomed)


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
