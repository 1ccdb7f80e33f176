"""Sessions: a sandbox that a caller names and comes back to. Files and background processes persist."""

from __future__ import annotations

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import machine, programs
from tests.support.calls import (
    Json,
    body,
    delete,
    execute,
    out_of_time,
    read_to_end,
    refusal,
    refused,
    send,
    upload,
    with_time_enough,
)
from tests.support.server import Server

WAIT_FOR_GO = "import os, time\nwhile not os.path.exists('/sandbox/go'): time.sleep(0.01)"
LOOK = "import os; print(sorted(os.listdir('/sandbox')))"


def _ids(client: httpx.Client) -> dict[str, Any]:
    answer = client.get("/sessions")
    assert answer.status_code == 200
    return {entry["id"]: entry for entry in answer.json()["sessions"]}


def test_files_persist(client: httpx.Client, session: str) -> None:
    execute(client, "open('/sandbox/a', 'w').write('one'); open('/tmp/b', 'w').write('two')", sessionId=session)
    result = execute(client, "print(open('/sandbox/a').read(), open('/tmp/b').read())", sessionId=session)
    assert result["stdout"] == "one two\n"


def test_the_sandbox_is_the_same(client: httpx.Client, session: str) -> None:
    results = [execute(client, "print(1)", sessionId=session) for _ in range(3)]
    assert len({result["containerId"] for result in results}) == 1
    assert len({result["executionId"] for result in results}) == 3


_JAVASCRIPT = "console.log(globalThis.Deno ? 'deno' : globalThis.Bun ? 'bun' : 'node')"
_NAMES_ITSELF = dict.fromkeys(programs.RUNTIMES, _JAVASCRIPT) | {"python": "print('python')", "bash": "echo bash"}


@pytest.mark.parametrize("first", programs.RUNTIMES)
def test_runtimes_take_turns(client: httpx.Client, session: str, first: str) -> None:
    """Whatever waited for the first program is not what the others are for."""
    order = (first, *(name for name in programs.RUNTIMES if name != first), first)
    said = [execute(client, _NAMES_ITSELF[name], name, sessionId=session)["stdout"] for name in order]
    assert said == [f"{name}\n" for name in order]


def test_sessions_are_apart(client: httpx.Client, session: str) -> None:
    other = f"{session}-other"
    execute(client, "open('/sandbox/mine', 'w')", sessionId=session)
    assert "mine" not in execute(client, LOOK, sessionId=other)["stdout"]
    delete(client, other)


def test_runtimes_share_the_sandbox(client: httpx.Client, session: str, runtime: str) -> None:
    execute(client, "mkdir in; printf 'hello file' > in/data.txt", "bash", sessionId=session)
    assert execute(client, programs.COPY_DATA_FILE[runtime], runtime, sessionId=session)["exitCode"] == 0
    result = execute(client, "print(open('/sandbox/out.txt').read())", sessionId=session)
    assert result["stdout"] == "HELLO FILE\n"


def test_background_processes_persist(client: httpx.Client, session: str) -> None:
    code = "(while :; do date +%N > /sandbox/beat; sleep 0.05; done) >/dev/null 2>&1 & echo started"
    assert execute(client, code, "bash", sessionId=session)["stdout"] == "started\n"
    read = "print(open('/sandbox/beat').read())"
    machine.until(lambda: execute(client, read, sessionId=session)["stdout"].strip(), "a first beat")
    first = execute(client, read, sessionId=session)["stdout"]
    machine.until(
        lambda: execute(client, read, sessionId=session)["stdout"].strip() not in ("", first.strip()), "a beat"
    )


def test_a_server_in_the_background_can_be_asked(client: httpx.Client, session: str) -> None:
    start = "cd /tmp && setsid python3 -m http.server 8123 --bind 127.0.0.1 >/dev/null 2>&1 & echo started"
    execute(client, start, "bash", sessionId=session)
    ask = (
        "import urllib.request, time\n"
        "while True:\n"
        "    try: print(urllib.request.urlopen('http://127.0.0.1:8123/').status); break\n"
        "    except OSError: time.sleep(0.02)"
    )
    assert execute(client, ask, sessionId=session)["stdout"] == "200\n"


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "1/0", "import os; os._exit(5)", "import os; os.abort()"])
def test_a_failing_program_does_not_end_the_session(client: httpx.Client, session: str, code: str) -> None:
    execute(client, "open('kept', 'w').write('kept')", sessionId=session)
    assert execute(client, code, sessionId=session)["exitCode"] != 0
    assert execute(client, "print(open('kept').read())", sessionId=session)["stdout"] == "kept\n"


def test_a_timeout_ends_the_run_and_keeps_the_files(client: httpx.Client, session: str) -> None:
    execute(client, "open('kept', 'w').write('kept')", sessionId=session)
    result, _ = out_of_time(client, programs.SPEAK_THEN_HANG["python"], sessionId=session)
    assert result["stdout"] == "before\n"
    assert execute(client, "print(open('kept').read())", sessionId=session)["stdout"] == "kept\n"


def test_usage_counts_one_execution_alone(client: httpx.Client, session: str) -> None:
    # Half of what the program asks for is enough: gVisor's kernel tells it more than its control group counts.
    burn = "import time\nend = time.process_time() + 1.6\nwhile time.process_time() < end: pass"
    burned = execute(client, burn, sessionId=session)["usage"]["cpuMs"]
    assert burned >= 800
    assert execute(client, "print(1)", sessionId=session)["usage"]["cpuMs"] < burned


@pytest.mark.parametrize("name", ["a", "A-Z_09.:x", "x" * 128, "..", "-", "session:1.2_3"])
def test_names_that_are_allowed(client: httpx.Client, name: str) -> None:
    assert execute(client, "print(1)", sessionId=name)["stdout"] == "1\n"
    assert name in _ids(client)
    client.request("DELETE", f"/session/{name.replace('..', '%2e%2e')}")


@pytest.mark.parametrize("name", ["", " ", "a/b", "a b", "é", "x" * 129, "a\n", "a\0", "$(x)"])
def test_names_that_are_not(client: httpx.Client, name: str) -> None:
    refused(client, 400, body("print(1)", sessionId=name), mentions="sessionId")


def test_delete(client: httpx.Client, session: str) -> None:
    mark = f"3600.{uuid.uuid4().int % 10**12}"
    execute(client, f"setsid sleep {mark} >/dev/null 2>&1 & touch /sandbox/old", "bash", sessionId=session)
    machine.until(lambda: machine.running(mark), "the background process runs")
    delete(client, session)
    machine.until(lambda: not machine.running(mark), "its processes are gone")
    assert session not in _ids(client)
    refusal(client.get("/file", params={"sessionId": session, "path": "/sandbox/old"}), 404, "Session not found")
    assert "old" not in execute(client, LOOK, sessionId=session)["stdout"]


def test_delete_ends_a_run_in_progress_with_a_clear_error(client: httpx.Client, session: str) -> None:
    mark = f"3600.{uuid.uuid4().int % 10**12}"
    code = f"import subprocess; subprocess.run(['sleep', '{mark}'])"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, "/execute", json=body(code, sessionId=session, timeoutMs=600_000))
        machine.until(lambda: machine.running(mark), "the program runs")
        delete(client, session)
        answer = running.result()
    assert answer.status_code != 200
    refusal(answer, answer.status_code)
    machine.until(lambda: not machine.running(mark), "the program is gone")


def test_list(client: httpx.Client, session: str) -> None:
    assert session not in _ids(client)
    execute(client, "print(1)", sessionId=session)
    entry = _ids(client)[session]
    assert isinstance(entry["isActive"], bool)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["lastAccessedAt"])
    execute(client, "print(1)", sessionId=session)
    assert _ids(client)[session]["lastAccessedAt"] >= entry["lastAccessedAt"]


def test_ephemeral_executions_are_no_sessions(client: httpx.Client) -> None:
    before = set(_ids(client))
    execute(client, "print(1)")
    assert set(_ids(client)) <= before


def test_calls_on_one_session_run_one_at_a_time_each_with_its_own_output(client: httpx.Client, session: str) -> None:
    code = (
        "import os, time\n"
        "os.mkdir('/sandbox/lock')\n"  # fails when another one is inside
        "print({n}); time.sleep(0.05); print({n} * 100)\n"
        "os.rmdir('/sandbox/lock')"
    )
    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda n: execute(client, code.format(n=n), sessionId=session), range(12)))
    for number, result in enumerate(results):
        assert (result["stdout"], result["stderr"]) == (f"{number}\n{number * 100}\n", "")


def test_calls_run_in_order_of_arrival(client: httpx.Client, server: Server, session: str) -> None:
    wait = f"{WAIT_FOR_GO}\nopen('/sandbox/order', 'w')"
    execute(client, "print(1)", sessionId=session)  # so that files can go in while the first of them runs
    codes = [wait, *(f"open('/sandbox/order', 'a').write('{number}')" for number in range(5))]
    with ExitStack() as stack:
        calls = []
        for code in codes:
            calls.append(stack.enter_context(send(server, "/execute", body(code, sessionId=session))))
            # Arrival is what the server sees: all of this one is with it before it reads what comes now.
            _ids(client)
        assert upload(client, session, "/sandbox/go", b"").status_code == 200
        for call in calls:
            assert read_to_end(call).startswith(b"HTTP/1.1 200 ")
    assert execute(client, "print(open('/sandbox/order').read())", sessionId=session)["stdout"] == "01234\n"


def test_four_concurrent_first_calls_make_one_sandbox(client: httpx.Client, session: str) -> None:
    barrier = threading.Barrier(4)

    def call(number: int) -> dict[str, Any]:
        barrier.wait()
        return execute(client, f"print({number}); open('/sandbox/f{number}', 'w')", sessionId=session)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(4)))
    assert [result["stdout"] for result in results] == [f"{n}\n" for n in range(4)]
    assert len({result["containerId"] for result in results}) == 1
    assert execute(client, LOOK, sessionId=session)["stdout"].count("'f") == 4


def test_a_call_that_waits_counts_its_timeout_from_its_own_start(client: httpx.Client, session: str) -> None:
    execute(client, "print(1)", sessionId=session)

    def behind_another(timeout_ms: int) -> Json:
        seconds, begun = 1.5 * timeout_ms / 1000, f"/sandbox/begun-{timeout_ms}"
        # It stays: whoever looks for it may be held up until the program is over.
        code = f"import time; open('{begun}', 'w'); time.sleep({seconds})"
        where = {"sessionId": session, "path": begun}
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(execute, client, code, sessionId=session)
            machine.until(lambda: client.get("/file", params=where).status_code == 200, "it runs")
            quick = pool.submit(execute, client, "print('ran')", sessionId=session, timeoutMs=timeout_ms)
            assert not slow.result()["timedOut"]
            return quick.result()

    result, _ = with_time_enough(behind_another, lambda result: not result["timedOut"], 1000)
    assert result["stdout"] == "ran\n"


def test_later_calls_may_change_limits(client: httpx.Client, session: str) -> None:
    grab = "x = b'x' * (100 << 20); print('got it')"
    small, large = {"memoryLimit": "64m"}, {"memoryLimit": "256m"}
    assert execute(client, grab, sessionId=session, options=large)["stdout"] == "got it\n"
    refusal(client.post("/execute", json=body(grab, sessionId=session, options=small)), 500, "OOM")
    assert execute(client, grab, sessionId=session, options=large)["stdout"] == "got it\n"


def test_sizes_may_grow(client: httpx.Client, session: str) -> None:
    fill = "open('/sandbox/big', 'wb').write(b'x' * (12 << 20)); print('fits')"
    result = execute(client, fill, sessionId=session, options={"sandboxSize": "8m"})
    assert "No space left" in result["stderr"]
    assert execute(client, fill, sessionId=session, options={"sandboxSize": "16m"})["stdout"] == "fits\n"


def test_what_cannot_be_changed_is_a_409_that_says_so(client: httpx.Client, session: str) -> None:
    fill = "open('/sandbox/big', 'wb').write(b'x' * (20 << 20)); print('fits')"
    assert execute(client, fill, sessionId=session, options={"sandboxSize": "32m"})["stdout"] == "fits\n"
    refused(client, 409, body("1", sessionId=session, options={"sandboxSize": "4m"}), mentions="limits")
    assert execute(client, "print('alive')", sessionId=session)["stdout"] == "alive\n"


def test_a_session_belongs_to_its_key(serve: Serve) -> None:
    running = serve({"apiKeys": ["key-one", "key-two"]}, key=None)
    with running.client("key-one") as one, running.client("key-two") as two:
        execute(one, "open('/sandbox/secret', 'w').write('of one')", sessionId="shared-name")
        upload(one, "shared-name", "/sandbox/file", b"of one")
        assert _ids(two) == {}
        for path in ("/sandbox/secret", "/sandbox/file"):
            refusal(two.get("/file", params={"sessionId": "shared-name", "path": path}), 404, "Session not found")
        refusal(upload(two, "shared-name", "/sandbox/x", b"x"), 404, "Session not found")
        delete(two, "shared-name")
        assert "secret" in execute(one, LOOK, sessionId="shared-name")["stdout"]
        assert "secret" not in execute(two, LOOK, sessionId="shared-name")["stdout"]
        assert set(_ids(one)) == set(_ids(two)) == {"shared-name"}


def test_idle_sessions_are_removed_and_running_ones_never(serve: Serve) -> None:
    running = serve({"cleanup": {"autoPrune": True, "maxContainerAgeMs": 1500}})
    with running.client() as client, ThreadPoolExecutor(1) as pool:
        busy = pool.submit(execute, client, f"{WAIT_FOR_GO}\nprint('not removed')", sessionId="busy")
        machine.until(lambda: "busy" in _ids(client), "the busy session")
        execute(client, "open('/sandbox/idle', 'w')", sessionId="idle")
        machine.until(lambda: "idle" not in _ids(client), "the idle session is gone")
        assert "busy" in _ids(client)  # which has run for longer
        assert upload(client, "busy", "/sandbox/go", b"").status_code == 200
        assert busy.result()["stdout"] == "not removed\n"
        machine.until(lambda: "busy" not in _ids(client), "the other one is gone too")
        assert "idle" not in execute(client, LOOK, sessionId="idle")["stdout"]


def test_the_number_of_sessions_of_a_key_is_bounded(serve: Serve) -> None:
    running = serve({"policy": {"maxSessionsPerKey": 2}})
    with running.client() as client:
        for name in ("one", "two"):
            execute(client, "print(1)", sessionId=name)
        answer = client.post("/execute", json=body("print(1)", sessionId="three"))
        assert 400 <= answer.status_code < 600
        refusal(answer, answer.status_code, "session")
        delete(client, "one")
        assert execute(client, "print(1)", sessionId="three")["stdout"] == "1\n"


def test_a_killed_session_is_usable_or_says_so(client: httpx.Client, session: str) -> None:
    """Memory kills in a session: the next call has an answer with meaning, and a fresh or the same sandbox."""
    eat = body("x = b'x' * (1 << 30)", sessionId=session, options={"memoryLimit": "64m"})
    refusal(client.post("/execute", json=eat), 500, "OOM")
    answer = client.post("/execute", json=body("print('after')", sessionId=session))
    if answer.status_code != 200:
        refusal(answer, answer.status_code)
        answer = client.post("/execute", json=body("print('after')", sessionId=session))
    assert answer.json()["stdout"] == "after\n"


# A port is taken until the kernel has taken its program apart.
_TAKES = {
    "python": "import os, socket; s = socket.create_server(('', 4000)); print('taken', flush=True); os._exit(5)",
    "node": "require('net').createServer().listen(4000, '127.0.0.1', () => (console.log('taken'), process.exit(5)))",
    "bun": "Bun.listen({hostname: '0.0.0.0', port: 4000, socket: {data() {}}}); console.log('taken'); process.exit(5)",
    "deno": "Deno.listen({hostname: '127.0.0.1', port: 4000}); console.log('taken'); Deno.exit(5)",
}


@pytest.mark.parametrize("language", _TAKES)
def test_a_call_finds_nothing_of_the_program_before_it(
    client: httpx.Client, session: str, require: Any, language: str
) -> None:
    require(language)
    for _ in range(4):
        result = execute(client, _TAKES[language], language, sessionId=session)
        assert (result["stdout"], result["stderr"], result["exitCode"]) == ("taken\n", "", 5)
