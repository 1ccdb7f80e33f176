"""What POST /execute refuses, and how: 400 names the field, 403 names the limit."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support.calls import Json, body, execute, refused
from tests.support.server import Server

NO_SOURCE: list[Any] = [
    {},
    {"request": None},
    {"request": []},
    {"request": {}},
    {"request": {"runtime": "python"}},
    {"request": {"code": "", "runtime": "python"}},
    {"request": {"code": None, "runtime": "python"}},
    {"request": {"code": 5, "runtime": "python"}},
    {"request": {"code": ["print(1)"], "runtime": "python"}},
    {"code": "print(1)", "runtime": "python"},
]
BAD: list[tuple[Json, str]] = [
    ({"request": {"code": "1"}}, "runtime"),
    ({"request": {"code": "1", "runtime": 5}}, "runtime"),
    (body("1", timeoutMs=0), "timeoutMs"),
    (body("1", timeoutMs=-5), "timeoutMs"),
    (body("1", timeoutMs="5000"), "timeoutMs"),
    (body("1", timeoutMs=True), "timeoutMs"),
    (body("1", timeoutMs=1.5), "timeoutMs"),
    (body("1", options={"timeoutMs": 0}), "timeoutMs"),
    (body("1", env=["A=1"]), "env"),
    (body("1", env={"A": 1}), "env"),
    (body("1", env={"A": None}), "env"),
    (body("1", env={"A=B": "x"}), "env"),
    (body("1", env={"": "x"}), "env"),
    (body("1", env={"A": "nul\0"}), "env"),
    (body("1", stdin=5), "stdin"),
    (body("1", files=["/sandbox/x"]), "files"),
    (body("1", files={"/sandbox/x": 5}), "files"),
    (body("1", files={"/sandbox/x": {"base64": "not base64!"}}), "files"),
    (body("1", files={"/sandbox/x": {"type": "Buffer", "data": [256]}}), "files"),
    (body("1", files={"/sandbox/x": {"type": "Buffer", "data": ["a"]}}), "files"),
    (body("1", files={"/sandbox/x": {"other": "x"}}), "files"),
    (body("1", outputPaths="/sandbox/x"), "outputPaths"),
    (body("1", outputPaths=[5]), "outputPaths"),
    (body("1", workdir="/etc"), "workdir"),
    (body("1", workdir="../etc"), "workdir"),
    (body("1", workdir="/sandbox/../etc"), "workdir"),
    (body("1", fileExtension="../../x"), "fileExtension"),
    (body("1", fileExtension=".p/y"), "fileExtension"),
    (body("1", metadata={"a": 1}), "metadata"),
    (body("1", setupScript=5), "setupScript"),
    (body("1", options={"memoryLimit": "lots"}), "memoryLimit"),
    (body("1", options={"memoryLimit": ""}), "memoryLimit"),
    (body("1", options={"memoryLimit": "-5m"}), "memoryLimit"),
    (body("1", options={"memoryLimit": "0"}), "memoryLimit"),
    (body("1", options={"memoryLimit": "5 apples"}), "memoryLimit"),
    (body("1", options={"memoryLimit": []}), "memoryLimit"),
    (body("1", options={"sandboxSize": "x"}), "sandboxSize"),
    (body("1", options={"tmpSize": "1.5.2m"}), "tmpSize"),
    (body("1", options={"maxOutputSize": "x"}), "maxOutputSize"),
    (body("1", options={"cpuLimit": 0}), "cpuLimit"),
    (body("1", options={"cpuLimit": -1}), "cpuLimit"),
    (body("1", options={"cpuLimit": "1"}), "cpuLimit"),
    (body("1", options={"pidsLimit": 0}), "pidsLimit"),
    (body("1", options={"pidsLimit": 1.5}), "pidsLimit"),
    (body("1", options={"network": "internet"}), "network"),
    (body("1", options={"secrets": {"A": 5}}), "secrets"),
    (body("1", options=[]), "options"),
    (body("1", sessionId=""), "sessionId"),
    (body("1", sessionId=5), "sessionId"),
    (body("1", sessionId="with space"), "sessionId"),
    (body("1", sessionId="../../etc"), "sessionId"),
    (body("1", sessionId="x" * 129), "sessionId"),
    (body("1", sessionId="é"), "sessionId"),
    (body("1", cmd="echo 2"), "cmd"),
    (body("1", codeUrl="https://example.org/x.py"), "code"),
    (body(None, codeUrl="https://example.org/x.py", runtime="python"), "codeUrl"),
    (body("1", codeHash="abc"), "codeHash"),
    (body("1", installPackages=["--index-url=http://a.test"]), "installPackages"),
    (body("1", "bash", installPackages=["numpy"]), "installPackages"),
    (body("1", installPackages="numpy"), "installPackages"),
    (body("1", options={"networkFilter": {"whitelist": ".*"}}), "networkFilter.whitelist"),
    (body("1", options={"secrets": {"A": {"value": "long enough", "hosts": ["a.b"]}}}), "filtered"),
]
BAD_PATHS = [
    "relative.txt",
    "",
    "/",
    "/etc/passwd",
    "/sandbox",
    "/sandbox/",
    "/sandbox/../etc/x",
    "/sandbox/a/../../x",
    "/sandboxed/x",
    "/tmp/../sandbox/../etc/x",
    "/proc/self/mem",
    "/sandbox/nul\0byte",
    "//etc/passwd",
]


@pytest.mark.parametrize("sent", NO_SOURCE)
def test_no_source(client: httpx.Client, sent: Any) -> None:
    refused(client, 400, sent)


@pytest.mark.parametrize(("sent", "named"), BAD, ids=[f"{n}-{named}" for n, (_, named) in enumerate(BAD)])
def test_bad_values_are_400_and_named(client: httpx.Client, sent: Json, named: str) -> None:
    refused(client, 400, sent, mentions=named)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_outside_the_writable_directories(client: httpx.Client, path: str) -> None:
    refused(client, 400, body("1", files={path: "x"}), mentions="files")
    refused(client, 400, body("1", outputPaths=[path]), mentions="outputPaths")


@pytest.mark.parametrize("path", ["/sandbox/" + "x" * 300, "/sandbox" + "/x" * 3000])
def test_names_too_long(client: httpx.Client, path: str) -> None:
    refused(client, 400, body("1", files={path: "x"}))


@pytest.mark.parametrize("path", ["/sandbox/x'; touch /sandbox/owned; '", "/sandbox/$(touch owned)", "/sandbox/`x`\n"])
def test_paths_are_names_and_never_commands(client: httpx.Client, path: str) -> None:
    code = "import os, json; print(json.dumps(sorted(os.listdir('/sandbox'))))"
    result = execute(client, code, files={path: "content"}, outputPaths=[path])
    assert "owned" not in result["stdout"].replace("touch /sandbox/owned", "").replace("touch owned", "")
    assert path in result.get("files", {})


def test_unknown_runtime_names_the_ones_there_are(client: httpx.Client) -> None:
    sentence = refused(client, 400, body("1", "cobol"))["error"]
    for name in ("runtime", "python", "node", "bun", "deno", "bash"):
        assert name in sentence


def test_a_runtime_that_is_not_installed_names_the_command(serve: Serve, tmp_path: Any) -> None:
    running = serve(environment={"ISOL8_DATA_DIR": str(tmp_path / "empty")})
    with running.client() as client:
        for name in ("node", "bun", "deno"):
            refused(client, 400, body("1", name), mentions=f"isol8 setup --runtime {name}")
        assert execute(client, "print(1)")["stdout"] == "1\n"
        entries = {entry["name"]: entry for entry in client.get("/runtimes").json()["runtimes"]}
        assert (entries["node"]["ready"], entries["python"]["ready"]) == (False, True)
        assert "isol8 setup" in entries["node"]["install"]


BEYOND: list[tuple[Json, str]] = [
    ({"network": "host"}, "network"),
    ({"network": "filtered", "networkFilter": {"whitelist": [".*"]}}, "policy.networks"),
    ({"memoryLimit": "20g"}, "memoryLimit"),
    ({"memoryLimit": "999999999999999"}, "memoryLimit"),
    ({"cpuLimit": 5000}, "cpuLimit"),
    ({"pidsLimit": 4_000_000}, "pidsLimit"),
    ({"sandboxSize": "900g"}, "sandboxSize"),
    ({"tmpSize": "900g"}, "tmpSize"),
    ({"maxOutputSize": "900g"}, "maxOutputSize"),
    ({"timeoutMs": 1_000_000_000}, "timeoutMs"),
    ({"image": "evil/image"}, "image"),
    ({"security": {"seccomp": "unconfined"}}, "security"),
    ({"readonlyRootFs": False}, "readonlyRootFs"),
]


@pytest.mark.parametrize(("options", "named"), BEYOND, ids=[named for _, named in BEYOND])
def test_beyond_the_default_policy_is_403_and_named(client: httpx.Client, options: Json, named: str) -> None:
    refused(client, 403, body("1", options=options), mentions=named)


def test_request_timeout_is_under_the_policy_too(client: httpx.Client) -> None:
    refused(client, 403, body("1", timeoutMs=1_000_000_000), mentions="timeoutMs")


@pytest.fixture(scope="module")
def strict(serve: Serve) -> Server:
    """Small ceilings, and defaults at them; of time, below."""
    policy = {
        "timeoutMs": 60_000,
        "memoryLimit": "128m",
        "cpuLimit": 0.5,
        "pidsLimit": 32,
        "sandboxSize": "16m",
        "tmpSize": "16m",
        "maxOutputSize": "10k",
    }
    return serve({"policy": policy, "defaults": {**policy, "timeoutMs": 2000, "network": "none"}})


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        ({"timeoutMs": 60_000}, {"timeoutMs": 60_001}),
        ({"memoryLimit": "128M"}, {"memoryLimit": "129m"}),
        ({"cpuLimit": 0.5}, {"cpuLimit": 0.6}),
        ({"pidsLimit": 32}, {"pidsLimit": 33}),
        ({"sandboxSize": "16m"}, {"sandboxSize": "17m"}),
        ({"tmpSize": "16777216"}, {"tmpSize": "16777217"}),
        ({"maxOutputSize": "10240"}, {"maxOutputSize": "10241"}),
    ],
)
def test_ceilings_of_a_configured_policy(strict: Server, within: Json, beyond: Json) -> None:
    with strict.client() as client:
        assert execute(client, "print(1)", options={"timeoutMs": 60_000} | within)["stdout"] == "1\n"
        refused(client, 403, body("1", options=beyond), mentions=next(iter(beyond)))


def test_configured_defaults_apply(strict: Server) -> None:
    with strict.client() as client:
        result = execute(client, "while True: pass")
        assert (result["timedOut"], result["exitCode"]) == (True, 137)
        assert "2000 ms" in result["stderr"]
        assert execute(client, "print('x' * 20000)", timeoutMs=60_000)["truncated"]
