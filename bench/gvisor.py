"""A Python hello of the gVisor engine beside `runsc do`, which starts a sandbox for one command."""

from __future__ import annotations

import os
import shutil

from bench.bare import PROGRAMS, time_spawn
from bench.connection import Connection, check_hello, hello
from bench.figures import summarise
from bench.paced import in_turn, timed
from bench.results import Gvisor
from bench.setting import Setting

_HELLO = ("/usr/bin/python3", "-I", "-c", "print('hello')")
_SHARE = 15  # of the usual number of calls: starting a sandbox takes about a second


def measure(setting: Setting) -> Gvisor:
    """Both in turn, or the reason why not."""
    runsc = shutil.which("runsc")
    if runsc is None or os.geteuid() != 0:
        reason = "runsc is not installed" if runsc is None else "gVisor needs root"
        setting.say(f"gvisor: skipped, {reason}")
        return Gvisor(skipped=reason)
    do = [runsc, "--platform=ptrace", "--network=none", "--ignore-cgroups", "do", *_HELLO]
    with setting.serving(engine="gvisor", pool={"python": 2}) as server, Connection(server) as connection:
        request = hello(server, "python", PROGRAMS["python"][0])
        kinds = [timed(lambda: check_hello(connection.call(request))), lambda: time_spawn(do)]
        engine, dos = map(summarise, in_turn(kinds, max(1, setting.sizes.pairs // _SHARE), warm_up=1))
    setting.say(f"gvisor: p50 engine {engine['p50']:.1f} ms, runsc do {dos['p50']:.1f} ms")
    return Gvisor(engine=engine, do=dos)
