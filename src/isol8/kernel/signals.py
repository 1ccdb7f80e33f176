"""Signal settings as the kernel starts a program, whatever this process inherited."""

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
