"""Everything isol8 raises on purpose. User code failing is never here: that is an `Outcome`.

    Isol8Error
    ├── InvalidRequest     the caller must change the request
    ├── Forbidden          the request is well formed; the server's policy does not allow it
    ├── NotFound           no such session or file (or not the caller's)
    ├── Conflict           the live sandbox cannot change in the way that is asked
    ├── SandboxFull        the sandbox has no room for the file
    ├── AtCapacity         the server is full; try again
    │   └── RateLimited    this key has used up its share; try again
    └── EngineFailure      we failed: a sandbox could not be made, or died under us
        └── SetupFailed    the request's own set-up step failed (set-up script, packages)

`api/problems.py` holds the one table that turns these into HTTP. No other module knows status codes.
"""

from __future__ import annotations


class Isol8Error(Exception):
    """Base of all errors above. `message` is one sentence that may be shown to the caller.

    `code` is the machine-readable name, in snake_case; None where the message says all there is.
    """

    code: str | None = None

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(Isol8Error):
    """The request cannot be carried out as written; the message names the field."""


class Forbidden(Isol8Error):
    """The server's policy does not allow it; the message names the limit."""


class NotFound(Isol8Error):
    """There is no such thing for this caller."""


class Conflict(Isol8Error):
    """A live sandbox cannot be changed this way."""


class SandboxFull(Isol8Error):
    """A file did not fit; nothing of it was kept."""

    code = "sandbox_full"


class AtCapacity(Isol8Error):
    """No room now. `retry_after_s` is a hint in whole seconds."""

    code = "at_capacity"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(AtCapacity):
    """This key asked for more than its rate."""

    code = "rate_limited"


class EngineFailure(Isol8Error):
    """A sandbox could not be made, or died without the program's doing."""

    code = "engine_failure"


class SetupFailed(EngineFailure):
    """A step that the request itself asked for, before its program, failed."""

    code = "setup_failed"
