"""The machine's settings for indexes, as pip and npm would read them."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from isol8.packages.index import MachineIndex, read_machine_index, without_credentials

PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home, with a data directory in which the defaults of the installers are written down."""
    defaults = {
        "python_index": "https://index.test/simple",
        "python_files": "files.test",
        "npm_registry": "https://npm.test/",
    }
    data = tmp_path / "data"
    data.mkdir()
    asked = f"pip {version('pip')}, node"
    (data / "indexes.json").write_text(json.dumps({"asked": asked, "defaults": defaults}))
    return tmp_path


def read(home: Path, **environment: str) -> MachineIndex:
    nowhere = {"XDG_CONFIG_DIRS": str(home / "xdg"), "HOME": str(home)}
    return read_machine_index(str(home / "data"), nowhere | environment)


def test_nothing_is_set(home: Path) -> None:
    index = read(home)
    assert (index.python.index, index.python.hosts) == ("https://index.test/simple", ("files.test",))
    assert (index.python.extra, index.python.links, index.directories) == ((), (), {})
    assert (index.npm.registry, index.npm.scopes) == ("https://npm.test/", ())


def test_files_and_the_environment_over_them(home: Path) -> None:
    (home / "xdg" / "pip").mkdir(parents=True)
    (home / "xdg" / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://one.test/\ntrusted-host = a.test b.test\n"
    )
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".config" / "pip" / "pip.conf").write_text("[install]\nindex_url = https://two.test/\n")
    index = read(home)
    assert (index.python.index, index.python.hosts) == ("https://two.test/", ())
    assert index.python.trusted_hosts == ("a.test", "b.test")
    assert read(home, PIP_INDEX_URL="https://three.test/").python.index == "https://three.test/"
    assert read(home, PIP_CONFIG_FILE="/dev/null").python.index == "https://index.test/simple"
    assert read(home, PIP_NO_INDEX="1").python.index is None


def test_directories_of_this_machine_are_mounted(home: Path) -> None:
    (home / "pypi" / "simple").mkdir(parents=True)
    (home / "wheels").mkdir()
    extra = f"file://{home}/pypi/simple https://extra.test/simple file://{home}/not-there"
    index = read(home, PIP_EXTRA_INDEX_URL=extra, PIP_FIND_LINKS=f"{home}/wheels")
    assert index.python.extra == ("file:///run/packages/index-0/simple", "https://extra.test/simple")
    assert index.python.links == ("/run/packages/index-1",)
    assert index.directories == {"index-0": str(home / "pypi"), "index-1": str(home / "wheels")}
    assert (
        read(home, PIP_FIND_LINKS="/").directories == {"index-0": "/"}
        or read(home, PIP_FIND_LINKS="/").directories == {}
    )


def test_the_root_of_the_machine_is_never_mounted(home: Path) -> None:
    assert read(home, PIP_FIND_LINKS="/", PIP_EXTRA_INDEX_URL="file:///usr").directories == {}


def test_npm(home: Path) -> None:
    (home / ".npmrc").write_text(
        "# registry=https://no.test/\nregistry=${MIRROR}\n@own:registry = https://own.test/\n//own.test/:_authToken=secret\n"
    )
    index = read(home, MIRROR="https://mirror.test/npm/")
    assert index.npm.registry == "https://mirror.test/npm/"
    assert index.npm.scopes == (("@own", "https://own.test/"),)
    assert read(home, MIRROR="x", npm_config_registry="https://env.test/").npm.registry == "https://env.test/"


def test_certificates_are_one_bundle(home: Path) -> None:
    (home / "own.pem").write_text(PEM.format("own"))
    (home / "node.pem").write_text(PEM.format("node"))
    found = read(
        home, PIP_CERT=str(home / "own.pem"), NODE_EXTRA_CA_CERTS=str(home / "node.pem"), SSL_CERT_FILE="/dev/zero"
    )
    assert found.certificates.count(b"\nown\n") == found.certificates.count(b"\nnode\n") == 1


def test_constraints_are_passed_on(home: Path) -> None:
    (home / "constraints.txt").write_text("numpy<2\n")
    assert "numpy<2" in read(home, PIP_CONSTRAINT=str(home / "constraints.txt")).python.constraints


def test_credentials_can_be_left_out(home: Path) -> None:
    index = read(
        home, PIP_INDEX_URL="https://user:pass@private.test:8443/simple", npm_config_registry="https://a:b@npm.test/"
    )
    bare = without_credentials(index)
    assert bare.python.index == "https://private.test:8443/simple"
    assert bare.npm.registry == "https://npm.test/"
    assert "pass" not in repr(bare)
