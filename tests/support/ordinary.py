"""An ordinary user of this machine, made for a test: with or without user ids set aside, with or without cgroups."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import isol8
from isol8.kernel import cgroups, sweeping
from tests.support import machine

PYTHON = "/usr/bin/python3"
NAME, UID = "isol8-tester", 61_234
FIRST_ID, IDS = 1_700_000_000, 65_536
EXTRA_GROUP = 61_235
RUN_SECONDS = 300


@dataclass(frozen=True)
class Ordinary:
    """How to start something as an ordinary user. `directory` must be the test's own. `handicaps` are what a machine
    may have against it: "masked /proc", "no user namespace"."""

    directory: Path
    ids: bool
    groups: tuple[str, ...] = ()
    oom_score: int = 0
    handicaps: tuple[str, ...] = ()

    def wrapper(self) -> tuple[str, ...]:
        """The command that starts the one behind it as that user."""
        files = self.directory / f"etc-{uuid.uuid4().hex}"
        files.mkdir(parents=True)
        entry = f"{NAME}:x:{UID}:{UID}::/nonexistent:/bin/sh\n"
        aside = f"{NAME}:{FIRST_ID}:{IDS}\n" if self.ids else ""
        texts = {
            "passwd": Path("/etc/passwd").read_text() + entry,
            "group": Path("/etc/group").read_text() + f"{NAME}:x:{UID}:\n",
            "subuid": aside,
            "subgid": aside,
        }
        for name, text in texts.items():
            (files / name).write_text(text)
        self.directory.chmod(0o755)
        data_dir = Path(os.environ.get("ISOL8_DATA_DIR", "~/.isol8")).expanduser()
        spec = {
            "uid": UID,
            "supplementary": [UID, EXTRA_GROUP],
            "groups": self.groups,
            "files": {f"/etc/{name}": str(files / name) for name in texts},
            "reveal": [sys.prefix, str(Path(isol8.__file__).parents[1]), str(data_dir), str(self.directory)],
            "oom_score": self.oom_score,
            "handicaps": self.handicaps,
            "environment": {"HOME": str(self.directory / "tmp"), "ISOL8_DATA_DIR": str(data_dir)},
        }
        script = Path(__file__).with_name("become_user.py")
        return ("unshare", "--mount", "--propagation", "private", PYTHON, "-I", str(script), json.dumps(spec))

    def run(self, *arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `isol8` with arguments as that user, or a program of the server's own interpreter, to its end."""
        wrapper = self.wrapper()
        (self.directory / "tmp").mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ISOL8_")}
        environment |= {"TMPDIR": str(self.directory / "tmp"), "ISOL8_API_KEY": "key", "ISOL8_PORT": "0"}
        what = ["-c", code] if code else ["-m", "isol8", *arguments]
        command = [*wrapper, sys.executable, *what]
        return subprocess.run(
            command,
            env=environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )


@contextlib.contextmanager
def delegated_groups() -> Iterator[tuple[str, ...]]:
    """A cgroup in every hierarchy that isol8 uses, made over to the user, as an administrator would. Removed
    afterwards; it must be empty of processes soon."""
    hierarchy = cgroups.detect()
    name = f"delegated-{uuid.uuid4().hex}"
    made = []
    try:
        for root in hierarchy.roots:
            if hierarchy.version == 2:
                Path(root, "cgroup.subtree_control").write_text("+memory +cpu +pids")
            path = f"{root}/{name}"
            os.mkdir(path)
            made.append(path)
            for file in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"):
                if os.path.exists(f"{path}/{file}"):
                    os.chown(f"{path}/{file}", UID, UID)
        yield tuple(made)
        for path in made:
            left = [directory for directory, _, _ in os.walk(path) if directory != path]
            assert not left, left
            machine.until(lambda path=path: not machine.members(path), f"an empty {path}")  # type: ignore[misc]
    finally:
        for path in made:
            sweeping.sweep(path, 60)


def require_mappers() -> str:
    """Why user ids cannot be mapped here; empty when they can."""
    absent = [name for name in ("newuidmap", "newgidmap") if shutil.which(name) is None]
    return f"no {' and no '.join(absent)}: install uidmap" if absent else ""
