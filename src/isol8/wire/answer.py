"""What callers get. The models describe it; the functions write it, without a detour through the models: this is
on the path of every execution."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from isol8.model import Content, NetworkRequest, Outcome, Result
from isol8.wire.strict import Strict


class UsageAnswer(Strict):
    """What an execution consumed, measured outside the sandbox."""

    cpu_ms: int
    wall_ms: int
    peak_memory_bytes: int


class TimingsAnswer(Strict):
    """How long each phase of an execution took, in milliseconds."""

    queue: float
    checkout: float
    run: float


class NetworkLogEntry(Strict):
    """A request through the proxy. `path` is null where the proxy does not see it."""

    timestamp: str
    method: str
    host: str
    port: int
    path: str | None
    action: Literal["ALLOW", "BLOCK"]
    rule: str | None = None
    bytes: int
    duration_ms: int


class ResultAnswer(Strict):
    """What came of an execution."""

    stdout: str
    stderr: str
    exit_code: int
    duration_ms: int
    truncated: bool
    execution_id: str
    runtime: str
    timestamp: str
    container_id: str
    timed_out: bool
    usage: UsageAnswer
    files: dict[str, str] | None = None
    file_errors: dict[str, str] | None = None
    network_logs: list[NetworkLogEntry] | None = None
    timings: TimingsAnswer | None = None
    warnings: list[str] | None = None


class Problem(Strict):
    """Every answer that is not a success."""

    error: str
    code: str | None = None


class ExecutionProblem(Problem):
    """The answer when an execution failed. The further fields are there when the kernel killed it for memory."""

    execution_id: str | None = None
    stdout: str | None = None
    stderr: str | None = None


class StreamEvent(Strict):
    """One event of POST /execute/stream."""

    type: Literal["stdout", "stderr", "exit", "error", "install"]
    data: str


class Health(Strict):
    """The answer of GET /health."""

    status: Literal["ok"]
    version: str


class Done(Strict):
    """The answer when there is nothing to say."""

    ok: Literal[True]


class Download(Strict):
    """The answer of GET /file."""

    content: str


class SessionAnswer(Strict):
    """A session of the caller's."""

    id: str
    is_active: bool
    created_at: str
    last_accessed_at: str


class SessionsAnswer(Strict):
    """The answer of GET /sessions."""

    sessions: list[SessionAnswer]


class RuntimeAnswer(Strict):
    """A language, and the command that installs it."""

    name: str
    version: str | None
    ready: bool
    install: str


class RuntimesAnswer(Strict):
    """The answer of GET /runtimes."""

    runtimes: list[RuntimeAnswer]


def timestamp(moment: datetime) -> str:
    """ISO 8601, UTC, milliseconds, `Z`."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def to_base64(content: Content) -> str:
    """Standard, padded base64."""
    return base64.b64encode(content).decode("ascii")


def to_json(value: Mapping[str, Any]) -> bytes:
    """Compact JSON."""
    return orjson.dumps(value)


def network_entry(request: NetworkRequest) -> dict[str, Any]:
    """A NetworkLogEntry."""
    entry: dict[str, Any] = {
        "timestamp": timestamp(request.started_at),
        "method": request.method,
        "host": request.host,
        "port": request.port,
        "path": request.path,
        "action": "ALLOW" if request.allowed else "BLOCK",
        "bytes": request.bytes,
        "durationMs": request.duration_ms,
    }
    return entry if request.allowed else entry | {"rule": request.rule}


def result_json(result: Result, stdout: str, stderr: str) -> bytes:
    """The body that answers an execution which was not killed for memory."""
    body: dict[str, Any] = {"stdout": stdout, "stderr": stderr, **result_values(result)}
    if has_files(result):
        body["files"] = {path: to_base64(content) for path, content in result.files.items()}
    return to_json(body)


def has_files(result: Result) -> bool:
    """Whether files were asked for."""
    return bool(result.files or result.file_errors)


def result_values(result: Result) -> dict[str, Any]:
    """All of a result but what can be large."""
    body: dict[str, Any] = {
        "exitCode": result.exit_code,
        "durationMs": result.duration_ms,
        "truncated": result.truncated,
        "executionId": result.execution_id,
        "runtime": result.runtime,
        "timestamp": timestamp(result.started_at),
        "containerId": result.sandbox_id,
        "timedOut": result.outcome is Outcome.TIMED_OUT,
        "usage": {
            "cpuMs": result.usage.cpu_ms,
            "wallMs": result.usage.wall_ms,
            "peakMemoryBytes": result.usage.peak_memory_bytes,
        },
    }
    if result.file_errors:
        body["fileErrors"] = dict(result.file_errors)
    if result.network_log is not None:
        body["networkLogs"] = [network_entry(request) for request in result.network_log]
    if result.timings is not None:
        body["timings"] = {phase: round(ms, 3) for phase, ms in result.timings.items()}
    if result.warnings:
        body["warnings"] = list(result.warnings)
    return body


# Lines of a stream end with a newline alone; yet many clients split where Unicode would: Python's own splitlines does.
_LINE_ENDS = {character.encode(): f"\\u{ord(character):04x}".encode() for character in "\u0085\u2028\u2029"}


def event_frame(kind: str, data: str) -> bytes:
    """One event of a stream."""
    event = orjson.dumps({"type": kind, "data": data})
    if not data.isascii():
        for character, escaped in _LINE_ENDS.items():
            event = event.replace(character, escaped)
    return b"data: " + event + b"\n\n"
