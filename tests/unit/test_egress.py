"""Judging hosts and addresses, and reading what says which host is meant."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isol8.config import Config, InvalidConfig, load_config
from isol8.egress.hello import InvalidHello, parse_hello
from isol8.egress.hosts import InvalidHost, parse_authority, parse_host
from isol8.egress.policy import InvalidRule, Judge, compile_rule, embedded, is_public
from isol8.errors import InvalidRequest
from isol8.model import Command, EgressPolicy, HostRule, Limits, Network, SandboxSpec
from isol8.runtimes.base import Install
from isol8.runtimes.python import Python
from isol8.service.network import check_network
from isol8.service.policy import to_command
from isol8.wire.request import ExecuteBody, parse
from tests.egress.messages import hello, with_extension


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("registry", "registry"),
        ("_dmarc.a-b.example", "_dmarc.a-b.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1.2.3.4", "1.2.3.4"),
        ("[2606:2800:21F:0::1]", "2606:2800:21f::1"),
        ("[::FFFF:1.2.3.4]", "::ffff:102:304"),
    ],
)
def test_hosts_have_one_spelling(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a..b", "-a", "a-", "a b", "a/b", "a@b", "a:b", "bücher.example", "1", "1.2.3", "01.2.3.4", "0x1.2",
     "a.0x", "a.1", "[1.2.3.4]", "[::1", "::1", "[fe80::1%lo]", "a" * 64, ".".join(["a" * 60] * 5), "a\0b", "a\nb"],
)  # fmt: skip
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(InvalidHost):
        parse_host(text)


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_is_not(text: str) -> None:
    try:
        host = parse_host(text)
    except InvalidHost:
        return
    assert host.isascii()
    assert host == host.lower()
    assert not set(host) & set(" /@\\#?%[]\r\n\0")


def test_authorities() -> None:
    assert parse_authority("a.b:8080") == ("a.b", 8080)
    assert parse_authority("[::1]:1", 80) == ("::1", 1)
    assert parse_authority("[::1]", 80) == ("::1", 80)
    assert parse_authority("a", 80) == ("a", 80)
    for text in ("a", "a:", "a:0", "a:65536", "a:+1", "a:1x", "a:01", ":80", "[::1]", "::1"):
        with pytest.raises(InvalidHost):
            parse_authority(text)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1", "100.127.255.255",
     "0.0.0.0", "0.1.2.3", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
     "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "fc00::1", "fd00:ec2::254", "fe80::1",
     "fec0::1", "ff02::1", "::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1",
     "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:808:808::1", "3fff::1", "5f00::1", "4000::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450::1", "172.32.0.1"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_no_less_than_the_standard_library_knows(address: ipaddress.IPv4Address) -> None:
    assert not is_public(address) or (address.is_global and not address.is_multicast)


@pytest.mark.parametrize(
    ("address", "inner"),
    [("::ffff:10.1.2.3", "10.1.2.3"), ("64:ff9b::10.1.2.3", "10.1.2.3"), ("2002:a01:203::1", "10.1.2.3"),
     ("2001:0:1:2:3:4:f5fe:fdfc", "10.1.2.3"), ("2606::1", None), ("10.1.2.3", None)],
)  # fmt: skip
def test_addresses_within_addresses(address: str, inner: str | None) -> None:
    found = embedded(ipaddress.ip_address(address))
    assert found == (ipaddress.ip_address(inner) if inner else None)


def test_ranges() -> None:
    judge = Judge(EgressPolicy(ranges=("10.0.0.0/8", "64:ff9b::/96", "fd00::/8")))

    def admits(text: str, own: bool = False) -> bool:
        return judge.admits(ipaddress.ip_address(text), own=own)

    assert [admits(text) for text in ("10.1.2.3", "fd00::1", "8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b::10.1.2.3")] == [
        True
    ] * 5
    assert [admits(text) for text in ("192.168.1.1", "::ffff:10.1.2.3", "64:ff9b::127.0.0.1", "2002:a01:203::1")] == [
        False
    ] * 4
    assert admits("10.1.2.3", own=True)
    assert not admits("8.8.8.8", own=True)


def test_rules_match_whole_names() -> None:
    policy = EgressPolicy(allow=((HostRule("w", r"a|b\.c"),),), deny=(HostRule("d", "bad.*"),))
    judge = Judge(policy)
    assert [judge.objection(host, 443) is None for host in ("a", "b.c", "ab.c", "a.c", "xb.c", "b.cx")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert judge.objection("bad.c", 443) == "the host matches d bad.*"
    assert judge.objection("a", 22) == "port 22 is not among the allowed ports (network.ports)"


def test_without_rules_nothing_is_allowed() -> None:
    for policy in (EgressPolicy(), EgressPolicy(allow=((),)), EgressPolicy(allow=((HostRule("w", ".*"),), ()))):
        assert Judge(policy).objection("a", 443)


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "((a{100}){100}){100}", "[", "a{2000}", "\\"])
def test_what_is_no_rule(pattern: str) -> None:
    with pytest.raises(InvalidRule, match="regular expression"):
        compile_rule(pattern)


def test_a_hello_is_read_from_any_part_on() -> None:
    whole = hello("Some.Example")
    for end in range(1, len(whole)):
        assert parse_hello(whole[:end]) is None
    found = parse_hello(whole)
    assert found is not None
    assert (found.name, found.hidden) == ("some.example", False)
    hidden = parse_hello(with_extension(whole, 0xFE0D, b"x"))
    assert hidden is not None
    assert hidden.hidden


@given(st.binary(max_size=600), st.integers(0, 10_000))
def test_any_bytes_are_a_hello_or_are_not(noise: bytes, at: int) -> None:
    whole = hello("some.example")
    at %= len(whole)
    for data in (noise, b"\x16\x03\x01" + noise, whole[:at] + noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            parse_hello(data)
        except InvalidHello:
            continue


# What a request asks for


def config(tmp_path: Any, **network: Any) -> Config:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"policy": {"networks": ["none", "filtered", "host"]}, "network": network}))
    return load_config(str(path), {})


def command(settings: Config, standing: SandboxSpec | None = None, env: Any = None, **options: Any) -> Command:
    tree = {"request": {"code": "1", "runtime": "python", "env": env}, "options": {"network": "filtered"} | options}
    return to_command(parse(ExecuteBody, json.dumps(tree).encode()), settings, standing)


def test_the_servers_whitelist_bounds_and_is_the_default(tmp_path: Any) -> None:
    settings = config(tmp_path, whitelist=["a", "b"], blacklist=["c"], ports=[81], allowedRanges=["10.0.0.0/8"])
    asked = {"whitelist": ["x"], "blacklist": ["y"]}
    policy = command(settings, networkFilter=asked).egress
    assert policy is not None
    assert [[rule.pattern for rule in rules] for rules in policy.allow] == [["a", "b"], ["x"]]
    assert [rule.pattern for rule in policy.deny] == ["c", "y"]
    assert (policy.ports, policy.ranges, policy.log) == ((81,), ("10.0.0.0/8",), False)
    default = command(settings).egress
    assert default is not None
    assert [[rule.pattern for rule in rules] for rules in default.allow] == [["a", "b"]]


def test_bound_secrets_are_placeholders(tmp_path: Any) -> None:
    secrets = {"K": {"value": "long-enough", "hosts": ["A.example", "b.example:8443"]}, "P": "plain"}
    made = command(config(tmp_path), secrets=secrets, env={"K": "mine", "SSL_CERT_FILE": "mine"})
    assert made.egress is not None
    (bound,) = made.egress.secrets
    assert (bound.value, bound.hosts) == ("long-enough", (("a.example", 443), ("b.example", 8443)))
    assert made.env["K"] == bound.placeholder
    assert made.env["SSL_CERT_FILE"] == "mine"
    assert made.env["NODE_EXTRA_CA_CERTS"].startswith("/tmp/")
    assert made.secrets == {"P": "plain"}
    other = command(config(tmp_path), secrets=secrets)
    assert other.env["K"] != bound.placeholder


def test_a_filter_without_a_filtered_network(tmp_path: Any) -> None:
    asked = {"whitelist": ["x"]}
    made = command(config(tmp_path), network="none", networkFilter=asked, logNetwork=True)
    assert made.warnings == ("options.logNetwork has no effect", "options.networkFilter has no effect")
    assert made.egress is None
    with pytest.raises(InvalidRequest, match="networkFilter needs"):
        command(config(tmp_path), network="host", networkFilter=asked)
    assert command(config(tmp_path), network="none", networkFilter={"whitelist": []}).warnings == ()


def test_a_session_keeps_its_network(tmp_path: Any) -> None:
    limits = Limits(memory_bytes=1 << 26, cpus=1.0, pids=9, sandbox_bytes=1 << 20, tmp_bytes=1 << 20)
    standing = SandboxSpec(runtime="bash", limits=limits, network=Network.FILTERED)
    made = command(config(tmp_path), standing, network=None)
    assert made.network is Network.FILTERED
    assert made.egress is not None


def test_a_servers_rules_are_checked_at_the_start(tmp_path: Any) -> None:
    check_network(config(tmp_path, whitelist=["a"]))
    with pytest.raises(InvalidConfig, match=r"network\.blacklist\[1\] is not a regular expression"):
        check_network(config(tmp_path, blacklist=["a", "("]))
    for wrong in ({"allowedRanges": ["10.0.0.1/8"]}, {"ports": [0]}, {"ports": ["a"]}, {"maxBytes": "lots"}):
        with pytest.raises(InvalidConfig, match="network"):
            config(tmp_path, **wrong)


def test_lists_of_numbers_from_the_environment() -> None:
    made = load_config(None, {"ISOL8_NETWORK_PORTS": "80, 8080"})
    assert made.network.ports == (80, 8080)
    with pytest.raises(InvalidConfig, match=r"network\.ports"):
        load_config(None, {"ISOL8_NETWORK_PORTS": "80,http"})


def test_a_filtered_network_costs_no_warm_start(tmp_path: Any) -> None:
    made = command(config(tmp_path))
    assert Python().plan(made, Install("/usr/bin/python3", "3.11", None)).warm
