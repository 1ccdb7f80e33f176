"""`isol8 doctor`: what this machine can run and what it enforces. It makes a sandbox to find out, as a server would."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from typing import Any

from isol8.config import Config, Isolation, load_config
from isol8.engines.base import Layer, Need
from isol8.engines.native.examination import prepare
from isol8.engines.native.layers import missing
from isol8.engines.native.sandboxes import Sandboxes
from isol8.engines.native.unprivileged import Standing, take_standing
from isol8.kernel.cgroups import Hierarchy
from isol8.kernel.delegation import allotted
from isol8.runtimes.base import Install
from isol8.runtimes.registry import RUNTIMES, find_installed


def run(arguments: argparse.Namespace) -> int:
    """Print a table, or JSON. The answer is 1 when a runtime is missing, or a layer the policy asks for."""
    config = load_config(arguments.config)
    installed = find_installed(config.data_dir)
    owner = os.getpid()
    with allotted(owner) as hierarchy:
        layers = asyncio.run(_examine(installed, owner, hierarchy, take_standing()))
    tolerated = {Need.EXTRA} if config.policy.isolation is Isolation.STRICT else {Need.EXTRA, Need.STRICT}
    lacking = missing(layers, tolerated)
    if arguments.json:
        print(json.dumps(_report(config, layers, lacking, installed), indent=2))
    else:
        _show(config, layers, lacking, installed)
    return int(bool(lacking) or len(installed) < len(RUNTIMES))


async def _examine(installed: dict[str, Install], owner: int, hierarchy: Hierarchy, standing: Standing) -> list[Layer]:
    prefixes = {name: install.prefix for name, install in installed.items() if install.prefix}
    python = installed["python"].executable if "python" in installed else ""
    sandboxes, layers = await prepare(
        lambda means: Sandboxes(owner, python, prefixes, {}, means), owner, hierarchy, standing
    )
    if sandboxes:
        await sandboxes.close()
    return layers


def _report(config: Config, layers: list[Layer], lacking: list[Layer], installed: dict[str, Install]) -> dict[str, Any]:
    return {
        "isolation": config.policy.isolation,
        "starts": not lacking,
        "layers": [
            {
                "name": layer.name,
                "enforced": layer.enforced,
                "need": layer.need,
                "detail": layer.detail,
                "remedy": layer.remedy,
            }
            for layer in layers
        ],
        "runtimes": [
            {
                "name": name,
                "ready": name in installed,
                "version": installed[name].version if name in installed else None,
                "executable": installed[name].executable if name in installed else None,
                "install": runtime.install_hint,
            }
            for name, runtime in RUNTIMES.items()
        ],
    }


def _show(config: Config, layers: list[Layer], lacking: list[Layer], installed: dict[str, Install]) -> None:
    print(f"Isolation layers (policy.isolation is {config.policy.isolation})")
    for layer in layers:
        state = "enforced" if layer.enforced else "not used" if layer.need is Need.EXTRA else "MISSING"
        print(f"  {state:<9} {layer.name:<20} {layer.detail}")
        if layer.remedy:
            print(f"{'':<33}to do: {layer.remedy}")
    print("Runtimes")
    for name, runtime in RUNTIMES.items():
        install = installed.get(name)
        if install:
            print(f"  ready     {name:<20} {install.version:<10} {install.executable}")
        else:
            print(f"  MISSING   {name:<20} to do: {runtime.install_hint}")
    if lacking:
        print(f"A server would not start here: {len(lacking)} of {len(layers)} layers are missing.")
