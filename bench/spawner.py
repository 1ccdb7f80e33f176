"""Bare interpreters, started as cheaply as can be. Also a program of its own: a small process that starts them again
and again when it is told to. The standard library alone, and little of it: what this process holds is nothing that
the started one should pay for, and `posix_spawn` does not copy it anyway (glibc: CLONE_VM and CLONE_VFORK).

As a program it takes `python3 -I -S spawner.py COMMAND…`, then lines on standard input: `BEGIN END` runs the command
again and again from the one moment to the other (on the monotonic clock), or `BEGIN END COUNT` as often as that at
most. It answers each with one line: its own processor time in seconds, how often it failed, then start and end of each
run. It ends when its input does.
"""

import os
import sys
import time

EXPECTED = b"hello\n"
# No more than a sandbox gives a program: nothing of ours that an interpreter would have to read.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}


class BareFailed(Exception):
    """It did not print what it should, or did not exit with 0."""


def spawn(command: list[str], expected: bytes | None = EXPECTED) -> tuple[float, int]:
    """Start, read to the end, wait. The moment of the first byte, and how many there were. Raises BareFailed."""
    output, its_output = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, its_output, 1), (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    try:
        pid = os.posix_spawn(command[0], command, ENVIRONMENT, file_actions=actions)
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(its_output)
    printed = os.read(output, 65536)
    first = time.perf_counter()
    size = len(printed)
    while more := os.read(output, 1 << 20):
        size += len(more)
        if expected is not None:
            printed += more
    os.close(output)
    _, status = os.waitpid(pid, 0)
    if status or (expected is not None and printed != expected):
        raise BareFailed(f"{command[0]} ended with {status} after {printed[:100]!r}")
    return first, size


def _repeat(command: list[str], begin: float, end: float, count: int) -> str:
    time.sleep(max(0.0, begin - time.monotonic()))
    cpu = time.process_time()
    failed, moments = 0, []
    for _ in range(count):
        started = time.monotonic()
        if started >= end:
            break
        try:
            spawn(command)
        except (BareFailed, OSError):
            failed += 1
        else:
            moments += [f"{started:.6f}", f"{time.monotonic():.6f}"]
    return " ".join([f"{time.process_time() - cpu:.6f}", str(failed), *moments])


def _main() -> None:
    command = sys.argv[1:]
    for line in sys.stdin:
        begin, end, *count = line.split()
        answer = _repeat(command, float(begin), float(end), int(count[0]) if count else sys.maxsize)
        try:
            _write(f"{answer}\n".encode())
        except BrokenPipeError:  # nobody wants to know any more
            return


def _write(left: bytes) -> None:
    while left:
        left = left[os.write(1, left) :]


if __name__ == "__main__":
    _main()
