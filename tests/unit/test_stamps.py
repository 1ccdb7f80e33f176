"""The moment from which a bash counts, in its memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from isol8.runner.stamps import Stamps, now
from isol8.runtimes.symbols import find_variables

BASH = "/usr/bin/bash"
OFFSETS = list(find_variables(BASH, {"shell_start_time": 8, "shellstart": 16}))
# `time` of nothing tells how long the shell has run, by the moment; the others go by the second.
TELL = """
echo; read -r
printf '%(%s)T ' -2; echo "$SECONDS ${EPOCHREALTIME%.*}"
set -o posix; TIMEFORMAT=%6R
time
"""


@pytest.fixture
def since() -> int:
    return now()


@pytest.fixture
def shell(since: int) -> Iterator[subprocess.Popen[str]]:
    """A bash that has started, and waits for a line before it tells."""
    with subprocess.Popen(
        [BASH, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_it_counts_from_when_it_is_let_go(shell: subprocess.Popen[str], since: int) -> None:
    stamps = Stamps(shell.pid, OFFSETS, since)
    while now() // 1_000_000 == since // 1_000_000:
        pass  # what it counts from now must be another second
    before = now()
    stamps.renew()
    stamps.close()
    told, moment = shell.communicate("\n")
    after = now()
    start, counted, seconds = (int(value) for value in told.split())
    assert before // 1_000_000 <= start <= seconds <= after // 1_000_000
    assert before // 1_000_000 <= start + counted <= seconds  # it may be held up between the two
    assert float(moment) * 1_000_000 <= after - before + 500  # it rounds to the next millisecond


def test_the_moment_must_be_there(shell: subprocess.Popen[str], since: int) -> None:
    second, moment = OFFSETS
    for offsets in ([moment, second], [second, second], [second + 8, moment], [second, moment + 8]):
        with pytest.raises(ValueError, match="not where it is known to be"):
            Stamps(shell.pid, offsets, since)
    with pytest.raises(ValueError, match="not where it is known to be"):
        Stamps(shell.pid, OFFSETS, now())
    for far in (1 << 40, 1 << 62):
        with pytest.raises(OSError, match=r"."):
            Stamps(shell.pid, [far, far], since)


def test_who_is_gone_takes_none(shell: subprocess.Popen[str], since: int) -> None:
    stamps = Stamps(shell.pid, OFFSETS, since)
    shell.kill()
    shell.wait()
    with pytest.raises(OSError, match=r"."):
        stamps.renew()
    stamps.close()
    stamps.close()
    with pytest.raises(OSError, match=r"."):
        Stamps(shell.pid, OFFSETS, since)


def test_nothing_is_left_open_when_it_is_not_there(shell: subprocess.Popen[str], since: int) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match="not where it is known to be"):
        Stamps(shell.pid, [8, 16], since)
    assert os.listdir("/proc/self/fd") == before
