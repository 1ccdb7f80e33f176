"""The seccomp filter: `seccomp_policy` compiled to classic BPF, and loading it.

The program is a binary search over the call number, so that the kernel's own analysis at load (which runs it
once for every number to find what is always allowed) and every call stay short.
"""

from __future__ import annotations

import ctypes

from isol8.kernel import seccomp_policy as policy
from isol8.kernel.syscall_numbers import NUMBERS
from isol8.kernel.syscalls import MACHINE, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ALLOW = 0x7FFF0000
_EPERM = 0x00050000 | 1
_ENOSYS = 0x00050000 | 38
_EPROTONOSUPPORT = 0x00050000 | 93
_EAFNOSUPPORT = 0x00050000 | 97

_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_NUMBER_OFFSET, _ARCH_OFFSET, _ARGUMENT_OFFSET = 0, 4, 16
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMNS = {"x86_64": 0, "aarch64": 1}
_X32_BIT = 0x40000000

_SECCOMP_SET_MODE_FILTER = 1

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand
Block = list[Instruction]


def _load(offset: int) -> Instruction:
    return (_LOAD, 0, 0, offset)


def _argument(index: int) -> Instruction:
    """The low 32 bits of an argument: what the kernel itself looks at for flags, families and requests."""
    return _load(_ARGUMENT_OFFSET + 8 * index)


def _answer(action: int) -> Block:
    return [(_RETURN, 0, 0, action)]


def _when_equal(value: int, block: Block) -> Block:
    """Run `block` (which must end in a return) if the accumulator is `value`."""
    return [(_JUMP_EQUAL, 0, len(block), value), *block]


def _clone_rule() -> Block:
    return [_argument(0), (_JUMP_ANY_BIT, 0, 1, policy.NAMESPACE_FLAGS), *_answer(_EPERM), *_answer(_ALLOW)]


def _socket_rule() -> Block:
    usual = [_argument(1), (_JUMP_ANY_BIT, 0, 1, policy.UNUSUAL_SOCKET_TYPES), *_answer(_EPROTONOSUPPORT), _argument(2)]
    for protocol in policy.INTERNET_PROTOCOLS:
        usual += _when_equal(protocol, _answer(_ALLOW))
    usual += _answer(_EPROTONOSUPPORT)
    block = [_argument(0), *_when_equal(policy.LOCAL_FAMILY, _answer(_ALLOW))]
    for family in policy.INTERNET_FAMILIES:
        block += _when_equal(family, usual)
    route = [_argument(2), *_when_equal(policy.NETLINK_ROUTE, _answer(_ALLOW)), *_answer(_EAFNOSUPPORT)]
    return block + _when_equal(policy.NETLINK_FAMILY, route) + _answer(_EAFNOSUPPORT)


def _personality_rule() -> Block:
    block = [_argument(0)]
    for value in policy.PERSONALITIES:
        block += _when_equal(value, _answer(_ALLOW))
    return block + _answer(_EPERM)


def _ioctl_rule() -> Block:
    block = [_argument(1)]
    for request in policy.DENIED_IOCTLS:
        block += _when_equal(request, _answer(_EPERM))
    return block + _answer(_ALLOW)


def _prlimit_rule() -> Block:
    return [_argument(0), *_when_equal(policy.RUNNER_PID, _answer(_EPERM)), *_answer(_ALLOW)]


def _mark_rule() -> Block:
    return [_argument(1), *_when_equal(policy.MARK_REMOVE, _answer(_ALLOW)), *_answer(_EPERM)]


def _trace_rule() -> Block:
    seize = [
        _argument(1),
        *_when_equal(
            policy.FIRST_PID, [_argument(3), *_when_equal(policy.TRACE_EXIT, _answer(_ALLOW)), *_answer(_EPERM)]
        ),
        *_answer(_EPERM),
    ]
    block = [_argument(0), *_when_equal(policy.TRACE_SEIZE, seize)]
    for request in (policy.TRACE_PEEK_USER, policy.TRACE_DETACH, policy.TRACE_GET_EVENT_MESSAGE):
        block += _when_equal(request, _answer(_ALLOW))
    nothing = [_argument(3), *_when_equal(0, _answer(_ALLOW)), *_answer(_EPERM)]
    block += _when_equal(policy.TRACE_CONTINUE, nothing)
    clear = [_argument(2), *_when_equal(policy.BREAKPOINTS, nothing), *_answer(_EPERM)]
    return block + _when_equal(policy.TRACE_POKE_USER, clear) + _answer(_EPERM)


_RULES = {
    "clone": _clone_rule,
    # Its flags lie in memory, where a filter cannot look; libc falls back to clone.
    "clone3": lambda: _answer(_ENOSYS),
    "socket": _socket_rule,
    "personality": _personality_rule,
    "ioctl": _ioctl_rule,
    "prlimit64": _prlimit_rule,
    "fanotify_mark": _mark_rule,
    "ptrace": _trace_rule,
}


def _blocks(column: int) -> dict[int, Block]:
    """What to do for every call number that the policy names."""
    blocks: dict[int, Block] = {}
    for _, names in policy.ALLOWED:
        for name in names.split():
            number = NUMBERS[name][column]
            if number is not None:
                blocks[number] = _answer(_ALLOW)
    for name, rule in _RULES.items():
        number = NUMBERS[name][column]
        if number is not None:
            blocks[number] = rule()
    return blocks


def _ranges(blocks: dict[int, Block]) -> list[tuple[int, Block]]:
    """Neighbouring numbers with the same block as one range: (first number, block), in order."""
    ranges: list[tuple[int, Block]] = []
    for number in range(policy.LAST_REVIEWED + 1):
        block = blocks.get(number, _answer(_EPERM))
        if not ranges or ranges[-1][1] != block:
            ranges.append((number, block))
    ranges.append((policy.LAST_REVIEWED + 1, _answer(_ENOSYS)))
    return ranges


def _search(ranges: list[tuple[int, Block]]) -> Block:
    """A binary search over the ranges. Jumps of conditions are 8 bits, so the long way is an unconditional one."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    return [(_JUMP_AT_LEAST, 0, 1, ranges[middle][0]), (_JUMP, 0, 0, len(low)), *low, *high]


def compile_filter(machine: str = MACHINE) -> bytes:
    """The filter program for a machine, as an array of struct sock_filter. Raises OSError for an unknown machine."""
    if machine not in _ARCHITECTURES:
        raise OSError(f"isol8 has no system call table for {machine}")
    program: Block = [_load(_ARCH_OFFSET), (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[machine]), *_answer(_EPERM)]
    program.append(_load(_NUMBER_OFFSET))
    if machine == "x86_64":
        program += [(_JUMP_AT_LEAST, 0, 1, _X32_BIT), *_answer(_ENOSYS)]
    program += _search(_ranges(_blocks(_COLUMNS[machine])))
    return b"".join(
        code.to_bytes(2, "little") + bytes((true, false)) + operand.to_bytes(4, "little")
        for code, true, false, operand in program
    )


def load_filter(program: bytes) -> None:
    """Put this process, and all it will start, under the filter. Needs no_new_privs. Raises OSError."""
    address = ctypes.cast(ctypes.c_char_p(program), ctypes.c_void_p).value or 0
    syscall("seccomp", _SECCOMP_SET_MODE_FILTER, 0, _header(program, address))


def call_to_load(program: bytes, put: Callable[[bytes], int]) -> tuple[str, tuple[int, ...]]:
    """What `load_filter` does, as a system call for a table: its name and arguments. `put` is where to keep what it
    points to."""
    return "seccomp", (_SECCOMP_SET_MODE_FILTER, 0, put(_header(program, put(program))))


def _header(program: bytes, address: int) -> bytes:
    """struct sock_fprog: unsigned short len, padded; struct sock_filter *filter"""
    return (len(program) // 8).to_bytes(8, "little") + address.to_bytes(8, "little")
