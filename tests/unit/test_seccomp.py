"""The compiled filter, run by a small interpreter of classic BPF: each call gets the answer the policy says."""

import struct

import pytest

from isol8.kernel import seccomp_policy as policy
from isol8.kernel.seccomp import compile_filter
from isol8.kernel.syscall_numbers import NUMBERS

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026
EPROTONOSUPPORT, EAFNOSUPPORT = 0x5005D, 0x50061
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    data = struct.pack("<IIQ6Q", number, architecture or MACHINES[machine][1], 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    program = list(struct.iter_unpack("<HBBI", compile_filter(machine)))
    accumulator = position = 0
    while True:
        code, true, false, operand = program[position]
        position += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, operand)[0]
        elif code == 0x05:
            position += operand
        else:
            holds = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
            position += true if holds[code] else false


def number(machine: str, name: str) -> int:
    value = NUMBERS[name][MACHINES[machine][0]]
    assert value is not None
    return value


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_gets_what_the_policy_says(machine: str) -> None:
    column = MACHINES[machine][0]
    allowed = {NUMBERS[name][column] for _, names in policy.ALLOWED for name in names.split()}
    special = {NUMBERS[name][column] for name in policy.CONDITIONAL_NAMES}
    for call in range(policy.LAST_REVIEWED + 1):
        if call not in special:
            assert answer(machine, call) == (ALLOW if call in allowed else EPERM), call
    assert answer(machine, policy.LAST_REVIEWED + 1) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_decide(machine: str) -> None:
    clone, socket, ioctl = (number(machine, name) for name in ("clone", "socket", "ioctl"))
    assert answer(machine, clone, 0x11) == ALLOW
    assert answer(machine, clone, 0x003D0F00) == ALLOW  # pthread_create
    for flag in (0x10000000, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000, 0x80):
        assert answer(machine, clone, 0x11 | flag) == EPERM
    assert answer(machine, number(machine, "clone3")) == ENOSYS
    assert answer(machine, socket, 1, 1) == ALLOW
    assert answer(machine, socket, 16, 3, 0) == ALLOW
    for family, protocol in ((16, 12), (17, 0), (38, 0), (40, 0), (44, 0)):
        assert answer(machine, socket, family, 3, protocol) == EAFNOSUPPORT
    for family in (2, 10):
        for kind, protocol in ((1, 0), (0x80801, 6), (2, 17), (2, 1), (3, 58)):
            assert answer(machine, socket, family, kind, protocol) == ALLOW
        for kind, protocol in ((1, 132), (1, 262), (2, 115), (2, 136), (5, 0), (6, 0), (0x80806, 0)):
            assert answer(machine, socket, family, kind, protocol) == EPROTONOSUPPORT
    assert answer(machine, ioctl, 0, 0x5401) == ALLOW
    assert answer(machine, ioctl, 0, 0x5412) == EPERM
    assert answer(machine, number(machine, "personality"), 0x0004) == EPERM
    mark = number(machine, "fanotify_mark")
    assert [answer(machine, mark, 3, flags) for flags in (0x1, 0x2, 0x3, 0x12, 0x80)] == [EPERM, ALLOW] + [EPERM] * 3
    trace = number(machine, "ptrace")
    # TRACEME, PEEKTEXT, POKETEXT, KILL, ATTACH, SETOPTIONS, SETREGSET, INTERRUPT, LISTEN, GET_SYSCALL_INFO
    for request in (0, 1, 4, 8, 16, 0x4200, 0x4205, 0x4207, 0x4208, 0x420E):
        assert answer(machine, trace, request, 2, 0, 0x40) == EPERM, hex(request)
    seized = [((2, 0, 0x40), ALLOW), ((1, 0, 0x40), EPERM), ((3, 0, 0x40), EPERM), ((2, 0, 0x41), EPERM)]
    assert [answer(machine, trace, 0x4206, *arguments) for arguments, _ in seized] == [wanted for _, wanted in seized]
    assert [answer(machine, trace, request, 7) for request in (3, 17, 0x4201)] == [ALLOW] * 3  # of one's tracees
    goes_on = [((7, 7, 0, 0), ALLOW), ((7, 7, 0, 9), EPERM)]  # without a signal
    goes_on += [((6, 7, 904, 0), ALLOW), ((6, 7, 904, 1), EPERM), ((6, 7, 848, 0), EPERM), ((6, 7, 128, 0), EPERM)]
    assert [answer(machine, trace, *arguments) for arguments, _ in goes_on] == [wanted for _, wanted in goes_on]
    prlimit = number(machine, "prlimit64")
    assert [answer(machine, prlimit, pid, 7) for pid in (0, 1, 2)] == [ALLOW, EPERM, ALLOW]


def test_other_architectures_get_nothing() -> None:
    assert answer("x86_64", number("x86_64", "read"), architecture=0x40000003) == EPERM
    assert answer("x86_64", 0x40000000 | number("x86_64", "read")) == ENOSYS


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(OSError, match="riscv64"):
        compile_filter("riscv64")
