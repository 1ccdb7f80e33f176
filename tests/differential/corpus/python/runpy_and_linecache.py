import linecache
import runpy
import sys

open("other.py", "w").write("import sys\nprint(__name__, __file__, sys.argv)\nvalue = 5\n")
print(sorted(runpy.run_path("other.py", run_name="named")))
print(runpy.run_module("other", run_name="__main__", alter_sys=True)["value"])
print(repr(linecache.getline(__file__, 1)), repr(linecache.getline("/sandbox/main.py", 5)))
print(sys.modules["__main__"].__file__, sorted(linecache.cache))
runpy.run_path("missing.py")
