import atexit
import sys
import threading
import weakref


class Thing:
    pass


thing = Thing()
weakref.finalize(thing, print, "finalize")
atexit.register(print, "registered first, runs last")
atexit.register(lambda: 1 / 0)
atexit.register(print, "registered last, runs first")
threading._register_atexit(print, "thread atexit")
sys.stdout.write("no newline at end")
