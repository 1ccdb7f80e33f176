"""How many connections there are, in all and from each address, and how many there may be.

A connection that is one too many is told so, and those are bounded too: beyond them, one is closed without a word.
"""

from __future__ import annotations

import ipaddress
import logging
import resource
from collections import Counter
from enum import Enum, auto

from isol8.config import Config

_LOG = logging.getLogger("isol8.api")
_TOLD = 64  # connections that may wait at once to be told that they are too many
_OWN_DESCRIPTORS = 128  # of the process: listeners, the loop, the log, threads, files read now and then
_LEAST = 8


class Place(Enum):
    """What a connection that comes gets."""

    SERVED = auto()
    TOLD = auto()  # 503, and no more
    NONE = auto()


class Crowd:
    """`most` connections at once, `most_per_address` of them from one address; 0 is no bound of its own."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address or most
        self._served = 0
        self._told = 0
        self._addresses: Counter[str] = Counter()

    def enter(self, address: str) -> Place:
        """One more. `leave` with what this gave."""
        if self._served < self._most and self._addresses[address] < self._most_per_address:
            self._served += 1
            self._addresses[address] += 1
            return Place.SERVED
        if self._told < _TOLD:
            self._told += 1
            return Place.TOLD
        return Place.NONE

    def leave(self, address: str, place: Place) -> None:
        """One less."""
        if place is Place.TOLD:
            self._told -= 1
        elif place is Place.SERVED:
            self._served -= 1
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]


def neighbourhood(address: str) -> str:
    """What counts as one address. Of IPv6 it is the network of 64 bits: whoever has one has all in it."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))


def raise_descriptor_limit() -> None:
    """As many descriptors as the process may have at all; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def affordable_connections(config: Config) -> int:
    """`policy.maxConnections`, or fewer where the process may not have that many descriptors beside what its
    sandboxes need: one each, of running executions, warm ones, and every session of every key."""
    pool, policy = config.pool, config.policy
    warm: int = sum(getattr(pool, name) for name in type(pool).model_fields)
    sandboxes = warm + config.max_concurrent + policy.max_sessions_per_key * max(1, len(config.api_keys))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(_LEAST, allowed - sandboxes - _TOLD - _OWN_DESCRIPTORS)
    if most < policy.max_connections:
        _LOG.warning(
            "this process may have %d descriptors, so that it takes %d connections instead of %d; "
            "raise its limit of open files (ulimit -n)",
            allowed,
            most,
            policy.max_connections,
        )
    return min(most, policy.max_connections)
