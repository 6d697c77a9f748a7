"""Listening and dialling without blocking, with errors that say what is wrong with an address."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import socket
import threading
from collections.abc import Generator
from typing import Any, Final

from secagg.errors import UsageError
from secagg.party import PartyId

Address = tuple[str, int]
Waiting = tuple[int, int]  # a descriptor, and the poll events that somebody waits for there

_Found = tuple[int, int, int, str, Any]  # as from getaddrinfo

_BACKLOG: Final = 1024  # callers who wait while a handshake is computed


def dial(host: str, port: int) -> Generator[Waiting, None, socket.socket]:
    """Connect to the first of a machine's addresses that answers; return the socket, non-blocking.

    Raises:
      OSError: none answers, or there is none.
    """
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in (yield from _look_up_beside(host, port)):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            code = sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                yield sock.fileno(), select.POLLOUT
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except BaseException:
            sock.close()
            raise
        if not code:
            return sock
        sock.close()
        failure = OSError(code, os.strerror(code))
    raise failure


def _look_up_beside(host: str, port: int) -> Generator[Waiting, None, list[_Found]]:
    """Look a machine up in a thread of its own, for the standard library can only block."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return _look_up(host, port)
    answers: list[list[_Found] | OSError] = []
    reader, writer = socket.socketpair()

    def look() -> None:
        with writer:  # closing it wakes the reader
            try:
                answers.append(_look_up(host, port))
            except OSError as error:
                answers.append(error)

    with reader:
        threading.Thread(target=look, name="secagg look-up", daemon=True).start()
        yield reader.fileno(), select.POLLIN
    answer = answers[0] if answers else OSError(f"{host} could not be looked up")
    if isinstance(answer, OSError):
        raise answer
    return answer


def open_listener(me: PartyId, address: Address) -> socket.socket:
    """Return a non-blocking socket that listens.

    Raises:
      UsageError: the address cannot be used, or something listens there already.
    """
    host, port = address
    try:
        family, kind, protocol, _, where = _look_up(host, port)[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        hint = f"; is {me} running already?" if error.errno == errno.EADDRINUSE else ""
        raise UsageError(f"{me} cannot listen at {host}:{port}: {error.strerror}{hint}") from None
    return sock


def _look_up(host: str, port: int) -> list[_Found]:
    if not 0 <= port < 1 << 16:
        raise OSError(errno.EINVAL, f"there is no port {port}")
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except UnicodeError:
        raise OSError(errno.EINVAL, f"{host!r} cannot be the name of a machine") from None
