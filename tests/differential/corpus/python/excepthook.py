import sys
import threading


def hook(kind, value, tb):
    print("hook", kind.__name__, value, tb.tb_lineno, tb.tb_next)


sys.excepthook = hook
threading.excepthook = lambda args: print("thread hook", args.exc_type.__name__, args.thread.name)
thread = threading.Thread(target=lambda: [].pop(), name="t")
thread.start()
thread.join()
raise LookupError("to the hook")
