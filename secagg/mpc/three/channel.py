"""What three computing parties share from set-up on: keys of pairs, and messages round the circle.

P_i holds the keys k_i, with P_{i-1}, and k_{i+1}, with P_{i+1}. Every pair's secret is fresh in every session, and both
contributed to it. From it, by HKDF over session, engine label and purpose, come AES-256-CTR streams.
F(k_i) - F(k_{i+1}) is a share of zero that costs no message [AFLNO16, section 2.2]. Each stream serves one purpose in one
engine in one session, so no mask is used twice.

Steps. In each of its rounds an operation lets every computing party wait once. A party to which nobody sends in a
round waits for nothing (`Channel.idle`). Both holders of a key draw from it in the same round. So operations that run
side by side (`Party.parallel`) move in lockstep, and the streams that they share stay in step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np

from secagg.errors import RemoteProtocolError, UsageError
from secagg.mpc.groups import Array, checked
from secagg.mpc.primitives import Shares
from secagg.mpc.terms import check_terms, terms_of_engine
from secagg.mpc.three.streams import PairStreams
from secagg.party import Party, PartyId
from secagg.prg import KEY_BYTES
from secagg.wire import Message

Held: TypeAlias = tuple[Array, Array]  # what P_i holds of a secret: x_i and x_{i+1}


class PairSecret(Message, frozen=True):
    """One party's contribution to the secret of a pair of computing parties.

    Attributes:
      terms: what the sender calls the engine; see `terms.terms_of_engine`.
    """

    contribution: bytes
    terms: bytes = b""


class Reshare(Message, frozen=True):
    """A masked additive share, from P_i to P_{i-1}."""

    share: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


class Channel:
    """One computing party's end of what the three share.

    Args:
      party: the party.
      computing: the three computing parties, in the order P_0, P_1, P_2 that all of them use.
      k_own, k_next: the streams of k_i (held with P_{i-1}) and of k_{i+1} (held with P_{i+1}).
    """

    __slots__ = ("computing", "index", "k_next", "k_own", "next", "party", "previous")

    def __init__(
        self, party: Party, computing: Sequence[PartyId], *, k_own: PairStreams, k_next: PairStreams
    ) -> None:
        self.index = _index(party, computing)
        self.party = party
        self.computing = tuple(computing)
        self.next = self.computing[(self.index + 1) % 3]
        self.previous = self.computing[(self.index + 2) % 3]
        self.k_own = k_own
        self.k_next = k_next

    @classmethod
    async def set_up(cls, party: Party, computing: Sequence[PartyId], *, label: str = "") -> Self:
        """Agree on the pair secrets.

        Args:
          label: tells apart the engines of one session; equal at all three.

        Raises:
          UsageError: not three distinct parties of the roster, or this party is not among them.
          RemoteProtocolError: a contribution of a wrong length, or with other computing parties, another order or label.
        """
        i = _index(party, computing)
        following, previous = computing[(i + 1) % 3], computing[(i + 2) % 3]
        terms = terms_of_engine(computing, label)
        mine = {peer: party.rng.bytes(KEY_BYTES) for peer in (previous, following)}
        for peer, contribution in mine.items():
            party.send(peer, PairSecret(contribution, terms))
        theirs = await party.gather(PairSecret, (previous, following))
        for peer, message in theirs.items():
            if len(message.contribution) != KEY_BYTES:
                raise RemoteProtocolError(
                    f"expected a pair secret of {KEY_BYTES} bytes from {peer}, got {len(message.contribution)}",
                    peer=peer,
                )
        named = {peer: message.terms for peer, message in theirs.items()}
        check_terms(party.me, terms, named, what="the computing parties")
        context = b"".join((party.session, len(label.encode()).to_bytes(4, "big"), label.encode()))
        # k_i comes from P_{i-1}'s contribution followed by P_i's, at both ends of the pair.
        k_own = PairStreams(theirs[previous].contribution + mine[previous], context + bytes([i]))
        k_next = PairStreams(mine[following] + theirs[following].contribution, context + bytes([(i + 1) % 3]))
        return cls(party, computing, k_own=k_own, k_next=k_next)

    async def reshare(self, z: Array) -> Array:
        """Send this party's masked additive share to P_{i-1} and return P_{i+1}'s."""
        self.party.send(self.previous, Reshare(z))
        received = await self.party.receive(Reshare, self.next, max_bytes=z.nbytes)
        return checked(received.share, z.shape, z.dtype, what="a reshared value", peer=self.next)

    async def idle(self, waits: int = 1) -> None:
        """Wait for nothing, in rounds in which only other parties receive.

        What was sent has left when this returns, so that its arrays may change.
        """
        for _ in range(waits):
            await self.party.gather(Reshare, ())


def held(x: Shares) -> Held:
    """Return what this party holds of a secret."""
    first, second = x.parts
    return first, second


def check_computing(party: Party, computing: Sequence[PartyId]) -> None:
    """Refuse anything but three distinct parties of the roster."""
    if len(computing) != 3 or len(set(computing)) != 3 or not set(computing) <= set(party.roster):
        raise UsageError(
            f"expected three distinct computing parties of {party.roster}, got {tuple(computing)}"
        )


def _index(party: Party, computing: Sequence[PartyId]) -> int:
    check_computing(party, computing)
    if party.me not in computing:
        raise UsageError(f"{party.me} is not one of the computing parties {', '.join(computing)}")
    return tuple(computing).index(party.me)
