"""A copy that is made before anybody asks for one: does it run, and which memory does a program use?

It runs in namespaces of its own, with a program of ours; what it shares with sandboxes is how it is made. What it used
until its very end, copies then have before they are waited for, rather than by one page fault after the other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from isol8.engines.native.copying.asking import ask
from isol8.engines.native.copying.errors import Unfit
from isol8.kernel import landlock, memory, mounts, namespaces, ptrace
from isol8.kernel.forked import lines_from_fork
from isol8.model import SANDBOX_DIR
from isol8.runner.worker import Worker

Ranges = list[tuple[int, int]]
_NEVER_WRITTEN = ("r-xp", "r--p")
_NOBODY = 65534
_LONGEST_S = 30.0
_NAMESPACES = (
    namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWCGROUP
    | namespaces.CLONE_NEWPID
)
# A little of what every program does; then it waits, to be watched while it ends.
_PROGRAM = b"""
const greet = (names) => names.map((name, number) => `${number + 1}: hello ${name}`);
for (const line of greet(["you", "all"])) console.log(line);
require("fs").readSync(0, Buffer.alloc(1));
"""
_OUTPUT = b"1: hello you\n2: hello all\n"


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is rehearsed: a program at `path`, by a copy that `template`, a socket, is asked for. `words` are those of a
    copy for the user it is given; `groups` says how many cgroups a copy enters; here they are none."""

    path: str
    template: int
    words: Callable[[int], bytes]
    groups: int

    def perform(self, enter_home: Callable[[], None]) -> tuple[Ranges, Ranges]:
        """The memory that a program (wrote, read), as (start, bytes). `enter_home` takes a process into the template's
        root. Raises Unfit when the copy does not run as it should."""
        lines = lines_from_fork(lambda: self._outside(enter_home), _LONGEST_S)
        if not lines:
            raise Unfit("a copy of it did not get through a program")
        written, read = json.loads(lines[0])
        return [(start, length) for start, length in written], [(start, length) for start, length in read]

    def _outside(self, enter_home: Callable[[], None]) -> Iterator[str]:
        enter_home()
        namespaces.unshare(_NAMESPACES)
        yield from lines_from_fork(self._as_runner, _LONGEST_S)

    def _as_runner(self) -> Iterator[str]:
        """In process 1 of namespaces like a sandbox's."""
        mounts.mount("tmpfs", SANDBOX_DIR, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=755,size=64k")
        mounts.mount("proc", "/proc", "proc", mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC)
        with open(self.path, "wb") as file:
            file.write(_PROGRAM)
        nothing = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        rules = landlock.ruleset_for("/", signals=True)
        copied = ask(self.template, self.words(_NOBODY), _NOBODY, rules, [nothing] * self.groups)
        if copied:
            yield json.dumps(_watched(copied))


def _watched(copied: Worker) -> tuple[Ranges, Ranges]:
    os.set_blocking(copied.stdout, True)
    output = b""
    while len(output) < len(_OUTPUT) and (part := os.read(copied.stdout, 4096)):
        output += part
    ptrace.seize(copied.pid, ptrace.UNTIL_IT_ENDS)
    ptrace.await_stop(copied.pid)
    written = memory.pages(memory.EXCLUSIVE, copied.pid)  # much of this is given back before the end
    ptrace.let_run(copied.pid)
    os.write(copied.stdin, b"\n")
    ptrace.await_stop(copied.pid)
    written |= memory.pages(memory.EXCLUSIVE, copied.pid)
    read = memory.pages(memory.PRESENT, copied.pid, _NEVER_WRITTEN)
    ptrace.detach(copied.pid)
    _, status = os.waitpid(copied.pid, 0)
    if status or output != _OUTPUT:
        raise Unfit(f"a copy of it ended with {status:#x}, having said {output!r}")
    return memory.ranges(written), memory.ranges(read)
