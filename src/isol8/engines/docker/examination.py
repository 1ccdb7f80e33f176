"""What a start of the engine finds out before anything is served: which layers the containers of this daemon have.

Docker drops without a word what a kernel or a daemon cannot do (limits above all). So one container is made as all
others will be, and a program in it tells what it sees; what only the daemon knows, the daemon is asked.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import socket
from typing import Any

from isol8.engines.base import Layer, Need
from isol8.engines.directories import attach_in
from isol8.engines.docker.client import DaemonFailure
from isol8.engines.docker.description import CHANGEABLE
from isol8.engines.docker.sandboxes import Sandboxes
from isol8.engines.layers import Description, judge
from isol8.engines.looking import LIMITS, has_own_kernel, judge_seen, look, run_in, specimen_request
from isol8.engines.resources import with_own_kernel
from isol8.engines.sandbox import Sandbox
from isol8.engines.supervisor import SIZES
from isol8.errors import EngineFailure
from isol8.kernel import mounts

_LOG = logging.getLogger("isol8.docker")
_MIB = 1 << 20
_CALL = """
import socket
with socket.create_connection(('127.0.0.1', {port}), 20) as way: way.sendall(b'{token}')
"""
_CALL_TIMEOUT_S = 20  # what is found out holds for as long as the server runs, and the machine may be busy
_PORT = 3128  # any that is free
_CGROUPS = "run the daemon where it has the kernel's memory, cpu and pids controllers"
_DAEMON = "use a daemon and an OCI runtime that honour it"

OWN_KERNEL = Description("own-kernel", Need.ALWAYS, "reaching the machine's kernel, and its flaws", _DAEMON)
# What matters only where programs speak to the machine's kernel.
_OF_THE_KERNEL = ("own-proc", "seccomp", "runner-out-of-reach", "socket-buffers", "no-new-privileges")
LAYERS = (
    Description("process-namespace", Need.ALWAYS, "seeing or signalling processes outside", _DAEMON),
    Description("network-namespace", Need.ALWAYS, "reaching any network but a loopback of its own", _DAEMON),
    Description("read-only-root", Need.ALWAYS, "changing files of its image", _DAEMON),
    Description("own-proc", Need.ALWAYS, "reading or writing what /proc and /sys tell of the kernel", _DAEMON),
    Description("sized-file-systems", Need.ALWAYS, "filling more memory with files than it was given", _DAEMON),
    Description("own-user", Need.ALWAYS, "sharing anything by user id with another sandbox or the machine", _DAEMON),
    Description("no-capabilities", Need.ALWAYS, "everything the kernel reserves for the administrator", _DAEMON),
    Description("no-new-privileges", Need.ALWAYS, "gaining rights by executing a program", _DAEMON),
    Description(
        "seccomp",
        Need.STRICT,
        "system calls that interpreters do not need, and the kernel's flaws behind them",
        "a kernel and a daemon with seccomp (docker info shows it)",
    ),
    Description("memory-limit", Need.STRICT, "using more memory than it was given", _CGROUPS),
    Description("processor-limit", Need.STRICT, "using more processor time than it was given", _CGROUPS),
    Description("process-limit", Need.STRICT, "making more processes and threads than it was given", _CGROUPS),
    Description(
        "no-swap",
        Need.STRICT,
        "getting round its memory limit through swap",
        "start the kernel with swapaccount=1, or switch swap off (swapoff -a)",
    ),
    Description("resource-limits", Need.ALWAYS, "core dumps, and open files without end", _DAEMON),
    Description("runner-out-of-reach", Need.ALWAYS, "tracing or reading the runner, its first process", _DAEMON),
    Description(
        "socket-buffers",
        Need.EXTRA,
        "filling the kernel's memory through its own loopback (on cgroup v1; elsewhere the memory limit does)",
        "run the server as root, on the daemon's machine",
    ),
)


async def examine(sandboxes: Sandboxes) -> list[Layer]:
    """Every layer. Also finds out which limits of a live sandbox can be changed. Raises EngineFailure when no sandbox
    can be made at all."""
    info = await sandboxes.info()
    seen, problems = await _look_at_one(sandboxes)
    problems |= _limits_of(info) | judge_seen(seen)
    if sandboxes.unhardened:
        problems["socket-buffers"] = sandboxes.unhardened
    layers = [OWN_KERNEL, *LAYERS] if has_own_kernel(seen) else LAYERS
    return judge([each for each in layers if not (has_own_kernel(seen) and each.name in _OF_THE_KERNEL)], problems)


def _limits_of(info: dict[str, Any]) -> dict[str, str]:
    """What the daemon says that it cannot limit."""
    needed = {
        "memory-limit": ("MemoryLimit",),
        "processor-limit": ("CpuCfsPeriod", "CpuCfsQuota"),
        "process-limit": ("PidsLimit",),
        "no-swap": ("SwapLimit",),
    }
    found = {}
    for name, fields in needed.items():
        absent = [field for field in fields if not info.get(field)]
        if absent:
            found[name] = f"the daemon says that it has no {', '.join(absent)}"
    if "no-swap" in found and _no_swap():
        del found["no-swap"]
    return found


def _no_swap() -> bool:
    """Whether this machine has no swap at all."""
    with open("/proc/swaps") as file:
        return len(file.readlines()) < 2


async def _look_at_one(sandboxes: Sandboxes) -> tuple[dict[str, Any], dict[str, str]]:
    """Make a sandbox; what a program in it saw, and what is wrong with what can be seen outside."""
    name, descriptor = await _make_specimen(sandboxes)
    try:
        seen = await look(name, descriptor, lambda sandbox: _try_way_out(sandboxes, sandbox))
        group = sandboxes.group(name)
        sizes = () if _can_resize(sandboxes.process(name)) else SIZES
        sandboxes.mountable = not sandboxes.daemon.gvisor and _can_mount(sandboxes.process(name))
        # Podman's Docker API has no update before its version 5, and gVisor's shim has none.
        sandboxes.fixed = (*CHANGEABLE, *sizes) if sandboxes.daemon.podman or sandboxes.daemon.gvisor else sizes
        limits = with_own_kernel(LIMITS) if sandboxes.daemon.gvisor else LIMITS
        return seen, {"memory-limit": "not in force"} if group and _memory_limit(
            group.paths
        ) != limits.memory_bytes else {}
    finally:
        try:
            await sandboxes.destroy(name)
        except EngineFailure as error:  # the daemon may be busy, and what was seen is true all the same
            _LOG.warning("%s", error.message)


async def _make_specimen(sandboxes: Sandboxes) -> tuple[str, int]:
    """Its name and its stream. Where one can only be made without a way out, there is none for any."""
    name, request = specimen_request()
    try:
        return name, (await sandboxes.create(name, request))[1]
    except DaemonFailure as error:
        if not sandboxes.has_way_out:
            raise
        name = f"{name}-again"
        made = await sandboxes.create(name, {**request, "way_out": False})
        sandboxes.shut_in(f"the daemon shares no files with this machine ({error.message})")
        return name, made[1]


async def _try_way_out(sandboxes: Sandboxes, sandbox: Sandbox) -> None:
    """Find out whether what listens outside is reached from inside: files that are shared are not yet sockets."""
    if not sandboxes.has_way_out:
        return
    token, said = secrets.token_hex(8), b""
    with socket.socket(fileno=sandboxes.listen(sandbox.id, _PORT)) as listener:
        listener.setblocking(False)
        try:
            await sandbox.listen(_PORT)
            _, said = await run_in(sandbox, _CALL.format(port=_PORT, token=token))
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            with connection:
                heard = await asyncio.get_running_loop().sock_recv(connection, 64)
        except (EngineFailure, TimeoutError) as error:
            reason = error.message if isinstance(error, EngineFailure) else said.decode(errors="replace")[-200:].strip()
            sandboxes.shut_in(f"nothing comes through their sockets ({reason})")
        else:
            if heard != token.encode():
                sandboxes.shut_in("what comes through their sockets is not what was sent")


def _memory_limit(paths: dict[str, str]) -> int:
    """What the cgroup of the specimen says; 0 when there is no such file, or no limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        path = f"{paths.get('memory', '')}/{name}"
        if os.path.exists(path):
            with open(path) as file:
                text = file.read().strip()
                return int(text) if text.isdigit() else 0
    return 0


def _can_mount(pid: int) -> bool:
    """Whether this process may mount something in a sandbox: it takes root, and the same machine."""
    if not pid or os.geteuid() != 0:
        return False
    directory = os.open("/usr", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tree = mounts.open_read_only(directory)
        try:
            attach_in(pid, [(tree, "/tmp")])
        finally:
            os.close(tree)
    except OSError:
        return False
    finally:
        os.close(directory)
    return True


def _can_resize(pid: int) -> bool:
    """Whether this process may change the size of a sandbox's file systems: it takes root, and the same machine."""
    if not pid:
        return False
    try:
        with open(f"/proc/{pid}/mountinfo") as file:
            kinds = {line.split()[4]: line.partition(" - ")[2].split()[0] for line in file}
        if any(kinds.get(f"/{path}") != "tmpfs" for path in ("sandbox", "tmp", "dev/shm")):
            return False
        mounts.resize_in(pid, "sandbox", 2 * _MIB)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOENT):
            return False
        raise EngineFailure(f"a sandbox's file system cannot be resized: {error}") from error
    return True
