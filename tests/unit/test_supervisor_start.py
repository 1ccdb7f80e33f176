"""A supervisor that cannot start, and the launcher that is told so."""

from __future__ import annotations

import subprocess
import sys

from isol8.engines.supervisor import REFUSED

START = """
import asyncio, os, socket
from isol8.engines.supervisor import supervise
from isol8.errors import EngineFailure
async def fail():
    raise EngineFailure("there is no room")
supervise(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), os.getppid(), os.getuid(), fail)
"""
# Longer than a child may take that is known not to have started by that alone.
LAUNCH = f"""
import sys, time
from isol8 import launcher
launcher._STILLBORN_S = 0.0
started = []
def start():
    started.append(launcher.fork_child(lambda: sys.exit({REFUSED} if not started else 0)))
    return started[-1]
status = launcher.keep_alive([launcher.Child("supervisor", start)])
print(status, len(started))
"""


def test_it_says_that_trying_again_would_not_help() -> None:
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (REFUSED, "isol8: there is no room\n")


def test_it_is_not_started_again() -> None:
    done = subprocess.run([sys.executable, "-c", LAUNCH], capture_output=True, text=True, check=False)
    assert done.stdout == "1 1\n", done.stderr
