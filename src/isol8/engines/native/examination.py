"""What a start of the engine finds out before anything is served: which layers hold, by trying and by looking."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import Callable

from isol8.engines.base import Layer, Need
from isol8.engines.layers import missing
from isol8.engines.native import layers
from isol8.engines.native.probes import probe
from isol8.engines.native.sandboxes import Means, Sandboxes
from isol8.engines.native.specimen import Specimen, look
from isol8.engines.native.unprivileged import Standing
from isol8.errors import EngineFailure
from isol8.kernel.cgroup_trial import try_controllers
from isol8.kernel.cgroups import Hierarchy
from isol8.model import Limits

_READY_TIMEOUT_S = 60
_LIMITS = Limits(memory_bytes=64 << 20, cpus=1.0, pids=16, sandbox_bytes=1 << 20, tmp_bytes=1 << 20)
_BOOT = {"executable": "", "path": "", "opens": 1, "argv": [], "stamps": [], "modules": []}
_WAYS = (False, True)  # process 1 made in Python, and by a table of system calls where there is one: see first.py
_LAYER_OF = {
    "memory": ("memory-limit", "no-swap"),
    "swap": ("no-swap",),
    "cpu": ("processor-limit",),
    "cpuacct": ("processor-limit",),
    "pids": ("process-limit",),
}


async def prepare(
    make: Callable[[Means], Sandboxes], owner: int, hierarchy: Hierarchy, standing: Standing
) -> tuple[Sandboxes | None, list[Layer]]:
    """Sandboxes that are ready to be made, and what their layers are worth. None where none can be made.

    `make` gives them what this machine has; `hierarchy` and `standing` are what its user has. The caller closes them,
    and decides whether the layers are enough. Raises EngineFailure when every probe passes and a sandbox fails all the
    same.
    """
    problems = {**standing.problems, **probe(standing.problems)}
    refused = try_controllers(hierarchy, owner)
    for controller, reason in refused.items():
        problems |= dict.fromkeys(_LAYER_OF[controller], f"{controller}: {reason}")
    found = layers.judge(problems, standing.layers)
    if missing(found, {Need.STRICT, Need.EXTRA}):
        return None, found
    usable = hierarchy.only(hierarchy.mounts.keys() - refused.keys())
    sandboxes = make(Means(usable, frozenset(problems), standing.ids))
    await sandboxes.start()
    try:
        for forked in _WAYS:
            problems = await _look_at_one(sandboxes, forked) | problems
    except BaseException:
        await sandboxes.close()
        raise
    return sandboxes, layers.judge(problems, standing.layers)


async def _look_at_one(sandboxes: Sandboxes, forked: bool) -> dict[str, str]:
    """Make a sandbox, and say what is wrong with it."""
    name = f"specimen-{os.getpid()}"
    boot = {**_BOOT, "forked": forked}
    request = {"network": "none", "boot": boot, "mounts": [], "limits": dataclasses.asdict(_LIMITS)}
    group, descriptor = await sandboxes.create(name, request)
    with socket.socket(fileno=descriptor) as stream:
        stream.setblocking(False)
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                ready = await asyncio.get_running_loop().sock_recv(stream, 16)
            if not ready:
                raise EngineFailure("a sandbox ended before it was ready")
            pid, uid = sandboxes.identity(name)
            return look(Specimen(pid, uid, group, _LIMITS))
        except (TimeoutError, OSError, KeyError) as error:
            raise EngineFailure(f"a sandbox cannot be looked at: {error}") from error
        finally:
            await sandboxes.destroy(name)
