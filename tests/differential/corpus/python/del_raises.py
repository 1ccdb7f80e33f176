import gc
import sys


class Bad:
    def __del__(self):
        raise ValueError("in del")


Bad()
sys.unraisablehook = lambda unraisable: print("hook", unraisable.exc_value, unraisable.err_msg)
bad = Bad()
bad.me = bad
del bad
print(gc.collect() > 0)
sys.unraisablehook = sys.__unraisablehook__
last = Bad()
