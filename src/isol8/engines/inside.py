"""Process 1 of a sandbox that is spoken to over its standard streams: what `bundle.py` sends in, and starts there.

The image has nothing of ours in it. A few lines on the interpreter's command line read the runner from standard input
and run it, so any image with a `python3` will do, and a program finds no file of ours. The interpreter is not the one
that runs programs.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
from typing import Any, NoReturn

from isol8.kernel import privileges
from isol8.kernel.pipe_gates import PipeGate
from isol8.kernel.signals import reset_signals
from isol8.runner.files import write_file
from isol8.runner.holding import Boot
from isol8.runner.loop import Runner
from isol8.runner.relay import Relay
from isol8.runner.resumption import Keeping


def main(settings: dict[str, Any]) -> NoReturn:
    """Become the runner. `settings` has `environment`, what programs start with, on top of what the image sets where
    `inherit` is true; `boot` (`isol8.model.Boot`); `keeping` (token in hexadecimal, patience in seconds) or None; and
    `relay`, the unix socket of its way out, if there may be one."""
    # Nobody may trace the runner or read it in /proc, though the user is the same.
    privileges.set_dumpable(False)
    os.umask(0o022)
    # A daemon passes on what it was started with, and make, for one, has two signals of libc's ignored. That leaves
    # nothing for SIGINT either: the namespace protects process 1 from signals that it has no handler for.
    reset_signals()
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # as the interpreter has them for itself
        _signal.signal(number, _signal.SIG_IGN)
    stream, output = _move_streams()
    inherited = dict(os.environ) if settings["inherit"] else {}
    inherited.pop("HOSTNAME", None)  # Docker's own
    os.environ.clear()
    os.environ.update(inherited | settings["environment"])
    os.chdir("/sandbox")
    boot, kept = settings["boot"], settings["keeping"]
    path, argv = boot["path"], [os.fsencode(value) for value in boot["argv"]]
    gate = PipeGate(path, lambda content: write_file(path, content)) if boot["pipe"] else None
    Runner(
        stream,
        Boot(boot["executable"], argv, path, boot["opens"], boot["stamps"], forked=False),
        lambda: privileges.set_dumpable(True),
        gate,
        output,
        keeping=Keeping(bytes.fromhex(kept[0]), kept[1]) if kept else None,
        relay=Relay(settings["relay"]) if settings["relay"] else None,
    ).serve()


def _move_streams() -> tuple[int, int]:
    """Take the streams away from descriptors 0 and 1; what is printed by mistake must not come between frames."""
    stream, output = os.dup(0), os.dup(1)
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor, inheritable=True)
    os.close(nothing)
    return stream, output
