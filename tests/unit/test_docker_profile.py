"""The system call policy as a Docker profile: rules for "any value but these" hold for exactly those."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiodocker")

from isol8.engines.docker.seccomp import others, profile
from isol8.kernel import seccomp_policy as policy

NUMBERS = st.integers(min_value=0, max_value=2**32 - 1)


@given(st.sets(NUMBERS, max_size=8), NUMBERS)
def test_others_holds_once_for_every_other_number(values: set[int], number: int) -> None:
    for probe in (number, *values, *((value ^ 1) for value in values)):
        matching = sum(probe & mask == prefix for mask, prefix in others(values))
        assert matching == (probe not in values)


def _answer(rules: list[dict[str, object]], name: str, *arguments: int) -> object:
    """What the kernel would answer: the action of the rule that matches, of which there may be one."""
    found = []
    for rule in rules:
        comparisons = rule.get("args", [])
        assert isinstance(comparisons, list)
        if name in rule["names"] and all(  # type: ignore[operator]
            arguments[each["index"]] & each["value"] == each["valueTwo"] for each in comparisons
        ):
            found.append(rule.get("errnoRet", 0))
    assert len(found) < 2, (name, arguments, found)
    return found[0] if found else 1


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("read", (), 0),
        ("mount", (), 1),
        ("clone3", (), 38),
        ("clone", (0x11,), 0),
        ("clone", (0x10000000,), 1),
        ("socket", (1, 1, 0), 0),
        ("socket", (2, 1, 6), 0),
        ("socket", (10, 2, 132), 93),
        ("socket", (2, 5, 0), 93),
        ("socket", (16, 3, 0), 0),
        ("socket", (16, 3, 12), 97),
        ("socket", (17, 3, 0), 97),
        ("socket", (40, 1, 0), 97),
        ("ioctl", (0, 0x5412), 1),
        ("ioctl", (0, 0x1_0000_5412), 1),
        ("ioctl", (0, 0x5413), 0),
        ("prlimit64", (1,), 1),
        ("prlimit64", (0,), 0),
        ("fanotify_mark", (3, 2), 1),  # no gates there
        ("ptrace", (0x4206, 2, 0, 0x40), 1),  # and no end is told of early
        ("personality", (0xFFFFFFFF,), 0),
        ("personality", (0x0040000,), 1),
    ],
)
def test_the_profile_decides_as_the_filter_does(name: str, arguments: tuple[int, ...], answer: int) -> None:
    described = json.loads(profile())
    assert described["defaultAction"] == "SCMP_ACT_ERRNO"
    assert _answer(described["syscalls"], name, *arguments) == answer


def test_nothing_is_allowed_that_the_policy_does_not_name() -> None:
    named = {name for _, group in policy.ALLOWED for name in group.split()} | set(policy.CONDITIONAL_NAMES)
    for rule in json.loads(profile())["syscalls"]:
        assert set(rule["names"]) <= named
