"""Sessions make ready for their next call: a worker is forked ahead, when the machine has nothing better to do.

While anything is executed it would take the processor from that; a session whose call comes before then forks its
worker when the call is there.
"""

from __future__ import annotations

from isol8.service.admission import Admission
from isol8.service.session import Session


class Readiness:
    """Whose executions `admission` admits."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._waiting: dict[Session, None] = {}

    def later(self, session: Session) -> None:
        """An execution in the session is over."""
        if not self._waiting:
            self._admission.when_calm(self._next)
        self._waiting[session] = None

    def _next(self) -> None:
        """One at a time: what one takes is about as long as a calm moment."""
        session = next(iter(self._waiting))
        del self._waiting[session]
        if session.sandbox and not session.active:
            session.sandbox.prepare()
        if self._waiting:
            self._admission.when_calm(self._next)
