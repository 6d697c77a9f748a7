"""Updates to few bits a number, and to a part of the numbers; unbiased (`compression`).

With L levels, c the clip of an array, W the largest weight, d the numbers of an update and k those of the round:

  a number   x w is L (x / c) (w / W), rounded up or down at random (Bernoulli rounding): an integer within +-L
  the weight an integer up to L is one coordinate. A larger one is spread over m coordinates: each of its w units is added to
             one of them that is drawn anew, so that no coordinate needs a wider ring than the numbers
  the result c W / L over the sum of weights (in means), times d / k

One client's number x w is off by less than c W / L, by a standard deviation of at most half that, and by zero on average.
The sum of weights is exact, so a mean is unbiased too. Each of the d numbers is among the k with probability k / d. So a
result r has mean x and

    E (r - x)^2 = (d / k) s^2 + (d / k - 1) x^2

where s is the standard deviation by rounding. `Decoded.noise_std` is the root of the mean of this over all numbers, with
x^2 as the k numbers have it on average. Where s is above c, zero would be nearer than a mean, and there is none: weights are
then far below the largest.

What is opened of the weights tells their sum alone. The coordinates of a weight w are multinomial: w units among m places.
Sums of independent ones are multinomial as well, of the sum of the w, whatever the single w are. A client draws again if a
coordinate exceeds L. It does so with a probability below 2^-60 (Chernoff's bound, over all m), so that the sums of n clients
are within n 2^-60 of that distribution. Digits would not do: the sum of each digit would be opened.

**With error feedback** ([SFDLY14]; [SCJ18] for parts of the numbers) a client encodes y = x + e, where e is what was cut off
of its updates so far. It sends s: 0 for numbers that were not drawn, else c z W / (L w), where z is the level. Then it
remembers e' = y - s. The result is the sum of s w over the sum of weights, and not multiplied by d / k: what was not drawn
is not lost but late. So over the rounds of one client the s add up to the x, less the last e'. A y beyond c is cut to c, and
the rest is in e' too. An x beyond c does not fit, as ever.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import fixed_point
from secagg.errors import PlanError, RangeError, UsageError
from secagg.prg import KEY_BYTES, Stream, system_stream
from secagg.updates.coding import FLOAT_ERROR, Coding, Decoded, Request, clip_numbers
from secagg.updates.compression import MAX_BITS, Compression

_REDRAWN: Final = -60  # log2 of the probability that a spread weight is drawn again
_MOST_PLACES: Final = 1 << 16
_MOST_UNITS: Final = 1 << 24  # each is drawn by itself
_CHUNK: Final = 1 << 20


class Compressed(Coding):
    """Levels of the numbers that a round is of, and the weight in units.

    Args:
      request: with a max_weight that is None or an int, and no precision.
      compression: how many bits, which numbers.
      rng: what rounding draws from; by default the operating system's.

    Raises:
      UsageError: integers among the arrays, weights that are no integers, a precision, or an array without clip.
      PlanError: sums that do not fit the updates' own dtype, or a ring of 64 bits; or weights too large for the bits.
    """

    def __init__(self, request: Request, compression: Compression, *, rng: Stream | None = None) -> None:
        super().__init__(request)
        if isinstance(request.max_weight, float):
            raise UsageError(
                f"compression goes with integer weights: give max_weight={math.ceil(request.max_weight)}, and weights "
                "that are integers"
            )
        if request.precision is not None:
            raise UsageError(
                "with compression the step of numbers follows from clip and bits; leave precision out"
            )
        for part in self.parts:
            if part.leaf.is_integer:
                raise UsageError(
                    f"{part.leaf.path or 'the updates'}: compression would round integers; convert them to floats, or "
                    "sum them up without compression"
                )
        self._compression, self._rng = compression, rng
        self._weight = int(request.max_weight or 1)
        size = request.structure.size
        seed = compression.seed or secrets.token_bytes(KEY_BYTES)
        self.places = compression.places(size, seed)
        # What was not drawn comes later, and must not be made up for now.
        self._scale = 1.0 if compression.error_feedback else size / self.places.size
        self._check_scaled()
        self._spread = self._places_of_weight() if self.weighted else 0
        self.length = self.places.size + self._spread
        self.plan = fixed_point.plan(clip=float(compression.levels), frac_bits=0, parties=request.clients)

    @property
    def about(self) -> str:
        size = self.request.structure.size
        drawn = f", {self.places.size} of {size} numbers drawn alike" if self.places.size < size else ""
        weights = f", integer weights up to {self._weight} in {self._spread} places" if self.weighted else ""
        return (
            f"{2 * self._compression.levels + 1} levels within the clip, rounded at random{drawn}{weights}: sums of "
            f"{self.plan.sum_bits} bits"
        )

    def encode(self, arrays: Sequence[NDArray[Any]], weight: float) -> tuple[NDArray[np.int64], int]:
        """Return an update as a vector; rounding is drawn anew in every call. See `Coding`."""
        numbers = self._side_by_side(arrays)
        clipped = self._scale_down(numbers)
        return self._levels(numbers, weight), clipped

    def encode_with_memory(
        self, arrays: Sequence[NDArray[Any]], weight: float, memory: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return an update with what was cut off of earlier ones as a vector, and what is cut off now.

        Args:
          arrays, weight: as in `encode`.
          memory: of all numbers side by side, shape (size of the update,), in their units; zeros at first.
        """
        wanted = self._side_by_side(arrays) + memory
        numbers = wanted.copy()
        self._scale_down(numbers)
        vector = self._levels(numbers, weight)
        if weight == 0:
            return vector, wanted  # nothing of it counts
        numbers[:] = 0.0
        units = vector[: self.places.size] / self._compression.levels
        numbers[self.places] = units * (self._weight / weight) if self.weighted else units
        for part in self.parts:
            numbers[part.place] *= part.clip
        return vector, wanted - numbers

    def _side_by_side(self, arrays: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        numbers = np.empty(self.request.structure.size)
        for part, array in zip(self.parts, arrays, strict=True):
            np.copyto(numbers[part.place], array.reshape(-1))
        return numbers

    def _scale_down(self, numbers: NDArray[np.float64]) -> int:
        """Divide numbers by their clips, within +-1; return how many were beyond."""
        clipped = 0
        for part in self.parts:
            values = numbers[part.place]
            clipped += clip_numbers(values, part.clip)[1]
            values /= part.clip
        return clipped

    def _levels(self, numbers: NDArray[np.float64], weight: float) -> NDArray[np.int64]:
        """Return numbers within +-1 as levels of those that are drawn, and the weight behind them."""
        drawn = numbers[self.places]
        if self.weighted:
            drawn *= weight / self._weight
        drawn *= self._compression.levels
        levels = fixed_point.encode(drawn, self.plan, rounding="stochastic", rng=self._rng).values
        vector = np.empty(self.length, np.int64)
        vector[: drawn.size] = self.plan.ring.to_signed(levels)
        if self.weighted:
            vector[drawn.size :] = self._spread_out(int(weight))
        return vector

    def decode(self, total: NDArray[Any], contributors: int, error: float) -> Decoded:  # noqa: ARG002  # exact protocols have none
        drawn, mean, scale = self.places.size, self.request.mean, self._scale
        weight = contributors
        if self.weighted:
            weight = sum(total[drawn:].tolist())
        unit = self._weight / self._compression.levels / (weight if mean else 1)
        if mean and math.sqrt(contributors) * unit / 2 > 1:
            raise RangeError(
                f"weights of {weight} in all are so far below max_weight={self._weight} that rounding to "
                f"{self._compression.bits} bits is off by {math.sqrt(contributors) * unit / 2:.3g} times the clip: the mean "
                "would be noise; give a max_weight near the largest weight, or more bits"
            )
        sums = np.zeros(self.request.structure.size)
        sums[self.places] = total[:drawn] * unit
        arrays, errors, mean_square = [], {}, 0.0
        for part in self.parts:
            leaf = part.leaf
            values = sums[part.place] * part.clip
            largest = float(np.max(np.abs(values), initial=0.0))
            step = unit * part.clip
            bound = contributors * step + largest * FLOAT_ERROR
            if scale > 1:
                # A number that was drawn is off by its rounding and by the factor, another by all of it.
                most = part.clip * (1 if mean else contributors)
                bound = max(bound + (scale - 1) * largest * (1 + FLOAT_ERROR), most)
            # Each of w L x / (c W) is rounded by a variance of 1/4 at most.
            variance = contributors * (step / 2) ** 2 * scale
            square = float(np.sum(np.square(values))) * scale
            mean_square += leaf.size * variance + (scale - 1) * square
            if self._compression.error_feedback:
                bound = math.inf  # what clients remember is theirs to know
            array, errors[leaf.path] = self._rounded(part, values * scale, bound)
            arrays.append(array)
        std = math.sqrt(mean_square / max(1, sums.size))
        return Decoded(arrays, errors, float(weight) if self.weighted else None, std)

    def _places_of_weight(self) -> int:
        """Return over how many places a weight is spread: a power of two.

        Raises:
          PlanError: too many.
        """
        places = _places_for(self._weight, self._compression.levels)
        if places is None:
            enough = next(
                (b for b in range(2, MAX_BITS + 1) if _places_for(self._weight, (1 << (b - 1)) - 1)), None
            )
            way = f"bits={enough}, or weights in larger units" if enough else "weights in larger units"
            raise PlanError(
                f"weights up to max_weight={self._weight} do not fit {self._compression.bits} bits: sums of parts would "
                f"tell more than the sum of weights; take {way}"
            )
        return places

    def _spread_out(self, weight: int) -> NDArray[np.int64]:
        """Return the units of a weight at places drawn anew; see above for what their sums tell."""
        if self._spread == 1:
            return np.array([weight], np.int64)
        rng = system_stream() if self._rng is None else self._rng
        bits = self._spread.bit_length() - 1
        while True:
            counts = np.zeros(self._spread, np.int64)
            for start in range(0, weight, _CHUNK):
                counts += np.bincount(rng.ring(min(_CHUNK, weight - start), bits), minlength=self._spread)
            if int(counts.max()) <= self._compression.levels:
                return counts

    def _check_scaled(self) -> None:
        for part in self.parts:
            # A weighted number is rounded up by less than c W / L, and the sum of n weights is n at least.
            rounded = min(self._weight, 1 + self._weight / self._compression.levels) if self.weighted else 1
            most = self._scale * part.clip * (rounded if self.request.mean else self.request.clients)
            if most > part.leaf.largest:
                raise PlanError(
                    f"{part.leaf.path or 'the updates'}: results up to {most:.6g} do not fit {part.leaf.dtype_name}; "
                    "convert the updates to a wider type, use a smaller clip or more bits, or keep more numbers"
                )


def _places_for(weight: int, levels: int) -> int | None:
    """Return the fewest places, a power of two, none of which gets more than so many of so many units; None if too many.

    By Chernoff's bound one of m places gets k > mu = w / m or more with a probability of at most e^-mu (e mu / k)^k.
    """
    if weight <= levels:
        return 1
    if weight > _MOST_UNITS:
        return None
    places, least = 2, levels + 1
    while places <= _MOST_PLACES:
        mean = weight / places
        if mean < least:
            tail = (least * (1 + math.log(mean / least)) - mean) / math.log(2)
            if tail + math.log2(places) <= _REDRAWN:
                return places
        places *= 2
    return None
