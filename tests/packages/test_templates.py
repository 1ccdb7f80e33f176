"""Templates: sets of packages that are kept ready, with modules imported ahead of time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.packages.conftest import Shop
from tests.packages.index import Index
from tests.support import machine
from tests.support.calls import execute, stdout
from tests.support.server import Server

# What is imported ahead notes down in what surroundings that was.
_HEAVY = """
import os, threading
status = dict(line.split(None, 1) for line in open("/proc/self/status") if len(line.split(None, 1)) == 2)
first = {"uid": os.getuid(), "capabilities": status["CapEff:"], "setting": os.environ.get("OMP_NUM_THREADS")}
lock = threading.Lock()
lock.acquire()
worker = threading.Thread(target=lock.acquire, daemon=True)
worker.start()
"""
_LOADED = "import sys; print('heavy' in sys.modules); import heavy; print(heavy.first['uid'])"


@pytest.fixture(scope="module")
def server(shop: Shop, index: Index) -> Server:
    index.add_wheel("heavy", _HEAVY)
    index.add_wheel("light", "name = 'light'")
    templates = {
        "data": {"runtime": "python", "packages": ["heavy", "light"], "preimport": ["heavy"], "pool": 2},
        "broken": {"runtime": "python", "packages": ["there-is-none"]},
    }
    return shop({"templates": templates})


@pytest.fixture(scope="module")
def warm(server: Server) -> Iterator[httpx.Client]:
    """A client of a server whose template is ready."""
    machine.until(lambda: "template data is ready" in server.log_text(), "the template is ready")
    with server.client() as made:
        yield made


def loaded(client: httpx.Client, code: str = _LOADED, **parts: object) -> str:
    """The output of a program once it finds a sandbox of the template ready."""

    def tried() -> str | None:
        printed = stdout(client, code, installPackages=["heavy"], **parts)
        return printed if printed.startswith("True\n") else None

    return machine.until(tried, "a sandbox with the import done")


def test_what_is_imported_ahead_is_there(warm: httpx.Client) -> None:
    uid = int(loaded(warm).split()[1])
    assert uid >= 1_900_000_000


def test_packages_are_imported_by_nobody_but_the_sandbox(warm: httpx.Client) -> None:
    """Foreign code runs ahead of time as what it will run as, and where."""
    asked = "import heavy, json, os; print(json.dumps([heavy.first, os.getuid()]))"
    code = f"import sys; print('heavy' in sys.modules)\n{asked}"
    first, uid = json.loads(loaded(warm, code).splitlines()[1])
    assert first["uid"] == uid
    assert int(first["capabilities"], 16) == 0


def test_a_part_of_the_set_is_enough(warm: httpx.Client, index: Index) -> None:
    assert stdout(warm, "import light; print(light.name)", installPackages=["light"]) == "light\n"
    assert (index.fetched("heavy"), index.fetched("light")) == (1, 1)


def test_without_packages_nothing_is_there(warm: httpx.Client) -> None:
    assert execute(warm, "import sys; print('heavy' in sys.modules)")["stdout"] == "False\n"
    assert "ModuleNotFoundError" in execute(warm, "import heavy")["stderr"]


def test_threads_of_an_import_are_alive(warm: httpx.Client) -> None:
    assert loaded(warm, f"{_LOADED}; print(heavy.worker.is_alive(), heavy.lock.locked())").endswith("True True\n")


def test_a_file_of_the_programs_own_comes_first(warm: httpx.Client) -> None:
    for name in ("heavy", "json"):
        code = f"import {name}; print({name}.__file__)\nimport heavy; print(__name__)"
        printed = stdout(
            warm, code, installPackages=["heavy"],
            files={f"/sandbox/{name}.py": "first = 1" if name == "heavy" else "dumps = loads = None"},
        )  # fmt: skip
        assert printed == f"/sandbox/{name}.py\n__main__\n"


def test_a_variable_that_imports_look_at_counts(warm: httpx.Client) -> None:
    code = "import heavy; print(heavy.first['setting'])"
    assert stdout(warm, code, installPackages=["heavy"], env={"OMP_NUM_THREADS": "3"}) == "3\n"
    assert loaded(warm, f"{_LOADED}; import os; print(os.environ['MINE'])", env={"MINE": "yes"}).endswith("yes\n")


def test_the_end_of_a_program_is_as_ever(warm: httpx.Client) -> None:
    """What the collector no longer looks at must not keep the program's own objects from ending."""
    code = """
import sys, atexit
print('heavy' in sys.modules)
class Loud:
    def __init__(self, name): self.name = name
    def __del__(self): print('gone', self.name)
atexit.register(print, 'at exit')
held = Loud('global')
ring = Loud('ring'); ring.me = ring
file = open('/sandbox/out.txt', 'w'); file.write('written')
def function(): return held, file
"""
    sent = {"installPackages": ["heavy"], "outputPaths": ["/sandbox/out.txt"]}

    def tried() -> dict[str, object] | None:
        result = execute(warm, code, **sent)
        return result if result["stdout"].startswith("True\n") else None

    result = machine.until(tried, "a sandbox with the import done")
    assert result["stdout"] == "True\nat exit\ngone global\ngone ring\n"
    assert result["files"] == {"/sandbox/out.txt": "d3JpdHRlbg=="}


def test_a_session_starts_from_a_template_too(warm: httpx.Client) -> None:
    session = "template-session"
    stdout(warm, "import heavy", installPackages=["heavy"], sessionId=session)
    for _ in range(2):
        assert stdout(warm, "import heavy, light; print(light.name)", sessionId=session) == "light\n"
    warm.delete(f"/session/{session}")


def test_a_template_that_cannot_be_made_is_told_of_and_missed_by_nobody(server: Server, warm: httpx.Client) -> None:
    machine.until(lambda: "the template broken could not be made" in server.log_text(), "the log has it")
    assert stdout(warm, "print(1)") == "1\n"


def test_a_layer_in_demand_becomes_a_template(shop: Shop, index: Index) -> None:
    server = shop({"packages": {"demandedTemplates": 2}})
    names = [f"wanted-{letter}" for letter in "abc"]

    def waiting(name: str) -> bool:
        """Whether sandboxes of this server have the layer mounted though nothing runs."""
        module = name.replace("-", "_")
        for pid in machine.cgroup_members(server.pid):
            path = Path(f"/proc/{pid}/root/usr/local/lib")
            try:
                if any(path.glob(f"python3*/*/{module}.py")):
                    return True
            except OSError:
                continue
        return False

    with server.client() as client:
        for name in names:
            index.add_wheel(name, "x = 1")
        for name in names[:2]:
            module = name.replace("-", "_")
            code = f"import sys; print('{module}' in sys.modules); import {module}; print({module}.x)"
            for _ in range(4):  # nothing is imported ahead by itself
                assert stdout(client, code, installPackages=[name]) == "False\n1\n"
            machine.until(lambda name=name: waiting(name), f"a sandbox waits with {name}")  # type: ignore[misc]
        for _ in range(3):
            stdout(client, "import wanted_c", installPackages=["wanted-c"])
        machine.until(lambda: waiting("wanted-c") and not waiting("wanted-a"), "the least used makes way")
        assert waiting("wanted-b")


def test_setup_prepares_a_set(shop: Shop, index: Index, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "runtimes").symlink_to((data_dir / "runtimes").resolve())
    index.add_wheel("prepared", _HEAVY)
    environment = os.environ | index.environment | {"ISOL8_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "isol8", "setup", "--python"]
    done = subprocess.run([*command, "prepared>=1,<2"], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with prepared imported ahead of time" in done.stdout
    fetched = index.fetched("prepared")
    server = shop(data=tmp_path)
    code = "import sys; print('prepared' in sys.modules)"
    with server.client() as client:
        machine.until(
            lambda: stdout(client, code, installPackages=["prepared<2,>=1"]) == "True\n", "it is imported ahead"
        )
    assert index.fetched("prepared") == fetched
    refused = subprocess.run([*command, "--index-url=x"], env=environment, capture_output=True, text=True, timeout=600)
    assert refused.returncode != 0
    failing = subprocess.run([*command, "no-such"], env=environment, capture_output=True, text=True, timeout=600)
    assert (failing.returncode, failing.stderr.count("Package install failed")) == (1, 1)
