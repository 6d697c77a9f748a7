"""Intersection sum: how many customers several organisations have in common, and what their amounts add up to.

Each organisation puts in its customers, with an amount each or zero. Customers that at least `min_organisations` put in are
counted, and the amounts that all organisations gave for them are added. Rows of one customer at one organisation count once.

Learns: the parties of the role `result`, or else all input parties, the number and the sum. If fewer than `min_customers`
are found, they learn that alone. Nobody learns who is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError, RangeError
from secagg.mpc import stack
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.counts import Categorical, factorize, group_sum
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import Columns, JointTable, Number
from secagg.patterns.pattern import COMPUTING, INPUT, RoleSize, Tables, Terms
from secagg.patterns.program import RESULT, Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Money, Schema


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is counted, from how many on it is told, and the largest amount of one customer at one organisation."""

    min_organisations: Annotated[int, Meta(ge=2, le=255)] = 2
    min_customers: Annotated[int, Meta(ge=1)] = 20
    max_amount_cents: Annotated[int, Meta(ge=1)] = 10**12


class IntersectionSum(ProgramPattern):
    """Number and sum over common customers; see the module."""

    name = "intersection_sum"
    summary = "how many customers several organisations have in common, and what their amounts add up to."
    inputs = {"customers": Schema(customer=Identifier(), amount=Money())}  # noqa: RUF012  # nobody changes it
    results = Schema(customers=Integer(), total=Money())
    Parameters = Thresholds
    example = staticmethod(examples.intersection_sum)
    roles: Mapping[str, RoleSize] = {
        INPUT: RoleSize(2, 255),
        COMPUTING: RoleSize(3, 4),
        RESULT: RoleSize(0, 255),
    }
    tells = "how many customers are in common and their total; only whether these are fewer than min_customers, if so"
    refusals = ("an organisation put a customer in twice, which its program does not do",)
    summed = ("customers.amount",)

    def check(self, parameters: Thresholds, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed or reached."""
        organisations = len(terms.input_parties)
        if parameters.min_organisations > organisations:
            raise PlanError(
                f"min_organisations = {parameters.min_organisations} is out of reach, because {organisations} parties put "
                f"in data; lower it to {organisations} or less, or name more parties under input"
            )
        super().check(parameters, terms)

    def warnings(self, parameters: Thresholds, terms: Terms) -> list[str]:
        """Warn of sums over a few people."""
        found = [] if len(terms.input_parties) == 2 else super().warnings(parameters, terms)
        if parameters.min_customers < 10:
            found.append(
                f"min_customers = {parameters.min_customers}: a sum over so few shows much of each. Take 10 or more."
            )
        return found

    def shared(self, parameters: Thresholds) -> dict[str, Columns]:
        """Return customers with their amounts."""
        return {"customers": {"customer": Identifier(), "amount": Number(0, parameters.max_amount_cents)}}

    def local(self, parameters: Thresholds, tables: Tables) -> dict[str, Mapping[str, Any]]:
        """Return each customer of an organisation once, with the sum of the amounts."""
        groups = factorize(tables["customers"]["customer"])
        total = group_sum(groups, tables["customers"]["amount"])
        over = int(np.count_nonzero(total > np.uint64(parameters.max_amount_cents)))
        if over:
            raise RangeError(
                f"{over} of {len(total)} customers have amounts that add up to more than max_amount_cents, which is "
                f"{parameters.max_amount_cents}; agree on a larger one with the other parties"
            )
        each = Categorical(groups.categories, np.arange(len(groups.categories)))
        return {"customers": {"customer": each, "amount": total.astype(np.int64)}}

    def program(self, parameters: Thresholds, tables: Mapping[str, JointTable]) -> Findings:
        """Count and add up over the customers of enough organisations."""
        rows = tables["customers"]
        groups = Groups([rows["customer"]])
        known = groups.sums(
            groups.sorted(stack([rows.valid.astype(int), rows["amount"] * rows.valid], axis=1))
        )
        common = known[:, 0] >= parameters.min_organisations
        count, total = common.sum(), (known[:, 1] * common).sum()
        enough = (count >= parameters.min_customers).reshape(1)
        # So that rows of one customer are organisations, and none reaches the bounds alone.
        refused = {self.refusals[0]: groups.is_repeated(rows.owner)}
        return Findings({"customers": count.reshape(1), "total": total.reshape(1)}, enough, refused)

    def pooled(self, parameters: Thresholds, tables: Mapping[PartyId, Tables]) -> list[tuple[int, int]]:
        """Count and add up in the clear."""
        where: dict[str, set[PartyId]] = {}
        amount: dict[str, int] = {}
        for name, own in tables.items():
            for who, cents in zip(
                own["customers"]["customer"], own["customers"]["amount"].tolist(), strict=True
            ):
                where.setdefault(who, set()).add(name)
                amount[who] = amount.get(who, 0) + cents
        common = [who for who, at in where.items() if len(at) >= parameters.min_organisations]
        if len(common) < parameters.min_customers:
            return []
        return [(len(common), sum(amount[who] for who in common))]


INTERSECTION_SUM: Final = IntersectionSum()
