"""An engine whose sandboxes hold the layers that they have mounted, from before they are made until they are gone.

Whoever makes a sandbox, and however it ends: no layer is taken away from under it.
"""

from __future__ import annotations

import socket
from collections.abc import Hashable

from isol8.engines.base import Engine
from isol8.engines.sandbox import Sandbox
from isol8.model import Limits, Mount, SandboxSpec, Usage
from isol8.packages.layers import Layers
from isol8.packages.shares import Share


class HoldingEngine:
    """Implements `Engine` around another. Layers that are asked for must be held by the caller meanwhile."""

    def __init__(self, engine: Engine, layers: Layers) -> None:
        self._engine = engine
        self._layers = layers
        self._shares: dict[str, list[Share]] = {}

    async def start(self) -> None:
        """See Engine."""
        await self._engine.start()

    async def close(self) -> None:
        """See Engine."""
        await self._engine.close()
        for name in list(self._shares):
            self._let_go(name)

    def template(self, spec: SandboxSpec) -> Hashable:
        """See Engine."""
        return self._engine.template(spec)

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """See Engine."""
        shares = self._layers.holding(spec.mounts)
        try:
            sandbox = await self._engine.create(spec)
        except BaseException:
            for share in shares:
                share.close()
            raise
        if shares:
            self._shares[sandbox.id] = shares
        return sandbox

    async def limit(self, sandbox: Sandbox, limits: Limits) -> None:
        """See Engine."""
        await self._engine.limit(sandbox, limits)

    async def mount(self, sandbox: Sandbox, mounts: tuple[Mount, ...]) -> None:
        """See Engine."""
        # Not given back when mounting fails: it may have got half way.
        self._shares.setdefault(sandbox.id, []).extend(self._layers.holding(mounts))
        await self._engine.mount(sandbox, mounts)

    async def listen(self, sandbox: Sandbox, port: int) -> socket.socket:
        """See Engine."""
        return await self._engine.listen(sandbox, port)

    async def usage(self, sandbox: Sandbox) -> Usage:
        """See Engine."""
        return await self._engine.usage(sandbox)

    async def keep(self, sandbox: Sandbox, note: dict[str, object]) -> None:
        """See Engine."""
        await self._engine.keep(sandbox, note)

    async def kept(self) -> list[str]:
        """See Engine."""
        return await self._engine.kept()

    async def adopt(self, name: str) -> tuple[Sandbox, dict[str, object]]:
        """See Engine. A sandbox whose layers are no more is not adopted."""
        sandbox, note = await self._engine.adopt(name)
        try:
            shares = await self._layers.hold_again(sandbox.spec.mounts)
        except BaseException:
            await self._engine.destroy(sandbox)
            raise
        if shares:
            self._shares[name] = shares
        return sandbox, note

    async def destroy(self, sandbox: Sandbox) -> None:
        """See Engine."""
        try:
            await self._engine.destroy(sandbox)
        finally:
            self._let_go(sandbox.id)

    def _let_go(self, name: str) -> None:
        for share in self._shares.pop(name, ()):
            share.close()
