"""Base oblivious transfers, which give the keys that an extension needs, by Diffie-Hellman on Curve25519.

The chooser has a bit s for each transfer. It sends two points: [x]Q at place s, and at the other place a point whose
discrete logarithm nobody knows. Q is a hash of the session. The sender of keys has one scalar a for all transfers, and
sends [a]Q. It multiplies both points by a, and derives a key from each product. The chooser knows the product
[xa]Q alone. This is the construction of [BM89] for a chooser that keeps to the protocol, and so draws the other point from
a hash.

Threat model: semi-honest. Learns: the chooser, one key of each pair; the sender of keys, nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from secagg.party import Party, PartyId
from secagg.prg import derive_key
from secagg.protocols.intersection.curve import POINT_BYTES, SCALAR_BYTES, Blinding, hash_to_curve

_LABEL: Final = "secagg.protocols.intersection.base_transfers"
_DST: Final = b"secagg.protocols.intersection.base_transfers-V01-CS01-with-curve25519_XMD:SHA-512_ELL2_NU_"


class Chooser:
    """The party that takes one key of each pair.

    Attributes:
      bits: which, drawn at random, shape (count,).
      points: to be sent, shape (count, 2, 32).
    """

    __slots__ = ("_scalars", "_session", "bits", "points")

    def __init__(self, party: Party, count: int) -> None:
        self._session = party.session
        self.bits = np.unpackbits(
            np.frombuffer(party.rng.bytes(-(-count // 8)), np.uint8), count=count
        ).astype(bool)
        self._scalars = [Blinding(party.rng.bytes(SCALAR_BYTES)) for _ in range(count)]
        base = _base(party.session)
        known = np.concatenate([scalar.blind(base) for scalar in self._scalars])
        drawn = hash_to_curve([party.rng.bytes(SCALAR_BYTES) for _ in range(count)], _DST)
        other = Blinding(party.rng.bytes(SCALAR_BYTES)).blind(drawn)
        at = self.bits[:, None, None]
        self.points = np.where(at, np.stack([other, known], axis=1), np.stack([known, other], axis=1))

    def keys(self, reply: NDArray[np.uint8], peer: PartyId) -> list[bytes]:
        """Return the chosen keys, made of the point [a]Q that the sender of keys replied, shape (1, 32)."""
        mine = self.points[np.arange(len(self.bits)), self.bits.astype(np.intp)]
        shared = [scalar.blind(reply, peer=peer) for scalar in self._scalars]
        return [_key(self._session, i, reply, mine[i], point) for i, point in enumerate(shared)]


def both_keys(
    party: Party, points: NDArray[np.uint8], peer: PartyId
) -> tuple[NDArray[np.uint8], list[tuple[bytes, bytes]]]:
    """Return what the sender of keys replies, shape (1, 32), and both keys of each pair.

    Args:
      points: as the chooser sent them, shape (count, 2, 32).

    Raises:
      RemoteProtocolError: a point of small order.
    """
    scalar = Blinding(party.rng.bytes(SCALAR_BYTES))
    reply = scalar.blind(_base(party.session))
    shared = scalar.blind(points.reshape(-1, POINT_BYTES), peer=peer).reshape(points.shape)
    keys = [
        (
            _key(party.session, i, reply, points[i, 0], shared[i, 0]),
            _key(party.session, i, reply, points[i, 1], shared[i, 1]),
        )
        for i in range(len(points))
    ]
    return reply, keys


def _base(session: bytes) -> NDArray[np.uint8]:
    return hash_to_curve([session], b"base of " + _DST)


def _key(
    session: bytes, i: int, reply: NDArray[np.uint8], point: NDArray[np.uint8], shared: NDArray[np.uint8]
) -> bytes:
    context = session + i.to_bytes(4, "big") + reply.tobytes() + point.tobytes()
    return derive_key(shared.tobytes(), label=_LABEL, context=context)
