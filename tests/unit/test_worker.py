"""Programs that the runner starts without a fork of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from isol8.runner.worker import Worker, start_program

SHOW = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ['A'], sorted(os.listdir('/proc/self/fd'), key=int)[:-1])
print(os.getsid(0) == os.getpid())
print(*(line for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn'))), sep='', end='')
"""


def _start(directory: str, executable: str = sys.executable) -> Worker | None:
    return start_program(executable, [b"python", b"-c", SHOW.encode(), b"x"], [b"A=1", b"A=2"], directory)


def _children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def _output(worker: Worker) -> str:
    os.set_blocking(worker.stdout, True)
    with open(worker.stdout, "rb", closefd=False) as file:
        text = file.read().decode()
    assert os.waitpid(worker.pid, 0)[1] == 0
    worker.close()
    return text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="an older one forks")
def test_a_program_has_what_it_should_and_nothing_else(tmp_path: object) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)  # whatever is open in the runner, however it came there
    before = os.listdir("/proc/self/fd")
    worker = _start(str(tmp_path))
    assert worker
    with open(f"/proc/{worker.pid}/oom_score_adj") as file:
        assert int(file.read()) >= 300
    first, second, *signals = _output(worker).splitlines()
    assert first == f"['x'] {tmp_path} 2 ['0', '1', '2']"
    assert second == "True"
    with open("/proc/self/status") as file:  # Python ignores two signals in itself, here as there
        assert signals == [line.strip() for line in file if line.startswith(("SigBlk", "SigIgn"))]
    assert os.listdir("/proc/self/fd") == before
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("executable", "directory"),
    [("/nowhere", "/"), ("python3", "/"), ("/etc/passwd", "/"), (sys.executable, "/nowhere")],
)
def test_what_cannot_be_is_left_to_a_worker(executable: str, directory: str) -> None:
    before = os.listdir("/proc/self/fd"), _children()
    assert _start(directory, executable) is None
    assert (os.listdir("/proc/self/fd"), _children()) == before
