"""Two sandboxes of one server, of two callers: neither sees, reaches or disturbs anything of the other."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.conftest import Serve
from tests.security import containment
from tests.support import machine
from tests.support.calls import Json, delete, execute, stdout

POOL = {"python": 3, "node": 0, "bash": 1, "bun": 0, "deno": 0}
# Leaves one of everything that could be shared, and stays, so that all of it is live.
OWNER = """
import ctypes, os, resource, socket, subprocess, sys, time
key = {key}
libc = ctypes.CDLL(None)
for path in ('/sandbox/file', '/tmp/file', '/dev/shm/file', '/sandbox/{mark}', '/tmp/{mark}', '/dev/shm/{mark}'):
    open(path, 'w').write('{mark}')
    os.chmod(path, 0o777)
os.mkfifo('/tmp/fifo')
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0abstract'); abstract.listen()
named = socket.socket(socket.AF_UNIX); named.bind('/tmp/socket'); named.listen()
loopback = socket.create_server(('127.0.0.1', 45678))
six = socket.create_server(('::1', 45678), family=socket.AF_INET6)
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); datagrams.bind(('127.0.0.1', 45679))
assert libc.shmget(key, 4096, 0o1666) >= 0 and libc.semget(key, 1, 0o1666) >= 0 and libc.msgget(key, 0o1666) >= 0
libc.mq_open(b'/mq', 0o102, 0o666, None)  # Landlock, where there is any, leaves nobody a POSIX queue
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', '{mark}'])
print(os.getuid(), os.getpid(), child.pid, flush=True)
deadline = time.monotonic() + 600
while time.monotonic() < deadline: time.sleep(1)
"""
# A process may go between the list of all and the look at it.
READ = """
def read(path):
    try:
        with open(path, 'rb') as file: return file.read()
    except (FileNotFoundError, ProcessLookupError): return b''
"""
INTRUDER = """
import ctypes, glob, json, os, socket, subprocess
key = {key}
libc = ctypes.CDLL(None)
def attempt(work):
    try: return work()
    except OSError as error: return type(error).__name__
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as probe:
        probe.settimeout(5); probe.connect(address); probe.send(b'x'); probe.send(b'x')
        return 'connected'
print(json.dumps({{
    'uid': os.getuid(),
    'files': [path for path in ('/sandbox/file', '/tmp/file', '/dev/shm/file') if os.path.exists(path)],
    'sockets': [attempt(lambda: connect(socket.AF_UNIX, address)) for address in ('\\0abstract', '/tmp/socket')],
    'ports': [attempt(lambda: connect(socket.AF_INET, ('127.0.0.1', 45678))),
              attempt(lambda: connect(socket.AF_INET6, ('::1', 45678))),
              attempt(lambda: connect(socket.AF_INET, ('127.0.0.1', 45679), socket.SOCK_DGRAM))],
    'system v': [libc.shmget(key, 0, 0), libc.semget(key, 0, 0), libc.msgget(key, 0)],
    'listed': [len(open('/proc/sysvipc/' + name).readlines()) for name in ('shm', 'sem', 'msg')],
    'queue': libc.mq_open(b'/mq', 2, 0, None),
    'processes': [path for path in glob.glob('/proc/[0-9]*/cmdline') if b'{mark}' in read(path)],
    'unix': open('/proc/net/unix').read().count('abstract'),
    'killed': [attempt(lambda: os.kill(pid, 9)) for pid in {pids} if pid != os.getpid()],
    'found': subprocess.run(['grep', '-rl', '{mark}', '/sandbox', '/tmp', '/dev/shm', '/var', '--exclude=main.py'],
                            capture_output=True, text=True).stdout,
}}))
"""


# What it is told comes in order: it waits for what is its own, and says which of its two watches it was told of.
WATCH = """
import ctypes, os, struct
libc = ctypes.CDLL(None)
watch, told = libc.inotify_init1(0), []
open('/sandbox/last', 'w').close()
assert [libc.inotify_add_watch(watch, path, 0x20) for path in (b'/usr/bin/uname', b'/sandbox/last')] == [1, 2]
open('/sandbox/watching', 'w').close()
while 2 not in told:
    data = os.read(watch, 4096)
    while data:
        number, _, _, length = struct.unpack_from('iIII', data)
        told.append(number)
        data = data[16 + length:]
with open('/sandbox/.told', 'w') as file: file.write(str(sorted(set(told))))
os.rename('/sandbox/.told', '/sandbox/told')
"""


@dataclass(frozen=True)
class Neighbours:
    """Two callers of one server; the first one's sandbox is busy being `OWNER`."""

    first: httpx.Client
    second: httpx.Client
    mark: str
    key: int
    seen: Json


@pytest.fixture(scope="module")
def neighbours(serve: Serve) -> Iterator[Neighbours]:
    mark, key = f"mark{uuid.uuid4().hex}", uuid.uuid4().int % (1 << 30) + 1
    running = serve({"apiKeys": ["first-key", "second-key"], "pool": POOL}, key=None)
    with running.client("first-key") as first, running.client("second-key") as second:
        owner = OWNER.format(key=key, mark=mark)
        started = "import subprocess, sys; subprocess.Popen([sys.executable, 'owner.py'], stdout=open('said', 'w'))"
        execute(first, started, sessionId="same", files={"/sandbox/owner.py": owner})
        read = "print(open('said').read(), end='')"
        said = machine.until(lambda: stdout(first, read, sessionId="same").split(), "it is all there")
        assert len(said) == 3, said
        code = READ + INTRUDER.format(key=key, mark=mark, pids=[2, 3, *map(int, said[1:])])
        seen = json.loads(stdout(second, code, sessionId="same"))
        yield Neighbours(first, second, mark, key, seen | {"owner": int(said[0])})
        for caller in (first, second):
            delete(caller, "same")


def test_users_differ(neighbours: Neighbours) -> None:
    assert neighbours.seen["uid"] != neighbours.seen["owner"]


def test_files(neighbours: Neighbours) -> None:
    assert neighbours.seen["files"] == []
    assert neighbours.seen["found"] == ""


def test_sockets_and_ports(neighbours: Neighbours) -> None:
    assert neighbours.seen["sockets"] == ["ConnectionRefusedError", "FileNotFoundError"]
    assert neighbours.seen["ports"] == ["ConnectionRefusedError"] * 3
    assert neighbours.seen["unix"] == 0


def test_shared_memory_semaphores_and_queues(neighbours: Neighbours) -> None:
    assert neighbours.seen["system v"] == [-1, -1, -1]
    assert neighbours.seen["listed"] == [1, 1, 1]  # the heads of empty tables
    assert neighbours.seen["queue"] == -1


def test_processes(neighbours: Neighbours) -> None:
    assert neighbours.seen["processes"] == []
    assert set(neighbours.seen["killed"]) <= {"ProcessLookupError", None}
    still = READ + "import glob\nprint(sum(b'owner.py' in read(path) for path in glob.glob('/proc/[0-9]*/cmdline')))"
    assert stdout(neighbours.first, still, sessionId="same") == "1\n"


def test_what_the_owner_left_is_as_it_was(neighbours: Neighbours) -> None:
    """After the other one has tried everything, the owner still has all of it."""
    code = (
        "import ctypes, socket\nlibc = ctypes.CDLL(None)\n"
        f"print([call({neighbours.key}, *rest) >= 0 for call, rest in"
        " ((libc.shmget, (0, 0)), (libc.semget, (0, 0)), (libc.msgget, (0,)))])\n"
        "for address in (('127.0.0.1', 45678),): socket.create_connection(address).close()\n"
        "probe = socket.socket(1); probe.connect('\\0abstract'); print(open('/tmp/file').read())"
    )
    assert stdout(neighbours.first, code, sessionId="same") == f"[True, True, True]\n{neighbours.mark}\n"


def test_ipc(client: httpx.Client) -> None:
    containment.no_shared_ipc(client)


def test_keyrings(client: httpx.Client) -> None:
    """Keys belong to users and processes of the whole kernel: nobody gets at any."""
    code = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "arm = os.uname().machine == 'aarch64'\n"
        "for number in ((217, 218, 219) if arm else (248, 249, 250)):\n"
        "    for ring in range(-8, 0):\n"
        "        print(libc.syscall(number, b'user', b'isol8', b'x', 1, ring), ctypes.get_errno())\n"
        "print(open('/proc/keys').read() + open('/proc/key-users').read())"
    )
    assert set(stdout(client, code).splitlines()) == {"-1 1", ""}


def test_one_sandbox_for_each(client: httpx.Client) -> None:
    containment.one_sandbox_for_each(client)


def test_a_greedy_neighbour_leaves_the_others_theirs(client: httpx.Client) -> None:
    """Per-user limits of the kernel are not shared: users differ."""
    names = [f"greedy-{uuid.uuid4().hex}" for _ in range(2)]
    greedy = (
        "import ctypes, os, subprocess, sys\n"
        "code = '''import ctypes, time, os\nlibc = ctypes.CDLL(None); n = 0\n"
        "while libc.inotify_init1(0) >= 0: n += 1\n"
        "open('/sandbox/said', 'w').write(str(n)); time.sleep(600)'''\n"
        "subprocess.Popen([sys.executable, '-c', code]); print('started')"
    )
    count = (
        "import ctypes\nlibc = ctypes.CDLL(None)\nprint([libc.inotify_init1(0) >= 0 for _ in range(20)].count(True))"
    )
    try:
        stdout(client, greedy, sessionId=names[0])
        said = "import os; print(os.path.exists('/sandbox/said') and open('/sandbox/said').read() or '')"
        machine.until(lambda: stdout(client, said, sessionId=names[0]).strip(), "it has taken all there is")
        assert stdout(client, count, sessionId=names[0]) == "0\n"
        assert stdout(client, count, sessionId=names[1]) == "20\n"
    finally:
        for name in names:
            delete(client, name)


def test_a_busy_neighbour_does_not_starve_the_others(client: httpx.Client) -> None:
    names = [f"busy-{uuid.uuid4().hex}" for _ in range(2)]
    try:
        for name in names:
            execute(client, "(while :; do :; done) & (while :; do :; done) & echo x", "bash", sessionId=name)
        for _ in range(5):
            assert stdout(client, "print('served')", timeoutMs=60_000) == "served\n"
    finally:
        for name in names:
            delete(client, name)


def test_what_a_neighbour_reads_is_not_told(client: httpx.Client, session: str) -> None:
    """inotify on a shared read-only file tells of everybody's use of it."""
    execute(client, "print(1)", sessionId=session)
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WATCH!r}]); print('started')"
    stdout(client, code, sessionId=session)
    exists = "import os; print(os.path.exists('/sandbox/{}'))"
    machine.until(lambda: stdout(client, exists.format("watching"), sessionId=session) == "True\n", "it watches")
    stdout(client, "uname", "bash")
    stdout(client, "open('/sandbox/last')", sessionId=session)
    machine.until(lambda: stdout(client, exists.format("told"), sessionId=session) == "True\n", "it has been told")
    assert stdout(client, "print(open('/sandbox/told').read())", sessionId=session) == "[2]\n"
