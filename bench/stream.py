"""How long an unhurried caller waits for the first byte of a stream, beside a bare interpreter's first byte."""

from __future__ import annotations

import time

from bench.bare import time_first_byte
from bench.connection import AnswerFailed, Connection, post
from bench.figures import summarise
from bench.paced import in_turn
from bench.results import Stream
from bench.setting import Setting
from tests.support.server import Server

_FIRST_EVENT = b'data: {"type":"stdout"'
_LAST_EVENT = b'data: {"type":"exit","data":"0"}'
_LAST_CHUNK = b"0\r\n\r\n"


def measure(setting: Setting) -> dict[str, Stream]:
    """For each runtime."""
    with setting.serving() as server:
        return {name: _measure(setting, server, name) for name in setting.installed}


def _measure(setting: Setting, server: Server, name: str) -> Stream:
    request = post(server, "/execute/stream", {"request": {"code": setting.code(name), "runtime": name}})
    command = setting.bare(name)
    ends: list[float] = []
    with Connection(server) as connection:

        def execute() -> float:
            first, end = _times(connection, request)
            ends.append(end)
            return first

        firsts, bare = in_turn([execute, lambda: time_first_byte(command)], setting.sizes.calls)
    found = Stream(first=summarise(firsts), end=summarise(ends[-len(firsts) :]), bare_first=summarise(bare))
    setting.say(
        f"stream {name}: first byte p50 {found['first']['p50']:.2f} ms, p99 {found['first']['p99']:.2f} ms;"
        f" bare first byte p50 {found['bare_first']['p50']:.2f} ms"
    )
    return found


def _times(connection: Connection, request: bytes) -> tuple[float, float]:
    """Wall times in ms until the first event of output, and until the stream had ended. Raises AnswerFailed."""
    received = b""
    first = 0.0
    began = time.perf_counter()
    connection.socket.sendall(request)
    while not received.endswith(_LAST_CHUNK):
        piece = connection.socket.recv(65536)
        if not piece:
            break
        received += piece
        if not first and _FIRST_EVENT in received:
            first = time.perf_counter()
    ended = time.perf_counter()
    if not first or _LAST_EVENT not in received:
        raise AnswerFailed(f"a stream without its events: {received[-200:]!r}")
    return (first - began) * 1000, (ended - began) * 1000
