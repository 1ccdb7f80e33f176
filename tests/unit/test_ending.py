"""The judgement at the end of a program: only one that nobody could notice ends at once. What is then seen of the
endings is compared with the bare interpreter in tests/differential."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_FRAME = """
import gc, os, sys
from isol8.engines.native import ending
gc.collect()
_ending = ending.Ending()
ending.os._exit = lambda code: print("at once")
_ending.begin(sys.argv[1])
exec(compile(open(sys.argv[1]).read(), "main.py", "exec"), sys.modules["__main__"].__dict__)
"""
_PLAIN = {
    "nothing": "",
    "output": "print(1)",
    "classes": "class A:\n    def __init__(self): self.me = self\nkept = [A() for _ in range(9)]",
    "a metaclass that hashes": (
        "class M(type):\n    def __hash__(cls): raise SystemError\n    __eq__ = __hash__\n"
        "class A(metaclass=M): pass\nkept = A()"
    ),
    "modules": "import json, re, collections, functools, random\nkept = json.JSONDecoder(), re.compile('a*')",
    "abstract classes": "import numbers, abc\nclass A(abc.ABC): pass\nA.register(int)",
    "an error that was caught": "try: 1/0\nexcept ZeroDivisionError as error: kept = error",
    "a reference": "import weakref\nclass A: pass\nkept = A()\nreference = weakref.ref(kept)",
}
_NOT_PLAIN = {
    "a finaliser": "class A:\n    def __del__(self): pass",
    "a computed finaliser": "A = type('A', (), {'__de' + 'l__': print})",
    "an inherited one": "import tempfile\nclass A(tempfile._TemporaryFileCloser): pass",
    "a metaclass's": "M = type('M', (type,), {'__de' + 'l__': print})\nA = M('A', (), {})",
    "a file": "kept = open('/dev/null')",
    "a generator": "def numbers():\n    yield 1\nkept = numbers()\nnext(kept)",
    "a callback": "import weakref\nclass A: pass\nkept = A()\nreference = weakref.ref(kept, print)",
    "a callback that is called like a class's": (
        "import weakref\nclass A:\n    def _destroy(self, _): pass\n"
        "kept = A()\nreference = weakref.ref(A, kept._destroy)"
    ),
    "a proxy": "import weakref\nclass A: pass\nkept = A()\nreference = weakref.proxy(kept, print)",
    "compiled code": "import ctypes",
    "a hidden module": (
        "import ctypes, sys\nkept = ctypes\nfor name in [*sys.modules]:\n    if 'ctypes' in name: del sys.modules[name]"
    ),
    "a running thread": (
        "import _thread\nlock = _thread.allocate_lock()\nlock.acquire()\n_thread.start_new_thread(lock.acquire, ())\n"
        "while not _thread._count(): pass"
    ),
    "another stdout": "import io, sys\nsys.stdout = io.StringIO()",
    "another excepthook": "import sys\nsys.excepthook = print",
    "other warnings": "import warnings\nwarnings.simplefilter('always')",
    "a watched collector": "import gc\ngc.callbacks.append(print)",
    "frozen objects": "import gc\ngc.freeze()",
    "old objects": "import gc\ngc.collect()",
    "an error": "import sys\nsys.last_type = ZeroDivisionError",
    "another __main__": "import sys\nsys.modules['__main__'] = sys",
    "an emptied __main__": "globals().clear()",
    "its own file": "kept = __file__ if 0 else 0",
    "the word": "# atexit",
    "a trace": "import sys\nsys.settrace(None)",
    "its length": "#" * (1 << 20),
}


def _ends_at_once(tmp_path: Path, program: str) -> bool:
    (tmp_path / "main.py").write_text(program)
    command = [sys.executable, "-c", _FRAME, str(tmp_path / "main.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return "at once" in done.stdout


@pytest.mark.parametrize("name", _PLAIN)
def test_what_nobody_sees_end_ends_at_once(tmp_path: Path, name: str) -> None:
    assert _ends_at_once(tmp_path, _PLAIN[name])


@pytest.mark.parametrize("name", _NOT_PLAIN)
def test_what_somebody_could_see_end_ends_as_ever(tmp_path: Path, name: str) -> None:
    assert not _ends_at_once(tmp_path, _NOT_PLAIN[name])


def test_a_callback_that_is_there_already_comes_first(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print('end')")
    frame = _FRAME.replace("import gc", "import atexit\natexit.register(print, 'earlier')\nimport gc")
    command = [sys.executable, "-c", frame, str(tmp_path / "main.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["end", "earlier"]
