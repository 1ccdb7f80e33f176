"""What text from a caller may be as a path, a name or a piece of content. Each function raises ValueError, whose
message completes a sentence that begins with the field's name."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from typing import Any

from isol8.model import SANDBOX_DIR, WRITABLE_DIRS

_PATH_BYTES = 4095  # PATH_MAX without its NUL
_NAME_BYTES = 255  # NAME_MAX
_VARIABLE_BYTES = 131_072 - 2  # MAX_ARG_STRLEN, without `=` and NUL
NOT_BASE64 = "is not base64"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXTENSION = re.compile(r"\.?([A-Za-z0-9_-]{1,16}(?:\.[A-Za-z0-9_-]{1,16}){0,2})")
_HEADER_BYTES = 4000
_HEADER_VALUE = re.compile(rf"[\x21-\x7e][\x20-\x7e]{{6,{_HEADER_BYTES - 2}}}[\x21-\x7e]")
_MAX_HOSTS = 16
_SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def _absolute(text: str) -> str:
    """An absolute path without detours."""
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError('must not contain ".."')
    if len(text.encode()) > _PATH_BYTES or any(len(part.encode()) > _NAME_BYTES for part in parts):
        raise ValueError("is too long a path")
    return posixpath.join("/", *parts)


def writable_path(text: str) -> str:
    """The path of a file that a program could have written, normalised."""
    path = _absolute(text)
    if not any(path.startswith(f"{directory}/") for directory in WRITABLE_DIRS):
        raise ValueError(f"must be a path inside {' or '.join(WRITABLE_DIRS)}")
    return path


def working_directory(text: str) -> str:
    """/sandbox or a directory in it; a relative path counts from /sandbox."""
    path = _absolute(text if text.startswith("/") else f"{SANDBOX_DIR}/{text}")
    if path != SANDBOX_DIR and not path.startswith(f"{SANDBOX_DIR}/"):
        raise ValueError(f"must be inside {SANDBOX_DIR}")
    return path


def extension(text: str) -> str:
    """A file name's ending, with its dot."""
    match = _EXTENSION.fullmatch(text)
    if match is None:
        raise ValueError('must be a file name\'s ending like ".mjs"')
    return f".{match[1]}"


def session_id(text: str) -> str:
    """A session's name."""
    if _SESSION_ID.fullmatch(text) is None:
        raise ValueError("must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -")
    return text


def variables(values: dict[str, str]) -> dict[str, str]:
    """Environment variables that a process can be given."""
    _variables(values)
    return values


def secrets(values: dict[str, str | tuple[str, tuple[str, ...]]]) -> dict[str, str | tuple[str, tuple[str, ...]]]:
    """The same, some of them bound to hosts."""
    _variables({name: value if isinstance(value, str) else value[0] for name, value in values.items()})
    return values


def _variables(values: dict[str, str]) -> None:
    for name, value in values.items():
        if _VARIABLE.fullmatch(name) is None:
            raise ValueError("has a name that is not letters, digits and underscores")
        if "\0" in value:
            raise ValueError(f"has a NUL character in {name[:80]}")
        if len(name) + len(value.encode()) > _VARIABLE_BYTES:
            raise ValueError(f"has too long a value in {name[:80]}")


def secret(value: Any) -> str | tuple[str, tuple[str, ...]]:
    """An environment variable's value; or one that is bound to hosts, with their names."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or value.keys() != {"value", "hosts"}:
        raise ValueError("must be a string, or an object with value and hosts")
    content, hosts = value["value"], value["hosts"]
    if not isinstance(content, str) or _HEADER_VALUE.fullmatch(content) is None:
        raise ValueError(
            f"must have 8 to {_HEADER_BYTES} printable ASCII characters as its value, to be bound to hosts"
        )
    if not isinstance(hosts, list) or not 0 < len(hosts) <= _MAX_HOSTS or not all(type(host) is str for host in hosts):
        raise ValueError(f"must have a list of 1 to {_MAX_HOSTS} host names as its hosts")
    return content, tuple(hosts)


def base64_text(value: Any) -> bytes:
    """The bytes behind standard, padded base64."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return base64_bytes(value)


def base64_bytes(text: str | bytes) -> bytes:
    """The same, of text that is known to be some."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not even ASCII
        raise ValueError(NOT_BASE64) from None


def content(value: Any) -> bytes:
    """A file's bytes: text, `{"base64": …}`, or what Node makes of a Buffer."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):
        if value.keys() == {"base64"} and isinstance(value["base64"], str):
            return base64_text(value["base64"])
        if value.keys() == {"type", "data"} and value["type"] == "Buffer":
            return bytes_of(value["data"])
    raise ValueError('must be text, {"base64": "…"} or {"type": "Buffer", "data": […]}')


def bytes_of(data: Any) -> bytes:
    """The bytes that a list of numbers stands for."""
    if not isinstance(data, list) or not all(type(number) is int for number in data):
        raise ValueError("must have a list of numbers as its data")
    try:
        return bytes(data)
    except ValueError:
        raise ValueError("must have numbers from 0 to 255 as its data") from None
