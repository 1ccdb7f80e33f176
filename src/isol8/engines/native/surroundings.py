"""What a zygote does around the clone of a plain sandbox, as steps of the table in first.py: it takes the request,
moves into new namespaces, makes there what view.py says, and afterwards moves back home and answers.

It is what `zygote.py` does in Python for all others. In a zygote every page that Python writes to is copied once more
for each sandbox, because the last one shares it: a quarter of what a zygote takes of the processor.
"""

from __future__ import annotations

import _socket
import os

from isol8.engines.native import view
from isol8.kernel import call_table, mounts, namespaces
from isol8.runner.frames import pack_fields

_OPTIONS_BYTES = 128
_CONTENT_BYTES = 256
_WORD_BYTES = 8
_USES_OF_ID = 6  # real, effective and saved, of the user and of the group
_WORDS_BYTES = _WORD_BYTES * (_USES_OF_ID + len(view.FILES))
PLAIN_BYTES = _WORDS_BYTES + _OPTIONS_BYTES * len(view.DIRECTORIES) + _CONTENT_BYTES * len(view.FILES)
_MOST_DESCRIPTORS = 24
_AT_FDCWD = -100
_LAST_DESCRIPTOR = 0xFFFFFFFF


def plain_message(uid: int, sandbox_bytes: int, tmp_bytes: int) -> bytes:
    """The request for a sandbox that has nothing but what all have. With it come its stream, and its cgroups."""
    contents = [text.encode() for text in view.contents(uid)]
    parts = [word.to_bytes(_WORD_BYTES, "little") for word in (*[uid] * _USES_OF_ID, *map(len, contents))]
    parts += [text.encode().ljust(_OPTIONS_BYTES, b"\0") for text in view.options(uid, sandbox_bytes, tmp_bytes)]
    parts += [content.ljust(_CONTENT_BYTES, b"\0") for content in contents]
    message = b"".join(parts)
    assert len(message) == PLAIN_BYTES, "there is no room for that"
    return message


def pack_request(fields: list[tuple[str, bytes]]) -> bytes:
    """Any other request. It is told from a plain one by its size."""
    message = pack_fields(fields)
    return message if len(message) != PLAIN_BYTES else pack_fields([*fields, ("", b"")])


class Surroundings:
    """The steps from "serve" to what is added next. They lead to "other" when the next message is no plain request, to
    "refused" when there can be no sandbox, and to "lost".

    `spare` is a descriptor that is in use, as are all below it, and none above it: so what is opened once it was closed
    is known to be `spare`, and what comes with a message to be those that follow. After "refused" it may be closed.
    """

    def __init__(self, table: call_table.CallTable, control: int, spare: int) -> None:
        self._table = table
        self._control = control
        self._spare = spare
        self._options = [table.put(bytes(_OPTIONS_BYTES)) for _ in view.DIRECTORIES]
        self._contents = [table.put(bytes(_CONTENT_BYTES)) for _ in view.FILES]
        self._places = _USES_OF_ID + len(view.FILES) + len(self._options) + len(self._contents)
        self._vector = table.put(bytes(2 * _WORD_BYTES * self._places))
        self._rights = table.put(bytes(_socket.CMSG_SPACE(4 * _MOST_DESCRIPTORS)))
        self._header = table.put(bytes(7 * _WORD_BYTES))  # struct msghdr
        self.answer = table.put(bytes(_WORD_BYTES))
        self._receive()
        self._move()
        self._show()
        self._raise_loopback()

    def expect(self, descriptors: int) -> int:
        """Plain requests come with that many; the first of them. Once the table is finished."""
        names = ("uid", *(_length_of(path) for path in view.FILES))
        places = [(address, _WORD_BYTES) for name in names for address in self._table.addresses(name)]
        places += [(address, _OPTIONS_BYTES) for address in self._options]
        places += [(address, _CONTENT_BYTES) for address in self._contents]
        assert len(places) == self._places, "a request has other words"
        self._table.write(self._vector, _words(*(word for place in places for word in place)))
        # The kernel writes over the size of what comes with a message; as long as that is the same, so is the size.
        room = _socket.CMSG_SPACE(4 * descriptors)
        self._table.write(self._header, _words(0, 0, self._vector, len(places), self._rights, room, 0))
        return self._spare + 1

    def _call(self, name: str, *arguments: int | str) -> None:
        self._table.call(name, *arguments, failed="refused")

    def _open(self, name: str, *arguments: int) -> None:
        self._table.call(name, *arguments, less=self._spare, more="refused", failed="refused")

    def _receive(self) -> None:
        table, look = self._table, _socket.MSG_PEEK | _socket.MSG_TRUNC
        table.label("serve")
        table.call("close_range", self._spare + 1, _LAST_DESCRIPTOR, 0, failed="lost")
        table.call("recvfrom", self._control, 0, 0, look, 0, 0, less=PLAIN_BYTES, more="other", failed="other")
        table.call("recvmsg", self._control, self._header, _socket.MSG_CMSG_CLOEXEC, failed="lost")

    def _move(self) -> None:
        self._call("unshare", namespaces.OF_SANDBOX | namespaces.CLONE_NEWNET)
        kind = self._table.text("tmpfs")
        for (target, flags), options in zip(view.DIRECTORIES, self._options, strict=True):
            self._call("mount", kind, self._table.text(target), kind, flags, options)

    def _show(self) -> None:
        """As in view.py."""
        source = self._table.text(view.SOURCE)
        self._call("close", self._spare)
        for path, content in zip(view.FILES, self._contents, strict=True):
            self._open("openat", _AT_FDCWD, source, view.FILE_FLAGS, view.FILE_MODE)
            self._call("write", self._spare, content, _length_of(path))
            self._call("close", self._spare)
            self._call("mount", source, self._table.text(path), 0, mounts.MS_BIND, 0)
            self._call("unlink", source)

    def _raise_loopback(self) -> None:
        command, interface = namespaces.RAISE_LOOPBACK
        self._open("socket", _socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)
        self._call("ioctl", self._spare, command, self._table.put(interface))
        self._call("dup3", 0, self._spare, os.O_CLOEXEC)  # in use again, by nothing

    def go_home(self, home: list[int]) -> None:
        """Steps from "zygote": back into the namespaces behind these descriptors, and then to "home", or, if "back" is
        aimed at it, to "answer"."""
        table = self._table
        table.label("zygote")
        for descriptor in home[:-1]:
            table.call("setns", descriptor, 0, failed="lost")
        table.label("back")
        table.call("setns", home[-1], 0, zero="home", failed="lost")
        table.label("answer")
        table.call("write", self._control, self.answer, _WORD_BYTES, zero="serve", more="serve", failed="lost")


def _length_of(path: str) -> str:
    return f"length of {path}"


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(_WORD_BYTES, "little") for value in values)
