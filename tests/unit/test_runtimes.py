"""How each language lays out a command, and when a worker booted ahead of time may serve it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isol8.model import Boot, Command, Limits, Plan
from isol8.runtimes.base import Install
from isol8.runtimes.prefixes import find_prefix
from isol8.runtimes.registry import RUNTIMES, find_installed

LIMITS = Limits(memory_bytes=1 << 29, cpus=1, pids=64, sandbox_bytes=1 << 26, tmp_bytes=1 << 26)


def plan(runtime: str, **more: Any) -> Plan:
    given: dict[str, Any] = {"source": b"1", "limits": LIMITS, "timeout_ms": 1000, "output_bytes": 1000} | more
    install = Install(executable=f"/x/{runtime}", version="1", prefix=None)
    return RUNTIMES[runtime].plan(Command(runtime=runtime, **given), install)


@pytest.mark.parametrize(
    ("runtime", "argv"),
    [
        ("python", ("python3", "/sandbox/main.py")),
        ("node", ("node", "/sandbox/main.js")),
        ("bun", ("bun", "/sandbox/main.ts")),
        ("deno", ("deno", "run", "-A", "/sandbox/main.ts")),
        ("bash", ("bash", "/sandbox/main.sh")),
    ],
)
def test_argv_ends_with_the_program(runtime: str, argv: tuple[str, ...]) -> None:
    laid_out = plan(runtime)
    assert (laid_out.argv, laid_out.path, laid_out.source) == (argv, argv[-1], b"1")
    assert laid_out.executable == f"/x/{runtime}"


def test_the_extension_of_the_command_wins() -> None:
    laid_out = plan("node", extension=".mjs")
    assert (laid_out.argv[-1], laid_out.path) == ("/sandbox/main.mjs", "/sandbox/main.mjs")


def test_secrets_are_environment_too() -> None:
    assert plan("bash", env={"A": "1"}, secrets={"B": "2"}).env == {"A": "1", "B": "2"}


@pytest.mark.parametrize("runtime", ["python", "node", "bun", "deno"])
def test_a_plain_program_is_served_warm(runtime: str) -> None:
    assert plan(runtime).warm


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_waits_is_what_a_warm_plan_needs(runtime: str) -> None:
    boot = RUNTIMES[runtime].boot(Install(executable=f"/x/{runtime}", version="1", prefix=None))
    laid_out = plan(runtime)
    assert laid_out.warm == (boot.forked or bool(boot.executable))
    if boot.executable:
        assert (boot.executable, boot.argv, boot.path) == (laid_out.executable, laid_out.argv, laid_out.path)


def test_bash_is_started_early_where_it_can_be_told_when_it_starts(tmp_path: Path) -> None:
    bash, command = RUNTIMES["bash"], Command(runtime="bash", source=b"1", limits=LIMITS, timeout_ms=1, output_bytes=1)
    of_the_machine = find_installed(str(tmp_path))["bash"]
    of_an_image = bash.inside("/bin/bash", "5.2", "", "an-image")
    boot = bash.boot(of_the_machine)
    assert (boot.executable, boot.argv) == ("/usr/bin/bash", ("bash", "/sandbox/main.sh"))
    assert len(boot.stamps) == 2
    assert bash.plan(command, of_the_machine).warm
    assert bash.boot(of_an_image) == Boot()
    assert not bash.plan(command, of_an_image).warm


@pytest.mark.parametrize(
    "more",
    [
        {"env": {"A": "1"}},
        {"secrets": {"A": "1"}},
        {"workdir": "/sandbox/deep"},
        {"extension": ".txt"},
    ],
)
def test_bash_starts_cold_when_its_boot_would_differ(tmp_path: Path, more: dict[str, Any]) -> None:
    given: dict[str, Any] = {"source": b"1", "limits": LIMITS, "timeout_ms": 1000, "output_bytes": 1000} | more
    install = find_installed(str(tmp_path))["bash"]
    assert not RUNTIMES["bash"].plan(Command(runtime="bash", **given), install).warm


@pytest.mark.parametrize("runtime", ["bun", "deno"])
@pytest.mark.parametrize(
    "more",
    [
        {"env": {"A": "1"}},
        {"secrets": {"A": "1"}},
        {"workdir": "/sandbox/deep"},
        {"extension": ".js"},
        {"files": {"/sandbox/bunfig.toml": b""}},
        {"files": {"/sandbox/deno.json": b"{}"}},
    ],
)
def test_bun_and_deno_start_cold_when_their_boot_would_differ(runtime: str, more: dict[str, Any]) -> None:
    assert not plan(runtime, **more).warm


@pytest.mark.parametrize(
    "name",
    [
        "PYTHONPATH",
        "LC_ALL",
        "LD_PRELOAD",
        "LANG",
        "LANGUAGE",
        "TZ",
        "HOME",
        "PATH",
        "MALLOC_ARENA_MAX",
        "SSL_CERT_FILE",
    ],
)
@pytest.mark.parametrize("where", ["env", "secrets"])
def test_python_starts_cold_when_its_boot_would_read_the_environment(name: str, where: str) -> None:
    assert not plan("python", **{where: {name: "x"}}).warm


@pytest.mark.parametrize("name", ["MY_VAR", "MY_PATH", "TZ_NAME", "HOMEPAGE", "_PYTHON", "NODE_USE_ENV_PROXY"])
def test_python_is_warm_with_other_environment(name: str) -> None:
    assert plan("python", env={name: "x"}, workdir="/sandbox/deep").warm


@pytest.mark.parametrize("more", [{"source": b"\0"}, {"source": b"x\nPK\x05\x06"}, {"extension": ".pyc"}])
def test_python_starts_cold_for_what_is_not_plain_source(more: dict[str, Any]) -> None:
    assert not plan("python", **more).warm


@pytest.mark.parametrize(
    "more",
    [
        {"env": {"A": "1"}},
        {"secrets": {"A": "1"}},
        {"workdir": "/sandbox/deep"},
        {"extension": ".mjs"},
        {"files": {"/sandbox/package.json": b"{}"}},
    ],
)
def test_node_starts_cold_when_its_boot_would_differ(more: dict[str, Any]) -> None:
    assert not plan("node", **more).warm


def test_the_machine_has_python_and_bash(tmp_path: Path) -> None:
    found = find_installed(str(tmp_path))
    assert set(found) == {"python", "bash"}
    for install in found.values():
        assert install.prefix is None
        assert install.executable.startswith(("/usr/", "/bin/"))
        assert all(part.isdigit() for part in install.version.split("."))


def test_a_prefix_is_where_its_link_leads(tmp_path: Path) -> None:
    executable = tmp_path / "runtimes" / "deno-1.2.3" / "bin" / "deno"
    executable.parent.mkdir(parents=True)
    executable.touch()
    assert find_prefix("deno", str(tmp_path)) is None
    (tmp_path / "runtimes" / "deno").symlink_to("deno-1.2.3")
    assert find_prefix("deno", str(tmp_path)) is None, "it cannot be executed yet"
    executable.chmod(0o755)
    prefix = str(tmp_path / "runtimes" / "deno-1.2.3")
    assert find_prefix("deno", str(tmp_path)) == Install("/opt/isol8/deno/bin/deno", "1.2.3", prefix)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_runtime_says_how_to_install_it(runtime: str) -> None:
    assert runtime in RUNTIMES[runtime].install_hint
