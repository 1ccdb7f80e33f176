"""The composition root: a configuration becomes a running server.

`serve` is what `isol8 serve` calls. It opens both sockets, and hands them to the processes that need them: launcher.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from signal import SIGTERM
from typing import Any

import uvicorn
from fastapi import FastAPI

from isol8.api.crowd import Crowd, affordable_connections, raise_descriptor_limit
from isol8.api.protocol import Bounds, Protocol
from isol8.api.rehearsal import rehearse
from isol8.api.server import create_api
from isol8.config import Config, Isolation
from isol8.egress.client import Egress
from isol8.engines.native.engine import NativeEngine
from isol8.errors import EngineFailure
from isol8.kernel import cgroups, privileges
from isol8.kernel.cgroups import Hierarchy
from isol8.kernel.confinement import give_up_rights
from isol8.kernel.delegation import allotted
from isol8.launcher import Child, fork_child, keep_alive
from isol8.model import Network
from isol8.runtimes.base import Install
from isol8.runtimes.registry import find_installed
from isol8.service.network import check_network

# The user whom the API process becomes: the one that owns nothing.
_NOBODY = 65534
# The user whom the proxy becomes, below those of sandboxes (engines/native/sandboxes.py): its memory is nobody else's.
_PROXY_USER = 1_899_999_999
_BACKLOG = 2048
_GRACE_S = 5
_RUNTIMES_DIR = "/opt/isol8"


def serve(config: Config, announce: Callable[[str, int], None]) -> int:
    """Serve until SIGTERM or SIGINT. `announce` is told the address once connections are accepted.

    Returns an exit status. Raises EngineFailure when this machine or user cannot run the engine, or the address is
    taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    raise_descriptor_limit()
    installed = find_installed(config.data_dir)
    if "python" not in installed:
        raise EngineFailure("no python3 was found in /usr; every sandbox needs it")
    check_network(config)
    listener = _listen(config.host, config.port)
    engine_listener, engine_address = _listen_locally("supervisor", socket.SOCK_SEQPACKET)
    proxy_listener, proxy_address = _listen_locally("proxy", socket.SOCK_STREAM)
    owner = os.getpid()

    def run_api() -> None:
        engine_listener.close()  # else this process would wait for itself when the other two are gone
        greet = None if api.restarts else lambda: announce(*listener.getsockname()[:2])
        engine = NativeEngine(engine_address, os.geteuid())
        egress = Egress(proxy_address, os.geteuid()) if filtered else None
        _run_api(create_api(config, engine, installed, egress), _bounds(config), listener, owner, greet)

    filtered = Network.FILTERED in config.policy.networks
    proxy = Child("proxy", lambda: _start_proxy(proxy_listener, owner))
    api = Child("API process", lambda: fork_child(run_api))
    with allotted(owner) as hierarchy:
        supervisor = Child(
            "supervisor",
            lambda: _start_supervisor(engine_listener, owner, config.policy.isolation, installed, hierarchy),
            ended=lambda: _sweep(owner, hierarchy),
        )
        return keep_alive([supervisor, *([proxy] if filtered else []), api])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        raise EngineFailure(f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}") from error


def _listen_locally(name: str, kind: socket.SocketKind) -> tuple[socket.socket, str]:
    """The socket of another process. An abstract address: there is no file to leave behind, or to be replaced."""
    listener = socket.socket(socket.AF_UNIX, kind)
    address = f"\0isol8-{name}-{os.getpid()}"
    listener.bind(address)
    listener.listen()
    return listener, address


def _environment(installed: dict[str, Install]) -> dict[str, str]:
    """What every program in a sandbox starts with."""
    own = [f"{_RUNTIMES_DIR}/{name}/bin" for name, install in installed.items() if install.prefix]
    path = ":".join([*own, "/usr/local/bin", "/usr/bin", "/bin"])
    return {"PATH": path, "HOME": "/sandbox", "LANG": "C.UTF-8"}


def _start_supervisor(
    listener: socket.socket, owner: int, isolation: Isolation, installed: dict[str, Install], hierarchy: Hierarchy
) -> int:
    options = {
        "owner": owner,
        # An ordinary user's supervisor is in a user namespace. That user is 0 there, and everybody else is _NOBODY.
        "client_uid": 0 if os.geteuid() else _NOBODY,
        "hierarchy": dataclasses.asdict(hierarchy),
        "strict": isolation is Isolation.STRICT,
        "python": installed["python"].executable,
        "prefixes": {name: install.prefix for name, install in installed.items() if install.prefix},
        "environment": _environment(installed),
    }
    return _start("isol8.engines.native.supervisor", listener, options)


def _start_proxy(listener: socket.socket, owner: int) -> int:
    return _start("isol8.egress.process", listener, {"owner": owner, "client_uid": _NOBODY, "uid": _PROXY_USER})


def _start(module: str, listener: socket.socket, options: dict[str, Any]) -> int:
    """A fresh interpreter, so that the process holds none of what this one has loaded; its pid."""
    # -P: the working directory is the user's, and no place to import from.
    command = [sys.executable, "-P", "-m", module, str(listener.fileno()), json.dumps(options)]
    return subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL).pid


def _sweep(owner: int, hierarchy: Hierarchy) -> None:
    """Remove what a supervisor had no time to remove. Whatever it made is in its cgroups; where there are none, it ends
    with the supervisor all the same, a moment later."""
    for path in cgroups.server_group(hierarchy, owner).directories:
        cgroups.sweep(path, _GRACE_S)


class _Server(uvicorn.Server):
    """uvicorn's, which tells when it has started."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._tell:
            self._tell()


def _bounds(config: Config) -> Bounds:
    policy = config.policy
    crowd = Crowd(affordable_connections(config), policy.max_connections_per_address)
    return Bounds(crowd, policy.min_transfer_rate, policy.transfer_grace_ms / 1000)


def _run_api(
    application: FastAPI, bounds: Bounds, listener: socket.socket, launcher: int, tell: Callable[[], None] | None
) -> None:
    """The API process: what it needs of the file system it reads first, then it gives up the right to."""
    server = _Server(
        uvicorn.Config(
            application,
            loop="uvloop",
            http=Protocol.within(bounds),
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=_GRACE_S,
            server_header=False,
            date_header=False,
        ),
        tell,
    )
    server.config.load()
    server.config.get_loop_factory()
    asyncio.run(rehearse(application))
    os.chdir("/")
    give_up_rights(_NOBODY, _readable())
    privileges.die_with_parent(SIGTERM)
    if os.getppid() != launcher:
        return
    server.run(sockets=[listener])


def _readable() -> set[str]:
    """What the API process may still read where it is an ordinary user's: usage, names, certificates, and modules."""
    given = {os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
    return {"/usr", "/etc", "/run/systemd/resolve", "/sys/fs/cgroup", sys.prefix, os.path.dirname(__file__), *given}
