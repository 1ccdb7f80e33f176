"""Getting back into step with a runner whose server was cut off, in the middle of a frame perhaps.

The next server sends RESUME, with a token that nobody else knows, and a number it has just made up. The runner looks
for the token in all that comes, and forgets what was before it; the server looks for its number, and ignores what was
before that. Neither can be in what a program or a caller sends: they would have had to guess 16 bytes.

Docker gives what the server before had sent to the runner by a way of its own, which may be slower: some of it may come
behind RESUME, and would be taken for a frame. So the next server, when it has its answer, says it once more.
"""

from __future__ import annotations

import time

from isol8.runner.frames import RESUME, RESUMED, encode

TOKEN_BYTES = 16
_LONGEST_WAIT_S = 86_400.0  # poll takes no more than 24 days


class Watch:
    """Looks for `mark` in a stream that comes in pieces, and takes the `more` bytes behind it."""

    def __init__(self, mark: bytes, more: int = 0) -> None:
        self._mark = mark
        self._size = len(mark) + more
        self._tail = b""

    def find(self, data: bytes) -> tuple[bytes, bytes] | None:
        """What is behind the mark, and the rest of `data`; None while it has not come. It may be asked again."""
        window = self._tail + data
        start = window.find(self._mark)
        end = start + self._size
        if start >= 0 and end <= len(window):
            self._tail = b""
            return window[start + len(self._mark) : end], window[end:]
        self._tail = window[start if start >= 0 else max(0, len(window) - self._size + 1) :]
        return None


class Keeping:
    """What makes a runner wait for another server when its own is gone, and no longer than `patience_s` after it last
    heard from one; 0 is for ever."""

    def __init__(self, token: bytes, patience_s: float) -> None:
        self._watch = Watch(encode(RESUME, 0, token + bytes(TOKEN_BYTES))[:-TOKEN_BYTES], TOKEN_BYTES)
        self._patience_s = patience_s
        self._heard = time.monotonic()

    def find(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Something has come: the new server's number and what follows, if it is a server that resumes."""
        self._heard = time.monotonic()
        return self._watch.find(data)

    def wait_ms(self) -> int | None:
        """How long to wait at most before asking again; 0: no longer. None: for ever."""
        if not self._patience_s:
            return None
        left_s = self._heard + self._patience_s - time.monotonic()
        return max(0, round(min(left_s, _LONGEST_WAIT_S) * 1000))


def resume(token: bytes, number: bytes) -> bytes:
    """What a server says that resumes."""
    return encode(RESUME, 0, token + number)


def resumed(number: bytes) -> bytes:
    """What the runner answers: from here on it is in step."""
    return encode(RESUMED, 0, number)
