"""Intersection sum of two: how many identifiers two organisations share, and what one's amounts for them add up to.

The party of the role `amounts` holds the amounts. The other's column of amounts is read and not used; zeros will do. Rows
of one identifier count once, with their amounts added up.

Learns: each party of the role `result`, or else both, the number and the sum. If fewer than `min_identifiers` are in common,
no sum is told. The organisation without amounts learns the number in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.cost.operation import Cost
from secagg.errors import PlanError
from secagg.party import Party, PartyId
from secagg.patterns.counts import factorize, group_sum
from secagg.patterns.pattern import INPUT, Agreed, Disclosure, Result, RoleSize, Tables, Terms
from secagg.patterns.program import RESULT
from secagg.patterns.two_organisations import examples
from secagg.patterns.two_organisations.lists import RECORDS, OwnRecords, TwoOrganisations, distinct, in_order
from secagg.protocols.intersection import sum_common
from secagg.protocols.intersection.sums import cost
from secagg.query.schema import Identifier, Integer, Money, Schema

AMOUNTS: Final = "amounts"
_FEW: Final = 10


class Amounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From how many identifiers on a sum is told, and the largest amount of one."""

    min_identifiers: Annotated[int, Meta(ge=1)] = 20
    max_amount_cents: Annotated[int, Meta(ge=1, lt=1 << 62)] = 10**12


class IntersectionSumTwo(TwoOrganisations):
    """Number and sum over common identifiers; see the module."""

    name = "intersection_sum_two"
    summary = "how many identifiers two organisations share, and what one's amounts for them add up to; no third party."
    inputs = {RECORDS: Schema(identifier=Identifier(), amount=Money())}  # noqa: RUF012  # nobody changes it
    results = Schema(identifiers=Integer(), total=Money())
    example = staticmethod(examples.intersection_sum_two)
    Parameters = Amounts
    roles: Mapping[str, RoleSize] = {
        INPUT: RoleSize(2, 2),
        AMOUNTS: RoleSize(1, 1),
        RESULT: RoleSize(0, 2),
    }
    phases = ("exchange", "return", "sum")
    tells = (
        "how many identifiers both have, and what the amounts of the one that holds them add up to over these; nothing if "
        "they are fewer than min_identifiers"
    )
    lies = (
        "One that alters its program can falsify the result. It can also learn which of its identifiers are in common. The "
        "one without amounts can have a single amount decrypted in place of a sum. It is not caught. "
    )

    def check(self, parameters: Amounts, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed."""
        super().check(parameters, terms)
        (holder,) = terms.roles[AMOUNTS]
        if holder not in terms.input_parties:
            raise PlanError(f"{holder} holds the amounts and puts in nothing; name one of the input parties")
        try:
            from secagg.he import paillier  # noqa: F401  # says what to install
        except ImportError as error:
            raise PlanError(str(error)) from None

    def opens(self, parameters: Amounts, terms: Terms) -> list[Disclosure]:
        """Return everything that a run opens, and to whom."""
        return [
            *super().opens(parameters, terms),
            Disclosure("how many identifiers both have, however few", (self._without(terms),)),
            Disclosure("whether these are fewer than min_identifiers", terms.parties),
        ]

    def warnings(self, parameters: Amounts, terms: Terms) -> list[str]:
        """Warn of sums over few, and of amounts that are chosen to tell more than a sum."""
        found = []
        if parameters.min_identifiers < _FEW:
            found.append(
                f"min_identifiers = {parameters.min_identifiers}: a sum over so few shows much of each. Take {_FEW} or more."
            )
        (holder,) = terms.roles[AMOUNTS]
        if holder in self.recipients(terms):
            bits = parameters.max_amount_cents.bit_length()
            found.append(
                f"{holder} is told a sum of its own amounts. If it chooses powers of two, the sum shows of up to {bits} "
                "identifiers whether the other has them. Let the other alone be told, or trust it not to."
            )
        return found

    def _without(self, terms: Terms) -> PartyId:
        (holder,) = terms.roles[AMOUNTS]
        return next(name for name in terms.input_parties if name != holder)

    def prepare(self, parameters: Amounts, terms: Terms, tables: Tables) -> OwnRecords:
        """Return an organisation's list, with the sum of its amounts for each identifier."""
        groups = factorize(tables[RECORDS]["identifier"])
        total = group_sum(groups, tables[RECORDS]["amount"])
        # Sums above 2**62 are above the largest amount as well, and int64 has room for these.
        amounts = np.minimum(total, np.uint64(1 << 62)).astype(np.int64)
        order = in_order(groups.categories)
        return OwnRecords(
            groups.categories[order], amounts[order], self.asked(terms), parameters.max_amount_cents
        )

    def protocol_cost(self, parameters: Amounts, terms: Terms, rows: Mapping[PartyId, int]) -> Cost:  # noqa: ARG002
        """Return what the protocol costs where enough identifiers are in common."""
        (holder,) = terms.roles[AMOUNTS]
        return cost(self.sides(terms, rows), holder)

    async def run(self, party: Party, parameters: Amounts, terms: Terms, agreed: Agreed) -> Result | None:
        """Count and add up; None if this party is no recipient."""
        (holder,) = terms.roles[AMOUNTS]
        own: OwnRecords = agreed.state
        found = await sum_common(
            party,
            self.sides(terms, agreed.rows),
            own.octets,
            own.amounts if party.me == holder else None,
            holder=holder,
            largest=parameters.max_amount_cents,
            smallest=parameters.min_identifiers,
        )
        if found is None:
            return None
        return [] if found.total is None or found.count is None else [(found.count, found.total)]

    def pooled(
        self, parameters: Amounts, terms: Terms, tables: Mapping[PartyId, Tables]
    ) -> dict[PartyId, list[tuple[Any, ...]]]:
        """Count and add up in the clear."""
        first, second = terms.input_parties
        common = distinct(tables[first]) & distinct(tables[second])
        own = tables[terms.roles[AMOUNTS][0]][RECORDS]
        total = sum(
            cents
            for who, cents in zip(list(own["identifier"]), own["amount"].tolist(), strict=True)
            if who in common
        )
        rows = [(len(common), int(total))] if len(common) >= parameters.min_identifiers else []
        return {first: rows, second: list(rows)}


INTERSECTION_SUM_TWO: Final = IntersectionSumTwo()
