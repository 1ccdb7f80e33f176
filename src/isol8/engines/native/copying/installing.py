"""Making a template of an interpreter that is held: one thread, no descriptors but one, and a table of system calls.

All is done from outside, by making it call the kernel: nothing of the interpreter's own code runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from isol8.engines.native.copying.booting import Held
from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.machine import EVERY_SIGNAL, Places, find_places
from isol8.engines.native.copying.state import (
    Descriptor,
    Thread,
    descriptors_of,
    mappings_of,
    status_of,
    thread_of,
)
from isol8.kernel import ptrace
from isol8.kernel.call_table import number

CONTROL = 63  # its descriptor of the socket by which copies are asked for; out of the way of all others
CODE_BYTES = 4096
DATA_BYTES = 40 * 4096
_PAGE = 4096
_PR_GET_TID_ADDRESS = 40
_DO_FORK, _NOT_SHARED = 11, 0x22  # MADV_DOFORK; MAP_PRIVATE | MAP_ANONYMOUS
_READ_WRITE, _READ_EXECUTE = 3, 5
_NOT_INHERITED = "dc"
_STRANGE_FLAGS = {"wf", "um", "uw", "lo", "ht"}  # wiped on fork, userfaultfd, locked, huge pages of hugetlbfs
_STREAMS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Image:
    """A template that waits for its table. `code` and `data` are where there is room for it. `not_inherited`: memory
    that the interpreter keeps from its forks. `thread_id`: where the C library keeps the first thread's number, and
    `thread_id_offset` how far that is from every thread's own data."""

    process: int
    memory: int
    threads: list[Thread]
    descriptors: list[Descriptor]
    places: Places
    code: int
    data: int
    not_inherited: list[tuple[int, int]]
    thread_id: int
    thread_id_offset: int
    brk: int


class Operation:
    """A held interpreter, operated on. Raises OSError, Unfit: it must be killed then."""

    def __init__(self, held: Held) -> None:
        self.process = held.process
        self.memory = held.memory
        self.threads = [thread_of(held.process, thread) for thread in held.threads]
        self.descriptors = [each for each in descriptors_of(held.process) if each.number != CONTROL]
        self.mappings = list(mappings_of(held.process))
        self._check(held)

    def _check(self, held: Held) -> None:
        if sorted(int(name) for name in os.listdir(f"/proc/{held.process}/task")) != sorted(held.threads):
            raise Unfit("it has threads that were not seen to begin")
        for thread in held.threads:
            status = status_of(held.process, thread)
            if int(status["SigPnd"], 16) or int(status["ShdPnd"], 16):
                raise Unfit("it has a signal pending")
        for mapping in self.mappings:
            if mapping.permissions.endswith("s") or _STRANGE_FLAGS & set(mapping.flags):
                raise Unfit(f"it has memory at {mapping.start:#x} that forks do not get a copy of")
        if self._timers(held.process):
            raise Unfit("it has a timer")
        for expected, each in enumerate(self.descriptors):
            if each.number != expected or each.kind == "other":
                raise Unfit(f"it has descriptor {each.number}, {each.identity or each.kind}")

    @staticmethod
    def _timers(process: int) -> bool:
        try:
            with open(f"/proc/{process}/timers") as file:
                return bool(file.read())
        except FileNotFoundError:
            return False  # a kernel without CONFIG_CHECKPOINT_RESTORE; that none was made has been seen

    def perform(self) -> Image:
        """Leave nothing but the first thread, stopped, with every signal blocked, and room for a table."""
        first = self.threads[0]
        self._cancel(first)
        for thread in self.threads[1:]:
            self._end(thread)
        room = self._call("mmap", 0, CODE_BYTES + DATA_BYTES, _READ_WRITE, _NOT_SHARED, -1, 0)
        self._call("mprotect", room, CODE_BYTES, _READ_EXECUTE)
        data = room + CODE_BYTES
        self._call("prctl", _PR_GET_TID_ADDRESS, data, 0, 0, 0)
        thread_id = int.from_bytes(os.pread(self.memory, 8, data), "little")
        not_inherited = self._inherit_all()
        self._call("close_range", 0, CONTROL - 1, 0)
        ptrace.set_signal_mask(self.process, EVERY_SIGNAL)
        return Image(
            self.process,
            self.memory,
            self.threads,
            self.descriptors,
            self._places(),
            room,
            data,
            not_inherited,
            thread_id,
            thread_id - first.registers["fs_base"],
            self._call("brk", 0),
        )

    def _places(self) -> Places:
        for mapping in self.mappings:
            if mapping.permissions == "r-xp" and os.path.basename(mapping.path).startswith("libc.so"):
                text = os.pread(self.memory, mapping.end - mapping.start, mapping.start)
                return find_places(mapping.start, text)
        raise Unfit("it has no C library of its own")

    def _inherit_all(self) -> list[tuple[int, int]]:
        """Let forks have the memory that they were not to have; which that was, as (start, bytes)."""
        found: list[tuple[int, int]] = []
        for mapping in self.mappings:
            if _NOT_INHERITED not in mapping.flags or "io" in mapping.flags:
                continue
            if found and sum(found[-1]) == mapping.start:
                found[-1] = (found[-1][0], mapping.end - found[-1][0])
            else:
                found.append((mapping.start, mapping.end - mapping.start))
        for start, length in found:
            self._call("madvise", start, length, _DO_FORK)
        return found

    def _cancel(self, thread: Thread) -> None:
        """Not to make the call that it is about to make."""
        ptrace.set_general_registers(thread.id, ptrace.general_registers(thread.id) | {"orig_rax": ptrace.NO_CALL})
        ptrace.resume(thread.id)
        ptrace.await_stop(thread.id)

    def _end(self, thread: Thread) -> None:
        registers = thread.registers | {"rax": number("exit"), "rdi": 0, "orig_rax": ptrace.NO_CALL}
        ptrace.set_general_registers(thread.id, registers)
        try:
            while True:
                ptrace.let_run(thread.id)
                ptrace.await_stop(thread.id)
        except ProcessLookupError:
            pass  # as it should

    def _call(self, name: str, *arguments: int) -> int:
        """Let the first thread make a system call. Raises OSError when that fails."""
        registers = dict(self.threads[0].registers)
        registers |= {"rax": number(name), "orig_rax": ptrace.NO_CALL}
        registers |= dict(zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False))
        ptrace.set_general_registers(self.process, registers)
        while True:
            ptrace.resume(self.process)
            stop = ptrace.await_stop(self.process)
            if stop is not None and stop.result is not None:
                break
        if stop.result < 0:
            raise OSError(-stop.result, f"{name}, in an interpreter: {os.strerror(-stop.result)}")
        return stop.result
