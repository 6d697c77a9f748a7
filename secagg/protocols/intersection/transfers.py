"""Which identifiers are in common, by pseudorandom functions from extended oblivious transfers [KKRT16, section 5].

For each recipient R, with the other side S:

  keys      S takes one key of each of 512 pairs (`base_transfers`), by secret bits s
  table     R lays its identifiers into bins, at most one in each (`cuckoo`). For each pair it sends the exclusive-or of what
            the two keys expand to and a column of code words
  values    S knows rows q = t + (code & s), t being R's. For each of its identifiers and places it sends a hash of
            q + (its own code & s). That is a hash of t where R's identifier in that bin is the same

R compares these with hashes of t. Values of other identifiers are random to R: each is the hash of a row that depends
on 128 or more bits of s.

Threat model: semi-honest, with SHA-256 as a random oracle. An altered side can test guesses against the other's whole list
(docs/soundness-two.md, section 8). Learns: R, which of its identifiers S has too; S, nothing.
Cost: see `cost`; 3 rounds, 64 bytes a bin from R and 36 bytes an identifier from S. Bits take the place of points, which
makes this more than ten times as fast as `matches`.

Proof in docs/soundness-two.md, section 8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.cost.operation import Cost
from secagg.errors import UsageError
from secagg.party import Party, PartyId, check_array
from secagg.prg import Stream
from secagg.protocols.intersection.base_transfers import Chooser, both_keys
from secagg.protocols.intersection.cuckoo import CODE_WORDS, PLACES, Hashing, insert
from secagg.protocols.intersection.curve import POINT_BYTES
from secagg.protocols.intersection.sides import Sides
from secagg.ring import U64
from secagg.ring.planes import from_planes, to_planes
from secagg.wire import Message

TRANSFERS: Final = 64 * CODE_WORDS
VALUE_BYTES: Final = 12
_WORD: Final = 64


class Choices(Message, frozen=True):
    """S -> R: two points for each base transfer; shape (512, 2, 32)."""

    points: NDArray[np.uint8]


class Columns(Message, frozen=True):
    """R -> S: the point of the base transfers, shape (1, 32), and masked columns of code words, shape (512, bins / 64)."""

    reply: NDArray[np.uint8]
    columns: NDArray[np.uint64]


class Values(Message, frozen=True):
    """S -> R: hashes of its identifiers at each of their places, each place's in random order; shape (3, n, 12)."""

    values: NDArray[np.uint8]


async def find_common_by_transfers(
    party: Party, sides: Sides, identifiers: Sequence[bytes]
) -> NDArray[np.bool_] | None:
    """Return at a recipient which of its identifiers the other side has too, None elsewhere.

    Args and errors: as `matches.find_common`; and `PlanError`, with a probability below 2**-40, where bins do not suffice.
    """
    peer, size = sides.other(party.me), sides.lengths[party.me]
    if len(identifiers) > size or len(set(identifiers)) < len(identifiers):
        raise UsageError(
            f"expected at most {size} different identifiers, got {len(identifiers)}, "
            f"{len(set(identifiers))} of them different"
        )
    own = list(identifiers)
    told, tells = party.me in sides.recipients, peer in sides.recipients
    with party.phase("exchange"):
        chooser = Chooser(party, TRANSFERS) if tells else None
        if chooser is not None:
            party.send(peer, Choices(chooser.points))
        table = _Table(party, sides, own) if told else None
        if table is not None:
            party.send(peer, await table.columns(party, peer))
    with party.phase("return"):
        if chooser is not None:
            party.send(peer, Values(await _values(party, sides, chooser, own)))
        if table is None:
            return None
        shape = (PLACES, sides.lengths[peer], VALUE_BYTES)
        message = await party.receive(Values, peer, max_bytes=PLACES * VALUE_BYTES * sides.lengths[peer])
        return table.matches(check_array(message.values, shape, what="values", peer=peer))


class _Table:
    """A recipient's identifiers in bins, and the rows t that only it knows."""

    def __init__(self, party: Party, sides: Sides, identifiers: list[bytes]) -> None:
        self._hashing = Hashing.of(party.session, sides.lengths[party.me])
        numbers, bins = self._hashing.numbers(identifiers), self._hashing.bins
        places = self._hashing.places(numbers)
        self._item = insert(places, bins, party.rng)
        taken = np.flatnonzero(self._item >= 0)
        self._taken, self._count = taken, len(identifiers)
        self._place = np.argmax(places[self._item[taken]] == taken[:, None], axis=1)
        inputs = party.rng.words((bins, 2))  # an empty bin holds a random number, which is nobody's
        inputs[taken] = _placed(numbers[self._item[taken]], self._place)
        self._codes = self._hashing.codes(inputs)
        self._rows: U64 = np.zeros((0, CODE_WORDS), np.uint64)

    async def columns(self, party: Party, peer: PartyId) -> Columns:
        """Return what is sent, once the other side has chosen."""
        message = await party.receive(Choices, peer, max_bytes=2 * POINT_BYTES * TRANSFERS)
        points = check_array(message.points, (TRANSFERS, 2, POINT_BYTES), what="choices", peer=peer)
        reply, keys = both_keys(party, points, peer)
        words = self._hashing.bins // _WORD
        t = np.stack([Stream(one).words(words) for one, _ in keys])
        masked = np.stack([Stream(other).words(words) for _, other in keys])
        masked ^= t
        masked ^= _columns(self._codes)
        self._rows = _rows(t, self._hashing.bins)
        return Columns(reply, masked)

    def matches(self, values: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return which identifiers the other side has."""
        own = _hashed(self._taken, self._rows[self._taken])
        known = [set(_pieces(values[k])) for k in range(PLACES)]
        found = np.zeros(self._count, np.bool_)
        hits = [value in known[place] for value, place in zip(own, self._place.tolist(), strict=True)]
        found[self._item[self._taken]] = hits
        return found


async def _values(
    party: Party, sides: Sides, chooser: Chooser, identifiers: list[bytes]
) -> NDArray[np.uint8]:
    """Return what a recipient's other side sends: hashes of its own identifiers, and random ones for padding."""
    peer, size = sides.other(party.me), sides.lengths[party.me]
    hashing = Hashing.of(party.session, sides.lengths[peer])
    words = hashing.bins // _WORD
    message = await party.receive(Columns, peer, max_bytes=POINT_BYTES + 8 * TRANSFERS * words)
    reply = check_array(message.reply, (1, POINT_BYTES), what="a point", peer=peer)
    received = check_array(message.columns, (TRANSFERS, words), what="columns", peer=peer)
    q = np.stack([Stream(key).words(words) for key in chooser.keys(reply, peer)])
    q ^= np.where(chooser.bits[:, None], received, np.uint64(0))
    rows = _rows(q, hashing.bins)
    secret = np.packbits(chooser.bits, bitorder="little").view(np.uint64)
    numbers = hashing.numbers(identifiers)
    places = hashing.places(numbers)
    values = (
        np.frombuffer(party.rng.bytes(PLACES * size * VALUE_BYTES), np.uint8)
        .reshape(PLACES, size, VALUE_BYTES)
        .copy()
    )
    for k in range(PLACES):
        codes = hashing.codes(_placed(numbers, np.full(len(numbers), k)))
        hashed = _hashed(places[:, k], rows[places[:, k]] ^ (codes & secret))
        at = party.rng.permutation(size)[: len(hashed)]
        values[k, at] = np.frombuffer(b"".join(hashed), np.uint8).reshape(-1, VALUE_BYTES)
    return values


def _placed(numbers: U64, place: NDArray[np.int64]) -> U64:
    """Return numbers with the place among three in their lowest two bits, so that one has another code at each."""
    found = numbers.copy()
    found[:, 0] |= place.astype(np.uint64)
    return found


def _columns(codes: U64) -> U64:
    """Return rows of bits as columns, shape (512, bins / 64)."""
    return np.concatenate([to_planes(np.ascontiguousarray(codes[:, k]), _WORD) for k in range(CODE_WORDS)])


def _rows(columns: U64, bins: int) -> U64:
    """Return columns of bits as rows, shape (bins, 8)."""
    parts = [
        from_planes(np.ascontiguousarray(columns[k * _WORD : (k + 1) * _WORD]), bins)
        for k in range(CODE_WORDS)
    ]
    return np.stack(parts, axis=1)


def _hashed(bins: NDArray[np.int64], rows: U64) -> list[bytes]:
    """Return the hash of each row and its bin, 12 bytes each."""
    octets = np.concatenate([bins.astype(np.uint64)[:, None], rows], axis=1).tobytes()
    width, sha256 = 8 * (CODE_WORDS + 1), hashlib.sha256
    return [sha256(octets[i : i + width]).digest()[:VALUE_BYTES] for i in range(0, len(octets), width)]


def _pieces(values: NDArray[np.uint8]) -> list[bytes]:
    octets = values.tobytes()
    return [octets[i : i + VALUE_BYTES] for i in range(0, len(octets), VALUE_BYTES)]


def cost(sides: Sides) -> Cost:
    """Return what `find_common_by_transfers` costs."""
    sent = dict.fromkeys(sides.lengths, 0)
    for name in sides.recipients:
        peer = sides.other(name)
        bins = Hashing.of(bytes(32), sides.lengths[name]).bins
        sent[peer] += 2 * POINT_BYTES * TRANSFERS + PLACES * VALUE_BYTES * sides.lengths[peer]
        sent[name] += POINT_BYTES + TRANSFERS * bins // 8
    return Cost(3, sent)


def log2_false_match(sides: Sides) -> float:
    """Return log2 of a bound on the probability that any identifier is told to be in common by chance."""
    pairs = np.prod([max(1, length) for length in sides.lengths.values()], dtype=float) * len(
        sides.recipients
    )
    return float(np.log2(pairs)) - 8 * VALUE_BYTES + 1  # and of 126 bits that stand for identifiers, far less
