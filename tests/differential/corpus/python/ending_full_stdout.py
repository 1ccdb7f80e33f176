import os
import sys

child = os.fork()
if child:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
else:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    sys.stdout.write("does not go out")
