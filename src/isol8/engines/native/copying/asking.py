"""How a sandbox asks for a copy: in the process that becomes its runner, while that still has every right."""

from __future__ import annotations

import _socket
import os
import select

from isol8.runner.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_MS = 10_000
_NUMBER_BYTES = 4


def ask(
    template: int, words: bytes, uid: int, rules: int, groups: list[int], look: Callable[[int], None]
) -> Worker | None:
    """A copy, as a worker that has been told what to become; None if there is none. `template` is the socket, which
    stays open, `words` what the copy alone has, `uid` its user, `rules` a descriptor of Landlock's, `groups` those of
    cgroups. `look` is called with its process, which has everything by then, and has not gone on yet. Raises OSError.
    """
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    report, its_report = _socket.socketpair()
    runner = os.pidfd_open(os.getpid())
    theirs = [stdin[0], stdout[1], stderr[1], its_report.detach()]
    for stream in theirs[:3]:
        os.fchown(stream, uid, uid)  # a program may open its streams once more
    rights = b"".join(value.to_bytes(4, "little") for value in (*theirs, runner, rules, *groups))
    asked = _socket.socket(fileno=os.dup(template))
    try:
        asked.sendmsg([words], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    finally:
        asked.close()
        for descriptor in (*theirs, runner):
            os.close(descriptor)
    worker = Worker(0, -1, stdin[1], stdout[0], stderr[0])
    try:
        worker.pid = _begun(report, look)
    finally:
        report.close()
        if not worker.pid:
            worker.close()
    if not worker.pid:
        return None
    for descriptor in (stdin[1], stdout[0], stderr[0]):
        os.set_blocking(descriptor, False)
    return worker


def _begun(report: _socket.socket, look: Callable[[int], None]) -> int:
    """The copy's process number, when it has gone on; 0: there is none."""
    poll = select.poll()
    poll.register(report, select.POLLIN)
    number = report.recv(_NUMBER_BYTES) if poll.poll(_LONGEST_MS) else b""
    if len(number) < _NUMBER_BYTES:
        return 0
    pid = int.from_bytes(number, "little")
    look(pid)
    report.send(b".")
    return pid
