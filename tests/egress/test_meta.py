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
from tests.egress import test_attacks, test_secrets
from tests.egress.conftest import RunningProxy, Surroundings, running_proxy
from tests.egress.messages import HOST
from tests.egress.origins import Origins

Check = Callable[[RunningProxy, Origins], Coroutine[Any, Any, None]]


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
        "elif data[0] != HANDSHAKE:",
        "elif False:",
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


@pytest.mark.parametrize("name", HOLES)
async def test_a_missing_check_is_seen(surroundings: Surroundings, origins: Origins, tmp_path: Path, name: str) -> None:
    hole = HOLES[name]
    origins.zone[test_secrets.STRANGER] = origins.zone[HOST]
    ignored = shutil.ignore_patterns("__pycache__")
    package = shutil.copytree(Path(isol8.__file__).parent, tmp_path / "src" / "isol8", ignore=ignored)
    file = package / "egress" / hole.file
    before = file.read_text()
    assert hole.line in before, f"{hole.line} is no longer in {hole.file}"
    file.write_text(before.replace(hole.line, hole.instead))
    environment = {"PYTHONPATH": str(tmp_path / "src")}
    with running_proxy(surroundings, tmp_path / "log", environment) as proxy, pytest.raises(AssertionError):
        await hole.check(proxy, origins)
