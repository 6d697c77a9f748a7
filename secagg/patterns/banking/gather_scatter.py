"""Gather-scatter: accounts into which many pay and which pay many.

Each bank puts in its own customers' transfers; beneficiaries are anybody's accounts. So the payer's bank's row of a transfer
enters. An account is flagged if, over all banks, at least `min_senders` distinct accounts pay it and it pays at least
`min_receivers` distinct ones. A bank has all transfers of its own customers, so both numbers add up over banks.

Program, threat model and cost: `secagg.protocols.group_by`.

Learns: a bank, for each account that its customers pay or have, whether it is flagged. If it is, the bank learns the joint
number of senders, and of receivers, and what came in and went out. Nothing about other accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.banking.tables import TRANSFERS
from secagg.patterns.banking.warnings import FEW, small_amounts
from secagg.patterns.counts import factorize, group_sum, nunique
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.pattern import Tables, Terms
from secagg.protocols.group_by import Field, Rows
from secagg.query.schema import Identifier, Integer, Money, Schema


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds over all banks, and the largest numbers that one bank may put in for one account (public)."""

    min_senders: Annotated[int, Meta(ge=1)] = 4
    min_receivers: Annotated[int, Meta(ge=1)] = 4
    min_total_cents: Annotated[int, Meta(ge=0)] = 0
    max_partners_per_bank: Annotated[int, Meta(ge=1)] = 100_000
    max_cents_per_bank: Annotated[int, Meta(ge=1)] = 10**14


class GatherScatter(GroupByPattern):
    """Accounts into which many pay and which pay many; see the module."""

    name = "gather_scatter"
    summary = "accounts into which many pay and which pay many."
    inputs = {"transfers": TRANSFERS}  # noqa: RUF012  # nobody changes it
    results = Schema(
        account=Identifier(), senders=Integer(), receivers=Integer(), received=Money(), paid=Money()
    )
    Parameters = Thresholds
    example = staticmethod(examples.gather_scatter)

    def fields(self, parameters: Thresholds) -> tuple[Field, ...]:
        """Return senders, receivers, and what came in and went out."""
        people, cents = parameters.max_partners_per_bank, parameters.max_cents_per_bank
        return (
            Field("senders", people, at_least=parameters.min_senders),
            Field("receivers", people, at_least=parameters.min_receivers),
            Field("received", cents, at_least=parameters.min_total_cents),
            Field("paid", cents, at_least=parameters.min_total_cents),
        )

    def group_rows(self, parameters: Thresholds, tables: Tables) -> Rows:  # noqa: ARG002  # as every pattern's
        """Return one bank's rows: each account that pays or is paid, with its partners and totals here."""
        transfers = tables["transfers"]
        sender, beneficiary = factorize(transfers["sender"]), factorize(transfers["beneficiary"])
        amount = transfers["amount"]
        place: dict[str, int] = {}
        values: list[list[int]] = []
        for groups, members, offset in ((beneficiary, sender, 0), (sender, beneficiary, 1)):
            counts, totals = nunique(groups, members).tolist(), group_sum(groups, amount).tolist()
            for name, n, total in zip(groups.categories.tolist(), counts, totals, strict=True):
                if name not in place:
                    place[name] = len(values)
                    values.append([0, 0, 0, 0])
                values[place[name]][offset], values[place[name]][2 + offset] = n, total
        names = np.array([*place, None], object)[:-1]
        return Rows(names, np.array(values, np.uint64).reshape(len(names), 4))

    def flagged(self, parameters: Thresholds, tables: Mapping[PartyId, Tables]) -> dict[str, tuple[int, ...]]:
        """Compute in the clear, from everybody's transfers, each flagged account's partners and totals."""
        payers: dict[str, set[tuple[PartyId, str]]] = {}
        payees: dict[str, set[tuple[PartyId, str]]] = {}
        came: dict[str, int] = {}
        went: dict[str, int] = {}
        for bank, own in tables.items():
            columns = own["transfers"]
            cents = columns["amount"].tolist()
            for s, b, c in zip(columns["sender"], columns["beneficiary"], cents, strict=True):
                payers.setdefault(b, set()).add((bank, s))
                payees.setdefault(s, set()).add((bank, b))
                came[b], went[s] = came.get(b, 0) + c, went.get(s, 0) + c
        return {
            a: (len(payers[a]), len(payees[a]), came[a], went[a])
            for a in payers.keys() & payees.keys()
            if len(payers[a]) >= parameters.min_senders
            and len(payees[a]) >= parameters.min_receivers
            and min(came[a], went[a]) >= parameters.min_total_cents
        }

    def warnings(self, parameters: Thresholds, terms: Terms) -> list[str]:
        """Warn of thresholds under which one customer's figures can be read."""
        found = super().warnings(parameters, terms)
        if min(parameters.min_senders, parameters.min_receivers) < FEW:
            found.append(
                f"min_senders or min_receivers is below {FEW}: a total then shows what one or two customers paid or got. "
                f"Take {FEW} or more."
            )
        return found + small_amounts(terms, min_total=parameters.min_total_cents)


GATHER_SCATTER: Final = GatherScatter()
