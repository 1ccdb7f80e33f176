"""How fast files, large programs and much output pass through the server."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from typing import Any

from bench.connection import AnswerFailed, Connection, bodiless, hello, post
from bench.figures import summarise
from bench.paced import Timed, in_turn, timed
from bench.results import Transfer
from bench.setting import Setting
from tests.support.server import Server

# Sizes in bytes, and how often each is moved.
_SIZES = {1_000: 50, 100_000: 50, 1_000_000: 20, 10_000_000: 10, 100_000_000: 3}
_PATH = "/sandbox/data"
_SESSION = "files"
_PROGRAM_BYTES, _OUTPUT_BYTES = 150_000, 10_000_000
_REPEATS = 20


def measure(setting: Setting) -> list[Transfer]:
    """Each way in turn, with random contents that are compared where they come back."""
    found: list[Transfer] = []
    with setting.serving() as server, Connection(server) as connection:
        for size, repeats in _SIZES.items():
            if size <= setting.sizes.largest_file:
                found += _transfers(server, connection, size, repeats)
        found += _large(server, connection)
    for transfer in found:
        setting.say(
            f"{transfer['way']}, {transfer['size']:,} bytes: p50 {transfer['times']['p50']:.2f} ms,"
            f" {transfer['mb_per_s']:.1f} MB/s"
        )
    return found


def _transfers(server: Server, connection: Connection, size: int, repeats: int) -> list[Transfer]:
    content = base64.b64encode(os.urandom(size)).decode()
    put = post(server, "/file", {"sessionId": _SESSION, "path": _PATH, "content": content})
    get = bodiless(server, "GET", f"/file?sessionId={_SESSION}&path={_PATH}")
    inside = {"code": "print('hello')", "runtime": "python", "files": {_PATH: {"base64": content}}}
    make = f"open('{_PATH}', 'wb').write(bytes({size})); print('hello')"
    ways: dict[str, Timed] = {
        "POST /file": _call(connection, put, lambda answer: answer == {"ok": True}),
        "GET /file": _call(connection, get, lambda answer: answer["content"] == content),
        "files of a request": _call(
            connection, post(server, "/execute", {"request": inside}), lambda answer: answer["stdout"] == "hello\n"
        ),
        "outputPaths of a request": _call(
            connection,
            post(server, "/execute", {"request": {"code": make, "runtime": "python", "outputPaths": [_PATH]}}),
            lambda answer: len(answer["files"][_PATH]) == len(content),
        ),
    }
    connection.call(hello(server, "python", "print('hello')", sessionId=_SESSION))
    taken = in_turn(list(ways.values()), repeats, warm_up=1)
    connection.call(bodiless(server, "DELETE", f"/session/{_SESSION}"))
    return [_transfer(way, size, times) for way, times in zip(ways, taken, strict=True)]


def _large(server: Server, connection: Connection) -> list[Transfer]:
    program = "print('hello')\n".rjust(_PROGRAM_BYTES, "\n")
    talk = f"import sys; sys.stdout.write('x' * {_OUTPUT_BYTES})"
    ways = {
        "a program": (
            _PROGRAM_BYTES,
            _call(connection, hello(server, "python", program), lambda answer: answer["stdout"] == "hello\n"),
        ),
        "stdout": (
            _OUTPUT_BYTES,
            _call(
                connection,
                hello(server, "python", talk, options={"maxOutputSize": "16m"}),
                lambda answer: len(answer["stdout"]) == _OUTPUT_BYTES,
            ),
        ),
    }
    taken = in_turn([call for _, call in ways.values()], _REPEATS, warm_up=1)
    return [_transfer(way, size, times) for (way, (size, _)), times in zip(ways.items(), taken, strict=True)]


def _call(connection: Connection, request: bytes, right: Callable[[dict[str, Any]], bool]) -> Timed:
    """A call whose answer is looked at after its time has been taken. Raises AnswerFailed."""

    def call() -> float:
        answers: list[bytearray] = []
        taken = timed(lambda: answers.append(connection.call(request)))()
        if not right(json.loads(answers[0])):
            raise AnswerFailed(f"not the answer that was expected: {answers[0][:200]!r}")
        return taken

    return call


def _transfer(way: str, size: int, times_ms: list[float]) -> Transfer:
    times = summarise(times_ms)
    return Transfer(way=way, size=size, times=times, mb_per_s=round(size / 1e3 / times["p50"], 2))
