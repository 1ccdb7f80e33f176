"""Programs that take all they can: the sandbox's limits hold, what is killed is gone, and nothing is left."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.security import containment
from tests.security.conftest import Compiled, api_process
from tests.support import machine
from tests.support.calls import Json, body, delete, execute, out_of_time, refusal, stdout, upload, with_time_enough
from tests.support.server import Server

MIB = 1 << 20

FORK_BOMBS = {
    "c": ("bash", "chmod +x bomb; ./bomb fork"),
    "bash": ("bash", "bomb() { bomb | bomb & }; bomb; while :; do :; done"),
    "python": ("python", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"),
    "node": (
        "node",
        "const { spawn } = require('child_process'); for (;;) spawn('sleep', ['3600']).on('error', () => {})",
    ),
}
TAKE = "x = []\ntry:\n    while len(x) < 400: {}\nexcept (OSError, MemoryError): pass\nprint(len(x))"
ALL_DESCRIPTORS = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
"""
# Each takes a MiB at a time, up to 400, of a different kind of memory.
MEMORY_BOMBS = {
    "heap": TAKE.format("x.append(b'x' * (1 << 20))"),
    "shared mapping": "import mmap\n"
    + TAKE.format("m = mmap.mmap(-1, 1 << 20); m.write(b'x' * (1 << 20)); x.append(m)"),
    "memfd": "import os\n" + TAKE.format("x.append(os.memfd_create('x')); os.write(x[-1], b'x' * (1 << 20))"),
    "/sandbox": TAKE.format("x.append(open('/sandbox/x', 'ab', buffering=0).write(b'x' * (1 << 20)))"),
    "/tmp": TAKE.format("x.append(open('/tmp/x', 'ab', buffering=0).write(b'x' * (1 << 20)))"),
    "/dev/shm": TAKE.format("x.append(open('/dev/shm/x', 'ab', buffering=0).write(b'x' * (1 << 20)))"),
    "System V": "import ctypes\nlibc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p\n"
    + TAKE.format("x.append(libc.shmat(libc.shmget(0, 1 << 20, 0o1600), None, 0)); ctypes.memset(x[-1], 1, 1 << 20)"),
    "System V messages": "import ctypes\nlibc = ctypes.CDLL(None)\n"
    "def fill():\n"
    "    queue = libc.msgget(0, 0o1600)\n"
    "    if queue < 0: raise MemoryError\n"
    "    return [libc.msgsnd(queue, b'x' * 8192, 8000, 0o4000) for _ in '12']\n"
    + TAKE.format("x.append([fill() for _ in range(64)])"),
    "pipes": "import fcntl, os\n"
    + TAKE.format(
        "r, w = os.pipe(); os.set_blocking(w, False); fcntl.fcntl(w, 1031, 1 << 20);"
        " x.append((r, os.write(w, bytes(1 << 20))))"
    ),
    "unix sockets": "import socket\n"
    + TAKE.format(
        "a, b = socket.socketpair(); a.setblocking(False); x.append((a, b, [a.send(bytes(100000)) for _ in '12']))"
    ),
    "children": "import os, time\n" + TAKE.format("x.append(os.fork()); x[-1] or (b'x' * (20 << 20), time.sleep(999))"),
    "directories": "import os\n" + TAKE.format("x.append([os.mkdir(f'/tmp/{len(x)}-{n}') for n in range(1000)])"),
    "threads": "import threading, time\n"
    + TAKE.format(
        "x.append(threading.Thread(target=lambda: bytearray(9 << 20) and time.sleep(3600), daemon=True)); x[-1].start()"
    ),
}


@pytest.mark.parametrize(
    # Node is not up yet, where a machine is emulated, when the others have been ended.
    "kind",
    [pytest.param(kind, marks=[pytest.mark.cgroup] if kind == "python" else []) for kind in FORK_BOMBS],
)
def test_fork_bombs(client: httpx.Client, server: Server, compiled: Compiled, require: Any, kind: str) -> None:
    runtime, code = FORK_BOMBS[kind]
    require(runtime)
    files = compiled("bomb") if kind == "c" else {}
    counts = {0}

    def explode(timeout_ms: int) -> Json:
        with machine.watching(lambda: counts.update(map(len, map(machine.members, machine.cgroups(server.pid))))):
            return execute(client, code, runtime, files=files, options={"pidsLimit": 40}, timeoutMs=timeout_ms)

    result, _ = with_time_enough(explode, lambda _: max(counts) > 20, 3000)
    assert result["timedOut"] or result["exitCode"] != 0, result
    assert max(counts) <= 41


def test_a_thread_bomb(client: httpx.Client, compiled: Compiled) -> None:
    made = stdout(client, "chmod +x bomb; ./bomb thread", "bash", files=compiled("bomb"), options={"pidsLimit": 40})
    assert int(made) == 38  # bash and the first thread are the other two


@pytest.mark.cgroup
def test_process_limit(client: httpx.Client) -> None:
    containment.bounded_processes(client)


@pytest.mark.parametrize("kind", MEMORY_BOMBS)
def test_memory_bombs(client: httpx.Client, kind: str) -> None:
    options = {"memoryLimit": "64m", "sandboxSize": "512m", "tmpSize": "512m"}
    answer = client.post("/execute", json=body(MEMORY_BOMBS[kind], options=options))
    if answer.status_code == 200:  # the kind of memory has a limit of its own, or the kernel said no in time
        result = answer.json()
        assert result["usage"]["peakMemoryBytes"] <= 64 * MIB, result
        assert int(result["stdout"] or 0) < 400, result
    else:
        assert refusal(answer, 500)["code"] == "out_of_memory", answer.text


@pytest.mark.parametrize("kind", ["heap", "shared"])
def test_memory_bombs_in_c(client: httpx.Client, compiled: Compiled, kind: str) -> None:
    sent = body(f"chmod +x bomb; ./bomb {kind}", "bash", files=compiled("bomb"), options={"memoryLimit": "64m"})
    refusal(client.post("/execute", json=sent), 500, "OOM")


@pytest.mark.cgroup
def test_memory_limit(client: httpx.Client) -> None:
    containment.bounded_memory(client)


def test_the_page_cache_is_inside_the_limit(client: httpx.Client) -> None:
    code = "find /usr/lib /usr/bin /opt/isol8/ -type f -size +1M 2>/dev/null | head -60 | xargs -d '\\n' cat | wc -c"
    result = execute(client, code, "bash", options={"memoryLimit": "64m"})
    assert int(result["stdout"]) > 64 * MIB
    assert result["usage"]["peakMemoryBytes"] <= 64 * MIB


def test_socket_buffers(client: httpx.Client) -> None:
    containment.bounded_socket_buffers(client)


def test_buffers_of_udp(client: httpx.Client) -> None:
    """Counted by the kernel, in pages, for the whole machine: what a sandbox adds is bounded."""
    code = (
        "import socket\n"
        "def pages(): return int(open('/proc/net/sockstat').read().split('UDP:')[1].split()[3])\n"
        "before = pages(); kept = []; sender = socket.socket(2, 2)\n"
        "for _ in range(400):\n"
        "    kept.append(socket.socket(2, 2)); kept[-1].bind(('127.0.0.1', 0))\n"
        "    for _ in range(8): sender.sendto(bytes(60000), kept[-1].getsockname())\n"
        "print((pages() - before) // 256)"
    )
    answer = client.post("/execute", json=body(code, options={"memoryLimit": "48m"}))
    assert answer.status_code == 500 or int(answer.json()["stdout"]) <= 96, answer.text


def test_processor(client: httpx.Client, compiled: Compiled) -> None:
    """Eight threads that spin, at whatever priority they can get, have half a core."""
    code = "chmod +x bomb; ./bomb spin & nice -n -20 chrt -f 99 ./bomb spin & nice -n -5 ./bomb spin & ./bomb spin"
    result = execute(client, code, "bash", files=compiled("bomb"), options={"cpuLimit": 0.5}, timeoutMs=2000)
    assert result["timedOut"]
    assert result["usage"]["cpuMs"] < 0.75 * result["usage"]["wallMs"]


@pytest.mark.cgroup
def test_share_of_the_processor(client: httpx.Client) -> None:
    containment.bounded_processor(client)


@pytest.mark.cgroup
def test_disk(client: httpx.Client) -> None:
    containment.bounded_disk(client)


def test_a_full_session_can_go_on(client: httpx.Client, session: str) -> None:
    options = {"sandboxSize": "2m"}
    fill = (
        "for n in range(9):\n    try: open(f'x{n}', 'wb', buffering=0).write(bytes(1 << 20))\n    except OSError: pass"
    )
    execute(client, fill, sessionId=session, options=options)
    refusal(upload(client, session, "/sandbox/more", bytes(65536)), 507)
    free = "import os; [os.remove(f'x{n}') for n in range(9)]; print(os.listdir())"
    assert execute(client, free, sessionId=session)["stdout"] == "['main.py']\n"


def test_inodes_and_descriptors(client: httpx.Client) -> None:
    code = (
        f"{ALL_DESCRIPTORS}import os\nkept = []\n"
        "try:\n"
        "    while len(kept) < 1_000_000: kept.append(os.open('/dev/null', os.O_RDONLY))\n"
        "except OSError as error: print(error.errno == 24, len(kept) < hard <= 65536)"
    )
    assert stdout(client, code) == "True True\n"
    touch = "import os\nfor n in range(1_000_000): os.close(os.open(f'/tmp/{n}', os.O_CREAT | os.O_WRONLY))"
    answer = client.post("/execute", json=body(touch, options={"memoryLimit": "48m"}))
    if answer.status_code == 200:
        assert "No space left on device" in answer.json()["stderr"]
    else:
        refusal(answer, 500, "OOM")


def test_files_with_holes(client: httpx.Client, server: Server, session: str) -> None:
    """They are as large as their name says only outside: neither the sandbox nor the server may hold them."""
    code = (
        "import os\n"
        "for n in range(8): open(f'/sandbox/{n}', 'wb').truncate(300 << 20)\n"
        "open('/sandbox/huge', 'wb').truncate((1 << 63) - 1 & ~4095)"
    )
    before = machine.peak_bytes(api := api_process(server))
    paths = [f"/sandbox/{n}" for n in range(8)] + ["/sandbox/huge"]
    result = execute(client, code, outputPaths=paths, sessionId=session, options={"memoryLimit": "64m"})
    assert (result["exitCode"], result["files"]) == (0, {}), result["stderr"]
    assert set(result["fileErrors"]) == set(paths)
    for path in paths:
        refusal(client.get("/file", params={"sessionId": session, "path": path}), 400, "too large")
    assert machine.peak_bytes(api) - before < 64 * MIB


def test_a_gigabyte_without_a_newline(client: httpx.Client, server: Server) -> None:
    before = machine.peak_bytes(api := api_process(server))
    result = execute(client, "head -c 1G /dev/zero; head -c 100M /dev/zero >&2", "bash")
    assert (len(result["stdout"]), len(result["stderr"]), result["truncated"]) == (MIB, MIB, True)
    assert machine.peak_bytes(api) - before < 96 * MIB


def test_trees_for_cleanup_to_choke_on(client: httpx.Client, server: Server, session: str) -> None:
    code = (
        "import os, sys\n"
        "name = 'd' * 255\n"
        "for where in ('/sandbox', '/tmp'):\n"
        "    os.chdir(where)\n"
        "    for depth in range(1500): os.mkdir(name); os.chdir(name)\n"
        "    for n in range(2000): open('\\n\\x1b[2J' + 'f' * 240 + str(n), 'w').close()\n"
        "print(depth)"
    )
    long = "/sandbox/" + "/".join(["d" * 255] * 3)
    result = execute(client, code, sessionId=session, outputPaths=[long, f"{long}/x"])
    assert result["stdout"] == "1499\n", result["stderr"]
    assert result["fileErrors"].keys() == {long, f"{long}/x"}
    groups = machine.cgroups_of_sandbox(server.pid, result["containerId"])
    assert groups
    delete(client, session)
    machine.until(lambda: not set(groups) & set(machine.cgroups(server.pid)), "the sandbox is gone")


@pytest.mark.parametrize("mode", ["dodge", "leave"])
def test_no_way_to_outlive(client: httpx.Client, compiled: Compiled, mark: str, mode: str) -> None:
    """A session of its own, an orphan, ignored signals, a stopped process, a parent inside vfork: `dodge` waits for
    the time limit, `leave` ends by itself."""
    seen: set[int] = set()

    def run(some_ms: int) -> Json:
        """As long as the one goes on, which must be long enough to be seen, or may go on."""
        code = f"chmod +x bomb; exec ./bomb {mode} {mark} {some_ms}"
        limit = {"timeoutMs": some_ms} if mode == "dodge" else {}
        with machine.watching(lambda: seen.update(machine.running(mark))):
            return execute(client, code, "bash", files=compiled("bomb"), **limit)

    result, _ = with_time_enough(run, lambda result: result["stdout"] and len(seen) >= 6, 1500)
    assert (result["stdout"], result["timedOut"]) == ("dodged\n", mode == "dodge"), result
    machine.until(lambda: not machine.running(mark), "they are gone")


def test_an_execution_in_a_session_is_ended_whole(
    client: httpx.Client, compiled: Compiled, mark: str, session: str
) -> None:
    code, sent = f"chmod +x bomb; ./bomb dodge {mark}", {"files": compiled("bomb"), "sessionId": session}
    result, _ = out_of_time(client, code, "bash", lambda result: result["stdout"], 1500, **sent)
    assert result["stdout"] == "dodged\n"
    machine.until(lambda: not machine.running(mark), "they are gone")
    assert execute(client, "print('on')", sessionId=session)["containerId"] == result["containerId"]


def test_exits_that_take_the_kernel_long(client: httpx.Client, server: Server) -> None:
    """Whatever a program has opened thousands of times, its end comes with its time limit."""
    code = (
        f"{ALL_DESCRIPTORS}import os, ctypes, socket, time\n"
        "libc = ctypes.CDLL(None); kept = []\n"
        "for make in (lambda: os.open('/proc/pressure/memory', os.O_RDWR), lambda: libc.inotify_init1(0),\n"
        "             lambda: libc.timerfd_create(1, 0), lambda: libc.epoll_create1(0), lambda: socket.socket(2, 2),\n"
        "             lambda: socket.socket(16, 3, 0), os.pipe):\n"
        "    for _ in range(2000):\n"
        "        try: kept.append(make())\n"
        "        except OSError: break\n"
        "print(len(kept), flush=True); time.sleep(3600)"
    )
    result, _ = out_of_time(client, code, came_far=lambda result: result["stdout"], first_ms=3000)
    assert int(result["stdout"]) > 4000
    machine.until(lambda: not machine.cgroups_of_sandbox(server.pid, result["containerId"]), "it is gone")
