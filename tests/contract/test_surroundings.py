"""The machine as a program sees it: its user, its files, its network, and nothing of what is outside."""

from __future__ import annotations

import ast
import json
import os
import time
from typing import Any

import httpx

from tests.support import engines
from tests.support.calls import stdout
from tests.support.server import Server

MINIMAL_DEV = set("null zero full random urandom tty shm fd stdin stdout stderr ptmx pts".split())  # noqa: SIM905
PLACES = "/x /etc/x /usr/x /var/x /run/x /opt/x /root/x /home/x /sys/x /dev/x /proc/sys/kernel/hostname"


def _json(client: httpx.Client, code: str) -> Any:
    return json.loads(stdout(client, code))


def test_the_user(client: httpx.Client) -> None:
    code = (
        "import os, pwd, grp, getpass, json\n"
        "me = pwd.getpwuid(os.getuid())\n"
        "print(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), me.pw_dir,\n"
        "    me.pw_name == getpass.getuser(), grp.getgrgid(os.getgid()).gr_name != '',\n"
        "    os.path.expanduser('~'), os.access('/etc/passwd', os.W_OK)]))"
    )
    users, groups, more, home, same, named, expanded, writable = _json(client, code)
    assert len(set(users)) == 1
    assert len(set(groups)) == 1
    assert min(users + groups) > 0
    assert set(more) <= set(groups)
    assert (home, expanded, same, named, writable) == ("/sandbox", "/sandbox", True, True, False)
    name, user, group, owner = stdout(client, "whoami; id -u; id -g; stat -c %u /sandbox", "bash").split()
    assert name != "root"
    assert int(user) > 0
    assert user == group == owner


def test_no_privilege(client: httpx.Client) -> None:
    printed = stdout(client, "grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status", "bash")
    fields = dict(line.split(":\t") for line in printed.splitlines())
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_shared_memory_and_loopback(client: httpx.Client) -> None:
    code = (
        "import socket, os\n"
        "open('/dev/shm/x', 'w').write('shared')\n"
        "listener = socket.create_server(('127.0.0.1', 0)); sender = socket.create_connection(listener.getsockname())\n"
        "sender.sendall(b'loop'); print(listener.accept()[0].recv(10), open('/dev/shm/x').read())\n"
        "print(sorted(name for _, name in socket.if_nameindex()))\n"
        "print(socket.gethostbyname('localhost'))"
    )
    assert stdout(client, code) == "b'loop' shared\n['lo']\n127.0.0.1\n"


def test_no_network(client: httpx.Client, server: Server) -> None:
    port = server.url.rpartition(":")[2]
    code = (
        "import socket\n"
        f"for address in (('127.0.0.1', {port}), ('192.0.2.1', 80)):\n"
        "    try: socket.create_connection(address, timeout=5); print('connected')\n"
        "    except OSError as error: print(type(error).__name__)"
    )
    assert "connected" not in stdout(client, code)


def test_certificates_and_time_zones(client: httpx.Client) -> None:
    code = (
        "import os, ssl, zoneinfo, datetime\n"
        "print(len(os.listdir('/etc/ssl/certs')) > 10, len(ssl.create_default_context().get_ca_certs()) > 10)\n"
        "print(len(zoneinfo.available_timezones()) > 300)\n"
        "print(datetime.datetime.fromtimestamp(0, zoneinfo.ZoneInfo('Asia/Tokyo')).hour)"
    )
    assert stdout(client, code) == "True True\nTrue\n9\n"
    assert stdout(client, "TZ=America/New_York date -d @0 +%H:%M", "bash") == "19:00\n"


def test_usual_tools_are_there(client: httpx.Client) -> None:
    tools = "awk sed grep find sort tar gzip python3 perl env xargs diff ps"
    code = (
        f"for tool in {tools}; do [ -e /usr/bin/$tool ] || continue; command -v $tool >/dev/null || echo no $tool; done"
    )
    assert stdout(client, code, "bash") == ""
    assert stdout(client, "seq 3 | xargs -n1 | sed s/2/two/ | awk '{print $1}' | tr '\\n' ' '", "bash") == "1 two 3 "


def test_node_has_npm(client: httpx.Client, require: Any) -> None:
    require("node")
    code = "const r = require('child_process').spawnSync('npm', ['--version']); console.log(String(r.stdout))"
    assert stdout(client, code, "node").strip().count(".") == 2


def test_devices(client: httpx.Client) -> None:
    code = (
        "import os\n"
        "print(*[len(open(f'/dev/{name}', 'rb').read(3)) for name in ('zero', 'urandom', 'null')])\n"
        f"print(sorted(set(os.listdir('/dev')) - {MINIMAL_DEV!r}))"
    )
    lengths, others = stdout(client, code).splitlines()
    assert lengths == "3 3 0"
    assert {f"/dev/{name}" for name in ast.literal_eval(others)} <= engines.more_devices()


def test_what_can_be_written(client: httpx.Client) -> None:
    code = (
        "import os\n"
        "def can(path):\n"
        "    try: open(path, 'w').close(); return True\n"
        "    except OSError: return False\n"
        f"print([path for path in {[*PLACES.split(), '/sandbox/x', '/tmp/x', '/dev/shm/x']} if can(path)])"
    )
    assert stdout(client, code) == "['/sandbox/x', '/tmp/x', '/dev/shm/x']\n"


def test_tmp_is_noexec_and_sandbox_is_not(client: httpx.Client) -> None:
    code = (
        "for d in /sandbox /tmp; do printf '#!/bin/sh\\necho ran in %s\\n' $d > $d/x; chmod +x $d/x;"
        " $d/x 2>/dev/null || echo refused; done"
    )
    assert stdout(client, code, "bash") == "ran in /sandbox\nrefused\n"


def test_nothing_of_the_machine(client: httpx.Client, server: Server) -> None:
    paths = [str(server.directory), "/etc/shadow", "/root", os.getcwd(), "/sys/fs/cgroup", "/var/run/docker.sock"]
    code = (
        "import os, json, sys\n"
        "def content(path):\n"
        "    try: return os.listdir(path) if os.path.isdir(path) else open(path).read()\n"
        "    except OSError: return []\n"
        f"print(json.dumps({{path: len(content(path)) for path in {paths!r}}}))"
    )
    assert set(_json(client, code).values()) == {0}


def test_each_sandbox_has_its_own_processes_and_host_name(client: httpx.Client, server: Server) -> None:
    listed = stdout(client, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", "bash")
    assert "isol8 serve" not in listed
    assert int(stdout(client, "ls -d /proc/[0-9]* | wc -l", "bash")) < 8
    assert stdout(client, "import socket; print(socket.gethostname())").strip() != os.uname().nodename


def test_the_clock_is_right(client: httpx.Client) -> None:
    before = time.time()
    seen = float(stdout(client, "import time; print(time.time())"))
    assert before - 0.01 <= seen <= time.time() + 0.01
