"""The configuration: one frozen tree, from a file and the environment.

The file is the one that is named, else `isol8.config.json` in the working directory, else `~/.isol8/config.json`, else
none. Its keys are camelCase. The environment wins over it: every key has a variable, which is `ISOL8_` and the path to
the key in capitals, with underscores between words.

    maxConcurrent              ISOL8_MAX_CONCURRENT=32
    defaults.timeoutMs         ISOL8_DEFAULTS_TIMEOUT_MS=5000
    policy.networks            ISOL8_POLICY_NETWORKS=none,host          lists are separated by commas
    apiKeys                    ISOL8_API_KEYS=one,two, or ISOL8_API_KEY=one

A variable that is set but empty counts as absent. A key or a variable that does not exist is an error that names the
nearest one that does: a misspelt limit must not silently mean no limit.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from isol8.errors import Isol8Error
from isol8.model import Network
from isol8.sizes import parse_size
from isol8.wire.request import Milliseconds, Pattern, Size
from isol8.wire.strict import Strict, explain, model_in

_FILE = "isol8.config.json"
_HOME_FILE = "~/.isol8/config.json"
_PREFIX = "ISOL8_"
_TEMPLATES_FILE = "templates.json"

Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(gt=0)]
Key = Annotated[str, Field(min_length=1)]
_M = 1 << 20
_G = 1 << 30


class InvalidConfig(Isol8Error):
    """The configuration cannot be used; the message names the key or the variable."""


class Defaults(Strict):
    """What a request gets that does not ask for anything else; never more than the policy allows."""

    timeout_ms: Milliseconds = 30_000
    memory_limit: Size = 512 * _M
    cpu_limit: Annotated[float, Field(gt=0)] = 1.0
    network: Network = Network.NONE
    sandbox_size: Size = 512 * _M
    tmp_size: Size = 256 * _M
    pids_limit: PositiveCount = 64
    max_output_size: Size = 1 * _M


def _size_or_none(value: object) -> int:
    """As Size; 0 stands for nothing."""
    return 0 if value in (0, "0") else parse_size(value)


def _range(text: str) -> str:
    """Addresses, as CIDR has them."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"is not a range of addresses: {error}") from None


class NetworkRules(Strict):
    """What sandboxes with a filtered network may reach. A whitelist bounds what requests may allow themselves, and is
    what those get that allow nothing; without one, each request says what it needs."""

    whitelist: tuple[Pattern, ...] = ()
    blacklist: tuple[Pattern, ...] = ()
    ports: tuple[Annotated[int, Field(gt=0, le=65535)], ...] = (80, 443)
    allowed_ranges: tuple[Annotated[str, AfterValidator(_range)], ...] = ()  # reachable although not public
    max_connections: PositiveCount = 64  # at once, of one sandbox
    max_bytes: Size = 1024 * _M  # of one execution, both ways


class Cleanup(Strict):
    """When idle sessions end."""

    auto_prune: bool = True
    max_container_age_ms: Milliseconds = 3_600_000


class PoolSizes(Strict):
    """How many warm sandboxes wait, for each runtime."""

    python: Count = 8
    node: Count = 2
    bash: Count = 4
    bun: Count = 2
    deno: Count = 2


class EngineName(StrEnum):
    """What makes the sandboxes."""

    NATIVE = "native"
    DOCKER = "docker"
    GVISOR = "gvisor"


class Docker(Strict):
    """For the Docker engine: where the daemon is (empty: as for Docker's own command line), the OCI runtime it should
    use (empty: its default) and the image that sandboxes are made from (empty: the one that `isol8 setup` has
    built)."""

    host: str = ""
    context: str = ""
    runtime: str = ""
    image: str = ""


class Gvisor(Strict):
    """For the gVisor engine: the program, and how it comes between a program and the machine's kernel. `ptrace` works
    everywhere; `systrap` and `kvm` are faster, where runsc and the machine have them."""

    runsc: str = "runsc"
    platform: str = "ptrace"


class Isolation(StrEnum):
    """What to do when the machine cannot enforce an isolation layer. `strict`: not start. `relaxed`: go without it,
    where sandboxes can be made without it, and say so at every start."""

    STRICT = "strict"
    RELAXED = "relaxed"


class Policy(Strict):
    """The most that any request may ask for. Beyond it is a 403 that names the limit."""

    timeout_ms: Milliseconds = 600_000
    setup_timeout_ms: Milliseconds = 120_000  # of a request's set-up script; never part of its timeoutMs
    memory_limit: Size = 4096 * _M
    cpu_limit: Annotated[float, Field(gt=0)] = 4.0
    pids_limit: PositiveCount = 1024
    sandbox_size: Size = 2048 * _M
    tmp_size: Size = 2048 * _M
    max_output_size: Size = 64 * _M
    networks: tuple[Network, ...] = (Network.NONE,)
    images: tuple[str, ...] = ()  # what options.image may name, where the engine has images
    max_network_rules: PositiveCount = 100  # of one request's whitelist and blacklist
    isolation: Isolation = Isolation.STRICT
    requests_per_minute: Count = 0  # for each key; 0 is no limit
    max_sessions_per_key: PositiveCount = 100
    max_body_size: Size = 256 * _M
    max_code_size: Size = 16 * _M
    max_files: PositiveCount = 1000
    max_path_length: PositiveCount = 1024
    max_env_size: Size = 1 * _M
    max_stdin_size: Size = 64 * _M
    max_output_files_size: Size = 4096 * _M  # of all output files of an execution together
    max_connections: PositiveCount = 2048
    max_connections_per_address: Count = 1024  # 0 is no bound of its own, as behind a proxy
    # A client that sends a body, or has an answer to read, moves at least `min_transfer_rate` bytes per second, looked
    # at each `transfer_grace_ms`; one that does less is cut off.
    min_transfer_rate: Size = 1024
    transfer_grace_ms: Milliseconds = 30_000
    code_url: bool = False
    packages: bool = True
    max_packages: PositiveCount = 50  # of one request
    package_scripts: bool = False  # whether packages may run code of their own while they are installed


class Packages(Strict):
    """What installing packages may take: each build, each layer, and all layers together."""

    store_size: Size = 10 * _G
    downloads_size: Annotated[int, BeforeValidator(_size_or_none)] = 2 * _G  # of files that are kept; 0 keeps none
    layer_size: Size = 2 * _G
    layer_files: PositiveCount = 100_000
    builds: PositiveCount = 2  # at once
    build_timeout_ms: Milliseconds = 300_000
    build_memory: Size = 3 * _G
    build_cpus: Annotated[float, Field(gt=0)] = 2.0
    build_pids: PositiveCount = 256
    hosts: tuple[str, ...] = ()  # that builds may reach besides the indexes, with https
    demanded_templates: Count = 4  # that layers in demand become by themselves


class Template(Strict):
    """A set of packages that is kept ready: their layer, and `pool` sandboxes with it, in which the modules of
    `preimport` are imported already."""

    runtime: str
    packages: Annotated[tuple[str, ...], Field(min_length=1)]
    preimport: tuple[str, ...] = ()
    pool: Count = 2


class Config(Strict):
    """Everything that can be set. `load_config` makes it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3000
    api_keys: tuple[Key, ...] = ()
    engine: EngineName = EngineName.NATIVE
    docker: Docker = Docker()
    gvisor: Gvisor = Gvisor()
    data_dir: Annotated[str, AfterValidator(os.path.expanduser)] = Field("~/.isol8", validate_default=True)
    max_concurrent: PositiveCount = 64
    max_queue: Count = 1000
    defaults: Defaults = Defaults()
    network: NetworkRules = NetworkRules()
    cleanup: Cleanup = Cleanup()
    pool: PoolSizes = PoolSizes()
    packages: Packages = Packages()
    templates: dict[str, Template] = Field(default_factory=dict)
    policy: Policy = Policy()

    @model_validator(mode="after")
    def _defaults_are_allowed(self) -> Config:
        """A default that was set must be possible. One that was not is lowered to the policy where it is used."""
        for name in self.defaults.model_fields_set - {"network"}:
            if getattr(self.defaults, name) > getattr(self.policy, name):
                alias = Defaults.model_fields[name].alias
                raise ValueError(f"has a defaults.{alias} above policy.{alias}")
        if self.defaults.network not in self.policy.networks:
            raise ValueError("has a defaults.network that is not among policy.networks")
        return self


def saved_templates(data_dir: str) -> dict[str, Template]:
    """The templates that `isol8 setup` has made, by name. Raises InvalidConfig."""
    source = Path(data_dir) / _TEMPLATES_FILE
    if not source.exists():
        return {}
    try:
        return {name: Template.model_validate_json(json.dumps(tree)) for name, tree in _read(source).items()}
    except ValidationError as error:
        raise InvalidConfig(f"{source}: {explain(error, Template, 'A template')}") from None


def save_template(data_dir: str, name: str, template: Template) -> None:
    """Have every server with this data directory keep a template ready. Raises InvalidConfig."""
    trees = {known: saved.model_dump(by_alias=True) for known, saved in saved_templates(data_dir).items()}
    target = Path(data_dir) / _TEMPLATES_FILE
    fresh = target.with_suffix(".new")
    try:
        fresh.write_text(json.dumps(trees | {name: template.model_dump(by_alias=True)}, indent=2))
        fresh.replace(target)
    except OSError as error:
        raise InvalidConfig(f"{target} cannot be written: {error.strerror}") from error


def load_config(path: str | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration from the file at `path` (or the usual places) and `environment` (or the process's).

    Raises InvalidConfig.
    """
    source = _find(path)
    tree = _read(source) if source else {}
    for name, value in (os.environ if environment is None else environment).items():
        if name.startswith(_PREFIX) and value:
            _put(tree, name, value)
    return _validate(tree, str(source) if source else "The configuration")


def config_of(tree: Mapping[str, Any]) -> Config:
    """The configuration that a file with these keys would make, and nothing else. Raises InvalidConfig."""
    return _validate(dict(tree), "The settings")


def with_engine(config: Config, name: str | None) -> Config:
    """The configuration with the engine that a command line names, if it names one."""
    return config.model_copy(update={"engine": EngineName(name)}) if name else config


def _find(path: str | None) -> Path | None:
    if path is not None:
        return Path(path)
    candidates = (Path(_FILE), Path(_HOME_FILE).expanduser())
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _read(source: Path) -> dict[str, Any]:
    try:
        tree = json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfig(f"{source} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidConfig(f"{source} is not valid JSON: {error}") from error
    if not isinstance(tree, dict):
        raise InvalidConfig(f"{source} must hold a JSON object")
    return tree


def _validate(tree: dict[str, Any], name: str) -> Config:
    """JSON is what pydantic checks strictly and still takes a list for a tuple, and a name for a Network."""
    try:
        return Config.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        sentence = explain(error, Config, name)
        raise InvalidConfig(sentence if sentence.startswith(name) else f"{name}: {sentence}") from None


def _put(tree: dict[str, Any], variable: str, text: str) -> None:
    """Set what an environment variable names. Raises InvalidConfig when it names nothing."""
    if variable == f"{_PREFIX}API_KEY":
        tree["apiKeys"] = [text]
        return
    known = _variables(Config)
    if variable not in known:
        near = difflib.get_close_matches(variable, [*known, f"{_PREFIX}API_KEY"], n=1)
        raise InvalidConfig(f"Unknown environment variable {variable}" + (f"; did you mean {near[0]}?" if near else ""))
    (*parents, leaf), annotation = known[variable]
    for parent in parents:
        inner: Any = tree.setdefault(parent, {})
        if not isinstance(inner, dict):
            return  # the file has something else there, which validation reports
        tree = inner
    tree[leaf] = _value(text, annotation)


def _variables(model: type[Strict], parents: tuple[str, ...] = ()) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Every environment variable: the path of its key, and the type of its value."""
    found: dict[str, tuple[tuple[str, ...], Any]] = {}
    for name, field in model.model_fields.items():
        path = (*parents, field.alias or name)
        inner = model_in(field.annotation)
        if inner:
            found |= _variables(inner, path)
        else:
            words = (re.sub(r"([A-Z])", r"_\1", part).upper() for part in path)
            found[_PREFIX + "_".join(words)] = (path, field.annotation)
    return found


def _value(text: str, annotation: Any) -> Any:
    """Text as JSON would have it. What does not fit stays text, which validation reports."""
    if get_origin(annotation) is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        numbers = get_origin(inner := get_args(annotation)[0]) is Annotated and get_args(inner)[0] is int
        return [_value(part, int) for part in parts] if numbers else parts
    if annotation in (int, float, bool):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
