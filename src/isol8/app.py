"""The composition root: a configuration becomes a running server.

`serve` is what `isol8 serve` calls. It opens both sockets, and hands them to the processes that need them: launcher.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
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
from isol8.packages.keeper import KEEPER_UID
from isol8.packages.recipe import UV
from isol8.packages.shares import Share
from isol8.runtimes.base import Install
from isol8.runtimes.prefixes import find_prefix
from isol8.service.network import check_network
from isol8.service.packages import PackageSource, obtain_layer
from isol8.service.templates import template_sets
from isol8.supervision import NOBODY, bake_template, layers_dir, start_process, supervise

_LOG = logging.getLogger("isol8")
# The user whom the proxy becomes, below those of sandboxes (engines/user_ids.py): its memory is nobody else's.
_PROXY_USER = 1_899_999_999
_BACKLOG = 2048
_GRACE_S = 5


def serve(config: Config, announce: Callable[[str, int], None]) -> int:
    """Serve until SIGTERM or SIGINT. `announce` is told the address once connections are accepted.

    Returns an exit status. Raises EngineFailure when this machine or user cannot run the engine, or the address is
    taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    raise_descriptor_limit()
    config = config.model_copy(update={"templates": saved_templates(config.data_dir) | config.templates})
    template_sets(config)  # what is wrong with them is said now
    check_network(config)
    owner = os.getpid()
    index = read_machine_index(config.data_dir)
    client = os.geteuid() or NOBODY  # whom the API process becomes
    with supervise(config, owner, index) as supervision:
        listener = _listen(config.host, config.port)
        engine_listener, engine_address = _listen_locally("supervisor", socket.SOCK_SEQPACKET)
        proxy_listener, proxy_address = _listen_locally("proxy", socket.SOCK_STREAM)
        keeper_listener, keeper_address = _listen_locally("keeper", socket.SOCK_STREAM)
        filtered = Network.FILTERED in config.policy.networks
        packages = config.policy.packages and available() and _has_store(config)

        def run_api() -> None:
            engine_listener.close()  # else this process would wait for itself when the other two are gone
            greet = None if api.restarts else lambda: announce(*listener.getsockname()[:2])
            engine, egress = SupervisedEngine(engine_address, os.geteuid()), Egress(proxy_address, os.geteuid())
            executables = _can_install(config, supervision.installed)
            source = PackageSource(KeeperClient(keeper_address), egress, index, executables)
            application = create_api(
                config, engine, supervision.installed, egress if filtered else None, source if packages else None
            )
            _run_api(application, _bounds(config), listener, owner, greet)

        api = Child("API process", lambda: fork_child(run_api))
        supervisor = Child("supervisor", lambda: supervision.start(engine_listener), ended=supervision.sweep)
        proxy = Child("proxy", lambda: _start_proxy(proxy_listener, owner, client))
        keeper = Child("keeper", lambda: _start_keeper(keeper_listener, owner, config, client))
        more = ([proxy] if filtered or packages else []) + ([keeper] if packages else [])
        return keep_alive([supervisor, *more, api])


def build_layer(
    config: Config, template: str, runtime: str, requirements: tuple[str, ...], say: Callable[[str], None]
) -> tuple[str, ...]:
    """Have the layer of a template's packages in the store, whether a server runs or not; with the Docker engine, in an
    image too. `say` gets what the installer says. Returns the modules that the packages can be imported as.

    Raises EngineFailure, SetupFailed, InvalidRequest.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    owner, user = os.getpid(), os.geteuid()
    index = read_machine_index(config.data_dir)
    engine_listener, engine_address = _listen_locally("supervisor", socket.SOCK_SEQPACKET)
    proxy_listener, proxy_address = _listen_locally("proxy", socket.SOCK_STREAM)
    keeper_listener, keeper_address = _listen_locally("keeper", socket.SOCK_STREAM)
    with supervise(config, owner, index) as supervision:
        installed = supervision.installed
        executables = _can_install(config, installed)
        source = PackageSource(KeeperClient(keeper_address), Egress(proxy_address, user), index, executables)
        engine = SupervisedEngine(engine_address, user)

        async def use(share: Share) -> None:
            if config.engine is EngineName.DOCKER:
                say("Building an image")
                await bake_template(config, supervision.options["image"], template, share.name, share.mount.target)

        children = [
            supervision.start(engine_listener),
            _start_proxy(proxy_listener, owner, user),
            _start_keeper(keeper_listener, owner, config, user),
        ]
        try:
            return asyncio.run(obtain_layer(source, engine, config, installed, runtime, requirements, say, use))
        finally:
            for pid in children:
                os.kill(pid, SIGTERM)
                os.waitpid(pid, 0)
            supervision.sweep()


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


def _start_proxy(listener: socket.socket, owner: int, client: int) -> int:
    return start_process("isol8.egress.process", listener, {"owner": owner, "client_uid": client, "uid": _PROXY_USER})


def _start_keeper(listener: socket.socket, owner: int, config: Config, client: int) -> int:
    options = {
        "owner": owner,
        "client_uid": client,
        "uid": KEEPER_UID,
        "directory": layers_dir(config),
        "layer_bytes": config.packages.layer_size,
        "layer_files": config.packages.layer_files,
        "total_bytes": config.packages.store_size,
    }
    return start_process("isol8.packages.keeper", listener, options)


def _has_store(config: Config) -> bool:
    """Whether there is a place for layers. A server without one installs no packages, and its log says why; so does one
    whose engine cannot show them to a sandbox."""
    if config.engine is EngineName.GVISOR:
        _LOG.info("no packages can be installed with the engine %s", config.engine)
        return False
    try:
        os.makedirs(layers_dir(config), exist_ok=True)
    except OSError as error:
        reason = error.strerror
    else:
        reason = None if os.access(layers_dir(config), os.W_OK | os.X_OK) else "it is not writable"
    if reason:
        _LOG.warning("no packages can be installed, for want of %s: %s", layers_dir(config), reason)
    return reason is None


def _can_install(config: Config, installed: Mapping[str, Install]) -> dict[str, str]:
    """The executables that recipes may use. uv is in no sandbox but those that install."""
    executables = {name: install.executable for name, install in installed.items()}
    uv = find_prefix(UV, config.data_dir)
    return executables | ({UV: uv.executable} if uv else {})


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
