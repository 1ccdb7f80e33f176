"""Warm sandboxes by what they are made of: one pool for each runtime, and one for each template.

A template is a set of packages that is kept ready: its layer is mounted before anyone asks, and modules are imported
ahead of time where that is configured. The imports run inside each waiting sandbox, as its user: packages are foreign
code, and never run in a process that can do more than a program could.

Templates that are configured are there from the start, and serve every request whose packages are among theirs. A layer
that is asked for again becomes a template by itself, for that very set and without imports; there is a bounded number
of those, and the least recently used makes way.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from isol8.config import Config, InvalidConfig
from isol8.engines.base import Engine
from isol8.engines.sandbox import Sandbox
from isol8.errors import InvalidRequest, Isol8Error
from isol8.model import SandboxSpec
from isol8.packages.layers import Layers
from isol8.packages.requirements import KNOWN_RUNTIMES, InvalidRequirements, normal_form
from isol8.packages.shares import Need, Share
from isol8.pool import Pool
from isol8.tasks import Tasks

_LOG = logging.getLogger("isol8.templates")
_DEMANDED_SIZE = 1


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """A configured template. `requirements` are in normal form; `size` is how many sandboxes wait."""

    name: str
    runtime: str
    requirements: tuple[str, ...]
    modules: tuple[str, ...]
    size: int


def template_sets(config: Config) -> tuple[TemplateSet, ...]:
    """What the configuration asks for. Raises InvalidConfig."""
    sets = []
    for name, template in config.templates.items():
        if template.runtime not in KNOWN_RUNTIMES:
            raise InvalidConfig(f"templates.{name}.runtime must be one of {', '.join(KNOWN_RUNTIMES)}")
        try:
            requirements = normal_form(template.runtime, template.packages)
        except InvalidRequirements as error:
            raise InvalidConfig(f"templates.{name}.packages{error}") from None
        if not all(part.isidentifier() for module in template.preimport for part in module.split(".")):
            raise InvalidConfig(f"templates.{name}.preimport must hold names of modules")
        if template.preimport and template.runtime != "python":
            raise InvalidConfig(f"templates.{name}.preimport is for python alone")
        sets.append(TemplateSet(name, template.runtime, requirements, template.preimport, template.pool))
    return tuple(sets)


class _Template:
    """A layer that is kept, and its pool."""

    def __init__(self, share: Share, need: Need, pool: Pool) -> None:
        self.share = share
        self.need = need
        self.pool = pool

    async def close(self) -> None:
        await self.pool.close()
        self.share.close()


class Templates:
    """`start` it within a running event loop, and `close` it. `warm` are what sandboxes of each runtime are made from,
    and how many wait; `demanded` bounds the templates that make themselves; `when_calm` is for pools."""

    def __init__(
        self,
        engine: Engine,
        warm: Mapping[str, tuple[SandboxSpec, int]],
        layers: Layers | None,
        sets: Iterable[TemplateSet],
        demanded: int,
        when_calm: Callable[[Callable[[], None]], None] = lambda call: call(),
    ) -> None:
        self._engine = engine
        self._warm = warm
        self._layers = layers
        self._sets = tuple(sets)
        self._most_demanded = demanded
        self._when_calm = when_calm
        self._pools = {runtime: Pool(engine, spec, size, when_calm) for runtime, (spec, size) in warm.items()}
        self._configured: dict[str, _Template] = {}  # by the layer's name, as below
        self._demanded: OrderedDict[str, _Template] = OrderedDict()
        self._asked: OrderedDict[str, None] = OrderedDict()  # layers that were asked for once, and are no template
        self._tasks = Tasks()

    def start(self) -> None:
        """Begin to fill the pools, and to build what templates need. Returns at once."""
        for pool in self._pools.values():
            pool.start()
        for wanted in self._sets:
            self._tasks.start(self._set_up(wanted))

    async def _set_up(self, wanted: TemplateSet) -> None:
        """Make a configured template; a failure is logged, and its requests are served without it."""
        try:
            layers = self._layers
            if layers is None or wanted.runtime not in self._warm:
                raise InvalidRequest(f"{wanted.runtime} cannot install packages here")
            need = layers.need(wanted.runtime, wanted.requirements)
            share = await layers.find(need) or await _built(layers, need)
        except Isol8Error as error:
            _LOG.error("the template %s could not be made: %s", wanted.name, error.message)
            return
        modules = () if share.boots else wanted.modules
        self._configured[share.name] = self._open(need, share, modules, wanted.size)
        _LOG.info("the template %s is ready", wanted.name)

    def _open(self, need: Need, share: Share, modules: tuple[str, ...], size: int) -> _Template:
        spec, _ = self._warm[need.runtime]
        boot = dataclasses.replace(spec.boot, modules=modules) if spec.boot.forked else spec.boot
        pool = Pool(self._engine, dataclasses.replace(spec, boot=boot, mounts=(share.mount,)), size, self._when_calm)
        pool.start()
        return _Template(share, need, pool)

    def pools(self) -> Mapping[str, Pool]:
        """Those without packages, by runtime."""
        return self._pools

    def covering(self, runtime: str, requirements: tuple[str, ...]) -> Share | None:
        """A share of the layer of a configured template that has all of these; the caller closes it."""
        wanted = set(requirements)
        for template in self._configured.values():
            if template.need.runtime == runtime and wanted <= set(template.need.requirements):
                return template.share.another()
        return None

    def demanded(self, need: Need, share: Share) -> None:
        """A layer that was there was asked for. The second time it becomes a template."""
        if share.name in self._configured or self._most_demanded == 0:
            return
        if share.name in self._demanded:
            self._demanded.move_to_end(share.name)
            return
        if share.name not in self._asked:
            self._asked[share.name] = None
            if len(self._asked) > 16 * self._most_demanded:
                self._asked.popitem(last=False)
            return
        del self._asked[share.name]
        self._demanded[share.name] = self._open(need, share.another(), (), _DEMANDED_SIZE)
        if len(self._demanded) > self._most_demanded:
            _, oldest = self._demanded.popitem(last=False)
            self._tasks.start(oldest.close())

    async def acquire(self, spec: SandboxSpec) -> Sandbox:
        """A sandbox that nobody has used; it has what `spec` mounts only if it comes from a template, which is when one
        is ready: importing takes the program no longer than it takes a template. The caller must destroy it. Raises
        EngineFailure."""
        sandbox = self._take(spec) or await self._make(spec)
        if sandbox.spec.network is not spec.network:
            sandbox.spec = dataclasses.replace(sandbox.spec, network=spec.network)
        return sandbox

    def _take(self, spec: SandboxSpec) -> Sandbox | None:
        """From a template with something of what is to be mounted, if one is ready."""
        wanted = self._engine.template(spec)
        for mount in spec.mounts:
            template = self._configured.get(mount.name) or self._demanded.get(mount.name)
            if template and self._engine.template(template.pool.spec) == wanted and (sandbox := template.pool.take()):
                return sandbox
        return None

    async def _make(self, spec: SandboxSpec) -> Sandbox:
        """From the runtime's pool, or made now where it has not what a live sandbox cannot change."""
        pool = self._pools.get(spec.runtime)
        if pool and self._engine.template(pool.spec) == self._engine.template(spec):
            return await pool.acquire()
        return await self._engine.create(spec)

    async def close(self) -> None:
        """Destroy what waits, and let go of the layers."""
        for pool in self._pools.values():
            await pool.close()
        for template in (*self._configured.values(), *self._demanded.values()):
            await template.close()
        await self._tasks.finish()


async def _built(layers: Layers, need: Need) -> Share:
    pending = layers.build(need, caller="")
    try:
        async with aclosing(pending.progress()) as lines:
            async for line in lines:
                _LOG.info("%s", line)
        return pending.share()
    finally:
        pending.close()
