"""Signal settings of a process, whatever it inherited."""

from __future__ import annotations

import signal

from isol8.kernel.syscalls import syscall

_LAST_SIGNAL = 64
_MASK_BYTES = 8


def reset_signals() -> None:
    """Every signal at its default, none blocked. Raises OSError.

    By system call: libc refuses to touch the two signals it keeps for itself (32 and 33), and a parent may have had
    them ignored all the same.
    """
    default = bytes(32)  # struct kernel_sigaction, all zero: SIG_DFL
    for number in set(range(1, _LAST_SIGNAL + 1)) - {signal.SIGKILL, signal.SIGSTOP}:
        syscall("rt_sigaction", number, default, None, _MASK_BYTES)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def settle() -> None:
    """First of all in a process that the launcher started: undo what that has left set, and set up the log."""
    import logging  # not above: a container's runner, which resets its signals, is to start without it

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # The launcher blocks what it waits for. An interrupt from a terminal comes to all of them: the launcher sees to it.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
