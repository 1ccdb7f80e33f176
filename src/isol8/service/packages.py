"""The layers of a server, put together from its configuration and from what its launcher found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from isol8.config import Config
from isol8.egress.client import Egress
from isol8.engines.base import Engine
from isol8.model import Limits
from isol8.packages.build import BuildLimits
from isol8.packages.client import KeeperClient
from isol8.packages.index import MachineIndex, without_credentials
from isol8.packages.layers import BuildBounds, Layers
from isol8.packages.recipe import Kitchen
from isol8.packages.shares import Place, Share
from isol8.runtimes.base import Install


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Who keeps layers, the way to the indexes, which those are, and the executables that install, by name."""

    keeper: KeeperClient
    egress: Egress
    index: MachineIndex
    executables: Mapping[str, str]


def make_layers(source: PackageSource, engine: Engine, config: Config, installed: Mapping[str, Install]) -> Layers:
    """The layers of a server, whose builds run on `engine`."""
    settings = config.packages
    index = without_credentials(source.index) if config.policy.package_scripts else source.index
    limits = Limits(
        memory_bytes=settings.build_memory,
        cpus=settings.build_cpus,
        pids=settings.build_pids,
        # The installer unpacks what it has fetched, and both are there at once.
        sandbox_bytes=min(2 * settings.layer_size, settings.build_memory),
        tmp_bytes=64 << 20,
    )
    return Layers(
        engine,
        source.egress,
        source.keeper,
        Kitchen(index, source.executables, config.policy.package_scripts, settings.hosts),
        {
            name: Place(install.version, install.packages, install.packages_options, install.surroundings)
            for name, install in installed.items()
            if install.packages
        },
        BuildLimits(limits, settings.build_timeout_ms, settings.layer_size),
        BuildBounds(running=settings.builds),
    )


async def obtain_layer(
    source: PackageSource,
    engine: Engine,
    config: Config,
    installed: Mapping[str, Install],
    runtime: str,
    requirements: tuple[str, ...],
    say: Callable[[str], None],
    use: Callable[[Share], Awaitable[None]],
) -> tuple[str, ...]:
    """Find or build one layer with an engine that is started for it, and `use` it; the modules that it brings.

    Raises EngineFailure, SetupFailed, InvalidRequest.
    """
    layers = make_layers(source, engine, config, installed)
    need = layers.need(runtime, requirements)
    await engine.start()
    try:
        share = await layers.find(need)
        if share is None:
            pending = layers.build(need, caller="")
            try:
                async with aclosing(pending.progress()) as lines:
                    async for line in lines:
                        say(line)
                share = pending.share()
            finally:
                pending.close()
        try:
            await use(share)
        finally:
            share.close()
        return () if share.boots else share.modules
    finally:
        await layers.close()
        await engine.close()
