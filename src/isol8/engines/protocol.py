"""What the API process and the supervisor say to each other, over a SOCK_SEQPACKET unix socket.

One message is one JSON object. Requests carry `id` and `op`; the answer carries the same `id`, and either its values or
`error` (with `conflict` true when the kernel refused other limits, or a port). The answer to `create` brings one
descriptor: the sandbox's stream. So does the answer to `listen`: a socket that listens on the sandbox's own loopback,
or a unix socket that reaches into it.

    ready    → fixed: names of the limits that a live sandbox keeps; mountable: whether `mount` can work; keeps: whether
               sandboxes may outlive a crash. Requests are read only once the supervisor can create
    create   sandbox, runtime, limits, network, image, boot, mounts, kept: whether it may outlive a crash
                             → groups (controller → directory), version; {} where this machine does not have the cgroup
    limit    sandbox, limits                            → {}
    usage    sandbox                                    → usage: for a sandbox whose cgroup is not on this machine
    mount    sandbox, mounts ([name, target], …)        → {}
    listen   sandbox, port                              → {}
    destroy  sandbox                                    → {} when it is gone
    keep     sandbox, note (any object)                 → {}: it does outlive a crash, from now on
    kept                                                → kept: names of sandboxes that nobody is connected to
    adopt    sandbox                                    → what `create` answers and brings; request: what it was made
                                                          from, with its limits now; note; token (hexadecimal): see
                                                          runner/resumption.py
"""

from __future__ import annotations

import array
import json
import socket
from typing import Any

MAX_MESSAGE_BYTES = 64 * 1024
_MAX_DESCRIPTORS = 4

Message = dict[str, Any]


def send(connection: socket.socket, message: Message, descriptors: list[int] | None = None) -> None:
    """Send one message. Raises OSError."""
    payload = json.dumps(message).encode()
    if descriptors:
        connection.sendmsg([payload], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
    else:
        connection.send(payload)


def receive(connection: socket.socket) -> tuple[Message, list[int]] | None:
    """One message and the descriptors it brought (the caller's to close), or None at the end. Raises OSError."""
    space = socket.CMSG_SPACE(4 * _MAX_DESCRIPTORS)
    payload, ancillary, _, _ = connection.recvmsg(MAX_MESSAGE_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % 4])
    if not payload:
        return None
    return json.loads(payload), list(descriptors)
