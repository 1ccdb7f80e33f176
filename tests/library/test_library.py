"""isol8 as a library: the same sandboxes, without a server."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import isol8
from isol8.config import InvalidConfig
from isol8.errors import Conflict, EngineFailure, Forbidden, InvalidRequest, NotFound, SandboxFull
from isol8.library import Isol8
from isol8.model import Finished, Installing, Outcome, Output, Started
from tests.support import daemon, engines, machine

CLASSES: dict[str, type[Isol8]] = {
    "native": isol8.NativeIsol8,
    "gvisor": isol8.GVisorIsol8,
}


def instance(*arguments: Any, **options: Any) -> Isol8:
    """One with the engine in use."""
    settings = options.pop("settings", {})
    if engines.CURRENT["engine"] == "docker-runsc":
        settings = settings | {"docker": {"runtime": "runsc"}}
    return CLASSES.get(engines.CURRENT["engine"], isol8.DockerIsol8)(*arguments, settings=settings, **options)


def left() -> list[object]:
    """What this process has made and not taken away."""
    containers = daemon.containers(os.getpid()) if engines.of_docker() else []
    return [*machine.cgroups(os.getpid()), *containers]


def children() -> set[int]:
    """The processes right below this one; a server that other tests share is one of them."""
    return {pid for pid in machine.descendants(os.getpid()) if machine.parent(pid) == os.getpid()}


@pytest.fixture(autouse=True)
def _nothing_left() -> Any:
    if os.geteuid() != 0 or (engines.of_docker() and not daemon.reachable()):
        pytest.skip("needs root, and a Docker daemon for that engine")
    before, processes = set(machine.descriptors(os.getpid())), children()
    yield
    machine.until(lambda: not left(), lambda: f"nothing left: {left()}")
    machine.until(lambda: children() <= processes, lambda: f"no more processes: {children() - processes}")
    assert not _more_sockets(before)


def _more_sockets(before: set[str]) -> set[str]:
    return {each for each in set(machine.descriptors(os.getpid())) - before if "socket" in each}


@pytest.fixture
async def ephemeral() -> AsyncIterator[Isol8]:
    async with instance() as made:
        yield made


@pytest.fixture
async def persistent() -> AsyncIterator[Isol8]:
    async with instance("persistent", memory_limit="128m", tmp_size="1m") as made:
        yield made


async def test_a_program(ephemeral: Isol8) -> None:
    result = await ephemeral.execute(
        "import os, sys\nprint(input(), os.environ['NAME'], open('in').read())\nprint('no', file=sys.stderr)\n"
        "open('out', 'wb').write(b'\\0\\xff')\nsys.exit(3)",
        stdin="line\n",
        env={"NAME": "value"},
        files={"/sandbox/in": b"content"},
        output_paths=["/sandbox/out", "/sandbox/none"],
    )
    assert (result.stdout, result.stderr) == ("line value content\n", "no\n")
    assert (result.exit_code, result.outcome, result.runtime) == (3, Outcome.COMPLETED, "python")
    assert result.files == {"/sandbox/out": b"\0\xff"}
    assert result.file_errors.keys() == {"/sandbox/none"}
    assert result.usage.cpu_ms > 0


async def test_each_execution_has_a_sandbox_of_its_own(ephemeral: Isol8) -> None:
    code = "import os; print(os.listdir('.')); open('mine', 'w')"
    results = await asyncio.gather(*(ephemeral.execute(code) for _ in range(4)))
    assert {result.stdout for result in results} == {"['main.py']\n"}
    assert len({result.container_id for result in results}) == 4


async def test_output_as_it_comes(ephemeral: Isol8) -> None:
    events = [event async for event in ephemeral.stream("echo one; echo two >&2; exit 4", "bash")]
    assert isinstance(events[0], Started)
    assert {(event.stream, event.text) for event in events if isinstance(event, Output)} == {
        ("stdout", "one\n"),
        ("stderr", "two\n"),
    }
    assert isinstance(events[-1], Finished)
    assert events[-1].result.exit_code == 4
    assert not any(isinstance(event, Installing) for event in events)


async def test_who_leaves_early_ends_the_program(ephemeral: Isol8) -> None:
    code = "print('begun', flush=True)\nimport time; time.sleep(3600)"
    async with aclosing(ephemeral.stream(code)) as events:
        async for event in events:
            if isinstance(event, Output):
                break
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ephemeral.execute("import time; time.sleep(3600)"), 1)
    assert (await ephemeral.execute("print(1)")).stdout == "1\n"


async def test_how_programs_end(ephemeral: Isol8) -> None:
    code = "import time; print(1, flush=True); time.sleep(3600)"
    late = await ephemeral.execute(code, timeout_ms=300)
    if not late.stdout:  # a machine may be too busy
        late = await ephemeral.execute(code, timeout_ms=30_000)
    assert (late.outcome, late.exit_code, late.stdout) == (Outcome.TIMED_OUT, 137, "1\n")
    large = await ephemeral.execute("bytearray(400 << 20)", options={"memory_limit": "128m"})
    assert (large.outcome, large.exit_code) == (Outcome.OUT_OF_MEMORY, 137)


async def test_a_persistent_instance(persistent: Isol8) -> None:
    await persistent.put_file("/sandbox/data", "text")
    await persistent.put_file("/sandbox/more", b"\0")
    first = await persistent.execute("print(open('data').read()); open('kept', 'w').write('x')")
    second = await persistent.execute("cat kept", "bash")
    assert (first.stdout, second.stdout) == ("text\n", "x")
    assert first.container_id == second.container_id
    assert await persistent.get_file("/sandbox/more") == b"\0"
    assert (await persistent.execute("bytearray(200 << 20)")).outcome is Outcome.OUT_OF_MEMORY


async def test_files_of_a_persistent_instance_are_checked(persistent: Isol8) -> None:
    for path in ("relative", "/etc/passwd", "/sandbox/../etc/x", ""):
        with pytest.raises(InvalidRequest):
            await persistent.put_file(path, "x")
    with pytest.raises(NotFound):
        await persistent.get_file("/sandbox/none")
    with pytest.raises(SandboxFull):
        await persistent.put_file("/tmp/large", bytes(3 << 20))


async def test_an_ephemeral_one_keeps_no_files(ephemeral: Isol8) -> None:
    with pytest.raises(InvalidRequest, match="persistent"):
        await ephemeral.put_file("/sandbox/x", "x")


async def test_what_is_wrong_is_said(ephemeral: Isol8) -> None:
    for wrong in (
        {"timeout_ms": -1},
        {"files": {"relative": "x"}},
        {"misspelt": 1},
        {"options": {"memory_limit": "lots"}},
        {"env": object()},
        {"runtime": "cobol"},
    ):
        with pytest.raises(InvalidRequest):
            await ephemeral.execute("print(1)", **wrong)
    with pytest.raises(Forbidden, match="memoryLimit"):
        await ephemeral.execute("print(1)", options={"memory_limit": "900g"})


async def test_a_closed_one(persistent: Isol8) -> None:
    running = asyncio.create_task(persistent.execute("import time; time.sleep(3600)"))
    while not persistent._started().sessions.list("key1"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await persistent.close()
    with pytest.raises((EngineFailure, Conflict)):
        await running
    with pytest.raises(EngineFailure, match="closed"):
        await persistent.execute("print(1)")
    await persistent.close()
    async with persistent:
        assert (await persistent.execute("import os; print(os.listdir('.'))")).stdout == "['main.py']\n"


async def test_two_at_once(ephemeral: Isol8) -> None:
    if not engines.of_docker():
        with pytest.raises(EngineFailure, match="one engine"):
            await instance().start()
    else:
        async with instance("persistent") as other:
            await other.put_file("/sandbox/x", "x")
            await ephemeral.close()
            assert await other.get_file("/sandbox/x") == b"x"
        await ephemeral.start()
    assert (await ephemeral.execute("print(1)")).stdout == "1\n"


async def test_a_supervisor_that_dies() -> None:
    before = children()
    async with instance("persistent") as persistent:
        await persistent.execute("print(1)")
        machine.kill(children() - before)
        await _fails(persistent)


async def _fails(persistent: Isol8) -> None:
    """It takes a moment until what the supervisor has made is gone too."""
    async with asyncio.timeout(120):
        while True:
            try:
                await persistent.execute("print(1)")
            except EngineFailure:
                return


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_limit": "lots"},
        {"misspelt": 1},
        {"settings": {"misspelt": 1}},
        {"settings": {"policy": {"timeoutMs": 0}}},
        {"mode": "eternal"},
    ],
    ids=str,
)
def test_an_instance_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises((InvalidRequest, InvalidConfig)):
        instance(**wrong)


async def test_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///tmp/no-such.sock")
    with pytest.raises(EngineFailure, match=r"cannot be reached.*is it running\?"):
        await isol8.DockerIsol8().start()
    with pytest.raises(EngineFailure, match="cannot be reached"):
        await isol8.DockerIsol8(settings={"docker": {"image": "nowhere:1"}}).start()


def test_the_example() -> None:
    """That of docs/library.md, with the engine in use."""
    text = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
    (shown,), (answer,) = re.findall(r"```python\n(.*?)```", text, re.S), re.findall(r"```text\n(.*?)```", text, re.S)
    code = shown.replace("DockerIsol8", CLASSES.get(engines.CURRENT["engine"], isol8.DockerIsol8).__name__)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == (answer, 0), done.stderr


def test_nothing_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, isol8; assert len([n for n in sys.modules if n.startswith('isol8')]) == 1\n"
        "from isol8 import DockerIsol8; DockerIsol8()\n"
        "print([name for name in ('aiodocker', 'aiohttp', 'fastapi', 'starlette', 'uvicorn') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="Nonsense"):
        isol8.Nonsense  # noqa: B018
