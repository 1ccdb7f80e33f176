"""The languages of this server: which are on the machine, and how each lays out a command."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from isol8.errors import InvalidRequest
from isol8.model import SANDBOX_DIR, Boot, Command, Plan, SandboxSpec
from isol8.runtimes.base import Install, Runtime

_SETUP_PATH = "/tmp/setup.sh"


@dataclass(frozen=True, slots=True)
class Language:
    """A runtime as GET /runtimes shows it. `version` is None when it is not installed."""

    name: str
    version: str | None
    install: str


class Languages:
    """`runtimes` are those isol8 knows, `installed` those that are on this machine."""

    def __init__(self, runtimes: Mapping[str, Runtime], installed: Mapping[str, Install]) -> None:
        self._runtimes = runtimes
        self._installed = installed
        self._boots = {name: runtimes[name].boot(install) for name, install in installed.items() if name in runtimes}

    def all(self) -> list[Language]:
        """Every known one."""
        return [
            Language(name, self._installed[name].version if name in self._installed else None, runtime.install_hint)
            for name, runtime in self._runtimes.items()
        ]

    def ready(self) -> list[str]:
        """Names of the installed ones."""
        return [name for name in self._runtimes if name in self._installed]

    def _find(self, command: Command) -> tuple[Runtime, Install]:
        name = command.runtime
        runtime = self._runtimes.get(name)
        if runtime is None:
            raise InvalidRequest(f"Unknown runtime; there are {', '.join(self._runtimes)}")
        if command.image:  # nobody knows what is in it: the sandbox looks its interpreters up
            return runtime, Install(executable=runtime.command, version="", prefix=None)
        install = self._installed.get(name)
        if install is None:
            raise InvalidRequest(f"The runtime {name} is not installed; install it with: {runtime.install_hint}")
        return runtime, install

    def spec(self, command: Command) -> SandboxSpec:
        """What a sandbox for the command is made from. Raises InvalidRequest when its runtime is not there."""
        self._find(command)
        return SandboxSpec(
            runtime=command.runtime,
            limits=command.limits,
            boot=Boot() if command.image else self._boots[command.runtime],
            network=command.network,
            image=command.image,
        )

    def plan(self, command: Command) -> Plan:
        """The command laid out. Raises InvalidRequest when its runtime is not there."""
        runtime, install = self._find(command)
        return runtime.plan(command, install)

    def setup_plan(self, command: Command) -> Plan | None:
        """The command's set-up script laid out; None when it has none. It lies outside /sandbox, which holds the
        caller's files alone. Raises InvalidRequest when there is no bash."""
        if not command.setup_script:
            return None
        script = dataclasses.replace(
            command, runtime="bash", source=command.setup_script, extension=None, workdir=SANDBOX_DIR
        )
        plan = self.plan(script)
        return dataclasses.replace(plan, path=_SETUP_PATH, argv=(*plan.argv[:-1], _SETUP_PATH))
