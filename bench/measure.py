"""One execution over HTTP, one bare interpreter, and how long each takes."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from statistics import quantiles

EXPECTED = "hello\n"
PAUSE_S = 0.02
Once = Callable[[], None]


class Client:
    """One connection that executes one program again and again. `close` it."""

    def __init__(self, port: int, key: str, runtime: str, code: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._body = json.dumps({"request": {"code": code, "runtime": runtime}}).encode()

    def execute(self) -> None:
        """POST /execute. Raises AssertionError unless the program printed what it should."""
        self._connection.request("POST", "/execute", self._body, self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        assert json.loads(text)["stdout"] == EXPECTED, text

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def start_bare(command: list[str]) -> None:
    """Start an interpreter, read what it prints to the end, and wait for it, with as little of our own as can be."""
    output, its_output = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, its_output, 1), (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    os.close(its_output)
    with open(output, encoding="utf-8") as stream:
        printed = stream.read()
    _, status = os.waitpid(pid, 0)
    assert (printed, status) == (EXPECTED, 0), (printed, status)


def paired(first: Once, second: Once, pairs: int) -> tuple[list[float], list[float]]:
    """Wall times in ms of `first` and `second` in turn, with a pause before each: what one unhurried caller sees.
    In turn, so that whatever else the machine does meets both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(pairs):
        for once, taken in zip((first, second), times, strict=True):
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            once()
            taken.append((time.perf_counter() - began) * 1000)
    return times


def throughput(each: Sequence[Once], seconds: float) -> float:
    """Calls a second when every member of `each` is called again and again at once. Raises what a call raises."""
    counts = [0] * len(each)
    failures: list[BaseException] = []
    deadline = time.perf_counter() + seconds

    def repeat(number: int) -> None:
        try:
            while time.perf_counter() < deadline and not failures:
                each[number]()
                counts[number] += 1
        except BaseException as error:  # noqa: BLE001  raised again below, in the caller's thread
            failures.append(error)

    began = time.perf_counter()
    threads = [threading.Thread(target=repeat, args=(number,)) for number in range(len(each))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / (time.perf_counter() - began)


def percentiles(times: list[float]) -> dict[str, float]:
    """p50, p95 and p99 of wall times."""
    cuts = quantiles(times, n=100, method="inclusive")
    return {name: round(cuts[at - 1], 2) for name, at in (("p50", 50), ("p95", 95), ("p99", 99))}
