"""What a start of the gVisor engine finds out before anything is served, by making a sandbox and looking around in
it."""

from __future__ import annotations

from isol8.engines.base import Layer, Need
from isol8.engines.gvisor.sandboxes import Sandboxes
from isol8.engines.layers import Description, judge
from isol8.engines.looking import has_own_kernel, judge_seen, look, specimen_request

_RUNSC = "install runsc (apt-get install runsc), of this machine's architecture"
_CGROUPS = "mount the cgroup file system writable and give the server its controllers"
LAYERS = (
    Description("own-kernel", Need.ALWAYS, "reaching the machine's kernel, and its flaws", _RUNSC),
    Description("process-namespace", Need.ALWAYS, "seeing or signalling processes outside", _RUNSC),
    Description("network-namespace", Need.ALWAYS, "reaching any network but a loopback of its own", _RUNSC),
    Description("read-only-root", Need.ALWAYS, "changing files that others see", _RUNSC),
    Description("sized-file-systems", Need.ALWAYS, "filling more memory with files than it was given", _RUNSC),
    Description("own-user", Need.ALWAYS, "being its kernel's administrator", _RUNSC),
    Description("no-capabilities", Need.ALWAYS, "everything its kernel reserves for the administrator", _RUNSC),
    Description("resource-limits", Need.ALWAYS, "core dumps, and open files without end", _RUNSC),
    Description("memory-limit", Need.STRICT, "using more memory than it and its kernel were given", _CGROUPS),
    Description("processor-limit", Need.STRICT, "using more processor time than it was given", _CGROUPS),
    Description("process-limit", Need.STRICT, "making processes of the machine without end", _CGROUPS),
    Description(
        "runner-out-of-reach",
        Need.EXTRA,
        "reading the runner, its first process, which holds no secret",
        "none: gVisor does not know the difference between a process that may be read and one that may not",
    ),
)
_CONTROLLERS = {"memory-limit": "memory", "processor-limit": "cpu", "process-limit": "pids"}


async def examine(sandboxes: Sandboxes) -> list[Layer]:
    """Every layer. Raises EngineFailure when no sandbox can be made."""
    name, request = specimen_request()
    group, descriptor = await sandboxes.create(name, request)
    try:
        seen = await look(name, descriptor)
    finally:
        await sandboxes.destroy(name)
    problems = judge_seen(seen)
    if not has_own_kernel(seen):
        problems["own-kernel"] = "the sandbox runs on the machine's own kernel"
    for layer, controller in _CONTROLLERS.items():
        if controller not in group.paths:
            problems[layer] = f"this machine has no {controller} controller"
    return judge(LAYERS, problems)
