"""Containers that are kept: whoever was connected is cut off, in the middle of anything; another one adopts them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import signal
from pathlib import Path

import pytest

from isol8.engines.sandbox import Exit, Sandbox
from isol8.errors import EngineFailure
from isol8.runner import frames
from isol8.runner.frames import encode, encode_fields
from isol8.runner.resumption import resumed
from tests.docker.conftest import LIMITS, Lab, python
from tests.support import daemon, machine
from tests.support.plans import python_plan

NOTE: dict[str, object] = {"about": "this one"}


async def _kept(lab: Lab) -> Sandbox:
    sandbox = await lab.create(kept=True)
    await lab.engine.keep(sandbox, NOTE)
    return sandbox


async def _again(lab: Lab, before: Sandbox) -> Sandbox:
    """Lose the connection, and adopt the one sandbox there is."""
    await lab.lose_client()
    assert await lab.engine.kept() == [before.id]
    sandbox, note = await lab.engine.adopt(before.id)
    assert (sandbox.id, note) == (before.id, NOTE)
    return sandbox


async def test_it_is_as_it_was(lab: Lab) -> None:
    before = await _kept(lab)
    assert await python(before, "open('/sandbox/kept', 'w').write('x'); open('/tmp/too', 'w')") == (0, "")
    await lab.engine.limit(before, dataclasses.replace(LIMITS, memory_bytes=96 << 20, pids=5))
    sandbox = await _again(lab, before)
    assert sandbox.spec == before.spec
    assert await python(sandbox, "import os; print(open('/sandbox/kept').read(), os.listdir('/tmp'))") == (
        0,
        "x ['too']\n",
    )
    assert (await python(sandbox, "bytearray(120 << 20)"))[0] == 137
    assert (await lab.engine.usage(sandbox)).oom_kills == 1
    await lab.engine.limit(sandbox, LIMITS)
    assert (await python(sandbox, "bytearray(120 << 20)"))[0] == 0
    again = await _again(lab, sandbox)
    assert again.spec.limits == LIMITS
    await lab.engine.destroy(again)
    assert not daemon.containers(os.getpid())


async def test_what_is_not_noted_down_is_not_kept(lab: Lab) -> None:
    await lab.create(kept=True)
    await lab.engine.keep(await lab.create(), NOTE)
    await lab.lose_client()
    assert await lab.engine.kept() == []
    await asyncio.to_thread(machine.until, lambda: not daemon.containers(os.getpid()), "they are gone")


LOUD = """
import os, subprocess
subprocess.Popen(['sleep', '{mark}'])
open('/sandbox/begun', 'w').close()
while True: os.write(1, {noise!r} * 1000)
"""


async def test_a_program_in_full_flow_ends(lab: Lab) -> None:
    """Its output, which may look like frames, is in the way of the answer."""
    before = await _kept(lab)
    mark = f"3600.{secrets.randbelow(10**12)}"
    noise = resumed(secrets.token_bytes(16)) + encode(frames.READY, 0) + encode(frames.EXIT, 1, bytes(4))
    running = asyncio.create_task(_read(before, LOUD.format(mark=mark, noise=noise)))
    await asyncio.to_thread(machine.until, lambda: machine.running(mark), "it runs")
    sandbox = await _again(lab, before)
    with pytest.raises(EngineFailure):
        await running
    await asyncio.to_thread(machine.until, lambda: not machine.running(mark), "it has ended")
    assert await python(sandbox, "import os; print(os.path.exists('/sandbox/begun'))") == (0, "True\n")


async def _read(sandbox: Sandbox, source: str) -> None:
    plan = python_plan(source, "python3")
    async for event in sandbox.run(plan, stdin=b"", output_bytes=1 << 40):
        assert not isinstance(event, Exit)


START = encode_fields(frames.START, 1, [("executable", b"/bin/sh"), ("path", b"/sandbox/x"), ("source", b"x" * 5000)])
UPLOAD = encode_fields(frames.PUT, 7, [("path", b"/sandbox/half")]) + encode(frames.DATA, 7, bytes(300_000))


@pytest.mark.parametrize(
    "cut",
    [START[:1], START[:8], START[:9], START[:3000], UPLOAD[:200_000], UPLOAD, UPLOAD + encode(frames.END, 7)[:5]],
    ids=["a kind", "a header", "no payload", "half a payload", "half an upload", "no end", "half an end"],
)
async def test_a_frame_that_was_cut_off_is_forgotten(lab: Lab, cut: bytes) -> None:
    before = await _kept(lab)
    before._connection.send(cut)
    await before._connection.drain()
    await asyncio.sleep(0.1)  # the more of it has arrived, the harder
    sandbox = await _again(lab, before)
    assert await python(sandbox, "import os; print(os.listdir('/sandbox'))") == (0, "['main.py']\n")
    await sandbox.put("/sandbox/whole", b"x" * 300_000)
    assert await sandbox.get("/sandbox/whole", 1 << 20) == b"x" * 300_000


@pytest.mark.parametrize("size", [100_000, 300_000, 5_000_000])
async def test_what_comes_late_is_forgotten(lab: Lab, size: int) -> None:
    """The daemon still has some of it when the next server comes, since the runner was held up."""
    before = await _kept(lab)
    with daemon.client() as client:
        first = client.get(f"/containers/isol8-{before.id}/json").json()["State"]["Pid"]
    os.kill(first, signal.SIGSTOP)
    try:
        before._connection.send((UPLOAD + encode(frames.DATA, 7, bytes(300_000)) * 20)[:size])
        await asyncio.sleep(1)  # until it is on its way: there is no telling from here
        await lab.lose_client()
        assert await lab.engine.kept() == [before.id]
        adopting = asyncio.create_task(lab.engine.adopt(before.id))
        await asyncio.sleep(1)
    finally:
        os.kill(first, signal.SIGCONT)
    sandbox, _ = await adopting
    assert await python(sandbox, "import os; print(os.listdir('/sandbox'))") == (0, "['main.py']\n")


async def test_a_download_that_was_cut_off(lab: Lab) -> None:
    before = await _kept(lab)
    await before.put("/sandbox/large", bytes(50 << 20))
    reading = asyncio.create_task(before.get("/sandbox/large", 64 << 20))
    await asyncio.sleep(0.05)  # some of it is on its way
    sandbox = await _again(lab, before)
    await asyncio.gather(reading, return_exceptions=True)
    assert len(await sandbox.get("/sandbox/large", 64 << 20)) == 50 << 20


async def test_one_that_has_ended_meanwhile_is_not_adopted(lab: Lab) -> None:
    before = await _kept(lab)
    await lab.lose_client()
    assert await lab.engine.kept() == [before.id]
    with daemon.client() as client:
        client.delete(f"/containers/isol8-{before.id}", params={"force": 1})
    for _ in range(2):
        with pytest.raises(EngineFailure):
            await lab.engine.adopt(before.id)
    assert await lab.engine.kept() == []


async def test_nobody_else_adopts_it(lab: Lab) -> None:
    before = await _kept(lab)
    with pytest.raises(EngineFailure):
        await lab.engine.adopt(before.id)
    with pytest.raises(EngineFailure):
        await lab.engine.adopt("../x")
    assert await python(before, "print(1)") == (0, "1\n")


async def test_the_record_is_nobody_elses_to_read(lab: Lab, tmp_path: Path) -> None:
    sandbox = await _kept(lab)
    home = tmp_path / "home"
    (record,) = home.iterdir()
    assert (home.stat().st_mode & 0o777, record.stat().st_mode & 0o777) == (0o700, 0o600)
    await lab.engine.destroy(sandbox)
    assert list(home.iterdir()) == []


# Also while somebody is connected, and an interpreter starts: what is said meanwhile is nothing.
@pytest.mark.parametrize("patience_s", [20.0])
async def test_it_ends_when_nobody_comes(lab: Lab, patience_s: float) -> None:
    before = await _kept(lab)
    mark = f"3600.{secrets.randbelow(10**12)}"
    await python(before, f"import subprocess; subprocess.Popen(['sleep', '{mark}'])")
    running = asyncio.create_task(python(before, "while True: pass"))
    await lab.engine.close()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.to_thread(machine.until, lambda: not daemon.containers(os.getpid()), "it is gone")
    await asyncio.to_thread(machine.until, lambda: not machine.running(mark), "it has ended")
    await lab.lose_client()
    with pytest.raises(EngineFailure):
        await lab.engine.adopt(before.id)
