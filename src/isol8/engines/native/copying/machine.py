"""Of x86-64: a few instructions that make system calls from a table, and the frames that rt_sigreturn(2) reads."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from isol8.engines.native.copying.errors import Unfit
from isol8.kernel.call_table import LOAD_ARGUMENTS
from isol8.kernel.ptrace import WORD

# One step of a table: what is in the registers of a system call, the stack pointer, and which step comes next when the
# result is zero, more, or an error. The instructions keep the address of the step in r15, and use no stack.
STEP = struct.Struct("=8Q3Q")
CODE = bytes.fromhex(
    "498b07"  # run:  mov rax, [r15]
    f"{LOAD_ARGUMENTS.hex()}"
    "498b6738"  #     mov rsp, [r15+56]
    "0f05"  #         syscall
    "4885c0"  # done: test rax, rax
    "4d8b7740"  #     mov r14, [r15+64]
    "740a"  #         jz next
    "4d8b7748"  #     mov r14, [r15+72]
    "7f04"  #         jg next
    "4d8b7750"  #     mov r14, [r15+80]
    "4d89f7"  # next: mov r15, r14
    "ebc7"  #         jmp run
)
DONE = 33  # where `done` is
EVERY_SIGNAL = WORD

_CALL_AND_RETURN = b"\x0f\x05\xc3"  # syscall; ret
_RESTORER = b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"  # mov rax, 15 (rt_sigreturn); syscall
_IN_CALL = ("rax", "rdi", "rsi", "rdx", "r10", "r8", "r9")
_SIGCONTEXT = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip",
    "eflags",
)  # fmt: skip
_USER_CS, _USER_SS = 0x33, 0x2B
_INTERRUPTS = 0x202  # eflags with nothing but interrupts allowed
_SS_DISABLE = 2
_HAS_XSTATE, _STRICT_SS = 0x1, 0x6  # uc_flags
_MAGIC1, _MAGIC2 = 0x46505853, 0x46505845
_FEATURES_AT, _RESERVED_AT, _RESERVED_END = 464, 464, 512
FRAME_BYTES = 8 + 16 + 24 + 256 + 8


@dataclass(frozen=True, slots=True)
class Places:
    """Two places in the C library's code: `call`, that makes a system call and returns, and `restorer`, by which a
    signal's function ends."""

    call: int
    restorer: int


def find_places(start: int, text: bytes) -> Places:
    """In the code of a C library, mapped at `start`. Raises Unfit."""
    call, restorer = text.find(_CALL_AND_RETURN), text.find(_RESTORER)
    if call < 0 or restorer < 0:
        raise Unfit("its C library is not one whose code is known")
    return Places(start + call, start + restorer)


@dataclass(frozen=True, slots=True)
class Frame:
    """What rt_sigreturn is to restore: general registers, blocked signals, and the address of other registers (0: as
    they are when a process begins)."""

    registers: Mapping[str, int]
    blocked: int = EVERY_SIGNAL
    extended: int = 0

    def pack(self, places: Places) -> bytes:
        """As on a stack: the address of the restorer, and struct ucontext."""
        general = struct.pack("=18Q", *(self.registers.get(name, 0) & WORD for name in _SIGCONTEXT))
        # cs, gs, fs, ss; err, trapno, oldmask, cr2; fpstate; reserved
        context = general + struct.pack("=4H5Q64x", _USER_CS, 0, 0, _USER_SS, 0, 0, 0, 0, self.extended)
        flags = _STRICT_SS | (_HAS_XSTATE if self.extended else 0)
        # uc_flags, uc_link; the alternate stack: pointer, flags, size
        head = struct.pack("=QQQiiQ", flags, 0, 0, _SS_DISABLE, 0, 0)
        return struct.pack("=Q", places.restorer) + head + context + struct.pack("=Q", self.blocked)


def calling(places: Places, stack: int, number: int, *arguments: int, then: int = 0) -> Frame:
    """A frame that makes a system call, and returns to what `stack` points to. `then` is put in r15."""
    registers = dict(zip(_IN_CALL, (number, *arguments), strict=False))
    return Frame(registers | {"rip": places.call, "rsp": stack, "r15": then, "eflags": _INTERRUPTS})


def as_frame_holds(extended: bytes) -> bytes:
    """The other registers as rt_sigreturn wants them: struct _fpx_sw_bytes in what the processor leaves free."""
    features = struct.unpack_from("=Q", extended, _FEATURES_AT)[0]
    size = len(extended)
    reserved = struct.pack("=IIQI28x", _MAGIC1, size + 4, features, size)
    assert len(reserved) == _RESERVED_END - _RESERVED_AT
    return extended[:_RESERVED_AT] + reserved + extended[_RESERVED_END:] + struct.pack("=I", _MAGIC2)


@dataclass(slots=True)
class Step:
    """A step of a table. `then` is where it goes on; on zero `zero` instead, if that is set; on an error, `failed`."""

    number: int
    arguments: tuple[int, ...] = ()
    stack: int = 0
    then: Step | None = None
    zero: Step | None = None
    failed: Step | None = None
    address: int = field(default=0)

    def pack(self) -> bytes:
        assert self.then, "a step leads nowhere"
        assert self.failed, "a step has no way out"
        zero = self.zero or self.then
        arguments = [value & WORD for value in (*self.arguments, 0, 0, 0, 0, 0, 0)[:6]]
        return STEP.pack(self.number, *arguments, self.stack, zero.address, self.then.address, self.failed.address)
