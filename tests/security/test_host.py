"""The machine under the sandbox: its files, devices, kernel, cgroups and processes stay out of reach."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.security import containment
from tests.security.conftest import Compiled
from tests.support import engines, machine
from tests.support.calls import body, execute, refused, stdout
from tests.support.server import Server

READ = {
    "python": "import sys, os\nfor path in {paths}:\n"
    "    try: print(len(os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(9)), path)\n"
    "    except OSError: pass",
    "node": "const fs = require('fs'); for (const path of {paths}) try {{"
    " console.log(fs.statSync(path).isDirectory() ? fs.readdirSync(path) : fs.readFileSync(path), path) }} catch {{}}",
    "bash": "for path in $(echo '{paths}' | tr -d '[],\"'); do"
    " ls -d $path/* 2>/dev/null || head -c 9 $path 2>/dev/null; done; true",
}
CHANGES = """
import json, os
opened, null = [], os.stat('/dev/null').st_rdev
for top in ('/proc', '/dev', '/etc', '/usr/bin', '/usr/lib', '/opt/isol8', '/sys'):
    for directory, names, files in os.walk(top):
        if top == '/proc':
            names[:] = [name for name in names if not name.isdigit() and name not in ('self', 'thread-self')]
        for name in files:
            path = os.path.join(directory, name)
            if os.path.islink(path) or path.startswith('/dev/shm/') or os.stat(path).st_rdev == null: continue
            try: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)); opened.append(path)
            except OSError: pass
        if os.access(directory, os.W_OK) and not directory.startswith('/dev/shm'): opened.append(directory)
print(json.dumps(opened))
"""
RAISE = """
import os, resource, sys
for name in dir(resource):
    if name.startswith('RLIMIT_'):
        hard = resource.getrlimit(getattr(resource, name))[1]
        resource.setrlimit(getattr(resource, name), (hard, hard))
os.execv(sys.argv[1], sys.argv[1:])
"""
WANTED = {"CORE": (1, 1), "RTPRIO": (0, 0), "NICE": (0, 0), "MEMLOCK": (8 << 20, 8 << 20), "STACK": (8 << 20, 1 << 62)}
ONE = {"python": 1, "node": 0, "bash": 0, "bun": 0, "deno": 0}
# Everybody's, and none of it is kept: what is written there is thrown away, or mixed into randomness.
HARMLESS = {"/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}


def _printed(client: httpx.Client, code: str) -> Any:
    return json.loads(stdout(client, code))


@pytest.mark.parametrize("language", READ)
def test_files_of_the_machine(
    client: httpx.Client, server: Server, require: Any, tmp_path: Path, language: str
) -> None:
    require(language)
    canary = tmp_path / "canary"
    canary.write_text("of the machine")
    wanted = [
        str(canary),
        "/etc/shadow",
        "/etc/hostname.orig",
        "/root/.bashrc",
        "/home",
        "/sys/kernel",
        "/boot",
        "/var/lib",
    ]
    wanted += [str(server.directory), "/run/systemd", "/var/log", "/etc/ssh", "/etc/ssl/private", os.getcwd()]
    ways = ("", "/proc/1/root", "/proc/self/root", "/proc/1/cwd", "/proc/thread-self/root", "/proc/self/cwd/..")
    paths = [way + path for way in ways for path in wanted]
    result = execute(client, READ[language].format(paths=json.dumps(paths)), language)
    assert (result["stdout"], result["stderr"]) == ("", ""), result


def test_nothing_of_the_machine_can_be_opened_for_writing(client: httpx.Client) -> None:
    opened = set(json.loads(stdout(client, CHANGES)))
    assert opened <= HARMLESS | engines.more_devices(), sorted(opened - HARMLESS)[:20]


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sysrq-trigger",
        "/proc/irq/0/smp_affinity",
    ],
)
def test_switches_of_the_kernel(client: httpx.Client, path: str) -> None:
    before = Path(path).read_bytes() if path.startswith("/proc/sys/") and os.path.exists(path) else b""
    code = f"printf 1 2>/dev/null >{path} && echo written; exit 0"
    assert execute(client, code, "bash")["stdout"] == ""
    assert not before or Path(path).read_bytes() == before


@pytest.mark.cgroup
def test_masked_proc(client: httpx.Client) -> None:
    containment.masked_proc(client)


def test_addresses_of_the_kernel_are_not_shown(client: httpx.Client) -> None:
    printed = stdout(client, "cut -d' ' -f1 /proc/kallsyms 2>/dev/null | sort -u", "bash")
    assert printed in ("", "0000000000000000\n")


@pytest.mark.cgroup
def test_read_only_root(client: httpx.Client) -> None:
    containment.read_only_root(client)


@pytest.mark.cgroup
def test_refused_calls(client: httpx.Client, compiled: Compiled) -> None:
    for runtime in containment.CALLERS:
        containment.refused_calls(client, compiled("calls"), runtime)


@pytest.mark.cgroup
def test_no_privilege(client: httpx.Client) -> None:
    containment.no_privilege(client)


@pytest.mark.cgroup
def test_release_agent_and_cgroups(client: httpx.Client) -> None:
    """CVE-2022-0492, and cgroups in general: none can be mounted, seen or entered."""
    code = (
        "mkdir /tmp/cg; mount -t cgroup -o rdma cgroup /tmp/cg; mount -t cgroup2 none /tmp/cg\n"
        "unshare -UrmC sh -c 'mount -t cgroup -o memory cgroup /tmp/cg && echo mounted'\n"
        "find / -xdev -name release_agent -o -xdev -name cgroup.procs 2>/dev/null; ls -A /tmp/cg; ls /sys 2>/dev/null\n"
        "cut -d: -f3 /proc/self/cgroup | sort -u; exit 0"
    )
    assert execute(client, code, "bash")["stdout"] == "/\n"


@pytest.mark.cgroup
def test_mounts_and_roots(client: httpx.Client) -> None:
    code = (
        "mkdir -p /sandbox/m /sandbox/r/old; cd /sandbox\n"
        "mount -t tmpfs none m && echo tmpfs; mount --bind / m && echo bind; mount -t proc none m && echo proc\n"
        "mount -o remount,rw / && echo remount; umount -l /proc && echo umount; umount /proc/sys && echo umount\n"
        "mount -t overlay -o lowerdir=/,upperdir=/sandbox/r,workdir=/sandbox/m o m && echo overlay\n"
        "pivot_root r r/old && echo pivot; chroot /sandbox /bin/true && echo chroot\n"
        "for kind in -Ur -m -n -p -i -u -C; do unshare $kind true && echo unshared; done\n"
        "nsenter -t 1 -a true && echo entered; nsenter --mount=/proc/1/ns/mnt true && echo entered\n"
        "nsenter --net=/proc/self/ns/net true && echo entered; exit 0"
    )
    result = execute(client, code, "bash")
    assert result["stdout"] == "", result
    assert "not permitted" in result["stderr"]


def test_chroot_break_out_with_an_open_directory(client: httpx.Client) -> None:
    code = (
        "import os\nroot = os.open('/', os.O_RDONLY)\nos.mkdir('jail')\n"
        "try: os.chroot('jail'); print('chroot')\nexcept PermissionError: pass\n"
        "os.fchdir(root)\nfor _ in range(200): os.chdir('..')\nprint(sorted(os.listdir('.')), sorted(os.listdir('/')))"
    )
    seen, root = stdout(client, code).replace("] [", "]\n[").splitlines()
    assert seen == root
    assert "sys" not in seen or "sys" in engines.more_in_root()
    assert "home" not in seen


def test_devices(client: httpx.Client) -> None:
    code = (
        "for spec in 'b 254 0' 'b 8 0' 'c 1 1' 'c 1 2' 'c 1 11' 'c 10 229' 'c 10 200' 'c 5 1'; do\n"
        "  for where in /sandbox /tmp /dev/shm; do mknod $where/node $spec && cat $where/node; done; done\n"
        "for f in /dev/*; do [ -b $f ] && echo $f; [ -c $f ] && printf '%s ' $f; done; exit 0"
    )
    result = execute(client, code, "bash")
    usual = {f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero")}
    assert usual <= set(result["stdout"].split()) <= usual | engines.more_devices()
    assert result["stderr"].count("Operation not permitted") == 24


def test_no_descriptor_leaks(client: httpx.Client) -> None:
    """The class of CVE-2024-21626: nothing of the machine is left open, in any way a program is started."""
    code = "import os\nfor n in range(3, 65536):\n    try: print(n, os.fstat(n))\n    except OSError: pass"
    for parts in ({}, {"env": {"PYTHONSAFEPATH": "1"}}):
        assert stdout(client, code, **parts) == ""
    assert stdout(client, "readlink /proc/self/cwd; ls /proc/self/cwd/", "bash") == "/sandbox\nmain.sh\n"
    for workdir in ("/proc/self/fd/7", "/proc/1/cwd", "../..", "/sandbox/../proc"):
        refused(client, 400, body("print(1)", workdir=workdir), mentions="workdir")
    link = "import os; os.symlink('/proc/1/fd', '/sandbox/w'); print(1)"
    execute(client, link, sessionId="links")
    answer = client.post(
        "/execute", json=body("import os; print(os.getcwd())", workdir="/sandbox/w", sessionId="links")
    )
    assert answer.status_code != 200 or "proc" not in answer.json()["stdout"], answer.text
    client.delete("/session/links")


def test_interpreters_cannot_be_overwritten(client: httpx.Client, require: Any) -> None:
    """The class of CVE-2019-5736: the file that runs, by any name, is not the sandbox's to change."""
    require("node")
    files = [os.path.realpath(path) for path in ("/usr/bin/python3", "/usr/bin/bash", "/usr/bin/env")]
    before = [(os.stat(path).st_mtime_ns, hashlib.sha256(Path(path).read_bytes()).digest()) for path in files]
    code = (
        "import os, shutil\n"
        f"for path in {files!r} + ['/proc/self/exe', '/proc/1/exe', '/opt/isol8/node/bin/node', '/bin/sh']:\n"
        "    for work in (lambda: open(path, 'r+b'), lambda: os.truncate(path, 0), lambda: os.unlink(path),\n"
        "                 lambda: os.chmod(path, 0o777), lambda: os.utime(path),\n"
        "                 lambda: os.setxattr(path, 'user.x', b'x'),\n"
        "                 lambda: os.link(path, '/sandbox/link'), lambda: os.rename(path, '/usr/bin/renamed')):\n"
        "        try: work(); print('done', path)\n"
        "        except OSError: pass"
    )
    assert stdout(client, code) == ""
    node = "const fs = require('fs'); for (const f of [process.execPath, '/proc/self/exe'])"
    node += " try { fs.openSync(f, 'r+'); console.log('opened') } catch (e) { console.log(e.code) }"
    assert set(stdout(client, node, "node").split()) <= {"EROFS", "ETXTBSY", "EACCES"}
    assert before == [(os.stat(path).st_mtime_ns, hashlib.sha256(Path(path).read_bytes()).digest()) for path in files]


def test_setuid_programs_give_nothing(client: httpx.Client) -> None:
    code = (
        "for p in $(find / -xdev -perm /6000 -type f 2>/dev/null | head -20); do echo $p >&2; done\n"
        "cp /usr/bin/id own; chmod 6755 own; ./own -u; id -u; su -c id </dev/null && echo su; sudo -n id && echo sudo\n"
        "newgrp root </dev/null; exit 0"
    )
    own, mine = execute(client, code, "bash")["stdout"].split()
    assert own == mine != "0"


def test_the_runner_cannot_be_reached(client: httpx.Client) -> None:
    containment.runner_out_of_reach(client)


def test_the_runner_survives_every_signal(client: httpx.Client, session: str) -> None:
    code = (
        "import os\n"
        "for number in range(1, 65):\n"
        "    try: os.kill(1, number)\n"
        "    except OSError as error: print(number, error)\n"
        "print(open('/proc/self/oom_score_adj').read().strip())"
    )
    first = execute(client, code, sessionId=session)
    assert first["exitCode"] == 0, first
    again = execute(client, "print('again')", sessionId=session)
    assert (again["stdout"], again["containerId"]) == ("again\n", first["containerId"])


def test_memory_files_compiled_and_executed(client: httpx.Client) -> None:
    """memfd and execveat are allowed, since what they start is contained as everything else is."""
    code = (
        "import os\n"
        "memory = os.memfd_create('x'); os.write(memory, open('/bin/cat', 'rb').read())\n"
        "os.execve(memory, ['cat', '/proc/self/status'], {})"
    )
    fields = dict(line.split(":\t", 1) for line in stdout(client, code).splitlines() if ":\t" in line)
    assert (fields["Seccomp"], fields["NoNewPrivs"], fields["CapEff"]) == ("2", "1", "0000000000000000")
    assert fields["Uid"].split()[0] != "0"


def test_no_host_processes(client: httpx.Client, server: Server) -> None:
    containment.no_host_processes(client)
    pids = sorted(server.processes())
    code = f"import os\nfor pid in {pids!r}:\n    try: os.kill(pid, 9)\n    except OSError: pass\nprint('tried')"
    assert execute(client, code)["exitCode"] in (0, 137)
    assert machine.alive({server.pid}) == {server.pid}


def test_limits_the_server_was_started_with_are_not_the_sandboxes(serve: Serve) -> None:
    """Real-time processes escape the share of the processor, and core files the sandbox."""
    code = f"""
import json, os, resource
kinds = [getattr(resource, 'RLIMIT_' + name) for name in {[*WANTED]!r}]
print(json.dumps([resource.getrlimit(kind) for kind in kinds]))
for work in (lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)), lambda: os.nice(-5)):
    try: work(); print('done')
    except PermissionError: print('refused')
"""
    running = serve({"pool": ONE}, wrapper=(sys.executable, "-c", RAISE))
    with running.client() as client:
        limits, *attempts = stdout(client, code).splitlines()
        for (name, (soft, hard)), seen in zip(WANTED.items(), json.loads(limits), strict=True):
            ours = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
            most = ours if ours != resource.RLIM_INFINITY else 1 << 62
            assert [value if value >= 0 else 1 << 62 for value in seen] == [min(soft, most), min(hard, most)], name
        assert attempts == ["refused", "refused"]
        crashed = execute(client, "import os; os.abort()", outputPaths=["/sandbox/core"])
        assert (crashed["exitCode"], crashed["files"]) == (134, {})
