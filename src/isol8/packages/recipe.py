"""How each runtime installs a set of packages, in a build sandbox.

Everything is an argument list: no text of a caller's reaches a shell, and what callers wrote stands behind `--`. The
installer gets an environment of its own. Its caches end with the build, which could leave something there for another;
what is kept from one to the next is the proxy's to know (egress/fetch.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from isol8.egress.policy import PROXY_PORT
from isol8.errors import InvalidRequest
from isol8.model import Mount
from isol8.packages.index import MOUNT_DIR, MachineIndex, NpmIndex, PythonIndex
from isol8.packages.requirements import name_of

CERTIFICATES = "/tmp/certificates.pem"  # whom programs in a build trust
_CONSTRAINTS = "/tmp/constraints.txt"
_NPMRC = "/sandbox/.npmrc"
_TOP = "/sandbox/layer"
_SCRATCH = "/sandbox/scratch"
_NPM = "lib/node_modules/npm/bin/npm-cli.js"  # below the directory that node's `bin` is in
_DOWNLOADS = "20"  # at once: each is a connection, and one to each host stays open (reach.py)
_PROXY = f"http://127.0.0.1:{PROXY_PORT}"
# By these names programs are told whom to trust: installers, and what scripts of packages may use.
_CERTIFICATE_NAMES = (
    "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO",
    "DENO_CERT",
)  # fmt: skip
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
UV = "uv"  # the name under which the engine shows uv's prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a build sandbox is to do. `files` are put into it first; `tree` is what becomes the layer."""

    python: str  # the executable that carries it out
    steps: tuple[tuple[str, ...], ...]
    env: Mapping[str, str]
    tree: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    names: tuple[str, ...] = ()  # Python packages whose modules are wanted
    addresses: tuple[str, ...] = ()  # of the indexes: their hosts and ports are all that a build may reach
    hosts: tuple[str, ...] = ()  # and these, on the usual port
    certificates: str = ""  # that may show who the hosts are, as PEM; empty if only the installer has all of them
    unchecked: tuple[str, ...] = ()  # hosts whose certificates nobody looks at


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What recipes need to know. `executables` are those of the installed runtimes, in a sandbox; `scripts` whether
    packages may run code of their own while they are installed; `hosts` what builds may reach besides the indexes."""

    index: MachineIndex
    executables: Mapping[str, str]
    scripts: bool
    hosts: tuple[str, ...] = ()


def order_for(runtime: str, requirements: tuple[str, ...], kitchen: Kitchen) -> Order:
    """The order that installs a set of requirements, in normal form, for a runtime. Raises InvalidRequest when what it
    takes is not on this machine."""
    tool = _TOOLS[runtime]
    if tool not in kitchen.executables:
        raise InvalidRequest(f"request.installPackages needs {tool}; install it with: isol8 setup --runtime {tool}")
    return _RECIPES[runtime](requirements, kitchen)


def _environment(index: MachineIndex, more: Mapping[str, str]) -> dict[str, str]:
    own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/sandbox", "LANG": "C.UTF-8", "TMPDIR": _SCRATCH}
    own |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _PROXY)
    if index.certificates:
        own |= dict.fromkeys(_CERTIFICATE_NAMES, CERTIFICATES)
    return {**own, **more}


def _certificate_files(index: MachineIndex) -> dict[str, bytes]:
    return {CERTIFICATES: index.certificates} if index.certificates else {}


def _known(index: MachineIndex) -> str:
    """As Order.certificates."""
    found = _CERTIFICATE.findall(index.certificates) if index.complete else []
    return b"\n".join(found).decode("ascii")


def _python(requirements: tuple[str, ...], kitchen: Kitchen) -> Order:
    index = kitchen.index
    uv = f"{MOUNT_DIR}/{UV}/bin/uv"
    arguments = [uv, "pip", "install", "--python", kitchen.executables["python"], "--target", _TOP]
    arguments += ["--no-config", "--no-python-downloads", "--color", "never", "--no-progress", "--compile-bytecode"]
    if not kitchen.scripts:
        arguments.append("--no-build")
    files = _certificate_files(index)
    if index.python.constraints:
        files[_CONSTRAINTS] = index.python.constraints.encode()
        arguments += ["--constraint", _CONSTRAINTS]
    # The compiled files need no look at the source's time, which a layer does not keep.
    env = {"UV_CACHE_DIR": f"{_SCRATCH}/uv", "PYC_INVALIDATION_MODE": "UNCHECKED_HASH"}
    env["UV_CONCURRENT_DOWNLOADS"] = _DOWNLOADS
    return Order(
        python=kitchen.executables["python"],
        steps=((*arguments, *_python_index(index.python), "--", *requirements),),
        env=_environment(index, env),
        tree=_TOP,
        files=files,
        mounts=tuple(Mount(name=name, target=f"{MOUNT_DIR}/{name}") for name in (UV, *index.directories)),
        names=tuple(name_of(requirement) for requirement in requirements),
        addresses=tuple(
            address for address in (index.python.index, *index.python.extra, *index.python.links) if address
        ),
        hosts=(*index.python.hosts, *kitchen.hosts),
        certificates=_known(index),
        unchecked=index.python.trusted_hosts,
    )


def _python_index(index: PythonIndex) -> list[str]:
    """pip's settings as uv's. pip takes the best of all indexes; uv would take the first that has the package."""
    arguments = ["--index-strategy", "unsafe-best-match"] if index.extra else []
    arguments += ["--default-index", index.index] if index.index else []
    for address in index.extra:
        arguments += ["--index", address]
    for address in index.links:
        arguments += ["--find-links", address]
    for host in index.trusted_hosts:
        arguments += ["--allow-insecure-host", host]
    return [*arguments, "--no-index"] if index.no_index else arguments


def _npm_settings(index: NpmIndex) -> bytes:
    lines = [f"registry={index.registry}"] if index.registry else []
    lines += [f"{scope}:registry={address}" for scope, address in index.scopes]
    return "".join(f"{line}\n" for line in lines).encode()


def _node(requirements: tuple[str, ...], kitchen: Kitchen) -> Order:
    node = kitchen.executables["node"]
    npm = os.path.join(os.path.dirname(os.path.dirname(node)), _NPM)
    arguments = [node, npm, "install", "--prefix", _TOP, "--cache", f"{_SCRATCH}/npm"]
    arguments += ["--no-audit", "--no-fund", "--no-update-notifier", "--no-progress", "--no-package-lock"]
    arguments += ["--logs-max=0"]
    if not kitchen.scripts:
        arguments.append("--ignore-scripts")
    return _npm_order(arguments, requirements, kitchen)


def _bun(requirements: tuple[str, ...], kitchen: Kitchen) -> Order:
    arguments = [kitchen.executables["bun"], "add", "--cwd", _TOP, "--no-progress", "--no-summary", "--no-cache"]
    if not kitchen.scripts:
        arguments.append("--ignore-scripts")
    return _npm_order(arguments, requirements, kitchen)


def _npm_order(arguments: list[str], requirements: tuple[str, ...], kitchen: Kitchen) -> Order:
    env = {"BUN_INSTALL_CACHE_DIR": f"{_SCRATCH}/bun", "DO_NOT_TRACK": "1"}
    node = kitchen.executables.get("node", "/usr/bin/node").rpartition("/")[0]
    env["PATH"] = f"{node}:/usr/local/bin:/usr/bin:/bin"
    return Order(
        python=kitchen.executables["python"],
        steps=((*arguments, "--", *requirements),),
        env=_environment(kitchen.index, env),
        tree=f"{_TOP}/node_modules",
        files=_certificate_files(kitchen.index) | {_NPMRC: _npm_settings(kitchen.index.npm)},
        addresses=tuple(
            address for address in (kitchen.index.npm.registry, *dict(kitchen.index.npm.scopes).values()) if address
        ),
        hosts=kitchen.hosts,
        certificates=_known(kitchen.index),
    )


# What each one needs besides its own runtime.
_TOOLS: Mapping[str, str] = {"python": UV, "node": "node", "bun": "bun", "deno": "node"}
_RECIPES: Mapping[str, Callable[[tuple[str, ...], Kitchen], Order]] = {
    "python": _python,
    "node": _node,
    "bun": _bun,
    "deno": _node,  # from the same registry, and found in the same place
}
