"""The command line as a person uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isol8 import __version__
from isol8.cli.greeting import greeting

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("ISOL8_")}


def isol8(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "isol8", *arguments]
    return subprocess.run(command, cwd=cwd, env=CLEAN | environment, capture_output=True, text=True, timeout=60)


def test_version(tmp_path: Path) -> None:
    done = isol8("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"isol8 {__version__}\n", "")


def test_version_does_not_wait_for_the_web_framework() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import isol8.cli.main, sys; print(*sys.modules)"], capture_output=True, text=True
    )
    assert not {"fastapi", "pydantic", "uvicorn", "asyncio"} & set(loaded.stdout.split())


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["serve", "--port", "lots"]])
def test_misuse_says_how_to_use_it(arguments: list[str], tmp_path: Path) -> None:
    done = isol8(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: isol8")


def test_the_console_command_is_the_module(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("isol8")
    done = subprocess.run([command, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"isol8 {__version__}\n"


def test_doctor_names_what_is_missing_and_how_to_install_it(tmp_path: Path) -> None:
    done = isol8("doctor", cwd=tmp_path, ISOL8_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "isol8 setup --runtime bun" in done.stdout
    assert "/usr/bin/python3" in done.stdout or "/usr/" in done.stdout


def test_setup_refuses_an_unknown_runtime(tmp_path: Path) -> None:
    done = isol8("setup", "--runtime", "cobol", cwd=tmp_path, ISOL8_DATA_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "isol8: Unknown runtime cobol; there are python, node, bun, deno, bash.\n"


def test_setup_leaves_the_machines_own_runtimes_to_the_machine(tmp_path: Path) -> None:
    done = isol8("setup", "--runtime", "bash", cwd=tmp_path, ISOL8_DATA_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "isol8: bash is part of the machine\n")


def test_a_broken_configuration_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "isol8.config.json").write_text('{"prot": 1}')
    done = isol8("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert "prot" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_made_for_the_run_is_shown_and_a_configured_one_is_not() -> None:
    assert "secret" in greeting("127.0.0.1", 3000, "secret")
    configured = greeting("::1", 3000, None)
    assert "http://[::1]:3000/execute" in configured
    assert "$ISOL8_API_KEY" in configured
