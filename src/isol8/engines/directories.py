"""The directories of the machine that a sandbox can be shown: layers, by name, and those the server was started with.

The API process names them; where they are, the launcher alone says. What is below the store of layers belongs to the
user who keeps it, so no symbolic link in it is followed.
"""

from __future__ import annotations

import os
import re

from isol8.errors import EngineFailure
from isol8.kernel import mounts, namespaces
from isol8.kernel.forked import attempt

_LAYER = re.compile(r"[a-z0-9][a-z0-9._+-]{0,200}")
_TREE = "tree"  # the part of a layer that sandboxes see
_TIMEOUT_S = 10
_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Directories:
    """`layers` is the store; `named` are further directories, by names that no layer has."""

    def __init__(self, layers: str = "", named: dict[str, str] | None = None) -> None:
        self._layers = layers
        self._named = named or {}

    def open(self, wanted: list[list[str]]) -> list[int]:
        """A mount that is nowhere yet for each [name, target]; the caller closes them. Raises EngineFailure."""
        opened: list[int] = []
        try:
            for name, target in wanted:
                if not target.startswith("/") or os.path.normpath(target) != target:
                    raise EngineFailure("a mount needs an absolute path")
                directory = self._directory(name)
                try:
                    opened.append(mounts.open_read_only(directory))
                finally:
                    os.close(directory)
        except BaseException as error:
            for descriptor in opened:
                os.close(descriptor)
            if isinstance(error, OSError):
                raise EngineFailure(f"a layer could not be opened: {error}") from error
            raise
        return opened

    def show(self, pid: int, wanted: list[list[str]]) -> None:
        """Show each [name, target] in the mount namespace of a live sandbox's process. Raises EngineFailure."""
        trees = self.open(wanted)
        try:
            attach_in(pid, [(tree, target) for tree, (_, target) in zip(trees, wanted, strict=True)])
        except OSError as error:
            raise EngineFailure(f"a layer could not be mounted: {error}") from error
        finally:
            for tree in trees:
                os.close(tree)

    def path(self, name: str) -> str | None:
        """Where a directory is that the server was started with; None when it is none of those."""
        return self._named.get(name)

    def tree(self, name: str) -> int:
        """A layer, or one of those directories, opened to be read; the caller's to close. Raises OSError,
        EngineFailure."""
        directory = self._directory(name)
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        finally:
            os.close(directory)

    def _directory(self, name: str) -> int:
        if name in self._named:
            return os.open(self._named[name], _FLAGS)
        if not self._layers or _LAYER.fullmatch(name) is None:
            raise EngineFailure("there is no such directory to show")
        store = os.open(self._layers, _FLAGS)
        try:
            layer = os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=store)
        finally:
            os.close(store)
        try:
            return os.open(_TREE, _FLAGS | os.O_NOFOLLOW, dir_fd=layer)
        finally:
            os.close(layer)


def attach_in(pid: int, trees: list[tuple[int, str]]) -> None:
    """Put mounts where they belong in the mount namespace of a process. Its root is read-only, so that no program can
    have made a link of a name on the way. Raises OSError."""

    def work() -> None:
        namespaces.enter(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        for tree, target in trees:
            mounts.attach(tree, target)

    attempt(work, _TIMEOUT_S)
