"""How a sandbox asks for a copy: in the process that becomes its runner, while that still has every right."""

from __future__ import annotations

import _socket
import os
import select

from isol8.runner.worker import Worker

_LONGEST_MS = 10_000
_NUMBER_BYTES = 4


def ask(template: int, words: bytes, uid: int, rules: int, groups: list[int]) -> Worker | None:
    """A copy, as a worker that has been told what to become; None if there is none. `template` is the socket, which
    stays open, `words` what the copy alone has, `uid` its user, `rules` a descriptor of Landlock's, `groups` those of
    cgroups. Raises OSError."""
    stdin, stdout, stderr, report = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    runner = os.pidfd_open(os.getpid())
    theirs = [stdin[0], stdout[1], stderr[1], report[1]]
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
    poll = select.poll()
    poll.register(report[0], select.POLLIN)
    number = os.read(report[0], _NUMBER_BYTES) if poll.poll(_LONGEST_MS) else b""
    os.close(report[0])
    worker = Worker(int.from_bytes(number, "little"), -1, stdin[1], stdout[0], stderr[0])
    if len(number) < _NUMBER_BYTES:
        worker.close()
        return None
    for descriptor in (stdin[1], stdout[0], stderr[0]):
        os.set_blocking(descriptor, False)
    return worker
