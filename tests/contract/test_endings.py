"""How executions end other than by themselves: time, memory, signals, and clients that go away."""

from __future__ import annotations

import threading
import uuid

import httpx
import pytest

from tests.conftest import Serve
from tests.support import engines, machine, programs
from tests.support.calls import body, execute, out_of_time, parse_events, refusal, send
from tests.support.server import STOP_SECONDS, Server

# Of executions that are to end before, however busy the machine is.
LONG_MS = 600_000


def test_timeout(client: httpx.Client, runtime: str) -> None:
    result, timeout_ms = out_of_time(client, programs.SPEAK_THEN_HANG[runtime], runtime, first_ms=1500)
    assert result["stdout"] == "before\n"
    assert result["stderr"].splitlines()[-1] == f"Execution timed out after {timeout_ms} ms"
    assert result["durationMs"] >= timeout_ms


def test_the_last_line_stands_on_its_own(client: httpx.Client) -> None:
    code = (
        "import sys, time; print('no newline', end='', file=sys.stderr, flush=True)\n"
        f"open('{programs.SPOKEN}', 'w').close(); time.sleep(3600)"
    )
    result, timeout_ms = out_of_time(client, code)
    assert result["stderr"] == f"no newline\nExecution timed out after {timeout_ms} ms\n"


def test_which_timeout_wins(client: httpx.Client) -> None:
    loop = "while True: pass"
    assert "after 300 ms" in execute(client, loop, timeoutMs=300, options={"timeoutMs": LONG_MS})["stderr"]
    assert "after 400 ms" in execute(client, loop, options={"timeoutMs": 400})["stderr"]
    assert not execute(client, "import time; time.sleep(0.5)", timeoutMs=LONG_MS, options={"timeoutMs": 100})[
        "timedOut"
    ]


@pytest.mark.cgroup
def test_a_program_that_ignores_signals_is_killed_too(client: httpx.Client) -> None:
    code = (
        "import signal, time\n"
        "for n in signal.valid_signals() - {9, 19}: signal.signal(n, signal.SIG_IGN)\n"
        f"open('{programs.SPOKEN}', 'w').close()\n"
        "while True: time.sleep(1)"
    )
    out_of_time(client, code)


def test_output_before_a_timeout_is_kept_with_a_flood(client: httpx.Client) -> None:
    flood = "while True: print('x' * 1000)"
    result, _ = out_of_time(client, flood, came_far=lambda result: result["truncated"])
    assert len(result["stdout"]) == 1 << 20
    assert result["stdout"].startswith("x" * 1000)


@pytest.mark.cgroup
def test_a_setsid_child_does_not_outlive_the_timeout(client: httpx.Client) -> None:
    mark = f"3600.{uuid.uuid4().int % 10**12}"
    code = (
        "import subprocess, time\n"
        f"subprocess.Popen(['setsid', '-f', 'sleep', '{mark}'], start_new_session=True)\n"
        f"subprocess.Popen('(trap \"\" TERM HUP INT; sleep {mark}) & disown', shell=True)\n"
        f"open('{programs.SPOKEN}', 'w').close(); time.sleep(3600)"
    )
    out_of_time(client, code, first_ms=1000)
    machine.until(lambda: not machine.running(mark), "the children are gone")


@pytest.mark.cgroup
def test_nothing_outlives_an_ephemeral_execution(client: httpx.Client) -> None:
    mark = f"3600.{uuid.uuid4().int % 10**12}"
    code = f"import subprocess; subprocess.Popen(['setsid', 'sleep', '{mark}'], start_new_session=True); print('left')"
    assert execute(client, code)["stdout"] == "left\n"
    machine.until(lambda: not machine.running(mark), "the child is gone")


def test_a_child_that_holds_stdout_open_does_not_delay_the_answer(client: httpx.Client) -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '3600']); print('main ends')"
    result = execute(client, code)  # which would run out of time
    assert (result["stdout"], result["exitCode"], result["timedOut"]) == ("main ends\n", 0, False)


def test_what_a_child_wrote_in_time_is_kept(client: httpx.Client) -> None:
    code = "import subprocess; subprocess.run(['sh', '-c', 'echo child; (sleep 3600) &']); print('main')"
    assert execute(client, code)["stdout"] == "child\nmain\n"


@pytest.mark.parametrize("number", [1, 2, 3, 6, 8, 9, 11, 13, 14, 15, 31])
def test_death_by_signal(client: httpx.Client, number: int) -> None:
    code = f"import os, signal; signal.signal({number}, signal.SIG_DFL) if {number} != 9 else 0\n"
    result = execute(client, f"{code}os.kill(os.getpid(), {number})\nimport time; time.sleep(3600)")
    assert (result["exitCode"], result["timedOut"]) == (128 + number, False)


def test_death_by_sigkill(client: httpx.Client, runtime: str) -> None:
    result = execute(client, programs.DIE_BY_SIGKILL[runtime], runtime)
    assert (result["exitCode"], result["timedOut"]) == (137, False)


def test_out_of_memory(client: httpx.Client, runtime: str) -> None:
    sent = body(programs.EAT_MEMORY[runtime], runtime, options={"memoryLimit": "256m"})
    problem = refusal(client.post("/execute", json=sent), 500)
    assert problem["error"] == "Execution failed: container OOM killed"
    assert problem["code"]
    assert problem["executionId"]
    assert problem["stdout"] in {"before\n", *engines.last_words()}
    assert isinstance(problem["stderr"], str)


@pytest.mark.cgroup
def test_out_of_memory_in_a_child_alone(client: httpx.Client) -> None:
    """The kernel killed for memory, and the program went on: still the specification's error, with all it said."""
    code = (
        "import subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-c', 'x = b\"x\" * (1 << 30)'])\n"
        "print(done.returncode)"
    )
    answer = client.post("/execute", json=body(code, options={"memoryLimit": "64m"}))
    assert answer.status_code == 500, answer.text
    assert answer.json()["stdout"] in ("-9\n", "")


@pytest.mark.cgroup
def test_failed_allocation_without_a_kill_is_the_programs_own(client: httpx.Client) -> None:
    result = execute(client, "x = bytearray(1 << 60)", options={"memoryLimit": "64m"})
    assert (result["exitCode"], result["stderr"].splitlines()[-1]) == (1, "MemoryError")


def test_the_server_is_fine_after_every_kind_of_end(client: httpx.Client, runtime: str) -> None:
    client.post("/execute", json=body(programs.EAT_MEMORY[runtime], runtime, options={"memoryLimit": "256m"}))
    execute(client, programs.SPEAK_THEN_HANG[runtime], runtime, timeoutMs=500)
    assert execute(client, programs.HELLO[runtime], runtime)["stdout"] == "hello\n"


def _marked_program() -> tuple[str, str]:
    mark = f"3600.{uuid.uuid4().int % 10**12}"
    return mark, f"import subprocess; print('started', flush=True); subprocess.run(['sleep', '{mark}'])"


@pytest.mark.cgroup
@pytest.mark.parametrize("path", ["/execute", "/execute/stream"])
def test_a_client_that_goes_away_kills_its_execution(server: Server, path: str) -> None:
    mark, code = _marked_program()
    with send(server, path, body(code, timeoutMs=LONG_MS)):
        machine.until(lambda: machine.running(mark), "the program runs")
    machine.until(lambda: not machine.running(mark), "the program is gone")


def test_a_client_that_goes_away_while_we_write(client: httpx.Client) -> None:
    mark, code = _marked_program()
    flood = f"import threading\ndef flood():\n    while True: print('x' * 1000)\n{code.split(';', maxsplit=1)[0]}\n"
    flood += f"threading.Thread(target=flood, daemon=True).start()\nsubprocess.run(['sleep', '{mark}'])"
    sent = body(flood, timeoutMs=LONG_MS, options={"maxOutputSize": "1m"})
    with client.stream("POST", "/execute/stream", json=sent) as answer:
        received = parse_events(answer.iter_lines())  # kept: letting go of it hangs up
        next(received)
        machine.until(lambda: machine.running(mark), "the program runs")
    machine.until(lambda: not machine.running(mark), "the program is gone")


@pytest.mark.cgroup
def test_a_client_that_goes_away_in_a_session_leaves_the_session(server: Server, session: str) -> None:
    mark, code = _marked_program()
    with server.client() as client:
        execute(client, "open('kept', 'w').write('kept')", sessionId=session)
        with send(server, "/execute", body(code, timeoutMs=LONG_MS, sessionId=session)):
            machine.until(lambda: machine.running(mark), "the program runs")
        machine.until(lambda: not machine.running(mark), "the program is gone")
        assert execute(client, "print(open('kept').read())", sessionId=session)["stdout"] == "kept\n"


@pytest.mark.cgroup
def test_the_server_ends_while_programs_run(serve: Serve) -> None:
    running = serve()
    mark, code = _marked_program()
    answers: list[object] = []

    def call() -> None:
        with running.client() as client:
            try:
                answers.append(client.post("/execute", json=body(code, timeoutMs=LONG_MS)).status_code)
            except httpx.TransportError as error:
                answers.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    machine.until(lambda: machine.running(mark), "the program runs")
    running.process.terminate()
    running.process.wait(STOP_SECONDS)
    thread.join()
    assert answers
    machine.until(lambda: not machine.running(mark), "the program is gone")
