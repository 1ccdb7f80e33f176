"""What must hold whatever a program does: one function for each layer, all of them able to fail.

Each takes a client of a server and raises AssertionError where that server does not contain the attack.
`test_meta.py` takes the layers away one by one and sees each of these fail.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import uuid
from typing import Any

import httpx

from tests.support import engines
from tests.support.calls import Json, body, delete, execute, stdout

MIB = 1 << 20
# What `calls.c` may be told. The kernel refuses raw sockets and devices itself; both layers answer alike.
REFUSED = {"EPERM"}
EXCEPTIONS = {"clone3": {"ENOSYS"}, "x32": {"ENOSYS"}, "getpid": {"done"}}
FAMILIES = (
    "packet",
    "vsock",
    "alg",
    "xdp",
    "key",
    "can",
    "tipc",
    "bluetooth",
    "smc",
    "rds",
    "nfnetlink",
    "audit",
    "uevent",
)

STATUS = """
import json
fields = dict(line.rstrip('\\n').split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)
print(json.dumps(fields))
"""
FORKS = """
import os, time
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            time.sleep(3600); os._exit(0)
        made += 1
except OSError: pass
print(made)
"""
RUNNER = """
import json, os, resource
told = {}
def attempt(name, work):
    try: told[name] = 'nothing' if work() == b'' else 'done'
    except OSError as error: told[name] = type(error).__name__
for name in ('environ', 'maps', 'mem', 'fd', 'root', 'cwd', 'exe', 'ns/mnt', 'stack', 'syscall', 'cmdline'):
    path = f'/proc/1/{name}'
    attempt(name, lambda: os.listdir(path) if name in ('fd', 'root', 'cwd') else open(path, 'rb').read(1))
attempt('prlimit', lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (1000, 1000)))
print(json.dumps(told))
"""
LINKS = """
import os
os.symlink('/etc/passwd', 'passwd'); os.symlink('/', 'root'); os.symlink('/usr/bin/env', '/tmp/env')
os.symlink('/proc/self/environ', 'own'); os.symlink('/proc/1/mem', 'memory'); os.symlink('/proc/self/fd/0', 'zero')
os.symlink('/proc/self/cwd/../etc/passwd', 'around'); os.symlink('/dev/zero', 'endless'); os.mkfifo('fifo')
os.symlink('loop', 'loop')
"""
SECRET = ("kcore", "keys", "key-users", "timer_list", "sched_debug", "latency_stats", "kmsg", "sysrq-trigger")
LINKED = (
    "passwd",
    "root/etc/passwd",
    "own",
    "memory",
    "zero",
    "around",
    "endless",
    "fifo",
    "loop",
    "root/proc/1/environ",
)
WRITABLE = ("/sandbox", "/tmp", "/dev/shm", "/proc", "/etc/passwd", "/etc/group")


# Their sandboxes may be made in different ways.
CALLERS = {
    "bash": "chmod +x calls && ./calls",
    "python": "import os; os.chmod('calls', 0o755); os.execv('./calls', ['./calls'])",
}


def refused_calls(client: httpx.Client, files: dict[str, Any], runtime: str = "bash") -> None:
    """Layer: the seccomp filter."""
    result = execute(client, CALLERS[runtime], runtime, files=files)
    answers = [line.split() for line in result["stdout"].splitlines()]
    # A filter may kill for the x32 table, which is asked for near the end.
    if result["exitCode"] == 128 + signal.SIGSYS:
        assert answers[-1][0] == "raw6", answers
    else:
        assert (result["exitCode"], result["stderr"]) == (0, ""), result
    assert len(answers) > 60
    wrong = []
    for name, answer in answers:
        wanted = {"EAFNOSUPPORT"} if name in FAMILIES else EXCEPTIONS.get(name, REFUSED)
        if answer not in wanted:
            wrong.append((name, answer))
    assert not wrong, wrong


def no_privilege(client: httpx.Client) -> None:
    """Layer: a user of its own, without capabilities."""
    seen = [json.loads(stdout(client, STATUS)) for _ in range(2)]
    for fields in seen:
        users = set(fields["Uid"].split()) | set(fields["Gid"].split())
        assert len(users) == 1, users
        assert set(fields["Groups"].split()) <= users  # Docker lists the group itself
        assert int(users.pop()) > 65536
        assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert fields["NoNewPrivs"] == "1"
        assert fields["Seccomp"] == "2"
    assert seen[0]["Uid"] != seen[1]["Uid"]


def no_host_loopback(client: httpx.Client) -> None:
    """Layer: the network namespace. A listener of the machine's own loopback, and an abstract one, get no visitor."""
    name = f"isol8-security-{uuid.uuid4().hex}"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0{name}")
        local.listen()
        code = (
            "import socket\n"
            f"for family, address in ((2, ('127.0.0.1', {listener.getsockname()[1]})), (1, '\\0{name}')):\n"
            "    try:\n"
            "        with socket.socket(family) as probe: probe.connect(address); print('connected')\n"
            "    except OSError as error: print(type(error).__name__)\n"
            "print(*[name for _, name in socket.if_nameindex()])"
        )
        assert stdout(client, code) == "ConnectionRefusedError\nConnectionRefusedError\nlo\n"
        for waiting in (listener, local):
            waiting.setblocking(False)
            try:
                waiting.accept()
            except BlockingIOError:
                continue
            raise AssertionError("somebody came")


def no_host_processes(client: httpx.Client) -> None:
    """Layer: the pid namespace. The machine's processes do not exist there."""
    code = (
        "import os\n"
        f"try: os.kill({os.getpid()}, 0); print('there')\n"
        "except OSError as error: print(type(error).__name__)\n"
        "print(os.getppid())"
    )
    # A pid this high has not been given out in a namespace this young.
    assert os.getpid() > 300
    assert stdout(client, code) == "ProcessLookupError\n1\n"


def no_shared_ipc(client: httpx.Client) -> None:
    """Layer: the ipc namespace. What one sandbox leaves under a key, another does not find."""
    key = uuid.uuid4().int % (1 << 30) + 1
    names = [f"ipc-{uuid.uuid4().hex}" for _ in range(2)]
    make = (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        f"print([call >= 0 for call in (libc.shmget({key}, 4096, {{0}}), libc.semget({key}, 1, {{0}}),"
        f" libc.msgget({key}, {{0}}))])"
    )
    try:
        assert stdout(client, make.format(0o1666), sessionId=names[0]) == "[True, True, True]\n"
        assert stdout(client, make.format(0o666), sessionId=names[1]) == "[False, False, False]\n"
        assert stdout(client, make.format(0o666), sessionId=names[0]) == "[True, True, True]\n"
    finally:
        for name in names:
            delete(client, name)


def bounded_processes(client: httpx.Client) -> None:
    """Layer: the number of processes."""
    assert int(stdout(client, FORKS, options={"pidsLimit": 20})) == 19


def bounded_memory(client: httpx.Client) -> None:
    """Layer: memory."""
    sent = body("x = b'x' * (160 << 20); print(len(x))", options={"memoryLimit": "64m"})
    answer = client.post("/execute", json=sent)
    assert answer.status_code == 500, answer.text
    assert answer.json()["error"] == "Execution failed: container OOM killed"


def bounded_processor(client: httpx.Client) -> None:
    """Layer: the share of the processor."""
    code = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass"
    usage = execute(client, code, options={"cpuLimit": 0.1})["usage"]
    assert usage["cpuMs"] < 0.25 * usage["wallMs"], f"a tenth of a core: {usage}"


def bounded_disk(client: httpx.Client) -> None:
    """Layer: the sizes of the writable file systems."""
    code = (
        "import os\n"
        "for path in ('/sandbox', '/tmp', '/dev/shm'):\n"
        "    descriptor = os.open(f'{path}/x', os.O_CREAT | os.O_WRONLY)\n"
        "    print(os.write(descriptor, bytes(9 << 20)) >> 20)"
    )
    # A write that does not fit is a short one. A page of each is taken: by the program, and by files of /etc.
    sizes = stdout(client, code, options={"sandboxSize": "4m", "tmpSize": "4m"}).split()
    assert [int(size) for size in sizes] in ([3, 4, 3], [3, 4, 4]), sizes


def bounded_socket_buffers(client: httpx.Client) -> None:
    """Layer: memory of the kernel's that a program fills through its own loopback."""
    code = (
        "import socket\n"
        "listener = socket.create_server(('127.0.0.1', 0), backlog=100); kept = []; sent = 0\n"
        "for _ in range(40):\n"
        "    sender = socket.socket(); sender.setsockopt(1, 7, 1 << 22); sender.connect(listener.getsockname())\n"
        "    kept += [sender, listener.accept()[0]]; sender.setblocking(False)\n"
        "    try:\n"
        "        while True: sent += sender.send(bytes(65536))\n"
        "    except OSError: pass\n"
        "print(sent >> 20)"
    )
    answer = client.post("/execute", json=body(code, options={"memoryLimit": "48m"}))
    # Where such buffers count as memory, the memory limit ends it; else they have a limit of their own.
    assert answer.status_code == 500 or int(answer.json()["stdout"]) <= 96, answer.text


def read_only_root(client: httpx.Client) -> None:
    """Layer: mounts that are read-only, and give no privilege and no device."""
    printed = stdout(client, "cat /proc/self/mountinfo", "bash")
    mounts = {line.split()[4]: set(line.split()[5].split(",")) for line in printed.splitlines()}
    assert {"/", "/dev", "/proc", "/sandbox", "/tmp", "/dev/shm", "/proc/sys"} <= set(mounts)
    bare, closed = engines.bare_mounts(), engines.closed_mounts()
    tried = f"import os; print([each for each in {sorted(closed)} if os.access(each, os.W_OK)])"
    assert stdout(client, tried) == "[]\n"
    if bare:  # there is nothing on them that the flags would stop
        found = execute(client, "find / /etc/ -xdev -type f -perm /6000 -o -xdev -type b -o -xdev -type c", "bash")
        assert found["stdout"] == ""
        # Files are masked by /dev/null, directories by empty ones; what is below those cannot be reached.
        code = (
            f"import os\nfor place in {list(mounts)}:\n"
            "    if os.path.lexists(place) and os.stat(place).st_rdev != os.stat('/dev/null').st_rdev: print(place)"
        )
        mounts = {place: mounts[place] for place in stdout(client, code).splitlines()}
        masked = [place for place, flags in mounts.items() if "nosuid" not in flags and place not in bare]
        assert stdout(client, f"import os; print(sum([os.listdir(place) for place in {masked}], []))") == "[]\n"
        bare |= set(masked)
    for place, flags in mounts.items():
        assert "nosuid" in flags or place in bare, place
        assert "nodev" in flags or flags >= {"ro", "noexec"} or place in {"/dev"} | bare | closed, place
        assert "ro" in flags or place in WRITABLE or place in closed | engines.writable_mounts(), place
    assert all("noexec" in mounts[place] for place in {"/tmp", "/dev/shm", "/proc", "/dev"} - closed)


def masked_proc(client: httpx.Client) -> None:
    """Layer: what /proc has of the machine."""
    code = (
        "import json\n"
        "def size(path):\n"
        "    try: return len(open(path, 'rb').read(100))\n"
        "    except OSError: return 0\n"
        f"print(json.dumps({{name: size('/proc/' + name) for name in {SECRET!r}}}))"
    )
    sizes = json.loads(stdout(client, code))
    assert set(sizes.values()) == {0}, sizes


def runner_out_of_reach(client: httpx.Client) -> None:
    """Layer: the runner is not dumpable, and what the kernel allows to the same user all the same is filtered."""
    told: Json = json.loads(stdout(client, RUNNER))
    reached = [name for name, answer in told.items() if answer == "done"]
    assert not reached, reached


def links_lead_nowhere(client: httpx.Client) -> None:
    """Layer: files come out of the sandbox's own writable mounts alone."""
    paths = [f"/sandbox/{name}" for name in LINKED] + ["/tmp/env"]
    result = execute(client, LINKS, outputPaths=paths)
    assert result["exitCode"] == 0, result
    assert result["files"] == {}, result["files"].keys()
    assert set(result["fileErrors"]) == set(paths)


def one_sandbox_for_each(client: httpx.Client) -> None:
    """Layer: a sandbox is used once."""
    for _ in range(2):
        code = "import os\nfound = os.path.exists('/tmp/left'); open('/tmp/left', 'w').close(); print(found)"
        assert stdout(client, code) == "False\n"
