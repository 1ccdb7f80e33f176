"""A worker that takes its START by itself, and process 1 that carries what the program writes: without Python."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time

import pytest

from isol8.engines.sandbox import Exit, Sandbox
from isol8.kernel.syscalls import MACHINE
from tests.engine.conftest import ALONE, LIMITS, Lab, python
from tests.support import machine
from tests.support.plans import python_plan

pytestmark = [pytest.mark.cgroup, pytest.mark.skipif(MACHINE != "x86_64", reason="there is no table for others")]
SPOKEN = "the program runs"


def _rests(pid: int) -> bool:
    """Whether it does nothing for a while."""

    def done() -> tuple[list[str], list[str]]:
        status = machine.status(pid)
        return [status[name] for name in status if name.endswith("ctxt_switches")], machine.stat(pid)[11:13]

    before = done()
    time.sleep(0.5)
    return done() == before


async def _run(sandbox: Sandbox, source: str, stdin: bytes = b"", cap: int = 1 << 20) -> tuple[int, bytes, bytes]:
    said = {"stdout": b"", "stderr": b""}
    async for event in sandbox.run(python_plan(source, "/usr/bin/python3"), stdin=stdin, output_bytes=cap):
        if isinstance(event, Exit):
            return event.code, said["stdout"], said["stderr"]
        said[event.stream] += event.data
    raise AssertionError("a run ends with Exit")


async def test_an_execution_wakes_no_interpreter_in_process_1(lab: Lab) -> None:
    """What it had to copy for that says so: an interpreter needs hundreds of pages."""
    sandbox = await lab.create()
    first = lab.processes(sandbox)[1]
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert await _run(sandbox, script) == (3, b"out\n", b"err\n")
    alone = machine.faults(first)
    assert await _run(sandbox, script) == (3, b"out\n", b"err\n")
    assert alone * 3 < machine.faults(first)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 60_000, 300_000])
async def test_standard_input_of_any_length(lab: Lab, size: int) -> None:
    sandbox = await lab.create()
    script = "import sys; data = sys.stdin.buffer.read(); print(len(data), data.count(b'x'))"
    for _ in range(2):
        assert await _run(sandbox, script, b"x" * size) == (0, b"%d %d\n" % (size, size), b"")


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 3_000_000])
async def test_output_of_any_length_in_order(lab: Lab, size: int) -> None:
    sandbox = await lab.create()
    script = f"import os, sys\nsys.stdout.write(('0123456789' * ({size} // 10 + 1))[:{size}])\nsys.stderr.write('end')"
    code, out, err = await _run(sandbox, script, cap=4_000_000)
    assert (code, len(out), err) == (0, size, b"end")
    assert out == (b"0123456789" * (size // 10 + 1))[:size]


async def test_what_is_past_the_cap_is_read_away_by_a_runner(lab: Lab) -> None:
    sandbox = await lab.create()
    script = "for _ in range(300): print('x' * 99_999)"
    code, out, _ = await _run(sandbox, script, cap=1000)
    assert (code, out) == (0, b"x" * 1001)
    assert await python(sandbox, "print(1)") == (0, "1\n")


async def test_a_last_byte_that_fills_the_cap(lab: Lab) -> None:
    """The runner is asked for when the first byte too many comes, however the pieces lie."""
    sandbox = await lab.create()
    script = "import sys, time\nfor _ in range(50):\n  sys.stdout.write('x' * 1001); sys.stdout.flush()"
    assert await _run(sandbox, script, cap=1000) == (0, b"x" * 1001, b"")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.abort()", 134),
        ("import os; os._exit(255)", 255),
        ("import os; os.execv('/bin/sh', ['sh', '-c', 'exit 7'])", 7),
        ("import os; os.close(1); os.close(2); os._exit(5)", 5),
    ],
)
async def test_every_end(lab: Lab, script: str, code: int) -> None:
    sandbox = await lab.create()
    for _ in range(2):
        assert (await _run(sandbox, script))[0] == code


async def test_orphans_are_reaped_while_a_program_runs(lab: Lab) -> None:
    """More of them than there may be processes."""
    sandbox = await lab.create(dataclasses.replace(LIMITS, pids=10))
    script = """
import os
for _ in range(50):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
    while sum(name.isdigit() for name in os.listdir("/proc")) > 5:
        pass
print("all")
"""
    assert await _run(sandbox, script) == (0, b"all\n", b"")


async def test_who_lives_on_may_write_and_is_not_waited_for(lab: Lab) -> None:
    sandbox = await lab.create()
    script = """
import os, sys, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.read(reader, 1)
    while not os.path.exists("/tmp/stop"):
        print("still here" * 1000, flush=True)
    open("/tmp/wrote", "w")
    os._exit(0)
print("done")
sys.stdout.flush()
os.write(writer, b"x")
os._exit(0)
"""
    code, out, _ = await _run(sandbox, script)
    assert (code, out[:5]) == (0, b"done\n")
    look = "import os, time; open('/tmp/stop', 'w')\nwhile not os.path.exists('/tmp/wrote'): time.sleep(0.01)"
    assert (await _run(sandbox, look))[0] == 0


async def test_closed_outputs_are_not_looked_at_again_and_again(lab: Lab) -> None:
    """Process 1 sleeps for as long as such a program runs."""
    sandbox = await lab.create()
    first = lab.processes(sandbox)[1]
    script = """
import os, time
os.close(1)
os.close(2)
os.close(0)
open("/sandbox/up", "w")
while not os.path.exists("/tmp/go"):
    time.sleep(0.01)
"""
    running = asyncio.create_task(_run(sandbox, script))
    await asyncio.to_thread(machine.until, lambda: os.path.exists(f"/proc/{first}/root/sandbox/up"), SPOKEN)
    await asyncio.to_thread(machine.until, lambda: _rests(first), "process 1 sleeps")
    os.close(os.open(f"/proc/{first}/root/tmp/go", os.O_CREAT | os.O_WRONLY))
    assert (await running)[0] == 0


async def test_a_kill_is_heard(lab: Lab) -> None:
    sandbox = await lab.create()
    first = lab.processes(sandbox)[1]
    script = (
        "import os, time\nprint('begun', flush=True)\nif os.fork() == 0: os.setsid()\nopen('up', 'w')\ntime.sleep(3600)"
    )
    running = asyncio.create_task(_run(sandbox, script))
    await asyncio.to_thread(machine.until, lambda: os.path.exists(f"/proc/{first}/root/sandbox/up"), SPOKEN)
    await sandbox.kill()
    assert await running == (137, b"begun\n", b"")
    assert await python(sandbox, ALONE) == (0, "alone\n")


async def test_a_worker_that_ended_is_replaced(lab: Lab) -> None:
    sandbox = await lab.create()
    before = lab.processes(sandbox)
    os.kill(before[2], signal.SIGKILL)
    await asyncio.to_thread(machine.until, lambda: 2 not in lab.processes(sandbox), "it is gone")
    assert await python(sandbox, "print('another')") == (0, "another\n")


async def test_what_comes_first_is_the_runners(lab: Lab) -> None:
    """Files, and plans that another interpreter has to follow."""
    sandbox = await lab.create()
    await sandbox.put("/sandbox/here", b"content")
    assert await python(sandbox, "print(open('here').read())") == (0, "content\n")
    other = await lab.create()
    plan = dataclasses.replace(python_plan("print(__name__)", "/usr/bin/python3"), warm=False)
    outputs = [event async for event in other.run(plan, stdin=b"", output_bytes=100)]
    assert [getattr(event, "data", event) for event in outputs] == [b"__main__\n", Exit(0)]


async def test_no_room_for_the_program_is_told(lab: Lab) -> None:
    sandbox = await lab.create(dataclasses.replace(LIMITS, sandbox_bytes=1 << 16))
    with pytest.raises(Exception, match="No room"):
        await _run(sandbox, "#" * 60_000 + "\n" * (1 << 16))
    with pytest.raises(Exception, match="No room"):
        await _run(sandbox, "#" * (1 << 17))
