"""With the default for SIGCHLD, with a handler, and ignored."""

import os
import signal
import subprocess

for disposition in (signal.SIG_DFL, lambda *_: None, signal.SIG_IGN):
    signal.signal(signal.SIGCHLD, disposition)
    children = []
    for number in range(30):
        if (child := os.fork()) == 0:
            os._exit(number)
        children.append(child)
    statuses = []
    for child in children:
        try:
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        except ChildProcessError as error:
            statuses.append(error.errno)
    print(statuses)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
print([subprocess.run(["sh", "-c", f"kill -{number} $$"]).returncode for number in (1, 9, 15)])
