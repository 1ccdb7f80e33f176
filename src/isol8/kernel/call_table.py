"""A table of system calls that a few instructions of x86-64 make one after the other, beginning in the caller.

A process that the table makes runs nothing else: no interpreter, and so it writes to no memory but the table's results.
It comes back into the interpreter by a step that leaves.
"""

from __future__ import annotations

import ctypes
import struct

from isol8.kernel.syscall_numbers import NUMBERS
from isol8.kernel.syscalls import MACHINE, check, libc, locked_libc

# One step: the call's number and six arguments; the steps to go on with when its result, less another word, is zero,
# more, or less; the result; that other word; where to copy the result to, and where to copy its lower half to, highest
# byte first. A number below zero leaves: the first argument is then the caller's result, and the step that led there is
# noted as the result. The instructions keep the address of the step in r15, and use no stack of their own but two
# words, which are there before any process is made.
_STEP = struct.Struct("=q6Q3Qqq2Q")
_WORDS = _STEP.size // 8
_FIRST_ARGUMENT, _ZERO, _RESULT = 1, 7, 10
# Of both tables that there are (the other: engines/native/copying/machine.py): the arguments of the step in r15.
LOAD_ARGUMENTS = bytes.fromhex(
    "498b7f08"  # mov rdi, [r15+8]
    "498b7710"  # mov rsi, [r15+16]
    "498b5718"  # mov rdx, [r15+24]
    "4d8b5720"  # mov r10, [r15+32]
    "4d8b4728"  # mov r8, [r15+40]
    "4d8b4f30"  # mov r9, [r15+48]
)
_CODE = bytes.fromhex(
    "4156"  #        push r14
    "4157"  #        push r15
    "4989ff"  #      mov r15, rdi
    "498b07"  # run: mov rax, [r15]
    "4885c0"  #      test rax, rax
    "784b"  #        js leave
    f"{LOAD_ARGUMENTS.hex()}"
    "0f05"  #        syscall
    "49894750"  #    mov [r15+80], rax
    "498b5760"  #    mov rdx, [r15+96]
    "488902"  #      mov [rdx], rax
    "498b5768"  #    mov rdx, [r15+104]
    "89c1"  #        mov ecx, eax
    "0fc9"  #        bswap ecx
    "890a"  #        mov [rdx], ecx
    "492b4758"  #    sub rax, [r15+88]
    "4d8b7738"  #    mov r14, [r15+56]
    "740a"  #        jz next
    "4d8b7740"  #    mov r14, [r15+64]
    "7f04"  #        jg next
    "4d8b7748"  #    mov r14, [r15+72]
    "4c89fa"  # next: mov rdx, r15
    "4d89f7"  #      mov r15, r14
    "ebad"  #        jmp run
    "49895750"  # leave: mov [r15+80], rdx
    "498b4708"  #    mov rax, [r15+8]
    "415f"  #        pop r15
    "415e"  #        pop r14
    "c3"  #          ret
)
_CODE_BYTES = 4096
_READ, _WRITE, _EXECUTE = 1, 2, 4
_PRIVATE = 0x22  # MAP_PRIVATE | MAP_ANONYMOUS
# Of those that no sandbox may call.
_NUMBERS = {"mount": 165, "unshare": 272, "setns": 308, "process_vm_writev": 311}
_PR_GET_TID_ADDRESS = 40
ROBUST_HEAD_BYTES = 24
_WORD = (1 << 64) - 1


def number(name: str) -> int:
    """The number of a system call on x86-64."""
    found = _NUMBERS.get(name) or NUMBERS[name][0]
    assert found is not None
    return found


class CallTable:
    """Room for a table, and as many bytes as are to be `reserved`, at the same place in this process and its clones.
    Raises OSError where there is none.

    Write it by `put`, `call`, `leave` and `finish`; then `set` the words that differ, and `fork`.
    """

    def __init__(self, room: int, reserved: int = 0) -> None:
        if MACHINE != "x86_64":
            raise OSError(f"there are no instructions for {MACHINE}")
        self._bytes = _CODE_BYTES + room + reserved
        libc.mmap.restype = ctypes.c_ssize_t
        self._code = check(libc.mmap(None, ctypes.c_size_t(self._bytes), _READ | _WRITE, _PRIVATE, -1, None), "mmap")
        ctypes.memmove(self._code, _CODE, len(_CODE))
        check(libc.mprotect(ctypes.c_void_p(self._code), ctypes.c_size_t(_CODE_BYTES), _READ | _EXECUTE), "mprotect")
        # The lock of the interpreter is kept: a clone must not lose it half way.
        self._enter = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_size_t)(self._code)
        self._start = self._code + _CODE_BYTES
        self._reserved = self._start + room
        self._words = memoryview((ctypes.c_char * room).from_address(self._start)).cast("B").cast("q")
        self._steps: list[tuple[str, tuple[int | str, ...], tuple[str, str, str], tuple[int, int, int]]] = []
        self._labels: dict[str, int] = {}
        self._names: dict[str, list[int]] = {}
        self._end = len(self._words) * 8

    def put(self, content: bytes) -> int:
        """Write something that steps point to; its address."""
        self._end = (self._end - len(content)) & -8
        assert self._end > len(self._steps) * _STEP.size, "the table is full"
        ctypes.memmove(self._start + self._end, content, len(content))
        return self._start + self._end

    def reserve(self, size: int) -> int:
        """Memory that is written to only by calls; its address."""
        at = self._reserved
        self._reserved += size
        assert self._reserved <= self._code + self._bytes, "there is not enough room"
        return at

    def write(self, address: int, content: bytes) -> None:
        """Over what was `put` there."""
        ctypes.memmove(address, content, len(content))

    def text(self, content: str) -> int:
        """The same, of a string of C's."""
        return self.put(content.encode() + b"\0")

    def call(
        self,
        name: str,
        *arguments: int | str,
        zero: str = "",
        more: str = "",
        failed: str = "failed",
        less: int = 0,
        copy: int = 0,
        reversed_copy: int = 0,
    ) -> None:
        """A step. Strings among the arguments are names of words to be `set`; `zero`, `more` and `failed` are where it
        goes on, if not with what is added next; `less` is taken from the result first. `copy` is where the result is
        written too (8 bytes), and `reversed_copy` where its lower half is, the highest byte first."""
        self._steps.append((name, arguments, (zero, more, failed), (less, copy, reversed_copy)))

    def label(self, name: str) -> None:
        """Name what is added next."""
        self._labels[name] = len(self._steps)

    def leave(self, name: str, result: int) -> None:
        """A step of that name by which `fork` returns."""
        self.label(name)
        self._steps.append(("", (result,), (name, name, name), (0, 0, 0)))

    def finish(self) -> None:
        """Write the steps."""
        nowhere = self.put(bytes(8))
        for at, (name, arguments, ways, (less, copy, reversed_copy)) in enumerate(self._steps):
            values = []
            for index, argument in enumerate(arguments):
                if isinstance(argument, str):
                    self._names.setdefault(argument, []).append(at * _WORDS + _FIRST_ARGUMENT + index)
                values.append(0 if isinstance(argument, str) else argument & _WORD)
            values += [0] * (6 - len(values))
            nexts = [self._address(self._labels[way] if way else at + 1) for way in ways]
            copies = (copy or nowhere, reversed_copy or nowhere)
            step = _STEP.pack(number(name) if name else -1, *values, *nexts, 0, less, *copies)
            ctypes.memmove(self._address(at), step, len(step))
        assert len(self._steps) * _STEP.size <= self._end, "the table is full"

    def _address(self, step: int) -> int:
        return self._start + step * _STEP.size

    def set(self, name: str, value: int) -> None:
        """Fill in a word of this time's, wherever it is used."""
        for at in self._names.get(name, ()):
            self._words[at] = value

    def addresses(self, name: str) -> list[int]:
        """Where the words are that `set` fills in."""
        return [self._start + at * 8 for at in self._names[name]]

    def aim(self, label: str, zero: str) -> None:
        """Have the step with that label go on elsewhere when its result is zero."""
        self._words[self._labels[label] * _WORDS + _ZERO] = self._address(self._labels[zero])

    def fork(self, label: str = "") -> int:
        """From the first step, or the one with that label, until one leaves; its result, in every process that leaves:
        more than zero in those that the table made. What `namespaces.clone` says of threads holds here too."""
        ctypes.pythonapi.PyOS_BeforeFork()
        result: int = self._enter(self._address(self._labels[label]) if label else self._start)
        if result > 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
        return result

    def result(self, label: str) -> int:
        """What the call of that step gave last, in this process."""
        return self._words[self._labels[label] * _WORDS + _RESULT]

    def read(self, address: int, size: int) -> bytes:
        """What is at an address that `put` gave, in this process."""
        return ctypes.string_at(address, size)

    def led_to(self, label: str) -> tuple[str, int]:
        """Of a step that left: the call from which it was come to, and what that gave."""
        step = (self.result(label) - self._start) // _STEP.size
        return self._steps[step][0], self._words[step * _WORDS + _RESULT]

    def forget(self) -> None:
        """Give back the memory. The object is then good for nothing."""
        check(libc.munmap(ctypes.c_void_p(self._code), ctypes.c_size_t(self._bytes)), "munmap")


def thread_words() -> tuple[int, int]:
    """Where the C library keeps the number of this thread, and its list of robust locks: a process that is made without
    the library must be told of both. Raises OSError where they are not as they should be."""
    found = (ctypes.c_size_t * 3)()
    at = ctypes.addressof(found)
    none = ctypes.c_ulong(0)
    check(libc.prctl(_PR_GET_TID_ADDRESS, ctypes.c_ulong(at), none, none, none), "PR_GET_TID_ADDRESS")
    call = ctypes.c_long(NUMBERS["get_robust_list"][0] or 0)
    check(locked_libc.syscall(call, ctypes.c_long(0), ctypes.c_void_p(at + 8), ctypes.c_void_p(at + 16)), "robust list")
    if not found[0] or not found[1] or found[2] != ROBUST_HEAD_BYTES:
        raise OSError("the C library has not told the kernel of this thread")
    if ctypes.c_int.from_address(found[0]).value != libc.gettid():
        raise OSError("the C library has another number for this thread")
    return found[0], found[1]
