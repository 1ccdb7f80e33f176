import os
import signal
import time


def wait():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)


try:
    wait()
except KeyboardInterrupt:
    print("caught once")
wait()
