"""What copies of interpreters are made of, and that nothing else than a known interpreter is copied. Real processes."""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isol8.engines.native.copying import booting, individual, installing, machine, state
from isol8.engines.native.copying.errors import Unfit
from isol8.kernel import call_table, ptrace
from isol8.kernel.syscalls import MACHINE

pytestmark = pytest.mark.skipif(MACHINE != "x86_64" or os.geteuid() != 0, reason="copying is for root on x86_64")


@pytest.fixture
def held(tmp_path: Path) -> Iterator["Holder"]:
    holder = Holder(tmp_path)
    yield holder
    holder.close()


class Holder:
    """Starts a program under a tracer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pid = 0

    def hold(self, *argv: str, program: str = "main") -> booting.Held:
        """Hold it where it opens `program`."""
        path = str(self._directory / program)
        Path(path).write_text("")
        go_reader, go = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.read(go_reader, 1)
            os.execve(argv[0], [*argv, path], {})
        ptrace.seize(self._pid)
        ptrace.await_stop(self._pid)
        ptrace.resume(self._pid)
        os.write(go, b".")
        os.close(go)
        os.close(go_reader)
        return booting.Booting(self._pid, path).hold()

    def close(self) -> None:
        """End it."""
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)


def test_a_program_is_held_before_it_opens_its_file(held: Holder) -> None:
    found = held.hold("/usr/bin/cat")
    assert found.threads == [found.process]
    thread = state.thread_of(found.process, found.process)
    assert (thread.name, thread.registers["rax"]) == (b"cat", call_table.number("openat"))
    assert thread.extended[512:520] != bytes(8)


def test_a_program_that_does_not_come_is_unfit(held: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booting, "_LONGEST_S", 0.5)
    with pytest.raises((Unfit, ProcessLookupError)):
        held.hold("/usr/bin/true")


def test_calls_that_are_not_known_make_it_unfit(held: Holder) -> None:
    with pytest.raises(Unfit, match="system call"):
        held.hold("/usr/bin/setsid", "/usr/bin/cat")


def test_what_is_no_node_has_no_generator(held: Holder) -> None:
    found = held.hold("/usr/bin/cat")
    now = time.monotonic_ns(), time.time_ns()
    span = individual.Span(now[0] - 10**9, now[0], now[1] - 10**9, now[1])
    mappings = list(state.mappings_of(found.process))
    with pytest.raises(Unfit):
        individual.find(found.process, found.memory, mappings, span, (0, 0))
    with pytest.raises(Unfit, match="places"):
        individual.find_numbers(found.process, found.memory, mappings, mappings[-1].end)


def test_other_files_make_it_unfit(held: Holder) -> None:
    listener = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(listener, True)
    try:
        found = held.hold("/usr/bin/cat")
        with pytest.raises(Unfit, match="descriptor"):
            installing.Operation(found)
    finally:
        os.close(listener)


def test_generators_are_known_by_their_states() -> None:
    seed, *words = struct.unpack("=3Q", individual._new_generator())
    assert individual._is_generator(seed, words)
    assert not individual._is_generator(seed ^ 1, words)
    assert individual._new_generator() != individual._new_generator()


def test_time_stamps_are_moved_on() -> None:
    origin = individual._bits(1e15)
    stamps = (("steady", 5), ("steady-float", individual._bits(7.0)), ("calendar", origin), ("fixed", 9))
    one = individual.Individual(((0, 1),), stamps, time.monotonic_ns() - 10**9, time.time_ns() - 10**9)
    steady, floating, calendar, fixed = struct.unpack("=QddQ", one.pack(1000)[-32:])
    assert 10**9 <= steady < 10**11
    assert 10**9 <= floating < 10**11
    assert 1e6 <= calendar - 1e15 < 1e8
    assert fixed == 9
    assert struct.unpack("=10Q", one.pack(1000)[:80]) == (1000,) * 10
    assert individual.Individual.from_json(one.to_json()) == one


@pytest.mark.skipif(not shutil.which("objdump"), reason="binutils are not installed")
def test_the_instructions_are_what_is_written_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "code"
    file.write_bytes(machine.CODE)
    command = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", str(file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split("\t")[2].split() for line in text.splitlines() if line.count("\t") == 2]
    assert [line[0] for line in lines[-7:]] == ["mov", "je", "mov", "jg", "mov", "mov", "jmp"]
    assert [line[0] for line in lines[:10]] == ["mov"] * 8 + ["syscall", "test"]
    assert lines[-1][1] == "0x0"
    assert machine.CODE[machine.DONE - 2 : machine.DONE] == b"\x0f\x05"


def test_frames_are_as_the_kernel_reads_them() -> None:
    places = machine.Places(call=0x1000, restorer=0x2000)
    frame = machine.Frame({"rip": 0x3000, "r8": 8}, blocked=1, extended=0x4000).pack(places)
    assert len(frame) == machine.FRAME_BYTES
    assert struct.unpack_from("=QQ", frame) == (0x2000, 7)
    assert struct.unpack_from("=Q", frame, 48)[0] == 8
    assert struct.unpack_from("=Q", frame, 48 + 16 * 8)[0] == 0x3000
    assert struct.unpack_from("=Q", frame, len(frame) - 8)[0] == 1
    with pytest.raises(Unfit):
        machine.find_places(0, bytes(100))
