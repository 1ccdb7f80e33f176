import contextlib
import io
import os
import sys

with contextlib.redirect_stdout(io.StringIO()) as buffer:
    print("captured")
print(repr(buffer.getvalue()))
sys.stdout.flush()
saved = os.dup(1)
os.dup2(2, 1)
print("now on stderr")
sys.stdout.flush()
os.dup2(saved, 1)
print("back", file=sys.__stdout__)
sys.stdout = None
print("to nowhere")
sys.stderr = None
raise ValueError("also to nowhere")
