"""Which supervisor a server has, by its engine: what it needs to start, how it is started, what to clear up after it.

The API process never knows which one it is: it speaks to the supervisor's socket (engines/supervised.py).
"""

from __future__ import annotations

import asyncio
import dataclasses
import glob
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from isol8.config import Config, EngineName, Isolation
from isol8.engines.base import Layer
from isol8.engines.directories import Directories
from isol8.errors import EngineFailure
from isol8.kernel import cgroups, sweeping
from isol8.kernel.cgroups import Hierarchy
from isol8.kernel.delegation import allotted
from isol8.model import Network
from isol8.packages.index import MachineIndex
from isol8.packages.recipe import UV
from isol8.runtimes.base import Install
from isol8.runtimes.prefixes import link_of
from isol8.runtimes.registry import RUNTIMES, find_installed

if TYPE_CHECKING:
    from aiodocker import Docker

# The user whom the API process becomes: the one that owns nothing.
NOBODY = 65534
_LOG = logging.getLogger("isol8.launcher")
_SWEEP_TIMEOUT_S = 20.0
_MARGIN_S = 60.0
_RUNTIMES_DIR = "/opt/isol8"
_USUAL_PATH = ("/usr/local/bin", "/usr/bin", "/bin")

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Supervision:
    """An engine's supervisor, from the launcher's side. `installed` are the runtimes that its sandboxes have; `sweep`
    removes what a supervisor that has ended had no time to remove."""

    module: str
    options: dict[str, Any]
    installed: Mapping[str, Install]
    sweep: Callable[[], None]

    def start(self, listener: socket.socket) -> int:
        """Start the process that serves `listener`; its pid."""
        return start_process(self.module, listener, self.options)


def start_process(module: str, listener: socket.socket, options: Mapping[str, Any]) -> int:
    """Run a module that serves `listener` in a process of its own; its pid.

    A fresh interpreter, so that a process with privileges holds none of what this one has loaded. -P: the working
    directory is the user's, and no place to import from.
    """
    command = [sys.executable, "-P", "-m", module, str(listener.fileno()), json.dumps(options)]
    process = subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL)
    # Whoever asked waits for it, by its pid. Otherwise the next Popen might, and take its exit status away.
    process.returncode = 0
    return process.pid


@contextmanager
def supervise(config: Config, owner: int, index: MachineIndex, *, outlive: bool) -> Iterator[Supervision]:
    """The supervision of the configured engine; `owner` is the launcher's pid, which is in the block while the server
    lives. `index` is where packages come from. `outlive`: sessions outlive a crash, where the engine can. Raises
    EngineFailure when this machine or user cannot run it."""
    if config.engine is EngineName.GVISOR and Network.FILTERED in config.policy.networks:
        raise EngineFailure(f'the engine {config.engine} has no network "filtered": take it out of policy.networks')
    if config.engine is EngineName.DOCKER:
        require_docker()
        image, installed = asyncio.run(_look_at_image(config))
        if "python" not in installed:
            raise EngineFailure("the image has no python3; every sandbox needs it")
        options = _docker_options(config, owner, image, installed, index)
        if outlive:
            options |= {"home": _sessions_dir(config), "patience_s": _patience_s(config)}
        yield Supervision("isol8.engines.docker.supervisor", options, installed, lambda: _sweep_docker(config, owner))
        return
    installed = find_installed(config.data_dir)
    if "python" not in installed:
        raise EngineFailure("no python3 was found in /usr; every sandbox needs it")
    with allotted(owner) as hierarchy:
        if config.engine is EngineName.GVISOR:
            options = _gvisor_options(config, owner, installed, hierarchy)
            yield Supervision(
                "isol8.engines.gvisor.supervisor", options, installed, lambda: _sweep_gvisor(hierarchy, owner)
            )
            return
        options = _native_options(config, owner, installed, hierarchy, index)
        yield Supervision(
            "isol8.engines.native.supervisor", options, installed, lambda: _sweep_cgroups(hierarchy, owner)
        )


@dataclass(frozen=True, slots=True)
class Findings:
    """What the isolation layers of an engine are worth, and the runtimes that its sandboxes would have. `boots`: why
    one that the engine could copy into sandboxes boots in each of them; empty for one that is copied."""

    layers: list[Layer]
    installed: dict[str, Install]
    boots: dict[str, str]


def examine(config: Config) -> Findings:
    """What there is for the configured engine here, found out as a server's start would. Raises EngineFailure when no
    sandbox can be made."""
    if config.engine is EngineName.DOCKER:
        return Findings(*asyncio.run(_examine_docker(config)), {})
    installed = find_installed(config.data_dir)
    with allotted(os.getpid()) as hierarchy:
        if config.engine is EngineName.GVISOR:
            return Findings(asyncio.run(_examine_gvisor(config, installed, hierarchy)), installed, {})
        from isol8.engines.native.unprivileged import take_standing

        return asyncio.run(_examine_native(installed, hierarchy, take_standing()))


def _common(config: Config, owner: int) -> dict[str, Any]:
    return {"owner": owner, "client_uid": NOBODY, "strict": config.policy.isolation is Isolation.STRICT}


def _machine_runtimes(installed: Mapping[str, Install]) -> dict[str, Any]:
    """Where sandboxes see the machine's own runtimes: those of the data directory, and what programs start with."""
    prefixes = {name: install.prefix for name, install in installed.items() if install.prefix}
    path = ":".join([*(f"{_RUNTIMES_DIR}/{name}/bin" for name in prefixes), *_USUAL_PATH])
    return {"prefixes": prefixes, "environment": {"PATH": path, "HOME": "/sandbox", "LANG": "C.UTF-8"}}


def layers_dir(config: Config) -> str:
    """Where layers of packages are kept."""
    return os.path.join(os.path.abspath(config.data_dir), "layers")


def _directories(config: Config, index: MachineIndex) -> dict[str, str]:
    """What sandboxes that install packages are shown."""
    return {UV: str(link_of(UV, config.data_dir).resolve()), **index.directories}


def _native_options(
    config: Config, owner: int, installed: Mapping[str, Install], hierarchy: Hierarchy, index: MachineIndex
) -> dict[str, Any]:
    return {
        **_common(config, owner),
        # An ordinary user's supervisor is in a user namespace. That user is 0 there, and everybody else is NOBODY.
        "client_uid": 0 if os.geteuid() else NOBODY,
        "hierarchy": dataclasses.asdict(hierarchy),
        "python": installed["python"].executable,
        "layers": layers_dir(config),
        "directories": _directories(config, index),
        **_machine_runtimes(installed),
    }


def _gvisor_options(
    config: Config, owner: int, installed: Mapping[str, Install], hierarchy: Hierarchy
) -> dict[str, Any]:
    """Raises EngineFailure when gVisor cannot run here."""
    runsc = shutil.which(config.gvisor.runsc)
    if runsc is None:
        raise EngineFailure(f"{config.gvisor.runsc} is not there: install gVisor (apt-get install runsc)")
    if os.geteuid() != 0:
        raise EngineFailure("the gVisor engine needs root: start the server as root, for example with sudo")
    return {
        **_common(config, owner),
        "hierarchy": dataclasses.asdict(hierarchy),
        "runsc": runsc,
        "options": [f"--platform={config.gvisor.platform}"],
        **_machine_runtimes(installed),
    }


def _docker_options(
    config: Config, owner: int, image: str, installed: Mapping[str, Install], index: MachineIndex | None = None
) -> dict[str, Any]:
    """Without an `index`, containers cannot install packages."""
    filtered = Network.FILTERED in config.policy.networks
    own = dict.fromkeys(os.path.dirname(each.executable) for each in installed.values())
    path = ":".join([*(place for place in own if place not in _USUAL_PATH), *_USUAL_PATH])
    return {
        **_common(config, owner),
        "client_uid": NOBODY if os.geteuid() == 0 else os.geteuid(),
        "host": config.docker.host,
        "context": config.docker.context,
        "runtime": config.docker.runtime,
        "image": image,
        "environment": {"PATH": path, "HOME": "/sandbox", "LANG": "C.UTF-8"},
        "home": "",
        "patience_s": 0.0,
        "way_out": filtered or config.policy.packages,
        "filtered": filtered,
        "layers": layers_dir(config),
        "directories": _directories(config, index) if index else {},
    }


def _sessions_dir(config: Config) -> str:
    """Where is noted down which sessions should outlive a crash."""
    return os.path.join(os.path.abspath(config.data_dir), "sessions")


def _patience_s(config: Config) -> float:
    """How long a session's sandbox waits for a server that comes back: as long as one that is there could have left it
    without a word. 0 is for ever."""
    if not config.cleanup.auto_prune:
        return 0.0
    policy = config.policy
    longest_ms = policy.timeout_ms + policy.setup_timeout_ms + config.packages.build_timeout_ms
    return (config.cleanup.max_container_age_ms + longest_ms) / 1000 + _MARGIN_S


def _sweep_cgroups(hierarchy: Hierarchy, owner: int) -> None:
    """Whatever a supervisor made is in its cgroups; where there are none, it ends with the supervisor all the same, a
    moment later. What takes longer, on a busy machine, goes with the next supervisor: it must not end the server."""
    directories = cgroups.server_group(hierarchy, owner).directories
    sweeping.unleash_below(directories)
    deadline = time.monotonic() + _SWEEP_TIMEOUT_S
    for path in directories:
        try:
            sweeping.sweep(path, deadline - time.monotonic())
        except OSError as error:
            _LOG.error("%s is not empty yet: %s", path, error.strerror)


def _sweep_gvisor(hierarchy: Hierarchy, owner: int) -> None:
    """And in a directory that has its name."""
    _sweep_cgroups(hierarchy, owner)
    for path in glob.glob(f"/run/isol8-{owner}-*"):
        shutil.rmtree(path, ignore_errors=True)


def _sweep_docker(config: Config, owner: int) -> None:
    """Containers carry their server's label. Without anybody attached they end by themselves, and what cannot be
    removed now (the daemon is gone, perhaps) is at the next start."""
    from isol8.engines.docker import outlets, owners
    from isol8.engines.docker.records import records_in

    async def ask(docker: Docker) -> int:
        records = records_in(_sessions_dir(config), owners.machine())
        return await owners.sweep_own(docker, owners.owner_label(owner), records)

    try:
        asyncio.run(with_daemon(config, ask))
    except EngineFailure as error:
        _LOG.warning("containers may be left: %s", error.message)
    outlets.sweep(owner)


async def _look_at_image(config: Config) -> tuple[str, dict[str, Install]]:
    """The id of the image that sandboxes are made from, and what is in it. Raises EngineFailure, saying what to do."""
    from isol8.engines.docker import images

    found = await with_daemon(config, lambda docker: images.find(docker, config.docker.image))
    return found.id, {
        name: RUNTIMES[name].inside(each.path, each.version, each.packages, found.id)
        for name, each in found.runtimes.items()
    }


async def _examine_native(installed: dict[str, Install], hierarchy: Hierarchy, standing: Any) -> Findings:
    from isol8.engines.native.examination import prepare
    from isol8.engines.native.sandboxes import Sandboxes

    owner, own = os.getpid(), _machine_runtimes(installed)
    python = installed["python"].executable if "python" in installed else ""
    sandboxes, layers = await prepare(
        lambda means: Sandboxes(owner, python, own["prefixes"], own["environment"], means), owner, hierarchy, standing
    )
    if sandboxes is None:
        return Findings(layers, installed, {})
    try:
        boots = {name: RUNTIMES[name].boot(install) for name, install in installed.items()}
        asked = {name: dataclasses.asdict(boot) for name, boot in boots.items() if boot.copied}
        return Findings(layers, installed, {name: await sandboxes.copying_problem(asked[name]) for name in asked})
    finally:
        await sandboxes.close()


async def _examine_gvisor(config: Config, installed: dict[str, Install], hierarchy: Hierarchy) -> list[Layer]:
    from isol8.engines.gvisor.examination import examine as look
    from isol8.engines.gvisor.supervisor import Options

    sandboxes = Options(**_gvisor_options(config, os.getpid(), installed, hierarchy)).sandboxes()
    await sandboxes.start()
    try:
        return await look(sandboxes)
    finally:
        await sandboxes.close()


async def _examine_docker(config: Config) -> tuple[list[Layer], dict[str, Install]]:
    require_docker()
    from isol8.engines.docker.examination import examine as look
    from isol8.engines.docker.supervisor import Options

    image, installed = await _look_at_image(config)
    sandboxes = Options(**_docker_options(config, os.getpid(), image, installed)).sandboxes()
    await sandboxes.start()
    try:
        return await look(sandboxes), installed
    finally:
        await sandboxes.close()


async def bake_template(config: Config, image: str, template: str, layer: str, target: str) -> str:
    """Make an image of a template whose layer is in the store, on top of the server's, whose id is `image`; its name.
    Raises EngineFailure."""
    from isol8.engines.docker import baking, images

    base = (config.docker.image or images.OWN_IMAGE, image)
    owner = f"{layers_dir(config)} {template}"
    try:
        tree = Directories(layers_dir(config)).tree(layer)
    except OSError as error:
        raise EngineFailure(f"a layer could not be read: {error.strerror}") from error
    try:
        return await with_daemon(config, lambda docker: baking.bake(docker, base, owner, (layer, target), tree))
    finally:
        os.close(tree)


def require_docker() -> None:
    """Raises EngineFailure when the library for the Docker engine is not installed."""
    if find_spec("aiodocker") is None:
        raise EngineFailure("the Docker engine needs a library that is not installed: pip install 'isol8[docker]'")


async def with_daemon(config: Config, ask: Callable[[Docker], Awaitable[Answer]]) -> Answer:
    """Ask the daemon something, with a client that is closed afterwards. Raises EngineFailure."""
    from isol8.engines.docker.client import Place, connect, disconnect

    docker = connect(Place(config.docker.host, config.docker.context))
    try:
        return await ask(docker)
    finally:
        await disconnect(docker)
