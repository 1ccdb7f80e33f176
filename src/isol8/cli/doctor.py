"""`isol8 doctor`: what this machine can run and what it enforces. It makes a sandbox to find out, as a server would."""

from __future__ import annotations

import argparse
import json
from typing import Any

from isol8.config import Config, Isolation, load_config, with_engine
from isol8.engines.base import Layer, Need
from isol8.engines.layers import missing
from isol8.runtimes.registry import RUNTIMES
from isol8.supervision import Findings, examine


def run(arguments: argparse.Namespace) -> int:
    """Print a table, or JSON. The answer is 1 when a runtime is missing, or a layer the policy asks for."""
    config = with_engine(load_config(arguments.config), arguments.engine)
    found = examine(config)
    tolerated = {Need.EXTRA} if config.policy.isolation is Isolation.STRICT else {Need.EXTRA, Need.STRICT}
    lacking = missing(found.layers, tolerated)
    if arguments.json:
        print(json.dumps(_report(config, found, lacking), indent=2))
    else:
        _show(config, found, lacking)
    return int(bool(lacking) or len(found.installed) < len(RUNTIMES))


def _report(config: Config, found: Findings, lacking: list[Layer]) -> dict[str, Any]:
    installed = found.installed
    return {
        "engine": config.engine,
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
            for layer in found.layers
        ],
        "runtimes": [
            {
                "name": name,
                "ready": name in installed,
                "version": installed[name].version if name in installed else None,
                "executable": installed[name].executable if name in installed else None,
                "install": runtime.install_hint,
                # Of those that the engine could copy: whether it does, and why not.
                **({"copied": not found.boots[name], "detail": found.boots[name]} if name in found.boots else {}),
            }
            for name, runtime in RUNTIMES.items()
        ],
    }


def _show(config: Config, found: Findings, lacking: list[Layer]) -> None:
    print(f"Isolation layers of the engine {config.engine} (policy.isolation is {config.policy.isolation})")
    for layer in found.layers:
        state = "enforced" if layer.enforced else "not used" if layer.need is Need.EXTRA else "MISSING"
        print(f"  {state:<9} {layer.name:<20} {layer.detail}")
        if layer.remedy:
            print(f"{'':<33}to do: {layer.remedy}")
    print("Runtimes")
    for name, runtime in RUNTIMES.items():
        install = found.installed.get(name)
        if install:
            print(f"  ready     {name:<20} {install.version:<10} {install.executable}")
            if name in found.boots:
                reason = found.boots[name]
                print(f"{'':<33}{f'boots in every sandbox: {reason}' if reason else 'booted once, and copied'}")
        else:
            print(f"  MISSING   {name:<20} to do: {runtime.install_hint}")
    if lacking:
        print(f"A server would not start here: {len(lacking)} of {len(found.layers)} layers are missing.")
