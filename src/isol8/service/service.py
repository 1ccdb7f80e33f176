"""Everything between the API and the engine, put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

from isol8.config import Config
from isol8.egress.client import Egress
from isol8.engines.base import Engine
from isol8.model import Command, Network, SandboxSpec
from isol8.packages.holding import HoldingEngine
from isol8.runtimes.base import Install, Runtime
from isol8.service.admission import Admission
from isol8.service.callers import fingerprints
from isol8.service.executor import Executor
from isol8.service.fetch import Fetcher
from isol8.service.installation import Installer
from isol8.service.languages import Languages
from isol8.service.metrics import Metrics
from isol8.service.packages import PackageSource, make_layers
from isol8.service.policy import default_limits, to_command
from isol8.service.sessions import Sessions
from isol8.service.templates import Templates, template_sets
from isol8.tasks import Tasks
from isol8.wire.request import ExecuteBody


class Service:
    """`start` it within a running event loop, and `close` it; it owns the engine meanwhile. Without `packages` it
    installs none."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        runtimes: Mapping[str, Runtime],
        installed: Mapping[str, Install],
        egress: Egress | None = None,
        packages: PackageSource | None = None,
    ) -> None:
        self._config = config
        self._layers = make_layers(packages, engine, config, installed) if packages else None
        self._engine = engine = HoldingEngine(engine, self._layers) if self._layers else engine
        self._tasks = Tasks()
        self.metrics = Metrics()
        self._fetcher = Fetcher(config.policy.max_code_size)
        self.languages = Languages(runtimes, installed)
        self.sessions = self._make_sessions()
        warm = {
            name: (self._warm_spec(runtimes[name], installed[name]), getattr(config.pool, name, 0))
            for name in self.languages.ready()
        }
        admission = Admission(config.max_concurrent, config.max_queue, config.policy.requests_per_minute)
        self._templates = Templates(
            engine,
            warm,
            self._layers,
            template_sets(config),
            config.packages.demanded_templates,
            when_calm=admission.when_calm,
        )
        self.executor = Executor(
            engine,
            egress,
            self.languages,
            self._templates,
            admission,
            self.sessions,
            self._tasks,
            config.policy.setup_timeout_ms,
            Installer(self._layers, self._templates, engine, admission),
            self.metrics,
        )
        self._watch(admission)

    def _watch(self, admission: Admission) -> None:
        self.metrics.watch("isol8_running", "Executions that have a place.", lambda: admission.running)
        self.metrics.watch("isol8_queued", "Executions that wait for one.", lambda: admission.queued)
        self.metrics.watch("isol8_sessions", "Live sessions.", lambda: self.sessions.count)
        pools = self._templates.pools()
        ready = {name: partial(getattr, pool, "ready") for name, pool in pools.items()}
        self.metrics.watch_each("isol8_warm_sandboxes", "Sandboxes that are ready.", "runtime", ready)

    def _make_sessions(self) -> Sessions:
        cleanup, policy = self._config.cleanup, self._config.policy
        return Sessions(
            self._engine,
            self._tasks,
            idle_s=cleanup.max_container_age_ms / 1000 if cleanup.auto_prune else None,
            max_per_caller=policy.max_sessions_per_key,
            max_users=self._config.max_queue + 1,
            owners=fingerprints(self._config.api_keys),
        )

    def _warm_spec(self, runtime: Runtime, install: Install) -> SandboxSpec:
        return SandboxSpec(
            runtime=runtime.name,
            limits=default_limits(self._config),
            boot=runtime.boot(install),
            network=Network.NONE,
        )

    async def command(self, body: ExecuteBody, caller: str, session_id: str | None) -> Command:
        """What a body asks for; in a session, what it does not mention stays as the session has it.

        Raises InvalidRequest and Forbidden.
        """
        standing = self.sessions.spec(caller, session_id) if session_id else None
        command, request = to_command(body, self._config, standing), body.request
        if request.code_url is None:
            return command
        insecure = bool(request.allow_insecure_code_url)
        source = await self._fetcher.fetch(request.code_url, request.code_hash, insecure=insecure)
        return dataclasses.replace(command, source=source)

    async def start(self) -> None:
        """Start the engine, find the sessions that a crash has left, and begin to fill the pools. Raises
        EngineFailure."""
        await self._engine.start()
        await self.sessions.restore()
        self._templates.start()

    async def close(self, *, crashed: bool = False) -> None:
        """End all sessions, destroy all sandboxes, close the engine. After a crash of what is around it, sessions are
        left to the next server, if the engine can."""
        if self._layers:
            await self._layers.close()
        if not crashed:
            await self.sessions.close()
        await self._templates.close()
        await self._tasks.finish()
        await self._engine.close()
