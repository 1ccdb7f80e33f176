"""The system call policy as a Docker seccomp profile: the same data that the native engine compiles by itself.

A profile can compare an argument masked, and join such comparisons by "and"; everything a rule does not match falls to
the default. So "any value but these" becomes the prefixes that lead past each of them (`others`). Only the low 32 bits
are compared, since the kernel looks at no more: a filter that compares 64 is passed by setting a bit above them
(CVE-2019-7303).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from isol8.kernel import seccomp_policy as policy

_BITS = 32
_ALL = (1 << _BITS) - 1
_ENOSYS, _EPROTONOSUPPORT, _EAFNOSUPPORT = 38, 93, 97

Rule = dict[str, Any]
Prefix = tuple[int, int]  # mask, value


def others(values: Iterable[int]) -> Iterator[Prefix]:
    """Masked comparisons that together hold for every 32-bit number but `values`, and never two for one number."""
    yield from _past(set(values), 0, 0)


def _past(values: set[int], depth: int, above: int) -> Iterator[Prefix]:
    mask = _ALL & ~((1 << (_BITS - depth)) - 1)
    if not values:
        yield mask, above
    elif depth < _BITS:
        bit = 1 << (_BITS - depth - 1)
        yield from _past({value for value in values if not value & bit}, depth + 1, above)
        yield from _past({value for value in values if value & bit}, depth + 1, above | bit)


class Profile:
    """The profile as a daemon takes it: `text` goes behind `seccomp=`. Podman wants the path of a file, which is one
    without a name in any directory, so that it ends with this process. `close` it."""

    def __init__(self, *, by_path: bool) -> None:
        self._file = -1
        self.text = profile()
        if by_path:
            self._file = os.memfd_create("seccomp.json")
            os.write(self._file, self.text.encode())
            self.text = f"/proc/{os.getpid()}/fd/{self._file}"

    def close(self) -> None:
        """Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def profile() -> str:
    """The whole profile, as JSON for Docker's `--security-opt seccomp=`."""
    names = [name for _, group in policy.ALLOWED for name in group.split()]
    rules = [
        _rule(names),
        _rule(["clone"], (0, policy.NAMESPACE_FLAGS, 0)),
        # Its flags lie in memory, where a filter cannot look; libc falls back to clone.
        _rule(["clone3"], error=_ENOSYS),
        *_socket_rules(),
        *(_rule(["personality"], (0, _ALL, value)) for value in policy.PERSONALITIES),
        *(_rule(["ioctl"], (1, *prefix)) for prefix in others(policy.DENIED_IOCTLS)),
        *(_rule(["prlimit64"], (0, *prefix)) for prefix in others([policy.RUNNER_PID])),
    ]
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": rules})


def _socket_rules() -> Iterator[Rule]:
    families = (policy.LOCAL_FAMILY, *policy.INTERNET_FAMILIES, policy.NETLINK_FAMILY)
    yield _rule(["socket"], (0, _ALL, policy.LOCAL_FAMILY))
    for prefix in others(families):
        yield _rule(["socket"], (0, *prefix), error=_EAFNOSUPPORT)
    netlink = (0, _ALL, policy.NETLINK_FAMILY)
    yield _rule(["socket"], netlink, (2, _ALL, policy.NETLINK_ROUTE))
    for prefix in others([policy.NETLINK_ROUTE]):
        yield _rule(["socket"], netlink, (2, *prefix), error=_EAFNOSUPPORT)
    for family in ((0, _ALL, family) for family in policy.INTERNET_FAMILIES):
        yield from _internet_rules(family)


def _internet_rules(family: tuple[int, int, int]) -> Iterator[Rule]:
    usual = (1, policy.UNUSUAL_SOCKET_TYPES, 0)
    for protocol in policy.INTERNET_PROTOCOLS:
        yield _rule(["socket"], family, usual, (2, _ALL, protocol))
    for prefix in others(policy.INTERNET_PROTOCOLS):
        yield _rule(["socket"], family, usual, (2, *prefix), error=_EPROTONOSUPPORT)
    bits = [1 << bit for bit in range(_BITS) if policy.UNUSUAL_SOCKET_TYPES >> bit & 1]
    for unusual in (sum(chosen) for size in range(1, len(bits) + 1) for chosen in combinations(bits, size)):
        yield _rule(["socket"], family, (1, policy.UNUSUAL_SOCKET_TYPES, unusual), error=_EPROTONOSUPPORT)


def _rule(names: list[str], *comparisons: tuple[int, int, int], error: int = 0) -> Rule:
    """Allow, or refuse with an error, where every comparison (argument, mask, value) holds."""
    rule: Rule = {"names": names, "action": "SCMP_ACT_ERRNO" if error else "SCMP_ACT_ALLOW"}
    if error:
        rule["errnoRet"] = error
    if comparisons:
        rule["args"] = [
            {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
            for index, mask, value in comparisons
        ]
    return rule
