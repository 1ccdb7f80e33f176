# Shown to the interpreter of a zygote as its `sitecustomize`: see isol8/engines/native/zygote.py.
import sys

_before = (set(sys.modules), set(sys.path_importer_cache))
import gc  # noqa: E402

gc.freeze()  # what a bare interpreter has at this point; all that follows is ours
sys.path.insert(0, "/run/isol8")
from isol8.engines.native.zygote import hold  # noqa: E402

hold(_before, globals())
