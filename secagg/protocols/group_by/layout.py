"""The public shape of the joint table, and where in a row each number stands."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from secagg.errors import PlanError
from secagg.mpc.bits import LANES
from secagg.mpc.buckets import OVERFLOW_BITS, Buckets, plan_buckets
from secagg.protocols.group_by.query import Query
from secagg.protocols.pseudonyms import log2_collision
from secagg.ring import U64

KEY_BITS: Final = 80  # least hash bits compared, bucket prefix included
_IDENTITY_BITS: Final = 60  # least key bits by which an owner knows its row again
MOST_SHARDS: Final = 256  # each has at least 64 buckets, which are padded one by one


def _key_planes(prefix_bits: int) -> int:
    # One plane marks padding: it keeps a real key from meeting the padding's. Up to 3 bits more make identities longer, and
    # so runs that end by bad luck rarer.
    return -(-(KEY_BITS - prefix_bits + 1) // 4) * 4


@dataclass(frozen=True, slots=True)
class Layout:
    """The public shape of the joint table, or of each of its shards; a function of the query and the announced row counts.

    A shard is a run of buckets, by the leading bits of a bucket's number. All shards have one shape.

    Attributes:
      buckets: those of one shard, with the announced row counts of the whole table.
      shards: how many shards make up the table.
    """

    query: Query
    buckets: Buckets
    key_planes: int
    identity_bits: int
    row_words: int
    shards: int = 1

    @classmethod
    def plan(cls, query: Query, counts: Sequence[int], *, shards: int = 1) -> Layout:
        """Return the cheapest layout.

        Args:
          shards: a power of two up to `MOST_SHARDS`.

        Raises:
          PlanError: another number of shards, or as `plan_buckets`.
        """
        if not 1 <= shards <= MOST_SHARDS or shards & shards - 1:
            raise PlanError(f"expected 1, 2, 4, ... up to {MOST_SHARDS} shards, got {shards}")
        rest = query.value_planes + query.origin_planes
        buckets = plan_buckets(counts, key_planes=_key_planes, other_planes=rest, least=LANES * shards)
        tail = sum(query.sum_widths[i] for i in query.opened) + 1 + query.origin_planes
        words = -(-(tail + _IDENTITY_BITS) // LANES)
        key_planes = _key_planes(buckets.prefix_bits)
        identity_bits = min(words * LANES - tail, LANES, key_planes - 1)
        of_each = replace(buckets, buckets=buckets.buckets // shards)
        return cls(query, of_each, key_planes, identity_bits, words, shards)

    @property
    def all_buckets(self) -> int:
        """Buckets of all shards."""
        return self.buckets.buckets * self.shards

    @property
    def prefix_bits(self) -> int:
        """Bits of a pseudonym that say in which bucket of which shard it lies."""
        return self.all_buckets.bit_length() - 1

    @property
    def planes(self) -> int:
        return self.key_planes + self.query.value_planes + self.query.origin_planes

    @property
    def hash_bits(self) -> int:
        """Bits in which two identifiers must agree to be taken for one."""
        return self.key_planes - 1 + self.prefix_bits

    @property
    def log2_false_match(self) -> float:
        """Return log2 of a bound on the probability that any two different identifiers are taken for one."""
        return log2_collision(sum(self.buckets.counts), self.hash_bits)

    @property
    def log2_abort(self) -> float:
        """Return log2 of a bound on the probability that the run must be repeated with a new hash key.

        A bucket overflows, or two rows of one party in one bucket have the same identity bits, or one has
        those of padding.
        """
        counts, buckets = self.buckets.counts, self.all_buckets
        alike = sum(n * (n / buckets + 1) for n in counts) * 2.0**-self.identity_bits
        return math.log2(2.0**-OVERFLOW_BITS + alike)

    def region(self, party: int) -> slice:
        """Return the columns of the sliced table where an input party's rows start out."""
        before = sum(self.buckets.capacities[:party])
        return slice(
            before * self.buckets.words, (before + self.buckets.capacities[party]) * self.buckets.words
        )


def bit_fields(layout: Layout) -> list[int]:
    """Return where identity, flag and each opened sum begin among a row's bits; the origin comes last."""
    widths = [layout.identity_bits, 1, *(layout.query.sum_widths[i] for i in layout.query.opened)]
    return [0, *itertools.accumulate(widths)][:-1]


def take(rows: U64, offset: int, width: int) -> U64:
    """Return `width` bits from bit `offset` of rows of words, shape rows.shape[:-1]."""
    word, shift = divmod(offset, LANES)
    taken = rows[..., word] >> np.uint64(shift)
    if shift + width > LANES:
        taken |= rows[..., word + 1] << np.uint64(LANES - shift)
    return taken & np.uint64((1 << width) - 1)
