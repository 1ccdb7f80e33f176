"""Plain sandboxes, which a zygote makes by its table alone, and others in between."""

from __future__ import annotations

import asyncio
import dataclasses
import os

import pytest

from isol8.engines.native.request import Request
from isol8.engines.native.surroundings import PLAIN_BYTES, pack_request, plain_message
from isol8.errors import EngineFailure
from isol8.kernel.syscalls import MACHINE
from isol8.model import Network
from tests.engine.conftest import LIMITS, Lab, python
from tests.support import machine

pytestmark = pytest.mark.skipif(MACHINE != "x86_64", reason="there is no table for others")
LOOK = """
import os, socket
entry = next(line for line in open('/etc/passwd') if line.startswith('sandbox:')).split(':')
group = next(line for line in open('/etc/group') if line.startswith('sandbox:')).split(':')
own = entry[2:4] == [str(os.getuid()), str(os.getgid())] and group[2] == entry[3]
sizes = [os.statvfs(path).f_blocks * os.statvfs(path).f_bsize >> 20 for path in ('/sandbox', '/tmp', '/dev/shm')]
echo = socket.create_server(('127.0.0.1', 0)); socket.create_connection(echo.getsockname())
print(own, sizes, os.listdir('/dev/shm'), os.readlink('/proc/self/ns/net') == '{}', sorted(os.listdir('/proc/self/fd')))
"""
COMMAND = "python3\0/sandbox/main.py\0"
MACHINES = os.readlink("/proc/self/ns/net")
SEEN = "True [64, 32, 32] [] {} ['0', '1', '2', '3', '4']\n"


def _zygote(lab: Lab) -> int:
    """The one process of that name in no namespace of a sandbox's."""
    found = {pid for pid in machine.descendants(lab.supervisor.pid) if machine.command(pid) == COMMAND}
    (pid,) = (pid for pid in found if len(machine.status(pid).get("NSpid", "").split()) == 1)
    return pid


def _described(zygote: int) -> tuple[list[str], list[str]]:
    return machine.descriptors(zygote), [
        os.readlink(f"/proc/{zygote}/ns/{name}") for name in ("mnt", "ipc", "uts", "net")
    ]


async def _faults_for(lab: Lab, network: Network) -> int:
    """Pages that a zygote copies for three more of them. Both ways have been gone before."""
    await lab.create(network=network)
    before = machine.faults(_zygote(lab))
    for _ in range(3):
        await lab.create(network=network)
    return machine.faults(_zygote(lab)) - before


@pytest.mark.cgroup
async def test_plain_ones_need_no_python(lab: Lab) -> None:
    await lab.create()
    others = await _faults_for(lab, Network.HOST)
    assert await _faults_for(lab, Network.NONE) * 3 < others


@pytest.mark.cgroup
async def test_plain_ones_and_others_in_turns(lab: Lab) -> None:
    kinds = [Network.NONE, Network.HOST, Network.NONE, Network.NONE, Network.HOST, Network.NONE]
    made = await asyncio.gather(*(lab.create(network=kind) for kind in kinds))
    for kind, sandbox in zip(kinds, made, strict=True):
        assert await python(sandbox, LOOK.format(MACHINES)) == (0, SEEN.format(kind is Network.HOST))
    assert len({(await python(sandbox, "import os; print(os.getuid())"))[1] for sandbox in made}) == len(kinds)


@pytest.mark.cgroup
async def test_one_that_the_kernel_refuses_changes_nothing(lab: Lab) -> None:
    await lab.create()
    zygote = _zygote(lab)
    before = _described(zygote)
    for bad in ({"sandbox_bytes": -1}, {"tmp_bytes": -1}):
        with pytest.raises(EngineFailure, match="refused a sandbox: Invalid argument"):
            await lab.create(dataclasses.replace(LIMITS, **bad))
        assert await python(await lab.create(), LOOK.format(MACHINES)) == (0, SEEN.format(False))
    assert _zygote(lab) == zygote
    await asyncio.to_thread(machine.until, lambda: _described(zygote) == before, lambda: str(_described(zygote)))


def test_another_request_is_never_as_long_as_a_plain_one() -> None:
    assert len(plain_message((1 << 32) - 1, 1 << 62, 1 << 62)) == PLAIN_BYTES
    fields = [(name, b"0") for name in ("uid", "sandbox", "tmp", "opens", "forked")]
    fields += [(name, b"") for name in ("alone", "resolver", "network", "without", "executable", "words")]
    short = len(pack_request([*fields, ("path", b"")]))
    for length in range(PLAIN_BYTES - short - 3, PLAIN_BYTES - short + 3):
        message = pack_request([*fields, ("path", b"p" * length)])
        assert len(message) != PLAIN_BYTES
        boot = Request(message, None).boot
        assert (boot.path, boot.argv) == ("p" * length, [])


async def test_what_programs_write_to_is_copied_before_they_come(lab: Lab) -> None:
    sandbox = await lab.create()
    first, worker = (lab.processes(sandbox)[number] for number in (1, 2))
    before = machine.faults(worker)
    assert await python(sandbox, "print('hello')") == (0, "hello\n")
    after = machine.faults_of_children(first) - before
    assert after < before / 6, "which are those of other kinds"
