"""All of a server is killed at once, and started again: its sessions are there, and nothing else of it."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import daemon, machine
from tests.support import server as servers
from tests.support.calls import body, download, execute, refusal, stdout, upload
from tests.support.server import KEY, Server

POOL = {"python": 1, "bash": 0, "node": 0, "bun": 0, "deno": 0}


class House:
    """A data directory, and the servers that have it one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records = directory / "data" / "sessions"
        self._started: list[Server] = []

    def start(self, config: dict[str, Any] | None = None, **more: Any) -> Server:
        """A server. `crash` it, or it is stopped with the test."""
        place = self.directory / f"server-{len(self._started)}"
        environment = {"ISOL8_DATA_DIR": str(self.directory / "data")}
        server = servers.start(place, {"pool": POOL} | (config or {}), environment=environment, **more)
        self._started.append(server)
        return server

    def again(self, config: dict[str, Any] | None = None, **more: Any) -> Server:
        """Kill the last server, and start another one."""
        servers.crash(self._started[-1])
        return self.start(config, **more)

    def containers(self) -> list[dict[str, Any]]:
        """Of all its servers."""
        return [each for server in self._started for each in daemon.containers(server.pid)]

    def close(self) -> None:
        """Stop what still runs. Nothing is left."""
        for server in self._started:
            if server.process.poll() is None:
                server.process.terminate()
                assert server.process.wait(servers.STOP_SECONDS) in servers.CLEAN_EXITS
        machine.until(lambda: not self.containers(), lambda: f"no containers: {self.containers()}")
        assert not self.records.exists() or not list(self.records.iterdir())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")
    made = House(tmp_path)
    yield made
    made.close()


def _names(client: httpx.Client) -> set[str]:
    return {each["id"] for each in client.get("/sessions").json()["sessions"]}


def test_a_session_is_there_again(house: House) -> None:
    keys = {"apiKeys": ["one", "two"]}
    mark = f"3600.{uuid.uuid4().int % 10**12}"
    running = house.start(keys, key=None)
    with running.client("two") as client:
        options = {"memoryLimit": "96m", "pidsLimit": 9}
        code = f"open('kept', 'w').write('x'); import subprocess; subprocess.Popen(['sleep', '{mark}'])"
        first = execute(client, code, sessionId="mine", options=options)
        (listed,) = client.get("/sessions").json()["sessions"]
    # The order of keys is no part of who a caller is.
    running = house.again({"apiKeys": ["three", "two", "one"]}, key=None)
    with running.client("two") as client, running.client("one") as other:
        assert _names(client) == {"mine"}
        assert _names(other) == set()
        refusal(other.get("/file", params={"sessionId": "mine", "path": "/sandbox/kept"}), 404)
        assert client.get("/sessions").json()["sessions"][0]["createdAt"] == listed["createdAt"]
        assert download(client, "mine", "/sandbox/kept") == b"x"
        result = execute(client, "print(open('kept').read())", sessionId="mine")
        assert (result["stdout"], result["containerId"]) == ("x\n", first["containerId"])
        assert machine.running(mark), "background processes of an idle session run on"
        refusal(client.post("/execute", json=body("bytearray(120 << 20)", sessionId="mine")), 500, "OOM")
        # Of the dead server nothing else is left.
        labels = [each["Labels"][daemon.LABEL] for each in house.containers()]
        assert len([label for label in labels if f"-{running.pid}-" not in label]) == 1
    # A second crash is like the first.
    running = house.again(keys, key=None)
    with running.client("two") as client:
        assert stdout(client, "print(open('kept').read())", sessionId="mine") == "x\n"


def test_a_session_that_was_executing(house: House) -> None:
    """What ran is ended, as by a timeout; the session stays."""
    running = house.start()
    mark = f"3600.{uuid.uuid4().int % 10**12}"
    code = f"import subprocess; subprocess.Popen(['sleep', '{mark}'])\nwhile True: print('x' * 9999)"
    sent = body(code, sessionId="busy", options={"maxOutputSize": "64m"})
    with running.client() as client, ThreadPoolExecutor(2) as pool:
        execute(client, "open('kept', 'w').write('x')", sessionId="busy")
        executing = pool.submit(client.post, "/execute", json=sent)
        machine.until(lambda: machine.running(mark), "it runs")
        uploading = pool.submit(upload, client, "busy", "/sandbox/large", bytes(100 << 20))
        running = house.again()
        for cut in (executing, uploading):
            assert isinstance(cut.exception(), httpx.TransportError)
    with running.client() as client:
        machine.until(lambda: not machine.running(mark), "what had been running has ended")
        look = "import os; print(open('kept').read(), sorted(os.listdir('.')))"
        # The upload was whole, or not at all.
        assert stdout(client, look, sessionId="busy") in (
            "x ['kept', 'main.py']\n",
            "x ['kept', 'large', 'main.py']\n",
        )


def test_time_goes_on(house: House) -> None:
    """What had not been used for too long, the server's absence included, is not there again; what was in use is."""
    running = house.start()  # it may take as long as it likes until it is killed
    with running.client() as client, ThreadPoolExecutor(1) as pool:
        execute(client, "1", sessionId="idle")
        execute(client, "1", sessionId="busy")
        executing = pool.submit(client.post, "/execute", json=body("import time; time.sleep(600)", sessionId="busy"))
        machine.until(lambda: _noted(house) == {"idle": False, "busy": True}, "it is noted down which is idle")
        servers.crash(running)
        assert isinstance(executing.exception(), httpx.TransportError)
    _make_older(house, "idle")
    running = house.start({"cleanup": {"maxContainerAgeMs": 20_000}})
    with running.client() as client:
        assert _names(client) == {"busy"}
        machine.until(lambda: _names(client) == set(), "it ends when it is not used")


def _noted(house: House) -> dict[str, bool]:
    """Which sessions are noted down, and whether as being in use."""
    notes = [json.loads(path.read_text())["note"] for path in house.records.glob("*.json")]
    return {note["session"]: note["busy"] for note in notes}


def _make_older(house: House, name: str) -> None:
    """Have a session of a server that is dead be one that was last used an hour before."""
    for path in house.records.glob("*.json"):
        record = json.loads(path.read_text())
        if record["note"]["session"] == name:
            record["note"]["lastAccessedAt"] -= 3600
            path.write_text(json.dumps(record))


def test_a_key_that_is_no_more(house: House) -> None:
    running = house.start()
    with running.client() as client:
        execute(client, "1", sessionId="mine")
    running = house.again(key="another")
    with running.client() as client:
        assert _names(client) == set()
        machine.until(lambda: len(house.containers()) == 1, "the warm one alone")
    assert "the key that made it is none of this server's" in running.log_text()


def _damaged(text: str) -> dict[str, str | None]:
    """Ways in which a record can be not what it was; None: it is gone."""
    record = json.loads(text)
    changes: dict[str, Any] = {
        "more": {"more": 1},
        "another": {"container": "0" * 64},
        "no-token": {"token": "00"},
        "root": {"uid": 0},
        "older": {"runner": "older"},
        "no-limits": {"request": record["request"] | {"limits": {}}},
        "no-note": {"note": {"session": "../x", "owner": "x"}},
    }
    changed: dict[str, str | None] = {name: json.dumps(record | change) for name, change in changes.items()}
    return changed | {"empty": "", "list": "[]", "deep": "[" * 100_000, "gone": None}


def test_records_that_cannot_be_believed(house: House) -> None:
    """Their containers are removed, and that is said."""
    running = house.start()
    with running.client() as client:
        names = [*_damaged('{"request": {}}'), "writable", "whole"]
        for name in names:
            execute(client, "1", sessionId=name)
    servers.crash(running)
    for path in list(house.records.iterdir()):
        text = path.read_text()
        name = json.loads(text)["note"]["session"]
        after = _damaged(text).get(name, text)
        path.chmod(0o666 if name == "writable" else 0o600)
        if after is None:
            path.unlink()
        else:
            path.write_text(after)
    running = house.start()
    with running.client() as client:
        assert _names(client) == {"whole"}
        machine.until(lambda: len(house.containers()) == 2, "the others are gone")
        assert stdout(client, "print(1)", sessionId="root") == "1\n"
    said = running.log_text()
    assert "Traceback" not in said
    assert said.count(" is removed: ") + said.count(" is ended ") == len(names) - 1, said
    for sign in ("only this user can write to", "another version", "of another container", "makes no sense"):
        assert sign in said


def test_what_is_another_servers_stays(house: House, tmp_path: Path) -> None:
    """Containers of another data directory, whose server is dead, are left to the next one there; `doctor` takes
    nothing."""
    elsewhere = House(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    there = elsewhere.start()
    with there.client() as client:
        execute(client, "open('kept', 'w').write('x')", sessionId="theirs")
    servers.crash(there)
    with house.start().client() as client:
        assert _names(client) == set()
    with elsewhere.start().client() as client:
        assert stdout(client, "print(open('kept').read())", sessionId="theirs") == "x\n"
    # A second server of the same directory takes nothing from one that lives.
    second = elsewhere.start()
    with second.client() as client:
        assert _names(client) == set()
        with elsewhere._started[1].client() as first:
            assert _names(first) == {"theirs"}
    elsewhere.close()


def test_containers_that_have_gone_meanwhile(house: House) -> None:
    running = house.start()
    with running.client() as client:
        execute(client, "1", sessionId="mine")
    servers.crash(running)
    with daemon.client() as client:
        for each in house.containers():
            client.delete(f"/containers/{each['Id']}", params={"force": 1})
    running = house.start()
    with running.client() as client:
        assert _names(client) == set()
        assert list(house.records.iterdir()) == []
        assert stdout(client, "print(1)", sessionId="mine") == "1\n"


def test_the_main_process_alone(house: House) -> None:
    """The others end in order, and leave what is kept."""
    running = house.start()
    with running.client() as client:
        execute(client, "open('kept', 'w').write('x')", sessionId="mine")
    servers.crash(running, launcher_alone=True)
    machine.until(lambda: len(house.containers()) == 1, "the session's alone")
    with house.start().client() as client:
        assert stdout(client, "print(open('kept').read())", sessionId="mine") == "x\n"


def test_the_api_process_alone(house: House) -> None:
    running = house.start()
    with running.client() as client:
        first = execute(client, "open('kept', 'w').write('x')", sessionId="mine")
        (api,) = {
            pid
            for pid in machine.descendants(running.pid)
            if machine.parent(pid) == running.pid and Path(f"/proc/{pid}").stat().st_uid == 65534
        }
        os.kill(api, signal.SIGKILL)
        machine.until(lambda: api not in machine.alive({api}), "it is gone")
        result = machine.until(lambda: _answer(client), "an answer")
    assert (result["stdout"], result["containerId"]) == ("x\n", first["containerId"])


def _answer(client: httpx.Client) -> dict[str, Any] | None:
    try:
        answer = client.post("/execute", json=body("print(open('kept').read())", sessionId="mine"))
    except httpx.TransportError:
        return None
    return answer.json() if answer.status_code == 200 else None


def test_many_crashes(house: House) -> None:
    """At whatever moment: the session is there again, with what was written."""
    running = house.start()
    with running.client() as client:
        execute(client, "open('kept', 'w').write('x')", sessionId="mine")
    for round_ in range(4):
        with running.client(KEY) as client, ThreadPoolExecutor(4) as pool:
            calls = [
                pool.submit(client.post, "/execute", json=body(f"print({number})", sessionId="mine"))
                for number in range(10)
            ]
            calls[round_].exception()
            running = house.again()
            for call in calls:
                call.exception()
        with running.client() as client:
            assert stdout(client, "print(open('kept').read())", sessionId="mine") == "x\n", round_
