"""What a zygote's clone becomes: process 1 of a sandbox, and its workers. See zygote.py.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

from isol8.engines.native import view
from isol8.engines.native.copying.asking import ask
from isol8.engines.native.copying.leaving import Departure, Leaving
from isol8.engines.native.first import FAILED, FEED, STREAM, UNSTARTED, WORKER, WORKERS_PIPES, First
from isol8.engines.native.means import Means
from isol8.engines.native.request import Request
from isol8.engines.native.traces import Traces
from isol8.kernel import exit_stops, gates, landlock, memory, namespaces, privileges, seccomp, user_namespaces
from isol8.runner.direct import wait_for_start
from isol8.runner.frames import READY, encode
from isol8.runner.loop import Runner
from isol8.runner.program import Begun
from isol8.runner.worker import Worker, await_go, set_oom_score

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# Where no cgroup counts processes: the kernel counts them by user id (and, since Linux 5.14, user namespace) as well.
# It is the same for every sandbox: only root could raise it at check-out.
_PROCESSES_WITHOUT_GROUP = 1024


def become_sandbox(request: Request, means: Means, traces: Traces) -> NoReturn:
    """In a clone that was made in Python: steps 1 to 5 of what zygote.py says. Leaves only by Released, in a worker."""
    try:
        for tree, _ in request.mounts:
            os.close(tree)
        for descriptor in request.cgroups:
            os.write(descriptor, b"0")
        memory.populate(means.runner_writes)
        if "cgroup-namespace" not in request.without:
            namespaces.unshare(namespaces.CLONE_NEWCGROUP)
        view.mount_proc(means.proc, initial=means.initial)
        if request.network != "host" and not means.initial:
            namespaces.loopback_up()  # else the zygote has done it
        set_oom_score(b"0")
        os.chdir("/sandbox")
        gate = _gate(request, means)
        stops = exit_stops.ExitStops()
        copied = _copy(request, means, gate, stops)
        for descriptor in request.cgroups:
            os.close(descriptor)
        _become_user(request)
        privileges.die_with_parent(_signal.SIGKILL)
        # Whoever shares the user id may neither trace the runner nor see it in /proc.
        privileges.set_dumpable(False)
        if means.ruleset >= 0:
            landlock.restrict(means.ruleset)
            os.close(means.ruleset)
        if "seccomp" not in request.without:
            seccomp.load_filter(means.filter)
        # The namespace protects process 1 from signals it has no handler for; the interpreter sets one for this.
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        _serve_as_runner(request, means, traces, request.stream, stops, gate, copied)
    except BrokenPipeError:
        os._exit(0)  # the server let go of the sandbox
    except Exception as error:  # noqa: BLE001 - the log must have it, and no frame of ours may go on
        give_up(error)


def come_back(who: int, first: First, request: Request, means: Means, traces: Traces) -> NoReturn:
    """In a process that the table made, and left as `who`. Leaves only by Released, in a worker."""
    try:
        if who == FAILED:
            raise first.error(who)
        if who == WORKER:
            _wait_in_worker(request, first, traces)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGCHLD])
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        if who == UNSTARTED:
            os.write(STREAM, encode(READY, 0))  # the worker may have ended before it did
        _serve_as_runner(request, means, traces, STREAM, exit_stops.ExitStops(), begun=first.begun(who))
    except BrokenPipeError:
        os._exit(0)  # the server let go of the sandbox
    except Exception as error:  # noqa: BLE001 - as in become_sandbox
        give_up(error)


def _wait_in_worker(request: Request, first: First, traces: Traces) -> NoReturn:
    first.forget()
    if not request.modules:
        wait_for_start(WORKERS_PIPES, STREAM, FEED, request.boot.argv)
    # Packages are foreign code: the stream is not within their reach.
    os.close(STREAM)
    os.close(FEED)
    traces.import_ahead(request.modules)
    os.close(WORKERS_PIPES[1])
    await_go(WORKERS_PIPES[0])


def _serve_as_runner(
    request: Request,
    means: Means,
    traces: Traces,
    stream: int,
    stops: exit_stops.ExitStops,
    gate: gates.Gate | None = None,
    copied: Worker | None = None,
    begun: Begun | None = None,
) -> NoReturn:
    written = means.program_writes if request.boot.forked else []
    Runner(
        stream,
        request.boot,
        lambda: _in_worker(request, written, means, traces),
        gate,
        copied=copied,
        begun=begun,
        stops=stops,
        settle=lambda: _settle(request, means),
    ).serve()


def give_up(error: Exception) -> NoReturn:
    """End this process; the log says why."""
    os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
    os._exit(70)


def _become_user(request: Request) -> None:
    if request.alone:
        user_namespaces.enter_alone(request.uid, 0, 0)
        privileges.empty_bounding_set()
    # Last: what the maker of a user namespace may have is what all in it may have together.
    if "process-limit" in request.without:
        privileges.limit_processes(_PROCESSES_WITHOUT_GROUP)
    privileges.drop_to(request.uid, request.uid, keep_groups=request.alone)


def _gate(request: Request, means: Means) -> gates.Gate | None:
    """The gate at which an interpreter waits for its program. None where the kernel makes none, or none for this user:
    every interpreter is then started when its program is there."""
    if request.boot.forked or not request.boot.argv or not means.initial:
        return None
    try:
        return gates.Gate(request.boot.path, request.uid)
    except OSError:
        return None


def _settle(request: Request, means: Means) -> None:
    """Now that the worker is forked, every page is shared again. To copy them once more ahead of time makes an answer
    sooner by a tenth and takes a twentieth more of the processor: worth it where the program is another one, whose
    pages are its own."""
    if not request.boot.forked:
        memory.populate(means.runner_writes)


def _copy(request: Request, means: Means, gate: gates.Gate | None, stops: exit_stops.ExitStops) -> Worker | None:
    """A copy of the interpreter that is to wait at the gate. None: it must boot."""
    if request.template < 0:
        return None
    copied = None
    try:
        if gate and means.ruleset >= 0:
            copied = ask(
                request.template,
                request.words,
                request.uid,
                means.ruleset,
                request.cgroups,
                lambda pid: _watch(pid, request.leaving, stops),
            )
    except OSError as error:
        os.write(2, f"sandbox: {error}\n".encode())
    os.close(request.template)
    if not copied:
        os.write(2, b"sandbox: the interpreter could not be copied, and boots\n")
    return copied


def _watch(pid: int, leaving: bytes, stops: exit_stops.ExitStops) -> None:
    """For its end. It has rules of its own: who has some may not do that any more. Raises OSError."""
    stops.watch(pid)
    if leaving:
        stops.stop_at(pid, Departure(pid, Leaving.unpack(leaving)))


def _in_worker(request: Request, written: list[tuple[int, int]], means: Means, traces: Traces) -> None:
    """What tells a program from its runner: it may look at itself. One that will run in this very interpreter gets
    its own copies of the pages that programs write to now, rather than one page fault at a time while it runs."""
    privileges.set_dumpable(True)
    if means.first:
        means.first.forget()
    memory.populate(written)
    if request.modules:
        traces.import_ahead(request.modules)
