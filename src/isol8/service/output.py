"""From the bytes a program writes to the text a caller gets: capped, decoded, secrets masked.

All three work on pieces as they come and give, in all, what they would give for the whole: a character or a secret
that is split over two writes is not seen in halves. What might be the beginning of a secret is held back until it is
known.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

MASK = "***"
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Mask:
    """Replaces secrets in a text that comes in pieces. Of two that begin alike the longer one is taken."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """`secrets` must not be empty, nor any of them."""
        self._secrets = sorted(set(secrets), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._secrets)))
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be said by now."""
        text = self._held + text
        pieces: list[str] = []
        position = 0
        while True:
            match = self._pattern.search(text, position)
            unsure = self._unsure_from(text, position)
            if match is None or match.start() >= unsure:
                self._held = text[unsure:]
                return "".join((*pieces, text[position:unsure]))
            pieces += (text[position : match.start()], MASK)
            position = match.end()

    def _unsure_from(self, text: str, position: int) -> int:
        """Where the text's longest end begins that is the beginning of a secret, and could become one."""
        longest = len(self._secrets[0])
        for start in range(max(position, len(text) - longest + 1), len(text)):
            end = text[start:]
            if any(len(secret) > len(end) and secret.startswith(end) for secret in self._secrets):
                return start
        return len(text)

    def finish(self) -> str:
        """The rest, now that nothing follows."""
        rest, self._held = self._held, ""
        return self._pattern.sub(MASK, rest)


class OutputFilter:
    """One stream of one execution. `limit_bytes` is how much of what is written is kept."""

    def __init__(self, limit_bytes: int, secrets: Iterable[str] = ()) -> None:
        self.truncated = False
        self.at_line_start = True  # whether the text given out so far is empty or ends with a newline
        self._left = limit_bytes
        self._decoder = _Utf8Decoder(errors="replace")
        values = [secret for secret in secrets if secret]
        self._mask = Mask(values) if values else None

    def feed(self, data: bytes) -> str:
        """The text that `data` adds; may be empty."""
        if len(data) > self._left:
            self.truncated = True
            data = data[: self._left]
        self._left -= len(data)
        text = self._decoder.decode(data)
        return self._given(self._mask.feed(text) if self._mask else text)

    def finish(self) -> str:
        """What was held back. After a cut nothing is: half a character means nothing, and half a secret too much."""
        if self.truncated:
            return ""
        text = self._decoder.decode(b"", final=True)
        return self._given(self._mask.feed(text) + self._mask.finish() if self._mask else text)

    def _given(self, text: str) -> str:
        if text:
            self.at_line_start = text[-1] == "\n"
        return text
