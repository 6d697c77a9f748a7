"""How many identifiers are in common, and what one side's amounts for them add up to [IKN+20, figure 2].

P_2 holds the amounts, P_1 has identifiers alone.

  exchange   both send their lists under their own scalars, in random order; P_2 sends a Paillier ciphertext of each amount
             beside its point, and the public key
  return     P_2 sends P_1's list back under both scalars, shuffled
  select     P_1 counts what matches, multiplies the ciphertexts of P_2's points that do, and a random
             encryption of 0
  sum        P_2 decrypts, and tells P_1 the sum if P_1 is a recipient

Deviations from the figure. Where P_2 is no recipient, P_1 adds a uniform number modulo n under encryption and subtracts
it from the sum that P_2 returns, so that P_2 learns nothing. Where fewer than `smallest` are in common, P_1 says so, and no
sum is made.

Learns: P_1, the number in common, and the sum if it is a recipient. P_2, if it is a recipient, both; in any case whether
fewer than `smallest` are in common.
Cost: see `cost`; a run that tells no sum sends one ciphertext less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.cost.operation import Cost
from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.party import Party, PartyId
from secagg.protocols.intersection.curve import POINT_BYTES
from secagg.protocols.intersection.sides import (
    Blinded,
    Doubled,
    OwnList,
    Sides,
    exchange,
    heard,
    matches,
    returned,
    shuffled,
)
from secagg.wire import Message

_DIGIT_BYTES: Final = 384  # of n; a test holds it against `amounts.KEY_BITS`
CIPHERTEXT_BYTES: Final = 2 * _DIGIT_BYTES


class Key(Message, frozen=True):
    """P_2 -> P_1: the public key that amounts are encrypted under."""

    key: bytes


class Amounts(Message, frozen=True):
    """P_2 -> P_1: a ciphertext of the amount of each point of its list; shape (n, 2, 384)."""

    block: NDArray[np.uint8]


class Selected(Message, frozen=True):
    """P_1 -> P_2: how many are in common, 0 if P_2 is not told; a ciphertext of the sum, or none if they are too few.

    The block's shape is (1, 2, 384) or (0, 2, 384).
    """

    count: int
    block: NDArray[np.uint8]


class Total(Message, frozen=True):
    """P_2 -> P_1: what it decrypted, in little-endian order; empty if there was nothing."""

    value: bytes


@dataclass(frozen=True, slots=True)
class CommonSum:
    """How many identifiers are in common, and the sum over them.

    Attributes:
      count: None at P_2 where too few are in common: P_2 is told this, and not how many.
      total: None where they are too few.
    """

    count: int | None
    total: int | None


async def sum_common(
    party: Party,
    sides: Sides,
    identifiers: Sequence[bytes],
    values: NDArray[np.int64] | None,
    *,
    holder: PartyId,
    largest: int,
    smallest: int = 1,
) -> CommonSum | None:
    """Return at a recipient the number in common and the sum of the holder's amounts, None elsewhere.

    Args:
      identifiers: this party's, in UTF-8, all different.
      values: at the holder an amount for each identifier, 0 to `largest`; None at the other side.
      holder: whose amounts are added up.
      largest: the largest amount, below 2**62.
      smallest: a sum over fewer identifiers is not made; at least 1.

    Raises:
      UsageError: identifiers or amounts that do not fit what was announced.
      RemoteProtocolError: the other side sent what the protocol forbids.
    """
    _check(party, sides, identifiers, values, holder, largest, smallest)
    if values is not None:
        return await _hold(party, sides, identifiers, values, largest, smallest)
    return await _select(party, sides, identifiers, largest, smallest)


def _check(
    party: Party,
    sides: Sides,
    identifiers: Sequence[bytes],
    values: NDArray[np.int64] | None,
    holder: PartyId,
    largest: int,
    smallest: int,
) -> None:
    sides.other(holder)
    if (values is not None) != (party.me == holder):
        raise UsageError(f"{party.me}: expected amounts at {holder} and nowhere else")
    if not 0 < largest < 1 << 62 or smallest < 1:
        raise UsageError(
            f"expected a largest amount of 1 to 2**62 - 1 and a smallest number of at least 1, got {largest}, {smallest}"
        )
    if values is None:
        return
    if values.shape != (len(identifiers),) or values.dtype != np.int64:
        raise ShapeError(
            f"expected {len(identifiers)} amounts as int64, got {values.shape} of {values.dtype}"
        )
    if values.size and (values.min() < 0 or values.max() > largest):
        raise UsageError(f"expected amounts of 0 to {largest}, got others")


async def _hold(
    party: Party,
    sides: Sides,
    identifiers: Sequence[bytes],
    values: NDArray[np.int64],
    largest: int,
    smallest: int,
) -> CommonSum | None:
    """Take part as P_2."""
    from secagg.protocols.intersection import amounts

    peer, told = sides.other(party.me), party.me in sides.recipients
    with party.phase("exchange"):
        key = amounts.new_key(party.rng)
        own = OwnList(party, sides, identifiers)
        padded = np.zeros(sides.lengths[party.me], np.int64)
        padded[: len(values)] = values
        party.send(peer, Blinded(own.points))
        party.send(peer, Key(key.public_key.to_bytes()))
        party.send(peer, Amounts(amounts.encrypt(key, padded[own.order], party.rng)))
        theirs = await heard(party, sides, own)
    with party.phase("return"):
        party.send(peer, Doubled(shuffled(party, theirs)))
    with party.phase("sum"):
        selected = await party.receive(Selected, peer, max_bytes=CIPHERTEXT_BYTES)
        made = len(selected.block) > 0
        _check_count(selected.count, smallest if made and told else 0, sides, made and told, peer)
        value = amounts.decrypt(key, selected.block, peer) if made else None
        if peer in sides.recipients:
            party.send(peer, Total(b"" if value is None else value.to_bytes(_DIGIT_BYTES, "little")))
        if not told:
            return None
        if value is None:
            return CommonSum(None, None)
        return CommonSum(selected.count, _in_range(value, selected.count * largest, peer))


async def _select(
    party: Party, sides: Sides, identifiers: Sequence[bytes], largest: int, smallest: int
) -> CommonSum | None:
    """Take part as P_1."""
    from secagg.protocols.intersection import amounts

    peer, told = sides.other(party.me), party.me in sides.recipients
    size, holder_told = sides.lengths[peer], peer in sides.recipients
    with party.phase("exchange"):
        own = OwnList(party, sides, identifiers)
        theirs = await exchange(party, sides, own)
        key = amounts.read_key((await party.receive(Key, peer)).key, peer)
        received = await party.receive(Amounts, peer, max_bytes=CIPHERTEXT_BYTES * size)
        ciphertexts = amounts.read(key, received.block, size, peer)
    with party.phase("return"):
        common = matches(theirs, await returned(party, sides))
    with party.phase("sum"):
        count = int(common.sum())
        enough = count >= smallest
        mask = 0 if holder_told else amounts.draw_mask(key, party.rng)
        block = np.zeros((0, 2, _DIGIT_BYTES), np.uint8)
        if enough:
            block = amounts.add(key, ciphertexts, common, mask, party.rng)
        party.send(peer, Selected(count if holder_told and enough else 0, block))
        if not told:
            return None
        reply = (await party.receive(Total, peer)).value
        if len(reply) != _DIGIT_BYTES * enough:
            raise RemoteProtocolError(
                f"expected a sum of {_DIGIT_BYTES * enough} bytes from {peer}, got {len(reply)}", peer=peer
            )
        if not enough:
            return CommonSum(count, None)
        total = (int.from_bytes(reply, "little") - mask) % int(key.n)
        return CommonSum(count, _in_range(total, count * largest, peer))


def _check_count(count: int, least: int, sides: Sides, told: bool, peer: PartyId) -> None:
    most = min(sides.lengths.values()) if told else 0
    if not least <= count <= most:
        raise RemoteProtocolError(
            f"expected a number in common of {least} to {most} from {peer}, got {count}", peer=peer
        )


def _in_range(total: int, largest: int, peer: PartyId) -> int:
    if total > largest:
        raise RemoteProtocolError(
            f"expected a sum of at most {largest} over what is in common; what {peer} sent gives a larger one, so that "
            f"{peer} did not keep to the protocol",
            peer=peer,
        )
    return total


def cost(sides: Sides, holder: PartyId) -> Cost:
    """Return what a run of `sum_common` costs in which enough are in common; with too few it sends a ciphertext less."""
    selecting = sides.other(holder)
    m, n = sides.lengths[selecting], sides.lengths[holder]
    sent = {
        selecting: POINT_BYTES * m + CIPHERTEXT_BYTES,
        holder: POINT_BYTES * (n + m) + CIPHERTEXT_BYTES * n,
    }
    return Cost(4 if selecting in sides.recipients else 3, {name: sent[name] for name in sides.lengths})
