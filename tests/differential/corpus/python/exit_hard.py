import os
import sys

sys.stdout.write("lost in the buffer")
os.write(1, b"written\n")
os._exit(9)
