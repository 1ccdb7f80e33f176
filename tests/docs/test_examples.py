"""Every command and example in the README and in docs/ is run, and what it is said to answer is what it answers.

A `bash` block is one or more commands; `bash filtered`: for a server whose policy allows filtered networks. A `json`
or `text` block right below it is its answer. A `json config` block is a configuration file with the defaults, a `json
settings` block one with others. A `python` block is a program, which tests/library runs. Examples of one document run
in its order, against one server: later ones may need earlier ones.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isol8.cli.main import main
from isol8.config import load_config
from tests.conftest import Serve
from tests.support.server import Server

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "http://127.0.0.1:3000"
# Different at every run; the example shows one, and only the kind of value is compared.
VARYING = {"durationMs", "executionId", "timestamp", "containerId", "cpuMs", "wallMs", "peakMemoryBytes"}
LONGEST_S = 300


@dataclass(frozen=True)
class Block:
    """A fenced block. `answers` says that it stands right below a block of commands."""

    info: str
    text: str
    line: int
    answers: bool


def blocks(document: Path) -> Iterator[Block]:
    lines = document.read_text().splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    assert len(fences) % 2 == 0, f"{document} has an open block"
    before = ""
    last_end = -1
    for start, end in zip(fences[::2], fences[1::2], strict=True):
        info = lines[start].removeprefix("```").strip()
        below = before.startswith("bash") and not any(line.strip() for line in lines[last_end + 1 : start])
        yield Block(info, "\n".join(lines[start + 1 : end]) + "\n", start + 1, below)
        before, last_end = info, end


def commands(block: Block) -> Iterator[str]:
    """The commands of a block, each with the lines it goes on over."""
    pending = ""
    for line in block.text.splitlines():
        pending += f"{line}\n"
        complete = subprocess.run(["bash", "-n", "-c", pending], capture_output=True).returncode == 0
        if complete and not line.endswith("\\"):
            yield pending.strip()
            pending = ""
    assert not pending.strip(), f"line {block.line} has an incomplete command"


def run(command: str, server: Server) -> str:
    """Run one command of a document. One that would start, install or test the product is only looked up."""
    word, *rest = command.split()
    if word == "make":
        subprocess.run(["make", "--dry-run", rest[0]], cwd=ROOT, check=True, capture_output=True, timeout=LONGEST_S)
        return ""
    if word == "isol8":
        with pytest.raises(SystemExit, match="0"):
            main([rest[0], "--help"])
        return ""
    assert word == "curl", f"no way to try: {command}"
    return curl(command, server)


def curl(command: str, server: Server) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    assert ADDRESS in command, f"goes elsewhere: {command}"
    done = subprocess.run(
        ["bash", "-c", command.replace(ADDRESS, server.url)],
        env=os.environ | {"ISOL8_API_KEY": server.key, "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout


def same(shown: Any, got: Any, name: str = "answer") -> None:
    """Assert that an answer is the one shown, where it varies in kind alone."""
    if isinstance(shown, list) and isinstance(got, list):
        assert len(shown) == len(got), name
        for one, other in zip(shown, got, strict=True):
            same(one, other, name)
        return
    if isinstance(shown, dict) and isinstance(got, dict):
        assert set(shown) == set(got), name
        for key in shown:
            same(shown[key], got[key], key)
    elif name in VARYING:
        assert type(shown) is type(got), name
        assert not isinstance(got, str) or got, name
    else:
        assert got == shown, name


@pytest.fixture
def filtering(serve: Serve) -> Server:
    """A server that lets sandboxes have a filtered network."""
    return serve({"policy": {"networks": ["none", "filtered"]}})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example(document: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    servers = {
        "bash": lambda: request.getfixturevalue("server"),
        "bash filtered": lambda: request.getfixturevalue("filtering"),
    }
    answer = ""
    for block in blocks(document):
        where = f"{document.name}:{block.line}"
        if block.info in servers:
            server = servers[block.info]()
            for command in commands(block):
                answer = run(command, server)
                # An example that fails must say so, by showing the error as its answer.
                assert '"error"' not in answer or "not-the-key" in command or "Authorization" not in command, where
        elif block.info == "python":
            compile(block.text, where, "exec")
        elif block.info == "json config":
            shown, empty = tmp_path / "shown.json", tmp_path / "empty.json"
            shown.write_text(block.text)
            empty.write_text("{}")
            # It says that it shows the defaults.
            assert load_config(str(shown), {}) == load_config(str(empty), {})
        elif block.info == "json settings":
            settings = tmp_path / "settings.json"
            settings.write_text(block.text)
            load_config(str(settings), {})
        elif block.answers and block.info == "json":
            same(json.loads(block.text), json.loads(answer), where)
        elif block.answers:
            assert answer.strip() == block.text.strip(), where
        else:
            assert block.info == "text", f"{where}: nothing says what a block of {block.info!r} is for"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#][^)]*)\)", document.read_text()):
        path, _, heading = target.partition("#")
        linked = document.parent / path
        assert linked.exists(), target
        headings = {
            line.lstrip("# ").lower().replace(" ", "-") for line in linked.read_text().splitlines() if line[:1] == "#"
        }
        assert not heading or heading in headings, target
