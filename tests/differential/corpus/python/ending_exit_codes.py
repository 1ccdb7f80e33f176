import os
import sys


def child(run):
    pid = os.fork()
    if not pid:
        sys.stdout.flush()
        run()
        return True
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return False


endings = [lambda: None, lambda: sys.exit(3), lambda: exit("a word"), lambda: 1 / 0, lambda: sys.exit(), lambda: os._exit(7)]
sys.stderr = None
for ending in endings:
    if child(ending):
        break
