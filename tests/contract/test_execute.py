"""POST /execute: the result, in every runtime."""

from __future__ import annotations

import datetime

import httpx
import pytest

from tests.support import programs
from tests.support.calls import Json, body, execute, refused, stdout, with_time_enough

PLAIN = {
    "stdout",
    "stderr",
    "exitCode",
    "durationMs",
    "truncated",
    "executionId",
    "runtime",
    "timestamp",
    "containerId",
    "timedOut",
    "usage",
}


def test_hello(client: httpx.Client, runtime: str) -> None:
    result = execute(client, programs.HELLO[runtime], runtime)
    assert (result["stdout"], result["stderr"], result["exitCode"]) == ("hello\n", "", 0)
    assert (result["runtime"], result["truncated"], result["timedOut"]) == (runtime, False, False)
    assert set(result) >= PLAIN


def test_exit_code_and_both_streams(client: httpx.Client, runtime: str) -> None:
    result = execute(client, programs.EXIT_3[runtime], runtime)
    assert (result["stdout"], result["stderr"], result["exitCode"]) == ("out\n", "err\n", 3)


def test_a_failing_program_is_200(client: httpx.Client, runtime: str) -> None:
    result = execute(client, programs.NO_SUCH_FUNCTION[runtime], runtime)
    assert result["exitCode"] == programs.FAILURE_CODE[runtime]
    assert "undefined_thing" in result["stderr"]
    assert f"main{programs.EXTENSIONS[runtime]}" in result["stderr"]


def test_run_as_a_file_in_the_sandbox(client: httpx.Client, runtime: str) -> None:
    assert stdout(client, programs.WHERE_AM_I[runtime], runtime) == (
        f"/sandbox /sandbox/main{programs.EXTENSIONS[runtime]}\n"
    )


def test_timestamp_duration_and_usage(client: httpx.Client) -> None:
    before = datetime.datetime.now(datetime.UTC)
    code = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ntime.sleep(0.3)"
    result = execute(client, code)
    after = datetime.datetime.now(datetime.UTC)
    started = datetime.datetime.strptime(result["timestamp"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.UTC)
    millisecond = datetime.timedelta(milliseconds=1)
    assert before - millisecond <= started <= after
    assert 600 <= result["durationMs"] <= (after - before) / millisecond
    usage = result["usage"]
    assert {name: type(value) for name, value in usage.items()} == {"cpuMs": int, "wallMs": int, "peakMemoryBytes": int}
    # The kernels' ways of counting differ a little, and half of what was burned is enough to tell it from nothing.
    assert 150 <= usage["cpuMs"] <= usage["wallMs"]
    assert usage["wallMs"] == result["durationMs"]
    assert 1 << 20 < usage["peakMemoryBytes"] < 512 << 20


def test_peak_memory_grows_with_use(client: httpx.Client) -> None:
    result = execute(client, "x = b'x' * 100_000_000")
    assert 100_000_000 < result["usage"]["peakMemoryBytes"] < 200_000_000


def test_every_execution_has_a_sandbox_of_its_own(client: httpx.Client, runtime: str) -> None:
    results = [execute(client, programs.HELLO[runtime], runtime) for _ in range(3)]
    assert len({result["containerId"] for result in results}) == 3
    assert len({result["executionId"] for result in results}) == 3


def test_nothing_is_left_for_the_next(client: httpx.Client) -> None:
    leave = "import os\nfor path in ('/sandbox/x', '/tmp/x', '/dev/shm/x'): open(path, 'w').write('left')\n"
    assert execute(client, leave)["exitCode"] == 0
    look = "import os; print(os.listdir('/sandbox'), os.listdir('/tmp'), os.listdir('/dev/shm'))"
    for _ in range(4):
        assert stdout(client, look) == "['main.py'] [] []\n"


def test_different_sandboxes_hash_differently(client: httpx.Client) -> None:
    """A sandbox forked from a booted interpreter must not share its secrets of randomness with the others."""
    code = "import random, os, uuid, tempfile; print(random.random(), os.urandom(8), uuid.uuid4(), tempfile.mktemp())"
    assert len({stdout(client, code) for _ in range(4)}) == 4


def test_hash_seeds_differ(client: httpx.Client) -> None:
    assert len({stdout(client, "print(hash('a string'))") for _ in range(8)}) > 1


def test_150_kilobytes_of_program(client: httpx.Client, runtime: str) -> None:
    comment = "//" if runtime in ("node", "bun", "deno") else "#"
    padding = f"{comment} {'x' * 100}\n" * 1500
    assert execute(client, padding + programs.HELLO[runtime], runtime)["stdout"] == "hello\n"


@pytest.mark.parametrize(
    "code", ["print('\\u00e9 \U0001f642')", "print('''a\nb''')", "print('nul:\\0:')", "#\r\nprint(1)"]
)
def test_source_arrives_byte_for_byte(client: httpx.Client, code: str) -> None:
    show = "import sys; sys.stdout.write(open(__file__, newline='', encoding='utf-8').read())"
    result = execute(client, f"{show}\n{code}\n")
    assert result["stdout"].startswith(f"{show}\n{code}\n")


def test_cmd_is_a_bash_command(client: httpx.Client) -> None:
    result = execute(client, None, cmd='echo "$0" | tr a-z A-Z; echo "${BASH_VERSION:+bash}"; exit 4')
    assert result["stdout"].endswith("bash\n")
    assert result["exitCode"] == 4
    assert result["runtime"] == "bash"


def test_setup_script_runs_before_the_code(client: httpx.Client) -> None:
    setup = "echo made > prepared.txt; echo 'not part of the output'"
    assert stdout(client, "print(open('/sandbox/prepared.txt').read())", setupScript=setup) == "made\n\n"


def test_a_failing_setup_script_is_a_500_that_says_so(client: httpx.Client) -> None:
    sent = body("print('never')", setupScript="echo reason >&2; exit 3")
    problem = refused(client, 500, sent, mentions="script")
    assert "reason" in problem["error"] + str(problem)


def test_a_setup_script_that_hangs_ends(client: httpx.Client) -> None:
    """It does not count against the program's time, but has a limit of its own."""

    def run(timeout_ms: int) -> Json:
        script = f"sleep {timeout_ms / 900}"
        return execute(client, "print('ran')", setupScript=script, timeoutMs=timeout_ms)

    result, _ = with_time_enough(run, lambda result: not result["timedOut"])
    assert result["stdout"] == "ran\n"


def test_workdir(client: httpx.Client, runtime: str) -> None:
    parts = {"workdir": "/sandbox/deep/er", "files": {"/sandbox/deep/er/x": "1"}}
    result = execute(client, programs.WHERE_AM_I[runtime], runtime, **parts)
    assert result["stdout"].split()[0] == "/sandbox/deep/er"


def test_workdir_is_made(client: httpx.Client) -> None:
    assert stdout(client, "import os; print(os.getcwd())", workdir="/sandbox/not/there") == "/sandbox/not/there\n"


@pytest.mark.parametrize(
    ("runtime_name", "extension", "code", "printed"),
    [
        ("node", ".mjs", "import fs from 'fs'; console.log(await 1, typeof require)", "1 undefined\n"),
        ("node", ".cjs", "console.log(typeof require, __filename)", "function /sandbox/main.cjs\n"),
        ("node", "mjs", "console.log(typeof require)", "undefined\n"),
        ("python", ".pyw", "import sys; print(sys.argv)", "['/sandbox/main.pyw']\n"),
        ("bash", ".bash", "echo $0", "/sandbox/main.bash\n"),
    ],
)
def test_file_extension(
    client: httpx.Client, require: object, runtime_name: str, extension: str, code: str, printed: str
) -> None:
    assert callable(require)
    require(runtime_name)
    assert stdout(client, code, runtime_name, fileExtension=extension) == printed


def test_metadata_is_accepted(client: httpx.Client) -> None:
    assert stdout(client, "print(1)", metadata={"user": "u-1", "job": "x"}) == "1\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "ephemeral"),
        ("poolStrategy", "fast"),
        ("poolSize", 3),
        ("persist", False),
        ("debug", True),
        ("audit", {"enabled": True}),
        ("remoteCode", {"enabled": False}),
    ],
)
def test_options_without_effect_are_warned_about(client: httpx.Client, name: str, value: object) -> None:
    result = execute(client, "print(1)", options={name: value})
    assert result["stdout"] == "1\n"
    assert [warning for warning in result["warnings"] if name in warning]


def test_no_warnings_without_reason(client: httpx.Client) -> None:
    assert not execute(client, "print(1)", options={"memoryLimit": "256m"}).get("warnings")
