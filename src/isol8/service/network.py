"""What a request may reach, and what its program is told about the way there."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from isol8.config import Config, InvalidConfig
from isol8.egress.hosts import InvalidHost, parse_authority
from isol8.egress.policy import PROXY_PORT, InvalidRule, available, compile_rule
from isol8.errors import Forbidden, InvalidRequest
from isol8.model import BoundSecret, EgressPolicy, HostRule, Network
from isol8.wire.request import ExecutionOptions, NetworkFilter

# Where a sandbox with bound secrets finds the authorities to trust: not in /sandbox, which holds the caller's files.
BUNDLE_PATH = "/tmp/.isol8-authorities.pem"
_HTTPS_PORT = 443
_MARGIN_MS = 300_000  # for what comes before and after the program: files, and waiting for the caller to read
_PROXY = f"http://127.0.0.1:{PROXY_PORT}"
_NO_PROXY = "localhost,127.0.0.1,::1"
_PROXY_ENVIRONMENT = {
    **{spelt: _PROXY for name in ("http_proxy", "https_proxy", "all_proxy") for spelt in (name, name.upper())},
    "no_proxy": _NO_PROXY,
    "NO_PROXY": _NO_PROXY,
    "NODE_USE_ENV_PROXY": "1",
    "PIP_PROXY": _PROXY,
    "npm_config_proxy": _PROXY,
    "npm_config_https_proxy": _PROXY,
    "npm_config_noproxy": _NO_PROXY,
}
_BUNDLE_NAMES = (
    "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "npm_config_cafile",
    "DENO_CERT", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """What a filtered network adds to a command: nothing, without one. `before` and `after` are environment that the
    request's own wins over, and that wins over it."""

    policy: EgressPolicy | None = None
    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)


def check_network(config: Config) -> None:
    """Raises InvalidConfig when this server is to let sandboxes have a filtered network, and cannot."""
    if Network.FILTERED not in config.policy.networks:
        return
    if not available():
        raise InvalidConfig('policy.networks has "filtered", which needs more packages: pip install "isol8[egress]"')
    rules = config.network
    for rule in (*_rules("network.whitelist", rules.whitelist), *_rules("network.blacklist", rules.blacklist)):
        try:
            compile_rule(rule.pattern)
        except InvalidRule as error:
            raise InvalidConfig(f"{rule.name} {error}") from None


def way_out(options: ExecutionOptions, config: Config, network: Network, timeout_ms: int) -> Way:
    """What a request's network adds to its command. Raises InvalidRequest, and Forbidden, which names the limit."""
    bound = {name: value for name, value in (options.secrets or {}).items() if not isinstance(value, str)}
    if network is not Network.FILTERED:
        if bound:
            raise InvalidRequest(
                f'options.secrets.{next(iter(bound))} has hosts, which needs options.network "filtered"'
            )
        if network is Network.HOST and options.network_filter:
            raise InvalidRequest('options.networkFilter needs options.network "filtered"')
        return Way()
    allow, deny = _lists(options.network_filter or NetworkFilter(), config)
    held = {name: _bind(name, value, hosts) for name, (value, hosts) in bound.items()}
    policy = EgressPolicy(
        allow=allow,
        deny=deny,
        ports=config.network.ports,
        ranges=config.network.allowed_ranges,
        max_connections=config.network.max_connections,
        max_bytes=config.network.max_bytes,
        max_ms=timeout_ms + config.policy.setup_timeout_ms + _MARGIN_MS,
        secrets=tuple(held.values()),
        log=bool(options.log_network),
    )
    bundle = dict.fromkeys(_BUNDLE_NAMES, BUNDLE_PATH) if held else {}
    return Way(policy, _PROXY_ENVIRONMENT | bundle, {name: secret.placeholder for name, secret in held.items()})


def _lists(asked: NetworkFilter, config: Config) -> tuple[tuple[tuple[HostRule, ...], ...], tuple[HostRule, ...]]:
    """The server's whitelist bounds the request's, and is what it gets that has none. Both blacklists hold."""
    own = _rules("options.networkFilter.whitelist", asked.whitelist or ())
    denied = _rules("options.networkFilter.blacklist", asked.blacklist or ())
    if len(own) + len(denied) > config.policy.max_network_rules:
        most = config.policy.max_network_rules
        raise Forbidden(
            f"options.networkFilter has more rules than this server's limit of {most} (policy.maxNetworkRules)"
        )
    for rule in (*own, *denied):
        try:
            compile_rule(rule.pattern)
        except InvalidRule as error:
            raise InvalidRequest(f"{rule.name} {error}") from None
    servers = _rules("network.whitelist", config.network.whitelist)
    allow = tuple(rules for rules in (servers, own) if rules)
    return allow, (*_rules("network.blacklist", config.network.blacklist), *denied)


def _rules(name: str, patterns: Iterable[str]) -> tuple[HostRule, ...]:
    return tuple(HostRule(f"{name}[{index}]", pattern) for index, pattern in enumerate(patterns))


def _bind(name: str, value: str, hosts: Iterable[str]) -> BoundSecret:
    found = []
    for index, host in enumerate(hosts):
        try:
            found.append(parse_authority(host, _HTTPS_PORT))
        except InvalidHost as error:
            raise InvalidRequest(f"options.secrets.{name}.hosts[{index}] {error}") from None
    return BoundSecret(placeholder=f"isol8-secret-{secrets.token_hex(16)}", value=value, hosts=tuple(found))


def plain_secrets(options: ExecutionOptions) -> dict[str, str]:
    """Those that the program gets."""
    return {name: value for name, value in (options.secrets or {}).items() if isinstance(value, str)}
