import atexit
import sys

atexit.register(print, "atexit")
try:
    sys.exit()
finally:
    print("finally")
