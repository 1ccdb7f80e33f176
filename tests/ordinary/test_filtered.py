"""A filtered network of an ordinary user's server: the same socket, and a proxy that has given up what it can."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isol8.egress.authority import Authority
from tests.conftest import Serve
from tests.support import machine
from tests.support.calls import execute

VALUE = "sk-0123456789"


@contextmanager
def _echo(authority: Authority) -> Iterator[int]:
    """A host at 127.0.0.1 that sends back what it is asked, over TLS; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = authority.context("127.0.0.1")

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=True) as connection:
                asked = connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(asked) + asked)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_filtered_network(serve: Serve) -> None:
    authority = Authority()
    with _echo(authority) as port, tempfile.TemporaryDirectory() as directory:
        bundle = Path(directory, "authorities.pem")
        bundle.write_bytes(authority.bundle)
        for path in (Path(directory), bundle):
            path.chmod(0o755)
        config = {
            "policy": {"networks": ["none", "filtered"]},
            "network": {"allowedRanges": ["127.0.0.0/8"], "ports": [port]},
        }
        running = serve(config, environment={"SSL_CERT_FILE": str(bundle)})
        options = {
            "network": "filtered",
            "networkFilter": {"whitelist": [r"127\.0\.0\.1"]},
            "secrets": {"KEY": {"value": VALUE, "hosts": [f"127.0.0.1:{port}"]}},
            "logNetwork": True,
        }
        code = (
            f'curl -sS --noproxy "" -H "X-Key: $KEY" https://127.0.0.1:{port}/\n'
            f"curl -s --noproxy '' http://127.0.0.2:{port}/\n"
            f"curl -s --noproxy '*' -m 5 http://127.0.0.1:{port}/ || echo no other way"
        )
        with running.client() as client:
            result = execute(client, code, "bash", options=options)
        assert result["stderr"] == "", result
        assert f"X-Key: {'*' * len(VALUE)}" in result["stdout"]
        assert "blocked by the network policy" in result["stdout"]
        assert result["stdout"].endswith("no other way\n")
        assert [entry["action"] for entry in result["networkLogs"]] == ["ALLOW", "ALLOW", "BLOCK"]
        found = machine.proxies(running.pid)
        (proxy,) = {pid for pid in found if machine.parent(pid) == running.pid} or found
        status = machine.status(proxy)
        assert int(status["CapEff"], 16) == 0
        assert status["NoNewPrivs"] == "1"
