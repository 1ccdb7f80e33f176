"""The docstring."""

import importlib
import sys

print("running as", __name__, __doc__)
if __name__ == "__main__":
    again = importlib.import_module("main")
    print(again.__name__, again.__file__, again is sys.modules["__main__"], again.__spec__.name)
    print(again.__spec__.loader_state, importlib.reload(again) is again)
