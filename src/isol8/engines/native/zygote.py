"""The zygote: an interpreter held still in the middle of its own start-up, from which sandboxes are cloned.

Theory of operation. The supervisor starts `python3 /sandbox/main.py` in a root of its own (`root.py`), where our
`sitecustomize` is the last thing that interpreter imports before it would run the script. `hold` blocks there. For
each request it moves to new namespaces, mounts /sandbox, /tmp and /dev/shm there and brings up loopback, clones itself
into a new process namespace (CLONE_PARENT: the supervisor is the parent and reaps), and moves back home. What the
zygote itself does costs less than in the clone, whose every page is copied when it is first written to. The clone

  1. enters its cgroups, through descriptors that came with the request: all that follows is charged to the sandbox;
  2. takes a cgroup namespace, so that it sees its own group as the root;
  3. mounts /proc, which belongs to its process namespace, and covers parts of it, still as root;
  4. drops every privilege, for good (in one more user namespace where there is no user id for it), shuts itself into
     its own root (Landlock), and loads the seccomp filter;
  5. becomes the runner, process 1, and forks the worker.

When a worker is released, `hold` simply returns, and the interpreter goes on to run /sandbox/main.py by itself: there
is no frame, module, argument or flag of ours in it, because it *is* `python3 /sandbox/main.py`. How it ends: ending.py.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import os
import sys

from isol8.engines.native.copying.asking import ask
from isol8.engines.native.ending import Ending
from isol8.engines.native.rehearsal import rehearse
from isol8.engines.native.traces import Traces, start_afresh
from isol8.kernel import exit_stops, gates, landlock, memory, mounts, namespaces, privileges, seccomp, user_namespaces
from isol8.runner.frames import unpack_fields
from isol8.runner.holding import Boot
from isol8.runner.loop import Runner
from isol8.runner.worker import Released, Worker, set_oom_score

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import NoReturn

CONTROL = 3  # the descriptor of the socket to the supervisor
_Frame = type(sys._getframe())  # without importing `types`
PROGRAM = "/sandbox/main.py"
_OWN_ARGUMENTS = [b"python3", PROGRAM.encode()]
_BOOT_DIR = "/run/isol8"
_MAX_REQUEST_BYTES = 128 * 1024
_MAX_DESCRIPTORS = 24
_REHEARSAL_TIMEOUT_S = 20  # well below what a request is waited for
_NAMESPACES = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS
# Where the zygote lives between requests; in a user namespace it could not come back to the machine's network.
_HOME = ("mnt", "ipc", "uts")
_TMPFS = mounts.MS_NOSUID | mounts.MS_NODEV
_PROC_FLAGS = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
# As the container runtimes mask them: runc's default spec (MaskedPaths, ReadonlyPaths).
_PROC_MASKED = ("kcore", "keys", "key-users", "latency_stats", "timer_list", "sched_debug", "sysrq-trigger")
# And the pressure files: whoever may write to one can have the kernel watch it thousands of times over, at the
# machine's expense, and take a grace period of RCU for each to exit.
_PROC_READ_ONLY = ("bus", "fs", "irq", "pressure", "sys")
# Where no cgroup counts processes: the kernel counts them by user id (and, since Linux 5.14, user namespace) as well.
# It is the same for every sandbox: only root could raise it at check-out.
_PROCESSES_WITHOUT_GROUP = 1024
# Where no cgroup counts memory: files without content are memory too, and by default the kernel allows millions.
_FILES_WITHOUT_GROUP = 100_000


class _Means:
    """What every sandbox of this zygote gets, made once: the system call filter, the Landlock rules (-1: this kernel
    has none), and the paths of /proc to hide and to protect. `initial`: whether root is really root here."""

    def __init__(self) -> None:
        self.initial = user_namespaces.is_initial()
        self.filter = seccomp.compile_filter()
        self.masked = [path for path in (f"/proc/{name}" for name in _PROC_MASKED) if os.path.exists(path)]
        self.guarded = [path for path in (f"/proc/{name}" for name in _PROC_READ_ONLY) if os.path.exists(path)]
        try:
            # A copied interpreter has rules of its own, and its runner must be able to kill it.
            self.ruleset = landlock.ruleset_for("/", signals=self.initial)
        except OSError:
            self.ruleset = -1  # an extra where there is one; `isol8 doctor` says why not
        self.rehearsed = False
        self.runner_writes: list[tuple[int, int]] = []
        self.program_writes: list[tuple[int, int]] = []


class _Request:
    """What the supervisor asks for: fields and descriptors of one sandbox. Without descriptors it is for a rehearsal:
    of the runner and the interpreter alone, not of packages, which are foreign code."""

    def __init__(self, payload: bytes, descriptors: list[int] | None) -> None:
        fields = unpack_fields(payload)
        raw = dict(fields)
        single = {key: value.decode() for key, value in fields if key != "words"}
        targets = [value.decode() for key, value in fields if key == "target" and descriptors]
        self.stream, *others = descriptors or [-1]
        # What is a copy's alone, when there is an interpreter to be copied, and where to ask for it.
        self.words = raw["words"] if descriptors else b""
        self.template = others.pop(0) if self.words else -1
        self.cgroups = others[: len(others) - len(targets)]
        # Mounts that are nowhere yet, and where each belongs.
        self.mounts = list(zip(others[len(self.cgroups) :], targets, strict=True))
        self.uid = int(single["uid"])
        # Whether its user has to be made by a user namespace; until then it is this process's own.
        self.alone = bool(single["alone"])
        self.sandbox_bytes = int(single["sandbox"])
        self.tmp_bytes = int(single["tmp"])
        self.resolver = single["resolver"]
        self.network = single["network"]
        # What a policy of relaxed isolation goes without where this machine has no means for it.
        self.without = single["without"].split()
        # Imported ahead of time, by the worker: packages are foreign code, and this process is root.
        self.modules = [value.decode() for key, value in fields if key == "module" and descriptors]
        forked = single["forked"] == "1"
        argv = _OWN_ARGUMENTS if forked else [value for key, value in fields if key == "argv"]
        stamps = [int(value) for key, value in fields if key == "stamp"]
        executable, path, opens = single["executable"], single["path"], int(single["opens"])
        self.boot = Boot(executable, argv, path, opens, stamps, forked=forked)


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
    mounts.mount("none", "/", flags=mounts.MS_REMOUNT | mounts.MS_BIND | mounts.MS_RDONLY | _TMPFS)
    privileges.empty_bounding_set()
    traces = Traces(before, namespace)
    try:
        _serve(_Means(), traces)
    except Released:
        pass
    traces.remove()
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


def _serve(means: _Means, traces: Traces) -> NoReturn:
    """Clone a sandbox for every request. Only what is to run a program leaves, by Released."""
    control = _socket.socket(fileno=CONTROL)
    home = [namespaces.open_own(name) for name in (*_HOME, *(("net",) if means.initial else ()))]
    gc.collect()
    memory.keep_out_of_sight([value for value in gc.get_objects() if not isinstance(value, _Frame)])
    control.send(b"ready")
    while True:
        payload, ancillary, _, _ = control.recvmsg(_MAX_REQUEST_BYTES, _socket.CMSG_SPACE(4 * _MAX_DESCRIPTORS))
        if not payload:
            os._exit(0)
        if not means.rehearsed:
            _rehearse(_Request(payload, None), means, home, traces)
            if means.initial:
                # From here on a sandbox's own is the only one. Taking it away in each would wait for the whole machine:
                # unmounting takes a grace period of RCU.
                mounts.unmount("/proc")
        descriptors = _descriptors(ancillary)
        request = _Request(payload, descriptors)
        answer = _clone(request, home, means.initial)
        if answer == 0:
            control.close()
            for descriptor in home:
                os.close(descriptor)
            _become_sandbox(request, means, traces)
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(answer).encode())


def _rehearse(request: _Request, means: _Means, home: list[int], traces: Traces) -> None:
    """Make a sandbox like the one that is asked for, but of this process's own, and learn from it. What goes wrong here
    would go wrong again: the request itself is refused then."""
    means.rehearsed = True
    ours, theirs = _socket.socketpair()
    request.stream = theirs.fileno()
    request.boot = Boot("", _OWN_ARGUMENTS, "", 0, [], forked=True)
    runner = _clone(request, home, means.initial, parent=0)
    if runner == 0:
        ours.close()
        for descriptor in (CONTROL, *home):
            os.close(descriptor)
        _become_sandbox(request, means, traces)
    theirs.close()
    try:
        if runner > 0:
            ours.settimeout(_REHEARSAL_TIMEOUT_S)
            means.runner_writes, means.program_writes = written = rehearse(runner, ours, PROGRAM)
            for ranges in written:
                memory.keep_out_of_sight([ranges, *ranges])
    except (OSError, EOFError):
        pass  # every page is then copied when it is first written to
    finally:
        ours.close()
        if runner > 0:
            os.waitpid(runner, 0)


def _clone(request: _Request, home: list[int], initial: bool, parent: int = namespaces.CLONE_PARENT) -> int:
    """The process id of a clone in new namespaces, or the negative number of an error; 0 in the clone."""
    network = 0 if request.network == "host" else namespaces.CLONE_NEWNET
    own, clones = (network, 0) if initial else (0, network)  # see _HOME
    try:
        namespaces.unshare(_NAMESPACES | own)
        _mount(request)
        if own:
            namespaces.loopback_up()
        clone = namespaces.clone(namespaces.CLONE_NEWPID | parent | clones)
    except OSError as error:
        clone = -(error.errno or 1)
    if clone:
        for descriptor in home:
            namespaces.enter(descriptor)
    return clone


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in what recvmsg gave."""
    found = []
    for _, kind, data in ancillary:
        if kind == _socket.SCM_RIGHTS:
            found += [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4)]
    return found


def _become_sandbox(request: _Request, means: _Means, traces: Traces) -> NoReturn:
    """Steps 1 to 5 of the module's text. Leaves only by Released, in a worker."""
    try:
        for tree, _ in request.mounts:
            os.close(tree)
        for descriptor in request.cgroups:
            os.write(descriptor, b"0")
        memory.populate(means.runner_writes)
        if "cgroup-namespace" not in request.without:
            namespaces.unshare(namespaces.CLONE_NEWCGROUP)
        _mount_proc(means)
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
        written = means.program_writes if request.boot.forked else []
        Runner(
            request.stream,
            request.boot,
            lambda: _in_worker(request, written, traces),
            gate,
            copied=copied,
            stops=stops,
            settle=lambda: _settle(request, means),
        ).serve()
    except BrokenPipeError:
        os._exit(0)  # the server let go of the sandbox
    except Exception as error:  # noqa: BLE001 - the log must have it, and no frame of ours may go on
        os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
        os._exit(70)


def _become_user(request: _Request) -> None:
    if request.alone:
        user_namespaces.enter_alone(request.uid, 0, 0)
        privileges.empty_bounding_set()
    # Last: what the maker of a user namespace may have is what all in it may have together.
    if "process-limit" in request.without:
        privileges.limit_processes(_PROCESSES_WITHOUT_GROUP)
    privileges.drop_to(request.uid, request.uid, keep_groups=request.alone)


def _gate(request: _Request, means: _Means) -> gates.Gate | None:
    """The gate at which an interpreter waits for its program. None where the kernel makes none, or none for this user:
    every interpreter is then started when its program is there."""
    if request.boot.forked or not request.boot.argv or not means.initial:
        return None
    try:
        return gates.Gate(request.boot.path, request.uid)
    except OSError:
        return None


def _settle(request: _Request, means: _Means) -> None:
    """Now that the worker is forked, every page is shared again. To copy them once more ahead of time makes an answer
    sooner by a tenth and takes a twentieth more of the processor: worth it where the program is another one, whose
    pages are its own."""
    if not request.boot.forked:
        memory.populate(means.runner_writes)


def _copy(request: _Request, means: _Means, gate: gates.Gate | None, stops: exit_stops.ExitStops) -> Worker | None:
    """A copy of the interpreter that is to wait at the gate. None: it must boot."""
    if request.template < 0:
        return None
    copied = None
    try:
        if gate and means.ruleset >= 0:
            copied = ask(request.template, request.words, request.uid, means.ruleset, request.cgroups)
    except OSError as error:
        os.write(2, f"sandbox: {error}\n".encode())
    os.close(request.template)
    if copied:
        stops.watch(copied.pid)  # it has rules of its own: who has some may not do that any more
    else:
        os.write(2, b"sandbox: the interpreter could not be copied, and boots\n")
    return copied


def _in_worker(request: _Request, written: list[tuple[int, int]], traces: Traces) -> None:
    """What tells a program from its runner: it may look at itself. One that will run in this very interpreter gets
    its own copies of the pages that programs write to now, rather than one page fault at a time while it runs."""
    privileges.set_dumpable(True)
    memory.populate(written)
    if request.modules:
        traces.import_ahead(request.modules)


def _mount(request: _Request) -> None:
    """In the zygote: the writable directories, and what /etc says of the sandbox."""
    user = 0 if request.alone else request.uid
    owner = f"uid={user},gid={user}"
    most = f",nr_inodes={_FILES_WITHOUT_GROUP}" if "memory-limit" in request.without else ""
    mounts.mount("tmpfs", "/sandbox", "tmpfs", _TMPFS, f"mode=755,{owner},size={request.sandbox_bytes}{most}")
    mounts.mount("tmpfs", "/tmp", "tmpfs", _TMPFS | mounts.MS_NOEXEC, f"mode=1777,size={request.tmp_bytes}{most}")
    mounts.mount("tmpfs", "/dev/shm", "tmpfs", _TMPFS | mounts.MS_NOEXEC, f"mode=1777,size={request.tmp_bytes}{most}")
    entry = f":x:{request.uid}:{request.uid}:sandbox:/sandbox:/bin/bash\n"
    _show_file("/etc/passwd", f"root:x:0:0:root:/:/bin/false\nsandbox{entry}nobody:x:65534:65534::/:/bin/false\n")
    _show_file("/etc/group", f"root:x:0:\nsandbox:x:{request.uid}:\nnogroup:x:65534:\n")
    if request.resolver:
        _show_file("/etc/resolv.conf", request.resolver)
    for tree, target in request.mounts:
        mounts.attach(tree, target)
    if request.alone:  # the files are its user's own
        for path in ("/etc/passwd", "/etc/group"):
            mounts.set_read_only(path)


def _mount_proc(means: _Means) -> None:
    """In the clone. In a user namespace it can only be mounted while another one is in sight: see root.py."""
    if means.initial:
        mounts.mount("proc", "/proc", "proc", _PROC_FLAGS, "hidepid=2")
    else:
        mounts.mount("proc", "/opt", "proc", _PROC_FLAGS, "hidepid=2")
        mounts.unmount("/proc")
        mounts.move("/opt", "/proc")
    for path in means.guarded:
        mounts.mount(path, path, flags=mounts.MS_BIND)
        mounts.mount("none", path, flags=mounts.MS_REMOUNT | mounts.MS_BIND | mounts.MS_RDONLY | _PROC_FLAGS)
    for path in means.masked:
        mounts.mount("/dev/null", path, flags=mounts.MS_BIND)


def _show_file(path: str, text: str) -> None:
    """Mount a file of the sandbox's own over one of the shared root. Its only name is then that one."""
    source = "/dev/shm/.file"
    with open(source, "w") as file:
        file.write(text)
    mounts.mount(source, path, flags=mounts.MS_BIND)
    os.unlink(source)
