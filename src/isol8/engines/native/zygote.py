"""The zygote: an interpreter held still in the middle of its own start-up, from which sandboxes are cloned.

Theory of operation. The supervisor starts `python3 /sandbox/main.py` in a root of its own (`root.py`), where our
`sitecustomize` is the last thing that interpreter imports before it would run the script. `hold` blocks there. For
each request it moves to new namespaces, mounts /sandbox, /tmp and /dev/shm there and brings up loopback, clones itself
into a new process namespace (CLONE_PARENT: the supervisor is the parent and reaps), and moves back home. What the
zygote itself does costs less than in the clone, whose every page is copied when it is first written to. (Where there is
a table of system calls, plain sandboxes are made by that, from the request to the answer: see first.py.) The clone

  1. enters its cgroups, through descriptors that came with the request: all that follows is charged to the sandbox;
  2. takes a cgroup namespace, so that it sees its own group as the root;
  3. mounts /proc, which belongs to its process namespace, and covers parts of it, still as root;
  4. drops every privilege, for good (in one more user namespace where there is no user id for it), shuts itself into
     its own root (Landlock), and loads the seccomp filter;
  5. becomes the runner, process 1, and forks the worker.

These steps are in becoming.py. When a worker is released, `hold` simply returns, and the interpreter goes on to run
/sandbox/main.py by itself: there is no frame, module, argument or flag of ours in it, because it *is* `python3
/sandbox/main.py`. How it ends: ending.py.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import _socket
import gc
import os
import sys

from isol8.engines.native import view
from isol8.engines.native.becoming import become_sandbox, come_back, give_up
from isol8.engines.native.ending import Ending
from isol8.engines.native.first import LOST, MOST_GROUPS, OTHER, REFUSED, ZYGOTE, First
from isol8.engines.native.means import CONTROL, Means
from isol8.engines.native.rehearsal import rehearse
from isol8.engines.native.request import (
    ANSWER_BYTES,
    OWN_ARGUMENTS,
    PROGRAM,
    READY_BY_TABLE,
    READY_IN_PYTHON,
    Request,
    descriptors_in,
)
from isol8.engines.native.traces import Traces, start_afresh
from isol8.kernel import memory, mounts, namespaces, privileges
from isol8.runner.holding import Boot
from isol8.runner.worker import Released

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import NoReturn

_Frame = type(sys._getframe())  # without importing `types`
_BOOT_DIR = "/run/isol8"
_MAX_REQUEST_BYTES = 128 * 1024
_MAX_DESCRIPTORS = 24
_REHEARSAL_TIMEOUT_S = 20  # well below what a request is waited for


def hold(before: tuple[set[str], set[str]], namespace: dict[str, object]) -> None:
    """Serve clones until the supervisor goes. `before` are the names in sys.modules and sys.path_importer_cache
    before anything of ours was imported. Returns in processes that are to run the user's program, and then
    `namespace` is that of the machine's own sitecustomize. Raises ImportError there if the machine has none.
    """
    ending = Ending()
    original = namespace["__file__"]
    sys.path.remove(_BOOT_DIR)
    mounts.unmount(f"{_BOOT_DIR}/isol8")
    os.rmdir(f"{_BOOT_DIR}/isol8")
    os.rmdir(_BOOT_DIR)
    code = _uncover(str(original))
    mounts.mount("none", "/", flags=mounts.MS_REMOUNT | mounts.MS_BIND | mounts.MS_RDONLY | view.TMPFS)
    privileges.empty_bounding_set()
    traces = Traces(before, namespace)
    try:
        _serve(Means(), traces)
    except Released:
        pass
    if traces.misled():
        start_afresh()
    ending.begin(PROGRAM)
    if code is None:
        raise ImportError("No module named 'sitecustomize'", name="sitecustomize")
    exec(code, namespace)


def _uncover(path: str) -> CodeType | None:
    """Take our sitecustomize away; the code of the machine's own, or None if it has none."""
    target = os.path.realpath(path)
    if os.path.ismount(target):
        mounts.unmount(target)
    else:
        mounts.unmount(os.path.dirname(path))
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return compile(file.read(), path, "exec")


def _serve(means: Means, traces: Traces) -> NoReturn:
    """Clone a sandbox for every request. Only what is to run a program leaves, by Released."""
    control = _socket.socket(fileno=CONTROL)
    buffer = memoryview(bytearray(_MAX_REQUEST_BYTES))
    gc.collect()
    memory.keep_out_of_sight([value for value in gc.get_objects() if not isinstance(value, _Frame)])
    traces.remove()
    control.send(READY_BY_TABLE if means.first else READY_IN_PYTHON)
    groups = None
    while True:
        try:
            if means.first and groups is not None:
                _serve_plain(control, means.first, groups, means, traces)
            size, ancillary, _, _ = control.recvmsg_into((buffer,), _socket.CMSG_SPACE(4 * _MAX_DESCRIPTORS))
            if not size:
                os._exit(0)
            groups = _serve_one(control, bytes(buffer[:size]), descriptors_in(ancillary), means, traces)
        except Released:
            control.detach()  # it was closed by its number
            raise


def _serve_plain(control: _socket.socket, first: First, groups: int, means: Means, traces: Traces) -> None:
    """Until there is another request."""
    while (who := first.serve(groups)) != OTHER:
        try:
            _go_on(who, first, means.plain, means, traces)
        except OSError as error:
            means.go_home()
            _answer(control, -(error.errno or 1))


def _serve_one(control: _socket.socket, payload: bytes, descriptors: list[int], means: Means, traces: Traces) -> int:
    """Any request; with how many cgroups it came."""
    if not means.rehearsed:
        _rehearse(Request(payload, None), means, traces)
        if means.initial:
            # From here on a sandbox's own is the only one. Taking it away in each would wait for the whole machine:
            # unmounting takes a grace period of RCU.
            mounts.unmount("/proc")
    request = Request(payload, descriptors)
    answer = _clone(request, means, traces)
    if answer == 0:
        means.leave()
        become_sandbox(request, means, traces)
    for descriptor in descriptors:
        os.close(descriptor)
    _answer(control, answer)
    return len(request.cgroups)


def _answer(control: _socket.socket, number: int) -> None:
    control.send(number.to_bytes(ANSWER_BYTES, sys.byteorder, signed=True))


def _rehearse(request: Request, means: Means, traces: Traces) -> None:
    """Make a sandbox like the one that is asked for, but of this process's own, and learn from it. What goes wrong here
    would go wrong again: the request itself is refused then."""
    means.rehearsed = True
    ours, theirs = _socket.socketpair()
    request.stream = theirs.fileno()
    request.boot = Boot("", OWN_ARGUMENTS, "", 0, [], forked=True)
    runner = _clone(request, means, traces, parent=0)
    if runner == 0:
        ours.close()
        means.leave()
        become_sandbox(request, means, traces)
    theirs.close()
    try:
        if runner > 0:
            ours.settimeout(_REHEARSAL_TIMEOUT_S)
            means.runner_writes, means.program_writes = written = rehearse(runner, ours, PROGRAM)
            for ranges in written:
                memory.keep_out_of_sight([ranges, *ranges])
            if means.first:
                means.first.copy_ahead(means.program_writes)
    except (OSError, EOFError):
        pass  # every page is then copied when it is first written to
    finally:
        ours.close()
        if runner > 0:
            os.waitpid(runner, 0)


def _clone(request: Request, means: Means, traces: Traces, parent: int = namespaces.CLONE_PARENT) -> int:
    """The process id of a clone in new namespaces, or the negative number of an error; 0 in the clone. One that is made
    by the table of `first.py` leaves only by Released, in a worker."""
    network = 0 if request.network == "host" else namespaces.CLONE_NEWNET
    own, clones = (network, 0) if means.initial else (0, network)  # see means.py
    flags = namespaces.CLONE_NEWPID | parent | clones
    first = _first(request, means)
    clone = 0
    try:
        namespaces.unshare(namespaces.OF_SANDBOX | own)
        view.mount(request)
        if own:
            namespaces.loopback_up()
        if first:
            return _clone_by_table(first, flags, request, means, traces)
        clone = namespaces.clone(flags)
    except OSError as error:
        clone = -(error.errno or 1)
    if clone:
        means.go_home()
    return clone


def _clone_by_table(first: First, flags: int, request: Request, means: Means, traces: Traces) -> int:
    """As `_clone`. Raises OSError: there is no clone, and the zygote is not at home."""
    _go_on(first.make(flags, request), first, request, means, traces)
    return first.sandbox()


def _go_on(who: int, first: First, request: Request, means: Means, traces: Traces) -> None:
    """As who the table was left. Returns in the zygote alone. Raises OSError there: there is no clone, and it is not at
    home."""
    if who not in (LOST, REFUSED, ZYGOTE):
        come_back(who, first, request, means, traces)
    if who == LOST:
        give_up(first.error(who))
    if who == REFUSED:
        raise first.error(who)


def _first(request: Request, means: Means) -> First | None:
    """The table that makes this sandbox's process 1. None: that is made in Python, which has the same layers, and can
    do without those that this machine has no means for."""
    simple = request.boot.forked and request.template < 0 and not (request.alone or request.without)
    return means.first if simple and len(request.cgroups) <= MOST_GROUPS else None
