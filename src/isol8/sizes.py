"""Sizes as people write them: `512m`, `1g`, `65536`."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{1,19})([bkmgt]?)", re.IGNORECASE)
_FACTORS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LARGEST = (1 << 63) - 1  # what the kernel's own limits can hold


def parse_size(value: object) -> int:
    """Bytes in a size: a whole number of bytes, or text with an optional unit of b, k, m, g or t (powers of 1024).

    Raises ValueError, whose message completes a sentence that begins with the field's name.
    """
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        size = int(match[1]) * _FACTORS[match[2].lower()]
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise ValueError('must be a size like "512m", "1g" or "65536"')
    if size <= 0:
        raise ValueError("must be greater than 0")
    if size > _LARGEST:
        raise ValueError("is larger than any machine")
    return size


def format_size(size_bytes: int) -> str:
    """The shortest exact way to write a size: 536870912 is `512m`."""
    for unit in ("t", "g", "m", "k"):
        if size_bytes >= _FACTORS[unit] and size_bytes % _FACTORS[unit] == 0:
            return f"{size_bytes // _FACTORS[unit]}{unit}"
    return str(size_bytes)
