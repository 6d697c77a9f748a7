"""Weighted means of what updates change, in few bits a number and of a part of the numbers.

A number is how far a reply's is from what came with the task (`differences`). A vector holds

  arrays   levels of the numbers that the sum is of, times the weight, rounded at random (`updates.compressed`)
  weight   spread over places that are drawn at random, so that it needs no wider elements than the numbers
  misfits  as in `weighted`: a node whose update does not fit puts uniform elements before them

Which numbers the sum is of follows from its session, so nobody chooses them and all draw alike. What was not drawn counts as
not changed, or with `Compression.error_feedback` comes later (`error_feedback`). Metrics take many bits: those of training
are not sent.

Learns: the server, the means of the numbers that were drawn, and the sum of weights; what does not fit as in `weighted`.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError, RangeError, UsageError
from secagg.federated.differences import Difference, cut, on_top
from secagg.federated.layout import Baseline, Entry, Layout, Means
from secagg.federated.misfits import Misfits, clips_of, largest
from secagg.federated.weighted import Encoding, structure_of
from secagg.prg import system_stream
from secagg.ring import Ring, RingArray
from secagg.signing import digest
from secagg.updates.coding import Request
from secagg.updates.compressed import Compressed
from secagg.updates.compression import Compression

_PLACES: Final = "secagg.federated/places"
_log = logging.getLogger("secagg.federated")


def with_weight(found: Difference, weight: int) -> NDArray[np.float64]:
    """Return what a node keeps of a reply: how far it is from what came, and the weight.

    Raises:
      RangeError: NaN or infinity.
    """
    if not found.finite:
        raise RangeError("numbers of the update are NaN or infinite, which no mean is of")
    return np.append(found.vector, float(min(weight, 1 << 53)))


class CompressedCoder:
    """Weighted means of changes in few bits; a `Coder`.

    Args:
      layout: of the replies, canonical; without metrics.
      encoding: with its compression.
      compression: what the encoding says.
      nodes: in a sum at most.
      session: what is agreed on for this sum alone; public.
      weight_key: what messages call the weight.
      log: where a node reads what did not fit.

    Raises:
      PlanError: weights too large for so few bits, or sums that do not fit; the message says what would.
      UsageError: an array without clip, or a clip for an array that is not there.

    Attributes:
      length, ring: as in `Coder`.
    """

    def __init__(
        self,
        layout: Layout,
        encoding: Encoding,
        compression: Compression,
        nodes: int,
        *,
        session: bytes,
        weight_key: str = "weight",
        log: logging.Logger = _log,
    ) -> None:
        self._layout, self._log, self._weight_key = layout, log, weight_key
        clips = clips_of(layout.arrays, encoding.clips, _refuse)
        by_path = dict(zip((entry.path for entry in layout.arrays), clips, strict=True))
        request = Request(
            structure_of(layout.arrays, "float64"), True, by_path, None, nodes, encoding.max_weight
        )
        seed = digest(_PLACES, [session])
        self._numbers = Compressed(request, dataclasses.replace(compression, seed=seed))
        bits = max(self._numbers.plan.sum_ring(nodes).bits, nodes.bit_length() + 1)
        if bits > 64:
            raise PlanError(f"sums of {nodes} updates do not fit 64 bits; take fewer bits a number")
        self.ring = Ring(bits)
        paths = [*by_path, ""]
        self._misfits = Misfits(paths, [*clips, encoding.max_weight or 1], weight_key, log)
        self._body = self._numbers.length
        self.length = self._body + self._misfits.length

    def contribution(self, vector: NDArray[Any]) -> RingArray:
        """Return what `with_weight` made of an update as a vector in the ring; see `Coder`."""
        arrays, weight = self._values(vector)
        misfits = self._misfits.of(self._sizes(arrays, weight))
        out = np.empty(self.length, self.ring.dtype)
        out[self._body :] = misfits
        if misfits.any():
            out[: self._body] = system_stream().ring(self._body, self.ring.bits)
        else:
            out[: self._body] = self.ring.from_signed(self._numbers.encode(arrays, weight)[0])
        return out

    def contribution_with(
        self, vector: NDArray[Any], memory: NDArray[np.float64]
    ) -> tuple[RingArray, NDArray[np.float64]]:
        """Return as `contribution`, with what was cut off of earlier updates; and what is to be remembered now.

        Args:
          memory: shape (numbers of the layout,), in the layout's order.
        """
        arrays, weight = self._values(vector)
        if self._misfits.of(self._sizes(arrays, weight)).any():
            return self.contribution(vector), memory
        out = np.zeros(self.length, self.ring.dtype)
        levels, cut_off = self._numbers.encode_with_memory(arrays, weight, memory)
        out[: self._body] = self.ring.from_signed(levels)
        return out, cut_off

    def fits(self, vector: NDArray[Any]) -> bool:
        """Whether an update is within what the encoding holds; the log says where it is not."""
        return not self._misfits.of(self._sizes(*self._values(vector))).any()

    def decode(self, total: RingArray, clients: int, baseline: Baseline) -> Means:
        """Return the weighted means, on top of what was sent; see `Coder`.

        Raises:
          RangeError: a node's numbers or weight did not fit, weights add up to nothing, or rounding leaves noise alone.
        """
        signed = self.ring.to_signed(total)
        self._misfits.check(signed[self._body :], clients)
        if sum(signed[self._numbers.places.size : self._body].tolist()) <= 0:
            raise RangeError(
                f"the weights {self._weight_key!r} of {clients} clients add up to nothing; there is no mean"
            )
        found = self._numbers.decode(signed[: self._body], clients, 0.0)
        values, moved = on_top(self._layout.arrays, found.arrays, baseline, self._log)
        weight = int(found.weight or 0)
        return Means(values, weight, max(found.errors.values()) + moved, found.noise_std)

    def report(self, rounds: int) -> None:
        """Return None: without noise nothing bounds what is told."""

    def _values(self, vector: NDArray[Any]) -> tuple[list[NDArray[Any]], int]:
        numbers = np.asarray(vector, np.float64)
        return list(cut(numbers, self._layout.arrays)), int(numbers[-1])

    @staticmethod
    def _sizes(arrays: list[NDArray[Any]], weight: int) -> list[float]:
        return [*(largest(array) for array in arrays), weight]


def _refuse(entry: Entry) -> NoReturn:
    raise UsageError(
        f"compression takes a clip for each array, of what an update changes, and Encoding has none for {entry.path!r:.80}; "
        'one under "" is for all'
    )
