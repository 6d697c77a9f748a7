"""What the parties of an encrypted sum agree on before it, and what each may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.errors import PlanError, ShapeError, UsageError
from secagg.fixed_point import Plan
from secagg.party import Party, PartyId
from secagg.ring import RingArray

_LISTED_BYTES: Final = 64  # of a name in a list: its length, a digest of 32 bytes, and theirs


@dataclass(frozen=True, slots=True)
class Terms:
    """Who takes part, and what is summed; the same at all parties.

    Args:
      clients: who puts an array in. A client may have other roles as well.
      aggregator: who adds ciphertexts up. Holds no key.
      key_holders: who decrypts.
      results: who learns the sum.
      plan: how numbers are encoded; `parties` at least the number of clients.
      shape: of every client's array.
      min_clients: fewest clients whose sum is decrypted, at least 2. The others may drop out.
      round: number of the sum within the session; a client uploads once a round.
      timeout_s: how long the aggregator waits for uploads. The driver has to let parties wait longer.

    Attributes:
      everybody: who has a role.

    Raises:
      UsageError: an empty or repeated role, an aggregator that holds a key, fewer than two clients needed.
      PlanError: a plan for fewer parties than there are clients.
    """

    clients: tuple[PartyId, ...]
    aggregator: PartyId
    key_holders: tuple[PartyId, ...]
    results: tuple[PartyId, ...]
    plan: Plan
    shape: tuple[int, ...]
    min_clients: int
    round: int = 0
    timeout_s: float = 120.0
    # Worked out once: thousands of parties in one process share the terms.
    everybody: frozenset[PartyId] = field(init=False, repr=False, compare=False)
    _clients: frozenset[PartyId] = field(init=False, repr=False, compare=False)
    _optional: frozenset[PartyId] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for what, names in (
            ("clients", self.clients),
            ("key holders", self.key_holders),
            ("result parties", self.results),
        ):
            if not names or len(set(names)) != len(names):
                raise UsageError(f"expected distinct {what}, got {list(names)}")
        if self.aggregator in self.key_holders:
            raise UsageError(
                f"{self.aggregator} cannot be aggregator and key holder: it would see each client's array"
            )
        if not 2 <= self.min_clients <= len(self.clients):
            raise UsageError(
                f"expected at least 2 and at most all {len(self.clients)} clients to be needed, got "
                f"min_clients={self.min_clients}"
            )
        if self.plan.parties < len(self.clients):
            raise PlanError(f"the plan is for {self.plan.parties} parties, not {len(self.clients)} clients")
        if any(n < 1 for n in self.shape):
            raise UsageError(f"there is nothing to sum in arrays of shape {self.shape}")
        if not self.timeout_s > 0 or self.round < 0:
            raise UsageError("expected timeout_s above 0 and a round from 0 on")
        clients, essential = frozenset(self.clients), {self.aggregator, *self.key_holders, *self.results}
        object.__setattr__(self, "everybody", clients | essential)
        object.__setattr__(self, "_clients", clients)
        object.__setattr__(self, "_optional", clients - essential)

    @property
    def length(self) -> int:
        """How many numbers an array holds."""
        return math.prod(self.shape)

    @property
    def names_bytes(self) -> int:
        """The most that a list of clients takes in a message, with a digest of each."""
        return sum(len(name.encode()) + _LISTED_BYTES for name in self.clients)

    def is_client(self, name: PartyId) -> bool:
        """Return whether a party puts an array in."""
        return name in self._clients

    def enter(self, party: Party, values: ArrayLike | None) -> None:
        """Check this party's part before anything is sent, and let others bear the loss of clients.

        Raises:
          UsageError: a role for a stranger; an array at a party that is no client, or none at a client.
          ShapeError: an array of another shape.
        """
        if strangers := party.roster.strangers(self.everybody):
            raise UsageError(
                f"roles for {', '.join(sorted(strangers))}, who are not among {', '.join(party.roster)}"
            )
        if (values is not None) != self.is_client(party.me):
            raise UsageError("expected an array at the clients and nowhere else")
        if values is not None and np.shape(values) != self.shape:
            raise ShapeError(f"expected an array of shape {self.shape}, got {np.shape(values)}")
        party.optional = self._optional


@dataclass(frozen=True, slots=True)
class Sum:
    """What result parties learn.

    Attributes:
      values: the sum of the contributors' numbers, float64, of the terms' shape.
      contributors: whose numbers are in it.
      error: bound on the absolute error of each sum.
      encoded: the sum as elements of the plan's ring, exactly; None under CKKS.
    """

    values: NDArray[np.float64] = field(repr=False)
    contributors: tuple[PartyId, ...]
    error: float
    encoded: RingArray | None = field(repr=False, default=None)


class Declared(NamedTuple):
    """What one party sends: messages and payload bytes; and the depth of the deepest message that it reads."""

    rounds: int
    messages: int
    payload_bytes: int
