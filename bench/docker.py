"""A Python hello of ours beside `docker run --rm`, and `docker exec` in a container that is running already; of the
native engine, and of the Docker engine where its image is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from bench.bare import PROGRAMS, time_spawn
from bench.connection import Connection, check_hello, hello
from bench.figures import summarise
from bench.paced import in_turn, timed
from bench.results import Docker
from bench.setting import Setting

_HELLO = ("python3", "-I", "-c", "print('hello')")
_OWN_IMAGE = "isol8/sandbox:latest"
_ANSWER_S = 5
_START_S = 60
_SHARE = 10  # of the usual number of calls: a run takes a quarter of a second


class NoDocker(Exception):
    """It cannot be measured here; the message says why."""


def measure(setting: Setting) -> Docker:
    """All three in turn, or the reason why not."""
    try:
        docker = _client()
        image = _image_with_python(docker)
    except NoDocker as error:
        setting.say(f"docker: skipped, {error}")
        return Docker(skipped=str(error))
    with ExitStack() as stack:
        name = stack.enter_context(_container(docker, image))
        run = [*docker, "run", "--rm", "--network", "none", image, *_HELLO]
        execute = [*docker, "exec", name, *_HELLO]
        kinds = {"isol8": _calls(stack, setting), "run": lambda: time_spawn(run), "exec": lambda: time_spawn(execute)}
        if image == _OWN_IMAGE and find_spec("aiodocker"):
            kinds["engine"] = _calls(stack, setting, engine="docker")
        times = in_turn([*kinds.values()], max(1, setting.sizes.pairs // _SHARE), warm_up=1)
    found = Docker(image=image)
    for kind, spans in zip(kinds, times, strict=True):
        found[kind] = summarise(spans)  # type: ignore[literal-required]
    setting.say("docker: p50 " + ", ".join(f"{kind} {found[kind]['p50']:.1f} ms" for kind in kinds))  # type: ignore[literal-required]
    return found


def _calls(stack: ExitStack, setting: Setting, **config: Any) -> Callable[[], float]:
    """Times one hello of a server, which ends with `stack`."""
    server = stack.enter_context(setting.serving(**config))
    connection = stack.enter_context(Connection(server))
    request = hello(server, "python", PROGRAMS["python"][0])
    return timed(lambda: check_hello(connection.call(request)))


def _client() -> list[str]:
    path = shutil.which("docker")
    if path is None:
        raise NoDocker("no docker client is installed")
    # As an argument: what is timed is started with next to no environment.
    host = os.environ.get("DOCKER_HOST")
    docker = [path, "--host", host] if host else [path]
    try:
        answer = subprocess.run([*docker, "info"], capture_output=True, timeout=_ANSWER_S)
    except subprocess.TimeoutExpired as error:
        raise NoDocker("the Docker daemon does not answer") from error
    if answer.returncode:
        raise NoDocker("no Docker daemon answers")
    return docker


def _image_with_python(docker: list[str]) -> str:
    """The first local image in which hello can be printed, our own before others; nothing is fetched. Raises
    NoDocker."""
    listing = [*docker, "image", "ls", "--filter", "dangling=false", "--format", "{{.Repository}}:{{.Tag}}"]
    images = subprocess.run(listing, capture_output=True, text=True, check=True, timeout=_START_S).stdout.split()
    for image in sorted(images, key=lambda name: name != _OWN_IMAGE):
        command = [*docker, "run", "--rm", "--network", "none", image, *_HELLO]
        try:
            printed = subprocess.run(command, capture_output=True, timeout=_START_S).stdout
        except subprocess.TimeoutExpired:
            continue
        if printed == b"hello\n":
            return image
    raise NoDocker(f"none of the daemon's {len(images)} images has a python3")


@contextmanager
def _container(docker: list[str], image: str) -> Iterator[str]:
    """A running container; removed whatever happens."""
    name = f"bench-{os.getpid()}"
    start = [*docker, "run", "--detach", "--name", name, "--network", "none", image, "sleep", "3600"]
    try:
        subprocess.run(start, capture_output=True, check=True, timeout=_START_S)
        yield name
    finally:
        subprocess.run([*docker, "rm", "--force", name], capture_output=True, check=True, timeout=_START_S)
