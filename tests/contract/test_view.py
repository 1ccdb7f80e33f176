"""What a program sees of itself: nothing of ours, and all that the bare interpreter would show."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support.calls import execute, stdout
from tests.support.server import Server

ALLOWED_VARIABLES = {"PATH", "HOME", "LANG", "PWD", "SHLVL", "_", "OLDPWD", "USER", "LOGNAME", "SHELL"}
OF_OURS = ("isol8", "zygote", "runner", "uvicorn", "supervisor", "warm")

ENVIRONMENT = {
    "python": "import json, os; print(json.dumps(dict(os.environ)))",
    "node": "console.log(JSON.stringify(process.env))",
    "bun": "console.log(JSON.stringify(process.env))",
    "deno": "console.log(JSON.stringify(Deno.env.toObject()))",
    "bash": "python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'",
}
DESCRIPTORS = {
    "python": "import os; print(*sorted(os.listdir('/proc/self/fd')))",
    "bash": "ls /proc/$$/fd; readlink /proc/$$/exe",
}
SIGNALS = """
import json, signal
print(json.dumps({
    'blocked': [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    'ignored': [int(n) for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN],
    'fields': {line.split(':')[0]: line.split()[1] for line in open('/proc/self/status') if line.startswith('Sig')},
}))
"""


def _json(client: httpx.Client, code: str, runtime: str = "python", **parts: Any) -> Any:
    return json.loads(stdout(client, code, runtime, **parts))


def test_the_environment_is_minimal(client: httpx.Client, server: Server, runtime: str) -> None:
    seen = _json(client, ENVIRONMENT[runtime], runtime)
    assert set(seen) <= ALLOWED_VARIABLES
    assert (seen["HOME"], seen["LANG"]) == ("/sandbox", "C.UTF-8")
    assert "/usr/bin" in seen["PATH"].split(":")
    assert server.mark not in json.dumps(seen)
    assert server.key not in json.dumps(seen)


def test_nothing_of_the_server_is_in_proc(client: httpx.Client, server: Server) -> None:
    code = (
        "import glob, json\n"
        "found = {}\n"
        "for path in [p for name in ('environ', 'cmdline', 'maps') for p in glob.glob(f'/proc/*/{name}')]:\n"
        "    try: found[path] = open(path, 'rb').read().decode(errors='replace')\n"
        "    except OSError: pass\n"
        "print(json.dumps(found))"
    )
    for path, text in _json(client, code).items():
        assert server.mark not in text, path
        assert server.key not in text, path
        assert str(server.directory) not in text, path
        assert os.path.dirname(os.path.dirname(sys.executable)) not in text, path


@pytest.mark.parametrize("runtime_name", ["python", "bash"])
def test_three_descriptors_alone_are_open(client: httpx.Client, runtime_name: str) -> None:
    names = stdout(client, DESCRIPTORS[runtime_name], runtime_name).split()
    # Python's own listing holds one while it looks; bash keeps its script open as 255.
    assert names == (["0", "1", "2", "3"] if runtime_name == "python" else ["0", "1", "2", "255", "/usr/bin/bash"])


def test_descriptors_are_plain_pipes(client: httpx.Client) -> None:
    code = "import os; print([os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in range(3)])"
    assert stdout(client, code, stdin="x") == "['pipe', 'pipe', 'pipe']\n"
    assert stdout(client, code) in ("['pipe', 'pipe', 'pipe']\n", "['/dev/null', 'pipe', 'pipe']\n")


def test_standard_streams_can_be_reopened(client: httpx.Client, runtime: str) -> None:
    code = {
        "python": "for name in ('out', 'err'): open(f'/dev/std{name}', 'w').write(name)",
        "bash": "printf out >/dev/stdout; printf err >/dev/stderr",
    }.get(runtime, "const fs = require('fs'); for (const n of ['out', 'err']) fs.writeFileSync('/dev/std' + n, n)")
    if runtime == "deno":
        code = "for (const n of ['out', 'err']) Deno.writeTextFileSync('/dev/std' + n, n)"
    result = execute(client, code, runtime)
    assert (result["stdout"], result["stderr"]) == ("out", "err"), result


def test_stdin_can_be_reopened(client: httpx.Client) -> None:
    assert stdout(client, "print(open('/dev/stdin').read())", stdin="given") == "given\n"


def _assert_default_signals(seen: Any) -> None:
    assert seen["blocked"] == []
    # Python itself ignores SIGPIPE and SIGXFSZ.
    assert sorted(seen["ignored"]) == [13, 25]
    assert int(seen["fields"]["SigBlk"], 16) == 0


def test_signals_are_as_the_kernel_starts_a_program(client: httpx.Client) -> None:
    _assert_default_signals(_json(client, SIGNALS))
    printed = stdout(client, "cat /proc/self/status | grep -E 'Sig(Ign|Blk|Cgt)' | cut -f2 | tr '\\n' ' '", "bash")
    assert [int(mask, 16) for mask in printed.split()] == [0, 0, 0]


BLOCKING = """
import ctypes, os, signal, sys
# One of the two signals that libc lets nobody touch; a parent without libc, or one like this, can.
ignore = ctypes.create_string_buffer(signal.SIG_IGN.to_bytes(8, 'little'), 32)
ctypes.CDLL(None).syscall(13 if os.uname().machine == 'x86_64' else 134, 32, ignore, None, 8)
for name in ('SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGCHLD'): signal.signal(getattr(signal, name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD})
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_signals_are_default_however_the_server_was_started(serve: Serve) -> None:
    """As `nohup isol8 serve &` does: some signals ignored, some blocked, both inherited."""
    running = serve(wrapper=(sys.executable, "-c", BLOCKING))
    with running.client() as client:
        _assert_default_signals(_json(client, SIGNALS))
        printed = stdout(client, "grep -E 'Sig(Ign|Blk)' /proc/self/status | cut -f2 | tr '\\n' ' '", "bash")
        assert [int(mask, 16) for mask in printed.split()] == [0, 0]
        interrupted = execute(client, "import os, time; os.kill(os.getpid(), 2); time.sleep(3600)")
        assert interrupted["stderr"].endswith("KeyboardInterrupt\n")
        assert execute(client, "while True: pass", timeoutMs=300)["timedOut"]


def test_ids_of_processes(client: httpx.Client) -> None:
    code = "import os; print(os.getpid() > 0, os.getppid() > 0, os.getpgid(0) > 0, os.getsid(0) > 0)"
    assert stdout(client, code) == "True True True True\n"


def test_kill_0_reaches_the_programs_own_group_alone(client: httpx.Client) -> None:
    code = (
        "import os, signal, subprocess\n"
        "child = subprocess.Popen(['sleep', '3600'])\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.kill(0, signal.SIGTERM)\n"
        "print(child.wait(), flush=True)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "os.kill(0, signal.SIGTERM)"
    )
    result = execute(client, code)
    assert (result["stdout"], result["exitCode"]) == ("-15\n", 143)


def test_kill_everything_harms_only_itself(client: httpx.Client) -> None:
    code = (
        "import os\ntry: os.kill(-1, 9)\nexcept OSError as error: print(error.strerror)\n"
        "for pid in range(1, 200):\n"
        "    if pid != os.getpid():\n"
        "        try: os.kill(pid, 9)\n"
        "        except OSError: pass\n"
        "print('alive')"
    )
    assert execute(client, code)["exitCode"] in (0, 137)
    assert stdout(client, "print('unharmed')") == "unharmed\n"


def test_stopping_its_group_ends_with_the_timeout(client: httpx.Client) -> None:
    assert execute(client, "import os; os.kill(0, 19); print('on')", timeoutMs=700)["timedOut"]


def test_modules_and_flags_are_those_of_the_bare_interpreter(client: httpx.Client) -> None:
    code = (
        "import sys, json\n"
        "print(json.dumps([sorted(sys.modules), list(sys.flags), sys.path, sys.argv, sys.warnoptions, sys._xoptions]))"
    )
    modules, flags, path, argv, warnings, options = _json(client, code)
    assert not [name for name in modules for ours in OF_OURS if ours in name]
    assert flags[:6] == [0, 0, 0, 0, 0, 0]
    assert path[0] == "/sandbox"
    assert not [entry for entry in path[1:] if not entry.startswith("/usr/")]
    assert (argv, warnings, options) == (["/sandbox/main.py"], [], {})


def test_node_sees_no_options_of_ours(client: httpx.Client, require: Any) -> None:
    require("node")
    code = (
        "console.log(JSON.stringify([process.execArgv, process.argv, Object.keys(require.cache), module.children,"
        "process.env.NODE_OPTIONS ?? null, process.listenerCount('message')]))"
    )
    options, argv, cache, children, variable, listeners = _json(client, code, "node")
    assert (options, children, variable, listeners) == ([], [], None, 0)
    assert argv[1:] == ["/sandbox/main.js"]
    assert cache == ["/sandbox/main.js"]


def test_the_sandbox_holds_the_program_alone(client: httpx.Client, runtime: str) -> None:
    code = {
        "python": "import os; print(*os.listdir('/sandbox'))",
        "bash": "ls -A /sandbox",
        # Deno itself makes its cache below HOME.
        "deno": "console.log([...Deno.readDirSync('/sandbox')].map((e) => e.name).filter((n) => n > 'a').join())",
    }.get(runtime, "console.log(require('fs').readdirSync('/sandbox').join())")
    assert stdout(client, code, runtime).strip() in ("main.py", "main.js", "main.ts", "main.sh")


def test_nothing_in_proc_but_its_own_can_be_written(client: httpx.Client) -> None:
    """What the kernel lets everybody write, such as the triggers in /proc/pressure, too."""
    code = """
import os
for top, directories, names in os.walk('/proc'):
    directories[:] = [name for name in directories if not name.isdigit() and name not in ('self', 'thread-self')]
    for name in names:
        try:
            os.close(os.open(os.path.join(top, name), os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            continue
        if os.stat(os.path.join(top, name)).st_rdev != os.stat('/dev/null').st_rdev:
            print(os.path.join(top, name))
"""
    assert stdout(client, code) == ""
