"""exit(2) of the first thread: the process goes on until the last one ends."""

import ctypes
import os
import sys
import threading
import time


def go_on():
    state = ""
    while state != "Z":
        time.sleep(0.005)
        with open(f"/proc/{os.getpid()}/task/{os.getpid()}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
    print("the first thread is gone")
    sys.stdout.flush()
    os._exit(21)


threading.Thread(target=go_on).start()
ctypes.CDLL(None).syscall(60, 3)
