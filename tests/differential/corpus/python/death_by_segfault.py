import ctypes
import sys

print("before", flush=True)
ctypes.string_at(0)
