"""A sandbox's last Node.js program, which is over before its interpreter has taken itself apart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from isol8.engines.sandbox import Sandbox
from isol8.kernel.syscalls import MACHINE
from isol8.model import Command, Plan, SandboxSpec
from isol8.runtimes.base import Install
from isol8.runtimes.registry import RUNTIMES, find_installed
from tests.engine.conftest import LIMITS, Lab, laboratory, output
from tests.support import machine

# Not among the tests of cgroups: there is no Node.js in the emulated machine.
pytestmark = pytest.mark.skipif(MACHINE != "x86_64", reason="on this machine every end is waited for")
# (program, exit code, what it says among other things, what is left of it)
STOPPED, APART = "stopped with all it had", "taken apart"
# Nothing of it is left in the flags; but the C library has still to write what it made V8 say.
TOGGLED = """
const { setFlagsFromString } = require("v8");
setFlagsFromString("--trace-gc"); setFlagsFromString("--expose-gc");
require("vm").runInNewContext("gc")();
setFlagsFromString("--no-trace-gc"); setFlagsFromString("--no-expose-gc");
"""
TRAP = (
    "process.on('SIGTRAP', () => clearInterval(it)); const it = setInterval(() => {}, 9); process.kill(process.pid, 5)"
)
PROGRAMS = {
    "nothing": ("", 0, "", STOPPED),
    "a code": ("process.exitCode = 300", 300 & 255, "", STOPPED),
    "a handler": ("process.on('exit', (code) => { console.log(code); process.exitCode = 7 })", 7, "0\n", STOPPED),
    "it waits for itself": ("await new Promise(() => {})", 13, "Warning", STOPPED),
    "after timers": ("setTimeout(() => console.log(1), 5)", 0, "1\n", STOPPED),
    "an exit": ("process.exit(5)", 5, "", STOPPED),
    "an error": ("throw 1", 1, "", STOPPED),
    "a pool": ("require('fs').promises.readFile('/etc/passwd').then(() => console.log(2))", 0, "2\n", APART),
    "flags": ("require('v8').setFlagsFromString('--trace-gc'); console.log(3)", 0, "3\n", APART),
    "what V8 has said": (TOGGLED, 0, "Mark-Compact", APART),
    "a signal": (TRAP, 0, "", APART),
}
WORKER = """
const { Worker } = require("worker_threads");
const worker = new Worker("setInterval(() => {}, 1000)", { eval: true });
worker.on("online", () => worker.unref());
"""
DATABASE = """
const { DatabaseSync } = require("node:sqlite");
const database = new DatabaseSync("/sandbox/x.db");
database.exec("pragma journal_mode = wal; create table t (a); insert into t values (1)");
"""


# When it is let go, it stops at once, for ever.
STOPPER = """
const wait = `while ! grep -q "State:.t" /proc/${process.pid}/status; do :; done; kill -STOP ${process.pid}`;
require("child_process").spawn("sh", ["-c", wait], { stdio: "ignore", detached: true }).unref();
"""


def _node() -> Install:
    found = find_installed(os.path.expanduser(os.environ.get("ISOL8_DATA_DIR", "~/.isol8"))).get("node")
    if not found:
        pytest.skip("Node.js is not installed")
    return found


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    node = _node()
    assert node.prefix
    async with laboratory({"node": node.prefix}) as lab:
        yield lab


def _command(source: str) -> Command:
    return Command(runtime="node", source=source.encode(), limits=LIMITS, timeout_ms=60_000, output_bytes=1 << 20)


def _plan(source: str) -> Plan:
    return RUNTIMES["node"].plan(_command(source), _node())


async def _sandbox(lab: Lab) -> Sandbox:
    boot = RUNTIMES["node"].boot(_node())
    return await lab.engine.create(SandboxSpec(runtime="node", limits=LIMITS, boot=boot))


def _left(lab: Lab, sandbox: Sandbox) -> list[tuple[str, int]]:
    """(state, number of mappings) of all processes in a sandbox but its runner."""
    others = [pid for number, pid in lab.processes(sandbox).items() if number > 1]
    # What has just gone has neither a state nor mappings.
    return [(state, machine.mappings(pid)) for pid in others for state in machine.stat(pid)[:1]]


async def _mappings(lab: Lab, sandbox: Sandbox) -> int:
    """How many the interpreter that waits has. Who made it takes a moment to end."""
    await asyncio.to_thread(machine.until, lambda: len(_left(lab, sandbox)) == 1, "the interpreter, and it alone")
    ((_, mappings),) = _left(lab, sandbox)
    return mappings


async def test_programs_are_over_when_nobody_sees_the_rest(lab: Lab) -> None:
    found = {}
    for name, (source, _, said, _) in PROGRAMS.items():
        sandbox = await _sandbox(lab)
        before = await _mappings(lab, sandbox)
        code, text = await output(sandbox, _plan(source), last=True)
        found[name] = source, code, said if said in text else text, _state(_left(lab, sandbox), before)
        await lab.engine.destroy(sandbox)
    assert found == PROGRAMS


def _state(left: list[tuple[str, int]], before: int) -> str:
    """One that has been taken apart has given its heap back, a third of `before` mappings; who just exits has not."""
    if all(maps < before * 0.8 for _, maps in left):
        return APART
    assert [state for state, _ in left] == ["t"]
    return STOPPED


async def test_a_worker_is_ended_first(lab: Lab) -> None:
    sandbox = await _sandbox(lab)
    before = await _mappings(lab, sandbox)
    assert await output(sandbox, _plan(WORKER), last=True) == (0, "")
    assert _state(_left(lab, sandbox), before) == APART


async def test_what_it_still_writes_is_written_when_files_are_asked_for(lab: Lab) -> None:
    sandbox = await _sandbox(lab)
    assert (await output(sandbox, _plan(DATABASE), last=True))[0] == 0
    assert len(_left(lab, sandbox)) == 1
    assert len(await sandbox.get("/sandbox/x.db", 1 << 20)) > 4096
    assert _left(lab, sandbox) == []


async def test_the_next_program_finds_nothing_of_it(lab: Lab) -> None:
    sandbox = await _sandbox(lab)
    assert await output(sandbox, _plan("console.log(1)"), last=True) == (0, "1\n")
    assert await output(sandbox, _plan("console.log(2)")) == (0, "2\n")
    assert _left(lab, sandbox) == []


async def test_a_kill_and_the_end_of_its_sandbox_end_it(lab: Lab) -> None:
    sandbox = await _sandbox(lab)
    assert await output(sandbox, _plan("console.log(1)"), last=True) == (0, "1\n")
    await sandbox.kill()
    assert _left(lab, sandbox) == []
    other = await _sandbox(lab)
    assert await output(other, _plan("console.log(1)"), last=True) == (0, "1\n")
    await lab.engine.destroy(other)
    await asyncio.to_thread(machine.until, lambda: other.id not in lab.engine._groups, "it is gone")


async def test_one_that_is_not_the_last_ends_itself(lab: Lab) -> None:
    sandbox = await _sandbox(lab)
    assert await output(sandbox, _plan("process.exitCode = 3; console.log(1)")) == (3, "1\n")
    assert _left(lab, sandbox) == []


async def test_one_that_does_not_come_to_its_end_is_killed(lab: Lab) -> None:
    sandbox = await _sandbox(lab)
    assert (await output(sandbox, _plan(STOPPER), last=True))[0] == 0

    def stopping() -> bool:
        threads = [each for pid in lab.processes(sandbox).values() for each in machine.threads(pid)]
        return any(machine.stat(each)[:1] == ["T"] for each in threads)

    await asyncio.to_thread(machine.until, stopping, "its child has stopped it")
    assert await sandbox.get("/sandbox/main.js", 1 << 20) == STOPPER.encode()
    assert not [state for state, _ in _left(lab, sandbox) if state in "tT"]
