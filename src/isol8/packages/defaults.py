"""Which indexes the installers use when nobody tells them: asked of them, and written down for the next start.

A build may reach the index and nothing else, so its hosts must be known; and they are nobody's to know but pip's and
npm's own.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LOG = logging.getLogger("isol8.packages")
_FILE = "indexes.json"
_TIMEOUT_S = 30
_ASK_PIP = "from pip._internal.models.index import PyPI; print(PyPI.simple_url, PyPI.file_storage_domain)"


@dataclass(frozen=True, slots=True)
class Defaults:
    """pip's index and the host that its files are on, and npm's registry; empty where there is no such installer."""

    python_index: str = ""
    python_files: str = ""
    npm_registry: str = ""


def find_defaults(data_dir: str) -> Defaults:
    """The defaults of this server's own pip, and of the npm in the data directory. Asking takes about a second; the
    answer is kept there for as long as the versions stay the same."""
    node = (Path(data_dir) / "runtimes" / "node").resolve()
    asked = f"pip {_pip_version()}, {node.name}"
    kept = Path(data_dir) / _FILE
    try:
        saved = json.loads(kept.read_text())
        if saved["asked"] == asked:
            return Defaults(**saved["defaults"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or of another version of isol8
    index, files = (*_answer([sys.executable, "-P", "-c", _ASK_PIP]).split(), "", "")[:2]
    found = Defaults(index, files, _ask_npm(node))
    if not all((index, files, found.npm_registry)):
        return found  # asked again the next time
    try:
        kept.write_text(json.dumps({"asked": asked, "defaults": asdict(found)}))
    except OSError as error:
        _LOG.warning("%s cannot be written: %s", kept, error.strerror)
    return found


def _pip_version() -> str:
    try:
        return version("pip")
    except PackageNotFoundError:
        return ""


def _ask_npm(node: Path) -> str:
    npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not npm.exists():
        return ""
    command = [str(node / "bin" / "node"), str(npm), "config", "get", "registry", "--userconfig", os.devnull]
    return _answer(command).strip()


def _answer(argv: list[str]) -> str:
    """What a command prints; empty, and a warning, when it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().startswith("npm_config_")}
    try:
        with tempfile.TemporaryDirectory() as home:  # npm leaves caches and logs behind
            done = subprocess.run(
                argv,
                cwd="/",
                env=environment | {"HOME": home, "TMPDIR": home},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=True,
            )
    except (OSError, subprocess.SubprocessError) as error:
        _LOG.warning("%s: %s", " ".join(argv[:2]), error)
        return ""
    return done.stdout
