"""Identifiers as numbers, and a table with at most one of them in each bin: cuckoo hashing with three places [PR04].

A bin table has three parts. Each identifier has one place in each part, and lies in one of the three. Whoever looks for an
identifier looks at its three places. A new identifier takes a place; the one that lay there moves to another of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from secagg.errors import PlanError
from secagg.prg import Stream, derive_key
from secagg.protocols.pseudonyms import pseudonyms
from secagg.ring import U64

PLACES: Final = 3
CODE_WORDS: Final = 8  # of 64 bits
_MOST_ROUNDS: Final = 2000
_PLACE_BITS: Final = 42


@dataclass(frozen=True, slots=True)
class Hashing:
    """Hash functions of a session, known to both sides, for a table of a given number of bins.

    Attributes:
      session: that its keys are derived from.
      part: bins of each of the three parts.
    """

    session: bytes
    part: int

    @classmethod
    def of(cls, session: bytes, rows: int) -> Hashing:
        """Return the functions for a table of `rows` identifiers; docs/soundness-two.md says why its size is enough."""
        return cls(session, -(-(rows * 13 // 10 + 320) // PLACES))

    @property
    def bins(self) -> int:
        """The number of bins, in whole words of bits."""
        return -(-self.part * PLACES // 64) * 64

    def numbers(self, identifiers: list[bytes]) -> U64:
        """Return identifiers as numbers of 126 bits, shape (n, 2); the lowest two bits are zero."""
        texts = np.empty(len(identifiers), object)
        texts[:] = [one.decode() for one in identifiers]
        found = pseudonyms(self._key("identifiers"), texts).copy()
        found[:, 0] &= np.uint64(2**64 - 4)
        return found

    def places(self, numbers: U64) -> NDArray[np.int64]:
        """Return the three bins of each number, shape (n, 3)."""
        drawn = self._encrypted("places", numbers)
        mask = np.uint64((1 << _PLACE_BITS) - 1)
        parts = [
            drawn[:, 0] & mask,
            drawn[:, 1] & mask,
            (drawn[:, 0] >> np.uint64(_PLACE_BITS)) << np.uint64(20),
        ]
        parts[2] |= drawn[:, 1] >> np.uint64(44)
        columns = [k * self.part + (p % np.uint64(self.part)).astype(np.int64) for k, p in enumerate(parts)]
        return np.stack(columns, axis=1)

    def codes(self, numbers: U64) -> U64:
        """Return a pseudorandom code word of 512 bits for each number of 128 bits, shape (n, 8) [KKRT16, section 3.2]."""
        return np.concatenate([self._encrypted(f"code {k}", numbers) for k in range(CODE_WORDS // 2)], axis=1)

    def _key(self, what: str) -> bytes:
        return derive_key(self.session, label="secagg.protocols.intersection.cuckoo", context=what.encode())

    def _encrypted(self, what: str, numbers: U64) -> U64:
        # A pseudorandom permutation of single blocks, which are all different.
        encrypt = Cipher(algorithms.AES(self._key(what)), modes.ECB()).encryptor().update  # noqa: S305
        return np.frombuffer(encrypt(np.ascontiguousarray(numbers).tobytes()), np.uint64).reshape(-1, 2)


def insert(places: NDArray[np.int64], bins: int, rng: Stream) -> NDArray[np.int64]:
    """Return which identifier lies in each bin, -1 where none does; each lies at one of its places.

    Args:
      places: of each identifier, shape (n, 3).

    Raises:
      PlanError: no way was found, which has a probability below 2**-40.
    """
    table = np.full(bins, -1, np.int64)
    homeless = np.arange(len(places))
    for _ in range(_MOST_ROUNDS):
        if not len(homeless):
            return table
        at = places[homeless, rng.below(PLACES, len(homeless)).astype(np.int64)]
        before = table[at]
        table[at] = homeless
        stays = table[at] == homeless
        # Who was pushed out by the one that stays, and who came to a bin together with others and lost.
        pushed = before[stays]
        homeless = np.concatenate([homeless[~stays], pushed[pushed >= 0]])
    raise PlanError(
        "the identifiers found no places in a table of bins, which hardly ever happens; run again, with a new session"
    )
