"""isol8 runs code nobody should trust, each time in a sandbox nobody used before.

`from isol8 import DockerIsol8` is the way in for programs (library.py); `isol8 serve` is the one for everybody else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isol8.library import DockerIsol8 as DockerIsol8
    from isol8.library import ExecutionResult as ExecutionResult
    from isol8.library import GVisorIsol8 as GVisorIsol8
    from isol8.library import NativeIsol8 as NativeIsol8

__version__ = "0.1.0"
_LIBRARY = ("DockerIsol8", "ExecutionResult", "GVisorIsol8", "NativeIsol8")


def __getattr__(name: str) -> object:
    """What the library has, loaded when it is asked for: most of isol8 does without it."""
    if name in _LIBRARY:
        from importlib import import_module  # not before: it leaves traces in an interpreter that goes on as a program

        return getattr(import_module("isol8.library"), name)
    raise AttributeError(f"module 'isol8' has no attribute {name!r}")
