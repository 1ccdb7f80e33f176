"""What a request may ask for here: its options over the server's defaults, under the server's ceilings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from isol8.config import Config, EngineName
from isol8.errors import Forbidden, InvalidRequest
from isol8.model import SANDBOX_DIR, Command, Limits, Network, SandboxSpec
from isol8.packages.requirements import KNOWN_RUNTIMES, InvalidRequirements, normal_form
from isol8.service.network import plain_secrets, way_out
from isol8.sizes import format_size
from isol8.wire.request import ExecuteBody, ExecutionOptions, ExecutionRequest

Amount = TypeVar("Amount", int, float)

_METADATA_BYTES = 16 * 1024
_SIZES = ("memoryLimit", "sandboxSize", "tmpSize", "maxOutputSize")
_NO_OPTIONS = ExecutionOptions()


def default_limits(config: Config) -> Limits:
    """The limits of a sandbox that nobody has asked to have others."""
    defaults, policy = config.defaults, config.policy
    return Limits(
        memory_bytes=min(defaults.memory_limit, policy.memory_limit),
        cpus=min(defaults.cpu_limit, policy.cpu_limit),
        pids=min(defaults.pids_limit, policy.pids_limit),
        sandbox_bytes=min(defaults.sandbox_size, policy.sandbox_size),
        tmp_bytes=min(defaults.tmp_size, policy.tmp_size),
    )


def to_command(body: ExecuteBody, config: Config, standing: SandboxSpec | None = None) -> Command:
    """The command a body asks for. `standing` is what its session has already, which counts as the default. What is
    at a `codeUrl` is not fetched: the source is empty then.

    Raises InvalidRequest, and Forbidden, which names the limit.
    """
    request, options = body.request, body.options or _NO_OPTIONS
    _check_features(request, options, config)
    network = _network(options, config, standing.network if standing else config.defaults.network)
    timeout_ms = _timeout_ms(request, options, config)
    way = way_out(options, config, network, timeout_ms)
    command = Command(
        runtime="bash" if request.cmd is not None else request.runtime or "",
        source=request.code or request.cmd or b"",
        limits=_limits(options, config, standing.limits if standing else default_limits(config)),
        network=network,
        image=options.image if options.image is not None else standing.image if standing else "",
        timeout_ms=timeout_ms,
        output_bytes=_output_bytes(options, config),
        extension=request.file_extension if request.cmd is None else None,
        env={**way.before, **(request.env or {}), **way.after},
        secrets=plain_secrets(options),
        egress=way.policy,
        stdin=request.stdin or b"",
        files=request.files or {},
        output_paths=tuple(dict.fromkeys(request.output_paths or ())),
        output_files_bytes=config.policy.max_output_files_size,
        workdir=request.workdir or options.workdir or SANDBOX_DIR,
        setup_script=request.setup_script or b"",
        packages=_packages(request, config),
        metadata=request.metadata or {},
        timings=bool(options.timings),
        warnings=_warnings(options, network),
    )
    _check_sizes(command, config)
    return command


def _limits(options: ExecutionOptions, config: Config, now: Limits) -> Limits:
    policy = config.policy
    return Limits(
        memory_bytes=_bounded("memoryLimit", options.memory_limit, now.memory_bytes, policy.memory_limit),
        cpus=_bounded("cpuLimit", options.cpu_limit, now.cpus, policy.cpu_limit),
        pids=_bounded("pidsLimit", options.pids_limit, now.pids, policy.pids_limit),
        sandbox_bytes=_bounded("sandboxSize", options.sandbox_size, now.sandbox_bytes, policy.sandbox_size),
        tmp_bytes=_bounded("tmpSize", options.tmp_size, now.tmp_bytes, policy.tmp_size),
    )


def _bounded(name: str, asked: Amount | None, default: Amount, ceiling: Amount) -> Amount:
    if asked is None:
        return min(default, ceiling)
    if asked > ceiling:
        most = format_size(int(ceiling)) if name in _SIZES else str(ceiling)
        raise Forbidden(f"{name} is above this server's limit of {most} (policy.{name})")
    return asked


def _timeout_ms(request: ExecutionRequest, options: ExecutionOptions, config: Config) -> int:
    asked = request.timeout_ms if request.timeout_ms is not None else options.timeout_ms
    return _bounded("timeoutMs", asked, config.defaults.timeout_ms, config.policy.timeout_ms)


def _output_bytes(options: ExecutionOptions, config: Config) -> int:
    default, ceiling = config.defaults.max_output_size, config.policy.max_output_size
    return _bounded("maxOutputSize", options.max_output_size, default, ceiling)


def _network(options: ExecutionOptions, config: Config, default: Network) -> Network:
    network = options.network or default
    if network not in config.policy.networks:
        raise Forbidden(f'options.network "{network}" is not among what this server allows (policy.networks)')
    return network


def _packages(request: ExecutionRequest, config: Config) -> tuple[str, ...]:
    if not request.install_packages:
        return ()
    if not config.policy.packages:
        raise Forbidden("request.installPackages is not allowed on this server (policy.packages)")
    if len(request.install_packages) > config.policy.max_packages:
        most = config.policy.max_packages
        raise Forbidden(f"These are more packages than this server's limit of {most} (policy.maxPackages)")
    runtime = "bash" if request.cmd is not None else request.runtime
    if runtime not in KNOWN_RUNTIMES:
        return ()  # which is what the request is refused for
    try:
        return normal_form(runtime, request.install_packages)
    except InvalidRequirements as error:
        raise InvalidRequest(f"request.installPackages{error}") from None


def _warnings(options: ExecutionOptions, network: Network) -> tuple[str, ...]:
    names = options.without_effect()
    if network is not Network.FILTERED:
        asked = options.network_filter
        filtered = asked is not None and (asked.whitelist or asked.blacklist)
        names += [name for name, given in (("logNetwork", options.log_network), ("networkFilter", filtered)) if given]
    return tuple(f"options.{name} has no effect" for name in names)


def _check_features(request: ExecutionRequest, options: ExecutionOptions, config: Config) -> None:
    if request.code_url is not None and not config.policy.code_url:
        raise InvalidRequest("request.codeUrl is off on this server; policy.codeUrl in its configuration turns it on")
    if options.image is not None:
        _check_image(options.image, config)
    if options.security is not None:
        raise Forbidden("options.security is not allowed by this server's policy")
    if options.readonly_root_fs is False:
        raise Forbidden("options.readonlyRootFs is always true on this server")


def _check_image(image: str, config: Config) -> None:
    if config.engine is not EngineName.DOCKER:
        raise Forbidden("options.image is not allowed: this server's engine has no images")
    if image not in config.policy.images:
        raise Forbidden("options.image is not among what this server allows (policy.images)")


def _check_sizes(command: Command, config: Config) -> None:
    """What is not a limit of the sandbox but of what the server is ready to carry."""
    policy = config.policy
    for name, size, ceiling, rule in (
        ("The program", max(len(command.source), len(command.setup_script)), policy.max_code_size, "maxCodeSize"),
        ("request.stdin", len(command.stdin), policy.max_stdin_size, "maxStdinSize"),
        ("The environment", _size(command.env) + _size(command.secrets), policy.max_env_size, "maxEnvSize"),
    ):
        if size > ceiling:
            raise Forbidden(f"{name} is larger than this server's limit of {format_size(ceiling)} (policy.{rule})")
    if _size(command.metadata) > _METADATA_BYTES:
        raise Forbidden(f"request.metadata is larger than {format_size(_METADATA_BYTES)}")
    paths = [*command.files, *command.output_paths]
    if len(paths) > policy.max_files:
        raise Forbidden(f"These are more files than this server's limit of {policy.max_files} (policy.maxFiles)")
    if any(len(path.encode()) > policy.max_path_length for path in paths):
        raise Forbidden(f"A path is longer than {policy.max_path_length} bytes (policy.maxPathLength)")


def _size(values: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(value.encode()) for name, value in values.items())
