"""What the patterns of two organisations have in common: lists of identifiers, their commitments, who is told, and trust."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg.cost.operation import Cost
from secagg.errors import PlanError, RangeError
from secagg.party import Party, PartyId
from secagg.patterns.counts import factorize
from secagg.patterns.pattern import (
    INPUT,
    Agreed,
    Contribution,
    Disclosure,
    Limit,
    Result,
    Risk,
    RoleSize,
    Tables,
    Terms,
)
from secagg.patterns.program import RESULT
from secagg.protocols.group_by import announce_count
from secagg.protocols.intersection import Sides
from secagg.protocols.intersection.matches import cost
from secagg.protocols.pseudonyms import joined_text, log2_collision
from secagg.query.schema import Identifier, Schema
from secagg.signing import digest

RECORDS: Final = "records"
# Two hashes give one point with probability 2**-250 at most: of 2**254 squares of field elements four at most have the
# same x-coordinate, and eight points differ by one of small order.
_POINT_BITS: Final = 250
_COMMITMENT: Final = "secagg.patterns.two_organisations/rows"

_FOLLOW: Final = (
    "Both organisations are taken to follow the protocol, and nobody else takes part. What one of them receives are random "
    "points to it, as long as the decisional Diffie-Hellman problem on Curve25519 is hard. "
)
_MADE_UP: Final = (
    "One that makes up its list learns of the made-up identifiers what it would learn of real ones."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What announcements have to fit; see `group_by.announcement.Asked`. Nobody computes besides."""

    input_parties: tuple[PartyId, ...]
    pad_rows_to: int
    row_limit: int
    computing_parties: tuple[PartyId, ...] = ()

    def announced(self, rows: int) -> int:
        """Return a row count rounded up."""
        return -(-rows // self.pad_rows_to) * self.pad_rows_to


@dataclass(frozen=True, slots=True, eq=False)
class OwnRecords:
    """An organisation's list: each identifier once, in the order of its bytes, with an amount where there are any.

    Attributes:
      largest: the largest amount that is allowed.
    """

    identifiers: NDArray[Any]
    amounts: NDArray[np.int64] | None
    asked: Asked
    largest: int = 0

    def __repr__(self) -> str:
        return f"<OwnRecords of {self.rows} identifiers>"

    @property
    def rows(self) -> int:
        """The number of different identifiers."""
        return len(self.identifiers)

    @property
    def octets(self) -> list[bytes]:
        """The identifiers in UTF-8."""
        return joined_text(self.identifiers).split(b"\0")[:-1]

    def limits(self) -> list[Limit]:
        """Return the largest amount beside the largest that is allowed, if there are amounts."""
        if self.amounts is None:
            return []
        return [Limit("amount", int(self.amounts.max(initial=0)), self.largest, money=True)]

    def check(self) -> None:
        """Raise `RangeError` for more identifiers than were agreed, or an amount above the largest."""
        announced = self.asked.announced(self.rows)
        if announced > self.asked.row_limit:
            raise RangeError(
                f"{self.rows} identifiers, announced as {announced}, are more than the agreed max_rows of "
                f"{self.asked.row_limit}; agree with the other organisation on a larger one, or put in fewer"
            )
        if self.amounts is not None and self.amounts.max(initial=0) > self.largest:
            over = int(np.count_nonzero(self.amounts > self.largest))
            raise RangeError(
                f"{over} of {self.rows} identifiers have amounts that add up to more than max_amount; agree on a larger one "
                "with the other organisation, or correct them"
            )

    def commitment(self, salt: bytes, *, session: bytes, owner: PartyId) -> bytes:
        """Return the SHA-256 that holds the owner to its list, 32 bytes.

        Identifiers stand in UTF-8 with a zero byte behind each. Amounts stand behind them in 8 bytes each, least
        significant first, where there are any.
        """
        values = b"" if self.amounts is None else self.amounts.astype("<i8").tobytes()
        return digest(_COMMITMENT, [session, owner.encode(), salt, joined_text(self.identifiers), values])


class TwoOrganisations(ABC):
    """A pattern over the lists of two organisations; for attributes see `Pattern`.

    Attributes:
      tells: what a recipient is told.
      each_its_own: whether that is about its own identifiers.
      lies: what an organisation that alters its program could do.
    """

    name: str
    summary: str
    results: Schema
    Parameters: type[msgspec.Struct]
    tells: ClassVar[str]
    each_its_own: ClassVar[bool] = False
    lies: ClassVar[str] = "One that alters its program can falsify the result, and is not caught. "
    inputs: Mapping[str, Schema] = {RECORDS: Schema(identifier=Identifier())}
    roles: Mapping[str, RoleSize] = {INPUT: RoleSize(2, 2), RESULT: RoleSize(0, 2)}
    phases: tuple[str, ...] = ("exchange", "return")

    @abstractmethod
    async def run(self, party: Party, parameters: Any, terms: Terms, agreed: Agreed) -> Result | None:
        """Compute; return the rows that this party is told, None if it is no recipient."""

    @abstractmethod
    def pooled(
        self, parameters: Any, terms: Terms, tables: Mapping[PartyId, Tables]
    ) -> Mapping[PartyId, list[tuple[Any, ...]]]:
        """Compute the same in the clear, for both organisations."""

    def check(self, parameters: Any, terms: Terms) -> None:  # noqa: ARG002  # others' depend on them
        """Raise `PlanError` for what cannot be computed."""
        strangers = [name for name in terms.parties if name not in terms.input_parties]
        if strangers:
            raise PlanError(
                f"{self.name} is computed by {' and '.join(terms.input_parties)} alone, and {strangers[0]} puts in nothing; "
                "take it out of the job"
            )
        if self.row_limit(terms) < terms.pad_rows_to:
            raise PlanError(
                f"expected max_rows of at least pad_rows_to, which is {terms.pad_rows_to}, got {terms.max_rows}"
            )

    def row_limit(self, terms: Terms) -> int:
        """Return the largest row count that one organisation may announce."""
        return terms.max_rows

    def recipients(self, terms: Terms) -> tuple[PartyId, ...]:
        """Return the parties of the role `result`, or both organisations."""
        return tuple(terms.roles.get(RESULT, ())) or terms.input_parties

    def opens(self, parameters: Any, terms: Terms) -> list[Disclosure]:  # noqa: ARG002
        """Return everything that a run opens, and to whom."""
        step = terms.pad_rows_to
        rounded = f", rounded up to a multiple of {step}" if step > 1 else ""
        return [
            Disclosure(f"how many different identifiers each organisation has{rounded}", terms.parties),
            Disclosure(
                "a salted commitment to each organisation's list, which shows nothing of it without the salt that its owner "
                "keeps",
                terms.parties,
            ),
            Disclosure(self.tells, self.recipients(terms), each_its_own=self.each_its_own),
        ]

    def trust(self, parameters: Any, terms: Terms) -> str:  # noqa: ARG002
        """Return that both follow the protocol, and what one that does not could do."""
        return _FOLLOW + self.lies + _MADE_UP

    def warnings(self, parameters: Any, terms: Terms) -> list[str]:  # noqa: ARG002
        """Return a sentence for each term that protects fewer than it seems."""
        return []

    def sides(self, terms: Terms, rows: Mapping[PartyId, int]) -> Sides:
        """Return who takes part with how long a list."""
        for name in terms.input_parties:
            if rows[name] > self.row_limit(terms):
                raise PlanError(
                    f"{name} with {rows[name]} rows is above max_rows, which is {terms.max_rows}; set max_rows in the job"
                )
        return Sides({name: rows[name] for name in terms.input_parties}, self.recipients(terms))

    def cost(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> Cost:
        """Return what a run costs in which these row counts are announced."""
        return self.announcing().then(self.protocol_cost(parameters, terms, rows))

    def announcing(self) -> Cost:
        """Return what agreeing on row counts costs."""
        return Cost(2, {})

    def protocol_cost(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> Cost:  # noqa: ARG002
        """Return what the protocol costs after that."""
        return cost(self.sides(terms, rows))

    def risks(self, parameters: Any, terms: Terms, rows: Mapping[PartyId, int]) -> list[Risk]:  # noqa: ARG002
        """Return the chance that identifiers are confused."""
        log2 = log2_collision(sum(rows.values()), _POINT_BITS)
        return [Risk("log2_false_match", "two different identifiers are taken for one", min(0.0, log2))]

    def reference(
        self, parameters: Any, terms: Terms, tables: Mapping[PartyId, Tables]
    ) -> dict[PartyId, list[tuple[Any, ...]]]:
        """Return what each recipient is told, computed in the clear from both tables."""
        found = self.pooled(parameters, terms, tables)
        return {name: found[name] for name in self.recipients(terms)}

    def prepare(self, parameters: Any, terms: Terms, tables: Tables) -> OwnRecords:  # noqa: ARG002
        """Return an organisation's list."""
        identifiers = factorize(tables[RECORDS]["identifier"]).categories
        return OwnRecords(identifiers[in_order(identifiers)], None, self.asked(terms))

    def asked(self, terms: Terms) -> Asked:
        """Return what announcements have to fit."""
        return Asked(terms.input_parties, terms.pad_rows_to, self.row_limit(terms))

    async def agree(
        self,
        party: Party,
        parameters: Any,  # noqa: ARG002  # as every pattern's
        terms: Terms,
        contribution: Contribution | None,
    ) -> Agreed:
        """Announce row counts and commitments, and compare them."""
        own = contribution if isinstance(contribution, OwnRecords) else None
        if own is not None:
            own.check()

        def commit(salt: bytes) -> bytes:
            return b"" if own is None else own.commitment(salt, session=party.session, owner=party.me)

        announced = await announce_count(party, self.asked(terms), None if own is None else own.rows, commit)
        return Agreed(
            rows=dict(announced.counts),
            recorded={"commitments": {name: value.hex() for name, value in announced.commitments.items()}},
            private={"commitment_salt": announced.salt.hex()} if announced.salt else {},
            state=own,
        )


def in_order(identifiers: NDArray[Any]) -> list[int]:
    """Return the places of identifiers in the order of their bytes, which does not depend on a table's order."""
    return sorted(range(len(identifiers)), key=identifiers.tolist().__getitem__)


def distinct(tables: Tables) -> set[str]:
    """Return the different identifiers of an organisation."""
    groups: Sequence[str] = factorize(tables[RECORDS]["identifier"]).categories.tolist()
    return set(groups)
