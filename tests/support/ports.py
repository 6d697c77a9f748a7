"""Ports that nobody else gets while a test runs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Yield ports of 127.0.0.1 at which a party can listen, and which the system gives to nobody else meanwhile.

    A socket that is bound and does not listen keeps its port from everybody who asks for any port. Who asks for this
    one, and lets addresses be reused as parties do, gets it.
    """
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", 0))
            ports.append(int(sock.getsockname()[1]))
        yield ports
