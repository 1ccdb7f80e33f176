"""Where runtimes that are not part of the machine live: `<data dir>/runtimes/<name>`, a symbolic link to
`<name>-<version>` beside it. The link is the installation: it appears, and moves to another version, in one
step, and a running server keeps the directory it resolved when it started."""

from __future__ import annotations

import os
from pathlib import Path

from isol8.runtimes.base import Install

_MOUNT_POINT = "/opt/isol8"


def link_of(name: str, data_dir: str) -> Path:
    """The link that is the installation of the runtime `name`."""
    return Path(data_dir).expanduser() / "runtimes" / name


def find_prefix(name: str, data_dir: str, *, packages: str | None = None) -> Install | None:
    """The runtime installed as `name`, or None. Its executable is `bin/<name>`. `packages`: see Install."""
    prefix = link_of(name, data_dir).resolve()
    executable = prefix / "bin" / name
    if not os.access(executable, os.X_OK):
        return None
    return Install(
        executable=f"{_MOUNT_POINT}/{name}/bin/{name}",
        version=prefix.name.removeprefix(f"{name}-"),
        prefix=str(prefix),
        packages=packages,
    )
