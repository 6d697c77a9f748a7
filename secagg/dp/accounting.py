"""What noise costs: Renyi divergences of the noises, over rounds, as epsilon and delta.

The divergences are those of [KLS21, proposition 14] for sums of discrete Gaussians and [AKL21, corollary 4.1] for
Skellam noise. Divergences of rounds add up at each order, also when a round's data depend on what earlier rounds gave.
`dp_accounting` turns the sum into epsilon at a given delta [CKS20, proposition 12].

**Nothing is amplified.** A random choice of clients lowers the cost only for whoever does not know the choice. The server
of a secure sum knows who took part, and so do the clients that it tells. No bound here assumes sampling or shuffling, and
none may be combined with one that does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

try:
    from dp_accounting import rdp as _rdp
except ImportError:
    raise ImportError('differential privacy needs dp-accounting: pip install "secagg[dp]"') from None

from secagg.errors import UsageError

__all__ = [
    "ORDERS",
    "Adjacency",
    "Sensitivity",
    "discrete_gaussian_divergence",
    "epsilon_at",
    "skellam_divergence",
]

Adjacency: TypeAlias = Literal["zero-out", "add-remove", "replace"]

# Integers: the bound for Skellam noise is proven for those only. They reach far enough for an epsilon of 1/1000.
ORDERS: Final[tuple[int, ...]] = (
    *range(2, 129),
    *(round(128 * 2 ** (k / 8)) for k in range(1, 81)),
)


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How far a sum of integer vectors can move.

    Args:
      l1: largest sum of absolute values.
      l2: largest Euclidean norm.
      length: elements of the vectors.

    Raises:
      UsageError: a number that is not positive and finite, or norms that no vector of this length can have.
    """

    l1: float
    l2: float
    length: int

    def __post_init__(self) -> None:
        if not (0 < self.l2 < math.inf and 0 < self.l1 < math.inf and self.length >= 1):
            raise UsageError(f"expected positive, finite norms and a length of 1 or more, got {self}")
        if not self.l2 * (1 - 1e-9) <= self.l1 <= self.l2 * math.sqrt(self.length) * (1 + 1e-9):
            raise UsageError(
                f"the l1 norm of {self.length} numbers lies between the l2 norm {self.l2} and"
                f" {math.sqrt(self.length):.6g} times it, it cannot be {self.l1}"
            )

    def under(self, adjacency: Adjacency) -> Sensitivity:
        """Return how far neighbouring sums lie apart, if this is what one contribution adds.

        Where it is replaced by another, twice as far (by the triangle inequality); otherwise as far.

        Raises:
          UsageError: an unknown adjacency.
        """
        if adjacency in ("zero-out", "add-remove"):
            return self
        if adjacency == "replace":
            return Sensitivity(2 * self.l1, 2 * self.l2, self.length)
        raise UsageError(f'adjacency is "zero-out", "add-remove" or "replace", not {adjacency!r}')


def discrete_gaussian_divergence(
    orders: Sequence[int], *, variance: float, min_shares: int, max_shares: int, sensitivity: Sensitivity
) -> NDArray[np.float64]:
    """Return bounds on the Renyi divergence of a sum with discrete Gaussian noise, one for each order.

    Valid for every number n of noise shares from `min_shares` to `max_shares`. A sum of n discrete Gaussians is no discrete
    Gaussian; tau measures how far it is from one. The divergence falls with n and rises with tau, which rises
    with n: with n = min_shares in one and n = max_shares in the other, the bound is no smaller than for any n between. It is
    hardly larger either: from a variance of 4 on, tau is below 10^-16.

    Args:
      orders: above 1.
      variance: of one share, at min_shares 1/4.
      min_shares, max_shares: numbers of shares, 1 <= min_shares <= max_shares.
      sensitivity: of the sum.

    Raises:
      UsageError: a variance below 1/4, or numbers of shares out of order.
    """
    if not 0.25 <= variance < math.inf:
        raise UsageError(f"a share of discrete Gaussian noise has a variance of 1/4 or more, not {variance}")
    if not 1 <= min_shares <= max_shares:
        raise UsageError(f"expected 1 <= min_shares <= max_shares shares, got {min_shares} and {max_shares}")
    k = np.arange(1, max_shares, dtype=np.float64)
    tau = 10 * float(np.sum(np.exp(-2 * math.pi**2 * variance * k / (k + 1))))
    x = sensitivity.l2 / math.sqrt(min_shares * variance)
    x1 = sensitivity.l1 / math.sqrt(min_shares * variance)
    d = sensitivity.length
    alpha = np.asarray(orders, dtype=np.float64)
    square = min(x * x + 2 * x1 * tau + tau * tau * d, (x + math.sqrt(d) * tau) ** 2)
    return np.minimum(alpha / 2 * (x * x) + tau * d, alpha / 2 * square)


def skellam_divergence(
    orders: Sequence[int], *, variance: float, sensitivity: Sensitivity
) -> NDArray[np.float64]:
    """Return bounds on the Renyi divergence of a sum with Skellam noise, one for each order.

    Args:
      orders: integers, 2 or more.
      variance: of the whole noise, positive.
      sensitivity: of the sum.

    Raises:
      UsageError: a variance that is not positive, or an order that is no integer.
    """
    if not 0 < variance < math.inf:
        raise UsageError(f"a variance is positive and finite, not {variance}")
    if any(order < 2 or order != int(order) for order in orders):
        raise UsageError("the divergence of Skellam noise is bounded for integer orders of 2 or more only")
    alpha = np.asarray(orders, dtype=np.float64)
    l1, l2, mu = sensitivity.l1, sensitivity.l2, variance
    excess = np.minimum(((2 * alpha - 1) * l2**2 + 6 * l1) / (4 * mu**2), 3 * l1 / (2 * mu))
    return np.asarray(alpha * l2**2 / (2 * mu) + excess)


def epsilon_at(orders: Sequence[int], divergences: NDArray[np.float64], delta: float) -> float:
    """Return the epsilon that divergences, summed over the rounds, amount to at a given delta.

    Raises:
      UsageError: a delta that does not lie between 0 and 1.
    """
    if not 0 < delta < 1:
        raise UsageError(f"delta lies between 0 and 1, not {delta}")
    spent, _ = _rdp.compute_epsilon(list(orders), divergences.tolist(), delta)
    return float(spent)
