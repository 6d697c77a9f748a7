"""Weighted means of replies: as exact as numbers are written, without noise.

A vector holds, of arrays and of metrics (each as `secagg.aggregation.coding.FixedPoint` writes them), the numbers times
the weight, and the weight; last, how many numbers were clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secagg.aggregation.coding import FixedPoint, Request
from secagg.aggregation.structure import Structure
from secagg.errors import RangeError
from secagg.integrations.flower.layout import Entry, Layout, Means, Sent, Update, count_numbers, to_records
from secagg.party import PartyId
from secagg.protocols.masked import ring_for
from secagg.ring import Ring, RingArray

if TYPE_CHECKING:
    from secagg.integrations.flower.terms import Encoding


class WeightedCoder:
    """Weighted means, as exact as numbers are written; a `Coder`.

    Args:
      layout: of the replies.
      encoding: how numbers are written.
      clients: in a sum at most; how numbers are written does not depend on it.

    Raises:
      PlanError: no ring of 64 bits holds the sums; the message says what would.
      UsageError: an array without clip.
    """

    def __init__(self, layout: Layout, encoding: Encoding, clients: int) -> None:
        self._layout = layout
        self._max_weight = encoding.max_weight
        metric_clips = {"": encoding.metric_clip}
        groups = (
            (layout.arrays, encoding.clips, encoding.precision),
            (layout.metrics, metric_clips, encoding.metric_precision),
        )
        self._codings = [
            FixedPoint(Request(_structure(entries), True, clips, precision, clients, encoding.max_weight))
            for entries, clips, precision in groups
            if count_numbers(entries)
        ]
        self.length = sum(coding.length for coding in self._codings) + 1
        rings = [ring_for(coding.plan, clients).bits for coding in self._codings]
        self.ring = Ring(max(*rings, (clients * self.length).bit_length() + 1))

    def encode(self, update: Update) -> tuple[NDArray[np.int64], int]:
        """Return an update as a vector, and how many numbers were clipped.

        Raises:
          RangeError: NaN or infinity.
        """
        vector: NDArray[np.int64] = np.empty(self.length, np.int64)
        weight = min(update.weight, self._max_weight)
        clipped, start, taken = int(weight != update.weight), 0, 0
        values = self._present(update.values)
        for coding in self._codings:
            count = len(coding.parts)
            numbers, more = coding.encode(values[taken : taken + count], weight)
            vector[start : start + coding.length] = numbers
            clipped, start, taken = clipped + more, start + coding.length, taken + count
        vector[-1] = clipped
        return vector, clipped

    def contribution(self, vector: NDArray[Any]) -> RingArray:
        """Return a vector in the ring."""
        return self.ring.from_signed(vector)

    def decode(
        self,
        total: RingArray,
        contributors: Sequence[PartyId],
        weight_key: str,
        sent: Sent,  # noqa: ARG002  # whole arrays are averaged
    ) -> Means:
        """Return the weighted means; see `Coder`.

        Raises:
          RangeError: the weights add up to nothing.
        """
        signed = self.ring.to_signed(total)
        values, error, start, weight = [], 0.0, 0, 0
        for i, coding in enumerate(self._codings):
            part = signed[start : start + coding.length]
            start += coding.length
            weight = int(part[-1])
            if weight <= 0:
                raise RangeError(
                    f"the weights {weight_key!r} of {len(contributors)} clients add up to {weight}; there is no mean"
                )
            decoded = coding.decode(part, len(contributors), 0.0)
            values += decoded.arrays
            if i == 0:
                error = max(decoded.errors.values())
        records = to_records(self._layout, self._complete(values), weight, weight_key)
        return Means(records, weight, int(signed[-1]), error)

    def report(self, rounds: int) -> None:
        """Return None: without noise nothing bounds what is told."""

    def _present(self, values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Leave out what belongs to a group without numbers."""
        border = len(self._layout.arrays)
        groups = (values[:border], values[border:])
        return [value for group in groups if any(v.size for v in group) for value in group]

    def _complete(self, values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Put back what `_present` left out."""
        rest = iter(values)
        groups = (self._layout.arrays, self._layout.metrics)
        return [
            next(rest) if count_numbers(entries) else np.zeros(entry.shape, entry.dtype)
            for entries in groups
            for entry in entries
        ]


def _structure(entries: Sequence[Entry]) -> Structure:
    update: dict[str, dict[str, NDArray[Any]]] = {}
    for entry in entries:
        # One number shown in every place: the shape costs no memory.
        zeros = np.broadcast_to(np.zeros((), entry.dtype), entry.shape)
        update.setdefault(entry.record, {})[entry.name] = zeros
    return Structure(update, "the first client")
