"""Speaking to the Docker daemon: where it is, and what goes wrong as `EngineFailure`. The only user of `aiodocker`'s
errors.

Where it is: the configuration's host or context, else DOCKER_HOST, else DOCKER_CONTEXT, else the context that `docker
context use` chose, else the usual sockets. That is the order of Docker's own command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerContextError, DockerError

from isol8.errors import EngineFailure

_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 10.0
_NO_CONNECTION = 900  # aiodocker's own status
_UNIX = "unix://"
_SHOWN = 600
_USUAL_SOCKET = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the daemon is. Empty fields leave it to the environment, as described above."""

    host: str = ""
    context: str = ""

    def describe(self) -> str:
        """For sentences."""
        return self.host or self.context or os.environ.get("DOCKER_HOST") or "Docker's own choice of address"


class DaemonFailure(EngineFailure):
    """The daemon refused or could not be asked. `status` is HTTP's; 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def connect(place: Place, api_version: str = "auto") -> Docker:
    """A client, which asks nothing yet; `disconnect` it. Raises DaemonFailure when the place makes no sense."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S)
    host = place.host or ("" if place.context else os.environ.get("DOCKER_HOST", ""))
    try:
        if host.startswith(_UNIX):
            # Each question has a connection of its own: one that is kept open would not outlive the daemon's restart.
            connector = aiohttp.UnixConnector(host.removeprefix(_UNIX), limit=0, force_close=True)
            return Docker(url=f"{_UNIX}localhost", connector=connector, timeout=timeout, api_version=api_version)
        if host:
            return Docker(url=host, timeout=timeout, api_version=api_version)
        try:
            return Docker(context=place.context or None, timeout=timeout, api_version=api_version)
        except AssertionError:  # how aiodocker says that it has found no socket
            return Docker(url=_USUAL_SOCKET, timeout=timeout, api_version=api_version)
    except (ValueError, OSError, DockerContextError) as error:
        raise DaemonFailure(f"the Docker daemon's address makes no sense ({place.describe()}): {error}") from error


async def disconnect(client: Docker) -> None:
    """Close a client, and all its connections. Idempotent."""
    await client.close()
    await client.connector.close()


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever the client raises into DaemonFailure, with `what` could not be done at the front."""
    try:
        yield
    except DockerError as error:
        if error.status == _NO_CONNECTION:
            raise DaemonFailure(_unreachable(str(error.message))) from error
        raise DaemonFailure(f"{what}: {_one_line(error.message)}", error.status) from error
    except TimeoutError as error:
        raise DaemonFailure(f"{what}: the Docker daemon does not answer") from error
    except (aiohttp.ClientError, OSError) as error:
        raise DaemonFailure(_unreachable(str(error))) from error


def _unreachable(detail: str) -> str:
    if "Permission denied" in detail:
        return (
            f"no permission to speak to the Docker daemon ({_one_line(detail)}): run as root, or as a user of the "
            "group docker (sudo usermod -aG docker $USER)"
        )
    return f"the Docker daemon cannot be reached ({_one_line(detail)}): is it running? (sudo systemctl start docker)"


def _one_line(text: object) -> str:
    """Daemons repeat what they were sent, which may be long."""
    line = " ".join(str(text).split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN // 2]} … {line[-_SHOWN // 2 :]}"
