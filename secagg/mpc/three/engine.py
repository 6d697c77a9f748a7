"""Replicated secret sharing among three computing parties, semi-honest [AFLNO16; MR18].

A secret x is split into x = x_0 + x_1 + x_2 in a group; party P_i holds (x_i, x_{i+1}), indices modulo 3.
The group is the integers modulo 2**k (`SharedArray`) or bits packed 64 a word under XOR (`SharedBits`). This
module holds what the two have in common: setting up keys, sharing, resharing, opening.

Threat model: all three computing parties follow the protocol, and at most one of them analyses what it holds and
receives. Any number of input and result parties stand around them and may collude with that one. A computing party
that lies is not caught (see docs/soundness.md).

Keys. Every pair of computing parties holds a secret, fresh in every session, to which both contributed. From
it, by HKDF over session, engine label and purpose, come AES-256-CTR streams: k_i is known to P_i and P_{i-1}.
F(k_i) - F(k_{i+1}) is a share of zero that costs no message [AFLNO16, section 2.2]. Each stream
serves one purpose in one engine in one session, so no mask is used twice. A computing party that receives an opening
first compares how many bytes it and the sender have drawn from their common streams.

Steps. In each of its rounds an operation lets every computing party wait once. A party to which nobody sends in a
round waits for nothing (`Engine.idle`). Both holders of a key draw from it in the same round. So operations that run
side by side (`Party.parallel`) move in lockstep, and the streams that they share stay in step.

Who learns what: an opening shows its value to the parties named and to nobody else. Everything else that a computing party
receives is masked by a stream whose key it does not hold.

Cost (s = bytes of the secret array; seeds travel in message headers and do not count as payload):
  set up                                 two seeds of 32 bytes each, 1 round
  input by a computing party             s, 1 round; the other two send nothing
  input by another party                 2 s and four seeds of 32 bytes, then two digests a computing party, 2 rounds
  open to all computing parties          s each, 1 round
  open to one computing party            s by its predecessor, 1 round
  open to another party                  2 s and s by two of them, 1 round

Longer than most modules: whatever sends or opens a share as such is here, to be read in one piece.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Self

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.mpc.groups import Array, Group, checked
from secagg.mpc.three.costs import computing_cost
from secagg.mpc.three.streams import PairStreams, Purpose
from secagg.party import Party, PartyId, array_bytes
from secagg.prg import KEY_BYTES, Stream, derive_key
from secagg.signing import DIGEST_BYTES, digest
from secagg.wire import Message


class PairSecret(Message, frozen=True):
    """One party's contribution to the secret of a pair of computing parties."""

    contribution: bytes


class InputFromComputing(Message, frozen=True):
    """The share x_{i+1} of an input of P_i, to P_{i+1}."""

    share: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


class InputFromOutside(Message, frozen=True):
    """The two shares of an outside party's input for one computing party, seeds where they are drawn."""

    seeds: tuple[bytes, ...]
    share: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]] | None


class HeldInCommon(Message, frozen=True):
    """Digest of what sender and receiver were both handed of an outside party's input."""

    digest: bytes


class Reshare(Message, frozen=True):
    """A masked additive share, from P_i to P_{i-1}."""

    share: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


class Opening(Message, frozen=True):
    """Shares of a value to be opened to the receiver, and how far the pair's streams have run."""

    position: int
    shares: tuple[np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]], ...]


class ThreeEngine:
    """One computing party's end of the three-party engine.

    Args:
      party: the party.
      computing: the three computing parties, in the order P_0, P_1, P_2 that all of them use.
      k_own, k_next: the streams of k_i (held with P_{i-1}) and of k_{i+1} (held with P_{i+1}).
    """

    __slots__ = ("computing", "index", "k_next", "k_own", "next", "party", "previous")

    def __init__(
        self, party: Party, computing: Sequence[PartyId], *, k_own: PairStreams, k_next: PairStreams
    ) -> None:
        check_computing(party, computing)
        if party.me not in computing:
            raise UsageError(f"{party.me} is not one of the computing parties {', '.join(computing)}")
        self.party = party
        self.computing = tuple(computing)
        self.index = self.computing.index(party.me)
        self.next = self.computing[(self.index + 1) % 3]
        self.previous = self.computing[(self.index + 2) % 3]
        self.k_own = k_own
        self.k_next = k_next

    def __repr__(self) -> str:
        return f"{type(self).__name__}(P{self.index} = {self.party.me!r})"

    @classmethod
    async def set_up(cls, party: Party, computing: Sequence[PartyId], *, label: str = "") -> Self:
        """Agree on the pair secrets and return the engine.

        Args:
          label: tells apart the engines of one session; equal at all three.

        Raises:
          UsageError: not three distinct parties of the roster, or this party is not among them.
          RemoteProtocolError: a contribution of a wrong length.
        """
        check_computing(party, computing)
        i = tuple(computing).index(party.me) if party.me in computing else -1
        if i < 0:
            raise UsageError(f"{party.me} is not one of the computing parties {', '.join(computing)}")
        following, previous = computing[(i + 1) % 3], computing[(i + 2) % 3]
        mine = {peer: party.rng.bytes(KEY_BYTES) for peer in (previous, following)}
        for peer, contribution in mine.items():
            party.send(peer, PairSecret(contribution))
        theirs = await party.gather(PairSecret, (previous, following))
        for peer, message in theirs.items():
            if len(message.contribution) != KEY_BYTES:
                raise RemoteProtocolError(
                    f"expected a pair secret of {KEY_BYTES} bytes from {peer}, got {len(message.contribution)}",
                    peer=peer,
                )
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

    async def input(
        self,
        group: Group,
        owner: PartyId,
        shape: tuple[int, ...],
        value: Array | None = None,
        *,
        owner_sent_before: Collection[type[Message]] = (),
    ) -> tuple[Array, Array]:
        """Return this party's two shares of an input of `owner`.

        Args:
          group: where the input lives.
          owner: a computing party, which passes `value`, or another, which calls `share_input`.
          shape: the public shape of the input.
          value: at the owner, the input; nowhere else.
          owner_sent_before: kinds that an outside owner waits for only once it has shared its input; see `Party.gather`.

        Raises:
          ShapeError: the value has another shape or dtype.
          RemoteProtocolError: the owner sent shares of another shape or dtype, or different copies of one.
        """
        if (value is not None) != (owner == self.party.me):
            raise UsageError(f"expected the input's value at its owner {owner} and nowhere else")
        if owner in self.computing:
            return await self._input_from_computing(group, self.computing.index(owner), shape, value)
        message = await self.party.receive(
            InputFromOutside,
            owner,
            max_bytes=array_bytes(shape, group.dtype),
            sent_before=owner_sent_before,
        )
        wanted = 2 if self.index == 0 else 1
        if len(message.seeds) != wanted or (message.share is None) != (self.index == 0):
            raise RemoteProtocolError(
                f"expected P{self.index}'s two shares of an input from {owner}", peer=owner
            )
        handed: list[bytes | Array] = list(message.seeds)
        if message.share is not None:
            full = checked(message.share, shape, group.dtype, what="an input's share", peer=owner)
            handed.insert(2 - self.index, full)  # x_2 is P_1's share_1 and P_2's share_0
        x, y = (_expand(group, h, shape, owner) if isinstance(h, bytes) else h for h in handed)
        await self._compare_copies(owner, handed)
        return x, y

    async def _compare_copies(self, owner: PartyId, handed: Sequence[bytes | Array]) -> None:
        """Compare what an outside owner handed this party with what the other holder of each share was handed.

        Without this an owner could hand them different copies, and they would compute on something that is no
        sharing. A digest goes only to a party that was handed the same thing.
        """
        mine = {
            peer: digest_of_copy(self.party.session, owner, part)
            for peer, part in zip((self.previous, self.next), handed, strict=True)
        }
        for peer, own in mine.items():
            self.party.send(peer, HeldInCommon(own))
        for peer, theirs in (await self.party.gather(HeldInCommon, mine)).items():
            if len(theirs.digest) != DIGEST_BYTES:
                raise RemoteProtocolError(
                    f"expected a digest of {DIGEST_BYTES} bytes from {peer}, got {len(theirs.digest)}",
                    peer=peer,
                )
            if theirs.digest != mine[peer]:
                raise RemoteProtocolError(
                    f"{owner} handed {self.party.me} and {peer} different copies of its input, and nothing was "
                    f"computed with it; ask {owner} what it runs",
                    peer=owner,
                )

    async def _input_from_computing(
        self, group: Group, o: int, shape: tuple[int, ...], value: Array | None
    ) -> tuple[Array, Array]:
        # x_o = F(k_o), x_{o+1} = x - x_o, x_{o+2} = 0: P_{o+1} sees x masked by k_o, P_{o-1} sees nothing.
        if value is not None:
            if value.shape != shape or value.dtype != group.dtype:
                raise ShapeError(
                    f"expected an input {shape} of {group.dtype}, got {value.shape} of {value.dtype}"
                )
            mask = group.draw(self.k_own[Purpose.INPUT], shape)
            rest = group.subtract(value, mask)
            self.party.send(self.next, InputFromComputing(rest))
            await self.idle()
            return mask, rest
        zero = np.zeros(shape, group.dtype)
        if self.index == (o + 2) % 3:
            mask = group.draw(self.k_next[Purpose.INPUT], shape)
            await self.idle()
            return zero, mask
        message = await self.party.receive(InputFromComputing, self.previous, max_bytes=zero.nbytes)
        return checked(message.share, shape, group.dtype, what="an input's share", peer=self.previous), zero

    async def open(
        self, group: Group, x: Array, y: Array, to: Sequence[PartyId] | None = None
    ) -> Array | None:
        """Open a value to `to` (default: the computing parties) and return it there, None elsewhere.

        Args:
          x, y: this party's shares x_i and x_{i+1}.
          to: computing parties, and others which call `receive_opening`.

        Raises:
          RemoteProtocolError: a peer's streams are out of step with this party's, or a share of a wrong shape.
        """
        receivers = self.computing if to is None else tuple(to)
        if isinstance(to, str) or not set(receivers) <= set(self.party.roster):
            raise UsageError(f"expected a sequence of parties of {self.party.roster} to open to, got {to!r}")
        position = self.k_own.position
        self.send_opening(x, y, receivers)
        if self.party.me not in receivers:
            await self.idle()
            return None
        return await self.receive_opened(group, x, y, position=position)

    def send_opening(self, x: Array, y: Array, receivers: Sequence[PartyId]) -> None:
        """Send what `receivers` lack of a value; computing parties among them call `receive_opened`.

        This does not wait, so the shares must not change before the next `await` has returned.
        """
        if self.next in receivers:
            self.party.send(self.next, Opening(self.k_next.position, (x,)))
        for receiver in receivers:
            if receiver in self.computing:
                continue
            first = outside_opener(self.party.roster, receiver)
            if self.index == first:
                self.party.send(receiver, Opening(0, (x, y)))
            elif self.index == (first + 1) % 3:
                self.party.send(receiver, Opening(0, (y,)))

    async def receive_opened(self, group: Group, x: Array, y: Array, *, position: int | None = None) -> Array:
        """Return a value that is opened to this party, of which it holds the shares x_i and x_{i+1}.

        Args:
          position: how far the streams in common with the sender had run when it sent; by default as far as now.
        """
        if position is None:
            position = self.k_own.position
        message = await self.party.receive(Opening, self.previous, max_bytes=x.nbytes)
        if message.position != position:
            raise RemoteProtocolError(
                f"{self.previous} has drawn {message.position} bytes of the common streams, this party "
                f"{position}: the two are out of step and nothing is opened; do both run the same job?",
                peer=self.previous,
            )
        (missing,) = _shares(message, 1, x.shape, x.dtype, self.previous)
        return group.add(group.add(x, y), missing)


async def share_input(party: Party, computing: Sequence[PartyId], group: Group, value: Array) -> None:
    """Share an input with the three computing parties, as a party that is not one of them.

    x_0 and x_1 are drawn from fresh seeds, x_2 is what is missing: P_0 gets two seeds, P_1 the seed of x_1 and
    x_2, P_2 x_2 and the seed of x_0.
    """
    check_computing(party, computing)
    seed0, seed1 = party.rng.bytes(KEY_BYTES), party.rng.bytes(KEY_BYTES)
    x2 = group.subtract(
        group.subtract(value, _expand(group, seed0, value.shape, party.me)),
        _expand(group, seed1, value.shape, party.me),
    )
    party.send(computing[0], InputFromOutside((seed0, seed1), None))
    party.send(computing[1], InputFromOutside((seed1,), x2))
    party.send(computing[2], InputFromOutside((seed0,), x2))


async def receive_opening(
    party: Party, computing: Sequence[PartyId], group: Group, shape: tuple[int, ...]
) -> Array:
    """Return a value that the computing parties open to this party, which is not one of them.

    Raises:
      RemoteProtocolError: shares of another shape.
    """
    check_computing(party, computing)
    first = outside_opener(party.roster, party.me)
    two, one = computing[first], computing[(first + 1) % 3]
    messages = await party.gather(Opening, (two, one), max_bytes=2 * array_bytes(shape, group.dtype))
    a, b = _shares(messages[two], 2, shape, group.dtype, two)
    (c,) = _shares(messages[one], 1, shape, group.dtype, one)
    return group.add(group.add(a, b), c)


def input_cost(nbytes: int, owner: int | None) -> Cost:
    """Return what an input of `nbytes` costs the computing parties; owner: the index of one, None if outside."""
    return computing_cost(1 if owner is not None else 2, [nbytes * (owner == i) for i in range(3)])


def open_cost(nbytes: int, to: Sequence[int] = (0, 1, 2), *, outside_openers: Sequence[int] = ()) -> Cost:
    """Return what opening `nbytes` costs.

    Args:
      to: indices of the computing parties among the receivers.
      outside_openers: for each receiver that is not one of them, its `outside_opener`.
    """
    sent = [0, 0, 0]
    for receiver in to:
        sent[(receiver + 2) % 3] += nbytes
    for first in outside_openers:
        sent[first] += 2 * nbytes
        sent[(first + 1) % 3] += nbytes
    return computing_cost(1, sent)


def outside_opener(roster: Sequence[PartyId], receiver: PartyId) -> int:
    """Return which computing party sends two shares to an outside receiver; spread over the receivers."""
    return list(roster).index(receiver) % 3


def check_computing(party: Party, computing: Sequence[PartyId]) -> None:
    """Refuse anything but three distinct parties of the roster."""
    if len(computing) != 3 or len(set(computing)) != 3 or not set(computing) <= set(party.roster):
        raise UsageError(
            f"expected three distinct computing parties of {party.roster}, got {tuple(computing)}"
        )


def _shares(
    message: Opening, count: int, shape: tuple[int, ...], dtype: np.dtype[Any], peer: PartyId
) -> list[Array]:
    if len(message.shares) != count:
        raise RemoteProtocolError(f"expected {count} shares of an opening from {peer}", peer=peer)
    return [checked(share, shape, dtype, what="a share of an opening", peer=peer) for share in message.shares]


def digest_of_copy(session: bytes, owner: PartyId, part: bytes | Array) -> bytes:
    """Return what the two holders of a seed or share of an outside input compare, 32 bytes."""
    content = part if isinstance(part, bytes) else part.tobytes()
    return digest("secagg.mpc.three/outside input", [session, owner.encode(), content])


def _expand(group: Group, seed: bytes, shape: tuple[int, ...], owner: PartyId) -> Array:
    if len(seed) != KEY_BYTES:
        raise RemoteProtocolError(f"expected seeds of {KEY_BYTES} bytes from {owner}", peer=owner)
    return group.draw(Stream(derive_key(seed, label="secagg.mpc.three/outside input")), shape)
