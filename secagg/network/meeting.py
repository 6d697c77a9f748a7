"""How parties find each other, make sure who is who, and agree on a session.

Of each pair the party whose name sorts first listens and the other dials, again and again until the
deadline, so that parties may be started in any order. (The order of the roster would do as well, but parties
whose rosters differ must meet to find that out.) Then, on every connection:

1. TLS 1.3 in which each side accepts exactly the certificates it was given; no authority is asked.
2. Both send a `Hello`: release, roster, digest of what was agreed, fresh nonce. Whoever finds a difference
   tells the others, and no program starts.
3. When all hellos are there: session = SHA-256 of the agreement and of every party's name and nonce. Both
   send it; a difference means that somebody told two parties different things.

Whoever connects without a certificate that is known here is dropped and holds up nobody: every connection is
a generator that says what it waits for, and one poll serves them all.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import select
import socket
import ssl
import struct
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import secagg
from secagg.errors import (
    AbortedError,
    AuthenticationError,
    JobError,
    PeerVanishedError,
    RemoteProtocolError,
    SecaggError,
    UsageError,
    WireError,
)
from secagg.network.link import Link
from secagg.network.pinning import Tls, Waiting, verification
from secagg.party import PartyId, aborted
from secagg.wire import FrameType, Message, decode_control, encode_control

_log = logging.getLogger(__name__)

AGREEMENT_BYTES: Final = 32
NONCE_BYTES: Final = 32
_SESSION_LABEL: Final = b"secagg network session v1"
_MAX_HELLO_BYTES: Final = 1 << 20
_MAX_REASON: Final = 1000
_MAX_CALLERS: Final = 64  # connections that have not said who they are; the oldest makes room
_GREETING_S: Final = 10.0  # for a caller to say who it is, and for one attempt to dial
_FIRST_RETRY_S: Final = 0.05
_LAST_RETRY_S: Final = 1.0
_TELL_S: Final = 3.0  # how long a party that found a difference stays to tell those who come later
_TURN_S: Final = 0.05

Address = tuple[str, int]
Conversation = Generator[Waiting, None, None]


class Hello(Message):
    """What each party says first."""

    release: str
    name: str
    roster: list[str]
    agreement: bytes
    nonce: bytes


class Session(Message):
    """The session that the sender derived."""

    session: bytes


class Abort(Message):
    """Why the sender ends the run, and whose doing it was."""

    about: str
    reason: str


def abort_frame(error: BaseException, about: PartyId = "") -> bytes:
    """Return the frame that tells a peer why this party ends; of foreign errors only the type, for they may hold data."""
    reason = str(error) if isinstance(error, SecaggError) else type(error).__name__
    return encode_control(FrameType.ABORT, Abort(about or getattr(error, "peer", ""), reason[:_MAX_REASON]))


def read_abort(frame: memoryview, peer: PartyId, roster: Sequence[PartyId]) -> AbortedError:
    """Return the error that an ABORT frame from `peer` means here."""
    abort = decode_control(frame, Abort, peer=peer)
    return aborted(peer, abort.about if abort.about in roster else peer, _printable(abort.reason))


def derive_session(agreement: bytes, nonces: Mapping[PartyId, bytes]) -> bytes:
    """Return the session identifier, 32 bytes; `nonces` in roster order."""
    digest = hashlib.sha256()
    for part in (_SESSION_LABEL, agreement, *(p for name, n in nonces.items() for p in (name.encode(), n))):
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.digest()


class _DroppedError(Exception):
    """A connection that leads nowhere, and why."""


@dataclass(slots=True, eq=False)
class _Newcomer:
    """A connection that is not a link yet."""

    talk: Conversation
    deadline: float
    dialled: PartyId | None  # None for a caller
    fd: int = -1
    events: int = 0


class Meeting:
    """Connections to all other parties, from nothing to an agreed session.

    Args:
      me, roster: as in `Party`.
      addresses: where the other parties listen.
      listen: where this party listens.
      agreement: 32-byte digest of what all parties agreed to run.
      tls: None for plain connections, in which anybody may claim any name.
      connect_s: how long to wait for the others.

    Attributes:
      links: the connections, by peer.

    Raises:
      UsageError: `agreement` is not a digest, or the address to listen at cannot be used.
    """

    def __init__(
        self,
        me: PartyId,
        roster: Sequence[PartyId],
        addresses: Mapping[PartyId, Address],
        listen: Address,
        *,
        agreement: bytes,
        tls: Tls | None,
        connect_s: float,
    ) -> None:
        if len(agreement) != AGREEMENT_BYTES:
            raise UsageError(f"expected a digest of {AGREEMENT_BYTES} bytes, got {len(agreement)}")
        self.links: dict[PartyId, Link] = {}
        self._me = me
        self._roster = list(roster)
        self._others = [name for name in roster if name != me]
        self._addresses = addresses
        self._tls = tls
        self._connect_s = connect_s
        self._hello = Hello(secagg.__version__, me, self._roster, agreement, secrets.token_bytes(NONCE_BYTES))
        self._nonces: dict[PartyId, bytes] = {}
        self._sessions: dict[PartyId, bytes] = {}
        self._session = b""
        self._newcomers: list[_Newcomer] = []
        self._redial = {name: (0.0, _FIRST_RETRY_S) for name in self._others if name < me}
        self._why: dict[PartyId, str] = {}  # why the last attempt to dial failed
        self._turned_away = ""  # the last caller without a known certificate
        self._error: SecaggError | None = None
        self._about = ""
        self._told: set[PartyId] = set()
        self._leave_at = 0.0
        self._listener = _listen(me, listen)

    def meet(self) -> bytes:
        """Connect to everybody and return the session.

        Raises:
          AuthenticationError: a party is not who it should be, or takes this one for another.
          RemoteProtocolError: a party runs another release, or parties were told different things.
          JobError: a party agreed to something else, or with others.
          AbortedError: another party found such a thing first, or turns this one away.
          PeerVanishedError: a party did not come in time.
        """
        deadline = time.monotonic() + self._connect_s
        while self._error or len(self.links) < len(self._others):
            self._turn(deadline)
        nonces = {**self._nonces, self._me: self._hello.nonce}
        self._session = derive_session(self._hello.agreement, {name: nonces[name] for name in self._roster})
        for link in self.links.values():
            link.send([encode_control(FrameType.HELLO, Session(self._session))])
            link.flush()
            self._compare(link.peer)
        # Others may still be waiting for somebody who came to this party just before the deadline.
        deadline = max(deadline, time.monotonic() + _GREETING_S)
        while self._error or len(self._sessions) < len(self._others):
            self._turn(deadline)
        return self._session

    def serve(self, timeout_s: float, wake: socket.socket) -> None:
        """During the run: turn callers away for a while, or until something arrives at `wake`."""
        self._poll([], timeout_s, wake)

    def tell(self, error: BaseException, about: PartyId = "") -> None:
        """Tell everybody who is connected why this party ends."""
        for link in self.links.values():
            link.send([abort_frame(error, about)])
            link.flush()
            self._told.add(link.peer)

    def close(self) -> None:
        """Stop listening and drop whoever has not become a link."""
        for newcomer in self._newcomers:
            newcomer.talk.close()
        self._newcomers.clear()
        self._listener.close()

    def _turn(self, deadline: float) -> None:
        """Go on with whatever can go on, for a short time."""
        now = time.monotonic()
        if self._error is not None and (now >= self._leave_at or self._told.issuperset(self._others)):
            raise self._error
        if now >= deadline:
            error = self._error or self._nobody()
            self.tell(error, self._about)
            raise error
        busy = {newcomer.dialled for newcomer in self._newcomers}
        for peer, (due, pause) in self._redial.items():
            if now >= due and peer not in self.links and peer not in busy:
                self._redial[peer] = (now + pause, min(2 * pause, _LAST_RETRY_S))
                self._step(_Newcomer(self._dial(peer), now + _GREETING_S, peer))
        self._poll([link for name, link in self.links.items() if name not in self._sessions], _TURN_S)

    def _poll(self, links: Iterable[Link], timeout_s: float, wake: socket.socket | None = None) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        if wake is not None:
            poll.register(wake, select.POLLIN)
        for link in links:
            poll.register(link, select.POLLIN)
        for newcomer in self._newcomers:
            poll.register(newcomer.fd, newcomer.events)
        ready = {fd for fd, _ in poll.poll(1000 * timeout_s)}
        for link in links:
            if link.fileno() in ready:
                self._hear(link)
        now = time.monotonic()
        for newcomer in list(self._newcomers):
            if newcomer.fd in ready:
                self._step(newcomer)
            elif now >= newcomer.deadline:
                self._drop(newcomer, "nothing came in time")
        if self._listener.fileno() in ready:
            self._accept()

    def _accept(self) -> None:
        try:
            sock, address = self._listener.accept()
        except OSError as error:
            _log.warning("%s could not accept a connection: %s", self._me, error.strerror)
            return
        callers = [newcomer for newcomer in self._newcomers if newcomer.dialled is None]
        if len(callers) >= _MAX_CALLERS:
            self._drop(callers[0], "it did not say who it is, and others are waiting")
        sock.setblocking(False)
        talk = self._greet(sock, None, f"{address[0]}:{address[1]}")
        self._step(_Newcomer(talk, time.monotonic() + _GREETING_S, None))

    def _step(self, newcomer: _Newcomer) -> None:
        try:
            newcomer.fd, newcomer.events = next(newcomer.talk)
        except StopIteration:
            self._drop(newcomer, "")
        except (_DroppedError, OSError, PeerVanishedError) as error:
            self._drop(newcomer, getattr(error, "strerror", None) or str(error))
        except SecaggError as error:
            self._drop(newcomer, str(error))
            self._found(error, newcomer.dialled or getattr(error, "peer", ""))
        else:
            if newcomer not in self._newcomers:
                self._newcomers.append(newcomer)

    def _drop(self, newcomer: _Newcomer, why: str) -> None:
        newcomer.talk.close()
        if newcomer in self._newcomers:
            self._newcomers.remove(newcomer)
        if why and newcomer.dialled is not None:
            self._why[newcomer.dialled] = why
            _log.info("%s did not reach %s: %s", self._me, newcomer.dialled, why)
        elif why:
            _log.warning("%s dropped a connection: %s", self._me, why)

    def _dial(self, peer: PartyId) -> Conversation:
        host, port = self._addresses[peer]
        failure = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                code = sock.connect_ex(address)
                if code == errno.EINPROGRESS:
                    yield sock.fileno(), select.POLLOUT
                    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    yield from self._greet(sock, peer, f"{host}:{port}")
                    return
                failure = OSError(code, os.strerror(code))
            finally:
                if not self._is_link(sock):
                    sock.close()
        raise failure
