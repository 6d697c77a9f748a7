"""Updates to vectors with a share of noise each, and noisy sums back (`secagg.dp`).

A client scales its update, all arrays side by side, down to the norm N. In a weighted mean with weights up to W it then
sends

    ((w/W) x, (w/W) N),    of norm (w/W) sqrt(|x|^2 + N^2) <= sqrt(2) N,

so one share of noise for contributions of norm sqrt(2) N covers numbers and weight together. Without weights it sends x, and
noise is for N. `secagg.dp` rounds the vector to integers of bounded norm and adds the share before the protocol sees it.

A plain mean divides by the number of contributors, which is public. A weighted mean is the ratio of two noisy sums. It is
nearly unbiased if the sum of weights is many times its own noise, and refused below 4 standard deviations.

If sums are taken modulo 2^b (`Protection.modular`), the ring is as wide as the *sum* needs, and a single vector may wrap.
Otherwise a vector keeps to its own bound, and noise beyond it is cut off. That happens with a probability below p in all
rounds together, and adds (1 + e^epsilon) p to delta. p is chosen so that this is 2^-20 of delta, and noise is made for the
rest of delta.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg import dp, fixed_point
from secagg.dp.clipping import clip_rows
from secagg.errors import PlanError, RangeError, UsageError
from secagg.fixed_point import Plan
from secagg.prg import KEY_BYTES
from secagg.updates.coding import Coding, Decoded, Request
from secagg.updates.privacy import Privacy
from secagg.updates.rounding import to_floats, to_integers
from secagg.updates.structure import Leaf

_CUT: Final = 2.0**-20  # of delta, for noise that is cut off
_LOG_OVERFLOW: Final = -40 * math.log(2)  # probability that a sum leaves the updates' dtype
_CLEAR: Final = 4.0  # standard deviations that a sum of weights has to be
_SMALLEST: Final = 2.0**-900  # norm of which float64 holds the multiples that numbers and noise are
_ROUNDING: Final = 0.25  # largest variance of stochastic rounding, in units squared


class Noisy(Coding):
    """Sums of clipped updates with noise, with weights if any.

    Args:
      request: what to compute; `clips` and `precision` do not matter.
      privacy: what the sum may tell.
      min_clients: the fewest clients whose sum is opened.
      colluders: clients that the protection itself takes to work with others.
      modular: sums are taken modulo 2^b.

    Raises:
      PlanError: nobody is left to count on for noise; no noise, or no ring of 64 bits, is enough; sums that may not fit
        the updates' own dtype; or noise in which every sum of weights would be lost.
    """

    def __init__(
        self, request: Request, privacy: Privacy, *, min_clients: int, colluders: int, modular: bool
    ) -> None:
        weighted = request.max_weight is not None
        if privacy.norm < _SMALLEST:
            raise UsageError(
                f"float64 has no room for the noise of updates of norm {privacy.norm:g}: multiply them, and "
                "divide the result"
            )
        # The mechanism comes first: the base class calls `_check`, which asks how far noise reaches.
        self.privacy = privacy
        self._modular = modular
        self.mechanism = replace(
            privacy,
            norm=privacy.norm * (math.sqrt(2) if weighted else 1),
            delta=privacy.delta * (1 if modular else 1 - _CUT),
            # The larger of the two: as many as either takes to be against the others.
            max_corrupt=max(privacy.max_corrupt, colluders / request.clients),
        ).mechanism(
            clients=request.clients, min_clients=min_clients, length=request.structure.size + weighted
        )
        if not modular:
            self.mechanism = replace(self.mechanism, plan=self._bounded_plan())
        super().__init__(request)
        self.plan = self.mechanism.plan
        self.length = self.mechanism.grid.dimension
        self._contributor = dp.Contributor(self.mechanism)
        # Public, and the same at all; between processes it comes from what is agreed on for the round.
        self._seed = secrets.token_bytes(KEY_BYTES) if privacy.random_rotation else None
        most = self._noise_std(request.clients)
        if weighted and request.clients * privacy.norm <= _CLEAR * most:
            raise PlanError(
                f"even if all {request.clients} weights were the largest, noise hides their sum: its standard deviation "
                f"is {most / privacy.norm:.3g} times max_weight; use a larger epsilon, more clients, or no weights"
            )

    @property
    def about(self) -> str:
        weights = f", weights in units of {self.request.max_weight}" if self.weighted else ""
        rotated = ", randomly rotated" if self.privacy.random_rotation else ""
        return (
            f"multiples of 2^{-self.mechanism.grid.frac_bits}{weights}{rotated}, with noise: sums of {self.plan.sum_bits} "
            "bits"
        )

    def report(self, round_number: int) -> dp.Report:
        """Return what is spent after so many rounds.

        Raises:
          RangeError: more rounds than planned.
        """
        # With what was taken off for noise that is cut off.
        return replace(self.mechanism.report(round_number), delta=self.privacy.delta)

    def encode(self, arrays: Sequence[NDArray[Any]], weight: float) -> tuple[NDArray[np.int64], int]:
        """Return an update as a vector with one share of noise, and 1 if it was scaled down, else 0."""
        row = np.empty((1, self.request.structure.size))
        for part, array in zip(self.parts, arrays, strict=True):
            row[0, part.place] = array.reshape(-1)
        clipped = clip_rows(row, self.privacy.norm)
        x = row[0]
        if self.request.max_weight is not None:
            x = np.append(x, self.privacy.norm)
            x *= weight / self.request.max_weight
        contribution = self._contributor.contribute(x, seed=self._seed)
        values = self.plan.ring.to_signed(contribution.values)
        if not self._modular:
            np.clip(values, -self.plan.limit, self.plan.limit, out=values)
        return values, clipped

    def decode(self, total: NDArray[Any], contributors: int, error: float) -> Decoded:  # noqa: ARG002  # exact protocols have none
        numbers = self.mechanism.grid.to_numbers(total, seed=self._seed)
        noise_std, weight_sum = self._noise_std(contributors), None
        if self.request.mean:
            size = float(contributors)
            if self.request.max_weight is not None:
                if numbers[-1] <= _CLEAR * noise_std:
                    raise RangeError(
                        f"the noisy sum of weights, {numbers[-1] / self.privacy.norm:.3g} times max_weight, is not clearly "
                        f"above its noise, of standard deviation {noise_std / self.privacy.norm:.3g}; there is no mean, and "
                        "this round is spent; give a smaller max_weight, a larger epsilon or more clients"
                    )
                size = float(numbers[-1]) / self.privacy.norm
                weight_sum = size * self.request.max_weight
            numbers /= size
            noise_std /= size
            if self.weighted:
                # U/V errs by (dU - (U/V) dV) / V, and |U/V| is at most the norm in units of which V is.
                largest = float(np.max(np.abs(numbers[:-1])))
                noise_std *= math.hypot(1, min(1.0, largest / self.privacy.norm))
        arrays = [self._cast(part.leaf, numbers[part.place]) for part in self.parts]
        return Decoded(arrays, {part.leaf.path: math.inf for part in self.parts}, weight_sum, noise_std)

    def _noise_std(self, contributors: int) -> float:
        """Return the standard deviation of a number of the sum, of noise and rounding, at most."""
        mechanism = self.mechanism
        return mechanism.grid.unit * math.sqrt(contributors * (mechanism.noise.variance + _ROUNDING))

    def _bounded_plan(self) -> Plan:
        """Return the plan of vectors that each keep to its limit."""
        grid, noise = self.mechanism.grid, self.mechanism.noise
        budget, clients = noise.budget, noise.cohort.clients
        # p = _CUT delta / (1 + e^epsilon), for any number of any client in any round.
        log_p = math.log(_CUT) + math.log(self.privacy.delta) - float(np.logaddexp(0.0, budget.epsilon))
        draws = math.log(clients) + math.log(grid.dimension) + math.log(budget.rounds)
        one = replace(noise, cohort=dp.Cohort())
        each = grid.element_units + one.tail_bound(log_p - draws)
        if (clients * each).bit_length() + 1 > 64 or each >= 1 << 53:
            # Noise that can be sampled is narrower than this: it is p that is tiny.
            raise PlanError(
                f"with epsilon={budget.epsilon} a sum of {clients} vectors, each with room for all of its noise, takes more "
                'than 64 bits; use a smaller epsilon, or protocol="masked" or "additive"'
            )
        return fixed_point.plan(clip=float(each), frac_bits=0, parties=clients)

    def _check(self, leaf: Leaf, clip: float) -> None:
        if self.request.mean:
            return
        where = f"at {leaf.path}: " if leaf.path else ""
        if leaf.dtype.kind == "u":
            raise PlanError(
                f"{where}noise can make sums negative, which {leaf.dtype_name} is not; convert the updates to a signed type"
            )
        grid, noise = self.mechanism.grid, self.mechanism.noise
        log = _LOG_OVERFLOW - math.log(grid.dimension) - math.log(noise.budget.rounds)
        most = leaf.largest
        needed = noise.cohort.clients * clip + noise.tail_bound(log) * grid.unit
        if needed > most:
            raise PlanError(
                f"{where}sums of {noise.cohort.clients} updates of norm {clip:g}, with their noise, can reach {needed:.6g}, "
                f"which does not fit {leaf.dtype_name}; convert the updates to a wider type"
            )

    def _cast(self, leaf: Leaf, numbers: NDArray[np.float64]) -> NDArray[Any]:
        # Beyond the dtype only with the probability that the plan allows for.
        dtype, shaped = self.result_dtype(leaf), numbers.reshape(leaf.shape)
        if dtype.kind in "iu":
            return to_integers(shaped, dtype)
        return to_floats(shaped, dtype, bfloat16=leaf.form.bfloat16)
