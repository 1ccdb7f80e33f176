"""What laying out a command has in common for all languages."""

from __future__ import annotations

import re

from isol8.model import SANDBOX_DIR, Boot, Command, Plan
from isol8.runtimes.base import Install

# An interpreter reads these before its first line of user code, so a worker that is already up would miss them. Not so
# NODE_USE_ENV_PROXY: every program with a filtered network has it, and no Node.js that waits takes any environment.
_READ_AT_BOOT = re.compile(
    r"(PYTHON|LC_|LD_|NODE_(?!USE_ENV_PROXY$)|MALLOC_|GLIBC_|DENO_|BUN_|SSL_|OPENSSL_|UV_|V8_).*|LANG|LANGUAGE|LOCPATH|GCONV_PATH|TZ|HOME|PATH"
)


def _program_path(extension: str) -> str:
    return f"{SANDBOX_DIR}/main{extension}"


def wait_at_program(
    install: Install,
    *starter: str,
    extension: str,
    opens: int = 1,
    pipe: bool = False,
    forked: bool = False,
    copied: bool = False,
) -> Boot:
    """What waits for a plan of `lay_out` with the same starter: an interpreter that is about to read its program, which
    it opens for the `opens`th time then. `pipe`, `forked`, `copied`: see Boot."""
    path = _program_path(extension)
    argv = (*starter, path)
    return Boot(
        executable=install.executable,
        argv=argv,
        path=path,
        opens=opens,
        stamps=install.stamps,
        pipe=pipe,
        forked=forked,
        copied=copied,
    )


def lay_out(command: Command, install: Install, *starter: str, extension: str, warm: bool) -> Plan:
    """The plan that starts `starter`, as it would be typed, with the program's path after it. `extension` is the
    runtime's own, with the dot, used when the command names none."""
    path = _program_path(command.extension or extension)
    return Plan(
        runtime=command.runtime,
        executable=install.executable,
        argv=(*starter, path),
        path=path,
        source=command.source,
        env={**command.env, **command.secrets},
        workdir=command.workdir,
        warm=warm,
    )


# Libraries read these when they are imported: threads of numerical ones, devices, where caches and settings are.
_READ_AT_IMPORT = re.compile(r"(OMP|OPENBLAS|MKL|GOTO|BLIS|VECLIB|NUMEXPR|NPY|KMP|CUDA|XDG|MPL|TF|HF)_?.*")


def changes_import(plan: Plan, modules: tuple[str, ...]) -> bool:
    """Whether the environment that a plan adds could alter what importing these modules does."""
    names = tuple(f"{module.partition('.')[0].upper()}_" for module in modules)
    return any(_READ_AT_IMPORT.fullmatch(name) or name.upper().startswith(names) for name in plan.env)


def changes_boot(command: Command) -> bool:
    """Whether the environment that the command adds could alter how an interpreter boots."""
    return any(_READ_AT_BOOT.fullmatch(name) for added in (command.env, command.secrets) for name in added)


def starts_alike(command: Command, extension: str) -> bool:
    """Whether an interpreter that was started before the command was known has been started as the command asks."""
    return (
        not command.env
        and not command.secrets
        and command.workdir == SANDBOX_DIR
        and command.extension in (None, extension)
    )
