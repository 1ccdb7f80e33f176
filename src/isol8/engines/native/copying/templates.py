"""The templates of one server: one for each way to start an interpreter that can be copied."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from isol8.engines.native.copying.errors import Unfit
from isol8.engines.native.copying.template import Interpreter, Template
from isol8.kernel.syscalls import MACHINE

_LOG = logging.getLogger("isol8.templates")
# Copies share where their memory is, and seeds of hashes: not for ever. And what a fresh start would show as its age
# is not all moved on (`individual.py`).
_OLDEST_S = 600.0
_TRIES = 6


class Templates:
    """Made when they are first asked for. `close` when done. With `problem`, there are none, for that reason."""

    def __init__(self, environment: Mapping[str, str], problem: str) -> None:
        self._environment = tuple(environment.items())
        self._problem = problem or ("" if MACHINE == "x86_64" else f"copying is not written for {MACHINE}")
        self._found: dict[Interpreter, Template] = {}
        self._unfit: dict[Interpreter, tuple[float, str]] = {}  # when that was found, and why
        self._renewing: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    def _interpreter(self, boot: dict[str, Any], zygote: int) -> Interpreter:
        return Interpreter(boot["executable"], tuple(boot["argv"]), boot["path"], self._environment, zygote)

    async def problem(self, boot: dict[str, Any], zygote: int, groups: int) -> str:
        """Why there is none for a `Boot` that could be copied, found out by making it; empty when there is one."""
        if self._problem or await self.template(boot, zygote, groups):
            return self._problem
        return self._unfit[self._interpreter(boot, zygote)][1]

    async def template(self, boot: dict[str, Any], zygote: int, groups: int) -> Template | None:
        """The one for a `Boot`; None where its interpreter must boot. `groups` as for Template."""
        if self._problem or not boot.get("copied"):
            return None
        wanted = self._interpreter(boot, zygote)
        template = self._found.get(wanted)
        if template is None or not template.alive:
            async with self._lock:
                template = self._found.get(wanted)
                if template is None or not template.alive:
                    await self._make(wanted, groups)
        elif time.monotonic() - template.started > _OLDEST_S and not self._renewing:
            task = asyncio.get_running_loop().create_task(self._make(wanted, groups))
            self._renewing.add(task)
            task.add_done_callback(self._renewing.discard)
        return self._found.get(wanted)

    async def _make(self, wanted: Interpreter, groups: int) -> None:
        found_at, _ = self._unfit.get(wanted, (-_OLDEST_S, ""))
        if time.monotonic() - found_at < _OLDEST_S:
            return
        template, reason = await self._started(wanted, groups)
        if template is None:
            self._unfit[wanted] = time.monotonic(), reason
            return
        before = self._found.pop(wanted, None)
        if before:
            before.close()
        for other in [each for each in self._found if each.zygote != wanted.zygote]:
            self._found.pop(other).close()  # of a zygote that is gone
        self._found[wanted] = template

    async def _started(self, wanted: Interpreter, groups: int) -> tuple[Template | None, str]:
        """A template; or None, and why."""
        reason, avoided = "", set[int]()
        for _ in range(_TRIES):  # a number that is not to be found twice may be there by chance
            template = Template(wanted, groups, avoided)
            try:
                await template.start()
            except (Unfit, OSError) as error:
                template.close()
                reason = str(error)
            except BaseException:
                template.close()
                raise
            else:
                return template, ""
        _LOG.warning("%s boots in every sandbox, rather than being copied: %s", wanted.argv[0], reason)
        return None, reason

    def close(self) -> None:
        """End all of them."""
        self._problem = "the server is stopping"
        for task in self._renewing:
            task.cancel()
        for template in self._found.values():
            template.close()
        self._found.clear()
