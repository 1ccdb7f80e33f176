"""What goes in beside the code, and what files come out."""

from __future__ import annotations

import base64
import hashlib
import json

import httpx
import pytest

from tests.support import programs
from tests.support.calls import execute, out_of_time, stdout


@pytest.mark.parametrize("given", ["", "input data", "lines\nand ünïcödé 🙂\n", "no newline\0nul"])
def test_stdin(client: httpx.Client, runtime: str, given: str) -> None:
    if runtime == "bash":
        given = given.replace("\0", "").rstrip("\n")  # a variable of bash holds neither
    assert stdout(client, programs.ECHO_STDIN[runtime], runtime, stdin=given) == f"[{given}]"


def test_stdin_absent_is_end_of_file(client: httpx.Client, runtime: str) -> None:
    assert stdout(client, programs.ECHO_STDIN[runtime], runtime) == "[]"


def test_stdin_larger_than_a_pipe(client: httpx.Client) -> None:
    code = "import sys, hashlib; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    given = "0123456789abcdef" * 50_000
    assert stdout(client, code, stdin=given).strip() == hashlib.sha256(given.encode()).hexdigest()


def test_stdin_nobody_reads_does_not_block(client: httpx.Client) -> None:
    assert stdout(client, "print('done')", stdin="x" * 800_000) == "done\n"
    assert stdout(client, "import os; os.close(0); print('done')", stdin="x" * 800_000) == "done\n"


def test_env(client: httpx.Client, runtime: str) -> None:
    assert stdout(client, programs.PRINT_VARIABLE[runtime], runtime, env={"MY_VAR": "välue $HOME 'x'"}) == (
        "välue $HOME 'x'\n"
    )


def test_env_reaches_children_and_libc(client: httpx.Client) -> None:
    code = (
        "import os, subprocess, ctypes\n"
        "print(subprocess.check_output(['sh', '-c', 'echo $A'], text=True), end='')\n"
        "getenv = ctypes.CDLL(None).getenv; getenv.restype = ctypes.c_char_p; print(getenv(b'A'))"
    )
    assert stdout(client, code, env={"A": "one"}) == "one\nb'one'\n"


def test_env_overrides_ours(client: httpx.Client) -> None:
    code = "import os; print(os.environ['PATH'], os.environ['HOME'])"
    assert stdout(client, code, env={"PATH": "/usr/bin", "HOME": "/tmp"}) == "/usr/bin /tmp\n"


@pytest.mark.parametrize(
    ("variable", "value", "code", "printed"),
    [
        ("PYTHONPATH", "/sandbox/lib", "import sys; print(sys.path[1])", "/sandbox/lib\n"),
        ("PYTHONOPTIMIZE", "2", "import sys; print(sys.flags.optimize, __debug__)", "2 False\n"),
        ("PYTHONHASHSEED", "0", "print(hash('a') == hash('a'))", "True\n"),
        ("PYTHONUTF8", "0", "import sys; print(sys.flags.utf8_mode)", "0\n"),
        ("TZ", "Asia/Tokyo", "import time; print(time.localtime(0).tm_hour)", "9\n"),
        ("LC_ALL", "C.UTF-8", "import locale; print(locale.setlocale(locale.LC_ALL, ''))", "C.UTF-8\n"),
        ("LD_LIBRARY_PATH", "/sandbox", "import os; print(os.environ['LD_LIBRARY_PATH'])", "/sandbox\n"),
    ],
)
def test_variables_an_interpreter_reads_at_its_start(
    client: httpx.Client, variable: str, value: str, code: str, printed: str
) -> None:
    assert stdout(client, code, env={variable: value}) == printed


def test_a_module_of_the_user_wins_over_a_loaded_one(client: httpx.Client) -> None:
    for name in ("json", "os", "re", "random", "abc"):
        printed = execute(client, f"import {name}; print({name}.__file__)", files={f"/sandbox/{name}.py": "mine = 1"})
        # `os` and `abc` are loaded by every interpreter before the program: there the library's is the bare answer.
        expected = "/usr" if name in ("os", "abc") else "/sandbox"
        assert printed["stdout"].startswith(expected), (name, printed)


FILE_VALUES = [
    ("text ünï 🙂\n", "text ünï 🙂\n".encode()),
    ("", b""),
    ({"base64": base64.b64encode(bytes(range(256))).decode()}, bytes(range(256))),
    ({"base64": ""}, b""),
    ({"type": "Buffer", "data": [0, 255, 10, 128]}, b"\x00\xff\n\x80"),
    ({"type": "Buffer", "data": []}, b""),
]


@pytest.mark.parametrize(("value", "content"), FILE_VALUES)
def test_file_values(client: httpx.Client, value: object, content: bytes) -> None:
    path = "/sandbox/a/b/c.bin"
    code = f"print(list(open('{path}', 'rb').read()))"
    result = execute(client, code, files={path: value}, outputPaths=[path])
    assert json.loads(result["stdout"]) == list(content)
    assert base64.b64decode(result["files"][path]) == content


def test_files_belong_to_the_program(client: httpx.Client) -> None:
    code = (
        "import os\n"
        "for path in ('/sandbox/dir', '/sandbox/dir/file', '/tmp/deep/file', '/sandbox', '/sandbox/main.py'):\n"
        "    assert os.stat(path).st_uid == os.getuid(), path\n"
        "open('/sandbox/dir/file', 'a').write('+')\n"
        "os.rename('/sandbox/dir', '/sandbox/other')\n"
        "print(open('/sandbox/other/file').read(), open('/tmp/deep/file').read())"
    )
    assert stdout(client, code, files={"/sandbox/dir/file": "one", "/tmp/deep/file": "two"}) == "one+ two\n"


def test_files_in_and_out_of_every_runtime(client: httpx.Client, runtime: str) -> None:
    result = execute(
        client,
        programs.COPY_DATA_FILE[runtime],
        runtime,
        files={"/sandbox/in/data.txt": "hello file"},
        outputPaths=["/sandbox/out.txt"],
    )
    assert result["exitCode"] == 0, result
    assert base64.b64decode(result["files"]["/sandbox/out.txt"]) == b"HELLO FILE"
    assert not result.get("fileErrors")


def test_output_paths_that_cannot_be_read(client: httpx.Client) -> None:
    code = (
        "import os\n"
        "open('good', 'w').write('good'); os.mkdir('directory'); os.mkfifo('pipe')\n"
        "os.symlink('/etc/shadow', 'shadow'); os.symlink('loop', 'loop'); open('closed', 'w'); os.chmod('closed', 0)\n"
    )
    names = ["good", "missing", "directory", "pipe", "shadow", "loop", "closed"]
    result = execute(client, code, outputPaths=[f"/sandbox/{name}" for name in names])
    assert set(result["files"]) == {"/sandbox/good"}
    assert set(result["fileErrors"]) == {f"/sandbox/{name}" for name in names[1:]}
    assert all(isinstance(reason, str) and reason for reason in result["fileErrors"].values())


def test_output_paths_after_failure_and_timeout(client: httpx.Client) -> None:
    code = "open('/tmp/out', 'w').write('kept')\n"
    assert execute(client, code + "raise SystemExit(3)", outputPaths=["/tmp/out"])["files"] == {"/tmp/out": "a2VwdA=="}
    code += "print('written', flush=True)\nwhile True: pass"
    result, _ = out_of_time(client, code, came_far=lambda result: result["stdout"], outputPaths=["/tmp/out"])
    assert result["files"] == {"/tmp/out": "a2VwdA=="}


def test_no_files_field_unless_asked(client: httpx.Client) -> None:
    result = execute(client, "print(1)")
    assert "files" not in result
    assert "fileErrors" not in result


def _round_trip(client: httpx.Client, megabytes: int) -> None:
    block = hashlib.sha512(b"seed").digest() * 16384  # 1 MiB that does not repeat within a pipe's buffer
    code = (
        f"import hashlib\nblock = hashlib.sha512(b'seed').digest() * 16384\n"
        f"with open('big', 'wb') as file:\n    for n in range({megabytes}): file.write(bytes([n % 256]) + block[1:])"
    )
    options = {"sandboxSize": f"{megabytes + 8}m", "memoryLimit": f"{megabytes * 2 + 128}m"}
    result = execute(client, code, outputPaths=["/sandbox/big"], options=options)
    assert result.get("fileErrors", {}) == {}
    content = base64.b64decode(result["files"]["/sandbox/big"])
    expected = b"".join(bytes([n % 256]) + block[1:] for n in range(megabytes))
    assert hashlib.sha256(content).digest() == hashlib.sha256(expected).digest()


def test_20_megabytes_come_out_intact(client: httpx.Client) -> None:
    _round_trip(client, 20)


@pytest.mark.slow
def test_100_megabytes_come_out_intact(client: httpx.Client) -> None:
    _round_trip(client, 100)


def test_megabytes_go_in_intact(client: httpx.Client) -> None:
    content = hashlib.sha512(b"in").digest() * 65536  # 4 MiB
    code = "import hashlib; print(hashlib.sha256(open('/sandbox/in', 'rb').read()).hexdigest())"
    encoded = {"base64": base64.b64encode(content).decode()}
    assert stdout(client, code, files={"/sandbox/in": encoded}).strip() == hashlib.sha256(content).hexdigest()


def test_many_files(client: httpx.Client) -> None:
    files = {f"/sandbox/many/{n}.txt": str(n) for n in range(50)}
    code = "import glob; print(sum(int(open(path).read()) for path in glob.glob('/sandbox/many/*')))"
    assert stdout(client, code, files=files) == f"{sum(range(50))}\n"
