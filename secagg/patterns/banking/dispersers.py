"""Dispersers: accounts that pay many receivers at several banks, none of which sees enough alone.

The mirror image of collectors. Each bank puts in what its own customers received; senders are anybody's accounts. So the
payee's bank's row of a transfer enters. A sender is flagged if, over all banks, at least `min_receivers` distinct receivers
at at least `min_banks` banks got at least `min_total` from it together. Receivers are the bank's own customers, so they add
up over banks.

Program, threat model and cost: `secagg.protocols.group_by`.

Learns: a bank, for each sender that paid its own customers, whether it is flagged. If it is, the bank learns the joint
number of receivers and the joint total. Nothing about other senders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.party import PartyId
from secagg.patterns.banking.tables import TRANSFERS
from secagg.patterns.banking.weak_terms import small_amounts
from secagg.patterns.counts import factorize, group_sum, nunique
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.pattern import Tables, Terms
from secagg.protocols.group_by import Field, Rows
from secagg.query.schema import Identifier, Integer, Money, Schema


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds over all banks, and the largest numbers that one bank may put in for one sender (public)."""

    min_receivers: Annotated[int, Meta(ge=1)] = 6
    min_banks: Annotated[int, Meta(ge=1, le=255)] = 2
    min_total_cents: Annotated[int, Meta(ge=0)] = 0
    max_receivers_per_bank: Annotated[int, Meta(ge=1)] = 100_000
    max_cents_per_bank: Annotated[int, Meta(ge=1)] = 10**14


class Dispersers(GroupByPattern):
    """Accounts that pay many receivers at several banks; see the module."""

    name = "dispersers"
    summary = "accounts that pay many receivers at several banks, none of which sees enough alone."
    inputs = {"transfers": TRANSFERS}  # noqa: RUF012  # nobody changes it
    results = Schema(sender=Identifier(), receivers=Integer(), total=Money())
    Parameters = Thresholds

    def fields(self, parameters: Thresholds) -> tuple[Field, ...]:
        """Return receivers, total and banks."""
        return (
            Field("receivers", parameters.max_receivers_per_bank, at_least=parameters.min_receivers),
            Field("total", parameters.max_cents_per_bank, at_least=parameters.min_total_cents),
            Field("banks", 1, at_least=parameters.min_banks, opened=False),
        )

    def check(self, parameters: Thresholds, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed or reached."""
        banks = len(terms.input_parties)
        if parameters.min_banks > banks:
            raise PlanError(
                f"min_banks = {parameters.min_banks} is out of reach, because {banks} parties put in data; "
                f"lower min_banks to {banks} or less, or name more parties under input"
            )
        super().check(parameters, terms)

    def group_rows(self, parameters: Thresholds, tables: Tables) -> Rows:  # noqa: ARG002  # as every pattern's
        """Return one bank's rows: each sender with its distinct receivers here, its total, and one bank."""
        transfers = tables["transfers"]
        groups = factorize(transfers["sender"])
        receivers = nunique(groups, factorize(transfers["beneficiary"]))
        total = group_sum(groups, transfers["amount"])
        return Rows(groups.categories, np.stack([receivers, total, np.ones(len(total), np.uint64)], axis=1))

    def flagged(self, parameters: Thresholds, tables: Mapping[PartyId, Tables]) -> dict[str, tuple[int, ...]]:
        """Compute in the clear, from everybody's transfers, each disperser's receivers and total."""
        receivers: dict[str, set[tuple[PartyId, str]]] = {}
        total: dict[str, int] = {}
        for bank, table in tables.items():
            columns = table["transfers"]
            cents = columns["amount"].tolist()
            for s, b, c in zip(columns["sender"], columns["beneficiary"], cents, strict=True):
                receivers.setdefault(s, set()).add((bank, b))
                total[s] = total.get(s, 0) + c
        return {
            s: (len(receivers[s]), total[s])
            for s in total
            if len(receivers[s]) >= parameters.min_receivers
            and len({bank for bank, _ in receivers[s]}) >= parameters.min_banks
            and total[s] >= parameters.min_total_cents
        }

    def warnings(self, parameters: Thresholds, terms: Terms) -> list[str]:
        """Warn of thresholds under which one bank's figures can be read."""
        found = super().warnings(parameters, terms)
        if parameters.min_banks == 1:
            found.append(
                "min_banks = 1: an account is flagged by what a single bank has seen. Any other bank that puts in a row "
                "for it then reads that bank's figures. Take 2 or more."
            )
        return found + small_amounts(terms, min_total=parameters.min_total_cents)


DISPERSERS: Final = Dispersers()
