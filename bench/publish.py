"""`python -m bench.publish`: puts a run into docs/benchmarks.json, and from there into docs/ and the README."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from bench import charts, report
from bench.report import Earlier, Published
from bench.results import SCHEMA, Results
from bench.setting import Sizes
from bench.surroundings import ROOT

_KEPT = 2
_STORE = Path("docs/benchmarks.json")
_PARTS = (
    "latency",
    "docker",
    "gvisor",
    "throughput",
    "sessions",
    "stream",
    "packages",
    "crowd",
    "memory",
    "idle",
    "files",
    "soak",
)


class NotPublishable(Exception):
    """The run is not one to show; the message says why."""


def main() -> None:
    """Publish, or say why not."""
    parser = argparse.ArgumentParser(prog="bench.publish", description="Put a run into the documents.")
    parser.add_argument("run", type=Path, nargs="?", default=Path(".build/bench.json"))
    arguments = parser.parse_args()
    try:
        results = json.loads(arguments.run.read_text())
        check(results)
    except (OSError, NotPublishable) as error:
        sys.exit(f"not published: {error}")
    write(roll(results, load(ROOT)), ROOT)
    print(f"written: {_STORE}, docs/benchmarks.md, docs/benchmarks-*.svg, README.md")


def check(results: Mapping[str, Any]) -> None:
    """Raise NotPublishable for a run that is not whole, not of one revision, or smaller than the usual one."""
    if results.get("schema") != SCHEMA:
        raise NotPublishable("it was made by another version of the benchmarks")
    missing = [part for part in _PARTS if part not in results]
    if missing:
        raise NotPublishable(f"it has no {', '.join(missing)}")
    if results["commit"] == "unknown" or results["commit"].endswith("+"):
        raise NotPublishable("it is of changes that were not committed: nobody could repeat it")
    smaller = [
        name for name, size in asdict(Sizes()).items() if name != "clients" and results["options"].get(name, 0) < size
    ]
    if smaller or set(results["options"]["clients"]) < set(Sizes().clients):
        raise NotPublishable(f"it is smaller than the usual run: {', '.join(smaller or ['clients'])}")


def roll(results: Results, before: Published | None) -> Published:
    """The run as the latest. Those before it that were on the same kind of machine move down; the oldest is dropped."""
    machine = results["machine"]
    earlier: list[Earlier] = []
    if before:
        last = before["latest"]
        summary = Earlier(at=last["at"], commit=last["commit"], machine=last["machine"], targets=last["targets"])
        earlier = [
            run
            for run in (summary, *before["earlier"])
            if run["at"] != results["at"]
            and (run["machine"]["cpu"], run["machine"]["cores"]) == (machine["cpu"], machine["cores"])
        ]
    return Published(latest=results, earlier=earlier[:_KEPT])


def rendered(published: Published | None, root: Path) -> dict[str, str]:
    """Every document that shows figures, by its path from `root`: as it should be."""
    texts = {"README.md": report.readme(published) if published else ""}
    texts["docs/benchmarks.md"] = report.document(published) if published else ""
    filled = {path: report.fill((root / path).read_text(), text) for path, text in texts.items()}
    pictures = charts.draw(published["latest"]) if published else {}
    return filled | {f"docs/{name}": svg for name, svg in pictures.items()}


def write(published: Published, root: Path) -> None:
    """Write the JSON, and from it the documents."""
    (root / _STORE).write_text(json.dumps(published, indent=1) + "\n")
    for path, text in rendered(published, root).items():
        (root / path).write_text(text)


def load(root: Path) -> Published | None:
    """What is published, if anything is."""
    store = root / _STORE
    return cast(Published, json.loads(store.read_text())) if store.exists() else None


if __name__ == "__main__":
    main()
