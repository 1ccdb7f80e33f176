import os
import sys

print("first")
sys.stderr.write("to stderr\n")
sys.stdout.flush()
os.close(1)
print("cannot be written")
