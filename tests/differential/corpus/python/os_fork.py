import os
import sys

print("in the buffer of both")
sys.stderr.write("once\n")
pid = os.fork()
if pid == 0:
    print("child", os.getppid() > 0)
    sys.exit(12)
_, status = os.waitpid(pid, 0)
print("parent", os.waitstatus_to_exitcode(status))
