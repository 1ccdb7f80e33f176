"""The end of a Node.js program: an interpreter is not taken apart when nobody could see it being taken apart.

When its event loop has nothing left, and the callbacks of `exit` have run, Node.js frees its environment: it forbids
JavaScript for good (a DisallowJavascriptExecutionScope), and then gives back one by one what the kernel takes back all
at once. That takes as long as many a program. So its first thread stops at the beginning of that (exit_stops.py), and
its program is over. From there on code of the program's own can run only

- in other threads: there must be as many as there were before the program, none of which runs JavaScript;
- as machine code that was loaded, whose finalisers would be called: the loader's list must end where it ended;

what V8 says of itself at its end it says by flags, which must be those that it had; and what the C library would write
out at the very end is what V8 said on its stream since the program began, which must be nothing.

The exit code is that which is about to be returned from `main`: where it is on the stack is found in the rehearsal, by
changing it there and looking what the process ends with. If anything is not so, it goes on as ever. What it may still
have to write to files (SQLite closes its databases) it does when somebody asks for files: the runner then lets it go on
to its end first.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import os

_WORD = 8
_CODE_BYTES = 4
_STREAM_BYTES = 72  # of a FILE of glibc: what is in its buffers
_WORDS = 7


class Leaving:
    """What is known of an interpreter's end. `address`: of the function that takes it apart. `back`: where that one
    returns to. `code`: how far from the stack pointer the exit code is. `flags` and `flags_bytes`: where V8 has its
    flags. `tail`: where the loader will note what it loads next. `stream`: where the C library has standard output."""

    def __init__(
        self, address: int, back: int, code: int, flags: int, flags_bytes: int, tail: int, stream: int
    ) -> None:
        self.address = address
        self.back = back
        self.code = code
        self.flags = flags
        self.flags_bytes = flags_bytes
        self.tail = tail
        self.stream = stream

    def pack(self) -> bytes:
        words = (self.address, self.back, self.code, self.flags, self.flags_bytes, self.tail, self.stream)
        return b"".join(word.to_bytes(_WORD, "little") for word in words)

    @classmethod
    def unpack(cls, packed: bytes) -> Leaving:
        return cls(*(int.from_bytes(packed[at : at + _WORD], "little") for at in range(0, _WORD * _WORDS, _WORD)))


class Departure:
    """The end of one process, which has all its threads and has not begun its program. Made by who may read its
    memory. Raises OSError."""

    def __init__(self, pid: int, leaving: Leaving) -> None:
        self.address = leaving.address
        self._leaving = leaving
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._threads = os.open(f"/proc/{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            os.close(self._memory)
            raise
        self._before = self._now()

    def _now(self) -> tuple[int, bytes, bytes, bytes]:
        """The number of threads, V8's flags, what the loader has loaded since, and what is in the stream."""
        leaving = self._leaving
        return (
            os.fstat(self._threads).st_nlink,
            os.pread(self._memory, leaving.flags_bytes, leaving.flags),
            os.pread(self._memory, _WORD, leaving.tail),
            os.pread(self._memory, _STREAM_BYTES, leaving.stream),
        )

    def status(self, stack: int) -> int | None:
        """What waitpid will say of it, if nobody can see the rest. `stack`: its stack pointer, at `address`."""
        leaving = self._leaving
        try:
            words = os.pread(self._memory, leaving.code + _CODE_BYTES, stack)
            if len(words) < leaving.code + _CODE_BYTES or self._now() != self._before:
                return None
        except OSError:
            return None  # it was killed meanwhile
        if int.from_bytes(words[:_WORD], "little") != leaving.back:
            return None
        return words[leaving.code] << 8  # exit(3) takes the lowest byte
