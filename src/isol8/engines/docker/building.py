"""Building the images: a base with Python and the usual tools, one on top of it for each further runtime, and the name
that servers look for.

Each stands on the one before, so that the last holds all runtimes (a session may use several) and they share their
layers. A name carries the hash of all that went in: what is there already is not built again. The base is made from
Docker's `debian:bookworm-slim` where its registry can be reached, and from Debian's packages (mmdebstrap) where not.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aiodocker import Docker

from isol8.engines.docker import images, users
from isol8.engines.docker.client import DaemonFailure, translated
from isol8.errors import EngineFailure

# What is done next, how many steps are behind us, how many there are.
Tell = Callable[[str, int, int], None]
Say = Callable[[str], None]
Content = (
    bytes | Path | int
)  # of a file, a tree by its path, or a tree by its open directory, whose links are left alone

CONTENT_LABEL = "isol8.content"
_REGISTRY_IMAGE = "debian:bookworm-slim"
_SUITE = "bookworm"
_PACKAGES = (  # and what Debian calls essential
    *("bzip2", "ca-certificates", "curl", "media-types", "netbase", "procps", "python3", "tzdata"),
    *("unzip", "xz-utils", "zip"),
)
_REGISTRY_PATIENCE_S = 20.0
_LAST_LINES = 10
_PIECE_BYTES = 1 << 20
_OPT = "/opt/isol8"
# Without a directory /sandbox: runc gives what it mounts at one its mode, whatever was asked for. With /node_modules,
# over which packages can be mounted.
_TAIL = """\
COPY etc/ /etc/
WORKDIR /node_modules
WORKDIR /
ENV PATH={path} HOME=/sandbox LANG=C.UTF-8
"""
# In shell, with the root in $1. What a program has no use for is not there, or root's alone (apt in an image on top of
# this one needs it); and as the root of a container cannot be mounted nosuid, nothing in it has such a bit.
_TIDY = (
    'for name in boot home media mnt srv; do rm -rf "$1/$name"; done; '
    'for name in root var/backups var/cache var/lib var/log var/spool; do chmod 0700 "$1/$name"; done; '
    'find "$1/" -xdev -type f -perm /6000 -exec chmod a-s {} +'
)
_FROM_REGISTRY = f"""\
FROM {_REGISTRY_IMAGE}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
{" ".join(_PACKAGES)} && rm -rf /var/lib/apt/lists/* /var/cache/apt/* && {_TIDY.replace("$1", "")}
"""
_FROM_PACKAGES = "FROM scratch\nADD rootfs.tar /\n"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A runtime that is not part of the base: its directory on this machine, which becomes /opt/isol8/<name>."""

    version: str
    directory: str


def path_of(names: list[str]) -> str:
    """What programs find as PATH."""
    return ":".join([*(f"{_OPT}/{name}/bin" for name in names), "/usr/local/bin", "/usr/bin", "/bin"])


async def build(docker: Docker, prefixes: Mapping[str, Prefix], tell: Tell) -> None:
    """Build what is missing. `tell` hears of each step. Raises EngineFailure."""
    total = len(prefixes) + 2
    content = _hash(_FROM_REGISTRY, _TAIL, users.passwd(), path_of([]))
    top = f"isol8/base:{content}"
    if not await _exists(docker, top):
        await _build_base(docker, top, content, lambda what: tell(what, 0, total))
    for index, (name, prefix) in enumerate(prefixes.items()):
        content = _hash(content, name, prefix.version)
        below, top = top, f"isol8/{name}:{content}"
        if await _exists(docker, top):
            continue
        tell(f"building the image of {name} {prefix.version}", index + 1, total)
        path = path_of([*prefixes][: index + 1])
        text = f"FROM {below}\nCOPY prefix/ {_OPT}/{name}/\nENV PATH={path}\n"
        await build_image(docker, top, text, content, {"prefix": Path(prefix.directory)})
    tell(f"looking at what is in {top}", total - 1, total)
    tell(await _name(docker, top, content), total, total)


async def _name(docker: Docker, top: str, content: str) -> str:
    """Let servers find the last image, with what is in it. A sentence about that."""
    if await _content_of(docker, images.OWN_IMAGE) == content:
        return f"{images.OWN_IMAGE} is up to date"
    runtimes = await images.probe(docker, top, top)
    found = {name: [each.path, each.version, each.packages] for name, each in runtimes.items()}
    text = f"FROM {top}\nLABEL {images.RUNTIMES_LABEL}={json.dumps(json.dumps(found))}\n"
    await build_image(docker, images.OWN_IMAGE, text, content, {})
    versions = ", ".join(f"{name} {each.version}" for name, each in runtimes.items())
    return f"{images.OWN_IMAGE} is ready, with {versions}"


async def _exists(docker: Docker, tag: str) -> bool:
    return await _content_of(docker, tag) is not None


async def _content_of(docker: Docker, tag: str) -> str | None:
    """The hash of what went into an image; None when it is not there."""
    try:
        with translated(f"the image {tag} cannot be looked at"):
            described = await docker.images.inspect(tag)
    except DaemonFailure as error:
        if error.status != 404:
            raise
        return None
    return str(((described.get("Config") or {}).get("Labels") or {}).get(CONTENT_LABEL, ""))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


async def _build_base(docker: Docker, tag: str, content: str, say: Say) -> None:
    tail = _TAIL.format(path=path_of([]))
    files: dict[str, Content] = {
        "etc/passwd": users.passwd().encode(),
        "etc/group": users.group().encode(),
    }
    say(f"fetching {_REGISTRY_IMAGE}")
    try:
        await _pull(docker)
        say("building the base image from it")
        await build_image(docker, tag, _FROM_REGISTRY + tail, content, files)
    except DaemonFailure as error:
        say(f"that did not work ({error.message[:200]})")
        reason = error.message
    else:
        return
    with tempfile.TemporaryDirectory(prefix="isol8-") as scratch:
        say("building the base image from Debian's packages instead (about half a minute)")
        rootfs = Path(scratch, "rootfs.tar")
        await _debootstrap(rootfs, reason)
        await build_image(docker, tag, _FROM_PACKAGES + tail, content, {**files, "rootfs.tar": rootfs})


async def _pull(docker: Docker) -> None:
    """Fetch Docker's own image, unless its registry is silent for too long. Raises DaemonFailure."""
    with translated(f"{_REGISTRY_IMAGE} could not be fetched"):
        async with asyncio.timeout(_REGISTRY_PATIENCE_S) as patience:
            async for _ in docker.images.pull(_REGISTRY_IMAGE, stream=True):
                patience.reschedule(asyncio.get_running_loop().time() + _REGISTRY_PATIENCE_S)


async def _debootstrap(target: Path, reason: str) -> None:
    if not shutil.which("mmdebstrap"):
        raise EngineFailure(
            f"the base image cannot be built: {reason}; and mmdebstrap, which would build it from Debian's packages, "
            "is not there: apt-get install mmdebstrap"
        )
    process = await asyncio.create_subprocess_exec(
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(_PACKAGES)}",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        f"--customize-hook={_TIDY}",
        _SUITE,
        str(target),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode:
        last = "\n".join(said.decode(errors="replace").splitlines()[-_LAST_LINES:])
        raise EngineFailure(f"mmdebstrap failed:\n{last}")


async def build_image(docker: Docker, tag: str, dockerfile: str, content: str, files: Mapping[str, Content]) -> None:
    """Build one image. `files` is what the Dockerfile may copy. Raises DaemonFailure with the daemon's last line."""
    text = f"{dockerfile}LABEL {CONTENT_LABEL}={content}\n"
    with tempfile.TemporaryFile() as context:
        await asyncio.to_thread(_pack, context, {"Dockerfile": text.encode(), **files})
        context.seek(0)
        with translated(f"the image {tag} could not be built"):
            async for line in _lines(docker, context, tag):
                if "error" in line:
                    raise DaemonFailure(f"the image {tag} could not be built: {line['error']}")


async def _lines(docker: Docker, context: IO[bytes], tag: str) -> AsyncIterator[dict[str, str]]:
    async for line in docker.images.build(
        fileobj=_InLargePieces(context), encoding="identity", tag=tag, rm=True, forcerm=True, stream=True
    ):
        yield line


class _InLargePieces:
    """A file as aiodocker reads it: by itself it would ask for 8 KiB at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, _: int = -1, /) -> bytes:
        return self._file.read(_PIECE_BYTES)


def _pack(target: IO[bytes], files: Mapping[str, Content]) -> None:
    """A tar archive of root's files."""
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, source in files.items():
            if isinstance(source, Path):
                archive.add(source, name, filter=_as_root)
                continue
            if isinstance(source, int):
                _pack_tree(archive, name, source)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(source)
            archive.addfile(entry, io.BytesIO(source))


def _pack_tree(archive: tarfile.TarFile, top: str, directory: int) -> None:
    """Another process may change the tree meanwhile, so no name in it is followed out of it."""
    for path, directories, files, opened in os.fwalk(".", dir_fd=directory, follow_symlinks=False):
        archive.addfile(_entry(f"{top}/{path}", os.fstat(opened)))
        for name in (*directories, *files):
            entry = _entry(f"{top}/{path}/{name}", os.stat(name, dir_fd=opened, follow_symlinks=False))
            if entry.issym():
                entry.linkname = os.readlink(name, dir_fd=opened)
                archive.addfile(entry)
            elif entry.isreg():
                with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened), "rb") as file:
                    archive.addfile(entry, file)


def _entry(name: str, status: os.stat_result) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(os.path.normpath(name))
    kinds = {stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFREG: tarfile.REGTYPE}
    entry.type = kinds.get(stat.S_IFMT(status.st_mode), tarfile.CHRTYPE)
    entry.mode, entry.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    entry.size = status.st_size if entry.isreg() else 0
    return _as_root(entry)


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
