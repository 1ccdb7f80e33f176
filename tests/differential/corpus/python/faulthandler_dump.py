import faulthandler
import sys

print(faulthandler.is_enabled())


def here():
    faulthandler.dump_traceback(file=sys.stderr, all_threads=False)


here()
faulthandler.enable()
faulthandler._sigabrt()
