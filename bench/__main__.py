"""`python -m bench`: starts a server, measures every installed runtime, prints a table, writes JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.measure import Client, paired, percentiles, start_bare, throughput
from isol8.config import load_config
from isol8.runtimes.base import Install
from isol8.runtimes.registry import find_installed
from tests.support.server import Server, serving

CLIENTS = 8
# What prints hello, and the options that make an interpreter take it as an argument.
PROGRAMS = {
    "python": ("print('hello')", ["-I", "-c"]),
    "node": ("console.log('hello')", ["-e"]),
    "bun": ("console.log('hello')", ["-e"]),
    "deno": ("console.log('hello')", ["eval"]),
    "bash": ("echo hello", ["-c"]),
}


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    installed = find_installed(load_config(None).data_dir)
    found: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0]},
        "pairs": arguments.pairs,
        "runtimes": {},
    }
    _print_row("runtime", "", "p50 ms", "p95 ms", "p99 ms", f"per s, {CLIENTS} at once")
    with tempfile.TemporaryDirectory() as directory, serving(Path(directory), {"pool": {}}) as server:
        for name in arguments.runtime or installed:
            measured = _measure(server, name, installed[name], arguments)
            found["runtimes"][name] = measured
            for what, figures in measured.items():
                _print_row(name, what, *figures.values())
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\nwritten to {arguments.output}")


def _measure(server: Server, name: str, install: Install, arguments: argparse.Namespace) -> dict[str, Any]:
    code, options = PROGRAMS[name]
    on_host = f"{install.prefix}/bin/{name}" if install.prefix else install.executable
    bare = partial(start_bare, [on_host, *options, code])
    with ExitStack() as connections:
        clients = [Client(urlsplit(server.url).port or 0, server.key, name, code) for _ in range(CLIENTS)]
        for client in clients:
            connections.callback(client.close)
        paired(clients[0].execute, bare, 5)  # caches, imports, the first warm sandboxes
        ours, theirs = paired(clients[0].execute, bare, arguments.pairs)
        rates = [throughput(each, arguments.seconds) for each in ([c.execute for c in clients], [bare] * CLIENTS)]
    return {
        what: percentiles(times) | {"per_s": round(rate, 1)}
        for what, times, rate in zip(("isol8", "bare"), (ours, theirs), rates, strict=True)
    }


def _print_row(*cells: object) -> None:
    print("{:<8} {:<6} {:>8} {:>8} {:>8} {:>20}".format(*cells), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Time executions beside the bare interpreters.")
    parser.add_argument("--runtime", action="append", choices=list(PROGRAMS), help="only this one (may be repeated)")
    parser.add_argument("--pairs", type=int, default=100, help="timed executions of each kind")
    parser.add_argument("--seconds", type=float, default=4, help="length of each throughput run")
    parser.add_argument("--output", type=Path, default=Path(".build/bench.json"), help="where the figures are written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
