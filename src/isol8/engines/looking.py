"""Looking at a sandbox from inside: a program in a real one tells what it sees, and that is judged layer by layer.

For engines whose sandboxes somebody else makes, and may make other than was asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from isol8.engines.connection import Connection
from isol8.engines.sandbox import Exit, Sandbox
from isol8.errors import EngineFailure
from isol8.model import Limits, Plan, SandboxSpec

_READY_TIMEOUT_S = 60
_MIB = 1 << 20
LIMITS = Limits(memory_bytes=128 * _MIB, cpus=1.0, pids=16, sandbox_bytes=_MIB, tmp_bytes=2 * _MIB)
# gVisor's kernel calls itself so, in every release.
_GVISOR = "#1 SMP Sun Jan 10 15:06:54 PST 2016"
# What a program sees of its own sandbox. Sizes are of file systems, in bytes.
_LOOK = """
import json, os, resource, socket
def lines(path):
    try: return open(path).read().splitlines()
    except OSError: return []
def room(path):
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize
def reached(path):
    try: return bool(os.listdir(path) if path.endswith(('fd', 'root')) else open(path, 'rb').read(1))
    except OSError: return False
print(json.dumps({
    'status': dict(line.split(':', 1) for line in lines('/proc/self/status') if ':' in line),
    'mounts': [line.split()[4:6] + line.split(' - ')[1:] for line in lines('/proc/self/mountinfo')],
    'interfaces': [name for _, name in socket.if_nameindex()],
    'first': [path for path in ('environ', 'mem', 'maps', 'fd', 'root') if reached('/proc/1/' + path)],
    'sizes': [room(path) for path in ('/sandbox', '/tmp', '/dev/shm')],
    'processes': [name for name in os.listdir('/proc') if name.isdigit()],
    'kernel': (lines('/proc/kcore')[:1] + lines('/proc/keys') + (os.listdir('/sys') if os.path.isdir('/sys') else [])),
    'switches': os.access('/proc/sys/kernel/hostname', os.W_OK),
    'root': [path for path in ('/', '/usr', '/etc', '/var') if os.access(path, os.W_OK)],
    'limits': [resource.getrlimit(resource.RLIMIT_CORE)[1], resource.getrlimit(resource.RLIMIT_NOFILE)[1]],
    'uid': os.getuid(),
    'version': ''.join(lines('/proc/version')),
}))
"""


def specimen_request() -> tuple[str, dict[str, Any]]:
    """A name, and what to ask an engine's `Sandboxes` to create."""
    limits = {name: getattr(LIMITS, name) for name in LIMITS.__slots__}
    boot = {"forked": False, "executable": "", "argv": [], "path": "", "opens": 1, "stamps": [], "pipe": False}
    request = {"runtime": "python", "limits": limits, "network": "none", "image": "", "boot": boot, "kept": False}
    request["mounts"] = []
    return f"specimen-{os.getpid()}", request


async def look(name: str, descriptor: int, also: Callable[[Sandbox], Awaitable[None]] | None = None) -> dict[str, Any]:
    """What a program sees in the specimen whose stream `descriptor` is; it is closed, after what is `also` to be done
    in it. Raises EngineFailure."""
    stream = socket.socket(fileno=descriptor)
    stream.setblocking(False)
    _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, sock=stream)
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            await connection.ready
            sandbox = Sandbox(name, SandboxSpec(runtime="python", limits=LIMITS), connection)
            seen = await _ask(sandbox)
            if also:
                await also(sandbox)
            return seen
    except TimeoutError as error:
        raise EngineFailure("a sandbox did not become ready") from error
    finally:
        connection.close()


def has_own_kernel(seen: dict[str, Any]) -> bool:
    """Whether the specimen runs under gVisor."""
    return _GVISOR in seen["version"]


async def run_in(sandbox: Sandbox, source: str) -> tuple[bytes, bytes]:
    """What a Python program in the specimen writes to its two outputs. Raises EngineFailure."""
    plan = Plan(
        runtime="python",
        executable="python3",
        argv=("python3", "/sandbox/main.py"),
        path="/sandbox/main.py",
        source=source.encode(),
        env={},
        workdir="/sandbox",
        warm=False,
    )
    said = {"stdout": b"", "stderr": b""}
    async for item in sandbox.run(plan, stdin=b"", output_bytes=_MIB):
        if not isinstance(item, Exit):
            said[item.stream] += item.data
    return said["stdout"], said["stderr"]


async def _ask(sandbox: Sandbox) -> dict[str, Any]:
    stdout, stderr = await run_in(sandbox, _LOOK)
    try:
        seen: dict[str, Any] = json.loads(stdout)
    except ValueError as error:
        raise EngineFailure(f"a sandbox does not work: {stderr.decode(errors='replace')[-500:]}") from error
    return seen


def judge_seen(seen: dict[str, Any]) -> dict[str, str]:
    """What is wrong with what a program saw, by layer."""
    status = {name: text.strip() for name, text in seen["status"].items()}
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if status.get(name, "").strip("0")]
    checks = {
        "process-namespace": (len(seen["processes"]) <= 4, "the sandbox sees processes of others"),
        "network-namespace": (seen["interfaces"] in (["lo"], []), f"the sandbox has {', '.join(seen['interfaces'])}"),
        "read-only-root": (not seen["root"], f"can be written to: {', '.join(seen['root'])}"),
        "own-proc": (not seen["kernel"] and not seen["switches"], "the kernel's own files are not masked"),
        "own-user": (seen["uid"] > 0, "the sandbox runs as root"),
        "no-capabilities": (not held, f"not empty: {', '.join(held)}"),
        "no-new-privileges": (status.get("NoNewPrivs", "1") == "1", "not set"),
        "seccomp": (status.get("Seccomp", "2") == "2", "no filter is loaded"),
        "runner-out-of-reach": (not seen["first"], f"can be read: {', '.join(seen['first'])}"),
        "resource-limits": (
            seen["limits"][0] in (0, 1) and 0 < seen["limits"][1] <= 1 << 20,
            "core dumps or open files are not limited",
        ),
        "sized-file-systems": (
            all(size <= most for size, most in zip(seen["sizes"], (_MIB, 2 * _MIB, 2 * _MIB), strict=True)),
            "larger than they should be",
        ),
    }
    return {name: problem for name, (holds, problem) in checks.items() if not holds}
