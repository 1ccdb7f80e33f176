"""Executions of every kind, in a fixed order: what a server meets in its life, at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import httpx

from tests.support import programs
from tests.support.calls import body, delete, execute, parse_events, upload

Kind = Callable[[httpx.Client, int], None]
SMALL = {"memoryLimit": "64m"}


def _hello(runtime: str) -> Kind:
    def run(client: httpx.Client, number: int) -> None:
        assert execute(client, programs.HELLO[runtime], runtime)["stdout"] == "hello\n"

    return run


def _own_output(client: httpx.Client, number: int) -> None:
    assert execute(client, f"print({number})", stdin="x" * 1000)["stdout"] == f"{number}\n"


def _failure(client: httpx.Client, number: int) -> None:
    assert execute(client, f"raise SystemExit({number % 100 + 1})")["exitCode"] == number % 100 + 1


def _timeout(client: httpx.Client, number: int) -> None:
    code = "import subprocess\nsubprocess.Popen(['setsid', 'sleep', '3600'])\nwhile True: pass"
    assert execute(client, code, timeoutMs=200)["timedOut"]


def _out_of_memory(client: httpx.Client, number: int) -> None:
    answer = client.post("/execute", json=body("x = b'x' * (1 << 30)", options=SMALL))
    assert answer.status_code == 500, answer.text


def _crash(client: httpx.Client, number: int) -> None:
    assert execute(client, "import os; os.kill(os.getpid(), 11)")["exitCode"] == 139


def _flood(client: httpx.Client, number: int) -> None:
    assert execute(client, "yes | head -c 3000000", "bash")["truncated"]


def _full_disk(client: httpx.Client, number: int) -> None:
    code = "open('/sandbox/x', 'wb').write(b'x' * (8 << 20))"
    assert execute(client, code, options={"sandboxSize": "2m"})["exitCode"] == 1


def _left_children(client: httpx.Client, number: int) -> None:
    assert execute(client, "for i in 1 2 3; do setsid sleep 3600 & done; echo left", "bash")["stdout"] == "left\n"


def _disconnect(client: httpx.Client, number: int) -> None:
    code = "print('on', flush=True)\nimport time\ntime.sleep(3600)"
    with client.stream("POST", "/execute/stream", json=body(code, timeoutMs=600_000)) as answer:
        assert next(parse_events(answer.iter_lines()))["data"] == "on\n"


def _hang_up_before_the_answer(client: httpx.Client, number: int) -> None:
    try:
        sent = body("import time; time.sleep(3600)", timeoutMs=600_000)
        client.post("/execute", json=sent, timeout=httpx.Timeout(60, read=0.3))
    except httpx.ReadTimeout:
        return
    raise AssertionError("answered a program that sleeps")


def _session(client: httpx.Client, number: int) -> None:
    name = f"leak-{number}"
    execute(client, "setsid sleep 3600 & echo x > /sandbox/x", "bash", sessionId=name)
    assert upload(client, name, "/sandbox/y", b"y" * 100_000).status_code == 200
    assert execute(client, "print(open('/sandbox/x').read())", sessionId=name)["stdout"] == "x\n\n"
    delete(client, name)


def _refusal(client: httpx.Client, number: int) -> None:
    assert client.post("/execute", json=body("print(1)", timeoutMS=5)).status_code == 400


def kinds(ready: list[str]) -> Iterator[Kind]:
    """Kinds of executions without end. `ready` are the runtimes to use."""
    cheap = [_own_output, _hello("bash"), _failure, _own_output, _refusal, _session, _crash, _own_output, _flood]
    dear = [_timeout, _out_of_memory, _disconnect, _left_children, _hang_up_before_the_answer, _full_disk]
    slow = itertools.cycle([_hello(name) for name in ready if name not in ("python", "bash")] or [_own_output])
    for round_number in itertools.count():
        yield from cheap
        yield dear[round_number % len(dear)]
        yield dear[(round_number + 3) % len(dear)]
        if round_number % 2 == 0:
            yield next(slow)
