"""Collectors: accounts that many senders at several banks pay into, none of which sees enough alone.

Each bank puts in its own customers' transfers; beneficiaries are anybody's accounts. A beneficiary is flagged
if, over all banks, at least `min_senders` distinct senders at at least `min_banks` banks paid it at least
`min_total` together. Senders are the bank's own customers, so distinct senders add up over banks.

Program, threat model and cost: `secagg.protocols.group_by`.

Learns: a bank, for each beneficiary that its own customers paid, whether it is flagged. If it is, the bank learns the
joint number of senders and the joint total. It does not learn which banks the others are. Nothing about other
beneficiaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.party import PartyId
from secagg.patterns.banking.tables import TRANSFERS
from secagg.patterns.banking.weak_terms import FEW, small_amounts
from secagg.patterns.counts import factorize, group_sum, nunique
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.pattern import Tables, Terms
from secagg.protocols.group_by import Field, Rows
from secagg.query.schema import Identifier, Integer, Money, Schema


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds over all banks, and the largest numbers that one bank may put in for one beneficiary.

    The largest numbers size the shared fields; they are public, and a bank whose rows exceed them is refused
    before anything is sent.
    """

    min_senders: Annotated[int, Meta(ge=1)] = 6
    min_banks: Annotated[int, Meta(ge=1, le=255)] = 2
    min_total_cents: Annotated[int, Meta(ge=0)] = 0
    max_senders_per_bank: Annotated[int, Meta(ge=1)] = 100_000
    max_cents_per_bank: Annotated[int, Meta(ge=1)] = 10**14


class Collectors(GroupByPattern):
    """Accounts that many senders at several banks pay into; see the module."""

    name = "collectors"
    summary = "accounts that many senders at several banks pay into, none of which sees enough alone."
    inputs = {"transfers": TRANSFERS}  # noqa: RUF012  # nobody changes it
    results = Schema(beneficiary=Identifier(), senders=Integer(), total=Money())
    Parameters = Thresholds

    def fields(self, parameters: Thresholds) -> tuple[Field, ...]:
        """Return senders, total and banks."""
        return (
            Field("senders", parameters.max_senders_per_bank, at_least=parameters.min_senders),
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
        """Return one bank's rows: each beneficiary with its distinct senders here, its total, and one bank."""
        transfers = tables["transfers"]
        groups = factorize(transfers["beneficiary"])
        senders = nunique(groups, factorize(transfers["sender"]))
        total = group_sum(groups, transfers["amount"])
        return Rows(groups.categories, np.stack([senders, total, np.ones(len(total), np.uint64)], axis=1))

    def flagged(self, parameters: Thresholds, tables: Mapping[PartyId, Tables]) -> dict[str, tuple[int, ...]]:
        """Compute in the clear, from everybody's transfers, each collector's senders and total."""
        senders: dict[str, set[tuple[PartyId, str]]] = {}
        total: dict[str, int] = {}
        for bank, table in tables.items():
            columns = table["transfers"]
            cents = columns["amount"].tolist()
            for b, s, c in zip(columns["beneficiary"], columns["sender"], cents, strict=True):
                senders.setdefault(b, set()).add((bank, s))
                total[b] = total.get(b, 0) + c
        return {
            b: (len(senders[b]), total[b])
            for b in total
            if len(senders[b]) >= parameters.min_senders
            and len({bank for bank, _ in senders[b]}) >= parameters.min_banks
            and total[b] >= parameters.min_total_cents
        }

    def warnings(self, parameters: Any, terms: Terms) -> list[str]:
        """Warn of thresholds under which one customer's or one bank's figures can be read."""
        found = super().warnings(parameters, terms)
        senders = parameters.min_senders
        if senders < FEW:
            who = "one customer pays" if senders == 1 else "two customers pay"
            found.append(
                f"min_senders = {senders}: an account into which {who} is flagged, and its total shows what one customer "
                f"paid. Take {FEW} or more."
            )
        if parameters.min_banks == 1:
            found.append(
                "min_banks = 1: an account is flagged by what a single bank has seen. Any other bank that puts in a row "
                "for it then reads that bank's figures. Take 2 or more."
            )
        if parameters.max_senders_per_bank == 1:
            found.append(
                "max_senders_per_bank = 1: the joint number of senders is the number of banks, which is not opened else."
            )
        return found + small_amounts(terms, min_total=parameters.min_total_cents)


COLLECTORS: Final = Collectors()
