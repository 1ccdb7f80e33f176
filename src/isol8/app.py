"""The composition root: a configuration becomes a running server.

`serve` is what `isol8 serve` calls. It opens both sockets, and hands them to the processes that need them: launcher.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from signal import SIGTERM

import uvicorn
from fastapi import FastAPI

from isol8.api.crowd import Crowd, affordable_connections, raise_descriptor_limit
from isol8.api.protocol import Bounds, Protocol
from isol8.api.rehearsal import rehearse
from isol8.api.server import create_api
from isol8.config import Config, EngineName, saved_templates
from isol8.egress.client import Egress
from isol8.egress.policy import available
from isol8.engines.supervised import SupervisedEngine
from isol8.errors import EngineFailure
from isol8.kernel import privileges
from isol8.kernel.confinement import give_up_rights
from isol8.launcher import Child, fork_child, keep_alive
from isol8.model import Network
from isol8.packages.client import KeeperClient
from isol8.packages.index import read_machine_index
from isol8.packages.shares import Share
from isol8.parts import (
    beside,
    can_install,
    has_store,
    listen_locally,
    start_builds_proxy,
    start_keeper,
    start_proxy,
)
from isol8.service.network import check_network
from isol8.service.packages import PackageSource, obtain_layer
from isol8.service.templates import template_sets
from isol8.supervision import NOBODY, bake_template, supervise

_LOG = logging.getLogger("isol8")
_BACKLOG = 2048
_GRACE_S = 5


def serve(config: Config, announce: Callable[[str, int], None]) -> int:
    """Serve until SIGTERM or SIGINT. `announce` is told the address once connections are accepted.

    Returns an exit status. Raises EngineFailure when this machine or user cannot run the engine, or the address is
    taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Not in the format, and looked up for each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    raise_descriptor_limit()
    config = config.model_copy(update={"templates": saved_templates(config.data_dir) | config.templates})
    template_sets(config)  # what is wrong with them is said now
    check_network(config)
    owner = os.getpid()
    index = read_machine_index(config.data_dir)
    client = os.geteuid() or NOBODY  # whom the API process becomes
    with supervise(config, owner, index, outlive=True) as supervision:
        listener = _listen(config.host, config.port)
        (engine_listener, proxy_listener, keeper_listener, builds_listener), addresses = listen_locally()
        filtered = Network.FILTERED in config.policy.networks
        packages = config.policy.packages and available() and has_store(config)

        def run_api() -> None:
            engine_listener.close()  # else this process would wait for itself when the other two are gone
            greet = None if api.restarts else lambda: announce(*listener.getsockname()[:2])
            user = os.geteuid()
            executables = can_install(config, supervision.installed)
            source = PackageSource(KeeperClient(addresses[2], user), Egress(addresses[3], user), index, executables)
            application = create_api(
                config,
                SupervisedEngine(addresses[0], user),
                supervision.installed,
                Egress(addresses[1], user) if filtered else None,
                source if packages else None,
                lambda: os.getppid() != owner,
            )
            _run_api(application, _bounds(config), listener, owner, greet)

        api = Child("API process", lambda: fork_child(run_api))
        supervisor = Child("supervisor", lambda: supervision.start(engine_listener), ended=supervision.sweep)
        proxy = Child("proxy", lambda: start_proxy(proxy_listener, owner, client))
        keeper = Child("keeper", lambda: start_keeper(keeper_listener, owner, config, client))
        builds = Child("builds' proxy", lambda: start_builds_proxy(builds_listener, owner, config, client))
        more = ([proxy] if filtered else []) + ([keeper, builds] if packages else [])
        return keep_alive([supervisor, *more, api])


def build_layer(
    config: Config, template: str, runtime: str, requirements: tuple[str, ...], say: Callable[[str], None]
) -> tuple[str, ...]:
    """Have the layer of a template's packages in the store, whether a server runs or not; with the Docker engine, in an
    image too. `say` gets what the installer says. Returns the modules that the packages can be imported as.

    Raises EngineFailure, SetupFailed, InvalidRequest.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with beside(config, builder=True) as parts:
        source, image = parts.packages, parts.image
        assert source

        async def use(share: Share) -> None:
            if config.engine is EngineName.DOCKER:
                say("Building an image")
                await bake_template(config, image, template, share.name, share.mount.target)

        return asyncio.run(obtain_layer(source, parts.engine, config, parts.installed, runtime, requirements, say, use))


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        raise EngineFailure(f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}") from error


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
            proxy_headers=False,  # who is at the other end is who is counted
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
    give_up_rights(NOBODY, _readable())
    privileges.die_with_parent(SIGTERM)
    if os.getppid() != launcher:
        return
    server.run(sockets=[listener])


def _readable() -> set[str]:
    """What the API process may still read where it is an ordinary user's: usage, names, certificates, and modules."""
    given = {os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
    return {"/usr", "/etc", "/run/systemd/resolve", "/sys/fs/cgroup", sys.prefix, os.path.dirname(__file__), *given}
