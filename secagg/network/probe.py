"""Ask each of the other parties, over TLS, what it runs and what time it has there, without taking part in a run.

As in a `Meeting`, in each pair the party whose name sorts first listens and the other one dials. Both send a `Probe` and
answer the other's with a `State`. Who waits in a meeting, or is in a run, answers too, and neither is changed by it.

The clocks are compared as in Cristian's algorithm: when it answered, the peer's clock stood between this party's at the
question and at the answer. So the difference is known to half of the time that this took.

Learns: whoever has a certificate of the run: release, digests of what was agreed, and the clock. A hello tells as much.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from secagg.errors import AuthenticationError, PeerVanishedError, SecaggError, WireError
from secagg.network.hello import (
    AGREEMENT_BYTES,
    FIELD_DIGEST_BYTES,
    Hello,
    Probe,
    State,
    state_frame,
)
from secagg.network.identity import Identity
from secagg.network.link import Link
from secagg.network.pinning import Tls, handshake_fault, verification
from secagg.network.sockets import Address, Waiting, dial, open_listener
from secagg.network.tcp import Peer
from secagg.party import PartyId
from secagg.wire import FrameType, decode_control, encode_control

__all__ = ["Seen", "probe"]

_ATTEMPT_S: Final = 5.0  # for one connection, from dialling to the answer
_RETRY_S: Final = 0.5
_TURN_S: Final = 0.05
_MAX_CALLERS: Final = 64
_MAX_FRAME_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one peer.

    Attributes:
      dials: whether this party dials that one, and is not called by it.
      connected: whether a connection stood, secured by both parties' certificates.
      fault: why none stood the last time; "" where none was tried.
      refused: whether what failed is a certificate.
      waits: whether it is in a run's meeting, and no preflight.
      release, agreement, fields: what it runs; "" and empty where it did not say.
      apart_s: by how much its clock is ahead of this one; None where it did not say.
      within_s: how far this may be off.
    """

    dials: bool
    connected: bool = False
    fault: str = ""
    refused: bool = False
    waits: bool = False
    release: str = ""
    agreement: bytes = b""
    fields: Mapping[str, bytes] = field(default_factory=dict)
    apart_s: float | None = None
    within_s: float = math.inf


Conversation = Generator[Waiting, None, None]


def probe(
    *,
    me: PartyId,
    identity: Identity,
    peers: Sequence[Peer],
    listen: Address,
    agreement: bytes,
    fields: Mapping[str, bytes],
    wait_s: float,
    on_listening: Callable[[], None] | None = None,
    on_seen: Callable[[PartyId, Seen], None] | None = None,
) -> dict[PartyId, Seen]:
    """Return what was seen of each other party, as soon as all have answered or the time is over.

    Args:
      peers: all parties, this one among them.
      listen: where this party listens.
      agreement, fields: as in `run_party`; what others are told that ask.
      on_listening: called when this party listens.
      on_seen: called once for each party that has answered.

    Raises:
      UsageError: this party cannot listen at its address, or two parties have one certificate.
    """
    probing = _Probing(me, identity, peers, listen, state=lambda: state_frame(agreement, fields))
    try:
        if on_listening is not None:
            on_listening()
        return probing.run(wait_s, on_seen)
    finally:
        probing.close()


class _Probing:
    def __init__(
        self,
        me: PartyId,
        identity: Identity,
        peers: Sequence[Peer],
        listen: Address,
        *,
        state: Callable[[], bytes],
    ) -> None:
        others = [peer for peer in peers if peer.name != me]
        self._addresses = {peer.name: (peer.host, peer.port) for peer in others}
        self._tls = Tls(identity, {peer.name: peer.certificate for peer in others})
        self._state = state
        self._seen = {peer.name: Seen(dials=peer.name < me) for peer in others}
        self._done: set[PartyId] = set()
        self._due = {peer.name: 0.0 for peer in others if peer.name < me}
        # By what each waits for: its deadline, whom this party dialled there, and how it goes on.
        self._talks: dict[Conversation, tuple[float, PartyId | None, Waiting]] = {}
        self._listener = open_listener(me, listen)

    def run(self, wait_s: float, on_seen: Callable[[PartyId, Seen], None] | None) -> dict[PartyId, Seen]:
        until = time.monotonic() + wait_s
        told: set[PartyId] = set()
        while (now := time.monotonic()) < until and (self._done < self._seen.keys() or self._answering()):
            self._turn(now)
            for name in sorted(self._done - told):
                told.add(name)
                if on_seen is not None:
                    on_seen(name, self._seen[name])
        return self._seen

    def close(self) -> None:
        for talk in list(self._talks):
            talk.close()
        self._listener.close()

    def _answering(self) -> bool:
        return any(dialled is not None for _, dialled, _ in self._talks.values())

    def _turn(self, now: float) -> None:
        dialling = {dialled for _, dialled, _ in self._talks.values()}
        for name, due in self._due.items():
            if now >= due and name not in self._done and name not in dialling:
                self._due[name] = now + _RETRY_S
                self._begin(self._dial(name), name)
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        waiting: dict[int, Conversation] = {}
        for talk, (_, _, (fd, events)) in self._talks.items():
            poller.register(fd, events)
            waiting[fd] = talk
        ready = {fd for fd, _ in poller.poll(1000 * _TURN_S)}
        for fd in ready & waiting.keys():
            self._step(waiting[fd])
        for talk, (deadline, dialled, _) in list(self._talks.items()):
            if now >= deadline:
                self._end(talk, dialled, "nothing came in time")
        if self._listener.fileno() in ready:
            self._accept()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    sock, _ = self._listener.accept()
                except BlockingIOError:
                    raise
                except OSError:
                    return  # hung up again, or no descriptors are left
                if len(self._talks) >= _MAX_CALLERS + len(self._seen):
                    sock.close()
                    continue
                sock.setblocking(False)
                self._begin(self._talk(sock, None), None)

    def _begin(self, talk: Conversation, dialled: PartyId | None) -> None:
        self._talks[talk] = (time.monotonic() + _ATTEMPT_S, dialled, (-1, 0))
        self._step(talk)

    def _step(self, talk: Conversation) -> None:
        deadline, dialled, _ = self._talks[talk]
        try:
            self._talks[talk] = (deadline, dialled, next(talk))
        except StopIteration:
            self._end(talk, dialled, "")
        except ssl.SSLError as error:
            fault = (
                verification(error)
                if isinstance(error, ssl.SSLCertVerificationError)
                else handshake_fault(error)
            )
            self._end(talk, dialled, fault)
        except AuthenticationError as error:
            self._end(talk, dialled, str(error), refused=True)
        except (OSError, SecaggError) as error:
            self._end(talk, dialled, getattr(error, "strerror", None) or str(error))

    def _end(self, talk: Conversation, dialled: PartyId | None, fault: str, *, refused: bool = False) -> None:
        talk.close()
        del self._talks[talk]
        if dialled is not None and fault and dialled not in self._done:
            self._seen[dialled] = replace(self._seen[dialled], fault=fault, refused=refused)

    def _dial(self, name: PartyId) -> Conversation:
        sock = yield from dial(*self._addresses[name])
        yield from self._talk(sock, name)

    def _talk(self, sock: socket.socket, dialled: PartyId | None) -> Conversation:
        if dialled is None:
            try:
                yield sock.fileno(), select.POLLIN
            except BaseException:
                sock.close()
                raise
        secure, peer = yield from self._tls.shake(sock, dialled)
        link = Link(peer, secure, max_frame_bytes=_MAX_FRAME_BYTES)
        try:
            yield from self._ask(link)
        finally:
            link.close()

    def _ask(self, link: Link) -> Conversation:
        peer = link.peer
        link.send([encode_control(FrameType.PROBE, Probe())])
        asked, clock = time.monotonic(), time.time()
        heard = answered = False
        while not (heard and answered):
            try:
                frame_type, frame = yield from _next_frame(link)
            except PeerVanishedError:
                if heard:
                    break  # it is in a run and has nothing to ask
                raise
            except AuthenticationError:
                raise AuthenticationError(
                    f"{peer} ended the connection after it saw this party's certificate; does it have the right one?",
                    peer=peer,
                ) from None
            self._seen[peer] = replace(self._seen[peer], connected=True, fault="")
            if frame_type is FrameType.PROBE:
                decode_control(frame, Probe, peer=peer)
                link.send([self._state()])
                answered = True
            elif frame_type is FrameType.STATE:
                took = time.monotonic() - asked
                state = decode_control(frame, State, peer=peer)
                self._seen[peer] = _with_state(self._seen[peer], state, clock + took / 2, took / 2, peer)
                heard = True
            elif frame_type is FrameType.HELLO:
                decode_control(frame, Hello, peer=peer)
                self._seen[peer] = replace(self._seen[peer], waits=True)
                answered = True
            else:
                raise WireError(f"expected from {peer} an answer to a probe, got another frame", peer=peer)
        while link.unsent:
            link.flush()
            if link.unsent:
                yield link.fileno(), select.POLLOUT
        self._done.add(peer)


def _with_state(seen: Seen, state: State, clock_s: float, within_s: float, peer: PartyId) -> Seen:
    lengths = {len(state.agreement), *map(len, state.fields.values())}
    if not lengths <= {AGREEMENT_BYTES, FIELD_DIGEST_BYTES} or not math.isfinite(state.clock_s):
        raise WireError(f"a state with fields of a wrong length from {peer}", peer=peer)
    return replace(
        seen,
        release=state.release,
        agreement=state.agreement,
        fields=state.fields,
        apart_s=state.clock_s - clock_s,
        within_s=within_s,
    )


def _next_frame(link: Link) -> Generator[Waiting, None, tuple[FrameType, memoryview]]:
    while True:
        link.flush()
        if (got := link.read()) is not None:
            return got
        yield link.fileno(), select.POLLIN | (select.POLLOUT if link.unsent else 0)
