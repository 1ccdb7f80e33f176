"""The native engine by itself: making, limiting, watching and destroying sandboxes, and surviving its own parts."""

import asyncio
import dataclasses
import os
import time

import pytest

from isol8.errors import Conflict, EngineFailure, NotFound, SandboxFull
from isol8.model import Boot, Plan, SandboxSpec
from isol8.runtimes.registry import RUNTIMES, find_installed
from tests.engine.conftest import ALONE, LIMITS, Lab, output, python
from tests.support import machine
from tests.support.creations import give_up_making
from tests.support.plans import python_plan

pytestmark = pytest.mark.cgroup


async def test_a_sandbox_runs_and_is_gone(lab: Lab) -> None:
    sandbox = await lab.create()
    assert await python(sandbox, "print('hello')") == (0, "hello\n")
    usage = await lab.engine.usage(sandbox)
    assert usage.cpu_ms >= 0
    assert usage.peak_memory_bytes > 0
    await lab.engine.destroy(sandbox)
    await lab.engine.destroy(sandbox)
    assert sandbox.dead
    with pytest.raises(EngineFailure):
        await python(sandbox, "print('hello')")


async def test_a_kill_for_memory_that_takes_all_of_it(lab: Lab) -> None:
    """The cgroup ends with process 1, and with it the kernel's count; whoever asks may have been held up meanwhile."""
    sandbox = await lab.create(dataclasses.replace(LIMITS, memory_bytes=64 << 20, sandbox_bytes=256 << 20))
    group = machine.cgroups_of_sandbox(os.getpid(), sandbox.id)
    with pytest.raises(EngineFailure, match="the sandbox ended"):  # the runner has nobody else to be killed before it
        await sandbox.put("/sandbox/large", bytes(200 << 20))
    await asyncio.to_thread(machine.until, lambda: not any(map(os.path.exists, group)), "its cgroup is gone")
    assert (await lab.engine.usage(sandbox)).oom_kills >= 1
    await lab.engine.destroy(sandbox)
    with pytest.raises(EngineFailure, match="the sandbox is gone"):
        await lab.engine.usage(sandbox)


async def test_one_that_is_not_waited_for_any_more_does_not_stay(lab: Lab) -> None:
    """A client goes away while its sandbox is being made."""
    await lab.engine.destroy(await lab.create())
    before = machine.cgroups(os.getpid()), machine.descendants(lab.supervisor.pid)
    await give_up_making(lab.engine, lab.create)

    def now() -> tuple[list[str], set[int]]:
        return machine.cgroups(os.getpid()), machine.descendants(lab.supervisor.pid)

    await asyncio.to_thread(machine.until, lambda: now() == before, lambda: f"{before}, not {now()}")


async def test_sandboxes_share_nothing(lab: Lab) -> None:
    first, second = await asyncio.gather(lab.create(), lab.create())
    script = "import os; print(os.getuid(), os.path.exists('/tmp/x')); open('/tmp/x', 'w')"
    _, one = await python(first, script)
    _, two = await python(second, script)
    assert one.split()[0] != two.split()[0]
    assert {one.split()[1], two.split()[1]} == {"False"}


async def test_limits_change_on_a_live_sandbox(lab: Lab) -> None:
    sandbox = await lab.create()
    fill = "open('/sandbox/x', 'wb').write(bytes({} << 20))"
    assert (await python(sandbox, fill.format(40)))[0] == 0
    code, text = await python(sandbox, fill.format(100))
    assert (code, "No space left" in text) == (1, True)
    await lab.engine.limit(sandbox, dataclasses.replace(LIMITS, sandbox_bytes=128 << 20))
    assert (await python(sandbox, fill.format(100)))[0] == 0
    with pytest.raises(Conflict):
        await lab.engine.limit(sandbox, dataclasses.replace(LIMITS, sandbox_bytes=50 << 20))
    assert (await python(sandbox, "print(1)")) == (0, "1\n")


async def test_memory_kills_are_counted(lab: Lab) -> None:
    sandbox = await lab.create(dataclasses.replace(LIMITS, memory_bytes=32 << 20))
    code, _ = await python(sandbox, "b = bytearray(100 << 20)")
    assert code == 137
    assert (await lab.engine.usage(sandbox)).oom_kills == 1
    await lab.engine.limit(sandbox, LIMITS)
    assert (await python(sandbox, "b = bytearray(100 << 20); print(len(b))"))[0] == 0


async def test_processes_are_counted(lab: Lab) -> None:
    sandbox = await lab.create(dataclasses.replace(LIMITS, pids=5))
    script = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(3600)
            os._exit(0)
        made += 1
except BlockingIOError:
    print(made, flush=True)
    os._exit(0)
"""
    assert await python(sandbox, script) == (0, "4\n")
    await sandbox.kill()
    assert await python(sandbox, "print(1)") == (0, "1\n")


async def test_a_worker_is_forked_ahead_when_asked_for(lab: Lab) -> None:
    sandbox = await lab.create()
    assert len(lab.processes(sandbox)) == 2
    assert await python(sandbox, "print(1)") == (0, "1\n")
    assert len(lab.processes(sandbox)) == 1
    for _ in range(2):
        sandbox.prepare()
    await sandbox.put("/sandbox/behind", b"")  # the runner does one thing after the other
    assert len(lab.processes(sandbox)) == 2
    assert await python(sandbox, "print(2)") == (0, "2\n")


async def test_kill_ends_everything_but_the_sandbox(lab: Lab) -> None:
    sandbox = await lab.create()
    script = "import os, time\nif os.fork() == 0: os.setsid()\nprint('up', flush=True)\ntime.sleep(3600)"
    running = asyncio.create_task(python(sandbox, script))
    done, _ = await asyncio.wait([running], timeout=0.5)
    assert not done
    await sandbox.kill()
    code, _ = await running
    assert code == 137
    assert await python(sandbox, ALONE) == (0, "alone\n")


async def test_output_past_the_cap_blocks_nobody(lab: Lab) -> None:
    sandbox = await lab.create()
    code, text = await python(sandbox, "print('x' * 10_000_000)", output_bytes=1000)
    assert (code, len(text)) == (0, 1001)


async def test_files(lab: Lab) -> None:
    sandbox = await lab.create()
    content = os.urandom(3_000_000)
    await sandbox.put("/sandbox/a/b/c.bin", content)
    assert await sandbox.get("/sandbox/a/b/c.bin", 1 << 30) == content
    await python(sandbox, "import os; os.mkfifo('/sandbox/pipe'); os.symlink('/etc/passwd', '/sandbox/link')")
    for path in ("/sandbox/pipe", "/sandbox/link", "/sandbox/a", "/sandbox/a/b/c.bin"):
        with pytest.raises(Exception, match=path):
            await sandbox.get(path, 1000)


async def test_a_full_sandbox_keeps_nothing_of_a_file(lab: Lab) -> None:
    sandbox = await lab.create(dataclasses.replace(LIMITS, sandbox_bytes=1 << 20))
    with pytest.raises(Exception, match="No room"):
        await sandbox.put("/sandbox/big", bytes(4 << 20))
    assert await python(sandbox, "import os; print(os.listdir())") == (0, "['main.py']\n")


async def test_the_end_of_the_connection_ends_the_sandboxes(lab: Lab) -> None:
    empty = len(machine.cgroups(os.getpid()))
    await asyncio.gather(*(lab.create() for _ in range(3)))
    assert len(machine.cgroups(os.getpid())) >= empty + 3
    await lab.engine.close()
    await asyncio.to_thread(machine.until, lambda: len(machine.cgroups(os.getpid())) == empty, "they are gone")


async def test_a_socket_on_a_sandboxs_loopback(lab: Lab) -> None:
    """Programs in there reach it, and nobody else does; the supervisor stays where it is."""
    home = os.readlink(f"/proc/{lab.supervisor.pid}/ns/net")
    sandbox, other = await asyncio.gather(lab.create(), lab.create())
    # It may still have those that it has just sent.
    before = len(machine.descriptors(lab.supervisor.pid))
    listener = await lab.engine.listen(sandbox, 3128)
    listener.setblocking(False)
    knock = "import socket; s = socket.create_connection(('127.0.0.1', 3128), 120); print(s.recv(9).decode())"
    knocking = asyncio.create_task(python(sandbox, knock))
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    connection.send(b"welcome")
    connection.close()
    assert await knocking == (0, "welcome\n")
    assert (await python(other, knock))[0] == 1
    with pytest.raises(Conflict, match="port 3128"):
        await lab.engine.listen(sandbox, 3128)
    listener.close()
    (await lab.engine.listen(sandbox, 3128)).close()
    assert os.readlink(f"/proc/{lab.supervisor.pid}/ns/net") == home
    tasks = f"/proc/{lab.supervisor.pid}/task"
    machine.until(lambda: len(os.listdir(tasks)) == 1, "the thread that was in the sandbox's network is gone")
    await asyncio.to_thread(
        machine.until, lambda: len(machine.descriptors(lab.supervisor.pid)) <= before, "no more open"
    )
    await lab.engine.destroy(sandbox)
    with pytest.raises(EngineFailure):
        await lab.engine.listen(sandbox, 3128)


async def test_a_dead_zygote_is_replaced(lab: Lab) -> None:
    first = await lab.create()
    sandbox_pids = machine.cgroup_members(os.getpid())
    zygote = machine.descendants(lab.supervisor.pid) - sandbox_pids
    machine.kill(zygote)
    # What it made does not depend on it.
    assert await python(first, "print(1)") == (0, "1\n")
    async with asyncio.timeout(120):
        while True:
            try:
                second = await lab.create()
            except EngineFailure:
                await asyncio.sleep(0.05)
            else:
                assert await python(second, "print(2)") == (0, "2\n")
                return


# Who was killed takes a moment to end.
_GONE = """
import os, time
for _ in range(12000):
    try:
        os.kill(2, 0)
    except ProcessLookupError:
        print("gone")
        break
    time.sleep(0.01)
"""


async def test_an_interpreter_waits_for_its_program_and_none_is_left_where_it_is_not_wanted(lab: Lab) -> None:
    """`/usr/bin/python3` stands for any interpreter that opens its program file once."""
    boot = Boot(executable="/usr/bin/python3", argv=("python3", "/sandbox/main.py"), path="/sandbox/main.py")
    spec = SandboxSpec(runtime="held", limits=LIMITS, boot=boot)
    show = "import os; print(os.getpid(), open(__file__).read().count('getpid'), os.listdir())"
    held = await lab.engine.create(spec)
    assert await python(held, show) == (0, "2 2 ['main.py']\n"), "it is the process that was there first"
    assert await python(held, show) != (0, "2 2 ['main.py']\n"), "the next one is another"
    uploaded, looked_at = await lab.engine.create(spec), await lab.engine.create(spec)
    await uploaded.put("/sandbox/main.py", b"print('never')")
    with pytest.raises(NotFound):
        await looked_at.get("/sandbox/main.py", 100)
    for other in (uploaded, looked_at):
        code, output = await python(other, show)
        assert (code, output.partition(" ")[2]) == (0, "2 ['main.py']\n")
        assert (await python(other, _GONE)) == (0, "gone\n"), "the one that waited"


def _bash_plan(source: str) -> Plan:
    path = "/sandbox/main.sh"
    return dataclasses.replace(python_plan(source, "/usr/bin/bash"), runtime="bash", argv=("bash", path), path=path)


_TELL = """printf '%(%s)T' -2; echo " $SECONDS $$ ${EPOCHREALTIME%.*}" """


async def test_a_bash_that_waits_counts_from_when_its_program_comes(lab: Lab) -> None:
    """So does one that cannot be told: it does not wait."""
    install = find_installed("")["bash"]
    boot = RUNTIMES["bash"].boot(install)
    specs = [
        SandboxSpec(runtime="bash", limits=LIMITS, boot=dataclasses.replace(boot, stamps=stamps))
        for stamps in (install.stamps, tuple(reversed(install.stamps)), (8, 1 << 40))
    ]
    sandboxes = [await lab.engine.create(spec) for spec in specs]
    await asyncio.sleep(1)  # what they count from would be another second
    for sandbox, held in zip(sandboxes, (True, False, False), strict=True):
        before = int(time.time())
        code, told = await output(sandbox, _bash_plan(_TELL))
        start, counted, pid, now = (int(value) for value in told.split())
        assert (code, pid == 2) == (0, held), "it is the process that was there first"
        assert before <= start <= start + counted <= now  # it may be held up between the two


@pytest.mark.parametrize("served", [True, False])
async def test_gates_do_not_add_up(lab: Lab, served: bool) -> None:
    """A user may have few, and sessions live long: one that has done its duty is forgotten, used or not."""

    def gates() -> int:
        found = (machine.descriptors(pid) for pid in machine.descendants(lab.supervisor.pid))
        return sum("fanotify" in name for names in found for name in names)

    boot = RUNTIMES["bash"].boot(find_installed("")["bash"])
    sandbox = await lab.engine.create(SandboxSpec(runtime="bash", limits=LIMITS, boot=boot))
    assert gates() == 1
    plan = _bash_plan("cat main.sh")
    assert await output(sandbox, plan if served else dataclasses.replace(plan, warm=False)) == (0, "cat main.sh")
    await asyncio.to_thread(machine.until, lambda: not gates(), "the gate is forgotten")
    assert await output(sandbox, plan) == (0, "cat main.sh")


async def test_a_program_that_does_not_fit_leaves_nobody_waiting(lab: Lab) -> None:
    boot = Boot(executable="/usr/bin/python3", argv=("python3", "/sandbox/main.py"), path="/sandbox/main.py")
    small = dataclasses.replace(LIMITS, sandbox_bytes=64 * 1024)
    sandbox = await lab.engine.create(SandboxSpec(runtime="held", limits=small, boot=boot))
    with pytest.raises(SandboxFull):
        await python(sandbox, "#" * (128 * 1024))
    assert await python(sandbox, "print('hello')") == (0, "hello\n")
