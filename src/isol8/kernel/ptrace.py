"""ptrace(2) of another process, on x86-64: stops, registers, and what else the kernel knows of a thread.

All calls for one process must come from the thread that began with `seize`. Every one raises OSError.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

from isol8.kernel.syscalls import MACHINE, check, libc, syscall

GENERAL = (
    "r15",
    "r14",
    "r13",
    "r12",
    "rbp",
    "rbx",
    "r11",
    "r10",
    "r9",
    "r8",
    "rax",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "orig_rax",
    "rip",
    "cs",
    "eflags",
    "rsp",
    "ss",
    "fs_base",
    "gs_base",
    "ds",
    "es",
    "fs",
    "gs",
)  # struct user_regs_struct
NO_CALL = (1 << 64) - 1  # in orig_rax: no system call is to be made, or begun again
WORD = (1 << 64) - 1
_SEIZE, _INTERRUPT, _DETACH, _CONT, _SYSCALL = 0x4206, 0x4207, 17, 7, 24
_GETREGSET, _SETREGSET, _GETSIGMASK, _SETSIGMASK = 0x4204, 0x4205, 0x420A, 0x420B
_GET_SYSCALL_INFO, _GET_RSEQ_CONFIGURATION = 0x420E, 0x420F
# What a process can be traced for, and its death with the tracer (EXITKILL).
EVERY_CALL = 0x1 | 0x8 | 0x10 | 0x100000  # TRACESYSGOOD, TRACECLONE, TRACEEXEC
UNTIL_IT_ENDS = 0x40 | 0x100000  # TRACEEXIT: a stop while it still has its memory
_NT_PRSTATUS, _NT_X86_XSTATE = 1, 0x202
_XSTATE_BYTES = 16384
_INFO_BYTES = 88
_RSEQ_BYTES = 24
_WALL = 0x40000000
_SYSCALL_STOP = 5 | 0x80
_ENTRY = 1


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that a thread is about to make."""

    number: int
    arguments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """A thread has stopped. `call`: before it makes that one. `result`: after a call. `signal`: to be given to it when
    it goes on; 0: none."""

    thread: int
    call: Call | None = None
    result: int | None = None
    signal: int = 0


def _ptrace(name: str, request: int, thread: int, address: int = 0, data: int = 0) -> int:
    arguments = (ctypes.c_long(request), ctypes.c_long(thread), ctypes.c_void_p(address), ctypes.c_void_p(data))
    return check(libc.ptrace(*arguments), f"ptrace {name}")


def seize(process: int, options: int = EVERY_CALL) -> None:
    """Trace a process, with EVERY_CALL also all threads that it makes. It stops now; see `await_stop`."""
    if MACHINE != "x86_64":
        raise OSError(errno.ENOSYS, f"tracing is not written for {MACHINE}")
    _ptrace("SEIZE", _SEIZE, process, 0, options)
    interrupt(process)


def interrupt(thread: int) -> None:
    """Make a thread stop, in whatever it is; see `await_stop`."""
    _ptrace("INTERRUPT", _INTERRUPT, thread)


def resume(thread: int, signal: int = 0) -> None:
    """Let a stopped thread go on to its next system call, or the end of the one it is in."""
    _ptrace("SYSCALL", _SYSCALL, thread, 0, signal)


def let_run(thread: int) -> None:
    """Let a stopped thread go on until something but a system call stops it."""
    _ptrace("CONT", _CONT, thread)


def detach(process: int) -> None:
    """Trace it no longer; it goes on."""
    _ptrace("DETACH", _DETACH, process)


def await_stop(thread: int = -1, *, wait: bool = True) -> Stop | None:
    """The next stop, of any thread by default; None without `wait` when there is none. Raises ProcessLookupError when
    a thread has ended."""
    found, status = os.waitpid(thread, _WALL | (0 if wait else os.WNOHANG))
    if found == 0:
        return None
    if not os.WIFSTOPPED(status):
        raise ProcessLookupError(errno.ESRCH, f"thread {found} has ended, with status {status:#x}")
    signal, event = os.WSTOPSIG(status), status >> 16
    if signal == _SYSCALL_STOP:
        return _at_call(found)
    # What is not an event is a signal on its way; SIGTRAP of a stop that nobody asked for is not passed on.
    return Stop(found, signal=0 if event or signal == 5 else signal)


def _at_call(thread: int) -> Stop:
    # struct ptrace_syscall_info: op (1), pad (3), arch (4), two pointers; then nr and 6 arguments, or the result
    info = ctypes.create_string_buffer(_INFO_BYTES)
    _ptrace("GET_SYSCALL_INFO", _GET_SYSCALL_INFO, thread, _INFO_BYTES, ctypes.addressof(info))
    if info.raw[0] == _ENTRY:
        number, *arguments = struct.unpack_from("=7Q", info.raw, 24)
        return Stop(thread, call=Call(number, tuple(arguments)))
    return Stop(thread, result=struct.unpack_from("=q", info.raw, 24)[0])


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _registers(name: str, request: int, thread: int, kind: int, content: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(content, len(content))
    vector = _Vector(ctypes.addressof(buffer), len(content))
    _ptrace(name, request, thread, kind, ctypes.addressof(vector))
    return buffer.raw[: vector.length]


def general_registers(thread: int) -> dict[str, int]:
    """The general registers, by the names in GENERAL."""
    raw = _registers("GETREGSET", _GETREGSET, thread, _NT_PRSTATUS, bytes(8 * len(GENERAL)))
    return dict(zip(GENERAL, struct.unpack(f"={len(GENERAL)}Q", raw), strict=True))


def set_general_registers(thread: int, registers: dict[str, int]) -> None:
    """Give a stopped thread all of them."""
    raw = struct.pack(f"={len(GENERAL)}Q", *(registers[name] & WORD for name in GENERAL))
    _registers("SETREGSET", _SETREGSET, thread, _NT_PRSTATUS, raw)


def extended_registers(thread: int) -> bytes:
    """Those for floating point and vectors, as XSAVE writes them."""
    return _registers("GETREGSET", _GETREGSET, thread, _NT_X86_XSTATE, bytes(_XSTATE_BYTES))


def signal_mask(thread: int) -> int:
    """The blocked signals, one bit each."""
    mask = ctypes.c_uint64()
    _ptrace("GETSIGMASK", _GETSIGMASK, thread, 8, ctypes.addressof(mask))
    return mask.value


def set_signal_mask(thread: int, blocked: int) -> None:
    """Block these signals and no others."""
    mask = ctypes.c_uint64(blocked)
    _ptrace("SETSIGMASK", _SETSIGMASK, thread, 8, ctypes.addressof(mask))


def restartable_sequences(thread: int) -> tuple[int, int, int]:
    """What it has told rseq(2): (address, length, signature); 0 as the address: nothing. Linux 5.13."""
    buffer = ctypes.create_string_buffer(_RSEQ_BYTES)
    size = ctypes.sizeof(buffer)
    _ptrace("GET_RSEQ_CONFIGURATION", _GET_RSEQ_CONFIGURATION, thread, size, ctypes.addressof(buffer))
    address, length, signature = struct.unpack_from("=QII", buffer.raw)
    return address, length, signature


def robust_list(thread: int) -> tuple[int, int]:
    """What it has told set_robust_list(2): (address, length)."""
    head, length = ctypes.c_ulong(), ctypes.c_size_t()
    syscall("get_robust_list", thread, ctypes.addressof(head), ctypes.addressof(length))
    return head.value, length.value
