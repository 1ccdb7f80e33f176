import os
import signal
import time

received = []
signal.signal(signal.SIGUSR1, lambda number, frame: received.append((number, frame.f_code.co_name)))
signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("alarm")))


def send():
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)


send()
print(received)
signal.setitimer(signal.ITIMER_REAL, 0.02)
try:
    time.sleep(30)
except TimeoutError as error:
    print(error)
