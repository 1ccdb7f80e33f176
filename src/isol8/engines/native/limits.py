"""The resource limits of every program, put on the processes that programs are made of."""

from __future__ import annotations

import resource

from isol8.engines.resources import bounded_limits, kind_of


def limit_resources() -> None:
    """Put the limits of every program on this process, as far as its own hard limits reach."""
    for name, limits in bounded_limits().items():
        resource.setrlimit(kind_of(name), limits)
