"""The launcher: the process a user starts. It does nothing but keep the two real ones alive.

    isol8 serve (launcher)
    ├── supervisor     privileged; makes sandboxes (engines/supervisor.py)
    ├── proxy          where sandboxes may have a filtered network: their way out (egress/process.py)
    ├── keeper         where there are packages: who owns the store of them (packages/keeper.py)
    ├── builds' proxy  and the way out of their builds, which keeps what they download
    └── API            faces the network; no privilege left

Both listening sockets belong to the launcher, so either child can die and come back without a client losing more than
what that child was doing. When the launcher is killed, the kernel tells both children (parent-death signals).
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

_LOG = logging.getLogger("isol8.launcher")
_STOP_TIMEOUT_S = 20.0
_ABORT_TIMEOUT_S = 1.0  # when one did not start, the other has nothing to finish, and may wait for the first for ever
# A child that exits this soon after its first start will not do better the second time.
_STILLBORN_S = 3.0
# sysexits.h, EX_CONFIG: how a child says the same, however long it took to find out.
_CONFIGURATION = 78
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


@dataclass(slots=True)
class Child:
    """A process to keep alive. `start` returns its pid; `ended` is called each time after it has ended."""

    name: str
    start: Callable[[], int]
    ended: Callable[[], None] = lambda: None
    pid: int = 0
    started_at: float = 0.0
    restart_at: float = 0.0
    delay_s: float = _FIRST_DELAY_S
    restarts: int = 0

    def launch(self) -> None:
        """Start it now."""
        self.pid, self.started_at = self.start(), time.monotonic()

    def schedule(self) -> None:
        """It has ended: start it again, the later the sooner it ended."""
        lived = time.monotonic() - self.started_at
        self.delay_s = _FIRST_DELAY_S if lived > _LONGEST_DELAY_S else min(self.delay_s * 2, _LONGEST_DELAY_S)
        self.restart_at = time.monotonic() + self.delay_s
        self.restarts += 1


def fork_child(main: Callable[[], None]) -> int:
    """Fork a process that runs `main`, with this process's signal mask undone; its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - a fork never returns into the caller
        _LOG.exception("the process failed")
    finally:
        os._exit(status)


def keep_alive(children: list[Child]) -> int:
    """Start the children in order and keep them running until SIGTERM or SIGINT; then stop them in reverse order.

    The answer is an exit status: 1 when a child would not start at all.
    """
    # Whoever started this process may have had it ignored, and then the kernel would not keep the dead for us.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for child in children:
        child.launch()
    status = _watch(children)
    for child in reversed(children):
        _stop(child, _ABORT_TIMEOUT_S if status else _STOP_TIMEOUT_S)
    return status


def _watch(children: list[Child]) -> int:
    while True:
        due = [child.restart_at for child in children if not child.pid]
        wait = max(0.0, min(due) - time.monotonic()) if due else 3600.0
        received = signal.sigtimedwait(_SIGNALS, wait)
        if received and received.si_signo != signal.SIGCHLD:
            return 0
        if not _reap(children):
            return 1
        for child in children:
            if not child.pid and time.monotonic() >= child.restart_at:
                child.launch()


def _reap(children: list[Child]) -> bool:
    """Collect the children that have ended. False when one of them never worked."""
    for child in children:
        if not child.pid:
            continue
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            continue
        child.pid = 0
        child.ended()
        if os.WIFEXITED(status) and not child.restarts and _hopeless(child, os.WEXITSTATUS(status)):
            _LOG.error("the %s did not start", child.name)
            return False
        child.schedule()
        _LOG.warning("the %s ended; it is started again in %.1f s", child.name, child.delay_s)
    return True


def _hopeless(child: Child, status: int) -> bool:
    """Whether a child that has ended after its first start will do no better the second time."""
    return status == _CONFIGURATION or time.monotonic() - child.started_at < _STILLBORN_S


def _stop(child: Child, timeout_s: float) -> None:
    if not child.pid:
        return
    os.kill(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while not os.waitpid(child.pid, os.WNOHANG)[0]:
        left = deadline - time.monotonic()
        if left <= 0:
            _LOG.error("the %s does not stop; it is killed", child.name)
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            break
        signal.sigtimedwait({signal.SIGCHLD}, left)
    child.ended()
