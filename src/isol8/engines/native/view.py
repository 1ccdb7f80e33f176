"""What a sandbox sees that no other does: its mounts. They are made in namespaces of its own.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import errno
import os

from isol8.kernel import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isol8.engines.native.first import Mount
    from isol8.engines.native.request import Request

TMPFS = mounts.MS_NOSUID | mounts.MS_NODEV
_PROC_FLAGS = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
# Writable: the sandbox's own, and what all of it share.
DIRECTORIES = (("/sandbox", TMPFS), ("/tmp", TMPFS | mounts.MS_NOEXEC), ("/dev/shm", TMPFS | mounts.MS_NOEXEC))
FILES = ("/etc/passwd", "/etc/group")
FILE_FLAGS, FILE_MODE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
SOURCE = "/dev/shm/.file"  # of each, before it is shown in its place
PROC = ("proc", "/proc", "proc", _PROC_FLAGS, "hidepid=2")
# As the container runtimes mask them: runc's default spec (MaskedPaths, ReadonlyPaths).
_PROC_MASKED = ("kcore", "keys", "key-users", "latency_stats", "timer_list", "sched_debug", "sysrq-trigger")
# And the pressure files: whoever may write to one can have the kernel watch it thousands of times over, at the
# machine's expense, and take a grace period of RCU for each to exit.
_PROC_READ_ONLY = ("bus", "fs", "irq", "pressure", "sys")
# Where no cgroup counts memory: files without content are memory too, and by default the kernel allows millions.
_FILES_WITHOUT_GROUP = 100_000


def mount(request: Request) -> None:
    """In the zygote, once it has moved: the writable directories, and what /etc says of the sandbox."""
    user = 0 if request.alone else request.uid
    most = f",nr_inodes={_FILES_WITHOUT_GROUP}" if "memory-limit" in request.without else ""
    each = options(user, request.sandbox_bytes, request.tmp_bytes)
    for (target, flags), option in zip(DIRECTORIES, each, strict=True):
        mounts.mount("tmpfs", target, "tmpfs", flags, option + most)
    for path, text in zip(FILES, contents(request.uid), strict=True):
        _show_file(path, text)
    if request.resolver:
        _show_file("/etc/resolv.conf", request.resolver)
    for tree, target in request.mounts:
        mounts.attach(tree, target)
    if request.alone:  # the files are its user's own
        for path in FILES:
            mounts.set_read_only(path)


def options(user: int, sandbox_bytes: int, tmp_bytes: int) -> tuple[str, str, str]:
    """With which DIRECTORIES are mounted."""
    shared = f"mode=1777,size={tmp_bytes}"
    return f"mode=755,uid={user},gid={user},size={sandbox_bytes}", shared, shared


def contents(uid: int) -> tuple[str, str]:
    """Of FILES."""
    entry = f":x:{uid}:{uid}:sandbox:/sandbox:/bin/bash\n"
    users = f"root:x:0:0:root:/:/bin/false\nsandbox{entry}nobody:x:65534:65534::/:/bin/false\n"
    return users, f"root:x:0:\nsandbox:x:{uid}:\nnogroup:x:65534:\n"


def mount_proc(parts: list[Mount], *, initial: bool) -> None:
    """In the clone. In a user namespace, one that is not the `initial` one, it can only be mounted while another one is
    in sight: see root.py."""
    if initial:
        mounts.mount(*PROC)
    else:
        mounts.mount("proc", "/opt", "proc", _PROC_FLAGS, "hidepid=2")
        mounts.unmount("/proc")
        mounts.move("/opt", "/proc")
    for each in parts:
        mounts.mount(*each)


def parts_of_proc() -> list[Mount]:
    """What is mounted over parts of /proc to protect and to hide them, as arguments of `mount`."""
    found: list[Mount] = []
    for path in _existing(_PROC_READ_ONLY):
        found.append((path, path, "", mounts.MS_BIND, ""))
        found.append(("none", path, "", mounts.MS_REMOUNT | mounts.MS_BIND | mounts.MS_RDONLY | _PROC_FLAGS, ""))
    return found + [("/dev/null", path, "", mounts.MS_BIND, "") for path in _existing(_PROC_MASKED)]


def _existing(names: tuple[str, ...]) -> list[str]:
    return [path for path in (f"/proc/{name}" for name in names) if os.path.exists(path)]


def _show_file(path: str, text: str) -> None:
    """Mount a file of the sandbox's own over one of the shared root. Its only name is then that one."""
    file = os.open(SOURCE, FILE_FLAGS, FILE_MODE)
    content = text.encode()
    if os.write(file, content) < len(content):
        raise OSError(errno.ENOSPC, f"there is no room for {path}")
    os.close(file)
    mounts.mount(SOURCE, path, flags=mounts.MS_BIND)
    os.unlink(SOURCE)
