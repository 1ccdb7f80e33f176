"""What is remembered of the containers that outlive a crash of their server: a file for each, which only the server's
user can read, in a directory that the next server knows.

A container carries `home`, the name of that directory, as a label. Whose it is at the moment, the file says: a label
cannot change. A file that is not as it was written, or not this user's, is not believed.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from isol8.errors import EngineFailure
from isol8.model import Boot, Limits, Network
from isol8.runner.resumption import TOKEN_BYTES

_LOG = logging.getLogger("isol8.docker")
_MOST_BYTES = 128 * 1024
_SUFFIX = ".json"
_BOOT = {field.name for field in dataclasses.fields(Boot)}


class InvalidRecord(Exception):
    """A record cannot be believed; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """`owner` is the label of the server that has the container now; `runner` the version of the runner in it; `token`
    what makes that resume, in hexadecimal. `request` is what it was made from, with the limits in force (see
    engines/protocol.py); `note` is the API process's own."""

    owner: str
    container: str
    uid: int
    runner: str
    token: str
    request: dict[str, Any]
    note: dict[str, Any]


class Records:
    """Those in one directory, which is made if it is not there."""

    def __init__(self, directory: str, machine: str) -> None:
        self._directory = os.path.realpath(directory)
        self.home = hashlib.sha256(f"{machine}\0{self._directory}".encode()).hexdigest()[:32]

    def open(self) -> None:
        """Raises EngineFailure when the directory cannot be used."""
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            found = os.lstat(self._directory)
        except OSError as error:
            raise EngineFailure(f"{self._directory} cannot be made: {error.strerror}") from error
        if not stat.S_ISDIR(found.st_mode) or not _is_ours(found):
            raise EngineFailure(f"{self._directory} is not a directory that only this user can write to")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else takes anything over meanwhile."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def write(self, name: str, record: Record) -> None:
        """Whole or not at all. Raises EngineFailure."""
        path = self._path(name)
        fresh = f"{path}.new"
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w") as file:
                json.dump(dataclasses.asdict(record), file)
            os.rename(fresh, path)
        except OSError as error:
            raise EngineFailure(f"a session could not be noted down: {path}: {error.strerror}") from error

    def read(self, name: str) -> Record:
        """Raises InvalidRecord."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise InvalidRecord(f"its record cannot be read: {error.strerror}") from error
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or not _is_ours(found):
                raise InvalidRecord("its record is not a file that only this user can write to")
            text = file.read(_MOST_BYTES)
        try:
            return _checked(json.loads(text))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidRecord(f"its record makes no sense: {error}") from error

    def forget(self, name: str) -> None:
        """Idempotent."""
        for path in (self._path(name), f"{self._path(name)}.new"):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def names(self) -> list[str]:
        """Of all that there are, or were being written."""
        return [entry.partition(".")[0] for entry in os.listdir(self._directory)]

    def _path(self, name: str) -> str:
        if not name.isalnum():
            raise InvalidRecord("it has no name of a sandbox")
        return os.path.join(self._directory, name + _SUFFIX)


def records_in(directory: str, machine: str) -> Records | None:
    """The records in a directory; None when it cannot be used, which the log says, or has no name."""
    if not directory:
        return None
    records = Records(directory, machine)
    try:
        records.open()
    except EngineFailure as error:
        _LOG.warning("sessions will not outlive a crash: %s", error.message)
        return None
    return records


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _checked(tree: Any) -> Record:
    """Raises ValueError, TypeError or KeyError."""
    record = Record(**tree)
    texts = (record.owner, record.container, record.runner, record.token)
    request, note = record.request, record.note
    if not all(isinstance(text, str) for text in texts) or type(record.uid) is not int or not isinstance(note, dict):
        raise TypeError("a field is of another type")
    if len(bytes.fromhex(record.token)) != TOKEN_BYTES:
        raise ValueError("its token is of another length")
    limits = Limits(**request["limits"])
    if not all(type(value) in (int, float) and value > 0 for value in dataclasses.asdict(limits).values()):
        raise ValueError("its limits are not numbers")
    if not all(isinstance(request[name], str) for name in ("runtime", "image")) or set(request["boot"]) != _BOOT:
        raise ValueError("it was made from something else")
    Network(request["network"])
    for mounted, target in request["mounts"]:
        if not isinstance(mounted, str) or not isinstance(target, str):
            raise TypeError("its directories have no names")
    return record
