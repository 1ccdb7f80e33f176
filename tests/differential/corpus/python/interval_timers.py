"""Signals without end, of each kind of timer; and waits that they interrupt, or must not."""

import os
import select
import signal
import time

count = 0


def tick(*_):
    global count
    count += 1


for kind, number in ((0, signal.SIGALRM), (1, signal.SIGVTALRM), (2, signal.SIGPROF)):
    count = 0
    signal.signal(number, tick)
    signal.setitimer(kind, 0.001, 0.001)
    while count < 20:
        sum(range(1000))
    signal.setitimer(kind, 0)
    print(number.name, count >= 20)

# An ignored signal interrupts nothing.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
began = time.monotonic()
if (child := os.fork()) == 0:
    for _ in range(20):
        os.kill(os.getppid(), signal.SIGUSR1)
    os._exit(0)
print(select.select([], [], [], 0.1), time.monotonic() - began >= 0.1, os.waitpid(child, 0)[1])

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
os.kill(os.getpid(), signal.SIGUSR2)
print(signal.sigwait({signal.SIGUSR2}).name, signal.sigpending())
