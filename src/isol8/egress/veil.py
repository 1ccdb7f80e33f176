"""Secrets that are bound to hosts: put into requests, taken out of answers.

What is taken out is replaced by as many asterisks, so that no length changes. A host that is trusted with a secret may
still give it away in a form that nobody can foresee; what is looked for is what hosts that echo requests really send.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from isol8.model import BoundSecret

Fields = list[tuple[bytes, bytes]]

# Of a request with a secret: what would let the answer come in pieces, or in a form that cannot be looked through.
_UNWANTED = (b"accept-encoding", b"range", b"if-range", b"te")


class Veil:
    """The secrets of one host, for one request and its answer."""

    def __init__(self, secrets: Iterable[BoundSecret]) -> None:
        self._secrets = tuple(secrets)
        self._forms = {form for secret in self._secrets for form in _forms(secret.value.encode())}

    def put_in(self, fields: Fields) -> Fields:
        """The fields of a request, with the secrets in place of their placeholders."""
        kept = [(name, self._filled(name, value)) for name, value in fields if name.lower() not in _UNWANTED]
        return [*kept, (b"Accept-Encoding", b"identity")]

    def _filled(self, name: bytes, value: bytes) -> bytes:
        filled = self._replaced(value)
        scheme, _, credentials = value.partition(b" ")
        if name.lower() == b"authorization" and scheme.lower() == b"basic" and filled == value:
            try:
                plain = base64.b64decode(credentials.strip(), validate=True)
            except binascii.Error:
                return value
            encoded = base64.b64encode(self._replaced(plain))
            if self._replaced(plain) != plain:
                self._forms.add(encoded)
                return scheme + b" " + encoded
        return filled

    def _replaced(self, value: bytes) -> bytes:
        for secret in self._secrets:
            value = value.replace(secret.placeholder.encode(), secret.value.encode())
        return value

    def cover(self) -> Cover:
        """For the answer to the request that `put_in` was for."""
        return Cover(self._forms)


class Cover:
    """Takes secrets out of bytes that come in pieces. What may be the beginning of one is held back."""

    def __init__(self, forms: Iterable[bytes]) -> None:
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._forms)))
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be said by now."""
        data = self._pattern.sub(_asterisks, self._held + data)
        unsure = self._unsure_from(data)
        self._held = data[unsure:]
        return data[:unsure]

    def _unsure_from(self, data: bytes) -> int:
        """Where the longest end begins that could become a secret."""
        for start in range(max(0, len(data) - len(self._forms[0]) + 1), len(data)):
            end = data[start:]
            if any(len(form) > len(end) and form.startswith(end) for form in self._forms):
                return start
        return len(data)

    def finish(self) -> bytes:
        """The rest, now that nothing follows."""
        rest, self._held = self._held, b""
        return rest

    def whole(self, data: bytes) -> bytes:
        """Something that came in one piece."""
        return self._pattern.sub(_asterisks, data)


def _asterisks(match: re.Match[bytes]) -> bytes:
    return b"*" * len(match[0])


def _forms(value: bytes) -> set[bytes]:
    """The ways in which hosts write down what was in a header."""
    text = value.decode()
    in_json = json.dumps(text)[1:-1]
    forms = {text, in_json, in_json.replace("/", "\\/"), html.escape(text), html.escape(text, quote=False)}
    forms |= {quote(text, safe=""), quote(text), quote_plus(text)}
    return {form.encode() for form in forms} | {base64.b64encode(value)}
