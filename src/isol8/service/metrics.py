"""What a server counts and times, in Prometheus' text format.

An execution has phases: `queue` until it may run, `checkout` until its sandbox is fit for it (made, limited, with its
files and packages), `run` while its program runs, and `teardown`, which nobody waits for, until nothing of a sandbox is
left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Phases:
    """How long each phase of one execution took so far, in milliseconds. The first one begins now."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._began = time.perf_counter()

    def end(self, phase: str) -> None:
        """A phase is over, and the next one begins."""
        now = time.perf_counter()
        self.ms[phase] = (now - self._began) * 1000
        self._began = now


class Metrics:
    """Of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._executions = Counter(
            "isol8_executions", "Executions, by how they ended.", ("runtime", "outcome"), registry=self._registry
        )
        phases = Histogram(
            "isol8_phase_seconds", "What executions spend their time on.", ("phase",), registry=self._registry,
            buckets=_BUCKETS_S,
        )  # fmt: skip
        # Each is looked up once: that costs as much as counting.
        self._phases = {name: phases.labels(name) for name in ("queue", "checkout", "run", "teardown")}

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Read `value` whenever somebody asks."""
        Gauge(name, what, registry=self._registry).set_function(value)

    def watch_each(self, name: str, what: str, label: str, values: Mapping[str, Callable[[], float]]) -> None:
        """The same, with one value for each of a label's."""
        gauge = Gauge(name, what, (label,), registry=self._registry)
        for each, value in values.items():
            gauge.labels(each).set_function(value)

    def ended(self, runtime: str, outcome: str, phases: Phases) -> None:
        """An execution is over, however that came. `runtime` is a known one."""
        self._executions.labels(runtime, outcome).inc()
        for phase, ms in phases.ms.items():
            self._phases[phase].observe(ms / 1000)

    def torn_down(self, seconds: float) -> None:
        """A sandbox is gone that an execution had for itself."""
        self._phases["teardown"].observe(seconds)

    def text(self) -> bytes:
        """All of it, as CONTENT_TYPE."""
        return generate_latest(self._registry)
