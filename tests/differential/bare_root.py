"""Process 1 of the bare side: lays out a root directory like the sandbox's and runs one program in it.

Started by `unshare --mount --pid --fork`, as root, with the path of a JSON file that says what to run. The new root is
a tmpfs over an existing directory, visible in this mount namespace alone; it binds every directory of the machine's
root (or of `machine`, the files of an image) and adds `/sandbox` and `/opt/isol8`, so that nothing is made on the
machine itself. The program is a child, not process 1, because the kernel treats signals of process 1 specially. When
this process ends, the kernel kills what the program left running. Standard library only: it runs under the machine's
own Python.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import stat
import sys
from pathlib import Path

MS_NOSUID, MS_BIND, MS_REC, MS_PRIVATE = 2, 4096, 16384, 1 << 18
ROOT = "/mnt"
UID = GID = 54321
OF_THE_KERNEL = ("dev", "sys")
SKIPPED = ("sandbox", "opt", "proc", "tmp", "lost+found")
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "none", flags: int = 0, options: str = "") -> None:
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def bind(source: str, target: str) -> None:
    os.makedirs(target, exist_ok=True)
    mount(source, target, flags=MS_BIND | MS_REC)


def build_root(machine: str, prefixes: dict[str, str]) -> None:
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", options="mode=755")
    for entry in os.scandir(machine):
        if entry.name in SKIPPED or entry.path == ROOT or (machine != "/" and entry.name in OF_THE_KERNEL):
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), f"{ROOT}/{entry.name}")
        elif entry.is_dir():
            bind(entry.path, f"{ROOT}/{entry.name}")
    if machine != "/":
        for name in OF_THE_KERNEL:
            bind(f"/{name}", f"{ROOT}/{name}")
    for name in ("proc", "sandbox", "tmp"):
        os.mkdir(f"{ROOT}/{name}")
    mount("proc", f"{ROOT}/proc", "proc")
    mount("tmpfs", f"{ROOT}/sandbox", "tmpfs", options=f"mode=700,uid={UID},gid={GID}")
    mount("tmpfs", f"{ROOT}/tmp", "tmpfs", MS_NOSUID, "mode=1777")
    for inside, outside in prefixes.items():
        bind(outside, f"{ROOT}{inside}")
    os.chroot(ROOT)


def write_files(files: dict[str, str]) -> None:
    for path, text in files.items():
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode("utf-8", "surrogateescape"))
        # Its directories too, up to the writable one it is in: a program may add to what it was given.
        for made in (target, *target.parents[:-2]):
            os.chown(made, UID, GID)


def become_the_program(executable: str, argv: list[str], environment: dict[str, str]) -> None:
    for descriptor in range(3):
        # As the program's own: through /proc/self/fd it may open them again.
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.fchown(descriptor, UID, GID)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) in (signal.SIG_IGN, signal.default_int_handler):
            signal.signal(number, signal.SIG_DFL)
    for kept in (32, 33):  # libc keeps these to itself, yet they may have come ignored
        sigaction = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
        libc.syscall(sigaction, kept, ctypes.create_string_buffer(32), None, 8)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    os.setgroups([])
    os.setresgid(GID, GID, GID)
    os.setresuid(UID, UID, UID)
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir("/sandbox")
    os.closerange(3, 1024)
    os.execve(executable, argv, environment)


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text())
    build_root(spec["machine"], spec["prefixes"])
    write_files(spec["files"])
    child = os.fork()
    if child == 0:
        become_the_program(spec["executable"], spec["argv"], spec["env"])
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main())
