"""Judging hosts and addresses by an EgressPolicy. Pure: nothing is resolved, opened or remembered here."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from importlib.util import find_spec

from isol8.egress.hosts import Address
from isol8.model import EgressPolicy, HostRule

try:
    import re2
except ImportError:  # the extra `egress` is not installed, and no server without it lets sandboxes have this network
    re2 = None


def available() -> bool:
    """Whether everything that the proxy needs is installed."""
    return re2 is not None and all(find_spec(name) for name in ("h11", "cryptography"))


# The port of the proxy inside sandboxes.
PROXY_PORT = 3128

# What is not the Internet: the IANA special-purpose address registries, written down so that the answer does not depend
# on the version of the standard library. Of IPv6 only 2000::/3 is global unicast; the rest is refused as a whole, with
# mapped (::ffff:0:0/96), translated (64:ff9b::/96), unique local, link-local and multicast addresses in it.
_NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(text)
    # Protocol assignments with Teredo, benchmarking and ORCHID in them; documentation; 6to4; AS112; documentation.
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address is one of the Internet, and not of a machine or its surroundings."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a packet to this IPv6 address may end up at: mapped, NAT64, 6to4 or Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


class InvalidRule(ValueError):
    """Not a regular expression. The message completes "The rule …"."""


def compile_rule(pattern: str) -> re2.Pattern:
    """Raises InvalidRule. RE2 matches in time linear in the host's length, whatever the pattern."""
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = 1 << 20  # bytes; what needs more is refused as too large
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise InvalidRule(f"is not a regular expression (RE2): {reason}") from None


def _compiled(rules: Iterable[HostRule]) -> list[tuple[HostRule, re2.Pattern]]:
    return [(rule, compile_rule(rule.pattern)) for rule in rules]


class Judge:
    """An EgressPolicy at work. Raises InvalidRule when one of its rules is not a regular expression."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._allow = [_compiled(rules) for rules in policy.allow]
        self._deny = _compiled(policy.deny)
        self._ranges = [ipaddress.ip_network(text) for text in policy.ranges]

    def objection(self, host: str, port: int) -> str | None:
        """The rule that forbids it, as a sentence; None if it is allowed. `host` is in its canonical spelling."""
        if port not in self._policy.ports:
            return f"port {port} is not among the allowed ports (network.ports)"
        for rule, pattern in self._deny:
            if pattern.fullmatch(host):
                return f"the host matches {rule.name} {rule.pattern}"
        if not self._allow:
            return "nothing is allowed (networkFilter.whitelist)"
        for rules in self._allow:
            if not any(pattern.fullmatch(host) for _, pattern in rules):
                name = rules[0][0].name.partition("[")[0] if rules else "networkFilter.whitelist"
                return f"the host matches nothing in {name}"
        return None

    def admits(self, address: Address, *, own: bool) -> bool:
        """Whether the proxy may connect to an address; `own` says that it is this machine's. One that stands for
        another is as good as both."""
        inner = embedded(address)
        if inner is not None and not self.admits(inner, own=own):
            return False
        named = any(address.version == network.version and address in network for network in self._ranges)
        return named or (is_public(address) and not own)
