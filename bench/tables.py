"""Every part of a run as a Markdown section, empty when it was not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.chart import short
from bench.results import Ratio, Results, Times


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, the others are figures."""
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _ratio(ratio: Ratio) -> str:
    return f"{short(ratio['value'])} ({short(ratio['low'])} to {short(ratio['high'])})"


def _times(times: Times) -> list[str]:
    return [short(times["p50"]), short(times["p95"]), short(times["p99"])]


def sections(results: Results) -> list[str]:
    """Those of what was measured."""
    first = (_latency, _docker, _gvisor, _throughput, _sessions, _stream, _packages)
    parts = (*first, _crowd, _memory, _idle, _files, _soak)
    return [text for part in parts if (text := part(results))]


def _latency(results: Results) -> str:
    found = results.get("latency")
    if not found:
        return ""
    rows = [
        [
            name,
            *_times(each["isol8"]),
            *_times(each["bare"]),
            short(each["bare_alone"]["p50"]),
            _ratio(each["p50_ratio"]),
            _ratio(each["p99_ratio"]),
        ]
        for name, each in found.items()
    ]
    heads = ["ms", "p50", "p95", "p99", "bare p50", "p95", "p99", "bare p50, no server", "p50 / bare p50"]
    return (
        "### One unhurried caller\n\n![How long a hello takes](benchmarks-latency.svg)\n\n"
        + table([*heads, "p99 / bare p50"], rows)
        + f"\n{next(iter(found.values()))['isol8']['count']:,} calls of each kind, in turn.\n"
    )


def _docker(results: Results) -> str:
    found = results.get("docker", {})
    if "isol8" not in found or "run" not in found or "exec" not in found:
        reason = found.get("skipped")
        return f"Docker was not measured: {reason}.\n" if reason else ""
    rows = [
        ["isol8, a fresh sandbox", *_times(found["isol8"])],
        ["docker run --rm, a fresh container", *_times(found["run"])],
        ["docker exec, a container that is used again", *_times(found["exec"])],
    ]
    if "engine" in found:
        rows.insert(1, ["isol8 --engine docker, a fresh container", *_times(found["engine"])])
    return "### Docker\n\n![A Python hello beside Docker](benchmarks-docker.svg)\n\n" + table(
        [f"a Python hello, {found['run']['count']} of each in turn, ms", "p50", "p95", "p99"], rows
    )


def _gvisor(results: Results) -> str:
    found = results.get("gvisor", {})
    if "engine" not in found or "do" not in found:
        reason = found.get("skipped")
        return f"gVisor was not measured: {reason}.\n" if reason else ""
    rows = [
        ["isol8 --engine gvisor, a fresh sandbox", *_times(found["engine"])],
        ["runsc do, a fresh sandbox", *_times(found["do"])],
    ]
    return "### gVisor\n\n" + table(
        [f"a Python hello, {found['do']['count']} of each in turn, ms", "p50", "p95", "p99"], rows
    )


def _throughput(results: Results) -> str:
    found = results.get("throughput")
    if not found:
        return ""
    rows = [
        [
            f"{name}, {run['clients']}",
            f"{run['isol8']['per_s']:.0f}",
            f"{run['bare']['per_s']:.0f}",
            _ratio(run["ratio"]),
            short(run["isol8"]["times"]["p50"]),
            short(run["isol8"]["times"]["p99"]),
            short(run["p99_to_p50"]["value"]),
            short(run["bare"]["times"]["p50"]),
            short(run["bare"]["times"]["p99"]),
            f"{sum(run['isol8']['errors'].values())} of {run['isol8']['calls']:,}",
            f"{run['isol8']['own_cpu_us']:.0f} / {run['bare']['own_cpu_us']:.0f}",
        ]
        for name, runs in found.items()
        for run in runs
    ]
    heads = ["clients", "isol8 /s", "bare /s", "ratio", "p50 ms", "p99 ms", "p99 / p50", "bare p50 ms", "bare p99 ms"]
    return "### Many callers at once\n\n![Hellos a second](benchmarks-throughput.svg)\n\n" + table(
        [*heads, "errors", "µs per call spent on measuring, ours / bare"], rows
    )


def _sessions(results: Results) -> str:
    found = results.get("sessions", {})
    rows = [[name, *_times(each["calls"])] for name, each in found.items()]
    return f"### Calls on a live session\n\n{table(['ms', 'p50', 'p95', 'p99'], rows)}" if rows else ""


def _stream(results: Results) -> str:
    rows = [
        [
            name,
            *_times(each["first"]),
            short(each["end"]["p50"]),
            short(each["bare_first"]["p50"]),
            short(each["bare_first"]["p99"]),
        ]
        for name, each in results.get("stream", {}).items()
    ]
    heads = ["ms", "first byte p50", "p95", "p99", "end p50", "bare first byte p50", "p99"]
    return f"### First byte of a stream\n\n{table(heads, rows)}" if rows else ""


def _packages(results: Results) -> str:
    found = results.get("packages")
    if not found:
        return ""
    rows = [
        ["hello", *_times(found["plain"])],
        ["hello with numpy, installed already", *_times(found["numpy"])],
        ["`import pandas`, imported ahead by a template", *_times(found["pandas"])],
        ["`import pandas`, bare Python", *_times(found["pandas_bare"])],
    ]
    counts = f"{found['plain']['count']} hellos of each kind, and {found['pandas']['count']} imports"
    return (
        f"### Packages\n\n{table(['Python, ms', 'p50', 'p95', 'p99'], rows)}\n{counts}, in turn. numpy costs"
        f" {short(found['numpy_more_ms'])} ms more; pandas takes {_ratio(found['pandas_ratio'])} of what bare Python"
        " takes.\n"
    )


def _crowd(results: Results) -> str:
    found = results.get("crowd")
    if not found:
        return ""
    rows = [
        [f"created by {found['clients']} clients, each answering its first hello", f"{short(found['create_s'])} s"],
        ["one creation, p50", f"{short(found['times']['p50'])} ms"],
        ["one creation, p99", f"{short(found['times']['p99'])} ms"],
        ["errors", str(sum(found["errors"].values()))],
        [f"as many bare spawns, {found['bare_at_once']} at once", f"{short(found['bare_s'])} s"],
        ["ratio", _ratio(found["ratio"])],
        ["every one asked again", f"{short(found['again_s'])} s"],
        ["removed", f"{short(found['delete_s'])} s"],
        ["memory of each (PSS)", f"{short(found['sandbox']['mean_mb'])} MB"],
        ["memory of the machine for each, the kernel's included", f"{short(found['machine_mb'])} MB"],
    ]
    return f"### {found['sessions']:,} sessions at once\n\n" + table(["Python", "measured"], rows)


def _memory(results: Results) -> str:
    rows = [
        [name, short(each["mean_mb"]), short(each["p50_mb"]), short(each["max_mb"]), str(each["count"])]
        for name, each in results.get("memory", {}).items()
    ]
    heads = ["MB (PSS)", "mean", "p50", "most", "warm sandboxes"]
    return f"### Memory of an idle sandbox\n\n{table(heads, rows)}" if rows else ""


def _idle(results: Results) -> str:
    found = results.get("idle")
    if not found:
        return ""
    return (
        f"### An idle server\n\nIts {found['processes']} processes, those in warm sandboxes included, took"
        f" {short(found['cpu_ms'])} ms of processor time in {found['seconds']:.0f} s, {found['percent']:.3f} % of one"
        " core.\n"
    )


def _files(results: Results) -> str:
    rows = [
        [
            each["way"],
            f"{each['size']:,}",
            *_times(each["times"]),
            short(each["mb_per_s"]),
            f"{each['times']['count']:,}",
        ]
        for each in results.get("files", [])
    ]
    heads = ["way", "bytes", "p50 ms", "p95 ms", "p99 ms", "MB/s", "calls"]
    return f"### Files, programs, output\n\n{table(heads, rows)}" if rows else ""


def _soak(results: Results) -> str:
    found = results.get("soak")
    if not found:
        return ""
    before, after = found["before"], found["after"]
    rows = [
        ["memory of the server's own processes, MB (PSS)", short(before["pss_mb"]), short(after["pss_mb"])],
        ["processes", str(before["processes"]), str(after["processes"])],
        ["open descriptors", str(before["descriptors"]), str(after["descriptors"])],
        ["sandboxes", str(before["sandboxes"]), str(after["sandboxes"])],
        ["cgroup directories", str(before["cgroups"]), str(after["cgroups"])],
        ["mounts", str(before["mounts"]), str(after["mounts"])],
        ["temporary files", str(before["temporary_files"]), str(after["temporary_files"])],
    ]
    first, last, tenths = short(found["first_p50"]), short(found["last_p50"]), map(short, found["tenths_p50"])
    return (
        f"### Soak\n\n{found['executions']:,} executions by {found['clients']} clients in {found['took_s']:.0f} s,"
        f" {sum(found['errors'].values())} errors. p50 of the first {found['window']:,} {first} ms, of the last {last}"
        f" ms; ratio {_ratio(found['drift'])}. Bare interpreters in turns with them: {_ratio(found['bare_drift'])};"
        f" beside those: {_ratio(found['drift_beside_bare'])}. p50 of each tenth, in order: {', '.join(tenths)} ms.\n\n"
        + table(["", "before", "after"], rows)
    )
