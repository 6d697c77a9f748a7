"""Who does what in a sum, and what comes out of it: the same words for all sums.

contribute(party, x, terms=...)    a client puts a vector in
aggregate(party, terms=...)        an aggregator adds up
receive(party, terms=...)          a result party that is no aggregator learns the sum
take_part(party, x, terms=...)     all roles of a party, which may have several
cost(me, terms=...)                what that costs one party

At a party that does not learn the sum, `take_part` returns who is in it, or None where not even that is known there. In
masked sums clients too are told who is in it; in the other sums they are done after their upload.

Masked sums have no `receive`, because the server alone learns the sum. Encrypted sums have `take_part` alone: in most of
their layouts one party is client, aggregator or key holder at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

from secagg.errors import UsageError
from secagg.party import Party, PartyId
from secagg.signing import digest

_LABEL: Final = "secagg.protocols.roles"


@dataclass(frozen=True, slots=True)
class Roles:
    """Who takes part in a sum, by role; the same at all parties. A party may have several roles.

    Args:
      clients: who puts a vector in.
      aggregators: who adds up.
      results: who learns the sum.
      key_holders: who decrypts; nobody where nothing is encrypted.

    Attributes:
      everybody: who has a role.
      numbers: the clients' numbers, counted from 0.
      optional: clients without another role, whose loss the others bear.

    Raises:
      UsageError: no client, aggregator or result party, an empty name, or one name twice in a role.
    """

    clients: tuple[PartyId, ...]
    aggregators: tuple[PartyId, ...]
    results: tuple[PartyId, ...]
    key_holders: tuple[PartyId, ...] = ()
    # Thousands of parties in one process share the roles: what takes a time that grows with them is worked out once.
    everybody: frozenset[PartyId] = field(init=False, repr=False, compare=False)
    numbers: Mapping[PartyId, int] = field(init=False, repr=False, compare=False)
    optional: frozenset[PartyId] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for what, names in (
            ("clients", self.clients),
            ("aggregators", self.aggregators),
            ("result parties", self.results),
            ("key holders", self.key_holders),
        ):
            needed = what != "key holders"
            if (needed and not names) or len(set(names)) != len(names) or not all(names):
                raise UsageError(f"expected distinct {what}, got {list(names)}")
        clients = frozenset(self.clients)
        others = {*self.aggregators, *self.results, *self.key_holders}
        object.__setattr__(self, "everybody", clients.union(others))
        object.__setattr__(self, "numbers", {client: i for i, client in enumerate(self.clients)})
        object.__setattr__(self, "optional", clients.difference(others))

    def enter(self, party: Party, *, optional: frozenset[PartyId] | None = None) -> None:
        """Check that everybody is there and this party has a role, and let it bear the loss of optional peers.

        Args:
          optional: whose loss this party bears; by default that of `self.optional`.

        Raises:
          UsageError: no role for this party, or a role for a stranger.
        """
        if strangers := party.roster.strangers(self.everybody):
            raise UsageError(
                f"expected everybody who has a role in the roster, and {', '.join(sorted(strangers))} are not"
            )
        if party.me not in self.everybody:
            raise UsageError(f"{party.me} has no role in these terms")
        party.optional = self.optional if optional is None else optional

    def check_vector_at(self, party: Party, x: object) -> None:
        """Refuse a vector at a party that is no client, and none at one that is.

        Raises:
          UsageError: as told.
        """
        if (x is not None) != (party.me in self.numbers):
            raise UsageError("expected a vector at the clients and nowhere else")

    def check_terms(self, *, min_clients: int, timeout_s: float) -> None:
        """Refuse sums that could be of one vector, and a time in which nobody could answer.

        Raises:
          UsageError: min_clients below 2 or above the number of clients; timeout_s that is not above 0.
        """
        if not 2 <= min_clients <= len(self.clients):
            raise UsageError(
                f"expected min_clients from 2 to {len(self.clients)}, the number of clients, got min_clients={min_clients}"
            )
        if not timeout_s > 0:
            raise UsageError(f"expected timeout_s above 0, got {timeout_s}")

    def without(self, clients: Collection[PartyId]) -> tuple[PartyId, ...]:
        """Return the other clients, in their order."""
        out = frozenset(clients)
        return tuple(client for client in self.clients if client not in out)

    def fingerprint(self) -> bytes:
        """Return a digest of the roles, 32 bytes."""
        roles = (self.clients, self.aggregators, self.results, self.key_holders)
        counts = [len(names).to_bytes(8, "big") for names in roles]
        return digest(_LABEL, [*counts, *(name.encode() for names in roles for name in names)])


@dataclass(frozen=True, slots=True)
class SumResult:
    """How a sum ended, as one party sees it.

    Attributes:
      total: the sum; None at a party that does not learn it.
      contributors: whose vectors are in the sum, in the order of the clients.
      dropped: clients that were missing or late, or sent something that is no upload.
      rejected: clients whose vectors were refused because they break a bound.
    """

    total: NDArray[Any] | None = field(repr=False)
    contributors: tuple[PartyId, ...]
    dropped: tuple[PartyId, ...]
    rejected: tuple[PartyId, ...] = ()
