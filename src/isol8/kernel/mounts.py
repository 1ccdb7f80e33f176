"""Mounts: binding, read-only trees, tmpfs with sizes, and changing the root."""

from __future__ import annotations

import ctypes
import os

from isol8.kernel.syscalls import check, libc, syscall

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 0x1
_OPEN_TREE_CLOEXEC = 0x80000
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_FSPICK_CLOEXEC = 0x1
_FSPICK_EMPTY_PATH = 0x8
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_RECONFIGURE = 7


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError naming the target."""
    result = libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    check(result, f"mount {target}")


def unmount(target: str) -> None:
    """Take a mount away; what still uses it keeps it until it is done. Raises OSError."""
    check(libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def bind(source: str, target: str) -> None:
    """Show `source` (file or tree, with the mounts below it) at `target` as well."""
    mount(source, target, flags=MS_BIND | MS_REC)


def bind_read_only(source: str, target: str) -> None:
    """Bind a tree so that nothing under it can be written, run setuid, or opened as a device.

    mount_setattr reaches the mounts below as well, which a remount does not.
    """
    bind(source, target)
    set_read_only(target)


def set_read_only(target: str) -> None:
    """Make a mounted tree read-only, nosuid, nodev, with all mounts below it. Needs Linux 5.12."""
    restrict(target, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)


def restrict(target: str, attributes: int) -> None:
    """Add attributes to a mounted tree, with all mounts below it. Needs Linux 5.12. Raises OSError.

    Unlike a remount it takes none away, which a user namespace may not do to mounts that came from outside it.
    """
    _restrict(_AT_FDCWD, target.encode(), _AT_RECURSIVE, attributes)


def _restrict(directory: int, path: bytes, flags: int, attributes: int) -> None:
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    structure = attributes.to_bytes(8, "little") + bytes(24)
    syscall("mount_setattr", directory, path + b"\0", flags, structure, 32)


def open_read_only(directory: int) -> int:
    """A mount of the open `directory`, read-only, nosuid, nodev, that is nowhere yet: `attach` puts it somewhere, in
    whatever mount namespace that is called. Returns its descriptor, the caller's to close. Raises OSError."""
    tree = syscall("open_tree", directory, b"\0", _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH)
    try:
        _restrict(tree, b"", _AT_EMPTY_PATH, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
    except OSError:
        os.close(tree)
        raise
    return tree


def attach(tree: int, target: str) -> None:
    """Put what `open_read_only` gave at `target`, a directory of this mount namespace; one below /run is made, on a
    tmpfs that covers what /run held, unless there is one on the way. Raises OSError."""
    if target.startswith("/run/"):
        if not os.path.ismount("/run") and not os.path.ismount(os.path.dirname(target)):
            mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=64k")
        os.makedirs(target, exist_ok=True)
    syscall("move_mount", tree, b"\0", _AT_FDCWD, target.encode() + b"\0", _MOVE_MOUNT_F_EMPTY_PATH)


def move(source: str, target: str) -> None:
    """Put a mount elsewhere. Raises OSError."""
    mount(source, target, flags=MS_MOVE)


def make_private() -> None:
    """Stop mounts of this namespace from reaching any other."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def pivot_to(root: str) -> None:
    """Make `root` (a mount point) the root of this mount namespace, and let go of the old one entirely."""
    os.chdir(root)
    # pivot_root(".", ".") stacks the old root on the new one, see pivot_root(2): no directory is needed for it.
    syscall("pivot_root", b".\0", b".\0")
    unmount(".")
    os.chdir("/")


def resize_tmpfs(directory: int, size_bytes: int) -> None:
    """Give the tmpfs that is mounted at the open descriptor `directory` another size.

    Works on a mount of another namespace, through a descriptor, so no path is resolved. Raises OSError: EINVAL
    when more than `size_bytes` is in use.
    """
    context = syscall("fspick", directory, b"\0", _FSPICK_CLOEXEC | _FSPICK_EMPTY_PATH)
    try:
        value = str(size_bytes).encode() + b"\0"
        syscall("fsconfig", context, _FSCONFIG_SET_STRING, b"size\0", value, 0)
        syscall("fsconfig", context, _FSCONFIG_CMD_RECONFIGURE, None, None, 0)
    finally:
        os.close(context)


def resize_in(pid: int, path: str, size_bytes: int) -> None:
    """Give the tmpfs at `path` (relative) in the root of a process another size. No name on the way may be the
    process's to change. Raises OSError, see `resize_tmpfs`."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)
    try:
        resize_tmpfs(directory, size_bytes)
    finally:
        os.close(directory)
