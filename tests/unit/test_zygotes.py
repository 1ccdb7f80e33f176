"""A zygote that does not answer."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from isol8.engines.native import zygotes
from isol8.engines.native.root import RootSpec
from isol8.engines.native.zygotes import Zygote
from isol8.errors import EngineFailure
from tests.support import machine


@pytest.fixture
def process() -> int:
    """One that its zygote is to end and to reap."""
    return os.posix_spawn("/bin/sleep", ["sleep", "3600"], os.environ)


async def test_one_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch, process: int) -> None:
    """A sandbox that it made later would have no owner. Whoever has asked beside is told as well."""
    monkeypatch.setattr(zygotes, "_ANSWER_TIMEOUT_S", 0.01)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    zygote = Zygote("python3", RootSpec(package="", stdlib="", customize=None, prefixes={}), {})
    zygote._pid, zygote._control = process, ours
    asyncio.get_running_loop().add_reader(ours, zygote._read_answer)
    with theirs:
        asked = [asyncio.create_task(zygote.clone(b"", [])) for _ in range(2)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EngineFailure] * 2
    assert not zygote.alive
    assert machine.started(process) is None
    with pytest.raises(EngineFailure, match="not running"):
        await zygote.clone(b"", [os.getpid()])
