"""One line in the log for each execution: who, what, how it ended. Neither code nor output nor environment."""

from __future__ import annotations

import logging
import time
from typing import Any

import orjson

from isol8.errors import Isol8Error
from isol8.model import Command, Result
from isol8.wire.answer import network_entry

_LOG = logging.getLogger("isol8.audit")


class AuditEntry:
    """Begun when an execution is asked for; `write` it once, however that ends."""

    def __init__(self, execution_id: str, command: Command, caller: str, session_id: str | None) -> None:
        self._execution_id = execution_id
        self._command = command
        self._caller = caller
        self._session_id = session_id
        self._began = time.monotonic()
        self._ending: dict[str, Any] = {"outcome": "abandoned"}  # by its caller, unless something else is noted

    @property
    def outcome(self) -> str:
        """How it ended, as far as is known."""
        return str(self._ending["outcome"])

    def finished(self, result: Result) -> None:
        """It ran to its end."""
        self._ending = {
            "outcome": result.outcome,
            "exitCode": result.exit_code,
            "sandbox": result.sandbox_id,
            "durationMs": result.duration_ms,
            "cpuMs": result.usage.cpu_ms,
            "peakMemoryBytes": result.usage.peak_memory_bytes,
            "network": [network_entry(request) for request in result.network_log or ()] or None,
        }

    def refused(self, error: Isol8Error) -> None:
        """It could not be run."""
        self._ending = {"outcome": "refused", "error": error.code or type(error).__name__}

    def write(self) -> None:
        """Log it."""
        if not _LOG.isEnabledFor(logging.INFO):
            return
        entry = {
            "execution": self._execution_id,
            "caller": self._caller,
            "session": self._session_id,
            "runtime": self._command.runtime,
            **self._ending,
            "totalMs": round((time.monotonic() - self._began) * 1000),
            "metadata": dict(self._command.metadata),
        }
        line = orjson.dumps({name: value for name, value in entry.items() if value not in (None, {})})
        _LOG.info("%s", line.decode())
