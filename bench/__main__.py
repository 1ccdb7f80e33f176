"""`python -m bench`: measures what it is asked for, prints progress, writes JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import (
    crowd,
    docker,
    files,
    gvisor,
    idle,
    latency,
    memory,
    packages,
    sessions,
    soak,
    stream,
    throughput,
)
from bench.bare import PROGRAMS
from bench.results import SCHEMA
from bench.setting import QUICK, Setting, Sizes
from bench.surroundings import Watch, revision, versions
from bench.targets import judge
from isol8.config import load_config
from isol8.runtimes.registry import find_installed

# In this order: what wants a quiet machine comes first.
PARTS: dict[str, Callable[[Setting], Any]] = {
    "latency": latency.measure,
    "docker": docker.measure,
    "gvisor": gvisor.measure,
    "sessions": sessions.measure,
    "stream": stream.measure,
    "packages": packages.measure,
    "throughput": throughput.measure,
    "crowd": crowd.measure,
    "memory": memory.measure,
    "idle": idle.measure,
    "files": files.measure,
    "soak": soak.measure,
}


def main() -> None:
    """Measure, print, write."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped on the way out
    arguments = _arguments()
    installed = find_installed(load_config(None).data_dir)
    chosen = {name: installed[name] for name in arguments.runtime or installed}
    setting = Setting(_sizes(arguments), chosen, lambda line: print(line, flush=True))
    began, watch = time.monotonic(), Watch()
    commit = revision()
    if commit.endswith("+"):
        print("the tree has changes that are not committed: this run cannot be published")
    found, parts_s, failed = _measure(setting, arguments.only)
    results = {
        "schema": SCHEMA,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "took_s": round(time.monotonic() - began, 1),
        "parts_s": parts_s,
        "machine": watch.machine(),
        "versions": versions(chosen),
        "options": asdict(setting.sizes),
        **found,
        "targets": judge(found),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{results['took_s']:.0f} s; written to {arguments.output}")
    if failed:
        sys.exit(f"failed, and not in it: {', '.join(failed)}")


def _measure(setting: Setting, parts: Sequence[str]) -> tuple[dict[str, Any], dict[str, float], list[str]]:
    """What the parts found, how long each took, and which failed: no reason to throw the others' minutes away."""
    found: dict[str, Any] = {}
    parts_s: dict[str, float] = {}
    for part in parts:
        began = time.monotonic()
        try:
            found[part] = PARTS[part](setting)
        except Exception:  # noqa: BLE001  printed, and told again at the end
            traceback.print_exc()
        parts_s[part] = round(time.monotonic() - began, 1)
    return found, parts_s, [part for part in parts if part not in found]


def _sizes(arguments: argparse.Namespace) -> Sizes:
    given = {field.name: getattr(arguments, field.name) for field in fields(Sizes)}
    return replace(QUICK if arguments.quick else Sizes(), **{k: v for k, v in given.items() if v is not None})


def _parts(text: str) -> list[str]:
    named = text.split(",")
    unknown = set(named) - set(PARTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))} (there are {', '.join(PARTS)})")
    return [part for part in PARTS if part in named]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure isol8 on this machine, beside bare interpreters."
    )
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"parts, of {','.join(PARTS)}")
    parser.add_argument("--runtime", action="append", choices=list(PROGRAMS), help="only this one (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="much less of everything")
    parser.add_argument("--pairs", type=int, help="paced calls of each kind")
    parser.add_argument("--calls", type=int, help="paced calls with nothing beside them")
    parser.add_argument("--seconds", type=float, help="counted throughput for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", help="numbers of closed-loop clients")
    parser.add_argument("--sessions", type=int, help="sessions created at once")
    parser.add_argument("--soak", type=int, help="executions of the soak")
    parser.add_argument("--idle-s", type=float, help="seconds to watch an idle server")
    parser.add_argument("--largest-file", type=int, help="bytes of the largest file moved")
    parser.add_argument("--output", type=Path, default=Path(".build/bench.json"), help="where the figures are written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
