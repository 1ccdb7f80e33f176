"""A sandbox's last program, whose end is told of before the kernel has taken it apart."""

from __future__ import annotations

import asyncio
import dataclasses
import os

import pytest

from isol8.engines.sandbox import Sandbox
from isol8.kernel.syscalls import MACHINE
from isol8.model import Boot, SandboxSpec
from tests.engine.conftest import LIMITS, Lab, python
from tests.support import machine

pytestmark = [
    pytest.mark.cgroup,
    pytest.mark.skipif(MACHINE != "x86_64", reason="on this machine every end is waited for"),
]
HELD = Boot(executable="/usr/bin/python3", argv=("python3", "/sandbox/main.py"), path="/sandbox/main.py")
# The runner begins to watch a program that it has let go already, which may be over by then.
_TRACED = "import time\nwhile ('TracerPid:\\t0\\n' in open('/proc/self/status').read()) is {}: time.sleep(0.001)\n"
WATCHED, UNWATCHED = _TRACED.format(True), _TRACED.format(False)
# So that there is something that would be found in use.
TAKE = """
import fcntl, os, socket
taken = socket.socket(); taken.bind(('127.0.0.1', 4000)); taken.listen()
fcntl.flock(open('/tmp/lock', 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)
print('taken', flush=True); os._exit(5)
"""
# By clone(2): whoever is watched makes others be watched. By exit(2): the first thread leaves, and the others go on.
SELF_MADE = """
import ctypes, os, signal, threading, time
libc = ctypes.CDLL(None)
for number in range(20):
    if libc.syscall(56, 0x2000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        time.sleep(3600 if number % 2 else 0)
        os._exit(0)
"""
LEAVE = SELF_MADE + "threading.Thread(target=lambda: time.sleep(0.2) or os._exit(6)).start()\nlibc.syscall(60, 3)"
# What only a tracer could do, and the taking up of each process that there is.
TRACE = (
    SELF_MADE
    + """
libc.ptrace.argtypes = [ctypes.c_long] * 4
done = []
for pid in {0, 1, 2, 3, 4, os.getpid(), os.getppid()}:
    for request in (0, 1, 3, 6, 7, 8, 16, 17, 24, 0x4200, 0x4201, 0x4204, 0x4206, 0x4207, 0x4208, 0x4209):
        for options in (0, 0x40):
            if libc.ptrace(request, pid, 0, options) == 0: done.append((hex(request), pid, options))
print(done, flush=True); os._exit(0)
"""
)


def _left(lab: Lab, sandbox: Sandbox) -> list[str]:
    """The states of all processes in a sandbox but its runner."""
    return [state for number, pid in lab.processes(sandbox).items() if number > 1 for state in machine.stat(pid)[:1]]


async def _until_left(lab: Lab, sandbox: Sandbox, states: list[str]) -> None:
    """Who was killed takes a moment to end."""
    await asyncio.to_thread(
        machine.until, lambda: _left(lab, sandbox) == states, lambda: f"{states}, not {_left(lab, sandbox)}"
    )


async def _held(lab: Lab) -> Sandbox:
    """One with a runner: where a Python worker takes its START by itself, nobody traces it."""
    return await lab.engine.create(SandboxSpec(runtime="held", limits=LIMITS, boot=HELD))


async def test_it_is_left_as_it_was_and_taken_apart_when_something_comes_after_all(lab: Lab) -> None:
    sandbox = await _held(lab)
    assert await python(sandbox, WATCHED + TAKE, last=True) == (5, "taken\n")
    assert _left(lab, sandbox) == ["t"]
    assert await python(sandbox, TAKE.replace("5", "6")) == (6, "taken\n")
    assert _left(lab, sandbox) == []


async def test_a_kill_takes_it_apart(lab: Lab) -> None:
    sandbox = await _held(lab)
    assert await python(sandbox, WATCHED + TAKE, last=True) == (5, "taken\n")
    await sandbox.kill()
    assert _left(lab, sandbox) == []


async def test_it_goes_with_its_sandbox(lab: Lab) -> None:
    sandbox = await _held(lab)
    assert await python(sandbox, WATCHED + TAKE, last=True) == (5, "taken\n")
    await lab.engine.destroy(sandbox)
    await asyncio.to_thread(machine.until, lambda: not machine.cgroup_members(os.getpid()), "nobody is left")


async def test_one_that_is_not_the_last_is_waited_for(lab: Lab) -> None:
    for sandbox in (await lab.create(), await _held(lab)):
        assert await python(sandbox, TAKE) == (5, "taken\n")
        assert _left(lab, sandbox) == []


@pytest.mark.parametrize("held", [False, True])
async def test_its_last_words_are_all_there(lab: Lab, held: bool) -> None:
    sandbox = await (_held(lab) if held else lab.create())
    speak = "import os\nfor _ in range(1000): os.write(1, b'x' * 1000)\nos.write(2, b'end'); os._exit(0)"
    assert await python(sandbox, speak, last=True) == (0, "x" * 1_000_000 + "end")


async def test_it_is_killed_like_any_other(lab: Lab) -> None:
    sandbox = await lab.create()
    running = asyncio.create_task(python(sandbox, SELF_MADE + "time.sleep(3600)", last=True))
    await _until_left(lab, sandbox, ["S"] * 11)
    await sandbox.kill()
    assert (await running)[0] == 137
    await _until_left(lab, sandbox, [])


async def test_those_that_it_has_watched_hold_nobody_up(lab: Lab) -> None:
    sandbox = await lab.create()
    assert await python(sandbox, SELF_MADE + "print('end', flush=True); os._exit(3)", last=True) == (3, "end\n")
    assert await python(await lab.create(), LEAVE, last=True) == (6, "")
    await sandbox.kill()
    await _until_left(lab, sandbox, [])


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("last", [False, True])
async def test_tracing_is_of_no_use_to_a_program(lab: Lab, held: bool, last: bool) -> None:
    sandbox = await (_held(lab) if held else lab.create())
    assert await python(sandbox, TRACE, last=last) == (0, "[]\n")
    # All that there is: to see the first program end, if nobody sees to it.
    child = TRACE.replace("for pid", "if (child := os.fork()): os.waitpid(child, 0); os._exit(0)\nfor pid")
    code, done = await python(await (_held(lab) if held else lab.create()), child, last=last)
    assert (code, done) in ((0, "[]\n"), (0, "[('0x4206', 2, 64)]\n"))


async def test_one_that_is_kept_from_its_end_is_killed_like_any_other(lab: Lab) -> None:
    """By its own child, which has it stop there."""
    sandbox = await _held(lab)
    keep = (
        # The first child's end is a signal, at which the runner lets go for good: then another can take it up.
        f"{WATCHED}{SELF_MADE.replace('range(20)', 'range(1)')}{UNWATCHED}"
        "ready, go = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    while libc.ptrace(0x4206, 2, 0, 0x40): time.sleep(0.01)\n"
        "    print('taken up', flush=True)\n"
        "    open('taken', 'w')\n"
        "    os.close(go)\n"
        "    time.sleep(3600)\n"
        "os.close(go); os.read(ready, 1); os._exit(0)"
    )
    running = asyncio.create_task(python(sandbox, keep, last=True))
    taken = f"/proc/{lab.processes(sandbox)[1]}/root/sandbox/taken"
    await asyncio.to_thread(
        machine.until,
        lambda: os.path.exists(taken) and "t" in _left(lab, sandbox),
        lambda: str(_left(lab, sandbox)),
    )
    await sandbox.kill()
    assert await running == (0, "taken up\n")
    await _until_left(lab, sandbox, [])


async def test_a_memory_kill_is_told_of_as_ever(lab: Lab) -> None:
    sandbox = await lab.create(dataclasses.replace(LIMITS, memory_bytes=32 << 20))
    assert (await python(sandbox, "b = bytearray(100 << 20)", last=True))[0] == 137
    assert (await lab.engine.usage(sandbox)).oom_kills == 1
