"""What the parties of an additive sum agree on before it, and what each may cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.additive import SEED_BYTES
from secagg.party import Party, PartyId
from secagg.protocols.roles import Roles
from secagg.ring import Ring, RingArray
from secagg.signing import digest

LABEL: Final = "secagg.protocols.additive_sum"


@dataclass(frozen=True, slots=True)
class Terms:
    """Who takes part, and what is summed; the same at all parties. A party may have several roles.

    Args:
      roles: clients, at least two aggregators, and who learns the sum.
      shape: of every vector.
      ring: what vectors are elements of; sums wrap at its modulus.
      min_clients: fewest clients whose sum is opened, at least 2. Others may drop out, if they are no aggregators.
      timeout_s: how long aggregators wait for clients. The driver has to let parties wait longer.

    Attributes:
      optional: clients that are no aggregators, which the sum can do without.

    Raises:
      UsageError: fewer than two aggregators, of which one would see every vector; key holders; a shape that is none;
        min_clients or timeout_s out of range.
    """

    roles: Roles
    shape: tuple[int, ...]
    ring: Ring
    min_clients: int
    timeout_s: float = 30.0
    # Worked out once: thousands of parties in one process share the terms.
    optional: frozenset[PartyId] = field(init=False, repr=False, compare=False)
    _not_waited_for: frozenset[PartyId] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        roles = self.roles
        if len(roles.aggregators) < 2 or roles.key_holders:
            raise UsageError(
                f"expected at least 2 distinct aggregators and no key holders, got {list(roles.aggregators)} and "
                f"{list(roles.key_holders)}"
            )
        if any(length < 0 for length in self.shape):
            raise UsageError(f"expected a shape of lengths of 0 or more, got {self.shape}")
        roles.check_terms(min_clients=self.min_clients, timeout_s=self.timeout_s)
        object.__setattr__(self, "optional", frozenset(roles.clients).difference(roles.aggregators))
        object.__setattr__(self, "_not_waited_for", roles.everybody.difference(roles.aggregators))

    @classmethod
    def everyone(cls, roster: Sequence[PartyId], shape: tuple[int, ...], ring: Ring) -> Self:
        """Return the terms where everybody does everything, and the sum can do without nobody."""
        names = tuple(roster)
        return cls(Roles(names, names, names), shape, ring, min_clients=len(names))

    @property
    def vector_bytes(self) -> int:
        """Of a vector on the wire."""
        return self.ring.packed_bytes(math.prod(self.shape))

    def leader(self, number: int) -> PartyId:
        """Return the aggregator that gets the full share of a client, counted from 0: itself, or each in turn."""
        client, aggregators = self.roles.clients[number], self.roles.aggregators
        return client if client in aggregators else aggregators[number % len(aggregators)]

    def enter(self, party: Party) -> None:
        """Check this party's part before anything is sent, and bear the loss of all but aggregators.

        Raises:
          UsageError: no role, or a role for a stranger.
        """
        # Nobody waits for a result party: if one of them leaves, the others still learn the sum.
        self.roles.enter(party, optional=self._not_waited_for)

    def check_vector(self, x: RingArray) -> None:
        """Refuse what is no vector of these terms.

        Raises:
          ShapeError: a vector of another shape.
        """
        if x.shape != self.shape:
            raise ShapeError(f"expected a vector of shape {self.shape}, got {x.shape}")

    def fingerprint(self) -> bytes:
        """Return a digest of the terms, 32 bytes; the time that aggregators wait is their own affair."""
        numbers = [len(self.shape), *self.shape, self.ring.bits, self.min_clients]
        parts = [self.roles.fingerprint(), *(number.to_bytes(8, "big") for number in numbers)]
        return digest(f"{LABEL}/terms", parts)


def cost(me: PartyId, *, terms: Terms) -> Cost:
    """Return what `take_part` costs one party, exactly, if enough others stay."""
    others = len(terms.roles.aggregators) - 1
    agreement = 2 if terms.optional else 0
    rounds = messages = payload = 0
    if me in terms.roles.numbers:
        full = int(me not in terms.roles.aggregators)
        messages += others + full
        payload += SEED_BYTES * others + terms.vector_bytes * full
    if me in terms.roles.aggregators:
        openings = len(terms.roles.results) - (me in terms.roles.results)
        messages += agreement * others + openings
        payload += len(terms.roles.clients) * others * bool(agreement)
        payload += (len(terms.roles.clients) + terms.vector_bytes) * openings
        rounds = 1 + agreement
    if me in terms.roles.results:
        rounds = 2 + agreement
    return Cost.of(me, rounds, payload, messages)
