"""`isol8 setup`: install the runtimes that the machine does not have, keep sets of packages ready, and build images."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Callable

from isol8.cli.progress import Progress
from isol8.config import Config, EngineName, Template, load_config, save_template, saved_templates, with_engine
from isol8.errors import InvalidRequest
from isol8.packages.requirements import InvalidRequirements, normal_form
from isol8.runtimes.install import INSTALLABLE, InstallFailed, install
from isol8.runtimes.registry import RUNTIMES, find_installed
from isol8.service.templates import template_sets
from isol8.supervision import require_docker, with_daemon

# What uv says first at each of its steps, and what the build says at its last.
_STEPS = ("Using", "Resolved", "Prepared", "Installed", "Bytecode compiled", "Packing", "Building an image")


def run(arguments: argparse.Namespace) -> int:
    """Install what is asked for, or everything. One failure does not stop the others; the answer is then 1."""
    config = with_engine(load_config(arguments.config), arguments.engine)
    if arguments.python:
        if config.engine is EngineName.DOCKER:
            _build_images(config)
        _prepare_python(config, _split(arguments.python))
        if not arguments.runtime:
            return 0
    failed = False
    for name in arguments.runtime or INSTALLABLE:
        try:
            _set_up(name, config.data_dir)
        except InstallFailed as error:
            print(f"isol8: {name}: {error.message}", file=sys.stderr, flush=True)
            failed = True
    if config.engine is EngineName.DOCKER:
        _build_images(config)
        _bake_templates(config)
    return int(failed)


def _bake_templates(config: Config) -> None:
    """Images of all templates, on top of the one that there is now. Raises Isol8Error."""
    config = config.model_copy(update={"templates": saved_templates(config.data_dir) | config.templates})
    for each in template_sets(config):
        _prepare(config, each.name, each.runtime, each.requirements)


def _build_images(config: Config) -> None:
    """Images of the runtimes that are in the data directory, unless the configuration names one."""
    require_docker()
    if config.docker.image:
        return
    from isol8.engines.docker import building

    found = find_installed(config.data_dir)
    prefixes = {
        name: building.Prefix(found[name].version, prefix)
        for name in sorted(found)
        if (prefix := found[name].prefix) is not None
    }
    progress = Progress(_say)
    asyncio.run(with_daemon(config, lambda docker: building.build(docker, prefixes, progress.step)))
    progress.close()


def _set_up(name: str, data_dir: str) -> None:
    if name in INSTALLABLE:
        install(name, data_dir, _say)
        return
    if name not in RUNTIMES:
        raise InvalidRequest(f"Unknown runtime {name}; there are {', '.join(RUNTIMES)}.")
    if name not in find_installed(data_dir):
        raise InstallFailed(f"part of the machine; install it with: {RUNTIMES[name].install_hint}")
    _say(f"{name} is part of the machine")


def _split(text: str) -> list[str]:
    """The requirements in a list with commas, some of which may be inside: requests>=2,<3."""
    return re.split(r",(?!\s*[<>=!~])", text)


def _prepare_python(config: Config, packages: list[str]) -> None:
    """Build the layer of a set, and save it as a template. Raises Isol8Error."""
    try:
        requirements = normal_form("python", packages)
    except InvalidRequirements as error:
        raise InvalidRequest(f"--python{error}") from None
    name = ",".join(requirements)
    modules = _prepare(config, name, "python", requirements)
    save_template(config.data_dir, name, Template(runtime="python", packages=requirements, preimport=modules))
    ahead = f", with {', '.join(modules) or 'nothing'} imported ahead of time"
    _say(f"{', '.join(requirements)}: ready{'' if config.engine is EngineName.DOCKER else ahead}")
    _say("servers that run now will keep them ready from their next start on")


def _prepare(config: Config, template: str, runtime: str, requirements: tuple[str, ...]) -> tuple[str, ...]:
    """Have the packages of a template ready; the modules that they bring. Raises Isol8Error."""
    from isol8.app import build_layer  # the server, which the other uses of this command do without

    if runtime == "python":
        install("uv", config.data_dir, _say)
    _say(f"installing {', '.join(requirements)}")
    progress = Progress(_say)
    try:
        return build_layer(config, template, runtime, requirements, _steps_told(progress))
    finally:
        progress.close()


def _steps_told(progress: Progress) -> Callable[[str], None]:
    """Takes what the installer says, and tells which of _STEPS is reached."""
    reached = 0

    def told(line: str) -> None:
        nonlocal reached
        for number, step in enumerate(_STEPS):
            if number > reached and line.startswith(step):
                reached = number
        progress.step(line, reached, len(_STEPS))

    return told


def _say(line: str) -> None:
    print(f"isol8: {line}", flush=True)
