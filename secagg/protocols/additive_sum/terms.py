"""What the parties of an additive sum agree on before it, and what each may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from secagg.errors import ShapeError, UsageError
from secagg.mpc.additive import SEED_BYTES
from secagg.party import Party, PartyId
from secagg.ring import Ring, RingArray
from secagg.signing import digest

LABEL: Final = "secagg.protocols.additive_sum"


@dataclass(frozen=True, slots=True)
class Terms:
    """Who takes part, and what is summed; the same at all parties. A party may have several roles.

    Args:
      clients: who puts a vector in.
      aggregators: who adds up.
      results: who learns the sum.
      shape: of every vector.
      ring: what vectors are elements of; sums wrap at its modulus.
      min_clients: fewest clients whose sum is opened, at least 2. Others may drop out, if they are no aggregators.
      timeout_s: how long aggregators wait for clients. The driver has to let parties wait longer.

    Attributes:
      everybody: who has a role.
      numbers: clients, counted from 0.
      spared: clients that others can do without.

    Raises:
      UsageError: an empty or repeated role; fewer than two aggregators: one would see every vector; a shape that is
        none; min_clients or time out of range.
    """

    clients: tuple[PartyId, ...]
    aggregators: tuple[PartyId, ...]
    results: tuple[PartyId, ...]
    shape: tuple[int, ...]
    ring: Ring
    min_clients: int
    timeout_s: float = 30.0
    # Worked out once: thousands of parties in one process share the terms.
    everybody: frozenset[PartyId] = field(init=False, repr=False, compare=False)
    numbers: Mapping[PartyId, int] = field(init=False, repr=False, compare=False)
    spared: frozenset[PartyId] = field(init=False, repr=False, compare=False)
    _optional: frozenset[PartyId] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for what, names, fewest in (
            ("clients", self.clients, 2),
            ("aggregators", self.aggregators, 2),
            ("result parties", self.results, 1),
        ):
            if len(names) < fewest or len(set(names)) != len(names):
                raise UsageError(f"expected at least {fewest} distinct {what}, got {list(names)}")
        if any(length < 0 for length in self.shape):
            raise UsageError(f"expected a shape of lengths of 0 or more, got {self.shape}")
        if not 2 <= self.min_clients <= len(self.clients):
            raise UsageError(
                f"expected at least 2 and at most all {len(self.clients)} clients to be needed, got "
                f"min_clients={self.min_clients}"
            )
        if not self.timeout_s > 0:
            raise UsageError(f"expected timeout_s above 0, got {self.timeout_s}")
        everybody = frozenset({*self.clients, *self.aggregators, *self.results})
        object.__setattr__(self, "everybody", everybody)
        object.__setattr__(self, "numbers", {client: i for i, client in enumerate(self.clients)})
        object.__setattr__(self, "spared", frozenset(self.clients).difference(self.aggregators))
        object.__setattr__(self, "_optional", everybody.difference(self.aggregators))

    @classmethod
    def everyone(cls, roster: Sequence[PartyId], shape: tuple[int, ...], ring: Ring) -> Self:
        """Return the terms where everybody does everything, and nobody can be spared."""
        names = tuple(roster)
        return cls(names, names, names, shape, ring, min_clients=len(names))

    @property
    def vector_bytes(self) -> int:
        """Of a vector on the wire."""
        return self.ring.packed_bytes(math.prod(self.shape))

    def holder(self, number: int) -> PartyId:
        """Return the aggregator that gets the full share of a client, counted from 0: itself, or each in turn."""
        owner = self.clients[number]
        return owner if owner in self.aggregators else self.aggregators[number % len(self.aggregators)]

    def enter(self, party: Party, x: RingArray | None) -> None:
        """Check this party's part before anything is sent, and bear the loss of all but aggregators.

        Raises:
          UsageError: no role, a role for a stranger; a vector at a party that is no client, or none at a client.
          ShapeError: a vector of another shape.
        """
        if strangers := party.roster.strangers(self.everybody):
            raise UsageError(
                f"roles for {', '.join(sorted(strangers))}, who are not among {', '.join(party.roster)}"
            )
        if party.me not in self.everybody:
            raise UsageError(f"{party.me} has no role in these terms")
        if (x is not None) != (party.me in self.numbers):
            raise UsageError("expected a vector at the clients and nowhere else")
        if x is not None and x.shape != self.shape:
            raise ShapeError(f"expected a vector of shape {self.shape}, got {x.shape}")
        # Nobody waits for a result party: if one of them leaves, the others still learn the sum.
        party.optional = self._optional

    def fingerprint(self) -> bytes:
        """Return a digest of the terms, 32 bytes; the time that aggregators wait is their own affair."""
        roles = (self.clients, self.aggregators, self.results)
        numbers = [*map(len, roles), len(self.shape), *self.shape, self.ring.bits, self.min_clients]
        names = [name.encode() for names in roles for name in names]
        return digest(f"{LABEL}/terms", [*(number.to_bytes(8, "big") for number in numbers), *names])


class Declared(NamedTuple):
    """What one party sends: messages and payload bytes; and the depth of the deepest message that it reads."""

    rounds: int
    messages: int
    payload_bytes: int


def cost(me: PartyId, *, terms: Terms) -> Declared:
    """Return what `aggregate` costs one party, exactly, if enough others stay."""
    others = len(terms.aggregators) - 1
    agreement = 2 if terms.spared else 0
    rounds = messages = payload = 0
    if me in terms.clients:
        full = int(me not in terms.aggregators)
        messages += others + full
        payload += SEED_BYTES * others + terms.vector_bytes * full
    if me in terms.aggregators:
        openings = len(terms.results) - (me in terms.results)
        messages += agreement * others + openings
        payload += len(terms.clients) * others * bool(agreement)
        payload += (len(terms.clients) + terms.vector_bytes) * openings
        rounds = 1 + agreement
    if me in terms.results:
        rounds = 2 + agreement
    return Declared(rounds, messages, payload)
