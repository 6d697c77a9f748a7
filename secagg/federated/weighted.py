"""Weighted means of replies: as exact as numbers are written, without noise, or an error that says what does not fit.

A vector holds

  arrays   the numbers times the weight, as `secagg.updates.coding.FixedPoint` writes them
  metrics  likewise, as `limbs.Limbs` writes them
  weight   of the node
  misfits  for each array, and for the weight, how many nodes do not fit; in five classes, by how far

A node whose update does not fit puts uniform elements in the place of all but the misfits. Then nothing can be read off
the sum but the misfits: neither a part of that update, nor the sum of the others', who may be too few. Nothing is cut.

Learns: the server, the means and the sum of weights. Where something does not fit it learns instead how many nodes did not
fit where, and how far to a factor of 16.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError, RangeError, UsageError
from secagg.federated.layout import Baseline, Entry, Layout, Means, Update, count_numbers
from secagg.federated.limbs import ERROR, LARGEST, Limbs, shortest
from secagg.federated.misfits import Misfits, clips_of, largest
from secagg.prg import system_stream
from secagg.ring import Ring, RingArray
from secagg.updates.coding import FixedPoint, Request
from secagg.updates.compression import Compression
from secagg.updates.structure import Structure

# Without another bound, what all weights together may be. It leaves 2^35 for the numbers: at a precision of 1e-6 they
# lie within +-65,535.
_ALL_WEIGHTS: Final = 1 << 28
_LARGEST_INT64: Final = (1 << 63) - 1
_log = logging.getLogger("secagg.federated")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How numbers are written; the server's choice. Nothing is cut: a sum in which something does not fit opens nothing.

    A path is "record/array", or "record" for all in it, or a pattern with * and ?; "" is for all arrays.

    Args:
      clips: largest absolute value of an array's numbers by path; of several that match, the longest counts. Without
        one it is what 64 bits hold: within +-65,535 at the default precision and weights, integers to 3 * 10^10.
      precision: largest error of one number of an array.
      max_weight: largest weight of a node; None for 2^28 over the number of nodes in the sum.
      leave_out: paths of arrays that nodes keep to themselves, such as masks and counters; in the result they are what
        was sent.
      compression: in training, few bits a number of what updates change, and a part of the numbers (`compressed`). It needs
        clips for all arrays and a max_weight, and takes no precision.

    Raises:
      UsageError: a number out of range, clips without paths, or paths that are no texts; compression with a seed or without
        a max_weight.
    """

    clips: dict[str, float] = field(default_factory=dict)
    precision: float = 1e-6
    max_weight: int | None = None
    leave_out: tuple[str, ...] = ()
    compression: Compression | None = None

    def __post_init__(self) -> None:
        paths: Any = self.leave_out
        if not isinstance(paths, tuple | list) or not all(isinstance(path, str) and path for path in paths):
            raise UsageError(f"expected a tuple of paths as leave_out, got {paths!r:.80}")
        object.__setattr__(self, "leave_out", tuple(paths))
        if not isinstance(self.clips, dict):
            raise UsageError(
                f'expected clips by path, such as {{"": 1.0}} for all arrays, got {self.clips!r:.80}'
            )
        if self.compression is not None and not isinstance(self.compression, Compression):
            raise UsageError(
                f"expected a Compression, such as Compression(bits=8), got {self.compression!r:.80}"
            )
        for what, number in ((f"a clip for {key!r:.80}", clip) for key, clip in self.clips.items()):
            _check_positive(what, number)
        _check_positive("a precision", self.precision)
        if self.compression is not None and self.compression.seed is not None:
            raise UsageError(
                "the seed of a sum follows from its session, fresh and public; give Compression none"
            )
        if self.compression is not None and self.max_weight is None:
            raise UsageError(
                "with compression weights take few bits too: give Encoding the largest as max_weight"
            )
        if self.max_weight is not None and not (
            isinstance(self.max_weight, int) and 1 <= self.max_weight < 1 << 62
        ):
            raise UsageError(
                f"expected a whole number from 1 to 2^62 as max_weight, got {self.max_weight!r:.40}"
            )


def to_vector(update: Update) -> NDArray[np.uint8]:
    """Return an update as the bytes that a node keeps until it is known who takes part.

    Raises:
      RangeError: NaN or infinity; names the array or metric.
    """
    for entry, value in zip(update.layout.entries, update.values, strict=True):
        bad = value.size - int(np.count_nonzero(np.isfinite(value)))
        if bad:
            raise RangeError(f"{entry.path}: {bad} of {value.size} numbers are NaN or infinite")
    weight = np.array([min(update.weight, _LARGEST_INT64)], np.int64)
    parts = [np.ascontiguousarray(value).reshape(-1).view(np.uint8) for value in (*update.values, weight)]
    return np.concatenate(parts)


class WeightedCoder:
    """Weighted means, as exact as numbers are written; a `Coder`.

    Args:
      layout: of the replies, canonical.
      encoding: how numbers are written.
      nodes: in a sum at most.
      weight_key: what messages call the weight.
      log: where a node reads what did not fit.

    Raises:
      PlanError: no ring of 64 bits holds the sums; the message says what would.
      UsageError: a clip for an array that is not there.

    Attributes:
      length, ring: as in `Coder`.
    """

    def __init__(
        self,
        layout: Layout,
        encoding: Encoding,
        nodes: int,
        *,
        weight_key: str = "weight",
        log: logging.Logger = _log,
    ) -> None:
        self._layout, self._nodes, self._weight_key, self._log = layout, nodes, weight_key, log
        self._max_weight = encoding.max_weight or max(1, _ALL_WEIGHTS // nodes)
        clips = clips_of(layout.arrays, encoding.clips, lambda entry: self._widest(entry, encoding.precision))
        self._arrays: FixedPoint | None = None
        ring_bits = 64
        if count_numbers(layout.arrays):
            by_path = dict(zip((entry.path for entry in layout.arrays), clips, strict=True))
            self._arrays = FixedPoint(
                Request(
                    structure_of(layout.arrays), True, by_path, encoding.precision, nodes, self._max_weight
                )
            )
            ring_bits = self._arrays.plan.sum_ring(nodes).bits
        # Weights and counts of misfits fit as well.
        least = max((nodes * self._max_weight).bit_length() + 1, nodes.bit_length() + 1)
        if least > 64:
            raise PlanError(
                f"sums of {nodes} weights up to {self._max_weight} do not fit 64 bits; give Encoding a smaller max_weight"
            )
        array_length = 0 if self._arrays is None else self._arrays.length
        metrics, ring_bits = count_numbers(layout.metrics), max(ring_bits, least)
        bounds = {"max_weight": self._max_weight, "nodes": nodes}
        if metrics:
            ring_bits = shortest(metrics, array_length, **bounds, ring_bits=ring_bits)
        self.ring = Ring(ring_bits)
        self._metrics = Limbs(metrics, **bounds, ring_bits=ring_bits) if metrics else None
        self._body = array_length + (self._metrics.length if self._metrics else 0) + 1
        paths = [*(entry.path for entry in layout.arrays), "", *(e.path for e in layout.metrics)]
        mosts = [*clips, self._max_weight, *(LARGEST for _ in layout.metrics)]
        self._misfits = Misfits(paths, mosts, weight_key, log)
        self.length = self._body + self._misfits.length

    def contribution(self, vector: NDArray[Any]) -> RingArray:
        """Return what `to_vector` made of an update as a vector in the ring; see `Coder`."""
        values, weight = self._values(vector)
        arrays, metrics = values[: len(self._layout.arrays)], values[len(self._layout.arrays) :]
        misfits = self._misfits.of(self._sizes(values, weight))
        out = np.empty(self.length, self.ring.dtype)
        out[self._body :] = misfits
        if misfits.any():
            out[: self._body] = system_stream().ring(self._body, self.ring.bits)
            return out
        numbers = [float(number) for value in metrics for number in value.reshape(-1)]
        signed = np.empty(self._body, np.int64)
        start = 0
        if self._arrays is not None:
            start = self._arrays.length
            signed[:start], _ = self._arrays.encode(arrays, weight)  # all within their clips
        if self._metrics is not None:
            signed[start:-1] = self._metrics.encode(numbers, weight)
        signed[-1] = weight
        out[: self._body] = self.ring.from_signed(signed)
        return out

    def fits(self, vector: NDArray[Any]) -> bool:
        """Whether an update is within what the encoding holds; the log says where it is not."""
        return not self._misfits.of(self._sizes(*self._values(vector))).any()

    def _sizes(self, values: list[NDArray[Any]], weight: int) -> list[float]:
        sizes: list[float] = [largest(value) for value in values]
        sizes.insert(len(self._layout.arrays), weight)
        return sizes

    def decode(
        self,
        total: RingArray,
        clients: int,
        baseline: Baseline,  # noqa: ARG002  # whole arrays are averaged
    ) -> Means:
        """Return the weighted means; see `Coder`.

        Raises:
          RangeError: a node's numbers or weight did not fit, or the weights add up to nothing.
        """
        signed = self.ring.to_signed(total)
        self._misfits.check(signed[self._body :], clients)
        weight = int(signed[self._body - 1])
        if weight <= 0:
            raise RangeError(
                f"the weights {self._weight_key!r} of {clients} clients add up to {weight}; there is no mean"
            )
        values = [np.zeros(entry.shape, entry.dtype) for entry in self._layout.arrays]
        start, error = 0, 0.0
        if self._arrays is not None:
            start = self._arrays.length
            decoded = self._arrays.decode(signed[:start], clients, 0.0)
            values, error = decoded.arrays, max(decoded.errors.values())
        means = np.zeros(0)
        if self._metrics is not None:
            means = np.array(self._metrics.decode(signed[start : self._body - 1], weight))
        if self._arrays is None and means.size:
            error = ERROR + float(np.max(np.spacing(np.abs(means)))) / 2
        return Means([*values, *_shaped(self._layout.metrics, means)], weight, error)

    def report(self, rounds: int) -> None:
        """Return None: without noise nothing bounds what is told."""

    def _widest(self, entry: Entry, precision: float) -> float:
        # `FixedPoint` plans for the next float64 above the largest product: a little room is left for it.
        most = ((1 << 63) - (1 << 15)) // (self._nodes * self._max_weight)
        most -= most % (1 << max(0, most.bit_length() - 53))
        integers = not entry.dtype.startswith("float")
        clip = float(most) if integers else math.ldexp(most, -_frac_bits(precision))
        if clip < 1:
            raise PlanError(
                f"weights up to {self._max_weight} of {self._nodes} nodes, at a precision of {precision}, leave numbers "
                f"within +-{clip:.3g}; give Encoding a smaller max_weight or a larger precision"
            )
        return float(math.floor(clip))

    def _values(self, vector: NDArray[Any]) -> tuple[list[NDArray[Any]], int]:
        values: list[NDArray[Any]] = []
        start = 0
        for entry in self._layout.entries:
            dtype, count = np.dtype(entry.dtype), math.prod(entry.shape)
            part = np.frombuffer(vector, dtype, count, start) if count else np.zeros(0, dtype)
            values.append(part.reshape(entry.shape))
            start += part.nbytes
        (weight,) = np.frombuffer(vector, np.int64, 1, start).tolist()
        return values, weight


def structure_of(entries: Sequence[Entry], dtype: str = "") -> Structure:
    """Return the structure of arrays by record and name, of their own dtypes or of one."""
    update: dict[str, dict[str, NDArray[Any]]] = {}
    for entry in entries:
        # One number shown in every place: the shape costs no memory.
        zeros = np.broadcast_to(np.zeros((), dtype or entry.dtype), entry.shape)
        update.setdefault(entry.record, {})[entry.name] = zeros
    return Structure(update, "the first client")


def _frac_bits(precision: float) -> int:
    """Return the fractional bits that `fixed_point.plan` takes for a precision."""
    return max(0, -math.frexp(precision)[1])


def _shaped(entries: Sequence[Entry], numbers: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    start = 0
    for entry in entries:
        count = math.prod(entry.shape)
        yield numbers[start : start + count].reshape(entry.shape)
        start += count


def _check_positive(what: str, number: float) -> None:
    if not (isinstance(number, int | float) and math.isfinite(number) and number > 0):
        raise UsageError(f"expected a positive number as {what} in Encoding, got {number!r:.40}")
