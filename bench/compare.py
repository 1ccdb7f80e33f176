"""`python -m bench.compare REV`: this tree against a revision, both servers at once, calls and slices in turn.

The revision is checked out into a temporary worktree with an environment of its own. Ratios are this tree's figure
divided by the revision's: below 1 is faster for times, above 1 for rates.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.bare import PROGRAMS
from bench.connection import Connection, check_hello, hello
from bench.figures import paired_ratio, sliced_ratio, summarise
from bench.load import Load
from bench.paced import Timed, in_turn, timed
from bench.results import Ratio
from bench.surroundings import ROOT, revision
from bench.throughput import Slice, alternate
from tests.support import machine
from tests.support.server import Server, serving

_SLICE_S = 2.0
_PERCENTILES = (50, 95, 99)


def main() -> None:
    """Measure, print, write."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is cleared away
    arguments = _arguments()
    found: dict[str, Any] = {"this": revision(), "that": _commit(arguments.revision), "runtimes": {}}
    with checked_out(found["that"]) as tree, tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        settings: dict[str, Any] = {"pool": {}}
        python = str(tree / ".venv" / "bin" / "python")
        with (
            serving(directory / "this", settings) as ours,
            serving(directory / "that", settings, python=python) as theirs,
        ):
            print(f"{found['this']} against {found['that']}; ratios with their 95 % interval or, for rates, extremes")
            for name in arguments.runtime or ["python", "node"]:
                found["runtimes"][name] = _compare(ours, theirs, name, arguments)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written to {arguments.output}")


def _compare(ours: Server, theirs: Server, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"latency": _latency(ours, theirs, name, arguments.pairs)}
    for clients in arguments.clients:
        found[f"{clients} clients"] = _throughput(ours, theirs, name, clients, arguments.seconds)
    return found


def _latency(ours: Server, theirs: Server, name: str, pairs: int) -> dict[str, Any]:
    with Connection(ours) as this, Connection(theirs) as that:
        times = in_turn([_call(this, ours, name), _call(that, theirs, name)], pairs)
    ratios = {f"p{percent}": paired_ratio(times[0], times[1], percent, of=percent) for percent in _PERCENTILES}
    found: dict[str, Any] = {"this": summarise(times[0]), "that": summarise(times[1]), "ratios": ratios}
    for what, ratio in ratios.items():
        _say(f"{name} {what}", found["this"][what], found["that"][what], "ms", ratio)
    return found


def _call(connection: Connection, server: Server, name: str) -> Timed:
    request = hello(server, name, PROGRAMS[name][0])
    return timed(lambda: check_hello(connection.call(request)))


def _throughput(ours: Server, theirs: Server, name: str, clients: int, seconds: float) -> dict[str, Any]:
    slices = alternate([_slice(server, clients, name) for server in (ours, theirs)], seconds, slice_s=_SLICE_S)
    rates = [each.rate() for each in slices]
    ratio = sliced_ratio(slices[0].rates, slices[1].rates)
    _say(f"{name} {clients} clients", rates[0]["per_s"], rates[1]["per_s"], "/s", ratio)
    for whose, rate in zip(("this tree", "the revision"), rates, strict=True):
        if rate["errors"]:
            print(f"  errors of {whose}: {rate['errors']}")
    return {"this": rates[0], "that": rates[1], "ratio": ratio}


def _slice(server: Server, clients: int, name: str) -> Slice:
    load, request = Load(server, clients), hello(server, name, PROGRAMS[name][0])
    return lambda begin, end: load.until(request, begin, end)


def _say(what: str, this: float, that: float, unit: str, ratio: Ratio) -> None:
    spread = f"{ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
    print(f"{what:<20} {this:>9.2f} {that:>9.2f} {unit:<3} {spread}", flush=True)


def _commit(name: str) -> str:
    """The commit that a revision's name means. Raises SystemExit when there is none."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--short", "--end-of-options", f"{name}^{{commit}}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        sys.exit(f"no such revision: {name}")
    return answer.stdout.strip()


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The tree of a commit, with an environment in which its isol8 is installed; removed whatever happens."""
    with tempfile.TemporaryDirectory(prefix="isol8-compare-") as directory:
        tree = Path(directory) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        try:
            subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
            _bootstrap(tree)
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=tree.exists())


def _bootstrap(tree: Path) -> None:
    """Make the tree's environment. When that is broken off, everything it has started ends, and only then is it left:
    an installer that lives on would write the tree anew behind whoever removes it. Raises CalledProcessError."""
    command = [str(tree / "scripts" / "bootstrap")]
    scratch = tree.with_name("scratch")  # goes with the tree: an installer that is killed clears nothing away
    scratch.mkdir()
    environment = os.environ | {"TMPDIR": str(scratch)}
    process = subprocess.Popen(command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    try:
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        machine.until(lambda: not _group(process.pid), "the end of all that bootstrap started")
        raise
    if code:
        raise subprocess.CalledProcessError(code, command)


def _group(leader: int) -> list[int]:
    """The processes of a group that have not ended."""
    members = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == leader and not machine.is_zombie(pid):
                members.append(pid)
    return members


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.compare", description="Measure this tree against a revision.")
    parser.add_argument("revision", help="commit, tag or branch")
    parser.add_argument("--runtime", action="append", choices=list(PROGRAMS), help="default: python and node")
    parser.add_argument("--pairs", type=int, default=300, help="paced calls of each")
    parser.add_argument("--seconds", type=float, default=20, help="counted throughput of each")
    parser.add_argument("--clients", type=int, nargs="+", default=[8], help="numbers of closed-loop clients")
    parser.add_argument(
        "--output", type=Path, default=Path(".build/compare.json"), help="where the figures are written"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
