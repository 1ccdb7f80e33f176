"""What we leave in an interpreter that goes on as the user's program, and how modules are imported ahead of time in it.

Standard library only, and little of it: see kernel/__init__.py.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import sys

from isol8.kernel import memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Traces:
    """What we have left in the interpreter, and in a worker what was imported ahead of time after that was removed."""

    def __init__(self, before: tuple[set[str], set[str]], namespace: dict[str, object]) -> None:
        self._modules, self._importers = before
        self._namespace = namespace
        self._ahead: set[str] = set()
        self._failed = False

    def remove(self) -> None:
        """Leave the interpreter as its own start-up would have it, once all that is ours has been imported. The zygote
        does so: each worker would copy every page for it that a name of a module is on.

        The collector must know all objects again: it could not take apart a cycle that goes through a frozen one, such
        as `__main__`, and finalisers would not run at exit.
        """
        for name in set(sys.modules) - self._modules:
            del sys.modules[name]
        for name in set(sys.path_importer_cache) - self._importers:
            del sys.path_importer_cache[name]
        for name in [name for name in self._namespace if not name.startswith("__")]:
            del self._namespace[name]
        gc.unfreeze()

    def import_ahead(self, names: list[str]) -> None:
        """Import modules for the program, as it would."""
        try:
            for name in names:
                __import__(name)
        except BaseException:  # noqa: BLE001 - the program will meet the same error, if it imports that at all
            self._failed = True
        self._ahead = {name.partition(".")[0] for name in set(sys.modules) - self._modules}
        # Looking at the hundred thousands of objects that large packages make is most of what ending would take. The
        # program's own names stay in sight: what they hold must be let go of at the end.
        main = sys.modules["__main__"]
        memory.freeze_all_but([value for value in (main, vars(main)) if gc.is_tracked(value)])

    def misled(self) -> bool:
        """Whether the program, importing for itself, would get anything else: a file of its own of the same name."""
        if not self._ahead:
            return self._failed
        return self._failed or any(entry.partition(".")[0] in self._ahead for entry in os.listdir("/sandbox"))


def start_afresh() -> NoReturn:
    """Become the fresh interpreter that a plain start would have given."""
    for number in (_signal.SIGINT, _signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    os.execve(sys.executable, ["python3", "/sandbox/main.py"], os.environ)
