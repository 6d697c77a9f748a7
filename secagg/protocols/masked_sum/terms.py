"""What everybody agreed on before the first message: who takes part, what is added up, with which thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError, UsageError
from secagg.party import SESSION_BYTES, PartyId
from secagg.prg import derive_key
from secagg.protocols.masked_sum.graph import Graph, GraphParameters
from secagg.protocols.roles import Roles
from secagg.ring import Ring, RingArray
from secagg.signing import digest

LABEL: Final = "secagg.protocols.masked_sum"
KEY_BYTES: Final = 32
MIN_BITS: Final = 8
_KEPT: Final = 8  # sets that a round remembers
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of masked sums, the same at all parties and public.

    Args:
      roles: clients, whose places in that list are their numbers; the server, which is the one aggregator, no client
        and the one result party.
      identities: the clients' Ed25519 public keys, 32 bytes each, pinned beforehand.
      length: elements of every vector.
      ring: what they are elements of, 8 to 64 bits; wide enough for the sum (see `Plan.sum_ring`).
      parameters: graph and thresholds, from `choose`.
      round: number of the sum within the session; each is used once.
      timeout_s: how long `aggregate` waits for clients at each step. The driver has to let clients wait longer.

    Raises:
      UsageError: other roles than these; keys that are missing or come twice; parameters for another number of clients;
        vectors, round or timeout_s out of range.
    """

    roles: Roles
    identities: tuple[bytes, ...] = field(repr=False)
    length: int
    ring: Ring
    parameters: GraphParameters
    round: int = 0
    timeout_s: float = 30.0
    # Thousands of clients in one process share the terms: what takes a time that grows with them is worked out once.
    _rounds: dict[bytes, SumInSession] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        roles, n = self.roles, len(self.roles.clients)
        if (
            len(roles.aggregators) != 1
            or roles.results != roles.aggregators
            or roles.key_holders
            or roles.aggregators[0] in roles.numbers
        ):
            raise UsageError(
                f"expected one server that is aggregator and result party and no client, and no key holders; got {roles}"
            )
        if len(self.identities) != n or len(set(self.identities)) != n:
            raise UsageError(f"expected {n} distinct identity keys, one a client, got {len(self.identities)}")
        if any(len(key) != KEY_BYTES for key in self.identities):
            raise UsageError(f"an Ed25519 public key has {KEY_BYTES} bytes")
        if self.parameters.clients != n:
            raise UsageError(
                f"the parameters are for {self.parameters.clients} clients, not {n}; choose them anew"
            )
        if self.length < 1 or self.ring.bits < MIN_BITS:
            raise UsageError(
                f"expected vectors of at least 1 element of at least {MIN_BITS} bits, got {self.length} of "
                f"{self.ring.bits}"
            )
        if not 0 <= self.round < 1 << 64:
            raise UsageError(f"a round has a number of 0 to 2**64 - 1, not {self.round}")
        roles.check_terms(min_clients=self.min_clients, timeout_s=self.timeout_s)
        object.__setattr__(self, "_rounds", {})

    @property
    def server(self) -> PartyId:
        """Who adds up."""
        return self.roles.aggregators[0]

    @property
    def min_clients(self) -> int:
        """Fewest clients whose sum is opened."""
        return self.parameters.min_clients

    @property
    def malicious(self) -> bool:
        """Whether the server may do anything, so that clients sign the sets."""
        return self.parameters.malicious

    @property
    def packed_bytes(self) -> int:
        """Bytes of one vector on the wire."""
        return self.ring.packed_bytes(self.length)

    def in_session(self, session: bytes) -> SumInSession:
        """Return the sum under the terms in a session; the same object as before, where it is still known."""
        known = self._rounds.get(session)
        if known is None:
            self._rounds.clear()
            known = self._rounds[session] = SumInSession(self, session)
        return known

    def check_vector(self, x: RingArray) -> None:
        """Refuse what is no vector of these terms.

        Raises:
          ShapeError, RangeError: x does not hold elements of the ring, or has another shape.
        """
        self.ring.check(x)
        if x.shape != (self.length,):
            raise ShapeError(f"expected a vector of {self.length} elements, got shape {x.shape}")

    def fingerprint(self) -> bytes:
        """Return a digest of the terms, 32 bytes; without the round, which `SumInSession.context` holds, and the time."""
        p = self.parameters
        numbers = [self.length, self.ring.bits, int(p.malicious), p.n_corrupt, p.n_dropouts]
        numbers += [p.degree, p.threshold, p.min_clients, p.quorum]
        parts = [self.roles.fingerprint(), *(number.to_bytes(8, "big") for number in numbers)]
        return digest(f"{LABEL}/terms", [*parts, *self.identities])


class Bound(Protocol):
    """What keys, masks and signatures of one sum are bound to, for the clients that somebody knows of."""

    @property
    def context(self) -> bytes:
        """Digest of all that is public of the sum, 32 bytes."""

    def name_of(self, client: int) -> PartyId:
        """Return a client's name."""

    def identity_of(self, client: int) -> bytes:
        """Return a client's identity key, 32 bytes."""


class SumInSession:
    """One sum under the terms: everything public that its keys, masks and signatures are bound to.

    Args:
      terms: as agreed.
      session: 32 bytes that all agreed on and that never come again.

    Raises:
      UsageError: a session of another length.

    Attributes:
      context: digest of all of it, 32 bytes.
      graph: who is whose neighbour.
    """

    __slots__ = ("_members", "_names", "_others", "context", "graph", "terms")

    def __init__(self, terms: Terms, session: bytes) -> None:
        if len(session) != SESSION_BYTES:
            raise UsageError(f"expected a session of {SESSION_BYTES} bytes, got {len(session)}")
        self.terms = terms
        number = terms.round.to_bytes(8, "big")
        self.context = digest(f"{LABEL}/round", [session, number, terms.fingerprint()])
        self.graph = Graph(terms.parameters, derive_key(self.context, label=f"{LABEL}/graph"))
        self._members: dict[tuple[str, tuple[int, ...], bytes], frozenset[int]] = {}
        self._names: dict[frozenset[int], tuple[PartyId, ...]] = {}
        self._others: dict[frozenset[int], tuple[PartyId, ...]] = {}

    def __repr__(self) -> str:
        return f"<round {self.terms.round} of masked sums, context {self.context.hex()[:16]}>"

    def name_of(self, client: int) -> PartyId:
        """Return a client's name."""
        return self.terms.roles.clients[client]

    def identity_of(self, client: int) -> bytes:
        """Return a client's identity key, 32 bytes."""
        return self.terms.identities[client]

    def number_of(self, client: PartyId) -> int:
        """Return a client's number.

        Raises:
          UsageError: not a client.
        """
        numbers = self.terms.roles.numbers
        if client not in numbers:
            raise UsageError(f"{client!r} is not among the {len(numbers)} clients of this sum")
        return numbers[client]

    def names(self, numbers: frozenset[int]) -> tuple[PartyId, ...]:
        """Return the names of clients, in the order of the terms."""
        return _kept(
            self._names, numbers, lambda: tuple(self.terms.roles.clients[i] for i in sorted(numbers))
        )

    def others(self, numbers: frozenset[int]) -> tuple[PartyId, ...]:
        """Return the names of all other clients, in the order of the terms."""
        return _kept(self._others, numbers, lambda: self.terms.roles.without(self.names(numbers)))

    def members(self, packed: NDArray[np.uint8]) -> frozenset[int]:
        """Return the set that `pack_set` packed; clients in one process that are told the same hold one object.

        Raises:
          ShapeError: as `unpack_set`.
        """
        key = (packed.dtype.str, packed.shape, packed.tobytes())  # whatever a peer sent
        return _kept(self._members, key, lambda: unpack_set(packed, len(self.terms.roles.clients)))


def _kept(store: dict[K, V], key: K, make: Callable[[], V]) -> V:
    """Return what belongs to a key, and keep it for the next who asks; a store holds few."""
    found = store.get(key)
    if found is None:
        if len(store) >= _KEPT:
            store.clear()
        found = store[key] = make()
    return found


def pack_set(members: frozenset[int], n: int) -> NDArray[np.uint8]:
    """Return a set of client numbers as one bit a client, uint8, shape (ceil(n / 8),)."""
    bits = np.zeros(n, np.bool_)
    bits[list(members)] = True
    return np.packbits(bits, bitorder="little")


def unpack_set(packed: NDArray[np.uint8], n: int) -> frozenset[int]:
    """Return the set that `pack_set` packed.

    Raises:
      ShapeError: another length, or spare bits that are not zero.
    """
    if packed.shape != (-(-n // 8),):
        raise ShapeError(f"expected a set of {n} clients in {-(-n // 8)} bytes, got {packed.shape}")
    bits = np.unpackbits(packed, bitorder="little")
    if bits[n:].any():
        raise ShapeError(f"expected a set of {n} clients, got bits behind the last")
    return frozenset(np.flatnonzero(bits).tolist())
