"""The input party's side: rows into their places, and findings out of the rows that come back."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError, RemoteProtocolError, UsageError
from secagg.mpc.bits import LANES, plane_order
from secagg.party import PartyId
from secagg.protocols.group_by.layout import Layout, bit_fields, take
from secagg.protocols.group_by.query import Findings, Rows
from secagg.protocols.pseudonyms import pseudonyms
from secagg.ring import U64, transpose64


class PlacedRows:
    """An input party's rows, hashed and in their places, padding included.

    Places lie in arrays of shape (64 lanes, positions * words): the bucket of a place is its lane and word.
    """

    def __init__(
        self, layout: Layout, position: int, values: U64, at: NDArray[np.int64], low: U64, high: U64
    ) -> None:
        self.layout = layout
        self.values = values
        self._position = position
        self._at = at  # for each row, its place in the flattened (64, positions * words)
        self._low = low
        self._high = high

    @classmethod
    def place(cls, layout: Layout, rows: Rows, key: bytes, me: PartyId) -> PlacedRows:
        return cls.of(layout, pseudonyms(key, rows.identifiers), rows.values, me)

    @classmethod
    def of(cls, layout: Layout, words: U64, values: U64, me: PartyId) -> PlacedRows:
        """Place rows of one shard.

        Args:
          words: their pseudonyms, shape (n, 2).
          values: shape (n, fields).

        Raises:
          PlanError: a bucket overflows, or two rows cannot be told apart.
          UsageError: an identifier that stands twice.
        """
        buckets, query = layout.buckets, layout.query
        position = query.input_parties.index(me)
        capacity = buckets.capacities[position]
        bucket = (words[:, 0] & np.uint64(buckets.buckets - 1)).astype(np.int64)
        key_bits = layout.key_planes - 1
        low = words[:, 1] & np.uint64((1 << min(key_bits, LANES)) - 1)
        high = (words[:, 0] >> np.uint64(layout.prefix_bits)) & np.uint64((1 << max(0, key_bits - LANES)) - 1)
        order = _sorted_order(bucket, high, low, buckets.prefix_bits, key_bits - LANES)
        filled = np.bincount(bucket, minlength=buckets.buckets)
        if np.max(filled, initial=0) > capacity:
            raise PlanError(
                f"more than the {capacity} rows that are kept for this party fell into one bucket, which happens at most "
                f"once in 2**40 runs; run again, which draws a new hash key"
            )
        rank = np.empty(len(bucket), np.int64)
        rank[order] = np.arange(len(bucket)) - np.repeat(np.cumsum(filled) - filled, filled)
        at = (bucket % LANES) * (capacity * buckets.words) + rank * buckets.words + bucket // LANES
        return cls(layout, position, values, at, low, high)._checked(order, words)

    def _checked(self, order: NDArray[np.int64], words: U64) -> Self:
        """Refuse an identifier that stands twice, and places that `read` could not tell apart."""
        alike = words[:, 1][order]
        candidates = np.flatnonzero(alike[1:] == alike[:-1])
        twins = candidates[words[order[candidates], 0] == words[order[candidates + 1], 0]]
        if twins.size:
            i, k = sorted((int(order[twins[0]]), int(order[twins[0] + 1])))
            raise UsageError(
                f"rows {i} and {k} have the same identifier; add up each identifier's rows first"
            )
        mask = self._identity_mask
        identity = np.sort(self._by_bucket(self._scatter(self._low & mask, int(mask))), axis=1)
        alike = (identity[:, 1:] == identity[:, :-1]) & (identity[:, 1:] != mask)  # padding is all ones
        if alike.any() or (self._low & mask == mask).any():
            raise PlanError(
                "two rows cannot be told apart by their pseudonyms; run again, which draws a new hash key"
            )
        return self

    def _by_bucket(self, placed: U64) -> U64:
        """Return places as (buckets, positions), buckets in the order lane, word."""
        words = self.layout.buckets.words
        return placed.reshape(LANES, -1, words).swapaxes(1, 2).reshape(LANES * words, -1)

    @property
    def _identity_mask(self) -> np.uint64:
        return np.uint64((1 << self.layout.identity_bits) - 1)

    @property
    def _places(self) -> int:
        return self.layout.buckets.capacities[self._position] * self.layout.buckets.words

    @property
    def opened_shape(self) -> tuple[int, ...]:
        return (LANES * self._places, self.layout.row_words)

    def _scatter(self, values: U64, padding: int) -> U64:
        placed = np.full((LANES, self._places), np.uint64(padding))
        placed.reshape(-1)[self._at] = values
        return placed

    def planes(self) -> U64:
        """Return the rows in slices, key planes then value planes, shape (planes, positions * words)."""
        key_planes = self.layout.key_planes
        key = np.empty((key_planes, self._places), np.uint64)
        place_of = np.argsort(plane_order(key_planes))  # where bit b of the key stands
        lower = min(key_planes - 1, LANES)
        low = self._scatter(self._low, (1 << lower) - 1)
        transpose64(low)
        key[place_of[:lower]] = low[:lower]
        upper = key_planes - lower  # the padding mark is the highest bit of all
        high = self._scatter(self._high, (1 << upper) - 1)
        transpose64(high)
        key[place_of[lower:]] = high[:upper]
        parts = [key]
        for column, width in zip(self.values.T, self.layout.query.widths, strict=True):
            placed = self._scatter(column, 0)
            transpose64(placed)
            parts.append(placed[:width])
        return np.concatenate(parts)

    def read(self, opened: U64) -> Findings:
        """Return the findings from the rows that were opened to this party, in whatever order."""
        layout, query = self.layout, self.layout.query
        n = len(self.values)
        bits = bit_fields(layout)
        rows = LANES * self.layout.buckets.words
        opened = opened.reshape(rows, -1, layout.row_words)
        identity = take(opened, bits[0], layout.identity_bits)
        mine = self._by_bucket(self._scatter(self._low & self._identity_mask, int(self._identity_mask)))
        index = self._by_bucket(self._scatter(np.arange(1, n + 1, dtype=np.uint64), 0))
        theirs_order, mine_order = np.argsort(identity, axis=1), np.argsort(mine, axis=1)
        if not np.array_equal(
            np.take_along_axis(identity, theirs_order, 1), np.take_along_axis(mine, mine_order, 1)
        ):
            me = query.input_parties[self._position]
            others = " or ".join(name for name in query.computing_parties if name != me)
            raise RemoteProtocolError(
                f"the rows that came back to {me} are not those that were put in; nothing is reported. {others} computed "
                f"wrongly, and {me} cannot know which"
            )
        source = np.take_along_axis(index, mine_order, 1).reshape(-1)
        real = source > 0
        target = source[real].astype(np.int64) - 1
        flagged = np.zeros(n, bool)
        sums = np.zeros((n, len(query.opened)), np.uint64)
        flag = np.take_along_axis(take(opened, bits[1], 1), theirs_order, 1).reshape(-1)
        flagged[target] = flag[real].astype(bool)
        for column, (i, offset) in enumerate(zip(query.opened, bits[2:], strict=True)):
            values = np.take_along_axis(take(opened, offset, query.sum_widths[i]), theirs_order, 1).reshape(
                -1
            )
            sums[target, column] = values[real]
        return Findings(flagged, sums, layout.log2_false_match)


def _sorted_order(
    bucket: NDArray[np.int64], high: U64, low: U64, prefix_bits: int, high_bits: int
) -> NDArray[np.int64]:
    """Return the order by bucket and key, by one sort of the leading 64 bits where these settle it."""
    rest = LANES - prefix_bits - high_bits
    leading = bucket.astype(np.uint64) << np.uint64(LANES - prefix_bits) | high << np.uint64(rest)
    leading |= low >> np.uint64(LANES - rest)
    order = np.argsort(leading)
    ordered = leading[order]
    if (ordered[1:] == ordered[:-1]).any():
        return np.lexsort((low, high, bucket))
    return order
