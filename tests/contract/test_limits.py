"""Every limit is enforced by the kernel, whatever the program does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.calls import body, execute, refusal, stdout, with_time_enough

pytestmark = pytest.mark.cgroup

FILL = """
import os, sys
written = 0
try:
    with open({path!r}, 'wb', buffering=0) as file:
        while written < {most}:
            written += file.write(b'x' * 65536)
except OSError as error:
    print(error.errno == 28, os.strerror(error.errno))
print(written)
"""
BURN = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
MIB = 1 << 20


def _share(result: dict[str, dict[str, int]]) -> float:
    return result["usage"]["cpuMs"] / result["usage"]["wallMs"]


def test_half_a_core(client: httpx.Client) -> None:
    def shares(milliseconds: int) -> tuple[float, float]:
        def share(limit: float) -> float:
            return _share(execute(client, BURN.format(seconds=milliseconds / 1000), options={"cpuLimit": limit}))

        with ThreadPoolExecutor(2) as pool:  # side by side, so that what others take of the processor is taken of both
            half, whole = pool.map(share, (0.5, 1))
        assert half < 0.65, (half, whole)
        return half, whole

    # One of the two alone may be held up for longer than it burns.
    with_time_enough(shares, lambda found: found[0] > 0.2 * found[1], 2_000)


def test_a_tenth_of_a_core(client: httpx.Client) -> None:
    result = execute(client, BURN.format(seconds=1.5), options={"cpuLimit": 0.1})
    assert _share(result) < 0.25, result["usage"]


def test_one_core_for_many_processes(client: httpx.Client) -> None:
    code = "import os\nchildren = [os.fork() for _ in range(2)]\n" + BURN.format(seconds=1.5)
    result = execute(client, code, options={"cpuLimit": 1})
    assert _share(result) < 1.35, result["usage"]


@pytest.mark.parametrize("size", ["64m", "64M", "65536k", str(64 * MIB)])
def test_memory(client: httpx.Client, size: str) -> None:
    options = {"memoryLimit": size}
    assert execute(client, "x = b'x' * (30 << 20)", options=options)["exitCode"] == 0
    refusal(client.post("/execute", json=body("x = b'x' * (80 << 20)", options=options)), 500, "OOM")


def test_no_swap_around_the_memory_limit(client: httpx.Client) -> None:
    sent = body("x = [b'x' * (1 << 20) for _ in range(120)]", options={"memoryLimit": "64m"})
    refusal(client.post("/execute", json=sent), 500, "OOM")


def test_children_share_the_memory_limit(client: httpx.Client) -> None:
    code = "import os, signal\nfor _ in range(4): os.fork() or (b'x' * (40 << 20), signal.pause())\nos.wait()"
    refusal(client.post("/execute", json=body(code, options={"memoryLimit": "96m"})), 500, "OOM")


@pytest.mark.parametrize("path", ["/sandbox/big", "/tmp/big", "/dev/shm/big"])
def test_files_in_memory_count_as_memory(client: httpx.Client, path: str) -> None:
    """Either the file system is full or the memory: never more than the memory limit of both together."""
    options = {"memoryLimit": "64m", "sandboxSize": "256m", "tmpSize": "256m"}
    answer = client.post("/execute", json=body(FILL.format(path=path, most=200 * MIB), options=options))
    if answer.status_code == 200:
        assert int(answer.json()["stdout"].split()[-1]) <= 64 * MIB
    else:
        refusal(answer, 500, "OOM")


@pytest.mark.parametrize(("path", "option"), [("/sandbox/big", "sandboxSize"), ("/tmp/big", "tmpSize")])
def test_sizes_of_the_writable_directories(client: httpx.Client, path: str, option: str) -> None:
    for megabytes in (8, 24):
        options = {option: f"{megabytes}m", "memoryLimit": "256m"}
        result = execute(client, FILL.format(path=path, most=100 * MIB), options=options)
        full, written = result["stdout"].strip().splitlines()
        assert full == "True No space left on device"
        assert 0.9 * megabytes * MIB <= int(written) <= megabytes * MIB


def test_number_of_files_is_bounded(client: httpx.Client) -> None:
    code = (
        "import os\n"
        "try:\n"
        "    for n in range(2_000_000): os.close(os.open(f'/tmp/{n}', os.O_CREAT | os.O_WRONLY))\n"
        "except OSError as error: print(error.strerror)"
    )
    answer = client.post("/execute", json=body(code, options={"memoryLimit": "128m"}))
    if answer.status_code == 200:
        assert answer.json()["stdout"] == "No space left on device\n", answer.text
    else:
        refusal(answer, 500, "OOM")


def test_processes(client: httpx.Client) -> None:
    code = (
        "import os, time\n"
        "made = 0\n"
        "try:\n"
        "    while made < 200:\n"
        "        if os.fork() == 0: time.sleep(3600); os._exit(0)\n"
        "        made += 1\n"
        "except BlockingIOError as error: print(error.strerror)\n"
        "print(made)"
    )
    for limit in (10, 40):
        text, made = stdout(client, code, options={"pidsLimit": limit}).splitlines()
        assert text == "Resource temporarily unavailable"
        assert limit - 5 <= int(made) < limit


def test_threads_count_as_processes(client: httpx.Client) -> None:
    code = (
        "import threading\n"
        "stop = threading.Event(); made = 0\n"
        "try:\n"
        "    while made < 200: threading.Thread(target=stop.wait).start(); made += 1\n"
        "except RuntimeError: pass\n"
        "stop.set(); print(made)"
    )
    assert 5 <= int(stdout(client, code, options={"pidsLimit": 20})) < 20


def test_a_fork_bomb_ends_with_its_execution(client: httpx.Client) -> None:
    result = execute(client, "bomb() { bomb | bomb & }; bomb; sleep 60", "bash", timeoutMs=2000)
    assert result["timedOut"] or result["exitCode"] != 0 or "fork" in result["stderr"]
    assert execute(client, "print('still here')")["stdout"] == "still here\n"


def test_a_large_allowance_is_usable(client: httpx.Client) -> None:
    code = "x = b'x' * (400 << 20); print(len(x))"
    assert stdout(client, code, options={"memoryLimit": "512m"}) == f"{400 << 20}\n"


def test_limits_of_one_request_are_not_those_of_the_next(client: httpx.Client) -> None:
    for _ in range(3):
        execute(client, "print(1)", options={"memoryLimit": "48m", "pidsLimit": 5, "tmpSize": "1m"})
        assert stdout(client, "x = b'x' * (100 << 20); open('/tmp/x', 'wb').write(b'x' * (8 << 20)); print(1)") == "1\n"


def test_null_options_are_the_defaults(client: httpx.Client) -> None:
    assert stdout(client, "print(1)", options={}) == "1\n"
