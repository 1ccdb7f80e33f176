"""The suite can fail: a proxy that lacks one check, made from a copy of the package with one line changed, is seen by
exactly the test that other modules make of the whole one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import isol8
from tests.egress import test_attacks, test_downloads, test_secrets
from tests.egress.conftest import Surroundings, running_proxy
from tests.egress.messages import HOST
from tests.egress.origins import Origins
from tests.egress.shelf import shelving

Check = Callable[[Any, Origins], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Hole:
    """One line of the package, and what is there without the check."""

    file: str
    line: str
    instead: str
    check: Check


def _ambiguous(name: str) -> Check:
    return lambda proxy, origins: test_attacks.test_requests_with_two_readings(proxy, origins, name)


def _inward(address: str) -> Check:
    return lambda proxy, origins: test_attacks.test_addresses_that_are_not_public(proxy, origins, address)


def _hello(name: str) -> Check:
    return lambda proxy, origins: test_attacks.test_tls_to_another_host(proxy, origins, name)


PUBLIC = "return named or (is_public(address) and not own)"
HOLES = {
    "private addresses": Hole("policy.py", PUBLIC, "return True", _inward("10.1.2.3")),
    "the machine's own": Hole("gate.py", "own=is_own(address)", "own=False", _inward("93.184.215.1")),
    "the name in TLS": Hole("conversation.py", "if not rule:", "if True:", _hello("another host")),
    "an encrypted name": Hole("target.py", "if hello.hidden:", "if False:", _hello("something encrypted")),
    "the host of another": Hole(
        "target.py", "if (host, port) != (target.host, target.port)", "if False", _ambiguous("the host of another")
    ),
    "both lengths": Hole("http1.py", "if lengths and encodings:", "if False:", _ambiguous("both lengths")),
    "line feeds": Hole("http1.py", "if any(_CONTROL.search(line)", "if any(False", _ambiguous("an escape")),
    "plain text in tunnels": Hole(
        "conversation.py",
        "elif data[0] != HANDSHAKE or self",
        "elif self",
        lambda proxy, origins: test_attacks.test_plain_text_to_another_host(proxy, origins, "another host"),
    ),
    "bytes": Hole("gate.py", "if self._left_bytes < 0", "if False", test_attacks.test_bytes_are_bounded),
    "the answer's cover": Hole(
        "exchange.py",
        "self._cover.feed(bytes(event.data)) if self._cover",
        "bytes(event.data) if self._cover",
        lambda proxy, origins: test_secrets.test_it_does_not_come_back(proxy, origins, "/pieces"),
    ),
    "compressed answers": Hole(
        "exchange.py",
        'if any(name.lower() == b"content-encoding"',
        'if False and any(name.lower() == b"content-encoding"',
        test_secrets.test_it_does_not_come_back_compressed_or_in_parts,
    ),
    "the hosts of secrets": Hole(
        "gate.py", "if (host, port) in secret.hosts", "if port == 443", test_secrets.test_other_hosts_do_not_get_it
    ),
    "trust": Hole(
        "authority.py",
        'context.set_alpn_protocols(["http/1.1"])\n    return context',
        "context.check_hostname = False\n    context.verify_mode = ssl.CERT_NONE\n    return context",
        test_secrets.test_other_hosts_do_not_get_it,
    ),
}

# Of a proxy of builds.
_NAME = 'name = [origin, path, self._credentials.decode("latin-1")]'
SHELF_HOLES = {
    "connections of their own": Hole(
        "conversation.py", "(last.pure or not pure) and", "", test_downloads.test_a_host_that_loses_count_of_requests
    ),
    "users": Hole("fetch.py", _NAME, "name = [origin, path]", test_downloads.test_users_have_files_of_their_own),
    "hosts": Hole("fetch.py", _NAME, "name = [path]", test_downloads.test_every_address_has_a_file_of_its_own),
    "the digest": Hole(
        "downloads.py",
        'if hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\\n" != digest:',
        'if hashlib.file_digest(file, "sha256") is digest:',
        test_downloads.test_files_that_were_changed_are_fetched_again,
    ),
    "the name": Hole(
        "downloads.py",
        'if about.pop("key") != key:',
        'if not about.pop("key"):',
        test_downloads.test_a_file_under_anothers_name,
    ),
    "the address's digest": Hole(
        "downloads.py",
        'self._named in ("", self._content.hexdigest())',
        "True",
        test_downloads.test_a_file_whose_digest_is_in_its_address,
    ),
    "errors": Hole(
        "fetch.py",
        "response.status_code != 200",
        "response.status_code == 201",
        lambda shelf, origins: test_downloads.test_answers_that_are_not_kept(shelf, origins, "not found"),
    ),
    "certificates": Hole(
        "authority.py",
        "context.verify_flags &= ~ssl.VERIFY_X509_STRICT",
        "context.check_hostname, context.verify_mode = False, ssl.CERT_NONE",
        test_downloads.test_a_host_whose_certificate_is_not_valid,
    ),
    "the policy": Hole(
        "conversation.py",
        "self._gate.check(target.host, target.port)\n        downloads",
        "downloads",
        test_downloads.test_a_copy_is_no_way_round_a_policy,
    ),
}


def _without(hole: Hole, tmp_path: Path) -> dict[str, str]:
    """An environment in which the package has the hole."""
    ignored = shutil.ignore_patterns("__pycache__")
    package = shutil.copytree(Path(isol8.__file__).parent, tmp_path / "src" / "isol8", ignore=ignored)
    file = package / "egress" / hole.file
    before = file.read_text()
    assert hole.line in before, f"{hole.line} is no longer in {hole.file}"
    file.write_text(before.replace(hole.line, hole.instead))
    return {"PYTHONPATH": str(tmp_path / "src")}


@pytest.mark.parametrize("name", HOLES)
async def test_a_missing_check_is_seen(surroundings: Surroundings, origins: Origins, tmp_path: Path, name: str) -> None:
    hole = HOLES[name]
    origins.zone[test_secrets.STRANGER] = origins.zone[HOST]
    environment = _without(hole, tmp_path)
    with running_proxy(surroundings, tmp_path / "log", environment) as proxy, pytest.raises(AssertionError):
        await hole.check(proxy, origins)


@pytest.mark.parametrize("name", SHELF_HOLES)
async def test_a_missing_check_of_what_is_kept_is_seen(
    surroundings: Surroundings, origins: Origins, tmp_path: Path, name: str
) -> None:
    hole = SHELF_HOLES[name]
    origins.zone[test_secrets.STRANGER] = origins.zone[HOST]
    environment = _without(hole, tmp_path)
    with shelving(surroundings, tmp_path, environment) as shelf, pytest.raises(AssertionError):
        await hole.check(shelf, origins)
