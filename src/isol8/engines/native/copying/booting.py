"""Booting an interpreter under a tracer, up to where it would open its program.

The tracer sees every system call. One that is not known to leave nothing behind but what `state.py` looks at makes the
interpreter unfit. io_uring is answered as in a sandbox, where it is not allowed.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.state import status_of
from isol8.kernel import ptrace
from isol8.kernel.ptrace import Call, Stop
from isol8.kernel.syscall_numbers import NUMBERS

_PAUSE_S = 0.002
_LONGEST_S = 30.0
_MOST_PATH_BYTES = 4096
_KNOWN = """
    access arch_prctl brk capget clone clone3 close dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait
    eventfd2 execve exit fadvise64 fcntl fstat futex getcwd getdents64 getegid geteuid getgid getpid getppid
    getrandom getrusage gettid gettimeofday getuid clock_gettime clock_getres ioctl lseek lstat madvise mmap
    mprotect mremap munmap newfstatat open openat pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64
    prlimit64 read readlink readlinkat restart_syscall rseq rt_sigaction rt_sigprocmask sched_getaffinity
    sched_getparam sched_getscheduler sched_yield set_robust_list set_tid_address stat statfs statx sysinfo tgkill
    umask uname write writev
"""
_IO_URING_SETUP = 425
_PR_SET_NAME, _PR_SET_VMA = 15, 0x53564D41
_FUTEX_WAITS = (0, 9)  # FUTEX_WAIT, FUTEX_WAIT_BITSET
_FUTEX_COMMAND = 0x7F
_FOREVER = 0xFFFFFFFF


def _numbers(names: str) -> frozenset[int]:
    found = (NUMBERS[name][0] for name in names.split())
    return frozenset(number for number in found if number is not None)


_FUTEX, _EPOLL_PWAIT, _OPENAT, _PRCTL, _EXECVE = (
    NUMBERS[name][0] for name in ("futex", "epoll_pwait", "openat", "prctl", "execve")
)
_KNOWN_NUMBERS, _CLONES = _numbers(_KNOWN), _numbers("clone clone3")


@dataclass(slots=True)
class Held:
    """An interpreter that is held before it opens its program, and its threads, oldest first. All are stopped, and
    traced by this process; `memory` is a descriptor of its memory, the caller's to close."""

    process: int
    threads: list[int]
    memory: int


class Booting:
    """A process that is about to execute an interpreter. `hold` once. Raises Unfit, OSError."""

    def __init__(self, process: int, path: str) -> None:
        self._process = process
        self._path = os.fsencode(path)
        self._threads: list[int] = []
        self._born: list[int] = []
        self._calls: dict[int, Call] = {}
        self._memory = -1
        self._held = False
        self._executed = False

    def hold(self) -> Held:
        """Let it boot; returns when it is about to open `path` and its other threads have nothing to do."""
        deadline = time.monotonic() + _LONGEST_S
        while not (self._held and self._rest_waits()):
            if time.monotonic() > deadline:
                raise Unfit("it did not come to its program")
            stop = ptrace.await_stop(wait=not self._held)
            if stop is None:
                time.sleep(_PAUSE_S)
            else:
                self._look_at(stop)
        if set(self._threads) != {self._process, *self._born}:
            raise Unfit("threads of it have ended, or were not seen to begin")
        for thread in self._born:
            ptrace.interrupt(thread)
            ptrace.await_stop(thread)
        return Held(self._process, [self._process, *self._born], self._memory)

    def _look_at(self, stop: Stop) -> None:
        if stop.thread not in self._threads:
            self._threads.append(stop.thread)
        if stop.result is not None:
            call = self._calls.pop(stop.thread, None)
            if call and call.number in _CLONES:
                self._born.append(stop.result)
        elif stop.call is None:
            pass
        elif self._is_program(stop):
            self._held = True
            return
        else:
            self._consider(stop.thread, stop.call)
        ptrace.resume(stop.thread, stop.signal)

    def _consider(self, thread: int, call: Call) -> None:
        self._calls[thread] = call
        if not self._executed:  # what comes before is code of ours
            self._executed = call.number == _EXECVE
            return
        if call.number == _IO_URING_SETUP:
            # An invalid call number is answered with ENOSYS, just as the filter of a sandbox answers.
            ptrace.set_general_registers(thread, ptrace.general_registers(thread) | {"orig_rax": ptrace.NO_CALL})
        elif call.number not in _KNOWN_NUMBERS:
            raise Unfit(f"it makes system call {call.number}")
        elif call.number == _PRCTL and call.arguments[0] not in (_PR_SET_NAME, _PR_SET_VMA):
            raise Unfit(f"it calls prctl {call.arguments[0]}")

    def _is_program(self, stop: Stop) -> bool:
        if not self._executed or stop.thread != self._process:
            return False
        if stop.call is None or stop.call.number != _OPENAT:
            return False
        if self._memory < 0:  # the memory is another one after execve
            self._memory = os.open(f"/proc/{self._process}/mem", os.O_RDWR | os.O_CLOEXEC)
        raw = os.pread(self._memory, _MOST_PATH_BYTES, stop.call.arguments[1])
        return raw.partition(b"\0")[0] == self._path

    def _rest_waits(self) -> bool:
        return all(self._waits(thread) for thread in self._threads if thread != self._process)

    def _waits(self, thread: int) -> bool:
        """Whether it sleeps, for as long as nobody wakes it, in a call that can be begun again."""
        call = self._calls.get(thread)
        if call is None or not status_of(self._process, thread)["State"].startswith("S"):
            return False
        if call.number == _FUTEX:
            waits = call.arguments[1] & _FUTEX_COMMAND in _FUTEX_WAITS
            return waits and call.arguments[3] == 0
        return call.number == _EPOLL_PWAIT and call.arguments[3] & _FOREVER == _FOREVER
