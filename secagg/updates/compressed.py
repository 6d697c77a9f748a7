"""Updates to few bits a number, and to a part of the numbers; unbiased (`compression`).

With L levels, c the clip of an array, W the largest weight, d the numbers of an update and k those of the round:

  a number   x w is L (x / c) (w / W), rounded up or down at random (Bernoulli rounding): an integer within +-L
  the weight an integer in digits to the base L + 1, lowest first, so that it needs no wider ring than the numbers
  the result c W / L over the sum of weights (in means), times d / k

One client's number x w is off by less than c W / L, by a standard deviation of at most half that, and by zero on average.
The sum of weights is exact, so a mean is unbiased too. Each of the d numbers is among the k with probability k / d. So a
result r has mean x and

    E (r - x)^2 = (d / k) s^2 + (d / k - 1) x^2

where s is the standard deviation by rounding. `Decoded.noise_std` is the root of the mean of this over all numbers, with
x^2 as the k numbers have it on average.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import fixed_point
from secagg.errors import PlanError, UsageError
from secagg.prg import KEY_BYTES, Stream
from secagg.updates.coding import FLOAT_ERROR, Coding, Decoded, Request, clip_numbers
from secagg.updates.compression import Compression


class Compressed(Coding):
    """Levels of the numbers that a round is of, and the weight in digits.

    Args:
      request: with a max_weight that is None or an int, and no precision.
      compression: how many bits, which numbers.
      rng: what rounding draws from; by default the operating system's.

    Raises:
      UsageError: integers among the arrays, weights that are no integers, a precision, or an array without clip.
      PlanError: sums that do not fit the updates' own dtype, or a ring of 64 bits.
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
        self._scale = size / self.places.size
        self._check_scaled()
        base, digits = compression.levels + 1, 0
        while self.weighted and base**digits <= self._weight:
            digits += 1
        self._digits = digits
        self.length = self.places.size + digits
        self.plan = fixed_point.plan(clip=float(compression.levels), frac_bits=0, parties=request.clients)

    @property
    def about(self) -> str:
        size = self.request.structure.size
        drawn = f", {self.places.size} of {size} numbers drawn alike" if self.places.size < size else ""
        weights = f", integer weights up to {self._weight} in {self._digits} digits" if self.weighted else ""
        return (
            f"{2 * self._compression.levels + 1} levels within the clip, rounded at random{drawn}{weights}: sums of "
            f"{self.plan.sum_bits} bits"
        )

    def encode(self, arrays: Sequence[NDArray[Any]], weight: float) -> tuple[NDArray[np.int64], int]:
        """Return an update as a vector; rounding is drawn anew in every call. See `Coding`."""
        numbers, clipped = np.empty(self.request.structure.size), 0
        for part, array in zip(self.parts, arrays, strict=True):
            values = numbers[part.place]
            np.copyto(values, array.reshape(-1))
            clipped += clip_numbers(values, part.clip)[1]
            values /= part.clip
        drawn = numbers[self.places]
        if self.weighted:
            drawn *= weight / self._weight
        drawn *= self._compression.levels
        levels = fixed_point.encode(drawn, self.plan, rounding="stochastic", rng=self._rng).values
        vector = np.empty(self.length, np.int64)
        vector[: drawn.size] = self.plan.ring.to_signed(levels)
        rest = int(weight)
        for place in range(drawn.size, self.length):
            rest, vector[place] = divmod(rest, self._compression.levels + 1)
        return vector, clipped

    def decode(self, total: NDArray[Any], contributors: int, error: float) -> Decoded:  # noqa: ARG002  # exact protocols have none
        drawn, mean, scale = self.places.size, self.request.mean, self._scale
        weight = contributors
        if self.weighted:
            base = self._compression.levels + 1
            weight = sum(int(digit) * base**i for i, digit in enumerate(total[drawn:]))
        unit = self._weight / self._compression.levels / (weight if mean else 1)
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
            array, errors[leaf.path] = self._rounded(part, values * scale, bound)
            arrays.append(array)
        std = math.sqrt(mean_square / max(1, sums.size))
        return Decoded(arrays, errors, float(weight) if self.weighted else None, std)

    def _check_scaled(self) -> None:
        for part in self.parts:
            most = self._scale * part.clip * (1 if self.request.mean else self.request.clients)
            if most > part.leaf.largest:
                raise PlanError(
                    f"{part.leaf.path or 'the updates'}: results up to {most:.6g} do not fit {part.leaf.dtype_name}; "
                    "convert the updates to a wider type, keep more numbers, or use a smaller clip"
                )
