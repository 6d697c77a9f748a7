"""How parties find each other, make sure who is who, and agree on a session.

In each pair the party whose name sorts first listens, and the other dials until the deadline. So parties may be started in
any order. Names rather than rosters decide, because parties with different rosters must meet to find out. Then, on every
connection:

1. TLS 1.3 in which each side accepts exactly the certificates it was given; no authority is asked.
2. Both send a `Hello`: release, roster, digest of what was agreed, commitment to a fresh nonce. Whoever finds a
   difference tells the others, and no program starts.
3. When all hellos are there, both tell their nonces. Nobody has chosen its own knowing others': what is derived
   from the session, such as a random graph, is nobody's choice. From here on a party that leaves ends the run.
4. When all nonces are there: session = SHA-256 of the agreement and of every party's name and nonce. Both
   send it, with a digest of what they heard of each party. Somebody who told two parties different things is found
   by it; the honest ones do not name each other for it.

A party that sends a `Probe` in place of its hello is told what this one runs and what time it has (see `probe`). It does
not take part by it. One that sends `Unable` cannot take part in this run, which ends for everybody (see `unable`).

Whoever connects without a certificate that is known here is dropped and holds up nobody. Every connection is a generator
that says what it waits for. One poll serves them all, first those who have shown more (see `callers`).

Longer than most modules: the four steps are one state machine over the same connections.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import secrets
import select
import socket
import ssl
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from secagg import release
from secagg.errors import (
    AuthenticationError,
    PeerVanishedError,
    RemoteProtocolError,
    SecaggError,
    UsageError,
    WireError,
)
from secagg.network.callers import Callers, DropLog, Newcomer, Stage, source_of
from secagg.network.hello import (
    AGREEMENT_BYTES,
    NONCE_BYTES,
    Hello,
    Nonce,
    Session,
    Unable,
    abort_frame,
    check_hello,
    check_nonce,
    check_session,
    decode_greeting,
    derive_session,
    heard_digest,
    nonce_commitment,
    read_abort,
    state_frame,
    unable,
)
from secagg.network.link import Link, next_frame
from secagg.network.pinning import Tls, handshake_fault, verification
from secagg.network.sockets import Address, Waiting, dial, open_listener
from secagg.party import PartyId
from secagg.printable import printable
from secagg.wire import FrameType, decode_control, encode_control

_log = logging.getLogger(__name__)

_MAX_HELLO_EXCESS: Final = 1 << 16  # bytes by which a hello may be longer than this party's own
_MAX_HEARD: Final = 64  # bytes that a session frame has for each party
_STARTED_A_TURN: Final = 32  # handshakes, each of which costs a signature
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_GREETING_S: Final = 10.0  # for a caller to say who it is, and for one attempt to dial
_FIRST_RETRY_S: Final = 0.05
_LAST_RETRY_S: Final = 1.0
_TELL_S: Final = 1.0  # how long a party that found a difference stays to tell those who come later
_TURN_S: Final = 0.05
_RUNNING_TURN_S: Final = 0.02  # between turns during the run, where callers are turned away alone


@dataclass(frozen=True, slots=True)
class Attendance:
    """Who is there while parties meet, and how long this one still waits for the others."""

    present: tuple[PartyId, ...]
    missing: tuple[PartyId, ...]
    left_s: float


Conversation = Generator[Waiting, None, None]


class _DroppedError(Exception):
    """A connection that leads nowhere, and why."""


class Meeting:
    """Connections to all other parties, from nothing to an agreed session.

    Args:
      me, roster: as in `Party`.
      addresses: where the other parties listen.
      listen: where this party listens.
      agreement: 32-byte digest of what all parties agreed to run.
      fields: digests of its parts by name; told to the others, who name those that differ.
      tls: None for plain connections, in which anybody may claim any name.
      connect_s: how long to wait for the others.
      on_turn: called some twenty times a second while this party waits for others; what it raises ends the meeting.

    Attributes:
      me, roster: as given.
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
        fields: Mapping[str, bytes] = MappingProxyType({}),
        connect_s: float,
        on_turn: Callable[[Attendance], None] | None = None,
    ) -> None:
        if len(agreement) != AGREEMENT_BYTES:
            raise UsageError(f"expected a digest of {AGREEMENT_BYTES} bytes, got {len(agreement)}")
        self.links: dict[PartyId, Link] = {}
        self.me = me
        self.roster = list(roster)
        self._others = [name for name in roster if name != me]
        self._addresses = addresses
        self._tls = tls
        self._connect_s = connect_s
        self._on_turn = on_turn
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._told_nonce = False
        commitment = nonce_commitment(me, self._nonce)
        self._hello = Hello(release.RELEASE, me, self.roster, agreement, commitment, dict(fields))
        self._commitments: dict[PartyId, bytes] = {}
        self._nonces: dict[PartyId, bytes] = {}
        self._sessions: dict[PartyId, Session] = {}
        self._session: Session | None = None
        self._hello_frame = encode_control(FrameType.HELLO, self._hello)
        self._max_frame_bytes = len(self._hello_frame) + _MAX_HELLO_EXCESS + _MAX_HEARD * len(self.roster)
        # In the order of their deadlines, for all have equally long.
        self._newcomers: dict[Newcomer, Conversation] = {}
        self._by_fd: dict[int, Newcomer] = {}
        self._callers = Callers()
        self._drops = DropLog(me)
        self._poller = select.poll()
        self._redial = {name: (0.0, _FIRST_RETRY_S) for name in self._others if name < me}
        self._why: dict[PartyId, str] = {}  # why the last attempt to dial failed
        self._gone: set[PartyId] = set()  # who was connected, and is not any more or came again
        self._turned_away = ""  # the last caller without a known certificate
        self._error: SecaggError | None = None
        self._about = ""
        self._told: set[PartyId] = set()
        self._leave_at = 0.0
        self._listener = open_listener(me, listen)
        self._poller.register(self._listener, select.POLLIN)

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
        self._told_nonce = True
        self._say(Nonce(self._nonce))
        # Others may still be waiting for somebody who came to this party just before the deadline.
        deadline = max(deadline, time.monotonic() + _GREETING_S)
        while self._error or len(self._nonces) < len(self._others):
            self._turn(deadline)
        nonces = {**self._nonces, self.me: self._nonce}
        session = derive_session(self._hello.agreement, {name: nonces[name] for name in self.roster})
        said = {**self._commitments, self.me: self._hello.commitment}
        heard = [heard_digest(name, said[name], nonces[name]) for name in self.roster]
        self._session = Session(session, heard)
        self._say(self._session)
        for peer in self._sessions:
            try:
                self._compare(peer)
            except RemoteProtocolError as error:
                self._found(error, error.peer)
        while self._error or len(self._sessions) < len(self._others):
            self._turn(deadline)
        return session

    def _say(self, message: Nonce | Session) -> None:
        for link in self.links.values():
            link.send([encode_control(FrameType.HELLO, message)])
            link.flush()

    def serve(self, timeout_s: float, wake: socket.socket) -> None:
        """During the run: turn callers away for a while, or until something arrives at `wake`."""
        if self._poll([], timeout_s, wake) > 0:
            pause = select.poll()  # so that strangers cannot keep this thread busy
            pause.register(wake, select.POLLIN)
            pause.poll(1000 * _RUNNING_TURN_S)

    def tell(self, error: BaseException, about: PartyId = "") -> list[PartyId]:
        """Tell everybody who is connected why this party ends; return whom it could be sent to."""
        sent = []
        for link in self.links.values():
            link.send([abort_frame(error, about)])
            link.flush()
            self._told.add(link.peer)
            if link.writable:
                sent.append(link.peer)
        return sorted(sent, key=self.roster.index)

    def _leave(self) -> None:
        """End all connections and tell nobody why."""
        for link in self.links.values():
            link.close()
        self.links.clear()

    def close(self) -> None:
        """Stop listening and drop whoever has not become a link."""
        for talk in self._newcomers.values():
            talk.close()
        self._newcomers.clear()
        self._by_fd.clear()
        self._listener.close()
        self._drops.settle(last=True)

    def _turn(self, deadline: float) -> None:
        """Go on with whatever can go on, for a short time."""
        now = time.monotonic()
        if self._on_turn is not None:
            missing = tuple(name for name in self._others if name not in self.links)
            self._on_turn(Attendance(tuple(self.links), missing, max(0.0, deadline - now)))
        if self._error is not None and (now >= self._leave_at or self._told.issuperset(self._others)):
            raise self._error
        if now >= deadline:
            error = self._error or self._nobody()
            if self._error is None and not self._told_nonce:
                self._leave()  # others may be ready to wait for longer, and this party may come again
            self.tell(error, self._about)
            raise error
        busy = {newcomer.dialled for newcomer in self._newcomers}
        for peer, (due, pause) in self._redial.items():
            if now >= due and peer not in self.links and peer not in busy:
                self._redial[peer] = (now + pause, min(2 * pause, _LAST_RETRY_S))
                self._enter(newcomer := Newcomer(now + _GREETING_S, peer), self._dial(newcomer))
        self._poll([link for name, link in self.links.items() if name not in self._sessions], _TURN_S)

    def _poll(self, links: Sequence[Link], timeout_s: float, wake: socket.socket | None = None) -> int:
        """Wait until something can go on, go on with it for a turn, and return how many connections moved."""
        poll = self._poller
        others: list[Link | socket.socket] = [*links, *([wake] if wake is not None else [])]
        for other in others:
            poll.register(other, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(1000 * timeout_s)}
        for other in others:
            poll.unregister(other)
        for link in links:
            if link.pending or link.fileno() in ready:
                self._hear(link)
        able = [newcomer for fd in ready if (newcomer := self._by_fd.get(fd)) is not None]
        # Those who have shown more first, and of equals the oldest: new callers must not keep those from going on.
        able.sort(key=lambda n: (-n.stage if n.dialled is None else -len(Stage), n.deadline))
        starts = 0
        for newcomer in able:
            starts += newcomer.dialled is None and newcomer.stage is Stage.CONNECTED
            if starts > _STARTED_A_TURN:
                break
            if newcomer in self._newcomers:  # else it had to make room
                self._step(newcomer)
        now = time.monotonic()
        for newcomer in list(self._newcomers):
            if now < newcomer.deadline:
                break
            self._drop(newcomer, "nothing came in time")
        accepted = self._accept() if self._listener.fileno() in ready else 0
        self._drops.settle()
        return len(able) + accepted

    def _accept(self) -> int:
        for accepted in range(self._callers.at_once):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return accepted
            except OSError as error:
                self._drops.dropped(Stage.CONNECTED, f"it could not be accepted ({error.strerror})")
                if error.errno in _NO_ROOM:
                    for caller in self._callers.idle():
                        self._drop(caller, "it had sent nothing, and there are no descriptors left")
                    time.sleep(_TURN_S)  # others may give descriptors back: the caller is still there
                return accepted + 1
            sock.setblocking(False)
            caller = Newcomer(time.monotonic() + _GREETING_S, None, source_of(address[0]))
            self._make_room(self._callers.add(caller))
            self._enter(caller, self._hear_caller(caller, sock, f"{address[0]}:{address[1]}"))
        return self._callers.at_once

    def _make_room(self, caller: Newcomer | None) -> None:
        if caller is not None:
            self._drop(caller, "it did not say who it is, and others are waiting")

    def _rise(self, newcomer: Newcomer, stage: Stage, source: str) -> None:
        """Note what a caller has shown."""
        if newcomer.dialled is None:
            self._make_room(self._callers.rise(newcomer, stage, source))

    def _enter(self, newcomer: Newcomer, talk: Conversation) -> None:
        self._newcomers[newcomer] = talk
        self._step(newcomer)

    def _step(self, newcomer: Newcomer) -> None:
        try:
            fd, events = next(self._newcomers[newcomer])
        except StopIteration:
            self._drop(newcomer, "")
        except (_DroppedError, OSError, PeerVanishedError) as error:
            self._drop(newcomer, getattr(error, "strerror", None) or str(error))
        except SecaggError as error:
            self._drop(newcomer, str(error))
            self._found(error, newcomer.dialled or str(getattr(error, "peer", "")))
        else:
            if (fd, events) != (newcomer.fd, newcomer.events):
                self._forget_fd(newcomer)
                newcomer.fd, newcomer.events = fd, events
                self._by_fd[fd] = newcomer
                self._poller.register(fd, events)

    def _forget_fd(self, newcomer: Newcomer) -> None:
        if self._by_fd.get(newcomer.fd) is newcomer:
            del self._by_fd[newcomer.fd]
            self._poller.unregister(newcomer.fd)

    def _drop(self, newcomer: Newcomer, why: str) -> None:
        self._newcomers.pop(newcomer).close()
        self._forget_fd(newcomer)
        self._callers.remove(newcomer)
        if why and newcomer.dialled is not None:
            self._why[newcomer.dialled] = why
            _log.info("%s did not reach %s: %s", self.me, newcomer.dialled, why)
        elif why:
            self._drops.dropped(newcomer.stage, why)

    def _dial(self, newcomer: Newcomer) -> Conversation:
        peer = newcomer.dialled or ""
        sock = yield from dial(*self._addresses[peer])
        yield from self._greet(newcomer, sock, "{}:{}".format(*self._addresses[peer]))

    def _hear_caller(self, caller: Newcomer, sock: socket.socket, where: str) -> Conversation:
        """Wait until a caller sends something, which costs this party a descriptor alone; takes over `sock`."""
        try:
            yield sock.fileno(), select.POLLIN
            if not sock.recv(1, socket.MSG_PEEK):
                raise _DroppedError(f"{where} hung up")
        except BaseException:
            sock.close()
            raise
        self._rise(caller, Stage.SHAKING, caller.source)
        yield from self._greet(caller, sock, where)

    def _greet(self, newcomer: Newcomer, sock: socket.socket, where: str) -> Conversation:
        """Find out who is at the other end of a connection and exchange hellos; takes over `sock`."""
        dialled = newcomer.dialled
        peer = dialled or ""
        if self._tls is not None:
            try:
                sock, peer = yield from self._tls.shake(sock, dialled)
            except ssl.SSLCertVerificationError as error:
                self._turned_away = f"{where} ({verification(error)})"
                raise _DroppedError(f"{where} has no certificate that is known here") from None
            except ssl.SSLError as error:
                fault = handshake_fault(error)
                raise _DroppedError(fault if dialled else f"{where} {fault}") from None
            self._rise(newcomer, Stage.KNOWN, peer)
        link = Link(peer, sock, max_frame_bytes=self._max_frame_bytes)
        try:
            yield from self._introduce(link, dialled, where)
        finally:
            if self.links.get(link.peer) is not link:
                link.close()

    def _introduce(self, link: Link, dialled: PartyId | None, where: str) -> Conversation:
        if dialled is None and link.peer in self.links:
            yield from self._turn_away(link, where)
            return
        link.send([self._hello_frame])
        try:
            frame_type, frame = yield from next_frame(link)
        except AuthenticationError as error:
            if dialled is None or self._tls is None:
                raise _DroppedError(f"{where}: {error}") from None
            raise AuthenticationError(
                f"{dialled} ended the connection after it saw this party's certificate "
                f"{self._tls.identity.fingerprint}; does {dialled} have that one for {self.me}?",
                peer=dialled,
            ) from None
        if frame_type is FrameType.PROBE and self._tls is not None:
            self._tell_state(link)
            return
        if frame_type is FrameType.UNABLE and self._tls is not None:
            said = decode_control(frame, Unable, peer=link.peer)
            if said.agreement != self._hello.agreement:
                raise _DroppedError(f"{where}: {link.peer} cannot take part in another run")
            # It tells all who are there itself, so this party passes nothing on.
            self._end_quietly(unable(said, link.peer))
            return
        if frame_type is FrameType.ABORT:
            # Turned away, for another instance of this party is there. The others would take what this one tells for
            # the other instance's word.
            self._end_quietly(read_abort(frame, link.peer, self.roster))
            return
        if frame_type is not FrameType.HELLO:
            raise WireError(f"expected a hello from {link.peer or where}, got another frame", peer=link.peer)
        hello = decode_greeting(frame, Hello, peer=link.peer)
        if self._tls is None and dialled is None:
            link.peer = hello.name if hello.name in self._others else ""
        if not link.peer or link.peer in self.links:
            raise _DroppedError(f"{where} says that it is {printable(hello.name, 80)}")
        self.links[link.peer] = link  # also one that differs: it is told so
        self._commitments[link.peer] = hello.commitment
        try:
            check_hello(hello, link.peer, self._hello)
        except SecaggError as error:
            self._found(error, link.peer)
            return
        if self._error is not None:
            link.send([abort_frame(self._error, self._about)])
            link.flush()
            self._told.add(link.peer)

    def _turn_away(self, link: Link, where: str) -> Conversation:
        """End the connection of a second instance; whatever is wrong with it must not disturb the first."""
        why = f"{link.peer} is connected to {self.me} already; was it started twice?"
        with contextlib.suppress(RemoteProtocolError):
            frame_type, _ = yield from next_frame(link)  # a reset for unread bytes might overtake the answer
            if frame_type is FrameType.PROBE:
                self._tell_state(link)
                return
        link.send([abort_frame(RemoteProtocolError(why, peer=link.peer))])
        link.flush()
        raise _DroppedError(f"{where}: {why}")

    def _tell_state(self, link: Link) -> None:
        """Answer a probe, which changes nothing here: whoever asks does not take part by it."""
        link.send([state_frame(self._hello.agreement, self._hello.fields)])
        link.flush()

    # Links, until the session stands.

    def _hear(self, link: Link) -> None:
        peer = link.peer
        try:
            # What follows a peer's session belongs to the run.
            while peer not in self._sessions and (got := link.read()) is not None:
                frame_type, frame = got
                if frame_type is FrameType.ABORT:
                    raise read_abort(frame, peer, self.roster)
                if frame_type is not FrameType.HELLO:
                    raise WireError(f"expected nonce and session from {peer}, got another frame", peer=peer)
                if peer not in self._nonces:
                    nonce = decode_control(frame, Nonce, peer=peer)
                    self._nonces[peer] = check_nonce(nonce, peer, self._commitments[peer])
                else:
                    self._sessions[peer] = decode_control(frame, Session, peer=peer)
                    self._compare(peer)
        except PeerVanishedError as error:
            if self._told_nonce:  # it could come again with a nonce chosen knowing this one
                self._found(error, peer)
            else:  # it may come again
                _log.info("%s lost %s: %s", self.me, peer, error)
                self._gone.add(peer)
                del self.links[peer], self._commitments[peer]
                self._nonces.pop(peer, None)
                link.close()
        except SecaggError as error:
            self._found(error, getattr(error, "peer", ""))

    def _compare(self, peer: PartyId) -> None:
        if self._session is not None and peer in self._sessions:
            check_session(self._sessions[peer], self._session, peer, self.me, self.roster)

    def _found(self, error: SecaggError, about: PartyId) -> None:
        """Note why the run cannot start and tell everybody who is there; those who come later are told then."""
        if self._error is None:
            self._error, self._about = error, about
            self._leave_at = time.monotonic() + _TELL_S
            self._told.add(about)  # it meets the same difference
            self.tell(error, about)

    def _end_quietly(self, error: SecaggError) -> None:
        """Leave at once, and tell nobody."""
        self._error = self._error or error
        self._leave_at = 0.0
        self._leave()

    def _absence(self, name: PartyId) -> str:
        if name in self._gone:
            return f"{name} was there and left"
        if name in self._redial:
            return f"{name} at {'{}:{}'.format(*self._addresses[name])} ({self._why.get(name, 'no answer')})"
        return f"{name} did not connect to this party"

    def _nobody(self) -> SecaggError:
        missing = [name for name in self._others if name not in self._sessions or name not in self.links]
        absent = [name for name in missing if name not in self.links]
        absent.sort(key=lambda name: name in self._gone)  # who never came is named first
        reasons = [self._absence(name) for name in absent]
        if not absent:
            reasons = [f"{name} waits for others" for name in missing]
        text = f"not all parties were there within {self._connect_s:g} s: {'; '.join(reasons)}"
        if self._turned_away and any(name not in self._redial for name in absent):
            return AuthenticationError(
                f"{text}; a connection from {self._turned_away} was turned away for its certificate. Compare "
                f"fingerprints with {absent[0]}",
                peer=absent[0],
            )
        if not absent and len(self._others) > 1:
            return PeerVanishedError(
                f"{text}. Everybody is connected to this party, which cannot know whom they lack; ask them what they printed"
            )
        return PeerVanishedError(
            f"{text}. Check that they are running and that addresses and ports are right",
            peer=(absent or missing)[0],
        )
