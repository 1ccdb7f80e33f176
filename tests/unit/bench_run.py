"""A small run of the benchmarks, made up, for tests of what is made from runs."""

from __future__ import annotations

from bench.results import Census, Memory, Rate, Ratio, Results, Times
from bench.setting import Sizes
from bench.targets import judge


def times(p50: float) -> Times:
    return Times(count=400, min=p50 / 2, p50=p50, p95=p50 * 2, p99=p50 * 3, max=p50 * 4)


def ratio(value: float) -> Ratio:
    return Ratio(value=value, low=value * 0.9, high=value * 1.1)


def rate(per_s: float) -> Rate:
    return Rate(per_s=per_s, calls=1000, errors={}, times=times(30.0), own_cpu_us=90.0, slices=[per_s])


def make(at: str = "2026-11-24T12:00:00+00:00", *, python: float = 0.3, cpu: str = "Some processor") -> Results:
    """A whole run in which `python` is the ratio of Python's p50."""
    census = Census(processes=4, pss_mb=70.0, descriptors=80, sandboxes=18, cgroups=76, mounts=21, temporary_files=0)
    memory = Memory(count=8, processes=16, mean_mb=4.5, p50_mb=4.5, max_mb=4.6)
    found = Results(
        schema=1,
        at=at,
        commit="abc1234",
        took_s=480.0,
        parts_s={},
        machine={
            "cpu": cpu,
            "cores": 2,
            "memory_gb": 25.0,
            "kernel": "Linux 6.18",
            "system": "Debian",
            "load_before": 0.1,
            "busy_before": 0.01,
            "stolen": 0.001,
        },
        versions={"python": "3.11.2"},
        options={name: getattr(Sizes(), name) for name in Sizes.__dataclass_fields__},
        latency={
            "python": {
                "isol8": times(10 * python),
                "bare": times(10.0),
                "bare_alone": times(9.8),
                "p50_ratio": ratio(python),
                "p99_ratio": ratio(python * 3),
            }
        },
        docker={
            "image": "python",
            "isol8": times(3.0),
            "run": times(250.0),
            "exec": times(80.0),
            "engine": times(10.0),
        },
        gvisor={"engine": times(50.0), "do": times(900.0)},
        throughput={
            "python": [
                {"clients": n, "isol8": rate(200.0), "bare": rate(100.0), "ratio": ratio(2.0), "p99_to_p50": ratio(3.0)}
                for n in (8, 64)
            ]
        },
        sessions={"python": {"calls": times(2.0)}},
        stream={"python": {"first": times(2.0), "end": times(3.0), "bare_first": times(9.0)}},
        packages={
            "plain": times(3.0),
            "numpy": times(8.0),
            "numpy_more_ms": 5.0,
            "pandas": times(18.0),
            "pandas_bare": times(300.0),
            "pandas_ratio": ratio(0.06),
        },
        crowd={
            "sessions": 1000,
            "clients": 16,
            "errors": {},
            "create_s": 5.0,
            "times": times(80.0),
            "bare_s": 10.0,
            "bare_at_once": 8,
            "ratio": ratio(0.5),
            "again_s": 2.0,
            "delete_s": 1.0,
            "sandbox": memory,
            "machine_mb": 5.0,
        },
        memory={"python": memory},
        idle={"seconds": 10.0, "cpu_ms": 1.5, "percent": 0.015, "processes": 40},
        files=[{"way": "POST /file", "size": 1000, "times": times(1.0), "mb_per_s": 1.0}],
        soak={
            "executions": 8000,
            "clients": 8,
            "errors": {},
            "took_s": 40.0,
            "per_s": 200.0,
            "window": 1000,
            "first_p50": 30.0,
            "last_p50": 30.3,
            "drift": ratio(1.05),
            "bare_drift": ratio(1.04),
            "drift_beside_bare": ratio(1.01),
            "tenths_p50": [30.0] * 10,
            "before": census,
            "after": census,
        },
        targets=[],
    )
    found["targets"] = judge(found)
    return found
