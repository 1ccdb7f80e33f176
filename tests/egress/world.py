"""A small Internet of network namespaces, which exists for one test module: nothing of it can reach anything else.

The test itself, and every process and thread that it starts, is in one namespace: the machine's. One wire leads from it
to another, the world's, which has every address there is here, public and private, and in which origins and a name
server listen. The machine has an address of its own on that wire. The calling thread enters the namespace; `leave`
brings it back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from isol8.kernel.syscalls import check, libc
from tests.support import machine

_CLONE_NEWNET = 0x40000000
MACHINE = "93.184.215.1"  # the test's own, public
WORLD = "93.184.215.2"
PUBLIC = "93.184.215.14"
OTHER = "93.184.215.15"
NAMES = "93.184.215.53"
MACHINE_6, WORLD_6 = "2606:2800:21f::1", "2606:2800:21f::2"
PUBLIC_6 = "2606:2800:21f::14"
# Addresses of the world that nobody is to reach, as far as one can have them on a wire.
PRIVATE = (
    "10.1.2.3", "172.16.5.5", "192.168.7.7", "169.254.169.254", "100.64.1.1", "198.18.0.9", "192.0.2.9",
)  # fmt: skip
PRIVATE_6 = ("fd00:ec2::254", "64:ff9b::a01:203", "2002:a01:203::1", "2001:0:a01:203::1", "2001:db8::9")


def _ip(*commands: str) -> None:
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


def _await_link() -> None:
    """Until the wire carries: routes over it are there then."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        machine.until(lambda: probe.connect_ex((PUBLIC, 9)) == 0, "a way out")


def _here() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(namespace: int) -> None:
    check(libc.setns(ctypes.c_int(namespace), ctypes.c_int(_CLONE_NEWNET)), "setns")


def _new_namespace() -> int:
    check(libc.unshare(ctypes.c_int(_CLONE_NEWNET)), "unshare")
    return _here()


@dataclass
class World:
    """`home` is where the thread came from. Close it with `leave`."""

    home: int = field(default_factory=_here)
    outside: int = field(default_factory=_new_namespace)
    inside: int = field(default_factory=_new_namespace)

    def __post_init__(self) -> None:
        _ip(f"link add wire type veth peer name wire netns /proc/{os.getpid()}/fd/{self.outside}")
        _ip(f"addr add {MACHINE}/24 dev wire", f"addr add {MACHINE_6}/64 dev wire nodad")
        _ip("link set lo up", "link set wire up", f"route add default via {WORLD}")
        _ip(f"-6 route add default via {WORLD_6}")
        with self.abroad():
            _ip(f"addr add {WORLD}/24 dev wire", f"addr add {WORLD_6}/64 dev wire nodad")
            _ip(*(f"addr add {address}/32 dev wire" for address in (*PRIVATE, PUBLIC, OTHER, NAMES)))
            _ip(*(f"addr add {address}/128 dev wire nodad" for address in (*PRIVATE_6, PUBLIC_6)))
            _ip("link set lo up", "link set wire up")
        _await_link()

    @contextlib.contextmanager
    def abroad(self) -> Iterator[None]:
        """What this thread opens and starts within the block is in the world's namespace."""
        _enter(self.outside)
        try:
            yield
        finally:
            _enter(self.inside)

    def leave(self) -> None:
        """Back to where the thread came from. The namespaces end with the last thing that is in them."""
        _enter(self.home)
        for descriptor in (self.home, self.outside, self.inside):
            os.close(descriptor)
