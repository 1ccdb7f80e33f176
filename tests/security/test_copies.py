"""Interpreters that are copies of one that has booted: held like one that booted in the sandbox, and like no other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import engines, machine
from tests.support import server as servers
from tests.support.calls import execute, stdout
from tests.support.server import Server

# What may differ between two programs in one sandbox, of /proc/self/status: numbers, times, memory, and whether its
# end is told of early (docs/decisions/2026-11-29-ends-early.md).
VOLATILE = {
    "TracerPid",
    "Tgid",
    "Pid",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
    "FDSize",
    "RssAnon",
    "RssFile",
    "HugetlbPages",
}
PROGRAMS = Path(__file__).parent / "programs"
REACH = (PROGRAMS / "reach.js").read_text()
HELD = (PROGRAMS / "held.js").read_text()
INDIVIDUAL = (PROGRAMS / "individual.js").read_text()
# Where the kernel put the vdso: it is the same in copies of one process alone.
ORIGIN = """
const words = new BigUint64Array(new Uint8Array(require("fs").readFileSync("/proc/self/auxv")).buffer);
for (let i = 0; words[i]; i += 2) if (words[i] === 33n) console.log(String(words[i + 1]));
"""


@pytest.fixture(autouse=True)
def _node(require: Any) -> None:
    require("node")


def _copies() -> None:
    if engines.CURRENT["engine"] != "native":
        pytest.skip("this engine boots an interpreter in every sandbox")


def test_node_is_copied(client: httpx.Client) -> None:
    _copies()
    assert len({stdout(client, ORIGIN, "node") for _ in range(4)}) == 1
    assert len({stdout(client, ORIGIN, "node", env={"BOOTED": "1"}) for _ in range(2)}) == 2


def test_a_copy_is_held_like_what_boots(client: httpx.Client, session: str) -> None:
    """In one sandbox: everything but what says which process it is."""
    _copies()
    copied = json.loads(stdout(client, HELD, "node", sessionId=session))
    booted = json.loads(stdout(client, HELD, "node", sessionId=session, env={"BOOTED": "1"}))
    assert booted.pop("environment").replace("BOOTED=1\0", "") == copied.pop("environment")
    for each in (copied, booted):
        status = each["status"]
        each["status"] = {
            name: value
            for name, value in status.items()
            if name not in VOLATILE and not name.startswith("Vm") and not name.endswith("ctxt_switches")
        }
        each["kept"] = each["kept"] > 0
    assert copied == booted
    assert copied["auxiliary"] == [True] * 4
    assert copied["session"] == [True, True]


def test_no_two_copies_draw_the_same(client: httpx.Client) -> None:
    found = [json.loads(stdout(client, INDIVIDUAL, "node")) for _ in range(8)]
    values = [value for each in found for value in each.values()]
    assert len(set(values)) == len(values)


def test_copies_share_no_memory(client: httpx.Client) -> None:
    """What one writes at an address, another one has not: both have it at the same place."""
    look = """
    const fs = require("fs");
    const writable = fs.readFileSync("/proc/self/maps", "utf8").split("\\n").filter((line) => / .w.s /.test(line));
    const memory = fs.openSync("/proc/self/mem", "r+");
    const [start] = fs.readFileSync("/proc/self/maps", "utf8").match(/^(\\w+)-\\w+ .*\\[heap\\]$/m).slice(1);
    const at = parseInt(start, 16) + 4096;
    const old = Buffer.alloc(8);
    fs.readSync(memory, old, 0, 8, at);
    fs.writeSync(memory, Buffer.from("copied!!"), 0, 8, at);
    console.log(writable.length, start, old.toString());
    fs.writeSync(memory, old, 0, 8, at);
    """
    for _ in range(3):
        shared, _, old = stdout(client, look, "node").split(" ", 2)
        assert (shared, "copied" in old) == ("0", False)


def test_nothing_of_the_template_is_in_reach(client: httpx.Client) -> None:
    """No descriptor leads out, and the kernel names no other process."""
    found = json.loads(stdout(client, REACH, "node"))
    assert found["sockets"] == []
    assert found["processes"] in ([], [1])
    assert found["exe"] == "ENOTDIR"


def _templates(server: Server) -> list[int]:
    """Interpreters of root's: sandboxes have other users."""
    found = []
    for pid in machine.descendants(server.pid):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe").endswith("/node") and os.stat(f"/proc/{pid}").st_uid == 0:
                found.append(pid)
    return found


def test_templates_come_back_and_leave_nothing(serve: Serve) -> None:
    """Killed, it is made anew; sandboxes that were copied go on; with the server it is gone."""
    _copies()
    server = serve()
    with server.client() as client:
        first = stdout(client, ORIGIN, "node")
        template = machine.until(lambda: _templates(server), "a template")[0]
        os.kill(template, signal.SIGKILL)
        machine.until(lambda: stdout(client, ORIGIN, "node") == stdout(client, ORIGIN, "node") != first, "new copies")
        # One that was in the making when that one went may go as well.
        machine.until(lambda: len(set(_templates(server)) - {template}) == 1, "a new one, and it alone")
        (again,) = set(_templates(server)) - {template}
        for _ in range(5):
            execute(client, "console.log(1)", "node")
        machine.until(lambda: len(machine.descriptors(again)) == 1, "a template with no descriptors but its socket")
        assert os.listdir(f"/proc/{again}/task") == [str(again)]
    servers.stop(server)
    assert not machine.alive({again})


def test_the_layers_hold_for_copies(client: httpx.Client) -> None:
    status = json.loads(stdout(client, HELD, "node"))["status"]
    assert (status["Seccomp"], status["Seccomp_filters"], status["NoNewPrivs"]) == ("2", "1", "1")
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000000000"}
