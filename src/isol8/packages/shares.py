"""What is wanted of layers, and shares of those that are held."""

from __future__ import annotations

from dataclasses import dataclass

from isol8.model import Mount
from isol8.packages.client import HeldLayer


@dataclass(frozen=True, slots=True)
class Place:
    """Where a runtime of some version looks for packages in a sandbox, and the options that it needs to do so.
    `surroundings`: the image that it is in, if it is in one."""

    version: str
    target: str
    options: tuple[str, ...] = ()
    surroundings: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """A set of packages for a runtime: requirements in normal form, the key of its layer, where that is mounted, and
    what the runtime's command line needs then."""

    runtime: str
    requirements: tuple[str, ...]
    key: str
    target: str
    options: tuple[str, ...]


class Share:
    """One holder's share of a layer, which stays where it is until `close`. `mount` shows it in a sandbox."""

    def __init__(self, entry: Entry, target: str) -> None:
        self._entry: Entry | None = entry
        entry.shares += 1
        layer = entry.layer
        self.name = layer.name
        self.boots = layer.boots
        self.modules = layer.modules
        self.mount = Mount(name=layer.name, target=target)

    def another(self) -> Share:
        """A share of its own for somebody else."""
        assert self._entry is not None
        return Share(self._entry, self.mount.target)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        entry, self._entry = self._entry, None
        if entry:
            entry.give_back()


class Entry:
    """A layer that is held, and how many shares there are of it."""

    def __init__(self, layer: HeldLayer, layers: dict[str, Entry], key: str) -> None:
        self.layer = layer
        self.shares = 0
        self._layers = layers
        self._key = key

    def give_back(self) -> None:
        self.shares -= 1
        if self.shares == 0:
            del self._layers[self._key]
            self.layer.close()
