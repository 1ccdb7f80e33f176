"""`isol8 setup`: install the runtimes that the machine does not have; for an engine with images, build those too."""

from __future__ import annotations

import argparse
import asyncio
import sys

from isol8.cli.progress import Progress
from isol8.config import Config, EngineName, load_config, with_engine
from isol8.errors import InvalidRequest
from isol8.runtimes.install import INSTALLABLE, InstallFailed, install
from isol8.runtimes.registry import RUNTIMES, find_installed
from isol8.supervision import require_docker, with_daemon


def run(arguments: argparse.Namespace) -> int:
    """Install what is asked for, or everything. One failure does not stop the others; the answer is then 1."""
    config = with_engine(load_config(arguments.config), arguments.engine)
    data_dir = config.data_dir
    failed = False
    for name in arguments.runtime or INSTALLABLE:
        try:
            _set_up(name, data_dir)
        except InstallFailed as error:
            print(f"isol8: {name}: {error.message}", file=sys.stderr, flush=True)
            failed = True
    if config.engine is EngineName.DOCKER:
        _build_images(config)
    return int(failed)


def _build_images(config: Config) -> None:
    """Images of the runtimes that are in the data directory."""
    require_docker()
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


def _say(line: str) -> None:
    print(f"isol8: {line}", flush=True)
