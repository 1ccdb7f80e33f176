"""Starting and ending a real server, as `isol8 serve` starts it, and looking at what it leaves."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support import daemon, engines, machine

KEY = "test-key-of-the-suite"
# Bounds for a machine that is emulated, and busy.
START_SECONDS = 240.0
STOP_SECONDS = 120.0
# What a program may take that has no time limit of its own: far more than it needs on a machine that is busy.
PATIENT_MS = 300_000
# Fewer warm sandboxes than the defaults: several servers share the machine when tests run in parallel.
SMALL_POOL = {"python": 2, "node": 1, "bash": 1, "bun": 1, "deno": 1}
# What it exits with on SIGTERM: by itself, or by taking the signal again once all is closed.
CLEAN_EXITS = (0, -signal.SIGTERM, 128 + signal.SIGTERM)


@dataclass
class Server:
    """A running server. `stop` it, or leave the `serving` block. `url` is the kernel's choice: a port that a test chose
    could be somebody else's by the time that the server takes it."""

    process: subprocess.Popen[bytes]
    url: str
    key: str
    directory: Path
    log: Path
    mark: str
    # Every process that was ever found to belong to it, and when that one was started.
    seen: dict[int, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """Its main process."""
        return self.process.pid

    def processes(self) -> set[int]:
        """All live processes of this server: its tree, what it forked away, and what is in its sandboxes."""
        mine = machine.descendants(self.pid) | machine.marked(self.mark) | machine.cgroup_members(self.pid)
        for pid in mine | {self.pid}:
            begun = machine.started(pid)
            if begun is not None:
                self.seen.setdefault(pid, begun)
        return {pid for pid, begun in self.seen.items() if machine.started(pid) == begun}

    def left(self) -> dict[str, object]:
        """What is still there of it; empty when there is nothing."""
        found = {
            "processes": sorted(self.processes()),
            "cgroups": machine.cgroups(self.pid),
            "containers": [each["Names"] for each in daemon.containers(self.pid)] if uses_docker() else [],
            "directories": glob.glob(f"/run/isol8-{self.pid}-*"),
            "temporary files": sorted(str(path) for path in (self.directory / "tmp").iterdir()),
        }
        return {name: value for name, value in found.items() if value}

    def log_text(self) -> str:
        """Everything the server has said so far."""
        return self.log.read_text(errors="replace")

    def client(self, key: str | None = None, seconds: float = 400.0) -> httpx.Client:
        """An HTTP client that carries a key (the first one by default). The caller closes it."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=8)
        return httpx.Client(base_url=self.url, headers=headers, timeout=seconds, limits=limits, trust_env=False)


def uses_docker() -> bool:
    """Whether the servers' sandboxes are containers."""
    return engines.of_docker()


def _environment(mark: str, key: str | None, temporary: Path, extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ISOL8_")}
    own = {"ISOL8_HOST": "127.0.0.1", "ISOL8_PORT": "0"} | engines.environment()
    if key is not None:
        own["ISOL8_API_KEY"] = key
    if "ISOL8_DATA_DIR" in os.environ:
        own["ISOL8_DATA_DIR"] = os.environ["ISOL8_DATA_DIR"]
    return kept | own | {"TMPDIR": str(temporary), "SERVER_ONLY_MARK": mark} | dict(extra)


def _wait_until_healthy(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended with {server.process.returncode}:\n{server.log_text()}")
        said = re.search(r"listens on (http://\S+)", server.log_text())
        server.url = said[1] if said else ""
        with contextlib.suppress(httpx.TransportError):
            if said and httpx.get(f"{server.url}/health", timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"GET /health was not 200 within {START_SECONDS:g} s:\n{server.log_text()}")


def start(
    directory: Path,
    config: Mapping[str, Any] | None = None,
    *,
    key: str | None = KEY,
    environment: Mapping[str, str] | None = None,
    wrapper: tuple[str, ...] = (),
    python: str = sys.executable,
) -> Server:
    """Start a server and wait until it is healthy. The caller must `stop` it.

    `directory` takes its configuration, log and temporary files. `key` None leaves the keys to `config`.
    `wrapper` is a command that starts the one behind it. `python` is an interpreter whose isol8 is to be started.
    Raises AssertionError with the server's log when it does not come up.
    """
    mark = f"mark-{uuid.uuid4().hex}"
    temporary = directory / "tmp"
    temporary.mkdir(parents=True)
    settings = {"pool": SMALL_POOL} | dict(config or {})
    if "timeoutMs" not in settings.get("policy", {}):
        settings["defaults"] = {"timeoutMs": PATIENT_MS} | settings.get("defaults", {})
    (directory / "config.json").write_text(json.dumps(settings))
    log = directory / "server.log"
    command = [*wrapper, python, "-m", "isol8", "serve", "--config", str(directory / "config.json")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=_environment(mark, key, temporary, environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    first_key = key if key is not None else next(iter(settings.get("apiKeys", ())), "")
    server = Server(process, "", first_key, directory, log, mark)
    try:
        _wait_until_healthy(server)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return server


def stop(server: Server) -> None:
    """End the server with SIGTERM. Asserts that it exits cleanly, in time, and that nothing of it is left."""
    try:
        server.processes()
    finally:
        server.process.terminate()
    try:
        code = server.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
        raise AssertionError(f"no end within {STOP_SECONDS:g} s of SIGTERM:\n{server.log_text()}") from None
    assert code in CLEAN_EXITS, f"ended with {code}:\n{server.log_text()}"
    machine.until(lambda: not server.left(), lambda: f"nothing left of it: {server.left()}")


def crash(server: Server, *, launcher_alone: bool = False) -> None:
    """Kill every process of the server at once, or the main one alone. What is in containers is the daemon's."""
    children = machine.descendants(server.pid)
    killed = [server.pid] if launcher_alone else [server.pid, *children]
    machine.kill(killed, signal.SIGSTOP)  # whoever saw another one die could still answer, or clear up
    machine.kill(killed)
    server.process.wait()
    machine.until(lambda: not machine.alive(children), "the other processes end")


@contextlib.contextmanager
def serving(directory: Path, config: Mapping[str, Any] | None = None, **more: Any) -> Iterator[Server]:
    """A server for the length of a block; see `start` and `stop`."""
    server = start(directory, config, **more)
    try:
        yield server
    finally:
        stop(server)
