"""The keeper as a process: what it takes, what it holds for whom, and what is left when someone is killed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from isol8.errors import EngineFailure
from isol8.packages.client import KeeperClient, RejectedLayer
from tests.support.layer_stream import files, pieces
from tests.unit.scripted_engine import until

KEY = "python-3.11-x86_64-abc"


@dataclass
class Kept:
    """A keeper and its store."""

    client: KeeperClient
    store: Path
    listener: socket.socket
    process: subprocess.Popen[bytes]

    def start(self, client_uid: int | None = None) -> None:
        options = {
            "owner": os.getpid(),
            "client_uid": os.getuid() if client_uid is None else client_uid,
            "uid": os.getuid(),
            "directory": str(self.store),
            "layer_bytes": 4 << 20,
            "layer_files": 100,
            "total_bytes": 8 << 20,
        }
        command = [sys.executable, "-m", "isol8.packages.keeper", str(self.listener.fileno()), json.dumps(options)]
        self.process = subprocess.Popen(command, pass_fds=[self.listener.fileno()])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.store.iterdir()) if self.store.exists() else []


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = f"\0isol8-test-keeper-{os.getpid()}-{id(listener)}"
    listener.bind(address)
    listener.listen()
    made = Kept(KeeperClient(address, os.getuid()), tmp_path / "layers", listener, None)  # type: ignore[arg-type]
    await asyncio.to_thread(made.start)
    yield made
    await asyncio.to_thread(made.kill)
    listener.close()


async def deliver(kept: Kept, data: bytes, key: str = KEY) -> str:
    delivery = await kept.client.add(key)
    for at in range(0, len(data), 1000):
        await delivery.send(data[at : at + 1000])
    layer = await delivery.finish()
    layer.close()
    return layer.name


async def test_a_layer_is_taken_in_and_found(kept: Kept) -> None:
    assert await kept.client.find(KEY) is None
    name = await deliver(kept, files({"a/b": b"x" * 5000}))
    assert kept.names() == [name]
    layer = await kept.client.find(KEY)
    assert layer is not None
    assert (layer.name, layer.boots, layer.modules) == (name, True, ())  # a build that says nothing is not trusted
    layer.close()


async def test_what_is_too_large_is_refused_at_once(kept: Kept) -> None:
    delivery = await kept.client.add(KEY)
    head = files({"zeros": bytes(100_000_000)})[:100_000]

    async def send_for_ever() -> None:
        while True:
            await delivery.send(head)
            await asyncio.sleep(0)

    with pytest.raises(RejectedLayer, match="layerSize"):
        await asyncio.wait_for(send_for_ever(), 120)
    delivery.abort()
    await until(lambda: kept.names() == [])


async def test_a_client_that_goes_away_leaves_nothing(kept: Kept) -> None:
    delivery = await kept.client.add(KEY)
    await delivery.send(files({"a": b"x" * 100_000})[:50_000])
    await until(lambda: any(name.startswith(".making-") for name in kept.names()))
    delivery.abort()
    await until(lambda: kept.names() == [])


async def test_what_is_left_of_a_killed_keeper_is_removed_by_the_next(kept: Kept) -> None:
    name = await deliver(kept, files({"a": b"1"}))
    delivery = await kept.client.add("key-b")
    await delivery.send(files({"b": b"x" * 100_000})[:50_000])
    await until(lambda: len(kept.names()) == 2)
    await asyncio.to_thread(kept.kill)
    with pytest.raises(EngineFailure):
        await delivery.finish()
    await asyncio.to_thread(kept.start)
    found = await kept.client.find(KEY)
    assert found is not None
    found.close()
    assert kept.names() == [name]


async def test_held_layers_are_not_made_room_with(kept: Kept) -> None:
    name = await deliver(kept, files({"a": bytes(3 << 20)}))
    held = await kept.client.find(KEY)
    assert held is not None
    await deliver(kept, files({"b": bytes(3 << 20)}), "key-b")
    other = await deliver(kept, files({"c": bytes(3 << 20)}), "key-c")
    assert kept.names() == sorted([name, other])
    held.close()

    async def gone() -> bool:
        await deliver(kept, files({"d": os.urandom(3 << 20)}), "key-d")
        return name not in kept.names()

    assert await gone() or await gone()


async def test_a_layer_that_was_changed_is_told_of(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    name = await deliver(kept, files({"a": b"1"}))
    await asyncio.to_thread(kept.kill)
    (kept.store / name / "tree" / "a").write_text("2")
    await asyncio.to_thread(kept.start)
    assert await kept.client.find(KEY) is None
    assert kept.names() == []
    assert "had been changed" in caplog.text


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"not json\n",
        b"[]\n",
        b"{}\n",
        b'{"op":"find","key":"../../etc"}\n',
        b'{"op":"find","key":".making-x"}\n',
        b'{"op":"add","key":"a/b"}\n' + pieces(b"x"),
        b'{"op":"add","key":"a"}\n' + b"\xff\xff\xff\xff",
        b"x" * 100_000,
    ],
)
async def test_nonsense_does_no_harm(kept: Kept, sent: bytes) -> None:
    await until(lambda: kept.store.exists())
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(kept.listener.getsockname())
    connection.settimeout(120)

    def talk() -> bytes:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(1000)
        except (BrokenPipeError, ConnectionResetError):
            return b""

    answer = await asyncio.to_thread(talk)
    connection.close()
    assert b'"name"' not in answer
    assert await deliver(kept, files({"a": b"1"})) in kept.names()


async def test_nobody_else_passes_for_the_keeper(kept: Kept) -> None:
    """Its socket has a name that anybody on the machine can look up, and take when it is free."""
    await until(lambda: kept.store.exists())
    address = kept.listener.getsockname().decode()
    posing = KeeperClient(address, os.getuid() + 1)
    for call in (posing.find, posing.add):
        with pytest.raises(EngineFailure, match="somebody else"):
            await call(KEY)
    assert await KeeperClient(address, os.getuid()).find(KEY) is None


async def test_another_user_is_turned_away(kept: Kept) -> None:
    await until(lambda: kept.store.exists())
    await asyncio.to_thread(kept.kill)
    await asyncio.to_thread(kept.start, os.getuid() + 1)
    with pytest.raises(EngineFailure):
        await kept.client.find(KEY)
