"""What is noted down of a session, beside its sandbox, so that it is there again when the server has crashed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from isol8.errors import InvalidRequest
from isol8.wire.checks import session_id


@dataclass(frozen=True, slots=True)
class SessionNote:
    """`owner` is the fingerprint of the key that made it. `busy`: it was in use when this was noted down; it counts as
    used until the crash then."""

    name: str
    owner: str
    created_at: datetime
    last_accessed_at: datetime
    busy: bool

    def to_json(self) -> dict[str, object]:
        """For `from_json`."""
        return {
            "session": self.name,
            "owner": self.owner,
            "createdAt": self.created_at.timestamp(),
            "lastAccessedAt": self.last_accessed_at.timestamp(),
            "busy": self.busy,
        }

    @classmethod
    def from_json(cls, tree: dict[str, object]) -> SessionNote:
        """Raises InvalidRequest when it is none."""
        name, owner, busy = tree.get("session"), tree.get("owner"), tree.get("busy")
        if not isinstance(name, str) or not isinstance(owner, str) or not isinstance(busy, bool):
            raise InvalidRequest("a session's note has no names")
        try:
            moments = [_moment(tree.get(key)) for key in ("createdAt", "lastAccessedAt")]
            return cls(session_id(name), owner, moments[0], moments[1], busy)
        except (ValueError, OverflowError, OSError) as error:
            raise InvalidRequest(f"a session's note makes no sense: {error}") from error

    def idle_s(self) -> float:
        """For how long it has not been used. The clock may have been set back meanwhile."""
        return 0.0 if self.busy else max(0.0, (datetime.now(UTC) - self.last_accessed_at) / timedelta(seconds=1))


def _moment(value: object) -> datetime:
    if not isinstance(value, int | float):
        raise ValueError("a time is not a number")
    return datetime.fromtimestamp(value, UTC)
