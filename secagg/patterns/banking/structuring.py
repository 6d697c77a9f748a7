"""Structuring: customers who spread cash deposits over banks so that no single bank sees the reporting limit.

Each bank puts in its customers' cash deposits under an identifier that the consortium has in common. A
customer is flagged if the deposits at all banks together reach `limit_cents` while those at no single bank do.

Program, threat model and cost: `secagg.protocols.group_by`.

Learns: a bank, for each of its own depositors, whether the customer is flagged. If so, the bank learns the joint number
of deposits and the joint total. Nothing about anybody else's customers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.banking.tables import DEPOSITS
from secagg.patterns.banking.warnings import small_amounts
from secagg.patterns.counts import factorize, group_size, group_sum
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.pattern import Tables, Terms
from secagg.protocols.group_by import Field, Rows
from secagg.query.schema import Identifier, Integer, Money, Schema


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reporting limit, and the largest numbers that one bank may put in for one customer (public)."""

    limit_cents: Annotated[int, Meta(ge=1)] = 1_000_000
    max_deposits_per_bank: Annotated[int, Meta(ge=1)] = 100_000
    max_cents_per_bank: Annotated[int, Meta(ge=1)] = 10**14


class Structuring(GroupByPattern):
    """Customers who spread cash deposits over banks; see the module."""

    name = "structuring"
    summary = "customers who spread cash deposits over banks so that no single bank sees the reporting limit."
    inputs = {"deposits": DEPOSITS}  # noqa: RUF012  # nobody changes it
    results = Schema(customer=Identifier(), deposits=Integer(), total=Money())
    Parameters = Limits
    example = staticmethod(examples.structuring)

    def fields(self, parameters: Limits) -> tuple[Field, ...]:
        """Return deposits, total, and whether a bank sees the limit alone."""
        return (
            Field("deposits", parameters.max_deposits_per_bank),
            Field("total", parameters.max_cents_per_bank, at_least=parameters.limit_cents),
            # 1 where the bank's own total reaches the limit: one such bank, and the group is not structuring
            Field("seen alone", 1, below=1, opened=False),
        )

    def group_rows(self, parameters: Limits, tables: Tables) -> Rows:
        """Return one bank's rows: each customer with deposits, total, and whether this bank sees the limit alone."""
        groups = factorize(tables["deposits"]["customer"])
        total = group_sum(groups, tables["deposits"]["amount"])
        alone = (total >= np.uint64(parameters.limit_cents)).astype(np.uint64)
        return Rows(groups.categories, np.stack([group_size(groups), total, alone], axis=1))

    def flagged(self, parameters: Limits, tables: Mapping[PartyId, Tables]) -> dict[str, tuple[int, ...]]:
        """Compute in the clear, from everybody's deposits, each flagged customer's deposits and total."""
        per_bank: dict[str, dict[PartyId, list[int]]] = {}
        for bank, table in tables.items():
            columns = table["deposits"]
            for c, amount in zip(columns["customer"], columns["amount"].tolist(), strict=True):
                per_bank.setdefault(c, {}).setdefault(bank, []).append(amount)
        return {
            c: (sum(map(len, at.values())), sum(map(sum, at.values())))
            for c, at in per_bank.items()
            if sum(map(sum, at.values())) >= parameters.limit_cents
            and all(sum(amounts) < parameters.limit_cents for amounts in at.values())
        }

    def warnings(self, parameters: Any, terms: Terms) -> list[str]:
        """Warn of a limit below which hardly any deposit lies."""
        return super().warnings(parameters, terms) + small_amounts(terms, limit=parameters.limit_cents)


STRUCTURING: Final = Structuring()
