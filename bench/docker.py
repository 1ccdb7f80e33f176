"""Docker for comparison: a Python hello by `docker run --rm`, and by `docker exec` in a container that is running."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.bare import time_spawn
from bench.figures import summarise
from bench.paced import in_turn
from bench.results import Docker
from bench.setting import Setting

_HELLO = ("python3", "-I", "-c", "print('hello')")
_ANSWER_S = 5
_START_S = 60
_RUNS_SHARE = 10  # a run takes a quarter of a second
_EXECS_SHARE = 5


class NoDocker(Exception):
    """It cannot be measured here; the message says why."""


def measure(setting: Setting) -> Docker:
    """Both in turn, or the reason why not."""
    try:
        docker = _client()
        image = _image_with_python(docker)
    except NoDocker as error:
        setting.say(f"docker: skipped, {error}")
        return Docker(skipped=str(error))
    with _container(docker, image) as name:
        run = [docker, "run", "--rm", "--network", "none", image, *_HELLO]
        execute = [docker, "exec", name, *_HELLO]
        runs = max(1, setting.sizes.pairs // _RUNS_SHARE)
        (run_times,) = in_turn([lambda: time_spawn(run)], runs, warm_up=1)
        (exec_times,) = in_turn([lambda: time_spawn(execute)], setting.sizes.pairs // _EXECS_SHARE, warm_up=1)
    found = Docker(image=image, run=summarise(run_times), exec=summarise(exec_times))
    setting.say(f"docker: run p50 {found['run']['p50']:.1f} ms, exec p50 {found['exec']['p50']:.1f} ms")
    return found


def _client() -> str:
    docker = shutil.which("docker")
    if docker is None:
        raise NoDocker("no docker client is installed")
    try:
        answer = subprocess.run([docker, "info"], capture_output=True, timeout=_ANSWER_S)
    except subprocess.TimeoutExpired as error:
        raise NoDocker("the Docker daemon does not answer") from error
    if answer.returncode:
        raise NoDocker("no Docker daemon answers")
    return docker


def _image_with_python(docker: str) -> str:
    """The first local image in which hello can be printed; nothing is fetched. Raises NoDocker."""
    listing = [docker, "image", "ls", "--filter", "dangling=false", "--format", "{{.Repository}}:{{.Tag}}"]
    images = subprocess.run(listing, capture_output=True, text=True, check=True, timeout=_START_S).stdout.split()
    for image in images:
        command = [docker, "run", "--rm", "--network", "none", image, *_HELLO]
        try:
            printed = subprocess.run(command, capture_output=True, timeout=_START_S).stdout
        except subprocess.TimeoutExpired:
            continue
        if printed == b"hello\n":
            return image
    raise NoDocker(f"none of the daemon's {len(images)} images has a python3")


@contextmanager
def _container(docker: str, image: str) -> Iterator[str]:
    """A running container; removed whatever happens."""
    name = f"isol8-bench-{os.getpid()}"
    start = [docker, "run", "--detach", "--name", name, "--network", "none", image, "sleep", "3600"]
    try:
        subprocess.run(start, capture_output=True, check=True, timeout=_START_S)
        yield name
    finally:
        subprocess.run([docker, "rm", "--force", name], capture_output=True, check=True, timeout=_START_S)
