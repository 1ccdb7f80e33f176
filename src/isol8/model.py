"""The frozen values that every layer speaks: what to run, under which limits, and what came of it.

Units are in the names: `_bytes`, `_ms`, `cpus` (cores, fractions allowed). Paths are absolute paths
inside the sandbox. Text that a program wrote is `str`, already decoded and masked; what goes in is bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

SANDBOX_DIR = "/sandbox"
WRITABLE_DIRS = (SANDBOX_DIR, "/tmp")


# What is large is a bytearray, which nobody changes any more: to make bytes of it would be to copy it.
Content = bytes | bytearray


class Outcome(StrEnum):
    """How an execution ended. None of these is an error of the server."""

    COMPLETED = "completed"  # the program ended by itself, whatever its exit code
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"  # ended from outside: session deleted, client gone, server stopping


class Network(StrEnum):
    """What a sandbox can reach. `host` shares the machine's own network."""

    NONE = "none"
    FILTERED = "filtered"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one sandbox may use. All are enforced outside the sandbox, by cgroups, mounts and timers."""

    memory_bytes: int
    cpus: float
    pids: int
    sandbox_bytes: int
    tmp_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What waits in a fresh sandbox, so that a `warm` plan need not start an interpreter.

    `forked`: a fork of the sandbox's own Python interpreter, with `modules` imported, where the engine has one.
    `executable`, `argv`: else an interpreter started ahead of time, held where it opens `path`, its program file, for
    the `opens`th time: the last before it reads it. Where a sandbox has no means for that, one for which a named pipe
    in the file's place will do (`pipe`) is held in its reading. `stamps`: where in its memory it keeps the moment at
    which it was started, in bytes from its entry point: a time_t and a struct timeval, which become those of its
    program's start. Where they are not there, none is held. `copied`: one that has booted may be copied, where an
    engine can. Neither: a process ready to execute anything.
    """

    forked: bool = False
    modules: tuple[str, ...] = ()
    executable: str = ""
    argv: tuple[str, ...] = ()
    path: str = ""
    opens: int = 1
    stamps: tuple[int, ...] = ()
    pipe: bool = False
    copied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A directory of the machine that a sandbox sees at `target`, read-only.

    `name` is a layer of the store, or one of the directories that the engine was started with. `target` is an absolute
    path that every sandbox has; below /run it is made.
    """

    name: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What a sandbox is made from. Which of it a live sandbox can change is the engine's to say (`Engine.template`).

    `image` is for engines that have images; empty is the engine's own. `kept`: whether it should outlive a crash of the
    server, where the engine can make such.
    """

    runtime: str
    limits: Limits
    boot: Boot = Boot()
    network: Network = Network.NONE
    image: str = ""
    mounts: tuple[Mount, ...] = ()
    kept: bool = False


@dataclass(frozen=True, slots=True)
class HostRule:
    """A regular expression (RE2) that a whole host name may match. `name` is where it was written down."""

    name: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundSecret:
    """A secret that never enters the sandbox. `placeholder` is what the program has instead; the proxy puts `value` in
    its place, in headers of requests to `hosts` over TLS: (name or address, port) pairs."""

    placeholder: str
    value: str
    hosts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """What a sandbox may reach through the proxy. Values alone: `egress/policy.py` judges by them.

    A host must match none of `deny`, and one of every list in `allow`: without lists, or with an empty one, nothing is
    allowed. Only public addresses are connected to, and those in `ranges` (CIDR).
    """

    allow: tuple[tuple[HostRule, ...], ...] = ()
    deny: tuple[HostRule, ...] = ()
    ports: tuple[int, ...] = (80, 443)
    ranges: tuple[str, ...] = ()
    max_connections: int = 64  # at once
    max_bytes: int = 1 << 30  # in all, both ways
    max_ms: int = 600_000  # after that, nothing any more
    secrets: tuple[BoundSecret, ...] = ()
    log: bool = False  # whether requests are noted down
    # Origins (`https://host:port`) whose files the proxy keeps for later: TLS to them ends in it, and `certificates`
    # (PEM) says whom it trusts there. For builds alone.
    downloads: tuple[str, ...] = ()
    certificates: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """One request through the proxy, allowed or (`rule` says why) blocked. `path` is None where the proxy does not see
    it; it has no query, which may be confidential. `bytes` went both ways."""

    started_at: datetime
    method: str
    host: str
    port: int
    path: str | None
    allowed: bool
    rule: str
    bytes: int
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One program to run, its inputs, and its bounds. Everything is validated before this is made."""

    runtime: str
    source: Content
    limits: Limits
    network: Network = Network.NONE
    image: str = ""  # for engines that have images; empty is the engine's own
    timeout_ms: int
    output_bytes: int  # cap of each of stdout and stderr
    extension: str | None = None  # ".mjs"; None is the runtime's own
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)  # also environment; values are masked
    egress: EgressPolicy | None = None  # with Network.FILTERED
    stdin: Content = b""
    files: Mapping[str, Content] = field(default_factory=dict)
    output_paths: tuple[str, ...] = ()
    output_files_bytes: int | None = None  # of all of them together; None is whatever the sandbox can hold
    workdir: str = SANDBOX_DIR
    setup_script: Content = b""  # bash, run before the program
    packages: tuple[str, ...] = ()  # requirements in the normal form of the runtime's ecosystem
    metadata: Mapping[str, str] = field(default_factory=dict)
    timings: bool = False  # whether the result tells how long each phase took
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A command as a runtime lays it out: which file to write, what to start, in which environment.

    `warm` says that a worker booted ahead of time gives exactly what starting `argv` would.
    `env` holds only what the request adds to the sandbox's own environment.
    """

    runtime: str
    executable: str
    argv: tuple[str, ...]
    path: str
    source: Content
    env: Mapping[str, str]
    workdir: str
    warm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a sandbox has consumed since it was made, read outside it. `oom_kills` counts the kernel's kills."""

    cpu_ms: int
    peak_memory_bytes: int
    oom_kills: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionUsage:
    """What one execution consumed."""

    cpu_ms: int
    wall_ms: int
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of an execution, without its output."""

    execution_id: str
    sandbox_id: str
    runtime: str
    outcome: Outcome
    exit_code: int
    started_at: datetime
    duration_ms: int
    truncated: bool
    usage: ExecutionUsage
    files: Mapping[str, Content] = field(default_factory=dict)
    file_errors: Mapping[str, str] = field(default_factory=dict)
    network_log: tuple[NetworkRequest, ...] | None = None  # None: not wanted
    timings: Mapping[str, float] | None = None  # milliseconds by phase; None: not wanted
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """First event: a sandbox is leased and every check has passed. After it nothing is refused."""

    execution_id: str
    sandbox_id: str


@dataclass(frozen=True, slots=True)
class Installing:
    """What the installer of the command's packages says: one line, before the program starts."""

    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what the program wrote. `stream` is `stdout` or `stderr`."""

    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event. The output went by as `Output`."""

    result: Result


Event = Started | Installing | Output | Finished
