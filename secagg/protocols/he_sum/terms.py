"""What the parties of an encrypted sum agree on before it, and what each may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.errors import PlanError, ShapeError, UsageError
from secagg.fixed_point import Plan
from secagg.party import Party, PartyId
from secagg.protocols.roles import Roles, SumResult
from secagg.ring import RingArray

_LISTED_BYTES: Final = 64  # of a name in a list: its length, a digest of 32 bytes, and theirs


@dataclass(frozen=True, slots=True)
class Terms:
    """Who takes part, and what is summed; the same at all parties.

    Args:
      roles: clients, one aggregator, key holders, and who learns the sum. The aggregator adds ciphertexts up and holds no
        key. Clients may have other roles as well.
      plan: how numbers are encoded; `parties` at least the number of clients.
      shape: of every client's array.
      min_clients: fewest clients whose sum is decrypted, at least 2. The others may drop out.
      round: number of the sum within the session; a client uploads once a round.
      timeout_s: how long the aggregator waits for uploads. The driver has to let parties wait longer.

    Raises:
      UsageError: not one aggregator, one that holds a key, or no key holder; shape, min_clients, round or timeout_s out of
        range.
      PlanError: a plan for fewer parties than there are clients.
    """

    roles: Roles
    plan: Plan
    shape: tuple[int, ...]
    min_clients: int
    round: int = 0
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        roles = self.roles
        if len(roles.aggregators) != 1 or not roles.key_holders:
            raise UsageError(
                f"expected one aggregator and at least one key holder, got {list(roles.aggregators)} and "
                f"{list(roles.key_holders)}"
            )
        if self.aggregator in roles.key_holders:
            raise UsageError(
                f"{self.aggregator} cannot be aggregator and key holder: it would see each client's array"
            )
        roles.check_terms(min_clients=self.min_clients, timeout_s=self.timeout_s)
        if self.plan.parties < len(roles.clients):
            raise PlanError(f"the plan is for {self.plan.parties} parties, not {len(roles.clients)} clients")
        if any(n < 1 for n in self.shape):
            raise UsageError(f"there is nothing to sum in arrays of shape {self.shape}")
        if self.round < 0:
            raise UsageError(f"expected a round from 0 on, got {self.round}")

    @property
    def aggregator(self) -> PartyId:
        """Who adds ciphertexts up."""
        return self.roles.aggregators[0]

    @property
    def length(self) -> int:
        """How many numbers an array holds."""
        return math.prod(self.shape)

    @property
    def names_bytes(self) -> int:
        """The most that a list of clients takes in a message, with a digest of each."""
        return sum(len(name.encode()) + _LISTED_BYTES for name in self.roles.clients)

    def enter(self, party: Party, x: ArrayLike | None) -> None:
        """Check this party's part before anything is sent, and let others bear the loss of clients.

        Raises:
          UsageError: no role, or a role for a stranger; an array at a party that is no client, or none at a client.
          ShapeError: an array of another shape.
        """
        self.roles.enter(party)
        self.roles.check_vector_at(party, x)
        if x is not None and np.shape(x) != self.shape:
            raise ShapeError(f"expected an array of shape {self.shape}, got {np.shape(x)}")


@dataclass(frozen=True, slots=True)
class EncryptedSum(SumResult):
    """How an encrypted sum ended, at a result party.

    Attributes:
      total: the sum of the contributors' numbers, float64, of the terms' shape.
      error: bound on the absolute error of each sum.
      encoded: the sum as elements of the plan's ring, exactly; None under CKKS.
    """

    total: NDArray[np.float64] = field(repr=False)
    error: float = 0.0
    encoded: RingArray | None = field(repr=False, default=None)
