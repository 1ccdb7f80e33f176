"""What builds download is kept for later ones, and no build has a say in what another gets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from isol8.egress.authority import Authority
from tests.packages.conftest import Shop
from tests.packages.index import Index, indexing
from tests.packages.test_attacks import evil
from tests.packages.wheels import npm_package, wheel, wheel_name
from tests.support.calls import Json, stdout

LAX: Json = {"policy": {"packageScripts": True}}


@pytest.fixture
def data(tmp_path: Path, data_dir: Path) -> Path:
    """A data directory of this test's own."""
    (tmp_path / "runtimes").symlink_to((data_dir / "runtimes").resolve())
    return tmp_path


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Index]:
    """A server on this machine that no build has any business with."""
    with indexing() as made:
        yield made


def sent(index: Index, name: str) -> int:
    """How often the wheel of a package was downloaded."""
    return index.sent[f"/files/{wheel_name(name)}"]


def kept(data: Path) -> list[Path]:
    return sorted((data / "downloads").iterdir())


def install(client: httpx.Client, *packages: str) -> None:
    modules = ", ".join(package.replace("-", "_") for package in packages)
    assert stdout(client, f"import {modules}; print('ok')", installPackages=list(packages)) == "ok\n"


def _shared(index: Index, *others: str) -> None:
    """A package that others need."""
    index.add_wheel("common", "value = 1")
    for name in others:
        index.add(name, wheel_name(name), wheel(name, {f"{name}.py": "import common"}, requires=("common",)))


def test_a_shared_package_is_downloaded_once(shop: Shop, index: Index, data: Path) -> None:
    _shared(index, "one", "two", "three")
    with shop(data=data).client(seconds=120) as client:
        install(client, "one")
        install(client, "two")
        assert sent(index, "common") == 1
    with shop(data=data).client(seconds=120) as client:
        install(client, "three")
        assert sent(index, "common") == 1
        # And what the index has replaced is not what was kept.
        index.add_wheel("common", "value = 2")
        printed = stdout(client, "import common; print(common.value)", installPackages=["common", "two"])
        assert (printed, sent(index, "common")) == ("2\n", 2)


def test_none_are_kept_where_there_is_no_room_for_them(shop: Shop, index: Index, data: Path) -> None:
    _shared(index, "seven", "eight")
    before = sent(index, "common")
    with shop({"packages": {"downloadsSize": 0}}, data=data).client(seconds=120) as client:
        install(client, "seven")
        install(client, "eight")
    assert sent(index, "common") == before + 2
    assert not (data / "downloads").exists()


@pytest.mark.parametrize("runtime", ["node", "bun", "deno"])
def test_npm_packages_too(shop: Shop, index: Index, data: Path, runtime: str) -> None:
    index.add_npm("base", npm_package("base", {"index.js": "module.exports = 7"}))
    for name in ("left", "right"):
        needs: Json = {"dependencies": {"base": "1.0.0"}}
        index.add_npm(name, npm_package(name, {"index.js": "module.exports = require('base')"}, **needs), **needs)
    before = index.sent["/npm/base/-/base-1.0.0.tgz"]
    with shop(data=data).client(seconds=120) as client:
        for name in ("left", "right"):
            code = f"import value from '{name}'; console.log(value)"
            code = f"console.log(require('{name}'))" if runtime == "node" else code
            assert stdout(client, code, runtime, installPackages=[name]) == "7\n"
    assert index.sent["/npm/base/-/base-1.0.0.tgz"] == before + 1


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def secure(authority: Authority) -> Iterator[Index]:
    with indexing(authority) as made:
        yield made


@pytest.mark.parametrize("how", ["PIP_CERT", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"])
def test_an_index_with_tls(
    shop: Shop, secure: Index, authority: Authority, data: Path, tmp_path: Path, how: str
) -> None:
    """Installers trust the proxy, which checks the index with the certificates that the machine is told to trust."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate)
    _shared(secure, "one", "two")
    for name in ("left", "right"):
        needs: Json = {"dependencies": {"base": "1.0.0"}}
        secure.add_npm(name, npm_package(name, {"index.js": "module.exports = require('base')"}, **needs), **needs)
    secure.add_npm("base", npm_package("base", {"index.js": "module.exports = 7"}))
    with shop(data=data, **secure.environment, **{how: str(bundle)}).client(seconds=120) as client:
        for name in ("one", "two"):
            install(client, name)
        for name, runtime in (("left", "node"), ("right", "bun")):
            code = f"console.log(require('{name}'))"
            assert stdout(client, code, runtime, installPackages=[name]) == "7\n"
    assert (sent(secure, "common"), secure.sent["/npm/base/-/base-1.0.0.tgz"]) == (1, 1)


def test_an_index_whose_certificate_nobody_checks(shop: Shop, secure: Index, data: Path) -> None:
    """It is the installer's to trust it, and nothing of it is kept."""
    _shared(secure, "one", "two")
    trusting = {"PIP_TRUSTED_HOST": "localhost"}
    with shop(data=data, **secure.environment, **trusting).client(seconds=120) as client:
        for name in ("one", "two"):
            install(client, name)
    assert sent(secure, "common") == 2
    assert kept(data) == []


def test_passwords_of_an_index(shop: Shop, index: Index, data: Path) -> None:
    """What is got with them is for those who have them, and they are not on disk."""
    index.add_wheel("guarded")
    address = index.url.replace("http://", "http://user:hunter2@") + "/simple/"
    with shop(data=data, PIP_INDEX_URL=address).client(seconds=120) as client:
        install(client, "guarded")
    assert sent(index, "guarded") == 1
    assert not any(b"hunter2" in path.read_bytes() or b"dXNlcjpodW50ZXIy" in path.read_bytes() for path in kept(data))


_ATTACK = """
    import http.client
    proxy = os.environ["HTTP_PROXY"].removeprefix("http://")
    url = "{index}/files/{wheel}"
    host = url.split("/")[2]
    def raw(data):
        with socket.create_connection(tuple(proxy.split(":")), 60) as connection:
            connection.sendall(data)
            connection.settimeout(60)
            return connection.recv(65536)
    def ask(method, target, fields, content=None):
        connection = http.client.HTTPConnection(proxy, timeout=60)
        connection.request(method, target, content, fields)
        return connection.getresponse().read()
    false = b"false" * 100
    for method in ("PUT", "POST", "PURGE", "PATCH", "DELETE"):
        attempt(lambda: ask(method, url, {{}}, false))
    attempt(lambda: ask("GET", url, {{}}, false))
    attempt(lambda: ask("GET", url, {{"Range": "bytes=0-9"}}))
    attempt(lambda: ask("GET", url, {{"Host": "evil.example.com"}}))
    attempt(lambda: ask("GET", url, {{"X-Original-URL": "/files/evil.whl", "X-Forwarded-Host": "evil.example.com"}}))
    hidden = "GET /files/evil.whl HTTP/1.1\\r\\nHost: " + host + "\\r\\n\\r\\n"
    lengths = "Content-Length: %d" % len(hidden)
    for framing in (lengths, lengths + "\\r\\nTransfer-Encoding: chunked", "Upgrade: x"):
        head = "GET " + url + " HTTP/1.1\\r\\nHost: " + host + "\\r\\n" + framing + "\\r\\n\\r\\n"
        attempt(lambda: raw((head + hidden).encode()))
    found["kept"] = [path for path in {paths} if os.path.exists(path)]
    found["written"] = [path for path in {paths} if not attempt(lambda: open(path + "/evil", "wb")).endswith("Error")]
"""


def test_no_build_has_a_say_in_what_another_gets(shop: Shop, index: Index, elsewhere: Index, data: Path) -> None:
    """One runs first, and tries all that it can think of to have something else kept for a package than what it is."""
    index.add_wheel("victim", "value = 'true'")
    index.files["/files/evil.whl"] = b"false" * 100
    paths = [str(data / "downloads"), f"/proc/1/root{data}/downloads", "/proc/self/cwd/downloads"]
    attack = _ATTACK.format(index=index.url, wheel=wheel_name("victim"), paths=paths)
    evil(index, elsewhere, data, "evil-downloader", then=attack)
    with shop(LAX, data=data).client(seconds=120) as client:
        printed = stdout(client, "import report; print(report.found)", installPackages=["evil-downloader"])
        assert "'kept': [], 'written': []" in printed
        assert index.requests["/files/evil.whl"]  # the index itself was deceived by one of them
        assert stdout(client, "import victim; print(victim.value)", installPackages=["victim"]) == "true\n"
        # And by a program: it sees no more of it.
        code = f"import os; print([path for path in {paths} if os.path.exists(path)])"
        assert stdout(client, code) == "[]\n"
    assert not elsewhere.requests


def test_what_was_changed_on_disk_is_downloaded_again(shop: Shop, index: Index, data: Path) -> None:
    _shared(index, "four", "five", "six")
    before = sent(index, "common")
    with shop(data=data).client(seconds=120) as client:
        install(client, "four")
        for path in kept(data):
            status = path.stat()
            path.write_bytes(path.read_bytes()[:-1] + b"?")
            assert path.stat().st_uid == status.st_uid
        install(client, "five")
        for path in kept(data):
            os.truncate(path, 100)
        install(client, "six")
    assert sent(index, "common") == before + 3
