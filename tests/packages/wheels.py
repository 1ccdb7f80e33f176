"""Python packages made on the spot, well-behaved or not, and npm's."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

_DIST = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n{}"
_WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel_name(name: str, version: str = "1.0") -> str:
    return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


def wheel(name: str, files: Mapping[str, bytes | str], version: str = "1.0", requires: tuple[str, ...] = ()) -> bytes:
    """A wheel with these files. Paths are taken as they are, however they look."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {need}\n" for need in requires)
    contents = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
    contents |= {f"{info}/METADATA": _DIST.format(name, version, needs).encode(), f"{info}/WHEEL": _WHEEL.encode()}
    record = ""
    for path, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
    return packed.getvalue()


def huge_wheel(name: str, size: int, version: str = "1.0") -> bytes:
    """A small wheel with one file of `size` zeros in it, which nobody gets to the end of."""
    step = 64 << 20
    packer = zlib.compressobj(9, wbits=-15)
    first = packer.compress(bytes(step)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = first * (size // step) + zlib.compressobj(9, wbits=-15).flush()
    path = f"{name}/zeros.bin".encode()
    sizes = struct.pack("<HHQQ", 1, 16, size, len(body))
    head = struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 33, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(path), len(sizes))
    member = b"PK\x03\x04" + head + path + sizes + body
    small = wheel(name, {f"{name}/__init__.py": ""}, version)
    end = small.rindex(b"PK\x05\x06")
    count, length, offset = struct.unpack("<HII", small[end + 10 : end + 20])
    entry = (
        b"PK\x01\x02"
        + struct.pack("<H", 45)
        + head
        + struct.pack("<HHHII", 0, 0, 0, 0o644 << 16, offset)
        + path
        + sizes
    )
    directory = small[offset : offset + length] + entry
    tail = struct.pack("<HHHHIIH", 0, 0, count + 1, count + 1, len(directory), offset + len(member), 0)
    return small[:offset] + member + directory + b"PK\x05\x06" + tail


def sdist(name: str, backend: str, version: str = "1.0") -> bytes:
    """A source package that is its own build back end, whose text is `backend`. It needs nothing from an index."""
    project = (
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
    )
    top = f"{name.replace('-', '_')}-{version}"
    return _tar(
        {
            f"{top}/pyproject.toml": project,
            f"{top}/backend.py": backend,
            f"{top}/PKG-INFO": _DIST.format(name, version, ""),
        }
    )


def npm_package(name: str, files: Mapping[str, str], version: str = "1.0.0", **more: object) -> bytes:
    """A package as npm's registry has it."""
    manifest = json.dumps({"name": name, "version": version, "main": "index.js", **more})
    return _tar({"package/package.json": manifest} | {f"package/{path}": text for path, text in files.items()})


def _tar(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in files.items():
            content = text.encode()
            member = tarfile.TarInfo(path)
            member.size = len(content)
            member.mode = 0o755
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
