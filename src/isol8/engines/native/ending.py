"""The end of a Python program: an interpreter is not taken apart when nobody could see it being taken apart.

CPython ends by collecting garbage, clearing every module, and freeing all types and objects of its own. In a bare
interpreter that takes a fifth of the time a short program takes; in a fork it also copies nearly every page. All that
anybody can see of it is what finalisers, weak references and buffers do: so `_end` looks at every object that was made
since the program began, and ends the process only if none of them is of a kind that does anything when it goes.
Otherwise, and in every case of doubt, it returns, and CPython does what it always does.

It is called as the last of the `atexit` callbacks. By then CPython has run the program, waited for its threads, and
run its other callbacks. A program whose text speaks of what could see the callback gets none (`_TELL_TALES`).
"""

from __future__ import annotations

import _thread
import _warnings
import _weakref
import atexit
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

# Who counts callbacks, or traces or audits whatever is called, would see ours; who writes of `__file__` may take it
# away, and who writes of `__del__` may give one to a class of the interpreter's own.
_TELL_TALES = (b"atexit", b"settrace", b"setprofile", b"monitoring", b"audithook", b"__file__", b"__del__")
# Of what is compiled: the modules whose objects are memory and nothing else. Those written in Python show themselves.
_PLAIN_MODULES = frozenset((
    "_abc", "_ast", "_bisect", "_codecs", "_collections", "_contextvars", "_csv", "_datetime", "_decimal", "_functools",
    "_hashlib", "_heapq", "_imp", "_json", "_locale", "_md5", "_opcode", "_operator", "_pickle", "_random", "_sha1",
    "_sha2", "_sha256", "_sha3", "_sha512", "_signal", "_sre", "_stat", "_statistics", "_string", "_struct", "_thread",
    "_tokenize", "_typing", "_warnings", "_weakref", "array", "atexit", "binascii", "builtins", "cmath", "errno", "gc",
    "itertools", "marshal", "math", "posix", "pwd", "sys", "time", "unicodedata", "zlib",
))  # fmt: skip
_MOST_SOURCE_BYTES = 1 << 20  # what it is worth to look at
_Module = type(sys)
_Builtin = type(len)
# As `type` itself has them: a metaclass may say otherwise of its classes.
_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_vars: Callable[[type], dict[str, object]] = type.__dict__["__dict__"].__get__
_namespace: Callable[[ModuleType], dict[str, object]] = vars(_Module)["__dict__"].__get__
_callback = _weakref.ref.__dict__["__callback__"].__get__


class Ending:
    """How this interpreter was before the program. Make one before anything else of ours is, and `begin` in the process
    that is to run a program, when nothing of ours is left in sight.

    What the program may let go of is remembered by its identity alone: it must go when the program lets go of it.
    """

    def __init__(self) -> None:
        main = vars(sys.modules["__main__"])
        self._main = id(main)
        self._names = frozenset(main)
        self._streams = (id(sys.stdout), id(sys.stderr))
        self._hook = sys.excepthook
        self._filters: list[object] = list(_warnings.filters)
        self._collections: list[int] = []

    def begin(self, path: str) -> None:
        """The program in this file is about to run."""
        try:
            with open(path, "rb") as file:
                source = file.read(_MOST_SOURCE_BYTES)
        except OSError:
            return  # CPython will say what is wrong with it
        told = len(source) == _MOST_SOURCE_BYTES or any(word in source for word in _TELL_TALES)
        # Not after a callback that is there already: that one would be called after ours.
        if not told and not atexit._ncallbacks():
            atexit.register(self._end)
        self._collections = _collections()

    def _end(self) -> None:
        if self._completed() and self._as_before() and _plain(gc.get_objects(0)) and _plain(gc.get_objects(1)):
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            except (OSError, ValueError):
                return  # CPython tries once more, and says so
            os._exit(0)

    def _completed(self) -> bool:
        """Whether the program ran to its end. CPython then takes `__file__` out of `__main__` again, which it does not
        do on SystemExit (pythonrun.c, the same from 3.8 to 3.13); of another exception it leaves a trace in `sys`."""
        module = sys.modules.get("__main__")
        if type(module) is not _Module or id(main := _namespace(module)) != self._main:
            return False
        return (
            "__file__" not in main
            and all(name in main for name in self._names)
            and "last_type" not in vars(sys)
            and sys.excepthook is self._hook
        )

    def _as_before(self) -> bool:
        """Whether what could do something at the end, and is not an object of the program, is as it was.

        What the program made is in the two young generations as long as nothing has moved on to the old one.
        """
        filters = _warnings.filters
        return (
            self._collections == _collections()
            and not (gc.get_freeze_count() or gc.get_debug() or gc.callbacks or gc.garbage)
            and not _thread._count()
            and (id(sys.stdout), id(sys.stderr)) == self._streams
            and len(filters) == len(self._filters)
            and all(now is then for now, then in zip(filters, self._filters, strict=True))
        )


def _collections() -> list[int]:
    """How often the middle and the old generation have been collected."""
    return [generation["collections"] for generation in gc.get_stats()[1:]]


def _has_finaliser(kind: type) -> bool:
    return any("__del__" in _vars(base) for base in _mro(kind))


def _plain(objects: list[Any]) -> bool:
    """Whether letting go of the objects does nothing but give back memory. Runs no code of theirs."""
    questions: dict[int, Callable[[Any], bool] | None] = {}  # by identity: a metaclass may hash
    for value in objects:
        kind = type(value)
        if id(kind) not in questions:
            questions[id(kind)] = _question(kind)
        question = questions[id(kind)]
        if question and not question(value):
            return False
    return True


def _question(kind: type) -> Callable[[Any], bool] | None:
    """What to ask of an object of that class; None if it is plain whatever it holds."""
    bases = _mro(kind)
    if _has_finaliser(kind) or kind is _weakref.ProxyType or kind is _weakref.CallableProxyType:
        return _never
    for base, question in _QUESTIONS:
        if any(each is base for each in bases):
            return question
    return None


def _never(value: object) -> bool:
    return False


def _without_callback(reference: _weakref.ref[Any]) -> bool:
    """Or with that of abstract base classes (_abc.c), which takes the reference out of a set."""
    callback = _callback(reference)
    if callback is None:
        return True
    if type(callback) is not _Builtin or callback.__name__ != "_destroy":
        return False
    return type(getattr(callback, "__self__", None)) is _weakref.ref


def _without_finaliser(kind: type) -> bool:
    return not _has_finaliser(kind)


def _plain_module(module: ModuleType) -> bool:
    namespace = _namespace(module)
    path = namespace.get("__file__")
    if type(path) is str and path.endswith(".py"):
        return True
    return namespace.get("__name__") in _PLAIN_MODULES


_QUESTIONS: tuple[tuple[type, Callable[[Any], bool]], ...] = (
    (_weakref.ref, _without_callback),
    (_Module, _plain_module),
    (type, _without_finaliser),
)
