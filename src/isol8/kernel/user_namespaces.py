"""User namespaces: what an ordinary user has instead of root.

In one of its own a process has every capability, over what belongs to that namespace alone. Loaded by the zygote: see
kernel/__init__.py.
"""

from __future__ import annotations

import os

from isol8.kernel import namespaces

_INITIAL_INODE = 0xEFFFFFFD  # include/uapi/linux/nsfs.h: USER_NS_INIT_INO, the same on every boot


def is_initial() -> bool:
    """Whether this process is in the machine's first user namespace, where root is really root."""
    return os.stat("/proc/self/ns/user").st_ino == _INITIAL_INODE


def enter_alone(uid: int, user: int, group: int) -> None:
    """Move this process into a user namespace with one user and one group: both are called `uid` there, and are the
    caller's own `user` and `group` outside. Needs no privilege, and one thread. Raises OSError.

    The caller has all capabilities there, bounding set included. Its supplementary groups stay: the kernel lets nobody
    drop groups who has no right to, since a group may be what forbids (user_namespaces(7), "setgroups").
    """
    namespaces.unshare(namespaces.CLONE_NEWUSER)
    map_alone(uid, user, group)


def map_alone(uid: int, user: int, group: int) -> None:
    """The second half of `enter_alone`, in a namespace that has no ids yet. Raises OSError."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {user} 1"), ("gid_map", f"{uid} {group} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
