import sys

print(sorted(globals()))
print(__name__, __file__, __doc__, __package__, __spec__, __cached__ if "__cached__" in globals() else "uncached")
print(type(__loader__), __loader__.name, __loader__.path, __builtins__)
print(__annotations__ if "__annotations__" in globals() else "no annotations")
main = sys.modules["__main__"]
print(main, main.__dict__ is globals(), vars(main).keys() == globals().keys(), list(vars(main)))
print(sys.modules["__main__"].__dict__["__builtins__"] is sys.modules["builtins"])
import __main__

print(__main__ is main)
