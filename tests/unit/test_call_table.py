"""Tables of system calls: their order, their ways out, and processes that they make."""

from __future__ import annotations

import errno
import os

import pytest

from isol8.kernel.call_table import CallTable, thread_words
from isol8.kernel.syscalls import MACHINE

pytestmark = pytest.mark.skipif(MACHINE != "x86_64", reason="there are no instructions for others")
SIGCHLD = 17


@pytest.fixture
def table() -> CallTable:
    return CallTable(4096)


def _run(table: CallTable) -> int:
    """Of one that makes no process."""
    table.leave("failed", -2)
    table.finish()
    return table.fork()


def test_calls_are_made_in_order_until_one_leaves(table: CallTable) -> None:
    reader, writer = os.pipe()
    for text in (b"one ", b"two ", b"three"):
        table.call("write", "pipe", table.put(text), len(text))
    table.leave("done", -7)
    table.leave("failed", -2)
    table.finish()
    table.set("pipe", writer)
    assert table.fork() == -7
    assert os.read(reader, 100) == b"one two three"
    assert table.fork() == -7  # as often as is wanted
    assert os.read(reader, 100) == b"one two three"
    os.close(reader)
    os.close(writer)


def test_an_error_leads_where_it_should_and_is_told(table: CallTable) -> None:
    table.call("chdir", table.text("/nowhere/at/all"), failed="known")
    table.leave("never", -1)
    table.label("known")
    table.call("close", 1 << 20)
    assert _run(table) == -2
    assert table.led_to("failed") == ("close", -errno.EBADF)


@pytest.mark.parametrize(("less", "way"), [(3, "zero"), (2, "more"), (4, "below")])
def test_a_result_decides(table: CallTable, less: int, way: str) -> None:
    reader, writer = os.pipe()
    table.call("write", writer, table.put(b"abc"), 3, zero="zero", more="more", failed="below", less=less)
    for result, name in enumerate(("zero", "more", "below")):
        table.leave(name, -10 - result)
    assert _run(table) == -10 - ("zero", "more", "below").index(way)
    os.close(reader)
    os.close(writer)


def test_a_process_comes_back_by_itself(table: CallTable) -> None:
    thread, robust = thread_words()
    reader, writer = os.pipe()
    table.label("made")
    table.call("clone", SIGCHLD | 0x01000000 | 0x00200000, 0, 0, thread, 0, zero="child")
    table.leave("parent", 0)
    table.label("child")
    table.call("set_robust_list", robust, 24)
    table.leave("in child", 1)
    table.leave("failed", -2)
    table.finish()
    if table.fork() == 1:
        whole = thread_words() == (thread, robust)  # that the library has the new number is looked at there
        table.forget()
        os.write(writer, b"%d %d" % (whole, os.getpid()))
        os._exit(0)
    child = table.result("made")
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reader, 100) == b"1 %d" % child
    os.close(reader)
    os.close(writer)


def test_its_memory_is_given_back(table: CallTable) -> None:
    def executable() -> int:
        with open("/proc/self/maps") as file:
            return sum(line.split()[1] == "r-xp" and len(line.split()) == 5 for line in file)

    before = executable()
    table.forget()
    assert executable() == before - 1
