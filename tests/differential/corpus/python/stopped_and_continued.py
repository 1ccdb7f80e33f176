"""Stops itself, and is continued by its child; and stops and continues that one."""

import os
import signal
import time


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


received = []
signal.signal(signal.SIGCONT, lambda *_: received.append("continued"))
parent = os.getpid()
for number in (signal.SIGSTOP, signal.SIGSTOP):
    child = os.fork()
    if child == 0:
        while state(parent) != "T":
            time.sleep(0.005)
        os.kill(parent, signal.SIGCONT)
        os._exit(0)
    os.kill(parent, number)
    print(number.name, os.waitpid(child, 0)[1], received)

child = os.fork()
if child == 0:
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)
for _ in range(3):
    print(os.WSTOPSIG(os.waitpid(child, os.WUNTRACED)[1]))
    os.kill(child, signal.SIGCONT)
os.kill(child, signal.SIGKILL)
while os.WIFSTOPPED(status := os.waitpid(child, os.WUNTRACED)[1]):
    pass
print(status)
os._exit(9)
