"""The processes of a server besides the one that serves requests, and how that one reaches them.

The launcher of `isol8 serve` keeps them alive (app.py). A program that is its own API process, which is what a command
line that builds packages and the library are, has them for as long as a block: `beside`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from signal import SIGTERM

from isol8.config import Config, EngineName
from isol8.egress.client import Egress
from isol8.egress.policy import available
from isol8.engines.supervised import SupervisedEngine
from isol8.errors import EngineFailure
from isol8.model import Network
from isol8.packages.client import KeeperClient
from isol8.packages.index import read_machine_index
from isol8.packages.keeper import KEEPER_UID
from isol8.packages.recipe import UV
from isol8.runtimes.base import Install
from isol8.runtimes.prefixes import find_prefix
from isol8.service.packages import PackageSource
from isol8.supervision import Supervision, layers_dir, start_process, supervise

_LOG = logging.getLogger("isol8")
# The users whom proxies become, below those of sandboxes (engines/user_ids.py): their memory is nobody else's. Builds
# have a proxy of their own, since it keeps files for later builds: nothing that programs send may come near them.
_PROXY_USER, _BUILDS_PROXY_USER = 1_899_999_999, 1_899_999_997
_counter = count(1)  # of the sockets of this process
_blocks: list[list[int]] = []  # the processes of each block of `beside`
_LOCAL_SOCKETS = (
    ("supervisor", socket.SOCK_SEQPACKET),
    ("proxy", socket.SOCK_STREAM),
    ("keeper", socket.SOCK_STREAM),
    ("builds", socket.SOCK_STREAM),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service is made of. Without `egress` there are no filtered networks, without `packages` none of those.
    `image` is the engine's own, if it has images."""

    engine: SupervisedEngine
    installed: Mapping[str, Install]
    egress: Egress | None
    packages: PackageSource | None
    image: str


@contextmanager
def beside(config: Config, *, builder: bool = False) -> Iterator[Parts]:
    """The processes of a server beside this one, which takes the API process's place and keeps its rights. They end
    with the block, and with the thread that is in it. `builder`: for building packages, whatever the policy says.
    Raises EngineFailure."""
    if _blocks and config.engine is not EngineName.DOCKER:
        raise EngineFailure(f"a process can have one engine of the kind {config.engine} at a time")
    owner, user = os.getpid(), os.geteuid()
    index = read_machine_index(config.data_dir)
    filtered = Network.FILTERED in config.policy.networks
    packages = builder or (config.policy.packages and available() and has_store(config))
    children: list[int] = []
    with ExitStack() as undo:
        supervision = undo.enter_context(supervise(config, owner, index, outlive=False))
        _blocks.append(children)
        undo.callback(_leave, children, supervision)
        listeners, addresses = listen_locally()
        with ExitStack() as opened:
            for listener in listeners:
                opened.enter_context(listener)
            children.append(supervision.start(listeners[0]))
            if filtered:
                children.append(start_proxy(listeners[1], owner, user))
            if packages:
                children.append(start_keeper(listeners[2], owner, config, user))
                children.append(start_builds_proxy(listeners[3], owner, config, user))
        egress = Egress(addresses[1], user)
        executables = can_install(config, supervision.installed)
        source = PackageSource(KeeperClient(addresses[2], user), Egress(addresses[3], user), index, executables)
        yield Parts(
            SupervisedEngine(addresses[0], user),
            supervision.installed,
            egress if filtered else None,
            source if packages else None,
            supervision.options.get("image", ""),
        )


def _leave(children: list[int], supervision: Supervision) -> None:
    """End the processes of one block. What they may leave carries this process's name, as do the sandboxes of other
    blocks: the last one to leave sees to it."""
    for pid in children:
        with suppress(ProcessLookupError):  # it has ended already, and somebody has seen it
            os.kill(pid, SIGTERM)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    _blocks.remove(children)
    if not _blocks:
        supervision.sweep()


def listen_locally() -> tuple[list[socket.socket], list[str]]:
    """The sockets of the supervisor, the proxies and the keeper, and where they are. The addresses are abstract: there
    is no file to leave behind, or to be replaced."""
    listeners, addresses = [], []
    for name, kind in _LOCAL_SOCKETS:
        listener, address = socket.socket(socket.AF_UNIX, kind), f"\0isol8-{name}-{os.getpid()}-{next(_counter)}"
        listener.bind(address)
        listener.listen()
        listeners.append(listener)
        addresses.append(address)
    return listeners, addresses


def start_proxy(listener: socket.socket, owner: int, client: int) -> int:
    """The way out of sandboxes; its pid. `client` is the user who may ask it."""
    return start_process("isol8.egress.process", listener, {"owner": owner, "client_uid": client, "uid": _PROXY_USER})


def start_builds_proxy(listener: socket.socket, owner: int, config: Config, client: int) -> int:
    """The way out of builds, and the files that are kept of what they download; its pid. See `start_proxy`."""
    size = config.packages.downloads_size
    options = {
        "owner": owner,
        "client_uid": client,
        "uid": _BUILDS_PROXY_USER,
        "downloads": os.path.join(os.path.abspath(config.data_dir), "downloads") if size else None,
        "downloads_bytes": size,
    }
    return start_process("isol8.egress.process", listener, options)


def start_keeper(listener: socket.socket, owner: int, config: Config, client: int) -> int:
    """The one who keeps layers; its pid. `client` is the user who may ask it."""
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


def has_store(config: Config) -> bool:
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


def can_install(config: Config, installed: Mapping[str, Install]) -> dict[str, str]:
    """The executables that recipes may use. uv is in no sandbox but those that install."""
    executables = {name: install.executable for name, install in installed.items()}
    uv = find_prefix(UV, config.data_dir)
    return executables | ({UV: uv.executable} if uv else {})
