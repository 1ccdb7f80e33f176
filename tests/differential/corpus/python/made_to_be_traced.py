"""CLONE_PTRACE says that whoever traces the parent traces the child: nobody does."""

import ctypes
import os
import signal
import time

libc = ctypes.CDLL(None)
for number in range(5):
    if (child := libc.syscall(56, 0x2000 | signal.SIGCHLD, 0, 0, 0, 0)) == 0:
        os._exit(number)
    print(os.waitpid(child, 0)[1])
if libc.syscall(56, 0x2000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    time.sleep(60)
os._exit(3)
