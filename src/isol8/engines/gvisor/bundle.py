"""The OCI bundle of a sandbox: the root it sees, and what runsc is told of it.

The root is the machine's toolchains, as for the native engine; one directory serves all sandboxes, read-only. What is
each sandbox's own is in its bundle: its configuration, /etc/passwd and /etc/group.
"""

from __future__ import annotations

import json
import os
from typing import Any

from isol8.engines import bundle
from isol8.engines.etc import TOP_LEVEL, make_etc
from isol8.engines.resources import bounded_limits
from isol8.model import Limits

RUNTIMES_DIR = "/opt/isol8"
_READ_ONLY = ["ro", "nosuid", "nodev", "rbind"]
# gVisor has the namespaces of its own kernel; these are of the processes that make it up.
_NAMESPACES = ("pid", "ipc", "uts", "mount")


def make_root(path: str, prefixes: dict[str, str]) -> None:
    """The directory that all sandboxes have as their root: links, /etc, and places to mount at. Raises OSError."""
    for name in ("usr", "proc", "dev", "sandbox", "tmp", "run", "var", "opt", "sys"):
        os.makedirs(f"{path}/{name}", exist_ok=True)
    os.symlink("/tmp", f"{path}/var/tmp")
    for name in TOP_LEVEL:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{path}/{name}")
        elif os.path.isdir(f"/{name}"):
            os.makedirs(f"{path}/{name}")
    for name in prefixes:
        os.makedirs(f"{path}{RUNTIMES_DIR}/{name}")
    make_etc(path)


def write_bundle(directory: str, root: str, prefixes: dict[str, str], uid: int, request: dict[str, Any]) -> None:
    """Make the bundle of one sandbox in a directory that exists. Raises OSError."""
    user = f":x:{uid}:{uid}:sandbox:/sandbox:/bin/bash\n"
    passwd = f"root:x:0:0:root:/:/bin/false\nsandbox{user}nobody:x:65534:65534::/:/bin/false\n"
    _write(f"{directory}/passwd", passwd)
    _write(f"{directory}/group", f"root:x:0:\nsandbox:x:{uid}:\nnogroup:x:65534:\n")
    _write(f"{directory}/config.json", json.dumps(_configuration(directory, root, prefixes, uid, request)))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o644)


def _configuration(
    directory: str, root: str, prefixes: dict[str, str], uid: int, request: dict[str, Any]
) -> dict[str, Any]:
    limits = Limits(**request["limits"])
    return {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": uid, "gid": uid},
            "args": list(bundle.COMMAND),
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "cwd": "/sandbox",
            "noNewPrivileges": True,
            "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "rlimits": [
                {"type": f"RLIMIT_{name.upper()}", "soft": _unsigned(soft), "hard": _unsigned(hard)}
                for name, (soft, hard) in bounded_limits().items()
            ],
        },
        "root": {"path": root, "readonly": True},
        "hostname": "sandbox",
        "mounts": _mounts(directory, prefixes, uid, limits),
        "linux": {"namespaces": [{"type": kind} for kind in _NAMESPACES]},
    }


def _unsigned(limit: int) -> int:
    """OCI has no -1 for "no limit"."""
    return limit if limit >= 0 else (1 << 64) - 1


def _mounts(directory: str, prefixes: dict[str, str], uid: int, limits: Limits) -> list[dict[str, Any]]:
    usual = ["nosuid", "nodev"]
    own = ["mode=755", f"uid={uid}", f"gid={uid}"]
    sources = {"/usr": "/usr"}
    sources |= {f"/{name}": f"/{name}" for name in TOP_LEVEL if os.path.isdir(f"/{name}") and not _is_link(name)}
    sources |= {f"{RUNTIMES_DIR}/{name}": source for name, source in prefixes.items()}
    sources |= {f"/etc/{name}": f"{directory}/{name}" for name in ("passwd", "group")}
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": [*usual, "noexec"]},
        *(
            {"destination": inside, "type": "bind", "source": outside, "options": _READ_ONLY}
            for inside, outside in sources.items()
        ),
        {
            "destination": "/sandbox",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": [*usual, *own, f"size={limits.sandbox_bytes}"],
        },
        *(
            {
                "destination": path,
                "type": "tmpfs",
                "source": "tmpfs",
                "options": [*usual, "noexec", "mode=1777", f"size={limits.tmp_bytes}"],
            }
            for path in ("/tmp", "/dev/shm")
        ),
    ]


def _is_link(name: str) -> bool:
    return os.path.islink(f"/{name}")
