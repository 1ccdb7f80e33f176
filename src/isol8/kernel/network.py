"""Doing something in another process's network namespace."""

from __future__ import annotations

import threading
from collections.abc import Callable

from isol8.kernel.namespaces import CLONE_NEWNET
from isol8.kernel.syscalls import check, libc


def in_network_of(pidfd: int, work: Callable[[], int]) -> int:
    """What `work` returns, called in the network namespace of the process behind `pidfd`. Raises what it raises.

    A thread of its own enters the namespace and ends with it, so this process never leaves its own, and need not have
    the right to come back. The caller waits meanwhile: it may fork again when this returns. Needs Linux 5.8 (setns(2)
    takes a pidfd since then).
    """
    results: list[int] = []
    errors: list[Exception] = []

    def enter() -> None:
        try:
            check(libc.setns(pidfd, CLONE_NEWNET), "setns")
            results.append(work())
        except Exception as error:  # noqa: BLE001 - it is raised where it belongs
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
