"""What a request gets on a server with given defaults and ceilings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isol8.config import Config, load_config
from isol8.errors import Forbidden, InvalidRequest
from isol8.model import Command, Limits, Network, SandboxSpec
from isol8.service.policy import default_limits, to_command
from isol8.wire.request import ExecuteBody, parse

M = 1 << 20


def config(tmp_path: Any, **tree: Any) -> Config:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    return load_config(str(path), {})


def command(settings: Config, options: Any = None, standing: SandboxSpec | None = None, **request: Any) -> Command:
    tree = {"request": {"code": "1", "runtime": "python"} | request, "options": options}
    if "cmd" in request:
        del tree["request"]["code"]
    return to_command(parse(ExecuteBody, json.dumps(tree).encode()), settings, standing)


def test_the_defaults(tmp_path: Any) -> None:
    made = command(config(tmp_path))
    limits = Limits(memory_bytes=512 * M, cpus=1.0, pids=64, sandbox_bytes=512 * M, tmp_bytes=256 * M)
    assert made.limits == limits == default_limits(config(tmp_path))
    assert (made.timeout_ms, made.output_bytes, made.network) == (30_000, M, Network.NONE)
    assert (made.source, made.workdir, made.extension) == (b"1", "/sandbox", None)


def test_options_over_defaults(tmp_path: Any) -> None:
    options = {"memoryLimit": "64m", "cpuLimit": 0.5, "pidsLimit": 3, "sandboxSize": "1m", "tmpSize": 4096}
    made = command(config(tmp_path), options | {"maxOutputSize": "2k", "timeoutMs": 9})
    assert made.limits == Limits(memory_bytes=64 * M, cpus=0.5, pids=3, sandbox_bytes=M, tmp_bytes=4096)
    assert (made.output_bytes, made.timeout_ms) == (2048, 9)


def test_the_requests_timeout_wins(tmp_path: Any) -> None:
    assert command(config(tmp_path), {"timeoutMs": 9}, timeoutMs=5).timeout_ms == 5


def test_what_a_session_has_wins_over_the_defaults(tmp_path: Any) -> None:
    limits = Limits(memory_bytes=64 * M, cpus=2.0, pids=9, sandbox_bytes=M, tmp_bytes=M)
    made = command(config(tmp_path), {"pidsLimit": 5}, SandboxSpec(runtime="bash", limits=limits))
    assert made.limits == Limits(memory_bytes=64 * M, cpus=2.0, pids=5, sandbox_bytes=M, tmp_bytes=M)


def test_a_low_ceiling_lowers_the_defaults(tmp_path: Any) -> None:
    made = command(config(tmp_path, policy={"memoryLimit": "32m", "timeoutMs": 100}))
    assert (made.limits.memory_bytes, made.timeout_ms) == (32 * M, 100)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"memoryLimit": "20g"}, "memoryLimit is above this server's limit of 4g (policy.memoryLimit)"),
        ({"cpuLimit": 64}, "cpuLimit is above this server's limit of 4.0"),
        ({"pidsLimit": 100_000}, "pidsLimit is above this server's limit of 1024"),
        ({"sandboxSize": "9g"}, "policy.sandboxSize"),
        ({"tmpSize": "9g"}, "policy.tmpSize"),
        ({"maxOutputSize": "1g"}, "policy.maxOutputSize"),
        ({"timeoutMs": 86_400_000}, "timeoutMs is above this server's limit of 600000 (policy.timeoutMs)"),
        ({"network": "host"}, "policy.networks"),
        ({"network": "filtered"}, "policy.networks"),
        ({"image": "debian"}, "options.image"),
        ({"security": {"seccomp": "unconfined"}}, "options.security"),
        ({"readonlyRootFs": False}, "options.readonlyRootFs"),
    ],
)
def test_beyond_the_policy(options: Any, sentence: str, tmp_path: Any) -> None:
    with pytest.raises(Forbidden) as raised:
        command(config(tmp_path), options)
    assert sentence in raised.value.message


@pytest.mark.parametrize(
    ("policy", "request_", "sentence"),
    [
        ({"maxCodeSize": 3}, {"code": "1234"}, "policy.maxCodeSize"),
        ({"maxCodeSize": 3}, {"setupScript": "1234"}, "policy.maxCodeSize"),
        ({"maxStdinSize": 3}, {"stdin": "1234"}, "policy.maxStdinSize"),
        ({"maxEnvSize": 3}, {"env": {"A": "123"}}, "policy.maxEnvSize"),
        ({"maxFiles": 1}, {"files": {"/tmp/a": ""}, "outputPaths": ["/tmp/b"]}, "policy.maxFiles"),
        ({"maxPathLength": 5}, {"files": {"/tmp/a": ""}}, "policy.maxPathLength"),
        ({}, {"metadata": {"a": "x" * 20_000}}, "metadata"),
    ],
)
def test_too_much_to_carry(policy: Any, request_: Any, sentence: str, tmp_path: Any) -> None:
    with pytest.raises(Forbidden) as raised:
        command(config(tmp_path, policy=policy), **request_)
    assert sentence in raised.value.message


def test_packages_in_their_normal_form(tmp_path: Any) -> None:
    made = command(config(tmp_path), installPackages=["NumPy", "requests >=2, <3", "numpy"])
    assert made.packages == ("numpy", "requests<3,>=2")
    assert command(config(tmp_path), installPackages=[]).packages == ()


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"installPackages": ["numpy", "-r /etc/passwd"]}, "request.installPackages[1] is not a requirement"),
        ({"cmd": "ls", "installPackages": ["jq"]}, "request.installPackages is not available for bash"),
    ],
)
def test_packages_that_are_none(request_: Any, sentence: str, tmp_path: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        command(config(tmp_path), **request_)
    assert raised.value.message.startswith(sentence)


@pytest.mark.parametrize(
    ("policy", "packages", "sentence"),
    [({"packages": False}, ["numpy"], "policy.packages"), ({"maxPackages": 1}, ["a", "b"], "policy.maxPackages")],
)
def test_packages_beyond_the_policy(policy: Any, packages: Any, sentence: str, tmp_path: Any) -> None:
    with pytest.raises(Forbidden) as raised:
        command(config(tmp_path, policy=policy), installPackages=packages)
    assert sentence in raised.value.message


def test_fetching_is_off_until_it_is_turned_on(tmp_path: Any) -> None:
    source: dict[str, Any] = {"code": None, "codeUrl": "https://example.org/"}
    with pytest.raises(InvalidRequest, match=r"policy\.codeUrl in its configuration turns it on"):
        command(config(tmp_path), **source)
    assert command(config(tmp_path, policy={"codeUrl": True}), **source).source == b""


def test_the_host_network_where_it_is_allowed(tmp_path: Any) -> None:
    assert command(config(tmp_path, policy={"networks": ["none", "host"]}), {"network": "host"}).network is Network.HOST


def test_a_command_is_bash(tmp_path: Any) -> None:
    made = command(config(tmp_path), cmd="ls", fileExtension=".py")
    assert (made.runtime, made.source, made.extension) == ("bash", b"ls", None)


def test_options_without_effect_are_warned_of(tmp_path: Any) -> None:
    made = command(config(tmp_path), {"debug": True, "poolSize": 4, "readonlyRootFs": True})
    assert made.warnings == ("options.poolSize has no effect", "options.debug has no effect")


def test_images_are_for_engines_that_have_them_and_policies_that_name_them(tmp_path: Any) -> None:
    native = config(tmp_path, policy={"images": ["one:1"]})
    with pytest.raises(Forbidden, match="no images"):
        command(native, {"image": "one:1"})
    docker = config(tmp_path, engine="docker", policy={"images": ["one:1"]})
    assert command(docker, {"image": "one:1"}).image == "one:1"
    assert command(docker).image == ""
    for name in ("", "one", "one:1 ", "two:1"):
        with pytest.raises(Forbidden, match=r"policy\.images"):
            command(docker, {"image": name})
    standing = SandboxSpec(runtime="python", limits=default_limits(docker), image="one:1")
    assert command(docker, standing=standing).image == "one:1"
