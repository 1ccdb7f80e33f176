"""Callers: one for each configured key. Inside the server they have names, which change with the order of the keys;
beyond its life, fingerprints, which do not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_PURPOSE = b"isol8: the owner of a session\0"


def caller_name(index: int) -> str:
    """Of the key at that place in the configuration."""
    return f"key{index + 1}"


def fingerprints(keys: Iterable[str]) -> dict[str, str]:
    """Of each caller's key, by the caller's name. Nobody learns a key from it who could not guess it."""
    return {caller_name(index): hashlib.sha256(_PURPOSE + key.encode()).hexdigest() for index, key in enumerate(keys)}
