"""The machine's own settings for package indexes and certificates, read as pip and npm read them.

Read once, when the server starts, by the process that still may: files of the user who started it. The install itself
runs in a sandbox that sees none of these files, so what they say is passed on to it: addresses as arguments, the
certificates as one file, and indexes that are directories of this machine as read-only mounts.
"""

from __future__ import annotations

import configparser
import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from isol8.packages.defaults import Defaults, find_defaults

# Where Debian, Fedora, SUSE and Alpine keep the certificates that the machine trusts.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_MAX_FILE_BYTES = 4 << 20
MOUNT_DIR = "/run/packages"


@dataclass(frozen=True, slots=True)
class PythonIndex:
    """What uv is told. Addresses may be `https:`, `http:`, or `file:` in the sandbox. `index` is None where only others
    are used; `hosts` are those that the index is known to lead to."""

    index: str | None = None
    hosts: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()
    constraints: str = ""


@dataclass(frozen=True, slots=True)
class NpmIndex:
    """What npm and bun are told: the registry (None: npm is not installed) and those of scopes, `@scope` → address."""

    registry: str | None = None
    scopes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MachineIndex:
    """All of it. `certificates` is PEM text, empty for the installers' own; `complete`: those of all public authorities
    are among them, as far as this machine trusts them; `directories` are those of this machine to be mounted at
    MOUNT_DIR/<name>."""

    python: PythonIndex
    npm: NpmIndex
    certificates: bytes
    complete: bool
    directories: Mapping[str, str]


def without_credentials(index: MachineIndex) -> MachineIndex:
    """The same, with no name and password in any address: for builds in which foreign code may read them."""
    python, npm = index.python, index.npm
    return dataclasses.replace(
        index,
        python=dataclasses.replace(
            python,
            index=python.index and _open(python.index),
            extra=tuple(map(_open, python.extra)),
            links=tuple(map(_open, python.links)),
        ),
        npm=NpmIndex(npm.registry and _open(npm.registry), tuple((name, _open(text)) for name, text in npm.scopes)),
    )


def _open(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def read_machine_index(data_dir: str, environment: Mapping[str, str] | None = None) -> MachineIndex:
    """The settings of this machine and user. `environment` is the process's by default. Files that are not there or
    cannot be read count as empty. What is not set is what the installers use by themselves: see defaults.py."""
    variables = os.environ if environment is None else environment
    pip, npm = _pip_settings(variables), _npm_settings(variables)
    defaults = find_defaults(data_dir)
    directories: dict[str, str] = {}
    files = [variables.get(name, "") for name in _CERTIFICATES] + [pip.get("cert", ""), npm.get("cafile", "")]
    return MachineIndex(
        python=_python_index(pip, defaults, directories),
        npm=_npm_index(npm, defaults),
        certificates=_certificates(files),
        complete=any(map(os.path.exists, (*_BUNDLES, variables.get("SSL_CERT_FILE", "")))),
        directories=directories,
    )


def _pip_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """pip's (https://pip.pypa.io/en/stable/topics/configuration/). Later files win, and the environment over them."""
    settings: dict[str, str] = {}
    for path in _pip_files(variables):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(_read(path).decode())
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    for name, value in variables.items():
        if name.startswith("PIP_") and value:
            settings[name[4:].lower().replace("_", "-")] = value
    return settings


def _pip_files(variables: Mapping[str, str]) -> Iterator[str]:
    named = variables.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    home = variables.get("HOME", "/nonexistent")
    for directory in variables.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"):
        yield f"{directory}/pip/pip.conf"
    yield "/etc/pip.conf"
    yield f"{home}/.pip/pip.conf"
    yield f"{variables.get('XDG_CONFIG_HOME') or f'{home}/.config'}/pip/pip.conf"
    yield f"{sys.prefix}/pip.conf"
    if named:
        yield named


def _python_index(pip: Mapping[str, str], defaults: Defaults, directories: dict[str, str]) -> PythonIndex:
    no_index = pip.get("no-index", "0").lower() in ("1", "true", "yes", "on")
    index = None if no_index else pip.get("index-url", defaults.python_index)
    extra = [_address(text, directories, index=True) for text in pip.get("extra-index-url", "").split()]
    links = [_address(text, directories, index=False) for text in pip.get("find-links", "").split()]
    constraints = [_read(path) for path in pip.get("constraint", "").split()]
    return PythonIndex(
        index=_address(index, directories, index=True) if index else None,
        extra=tuple(text for text in extra if text),
        links=tuple(text for text in links if text),
        hosts=(defaults.python_files,) if index and index == defaults.python_index else (),
        no_index=no_index,
        trusted_hosts=tuple(pip.get("trusted-host", "").split()),
        constraints=b"\n".join(constraints).decode(errors="replace"),
    )


def _address(text: str, directories: dict[str, str], *, index: bool) -> str | None:
    """An address as the sandbox can use it; a directory of this machine becomes one that is mounted. None if it is not
    there. Pages of an index link to files beside it, so it is mounted together with the directory it is in."""
    parts = urlsplit(text)
    if parts.scheme in ("http", "https"):
        return text
    path = unquote(parts.path) if parts.scheme == "file" else text
    directory = os.path.realpath(path)
    above = os.path.dirname(directory) if index else directory
    if not os.path.isdir(directory) or above == "/":
        return None
    name = next((known for known, there in directories.items() if there == above), f"index-{len(directories)}")
    directories[name] = above
    rest = directory.removeprefix(above)
    return f"file://{MOUNT_DIR}/{name}{rest}" if index else f"{MOUNT_DIR}/{name}{rest}"


def _npm_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """npm's configuration: https://docs.npmjs.com/cli/configuring-npm/npmrc. The user's wins, the environment last."""
    settings: dict[str, str] = {}
    home = variables.get("HOME", "/nonexistent")
    for path in ("/usr/etc/npmrc", "/usr/local/etc/npmrc", "/etc/npmrc", f"{home}/.npmrc"):
        for line in _read(path).decode(errors="replace").splitlines():
            name, equals, value = line.partition("=")
            if equals and not name.lstrip().startswith(("#", ";")):
                settings[name.strip()] = _expanded(value.strip().strip("\"'"), variables)
    for name, value in variables.items():
        match = re.fullmatch(r"npm_config_(registry|cafile)", name, re.IGNORECASE)
        if match and value:
            settings[match[1].lower()] = value
    return settings


def _expanded(value: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match[1], ""), value)


def _npm_index(npm: Mapping[str, str], defaults: Defaults) -> NpmIndex:
    scopes = [
        (name.removesuffix(":registry"), value)
        for name, value in npm.items()
        if re.fullmatch(r"@[a-z0-9][a-z0-9._~-]*:registry", name) and value.startswith(("http://", "https://"))
    ]
    registry = npm.get("registry", defaults.npm_registry)
    return NpmIndex(registry if registry.startswith(("http://", "https://")) else None, tuple(sorted(scopes)))


def _certificates(configured: list[str]) -> bytes:
    """The machine's bundle and whatever else is configured, each once."""
    paths = [path for path in (next(filter(os.path.exists, _BUNDLES), ""), *configured) if path]
    contents = {os.path.realpath(path): _read(path) for path in paths}
    return b"\n".join(dict.fromkeys(content for content in contents.values() if b"BEGIN CERTIFICATE" in content))


def _read(path: str) -> bytes:
    try:
        with Path(path).expanduser().open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError:
        return b""
