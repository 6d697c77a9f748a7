"""How much several releases cost together, and whether that stays within what an owner allowed.

Who asks for the next release has seen the earlier ones. So a rule is needed that holds for adaptive choices, a *privacy
filter* [RRUV16]. Both that are here stop at a bound that was fixed before the first release:

  basic         epsilons and deltas are added up [RRUV16]
  concentrated  rhos of zero-concentrated differential privacy are added up [BS16]; the sum stays below the largest rho that
                is worth no more than (epsilon, delta) [FZ21], at each of their orders. `dp_accounting` converts.

One budget has one rule for all its life: the better of two filters, chosen as results come in, is no filter.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from secagg.errors import BudgetError, UsageError
from secagg.patterns.pattern import Spending

__all__ = ["ACCOUNTINGS", "Accounting", "Allowance", "default_accounting"]

Accounting: TypeAlias = Literal["basic", "concentrated"]
ACCOUNTINGS: Final = ("basic", "concentrated")
_HALVINGS: Final = 80  # of the interval in which the largest rho lies; far below a float's precision


def default_accounting(delta: float) -> Accounting:
    """Return the rule for a new budget: the tighter one where it can be had."""
    installed = importlib.util.find_spec("dp_accounting") is not None
    return "concentrated" if delta > 0 and installed else "basic"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What all releases of one budget may cost together.

    Raises:
      UsageError: numbers that no budget has, or a rule that does not fit them.
    """

    epsilon: float
    delta: float
    unit: str
    accounting: Accounting

    def __post_init__(self) -> None:
        if not (0 < self.epsilon < math.inf and 0 <= self.delta < 1):
            raise UsageError(
                f"expected an epsilon above 0 and a delta from 0 to below 1, got {self.epsilon} and {self.delta}"
            )
        if self.unit not in ("person", "row"):
            raise UsageError(f'expected "person" or "row" as the unit of a budget, got {self.unit!r:.40}')
        if self.accounting not in ACCOUNTINGS:
            raise UsageError(f"expected {' or '.join(ACCOUNTINGS)} accounting, got {self.accounting!r:.40}")
        if self.accounting == "concentrated" and not self.delta:
            raise UsageError(
                "concentrated accounting needs a delta above 0; give one, or take basic accounting"
            )

    def check_kind(self, release: Spending) -> None:
        """Refuse a release that this budget cannot account for.

        Raises:
          BudgetError: it hides another unit, or its noise is not concentrated.
        """
        if release.unit != self.unit:
            raise BudgetError(
                f"the budget is for what a {self.unit} may lose, and the release says what a {release.unit} loses; set a "
                f"budget with --unit {release.unit}, or change the job"
            )
        if self.accounting == "concentrated" and release.rho is None and release.delta:
            raise BudgetError(
                "the release declares epsilon and delta and no rho, which concentrated accounting needs; set a budget "
                "with --accounting basic"
            )

    def spent(self, releases: Sequence[Spending]) -> tuple[float, float]:
        """Return (epsilon, delta) of all releases together, by this budget's rule."""
        if self.accounting == "basic":
            return float(_total(r.epsilon for r in releases)), float(_total(r.delta for r in releases))
        rho = _rho(releases)
        return (_epsilon(rho, self.delta), self.delta) if rho else (0.0, 0.0)

    def fits(self, releases: Sequence[Spending]) -> bool:
        """Return whether these releases together stay within the budget."""
        if self.accounting == "basic":
            epsilon, delta = _total(r.epsilon for r in releases), _total(r.delta for r in releases)
            return epsilon <= _decimal(self.epsilon) and delta <= _decimal(self.delta)
        return _rho(releases) <= self._largest_rho()

    def _largest_rho(self) -> float:
        """Return a rho that is worth no more than the budget, the largest but for rounding."""
        low, high = 0.0, self.epsilon  # rho + something positive is the epsilon of rho
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if _epsilon(middle, self.delta) <= self.epsilon else (low, middle)
        return low


def _decimal(x: float) -> Decimal:
    return Decimal(repr(x))


def _total(numbers: Iterable[float]) -> Decimal:
    """Add up as people write the numbers: three times 0.1 is 0.3."""
    return sum(map(_decimal, numbers), Decimal(0))


def _rho(releases: Sequence[Spending]) -> float:
    """Return the sum of all rhos; pure differential privacy of epsilon has rho epsilon**2 / 2 [BS16, proposition 1.4]."""
    return math.fsum(r.epsilon**2 / 2 if r.rho is None else r.rho for r in releases)


def _epsilon(rho: float, delta: float) -> float:
    """Return the epsilon of a rho at a delta.

    Raises:
      BudgetError: dp-accounting is not installed.
    """
    try:
        from secagg.dp.accounting import ORDERS, epsilon_at
    except ImportError as error:
        raise BudgetError(
            f"this budget has concentrated accounting: {error}; what is spent stays spent"
        ) from None
    import numpy as np

    return epsilon_at(ORDERS, rho * np.asarray(ORDERS, np.float64), delta)
