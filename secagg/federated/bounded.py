"""Sums of updates within a bound: three of the nodes check every update on shares, and open the sum of those within it.

Each node's update (`differences`) is shared among three computing nodes (`protocols.bounded_sum`). They find out whether its
Euclidean norm is above the bound. One that is, is left out, and the server is told whose it was. An honest node scales a
longer update down, so that it is never refused. Every node counts the same: a weight would multiply what one node can do.

The computing nodes put their own updates in as the others do, as clients of their own.

Threat model. Any nodes may lie about their updates. Of those that are named as computing at most one looks at what it
sees; it may work with the server and with any other nodes. All that compute keep to the protocol. The server carries letters
that it cannot read or alter (`letters`); what it withholds ends the sum or leaves a node out.

Learns. Server, the mean, who is in it, and whose update was out of bounds. The computing nodes, who is in it and whose
update was out of bounds.

Cost: an exchange more than `protocols.bounded_sum` has rounds, and its bytes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.federated.differences import cut, on_top
from secagg.federated.identities import SERVER, check_chosen, check_nodes
from secagg.federated.layout import Baseline, Layout, Means
from secagg.federated.relayed import NO_TIME_S, Own
from secagg.mpc.numbers import RING64
from secagg.party import PartyId, Program, array_bytes
from secagg.prg import KEY_BYTES
from secagg.protocols.bounded_sum import (
    BoundedSum,
    Bounds,
    Roles,
    Terms,
    aggregate,
    contribute,
    cost,
    receive,
)
from secagg.protocols.roles import SumResult
from secagg.ring import RingArray
from secagg.updates.bounded import Quantized, scale_down
from secagg.updates.coding import Request
from secagg.updates.structure import Structure

_COMPUTING: Final = 3
_ROLE: Final = ":adding"  # no node's name has a colon
_log = logging.getLogger("secagg.federated")


@dataclass(frozen=True, slots=True)
class Bounded:
    """A bound on updates that is checked; the same at all nodes and the server, and each node insists on its own.

    Args:
      computing: nodes that check updates and add them up, by name; three of those that take part do, the first ones unless
        an earlier sum failed because of them. Of all of them at most one may work with the server or with other nodes.
      norm: largest Euclidean norm of an update, all arrays together.

    Raises:
      UsageError: fewer than three names, one that comes twice, the server among them, or a norm that is no positive number.
    """

    computing: tuple[PartyId, ...]
    norm: float

    def __post_init__(self) -> None:
        names = check_nodes(self.computing, field="computing", least=_COMPUTING)
        if SERVER in names:
            raise UsageError(
                "the server cannot compute: it would hold two of three shares of what it carries"
            )
        object.__setattr__(self, "computing", names)
        norm: Any = self.norm
        if not isinstance(norm, int | float) or not math.isfinite(norm) or norm <= 0:
            raise UsageError(f"expected a positive number as the norm, got {norm!r:.40}")

    def chosen(self, nodes: Collection[PartyId], failures: Mapping[PartyId, int]) -> tuple[PartyId, ...]:
        """Return the three that compute, or all if they are fewer; see `Protection.computing`."""
        there = [name for name in self.computing if name in nodes]
        first = sorted(there, key=lambda name: failures.get(name, 0))[:_COMPUTING]
        return tuple(name for name in there if name in first)


class BoundedCoder:
    """Plain means of updates within a norm; a `Coder`.

    Args:
      layout: of the replies.
      bounded: the bound.
      nodes: in a sum at most.
      log: where it says what became of numbers that nothing holds.

    Raises:
      PlanError: so many numbers that a check in 64 bits could be fooled, or that too few levels are left.

    Attributes:
      length, ring: as in `Coder`.
      bounds: what a vector has to keep to.
    """

    def __init__(self, layout: Layout, bounded: Bounded, nodes: int, *, log: logging.Logger = _log) -> None:
        self._layout, self._log, self._norm = layout, log, float(bounded.norm)
        clips = {"": self._norm}
        structure = Structure(
            {"update": np.broadcast_to(np.zeros(()), (layout.numbers,))}, "the first client"
        )
        self._numbers = Quantized(Request(structure, True, clips, None, nodes, None), self._norm)
        self.bounds: Bounds = self._numbers.bounds
        self.length, self.ring = self._numbers.length, RING64

    def fits(self, vector: NDArray[Any]) -> bool:  # noqa: ARG002  # scaled down, whatever it is
        """Return True; see `Coder`."""
        return True

    def contribution(self, vector: NDArray[Any]) -> RingArray:
        """Return a vector scaled down to the norm, in levels."""
        # Before numbers are compared with the norm one by one: its direction stays.
        vector = np.array(vector, np.float64)
        if scale_down(vector, self._norm):
            self._log.info("the update is longer than the norm %g, to which it is scaled down", self._norm)
        levels, _ = self._numbers.encode([vector], 1)
        return self.ring.from_signed(levels)

    def decode(self, total: RingArray, clients: int, baseline: Baseline) -> Means:
        """Return the plain means, training's on top of what was sent; their number counts as weight. See `Coder`."""
        found = self._numbers.decode(self.ring.to_signed(total), clients, 0.0)
        (mean,) = found.arrays
        entries = self._layout.entries
        values, moved = on_top(entries, cut(mean, entries), baseline, self._log)
        return Means(values, clients, max(found.errors.values()) + moved)

    def report(self, rounds: int) -> None:
        """Return None: nothing bounds what sums without noise tell."""


@dataclass(frozen=True)
class BoundedTerms:
    """What all agree on in one bounded sum; a `relayed.RelayedSum`.

    Args:
      bounded: the setting.
      nodes: who takes part.
      needed: the three of them that compute.
      bounds: of a vector.
      min_clients: fewest vectors within bounds whose sum is opened.
      context: public, of this sum alone.

    Raises:
      TooFewPartiesError: fewer than three of the computing nodes take part.
      RemoteProtocolError: `needed` is not three of those that are named, in their order.
    """

    bounded: Bounded
    nodes: tuple[PartyId, ...]
    needed: tuple[PartyId, ...]
    bounds: Bounds
    min_clients: int
    context: bytes

    def __post_init__(self) -> None:
        check_chosen(self.needed, self.bounded.computing, self.nodes)
        if len(self.needed) > _COMPUTING:
            raise RemoteProtocolError(
                f"expected {SERVER} to let three nodes compute, got {len(self.needed)}", peer=SERVER
            )
        if len(self.needed) < _COMPUTING:
            raise TooFewPartiesError(
                f"expected three of {', '.join(self.bounded.computing)}, who check updates, to be ready for the sum, got "
                f"{len(self.needed)}"
            )

    @cached_property
    def terms(self) -> Terms:
        """The protocol's terms."""
        roles = Roles(self.nodes, tuple(name + _ROLE for name in self.needed), (SERVER,))
        return Terms(roles, self.bounds, self.min_clients, timeout_s=NO_TIME_S)

    @property
    def roster(self) -> tuple[PartyId, ...]:
        """All parties."""
        return (*self.nodes, *self.terms.roles.aggregators, SERVER)

    @cached_property
    def exchanges(self) -> int:
        """How many exchanges the sum takes if nobody is lost."""
        return 1 + cost(self.nodes[0], terms=self.terms, roster=self.roster).rounds

    @property
    def borne(self) -> frozenset[PartyId]:
        """Whose loss the others bear."""
        return self.terms.roles.optional

    def parties_at(self, node: PartyId) -> tuple[PartyId, ...]:
        """Return the parties that a node runs."""
        return (node, node + _ROLE) if node in self.needed else (node,)

    def node_of(self, party: PartyId) -> PartyId:
        """Return where a party runs."""
        return party.removesuffix(_ROLE)

    def upload_bytes(self, receiver: PartyId) -> int:
        """Return how many bytes of arrays a node that does not compute sends a party."""
        seeded, completed, _ = self.terms.roles.aggregators
        if receiver == seeded:
            return 2 * KEY_BYTES
        return array_bytes((self.bounds.columns,), self.bounds.ring.dtype) if receiver == completed else 0

    def program(self, party: PartyId, given: RingArray | None, own: Own | None) -> Program[Any]:  # noqa: ARG002
        """Return what a party runs."""
        if party == SERVER:
            return partial(receive, terms=self.terms)
        if party.endswith(_ROLE) or given is None:
            return partial(aggregate, terms=self.terms)
        return partial(contribute, x=given, terms=self.terms)

    def total(self, found: BoundedSum) -> SumResult:
        """Return what the server's program found."""
        return found
