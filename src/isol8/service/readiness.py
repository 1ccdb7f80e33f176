"""Sessions make ready for their next call: a worker is forked ahead, when the machine has nothing better to do.

While anything is executed it would take the processor from that; a session whose call comes before then forks its
worker when the call is there.
"""

from __future__ import annotations

import asyncio

from isol8.service.admission import Admission
from isol8.service.session import Session

_CALM_S = 0.01  # how long after a call; the same again when something is being executed then
_BETWEEN_S = 0.004  # what one takes, about


class Readiness:
    """Whose executions `admission` admits."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._waiting: dict[Session, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def later(self, session: Session) -> None:
        """An execution in the session is over."""
        self._waiting[session] = None
        if self._timer is None:
            self._wait(_CALM_S)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._next)

    def _next(self) -> None:
        self._timer = None
        if self._admission.running:
            self._wait(_CALM_S)
            return
        session = next(iter(self._waiting))
        del self._waiting[session]
        if session.sandbox and not session.active:
            session.sandbox.prepare()
        if self._waiting:
            self._wait(_BETWEEN_S)
