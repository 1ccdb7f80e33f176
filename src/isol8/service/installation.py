"""The packages of an execution: where their layer comes from, and how it gets into the sandbox.

A layer that is there is found before a sandbox is leased, so that one can be taken that has it already. One that is
not is built while the sandbox waits; what the installer says becomes events. In a session, packages are added to those
that earlier executions asked for: together they are one layer, which covers the earlier one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from contextlib import aclosing
from weakref import WeakKeyDictionary

from isol8.engines.base import Engine
from isol8.engines.sandbox import Sandbox
from isol8.errors import InvalidRequest
from isol8.model import Command, Installing, Mount, Plan, SandboxSpec
from isol8.packages.layers import Layers
from isol8.packages.shares import Need, Share
from isol8.packages.waiting import Pending
from isol8.runtimes.layout import changes_import
from isol8.service.admission import Admission
from isol8.service.templates import Templates


@dataclasses.dataclass(frozen=True, slots=True)
class _Standing:
    """What a sandbox has for one runtime."""

    requirements: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    boots: bool = False


_NOTHING = _Standing()


class Installer:
    """Makes installations. Without `layers` this server installs nothing."""

    def __init__(self, layers: Layers | None, templates: Templates, engine: Engine, admission: Admission) -> None:
        self.layers = layers
        self.templates = templates
        self.engine = engine
        self.admission = admission
        self._standing: WeakKeyDictionary[Sandbox, dict[str, _Standing]] = WeakKeyDictionary()

    def installation(self, command: Command, caller: str) -> Installation:
        """That of a command; the caller must close it. Raises InvalidRequest."""
        if command.packages and self.layers is None:
            raise InvalidRequest("request.installPackages is not available on this server")
        if command.packages and command.image:
            raise InvalidRequest("request.installPackages is for the server's own image: leave out options.image")
        return Installation(self, command, caller)

    def standing(self, sandbox: Sandbox, runtime: str) -> _Standing:
        """What the sandbox has already."""
        return self._standing.get(sandbox, {}).get(runtime, _NOTHING)

    def note(self, sandbox: Sandbox, runtime: str, standing: _Standing) -> None:
        """The sandbox has this now."""
        self._standing.setdefault(sandbox, {})[runtime] = standing


class Installation:
    """`prepare`, then `events`, then `adapt`; `close` in any case."""

    def __init__(self, installer: Installer, command: Command, caller: str) -> None:
        self._installer = installer
        self._command = command
        self._caller = caller
        self._need: Need | None = None
        self._share: Share | None = None
        self._pending: Pending | None = None
        self._standing = _NOTHING

    async def prepare(self, spec: SandboxSpec, sandbox: Sandbox | None) -> SandboxSpec:
        """What the sandbox should be made from; `sandbox` is the one that will be used, if that is settled. A build is
        begun if one is needed. Raises InvalidRequest, AtCapacity, EngineFailure."""
        command, layers = self._command, self._installer.layers
        standing = self._installer.standing(sandbox, command.runtime) if sandbox else _NOTHING
        self._standing = standing
        wanted = tuple(sorted({*standing.requirements, *command.packages}))
        if wanted == standing.requirements or layers is None:
            return spec
        self._need = need = layers.need(command.runtime, wanted)
        templates = self._installer.templates
        self._share = templates.covering(command.runtime, wanted) or await layers.find(need)
        if self._share is None:
            self._check_can_follow(spec, need)
            self._pending = layers.build(need, self._caller)
            return spec
        templates.demanded(need, self._share)
        return dataclasses.replace(spec, mounts=(*spec.mounts, self._share.mount))

    def _check_can_follow(self, spec: SandboxSpec, need: Need) -> None:
        """Raises InvalidRequest when a sandbox must have its packages from the start."""
        template, later = self._installer.engine.template, Mount(name=need.key, target=need.target)
        if template(spec) != template(dataclasses.replace(spec, mounts=(*spec.mounts, later))):
            raise InvalidRequest(
                "request.installPackages can have those packages only that this server keeps ready; "
                "add others with: isol8 setup --python"
            )

    @property
    def needed(self) -> bool:
        """Whether there is a layer that the sandbox must get, as `prepare` found."""
        return self._need is not None

    async def events(self, sandbox: Sandbox) -> AsyncGenerator[Installing, None]:
        """Bring the layer into the sandbox, when it is there. Raises SetupFailed, EngineFailure, Conflict."""
        if self._need is None:
            return
        if self._pending:
            outside = self._installer.admission.outside(self._caller)
            async with outside, aclosing(self._pending.progress()) as lines:
                async for line in lines:
                    yield Installing(line)
            self._share = self._pending.share()
        assert self._share is not None
        if self._share.mount not in sandbox.spec.mounts:
            await self._installer.engine.mount(sandbox, (self._share.mount,))
        self._standing = _Standing(self._need.requirements, self._need.options, self._share.boots)
        self._installer.note(sandbox, self._need.runtime, self._standing)

    def adapt(self, plan: Plan, sandbox: Sandbox) -> Plan:
        """The plan, with what the layer asks for: options, or an interpreter that sees it while it boots; and without
        imports that were made in another environment than the program's."""
        options = self._standing.options
        late = self._standing.boots or (sandbox.spec.boot.modules and changes_import(plan, sandbox.spec.boot.modules))
        if not options and not late:
            return plan
        argv = (*plan.argv[:-1], *options, plan.argv[-1])
        return dataclasses.replace(plan, argv=argv, warm=plan.warm and not late)

    def close(self) -> None:
        """Let go of the layer; a sandbox that has it holds it by itself. Idempotent."""
        if self._share:
            self._share.close()
        if self._pending:
            self._pending.close()
