"""The root file system that sandboxes see: the machine's toolchains, read-only, and nothing else of it.

It is a tmpfs with a handful of read-only binds, built once per zygote in the zygote's own mount namespace; every
sandbox gets a copy of the mount table and puts its own /proc, /sandbox, /tmp and /dev/shm on top (`zygote.py`).
"""

from __future__ import annotations

import errno
import glob
import os
import py_compile
import shutil
import stat
from dataclasses import dataclass, field

from isol8.engines.etc import TOP_LEVEL, make_etc
from isol8.kernel import mounts, user_namespaces

RUNTIMES_DIR = "/opt/isol8"
BOOT_DIR = "/run/isol8"  # there while a zygote boots; gone before it serves

_BOOT_MODULES = (
    "__init__.py", "engines/__init__.py", "engines/native/__init__.py", "engines/native/becoming.py",
    "engines/native/copying/__init__.py", "engines/native/copying/asking.py", "engines/native/copying/leaving.py",
    "engines/native/ending.py", "engines/native/first.py", "engines/native/means.py", "engines/native/rehearsal.py",
    "engines/native/relaying.py", "engines/native/request.py", "engines/native/surroundings.py",
    "engines/native/traces.py", "engines/native/view.py", "engines/native/zygote.py", "engines/native/boot/*.py",
    "kernel/*.py", "runner/*.py",
)  # fmt: skip
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


@dataclass(frozen=True, slots=True)
class RootSpec:
    """What goes into a root. `prefixes` maps names below /opt/isol8 to host directories.

    `package` is the host directory of the isol8 package, shown to the booting zygote only. `customize` is where
    the interpreter finds its `sitecustomize` (None: nowhere, and `stdlib` is where it would).
    """

    package: str
    stdlib: str
    customize: str | None
    prefixes: dict[str, str] = field(default_factory=dict)


def _make_dev(root: str) -> None:
    mounts.mount("tmpfs", f"{root}/dev", "tmpfs", mounts.MS_NOSUID | mounts.MS_NOEXEC, "mode=755,size=64k")
    make = _make_device if user_namespaces.is_initial() else _show_device
    for name, (major, minor) in DEVICES.items():
        make(f"{root}/dev/{name}", os.makedev(major, minor))
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"{root}/dev/{name}")
    os.mkdir(f"{root}/dev/shm")
    flags = mounts.MS_REMOUNT | mounts.MS_BIND | mounts.MS_RDONLY | mounts.MS_NOSUID | mounts.MS_NOEXEC
    mounts.mount("none", f"{root}/dev", flags=flags)


def _make_device(path: str, number: int) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, number)
    os.chmod(path, 0o666)


def _show_device(path: str, number: int) -> None:
    """Bind the machine's own: nobody but the machine's root may make one. Raises OSError when it is something else."""
    source = f"/dev/{os.path.basename(path)}"
    if os.stat(source).st_rdev != number:
        raise OSError(errno.ENODEV, f"{source} is not the device of that name")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
    mounts.bind(source, path)
    mounts.restrict(path, mounts.ATTR_RDONLY | mounts.ATTR_NOSUID | mounts.ATTR_NOEXEC)


def _make_proc(root: str) -> None:
    """The zygote's own; each sandbox gets a new one. In a user namespace nobody may mount that of processes outside it,
    and it must be seen for another to be mounted at all (mount_too_revealing in fs/namespace.c): the machine's then."""
    target = f"{root}/proc"
    if user_namespaces.is_initial():
        mounts.mount("proc", target, "proc", mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC)
        return
    mounts.bind("/proc", target)
    mounts.restrict(target, mounts.ATTR_NOSUID | mounts.ATTR_NODEV | mounts.ATTR_NOEXEC)


def _make_top_level(root: str, opened: dict[str, int]) -> None:
    """/usr and the names that most distributions link into it."""
    for name in ("usr", *TOP_LEVEL):
        source = f"/{name}"
        if os.path.islink(source):
            os.symlink(os.readlink(source), f"{root}/{name}")
        elif source in opened:
            os.mkdir(f"{root}/{name}")
            mounts.bind_read_only(f"/proc/self/fd/{opened[source]}", f"{root}/{name}")


def _make_boot(root: str, spec: RootSpec, opened: dict[str, int]) -> None:
    """Put our `sitecustomize` where the interpreter will look for it; `zygote.py` takes it away again."""
    package = f"{root}{BOOT_DIR}/isol8"
    os.makedirs(package)
    mounts.mount("tmpfs", package, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=755,size=8m")
    _copy_compiled(f"/proc/self/fd/{opened[spec.package]}", package)
    boot = f"{root}{BOOT_DIR}/isol8/engines/native/boot"
    if spec.customize:
        mounts.bind_read_only(f"{boot}/sitecustomize.py", root + spec.customize)
    else:
        stdlib = root + spec.stdlib
        mounts.mount("overlay", stdlib, "overlay", mounts.MS_RDONLY, f"lowerdir={boot}:{stdlib}")


def _copy_compiled(source: str, target: str) -> None:
    """Copy what a zygote imports of the package, compiled: a compiler leaves holes in the memory that all sandboxes
    are copies of."""
    for name in _BOOT_MODULES:
        for path in glob.iglob(f"{source}/{name}"):
            copy = target + path.removeprefix(source)
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copyfile(path, copy)
            py_compile.compile(copy, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def enter_root(spec: RootSpec) -> None:
    """Build the root and make it this process's. The caller has a mount namespace of its own. Raises OSError."""
    mounts.make_private()
    sources = ["/usr", spec.package, *spec.prefixes.values()]
    sources += [f"/{name}" for name in TOP_LEVEL if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")]
    # Opened first, because the new root is mounted over a directory that may hold some of them.
    opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in sources}
    root = "/tmp"
    mounts.mount("tmpfs", root, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=755,size=32m")
    _make_top_level(root, opened)
    for name in ("proc", "dev", "sandbox", "tmp", "run", "var", "opt", "node_modules"):
        os.mkdir(f"{root}/{name}")
    os.symlink("/tmp", f"{root}/var/tmp")
    for name, source in spec.prefixes.items():
        os.makedirs(f"{root}{RUNTIMES_DIR}/{name}")
        mounts.bind_read_only(f"/proc/self/fd/{opened[source]}", f"{root}{RUNTIMES_DIR}/{name}")
    make_etc(root)
    _make_dev(root)
    _make_boot(root, spec, opened)
    _make_proc(root)
    for descriptor in opened.values():
        os.close(descriptor)
    mounts.pivot_to(root)
