"""Differential privacy of a sum or mean: each client adds its share of noise before its update is protected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from secagg.errors import PlanError, UsageError
from secagg.protocols.threat_model import largest_part

if TYPE_CHECKING:
    from secagg.dp import Mechanism


@dataclass(frozen=True, slots=True)
class Privacy:
    """What a sum may tell about one client; public, and the same at all parties.

    Needs `secagg[dp]`. Neighbours differ in what one client contributes: a contribution, or zeros in its place
    ("zero-out"); or any two contributions ("replace", at twice the noise). That a client takes part is not hidden.

    Args:
      epsilon, delta: what may be spent in all rounds together; delta well below one over the number of clients.
      norm: largest Euclidean norm of a contribution, all arrays of an update together; longer ones are scaled down.
      rounds: how many sums or means are made of the same clients' data.
      max_corrupt: largest fraction of the clients that may omit their noise, or tell it to whoever sees the sum.
      adjacency: "zero-out" or "replace".
      random_rotation: rotate contributions, so that narrower rings do; costs time.

    Raises:
      UsageError: an argument out of range.
    """

    epsilon: float
    delta: float
    norm: float
    rounds: int = 1
    max_corrupt: float = 1 / 3
    adjacency: Literal["zero-out", "replace"] = "zero-out"
    random_rotation: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.epsilon < math.inf and 0 < self.norm < math.inf and 0 < self.delta < 1):
            raise UsageError(
                f"expected a positive epsilon and norm, and a delta between 0 and 1, got {self.epsilon}, {self.norm} and "
                f"{self.delta}"
            )
        if not isinstance(self.rounds, int) or self.rounds < 1 or not 0 <= self.max_corrupt < 1:
            raise UsageError(
                f"expected 1 round or more, a whole number, and a fraction from 0 to below 1, got {self.rounds} and "
                f"{self.max_corrupt}"
            )
        if self.adjacency not in ("zero-out", "replace"):
            raise UsageError(f'adjacency is "zero-out" or "replace", not {self.adjacency!r:.40}')

    def mechanism(self, *, clients: int, min_clients: int, length: int) -> Mechanism:
        """Return grid, noise and ring of sums of so many clients' vectors.

        Args:
          clients: that take part.
          min_clients: the fewest whose sum the protocol opens.
          length: coordinates of a vector.

        Raises:
          ImportError: dp-accounting is not installed.
          PlanError: no noise, or no ring of 64 bits, is enough; or nobody is left to count on for noise.
        """
        from secagg import dp  # whoever adds no noise does without its packages

        budget = dp.Budget(self.epsilon, self.delta, self.rounds, self.adjacency)
        colluders = largest_part(self.max_corrupt, clients)
        if colluders >= min_clients:
            raise PlanError(
                f"of {clients} clients {min_clients} are sure to be in a sum, and {colluders} are not counted on for noise: "
                "nobody is left; allow fewer dropouts or a smaller max_corrupt, or have more clients"
            )
        cohort = dp.Cohort(clients, min_clients, colluders)
        return dp.choose(budget, cohort, clip=self.norm, length=length, random_rotation=self.random_rotation)
