"""The proxy's process: it takes gates from the API process, and serves them.

It has the machine's network, a user of its own, and nothing else; what it parses comes from sandboxes and from the
Internet. One connection on its unix socket is one gate. The API process sends a byte with the listening socket as a
descriptor, then a line: the policy as JSON. The answer is a line, `{"bundle": PEM}`, when the gate is open. When the
API process has shut its side (or died), the gate closes, and the last line is `{"requests": […], "dropped": N}`.

Started as `python -m isol8.egress.process LISTENER_FD OPTIONS_JSON`.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from typing import Any

import uvloop

from isol8.egress.authority import Authority, client_context
from isol8.egress.client import MAX_LINE_BYTES
from isol8.egress.conversation import Conversation, Means
from isol8.egress.downloads import Downloads
from isol8.egress.gate import Gate
from isol8.egress.http1 import Incoming
from isol8.egress.resolver import Resolver
from isol8.egress.streams import PlainStream
from isol8.kernel import peers, privileges
from isol8.kernel.confinement import give_up_rights
from isol8.kernel.signals import settle
from isol8.model import BoundSecret, EgressPolicy, HostRule

_LOG = logging.getLogger("isol8.egress")
_GREETING_TIMEOUT_S = 10.0


class Proxy:
    """Serves gates that processes of user `client_uid` bring to `listener`."""

    def __init__(self, listener: socket.socket, client_uid: int, means: Means) -> None:
        self._listener = listener
        self._client_uid = client_uid
        self._means = means
        self._trust = functools.lru_cache(maxsize=4)(client_context)  # certificates hardly ever change
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until SIGTERM."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        self._resolver = Resolver()
        self._listener.setblocking(False)
        accepting = loop.create_task(self._accept())
        await stop.wait()
        accepting.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(accepting, *self._tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            uid = peers.user_of(connection)
            if uid not in (self._client_uid, os.getuid()):
                _LOG.warning("a process of user %d was turned away", uid)
                connection.close()
                continue
            task = loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            listener = await _receive_listener(connection)
        except (OSError, ValueError, TimeoutError):
            connection.close()
            return
        with listener:
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE_BYTES)
            try:
                await self._hold_open(listener, reader, writer)
            except (OSError, ValueError):
                pass  # the API process is gone, and the gate with it
            finally:
                writer.close()

    async def _hold_open(
        self, listener: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One gate, from its policy to its log."""
        policy = _policy(json.loads(await reader.readline()))
        policy, means = self._prepared(policy)
        gate = Gate(listener, policy, self._resolver, functools.partial(_converse, means))
        try:
            writer.write(json.dumps({"bundle": _bundle(means.authority, policy)}).encode() + b"\n")
            await reader.read()
        finally:
            await gate.close()
        requests = [dataclasses.asdict(note) | {"started_at": note.started_at.isoformat()} for note in gate.notes]
        writer.write(json.dumps({"requests": requests, "dropped": gate.dropped}).encode() + b"\n")
        await writer.drain()

    def _prepared(self, policy: EgressPolicy) -> tuple[EgressPolicy, Means]:
        """Nothing is kept where there is no place for it, or TLS to its hosts could not be checked."""
        means = self._means
        try:
            if means.downloads and policy.downloads:
                return policy, dataclasses.replace(means, trust=self._trust(policy.certificates))
        except ssl.SSLError as error:
            _LOG.warning(
                "packages are downloaded every time: one of the machine's certificates is none: %s", error.reason
            )
        return dataclasses.replace(policy, downloads=()), means


async def _converse(means: Means, gate: Gate, stream: PlainStream) -> None:
    await Conversation(gate, means, Incoming(stream)).run()


def _bundle(authority: Authority, policy: EgressPolicy) -> str:
    """What programs are to trust; see OpenGate."""
    if policy.secrets:
        return authority.bundle.decode()
    return authority.certificate.decode() if policy.downloads else ""


async def _receive_listener(connection: socket.socket) -> socket.socket:
    """The descriptor that the first byte brings. Raises OSError, ValueError, TimeoutError."""
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        async with asyncio.timeout(_GREETING_TIMEOUT_S):
            await readable.wait()
    finally:
        loop.remove_reader(connection)
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data)
    if len(descriptors) != 1:
        raise ValueError("no listener came along")
    listener = socket.socket(fileno=descriptors[0])
    listener.setblocking(False)
    return listener


def _policy(tree: dict[str, Any]) -> EgressPolicy:
    """A policy as JSON has it. It comes from the API process, which has checked it."""
    return EgressPolicy(
        **tree
        | {
            "allow": tuple(tuple(HostRule(**rule) for rule in rules) for rules in tree["allow"]),
            "deny": tuple(HostRule(**rule) for rule in tree["deny"]),
            "ports": tuple(tree["ports"]),
            "ranges": tuple(tree["ranges"]),
            "downloads": tuple(tree["downloads"]),
            "secrets": tuple(
                BoundSecret(**secret | {"hosts": tuple((host, port) for host, port in secret["hosts"])})
                for secret in tree["secrets"]
            ),
        }
    )


def _enter_downloads(directory: str, total_bytes: int, uid: int) -> Downloads | None:
    """The files that are kept, in `directory`, which becomes the working directory and the user's; None, and a warning,
    when it cannot be used."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(directory, uid, uid)
        os.chmod(directory, 0o700)
        os.chdir(directory)
    except OSError as error:
        _LOG.warning("packages are downloaded every time: %s cannot be used: %s", directory, error.strerror)
        return None
    return Downloads(total_bytes)


def _give_up_rights(uid: int, writable: set[str]) -> None:
    """Everything was read from the file system that is needed, but for names. It stays dumpable, to read certificates
    from its own /proc/self/fd: as root it becomes `uid`, which nobody else is, so its memory is still its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    given = {os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
    package = os.path.dirname(os.path.dirname(__file__))
    give_up_rights(uid, {"/usr", "/etc", "/run/systemd/resolve", sys.prefix, package, *given}, writable)
    privileges.set_dumpable(True)


def main() -> None:
    """Entry point of the proxy's process."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    options = json.loads(sys.argv[2])
    settle()
    authority, trust = Authority(), client_context()
    os.chdir("/")
    directory, uid = options.get("downloads"), options["uid"]
    downloads = _enter_downloads(directory, options["downloads_bytes"], uid) if directory else None
    _give_up_rights(uid, {directory} if directory else set())
    if downloads:
        downloads.clear()
    proxy = Proxy(listener, options["client_uid"], Means(authority, trust, downloads))
    privileges.die_with_parent(signal.SIGTERM)
    if os.getppid() != options["owner"]:
        return
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(proxy.run())


if __name__ == "__main__":
    main()
