"""The corpus: one file per program under `corpus/<runtime>/`, with what it needs beside it in `<file>.json`.

The sidecar may have `stdin` (text), `env` (strings), `files` (path to text) and `normalise` (pairs of a regular
expression and what to put in its place, applied to stdout and stderr of both sides; for process ids and addresses
alone). Programs must be deterministic. A sidecar's `why` says why it normalises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.programs import EXTENSIONS

CORPUS = Path(__file__).with_name("corpus")


@dataclass(frozen=True)
class Case:
    """One program and its inputs."""

    runtime: str
    name: str
    extension: str
    source: str
    stdin: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    normalise: tuple[tuple[str, str], ...] = ()
    why: str = ""

    @property
    def path(self) -> str:
        """Where the program is run from, on both sides."""
        return f"/sandbox/main{self.extension}"

    def normalised(self, text: str) -> str:
        """`text` without what may differ between any two runs."""
        for pattern, replacement in self.normalise:
            text = re.sub(pattern, replacement, text)
        return text

    def request(self) -> dict[str, object]:
        """The `request` of POST /execute."""
        extension = {} if self.extension == EXTENSIONS[self.runtime] else {"fileExtension": self.extension}
        given = {"stdin": self.stdin, "env": dict(self.env), "files": dict(self.files)}
        return {
            "code": self.source,
            "runtime": self.runtime,
            **extension,
            **{name: value for name, value in given.items() if value},
        }


def load(file: Path) -> Case:
    """A case from its program's file. Raises TypeError for a field the sidecar cannot have."""
    sidecar = file.with_name(f"{file.name}.json")
    more = json.loads(sidecar.read_text()) if sidecar.exists() else {}
    pairs = tuple((pattern, replacement) for pattern, replacement in more.pop("normalise", ()))
    return Case(file.parent.name, file.stem, file.suffix, file.read_bytes().decode(), normalise=pairs, **more)


def all_cases() -> list[Case]:
    """Every case, in a stable order."""
    return [load(file) for file in sorted(CORPUS.glob("*/*")) if file.suffix != ".json"]
