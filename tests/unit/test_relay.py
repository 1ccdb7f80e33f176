"""The relay between a port of the loopback and a unix socket: all bytes, both ways, and every ending."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import machine

SECONDS = 120
LARGE = bytes(range(256)) * 20_000


# The runner's loop; a byte asks it how often the relay had something to do.
LOOP = """
import os, select, sys
from isol8.runner.relay import Relay
relay, port, steps = Relay(sys.argv[1]), int(sys.argv[2]), 0
relay.listen(port)
relay.listen(port)
print('ready', flush=True)
while ready := select.select([relay.descriptor, 0], [], [])[0]:
    if relay.descriptor in ready:
        relay.serve()
        steps += 1
    if 0 in ready:
        if not os.read(0, 1): break
        print(steps, flush=True)
"""


def _start(path: str, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOOP, path, str(port)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Lab:
    """A relay in a process of its own; `outside` listens at its other end."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.port = _free_port()
        self.outside = self.open()
        self._process = _start(path, self.port)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def open(self) -> socket.socket:
        """Somebody who listens outside."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(16)
        listener.settimeout(SECONDS)
        return listener

    def steps(self) -> int:
        """How often it had something to do."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("?")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def call(self) -> socket.socket:
        """A connection as a program makes it."""
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Both ends of one connection: the program's, and the one outside."""
        inside = self.call()
        taken, _ = self.outside.accept()
        taken.settimeout(SECONDS)
        return inside, taken

    def close(self) -> None:
        self.outside.close()
        assert self._process.communicate(timeout=SECONDS)[1] == ""
        assert self._process.returncode == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(str(tmp_path / "out"))
    yield made
    made.close()


def _send(connection: socket.socket, data: bytes) -> threading.Thread:
    """Send all, and then say that this is all; beside whoever calls."""

    def work() -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _read_all(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(1 << 16):
        data += more
    return data


def test_everything_arrives_both_ways(lab: Lab) -> None:
    inside, outside = lab.pair()
    with inside, outside:
        threads = [_send(inside, LARGE), _send(outside, LARGE[::-1])]
        assert _read_all(outside) == LARGE
        assert _read_all(inside) == LARGE[::-1]
        for thread in threads:
            thread.join(SECONDS)


def test_an_answer_after_the_end_of_the_question(lab: Lab) -> None:
    inside, outside = lab.pair()
    with inside, outside:
        inside.sendall(b"question")
        inside.shutdown(socket.SHUT_WR)
        assert _read_all(outside) == b"question"
        outside.sendall(b"answer")
        outside.close()
        assert _read_all(inside) == b"answer"


def test_what_was_sent_before_hanging_up_arrives(lab: Lab) -> None:
    """Though the program reads it late."""
    inside, outside = lab.pair()
    with inside:
        thread = _send(outside, LARGE)
        assert inside.recv(1) == LARGE[:1]
        assert _read_all(inside) == LARGE[1:]
        thread.join(SECONDS)
        outside.close()


def test_nobody_outside(lab: Lab) -> None:
    lab.outside.close()
    with lab.call() as inside:
        assert inside.recv(1) == b""
    Path(lab.path).unlink()
    with lab.call() as inside:
        assert inside.recv(1) == b""
    with lab.open() as lab.outside:  # and somebody else, later
        inside, outside = lab.pair()
        with inside, outside:
            outside.sendall(b"x")
            assert inside.recv(1) == b"x"


def test_either_side_hangs_up(lab: Lab) -> None:
    inside, outside = lab.pair()
    inside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    inside.close()  # with a reset
    with outside:
        assert outside.recv(1) == b""
    inside, outside = lab.pair()
    outside.close()
    with inside:
        assert inside.recv(1) == b""


def test_one_that_nobody_reads_holds_up_no_other(lab: Lab) -> None:
    slow, ignored = lab.pair()
    with slow, ignored:
        slow.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                slow.send(LARGE)
        inside, outside = lab.pair()
        with inside, outside:
            inside.sendall(b"x")
            assert outside.recv(1) == b"x"
        machine.until(lambda: _rests(lab), "it has nothing to do")


def _rests(lab: Lab) -> bool:
    before = lab.steps()
    time.sleep(0.2)  # in which a loop that has nothing to do would go round and round
    return lab.steps() < before + 5  # what was on its way may still come


def test_more_connections_than_it_carries_wait(lab: Lab) -> None:
    held = [lab.pair() for _ in range(256)]
    waiting = lab.call()
    waiting.sendall(b"x")
    lab.outside.settimeout(0.3)
    with pytest.raises(TimeoutError):
        lab.outside.accept()
    lab.outside.settimeout(SECONDS)
    for side in held.pop():
        side.close()
    taken, _ = lab.outside.accept()
    with waiting, taken:
        taken.settimeout(SECONDS)
        assert taken.recv(1) == b"x"
    for inside, outside in held:
        inside.close()
        outside.close()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        _, said = _start(str(tmp_path / "out"), taken.getsockname()[1]).communicate(timeout=SECONDS)
    assert "Address already in use" in said
