"""What a warm sandbox that waits for its request holds of the machine's memory."""

from __future__ import annotations

from bench import census
from bench.results import Memory
from bench.setting import Setting

_WARM = 8


def measure(setting: Setting) -> dict[str, Memory]:
    """For each runtime, in a server whose pool has eight sandboxes of that runtime and no others."""
    return {name: _measure(setting, name) for name in setting.installed}


def _measure(setting: Setting, name: str) -> Memory:
    pool = dict.fromkeys(setting.installed, 0) | {name: _WARM}
    with setting.serving(pool=dict.fromkeys(("python", "node", "bun", "deno", "bash"), 0) | pool) as server:
        census.settle(server)
        found = census.memory(census.sandboxes(server).values())
    setting.say(
        f"memory {name}: {found['mean_mb']:.2f} MB (PSS) for each of {found['count']} warm sandboxes"
        f" of {found['processes'] / found['count']:.0f} processes"
    )
    return found
