import os
import sys

pid = os.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, "-I", "-c", "import sys; print(sys.argv, sys.flags.isolated)"])
os.waitpid(pid, 0)
os.execvp("sh", ["sh", "-c", "echo replaced; exit 6"])
