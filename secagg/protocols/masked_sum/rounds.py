"""What every server of masked sums does alike: takes uploads and signatures, and closes each round once.

What comes after a round has been closed is refused. A late vector stays out of the sum: the server then asks for its
owner's masking key, and never for the other secret. Who is in the sum stays in it even if it goes away afterwards: its self
mask is asked of the others.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from secagg.errors import RangeError, RemoteProtocolError, ShapeError, TooFewPartiesError, UsageError
from secagg.party import PartyId, check_array
from secagg.protocols.masked_sum import keys
from secagg.protocols.masked_sum.checks import signed_sets
from secagg.protocols.masked_sum.messages import Consent, Consents, Included, MaskedInput
from secagg.protocols.masked_sum.terms import SumInSession, pack_set
from secagg.protocols.roles import SumResult
from secagg.ring import RingArray
from secagg.signing import SIGNATURE_BYTES


class Stage(enum.IntEnum):
    """Which messages the server takes."""

    KEYS = 0
    SHARES = 1
    INPUTS = 2
    CONSENTS = 3
    ANSWERS = 4
    OVER = 5


@dataclass(frozen=True, slots=True)
class MaskedSum(SumResult):
    """How a masked sum ended.

    Attributes:
      total: the sum, elements of the terms' ring, shape (length,).
      suspects: clients whose shares of others' secrets were found wrong; the sum did without them. Each of them sent a
        wrong share, or was dealt one by a client that lied about its own secret. Nobody can tell which of the two. Two
        clients that lie of one secret together can have a third one here.
    """

    total: RingArray = field(repr=False)
    suspects: tuple[PartyId, ...] = ()


class Rounds:
    """The rounds of a server, without what it keeps for clients.

    Args:
      where: the round.

    Attributes:
      refused: clients whose keys were refused when keys were closed, not as they came; each with an error that says why.
    """

    __slots__ = (
        "_added",
        "_consents",
        "_included",
        "_sets",
        "_shared",
        "_stage",
        "_total",
        "_where",
        "refused",
    )

    def __init__(self, where: SumInSession) -> None:
        terms = where.terms
        self._where = where
        self._stage = Stage.KEYS
        self._shared = frozenset[int]()
        self._total: RingArray = np.zeros(terms.length, terms.ring.dtype)
        self._added = set[int]()
        self._included = frozenset[int]()  # those that were added when inputs closed
        self._sets = b""
        self._consents: dict[int, bytes] = {}
        self.refused: dict[PartyId, RemoteProtocolError] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._where!r}, takes {self._stage.name}>"

    @property
    def stage(self) -> Stage:
        """Which messages it takes."""
        return self._stage

    @property
    def included(self) -> tuple[PartyId, ...]:
        """Whose vectors have been added."""
        return self._where.names(frozenset(self._added))

    def take_input(self, client: PartyId, message: MaskedInput) -> None:
        """Add a client's masked vector.

        Raises:
          RemoteProtocolError: late, twice, of another length, with spare bits, or from a client that sent no
            shares. Nothing was added.
        """
        i = self._take(client, Stage.INPUTS, self._added, among=self._shared)
        terms = self._where.terms
        try:
            y = terms.ring.unpack(message.packed, (terms.length,))
        except (ShapeError, RangeError) as error:
            raise RemoteProtocolError(f"{error}; it came from {client}", peer=client) from None
        self._total += y  # wraps, which is meant
        self._added.add(i)

    def close_inputs(self) -> Included:
        """Return who is in the sum, for all of those; a semi-honest server's request to unmask.

        Raises:
          TooFewPartiesError: fewer clients than needed sent their vectors; nothing is opened.
        """
        then = Stage.CONSENTS if self._where.terms.malicious else Stage.ANSWERS
        self._included = frozenset(self._added)
        self._close(Stage.INPUTS, then, self._included, MaskedInput.__name__)
        self._sets = signed_sets(self._where, self._shared, self._included)
        return Included(pack_set(self._included, len(self._where.terms.roles.clients)))

    def take_consent(self, client: PartyId, message: Consent) -> None:
        """Take a client's signature of who shared and who is in the sum.

        Raises:
          RemoteProtocolError: late, twice, not its signature of that, or from a client that is not in the sum.
        """
        i = self._take(client, Stage.CONSENTS, self._consents, among=self._included)
        check_array(message.signature, (SIGNATURE_BYTES,), what="a signature", peer=client)
        keys.check_sets(self._where, i, self._sets, message.signature.tobytes())
        self._consents[i] = message.signature.tobytes()

    def close_consents(self) -> Consents:
        """Return a quorum of signatures, for everybody in the sum; a malicious server's request to unmask.

        Raises:
          TooFewPartiesError: fewer signed; nothing is opened.
        """
        quorum = self._where.terms.parameters.quorum
        self._close(
            Stage.CONSENTS, Stage.ANSWERS, frozenset(self._consents), Consent.__name__, min_clients=quorum
        )
        signers = sorted(self._consents)[:quorum]
        signatures = b"".join(self._consents[i] for i in signers)
        return Consents(
            pack_set(frozenset(signers), len(self._where.terms.roles.clients)),
            np.frombuffer(signatures, np.uint8).reshape(-1, SIGNATURE_BYTES),
        )

    def _take(
        self,
        client: PartyId,
        stage: Stage,
        before: Collection[int],
        *,
        among: Collection[int] | None = None,
    ) -> int:
        if client not in self._where.terms.roles.numbers:
            raise RemoteProtocolError(f"{client} is not among the clients of this sum", peer=client)
        i = self._where.terms.roles.numbers[client]
        if self._stage is not stage:
            when = "late" if self._stage > stage else "early"
            raise RemoteProtocolError(
                f"{stage.name.lower()} from {client} came {when}: now the server takes {self._stage.name.lower()}",
                peer=client,
            )
        if i in before or (among is not None and i not in among):
            why = "came twice" if i in before else "came, and it dropped out before"
            raise RemoteProtocolError(f"{stage.name.lower()} from {client} {why}", peer=client)
        return i

    def _close(
        self, stage: Stage, then: Stage, members: frozenset[int], what: str, *, min_clients: int | None = None
    ) -> None:
        if self._stage is not stage:
            raise UsageError(f"expected to close {stage.name}, and the server takes {self._stage.name}")
        needed = self._where.terms.min_clients if min_clients is None else min_clients
        if len(members) < needed:
            self._stage = Stage.OVER
            clients = self._where.terms.roles.clients
            absent = [name for i, name in enumerate(clients) if i not in members]
            raise TooFewPartiesError(
                f"expected {what} from at least {needed} of {len(clients)} clients, got {len(members)}; "
                f"nothing was opened; missing: {', '.join(absent[:10])}",
                peer=absent[0],
            )
        self._stage = then

    def _take_total(self) -> RingArray:
        """Return what was added up, once, behind the answers.

        Raises:
          UsageError: called before the answers are in, or twice.
        """
        if self._stage is not Stage.ANSWERS:
            raise UsageError(f"expected to finish behind the answers, not while taking {self._stage.name}")
        self._stage = Stage.OVER
        total, self._total = self._total, np.zeros(0, self._total.dtype)
        return total

    def _unmasked(self, total: RingArray, suspects: Collection[int]) -> MaskedSum:
        """Return how the sum ended, once all masks are off."""
        where = self._where
        where.terms.ring.reduce(total, out=total)
        return MaskedSum(
            total,
            where.names(self._included),
            where.others(self._included),
            suspects=where.names(frozenset(suspects)),
        )

    def _near(self, client: int, members: Collection[int]) -> list[int]:
        return [p for p in self._where.graph.neighbours(client) if p in members]

    def _held(self, client: int) -> list[int]:
        """Return whose shares a client holds, in the order of its answer."""
        return [p for p in self._where.graph.holders(client) if p in self._shared]
