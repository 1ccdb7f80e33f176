import os
import signal
import sys

reader, writer = os.pipe()
os.close(reader)
try:
    os.write(writer, b"x")
except BrokenPipeError as error:
    print(error)
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.write(writer, b"x")
print(os.WTERMSIG(os.waitpid(pid, 0)[1]))
sys.stdout.flush()
os.dup2(writer, 1)
print("to nobody")
