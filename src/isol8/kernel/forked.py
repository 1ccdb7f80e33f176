"""Trying something in a process of its own, so that whatever it changes ends with it."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator


def _nothing() -> None: ...


def lines_from_fork(
    work: Callable[[], Iterator[str]], timeout_s: float, meanwhile: Callable[[], None] = _nothing
) -> list[str]:
    """What `work` yields in a forked process, as far as it gets within `timeout_s`. The process is gone then.

    `meanwhile` is done in this process once the other one is there; what it raises goes to the caller. The caller must
    have one thread. No line may hold a line break.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(work, writer)
    os.close(writer)
    try:
        meanwhile()
        return _read(reader, time.monotonic() + timeout_s).decode().splitlines()
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _become(work: Callable[[], Iterator[str]], writer: int) -> None:
    try:
        for line in work():
            os.write(writer, f"{line}\n".encode())
    except BaseException:  # noqa: BLE001 - a fork never returns into the caller
        traceback.print_exc()
    finally:
        os._exit(0)


def _read(reader: int, deadline: float) -> bytes:
    text = b""
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reader, 65536)
        if not part:
            break
        text += part
    return text


def attempt(work: Callable[[], None], timeout_s: float, meanwhile: Callable[[], None] = _nothing) -> None:
    """Do something in a forked process. Raises the OSError that it raises, or one that says it did not get through."""

    def reported() -> Iterator[str]:
        try:
            work()
        except OSError as error:
            yield f"{error.errno} {error.strerror}"
        else:
            yield "0"

    number, _, reason = (lines_from_fork(reported, timeout_s, meanwhile) or [f"{errno.EINTR} the process was killed"])[
        0
    ].partition(" ")
    if int(number):
        raise OSError(int(number), reason)
