"""Images that sandboxes are made from: finding one, and what is in it.

An image needs a `python3`, which runs the runner, and nothing else. Those that `isol8 setup --engine docker` builds
(`building.py`) say in a label which runtimes they hold; any other is asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from aiodocker import Docker

from isol8.engines.docker.client import DaemonFailure, translated
from isol8.engines.docker.description import ulimits

OWN_IMAGE = "isol8/sandbox:latest"
RUNTIMES_LABEL = "isol8.interpreters"
_COMMANDS = {"python": "python3", "node": "node", "bun": "bun", "deno": "deno", "bash": "bash"}
_PROBE = """
import json, os, re, shutil, site, subprocess, sys
import ctypes, select
def is_empty(path): return os.path.isdir(path) and not os.listdir(path)
places = dict.fromkeys(('node', 'bun', 'deno'), '/node_modules')
places['python'] = next(filter(os.path.isdir, site.getsitepackages()), '')
found = {}
for name, command in json.loads(sys.argv[1]).items():
    path = shutil.which(command)
    said = subprocess.run([path, '--version'], capture_output=True, text=True).stdout if path else ''
    version = re.search(r'\\d+(\\.\\d+)+', said)
    place = places.get(name, '')
    if version: found[name] = [path, version.group(), place if is_empty(place) else '']
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A runtime of an image: where it is, and the empty directory in which it looks for packages, if there is one."""

    path: str
    version: str
    packages: str


Runtimes = dict[str, Interpreter]


@dataclass(frozen=True, slots=True)
class Found:
    """An image on the daemon. `id` stays the same when its name moves on to another one."""

    id: str
    runtimes: Runtimes


async def find(docker: Docker, name: str) -> Found:
    """The image of that name; empty is isol8's own. Raises DaemonFailure, saying what to do."""
    described = await check(docker, name)
    label = ((described.get("Config") or {}).get("Labels") or {}).get(RUNTIMES_LABEL)
    runtimes = read(label) if label else await probe(docker, described["Id"], name)
    return Found(described["Id"], runtimes)


def read(text: str | bytes) -> Runtimes:
    """What RUNTIMES_LABEL says, or a probe. Raises ValueError."""
    try:
        return {name: Interpreter(*map(str, found)) for name, found in json.loads(text).items()}
    except (TypeError, AttributeError) as error:
        raise ValueError("not what a probe says") from error


async def check(docker: Docker, name: str) -> dict[str, Any]:
    """What the daemon says of an image that sandboxes may be made from. Raises DaemonFailure when it is not there, and
    when it declares volumes: those would be directories of the host, writable without any bound."""
    try:
        with translated(f"the image {name or OWN_IMAGE} cannot be looked at"):
            described: dict[str, Any] = await docker.images.inspect(name or OWN_IMAGE)
    except DaemonFailure as error:
        if error.status != 404:
            raise
        remedy = f"docker pull {name}" if name else "isol8 setup --engine docker"
        raise DaemonFailure(f"the image {name or OWN_IMAGE} is not there; get it with: {remedy}", 404) from error
    volumes = (described.get("Config") or {}).get("Volumes")
    if volumes:
        places = ", ".join(volumes)
        raise DaemonFailure(f"the image {name} cannot be used: it declares volumes ({places}), which nothing bounds")
    return described


def explain(error: DaemonFailure, name: str) -> DaemonFailure:
    """A failure to start a container, in our words where its cause is the image."""
    if "executable file not found" in error.message or "no such file or directory" in error.message:
        return DaemonFailure(f"the image {name} has no python3, which every sandbox needs", error.status)
    return error


async def probe(docker: Docker, image: str, name: str) -> Runtimes:
    """What an image holds, found out by running it. Raises DaemonFailure when it has no `python3` that will do."""
    config: dict[str, Any] = {
        "Image": image,
        "Entrypoint": ["python3", "-I", "-S", "-c", _PROBE, json.dumps(_COMMANDS)],
        "Cmd": [],
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "LogConfig": {"Type": "none"},
            "Ulimits": ulimits(podman=True),
        },
    }
    try:
        said = await _run(docker, config, name or image)
    except DaemonFailure as error:
        raise explain(error, name or image) from error
    try:
        return read(said[1])
    except ValueError:
        reason = said[2].decode(errors="replace").strip().splitlines()[-1:]
        raise DaemonFailure(f"the python3 of the image {name or image} will not do: {''.join(reason)}") from None


async def _run(docker: Docker, config: dict[str, Any], name: str) -> dict[int, bytes]:
    """Run a container to its end; what it wrote, by descriptor. Raises DaemonFailure."""
    said = {1: b"", 2: b""}
    with translated(f"the image {name} cannot be run"):
        container = await docker.containers.create(config)
        try:
            async with container.attach(stdout=True, stderr=True) as stream:
                await container.start()
                while message := await stream.read_out():
                    said[message.stream] += message.data
        finally:
            await container.delete(force=True)
    return said
