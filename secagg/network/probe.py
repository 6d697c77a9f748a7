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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from secagg.errors import AuthenticationError, PeerVanishedError, RemoteProtocolError, WireError
from secagg.network.hello import (
    AGREEMENT_BYTES,
    FIELD_DIGEST_BYTES,
    G,
    Hello,
    Probe,
    State,
    Unable,
    decode_greeting,
    state_frame,
)
from secagg.network.identity import Identity
from secagg.network.link import Link, next_frame
from secagg.network.sockets import Address
from secagg.network.tcp import Peer
from secagg.network.visits import Conversation, Visits
from secagg.party import PartyId
from secagg.wire import Buffer, FrameType, decode_control, encode_control, first_text

__all__ = ["Seen", "probe"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one peer.

    Attributes:
      dials: whether this party dials that one, and is not called by it.
      connected: whether a connection stood, secured by both parties' certificates.
      fault: why none stood the last time; "" where none was tried.
      refused: whether what failed is a certificate.
      waits: whether it is in a run's meeting, and no preflight.
      release, agreement, fields: what it runs; "" and empty where it did not say. Of a release whose words this one cannot
        read, the release alone.
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

    def done(peer: PartyId) -> None:
        if on_seen is not None:
            on_seen(peer, probing.seen[peer])

    with contextlib.closing(probing):
        if on_listening is not None:
            on_listening()
        probing.run(wait_s, done)
    return probing.seen


class _Probing(Visits):
    def __init__(
        self,
        me: PartyId,
        identity: Identity,
        peers: Sequence[Peer],
        listen: Address,
        *,
        state: Callable[[], bytes],
    ) -> None:
        super().__init__(me, identity, peers, listen)
        self._state = state
        self.seen = {peer.name: Seen(dials=peer.name < me) for peer in peers if peer.name != me}

    def failed(self, peer: PartyId, fault: str, *, refused: bool) -> None:
        self.seen[peer] = replace(self.seen[peer], fault=fault, refused=refused)

    def converse(self, link: Link) -> Conversation:
        peer = link.peer
        link.send([encode_control(FrameType.PROBE, Probe())])
        asked, clock = time.monotonic(), time.time()
        heard = answered = False
        while not (heard and answered):
            try:
                frame_type, frame = yield from next_frame(link)
            except PeerVanishedError:
                if heard:
                    break  # it is in a run and has nothing to ask
                raise
            except AuthenticationError:
                raise AuthenticationError(
                    f"{peer} ended the connection after it saw this party's certificate; does it have the right one?",
                    peer=peer,
                ) from None
            self.seen[peer] = replace(self.seen[peer], connected=True, fault="")
            if frame_type is FrameType.PROBE:
                decode_control(frame, Probe, peer=peer)
                link.send([self._state()])
                answered = True
            elif frame_type is FrameType.STATE:
                took = time.monotonic() - asked
                state = self._read(frame, State, peer)
                if state is not None:
                    self.seen[peer] = _with_state(self.seen[peer], state, clock + took / 2, took / 2, peer)
                heard = True
            elif frame_type is FrameType.HELLO:
                self._read(frame, Hello, peer)
                self.seen[peer] = replace(self.seen[peer], waits=True)
                answered = True
            elif frame_type is FrameType.UNABLE:
                said = decode_control(frame, Unable, peer=peer)
                raise PeerVanishedError(
                    f"it tells everybody just now that it cannot take part: {said.cause.reason}", peer=peer
                )
            else:
                raise WireError(f"expected from {peer} an answer to a probe, got another frame", peer=peer)

    def _read(self, frame: Buffer, kind: type[G], peer: PartyId) -> G | None:
        """Return a greeting; None of one that another release has written otherwise, of which the release alone is noted."""
        try:
            return decode_greeting(frame, kind, peer=peer)
        except WireError:
            raise
        except RemoteProtocolError:
            self.seen[peer] = replace(self.seen[peer], release=first_text(frame))
            return None


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
