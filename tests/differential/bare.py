"""Runs a case under the bare interpreter: same path, same environment, a user without rights, plain pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.differential.cases import Case

PYTHON = "/usr/bin/python3"
# What a person would type, and what the shell would find for it.
COMMANDS = {
    "python": (PYTHON, "python3"),
    "node": ("/opt/isol8/node/bin/node", "node"),
    "bun": ("/opt/isol8/bun/bin/bun", "bun"),
    "deno": ("/opt/isol8/deno/bin/deno", "deno", "run", "-A"),
    "bash": ("/usr/bin/bash", "bash"),
}
SECONDS = 300


@dataclass(frozen=True)
class Ending:
    """All that a caller sees of a program."""

    stdout: str
    stderr: str
    exit_code: int


def data_dir() -> Path:
    """Where `isol8 setup` puts runtimes."""
    return Path(os.environ.get("ISOL8_DATA_DIR", "~/.isol8")).expanduser()


def run(case: Case, environment: Mapping[str, str], directory: Path, image: Path | None = None) -> Ending:
    """Run a case in a root of its own made of the machine's directories, or of those of an image. Needs root; leaves
    nothing behind."""
    runtimes = image / "opt" / "isol8" if image else data_dir() / "runtimes"
    prefixes = {f"/opt/isol8/{name}": str(runtimes / name) for name in ("node", "bun", "deno")}
    executable, *typed = COMMANDS[case.runtime]
    spec = {
        "machine": str(image or "/"),
        "executable": executable,
        "argv": [*typed, case.path],
        "env": {**environment, **case.env},
        "files": {case.path: case.source, **case.files},
        "prefixes": {inside: outside for inside, outside in prefixes.items() if os.path.isdir(outside)},
    }
    description = directory / "case.json"
    description.write_text(json.dumps(spec))
    inner = [PYTHON, "-I", str(Path(__file__).with_name("bare_root.py")), str(description)]
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", *inner],
        input=case.stdin.encode(),
        capture_output=True,
        timeout=SECONDS,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        check=False,
    )
    return Ending(done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), done.returncode)


if __name__ == "__main__":
    # For writing new cases: `python -m tests.differential.bare corpus/python/x.py` shows what the bare side does.
    import tempfile

    from tests.differential.cases import load

    MINIMAL = {"PATH": "/opt/isol8/node/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/sandbox", "LANG": "C.UTF-8"}
    with tempfile.TemporaryDirectory() as scratch:
        for name in sys.argv[1:]:
            print(name, run(load(Path(name)), MINIMAL, Path(scratch)))
