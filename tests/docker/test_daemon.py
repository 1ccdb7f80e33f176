"""What goes wrong with the daemon under a server: it is restarted, its disk is full. Clear errors, and full
recovery."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import daemon, dockerd, machine
from tests.support.calls import Json, body, execute, refusal
from tests.support.dockerd import Daemon
from tests.support.server import STOP_SECONDS

POOL = {"python": 2, "bash": 1, "node": 0, "bun": 0, "deno": 0}


def _config(own: Daemon, **more: Any) -> dict[str, Any]:
    return {"docker": {"host": own.host, "image": dockerd.base_image()}, "pool": POOL, **more}


def _require_daemon() -> None:
    if not daemon.reachable():
        pytest.skip("there is no Docker daemon")


def _works(client: httpx.Client) -> Json | None:
    answer = client.post("/execute", json=body("print('hello')"))
    if answer.status_code == 200:
        return answer.json()  # type: ignore[no-any-return]
    refusal(answer, 500)
    return None


def _problem(client: httpx.Client) -> str:
    said: str = refusal(client.post("/execute", json=body("print(1)")), 500)["error"]
    return said


def test_a_daemon_that_is_restarted(serve: Serve) -> None:
    _require_daemon()
    with dockerd.running() as own:
        own.load(dockerd.base_image())
        running = serve(_config(own))
        with running.client() as client, ThreadPoolExecutor(1) as pool:
            execute(client, "open('kept', 'w').write('x'); print(1)", sessionId="kept")
            busy = pool.submit(
                client.post, "/execute", json=body("import time; time.sleep(600)", timeoutMs=600_000, sessionId="busy")
            )
            machine.until(lambda: len(client.get("/sessions").json()["sessions"]) == 2, "both sessions")
            machine.until(lambda: len(own.containers()) >= 4, "a warm pool")
            own.stop()
            refusal(busy.result(), 500, "Execution failed")
            machine.until(lambda: "Docker daemon cannot be reached" in _problem(client), "that is said")
            assert client.get("/health").status_code == 200
            own.start()
            assert machine.until(lambda: _works(client), "an answer")["stdout"] == "hello\n"
            # The session's sandbox is gone; that is said, and it works again.
            result = execute(client, "import os; print(os.path.exists('kept'))", sessionId="kept")
            assert result["stdout"] == "False\n"
            assert any("new one" in warning for warning in result["warnings"])
            for name in ("kept", "busy"):
                client.delete(f"/session/{name}")
            execute(client, "echo 1", "bash")
            machine.until(lambda: len(own.containers()) == 3, lambda: f"three warm ones: {own.containers()}")
        running.process.terminate()
        running.process.wait(STOP_SECONDS)
        assert own.containers() == []


def test_a_daemon_whose_disk_is_full(serve: Serve) -> None:
    _require_daemon()
    with dockerd.running(room="900m") as own:
        own.load(dockerd.base_image())
        running = serve(_config(own, pool=dict.fromkeys(POOL, 0)))
        with running.client() as client:
            execute(client, "print(1)")
            machine.until(lambda: own.containers() == [], "it makes no room any more by going")
            filler = own.data / "filler"
            try:
                with filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 20))
            except OSError:
                pass
            for _ in range(3):
                problem = refusal(client.post("/execute", json=body("print(1)")), 500, "Execution failed")
                assert "no space left" in problem["error"]
            assert client.get("/health").status_code == 200
            filler.unlink()
            assert machine.until(lambda: _works(client), "an answer")["stdout"] == "hello\n"
            machine.until(lambda: own.containers() == [], lambda: f"nothing left: {own.containers()}")
        running.process.terminate()
        running.process.wait(STOP_SECONDS)
        assert own.containers() == []
