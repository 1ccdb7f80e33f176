"""What an engine is. It makes and destroys sandboxes, and knows nothing of languages.

An engine gives seven things: `create`, the byte stream of a sandbox, `limit`, `mount`, `listen`, `usage`, `destroy`.
Where sandboxes can outlive a crash of the server, `keep`, `kept` and `adopt` do something too.
Everything that happens inside a sandbox goes over that stream to the runner, through `Sandbox` (engines/sandbox.py),
which is the same for every engine.
"""

from __future__ import annotations

import socket
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from isol8.engines.sandbox import Sandbox
from isol8.model import Limits, Mount, SandboxSpec, Usage


class Need(StrEnum):
    """What it means when a layer cannot be enforced."""

    ALWAYS = "always"  # no sandbox is made without it
    STRICT = "strict"  # `policy.isolation: "relaxed"` goes without it
    EXTRA = "extra"  # used where the kernel has it, on top of layers that suffice


@dataclass(frozen=True, slots=True)
class Layer:
    """One isolation layer as `isol8 doctor` shows it. `detail` is what it stops, or why it is not enforced."""

    name: str
    need: Need
    enforced: bool
    detail: str
    remedy: str = ""


class Engine(Protocol):
    """Makes and destroys sandboxes."""

    async def start(self) -> None:
        """Get ready to create. Raises EngineFailure when the engine cannot work on this machine."""

    async def close(self) -> None:
        """Destroy every sandbox and free all that the engine holds."""

    def template(self, spec: SandboxSpec) -> Hashable:
        """What of `spec` a live sandbox cannot change. A warm sandbox serves every spec with its own template."""

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """A sandbox nobody has used, booted and waiting. The caller must `destroy` it.

        Raises EngineFailure.
        """

    async def limit(self, sandbox: Sandbox, limits: Limits) -> None:
        """Put other limits on a live sandbox. Raises EngineFailure, and Conflict when the kernel refuses
        them (a size below what is in use) or a sandbox of this engine cannot change in that way."""

    async def mount(self, sandbox: Sandbox, mounts: tuple[Mount, ...]) -> None:
        """Show further directories in a live sandbox. Raises EngineFailure, and Conflict when it can have them only
        from the start (`SandboxSpec.mounts`)."""

    async def listen(self, sandbox: Sandbox, port: int) -> socket.socket:
        """A listening stream socket, outside, that programs in the sandbox reach at 127.0.0.1:`port`; nothing else
        does. The caller closes it. Raises EngineFailure, and Conflict when a program has taken the port."""

    async def usage(self, sandbox: Sandbox) -> Usage:
        """What the sandbox has consumed, read outside it."""

    async def keep(self, sandbox: Sandbox, note: dict[str, object]) -> None:
        """Have a sandbox that was made so (`SandboxSpec.kept`) outlive a crash of the server, with a JSON object for
        whoever adopts it; a later one takes its place. Does nothing where the engine cannot. Raises EngineFailure."""

    async def kept(self) -> list[str]:
        """Ids of sandboxes that wait to be adopted. Raises EngineFailure."""

    async def adopt(self, name: str) -> tuple[Sandbox, dict[str, object]]:
        """One of those, ready, and its note; what had been running in the foreground is ended. The caller must
        `destroy` it. Raises EngineFailure, and the sandbox is gone then."""

    async def destroy(self, sandbox: Sandbox) -> None:
        """Kill everything in the sandbox and free all it held. Idempotent; returns when it is gone."""
