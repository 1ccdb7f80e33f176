"""What a run writes to `.build/bench.json`: a `Results`. Every part is there only if it was measured.

Times are wall times in milliseconds unless the name says otherwise; `_s` seconds, `_us` microseconds, `_mb` 10^6 bytes.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

SCHEMA = 1


class Times(TypedDict):
    """How long `count` calls took. Percentiles are by nearest rank: the smallest time that at least that share of all
    calls did not exceed. Each is a time that was measured; p99 of fewer than 100 calls is the longest of them."""

    count: int
    min: float
    p50: float
    p95: float
    p99: float
    max: float


class Ratio(TypedDict):
    """Ours divided by the reference. `low` and `high` are a 95 % interval by bootstrap over the pairs of calls, or, for
    rates, the lowest and highest of the slices, whose median is `value`."""

    value: float
    low: float
    high: float


class Latency(TypedDict):
    """One client, one call each 20 ms, ours and bare in turn. `bare_alone` is the bare interpreter before any server
    of ours was started. `p50_ratio` is our p50 to bare p50, `p99_ratio` our p99 to bare p50."""

    isol8: Times
    bare: Times
    bare_alone: Times
    p50_ratio: Ratio
    p99_ratio: Ratio


class Rate(TypedDict):
    """Closed-loop clients: each sends its next call when the last one is answered. `per_s` counts the calls that were
    answered rightly; `errors` says how often each thing went wrong. `own_cpu_us` is what the measuring itself took of
    the processor for each call. `slices` are the rates of the slices."""

    per_s: float
    calls: int
    errors: dict[str, int]
    times: Times
    own_cpu_us: float
    slices: list[float]


class Throughput(TypedDict):
    """`clients` at once, ours and bare in alternating slices. `p99_to_p50` is of our times."""

    clients: int
    isol8: Rate
    bare: Rate
    ratio: Ratio
    p99_to_p50: Ratio


class Docker(TypedDict):
    """A Python hello of ours, by `docker run --rm`, and by `docker exec` into a running container, paced and in turn;
    or why it was `skipped`. `engine` is that of the Docker engine, where its image was there."""

    skipped: NotRequired[str]
    image: NotRequired[str]
    isol8: NotRequired[Times]
    run: NotRequired[Times]
    exec: NotRequired[Times]
    engine: NotRequired[Times]


class Gvisor(TypedDict):
    """A Python hello of the gVisor engine, and by `runsc do`, in turn; or why it was `skipped`."""

    skipped: NotRequired[str]
    engine: NotRequired[Times]
    do: NotRequired[Times]


class SessionCalls(TypedDict):
    """Paced calls on one live session."""

    calls: Times


class Stream(TypedDict):
    """POST /execute/stream, paced: until the first byte of output, and until the stream ended. `bare_first` is until
    the first byte from a bare interpreter."""

    first: Times
    end: Times
    bare_first: Times


class Packages(TypedDict):
    """One client, in turn. `numpy`: a Python hello that asks for numpy, which is installed already but which nothing
    keeps ready, and `plain` one that asks for nothing; `numpy_more_ms` is the difference of their p50. `pandas`: a
    program that imports pandas, from a template that imports it ahead, and `pandas_bare` the same in bare Python."""

    plain: Times
    numpy: Times
    numpy_more_ms: float
    pandas: Times
    pandas_bare: Times
    pandas_ratio: Ratio


class Crowd(TypedDict):
    """`sessions` created at once by `clients`, each answering its first hello, beside as many bare spawns, 8 at once,
    half of them before and half after. `again_s`: a second call to every one. `delete_s`: removing them all.
    `sandbox` is the memory of their sandboxes, `machine_mb` what the machine's available memory fell by for each one,
    the kernel's share included."""

    sessions: int
    clients: int
    errors: dict[str, int]
    create_s: float
    times: Times
    bare_s: float
    bare_at_once: int
    ratio: Ratio
    again_s: float
    delete_s: float
    sandbox: Memory
    machine_mb: float


class Memory(TypedDict):
    """Proportional set size of `count` idle sandboxes, each the sum over its processes, from smaps_rollup."""

    count: int
    processes: int
    mean_mb: float
    p50_mb: float
    max_mb: float


class Transfer(TypedDict):
    """One way of moving `size` bytes. `mb_per_s` is from p50; the bytes of base64 and JSON are not counted."""

    way: str
    size: int
    times: Times
    mb_per_s: float


class Census(TypedDict):
    """What there is of the server: processes that last, their memory by role (PSS), open descriptors, sandboxes,
    directories in the cgroup hierarchies, mounts of the machine, temporary files."""

    processes: int
    pss_mb: float
    descriptors: int
    sandboxes: int
    cgroups: int
    mounts: int
    temporary_files: int


class Soak(TypedDict):
    """`executions` Python hellos by `clients` in a closed loop. `window` is how many the first and the last p50 are of,
    and `drift` the ratio of; `bare_drift` is that of bare interpreters, which took turns with those executions, and
    `drift_beside_bare` that of the ratios of neighbouring parts.
    `tenths_p50` are the p50 of ten equal parts in order."""

    executions: int
    clients: int
    errors: dict[str, int]
    took_s: float
    per_s: float
    window: int
    first_p50: float
    last_p50: float
    drift: Ratio
    bare_drift: Ratio
    drift_beside_bare: Ratio
    tenths_p50: list[float]
    before: Census
    after: Census


class Idle(TypedDict):
    """Processor time of all processes of an idle server, those in warm sandboxes included."""

    seconds: float
    cpu_ms: float
    percent: float
    processes: int


class Machine(TypedDict):
    """What it ran on. `busy_before` is the share of the processors in use, and `load_before` the load average, just
    before the run; `stolen` the share of processor time that the hypervisor withheld during it."""

    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    system: str
    load_before: float
    busy_before: float
    stolen: float


class TargetRow(TypedDict):
    """One row of the targets: `at_least` and `aim` are bounds on `measured`, upper ones if `lower_is_better`."""

    what: str
    reference: str
    measured: float | None
    unit: str
    at_least: float
    aim: float
    lower_is_better: bool
    verdict: str


class Results(TypedDict):
    """One run. `parts_s` is how long each part took. `commit` ends with `+` when there were uncommitted changes."""

    schema: int
    at: str
    commit: str
    took_s: float
    parts_s: dict[str, float]
    machine: Machine
    versions: dict[str, str]
    options: dict[str, object]
    latency: NotRequired[dict[str, Latency]]
    docker: NotRequired[Docker]
    gvisor: NotRequired[Gvisor]
    throughput: NotRequired[dict[str, list[Throughput]]]
    sessions: NotRequired[dict[str, SessionCalls]]
    stream: NotRequired[dict[str, Stream]]
    packages: NotRequired[Packages]
    crowd: NotRequired[Crowd]
    memory: NotRequired[dict[str, Memory]]
    files: NotRequired[list[Transfer]]
    soak: NotRequired[Soak]
    idle: NotRequired[Idle]
    targets: list[TargetRow]
