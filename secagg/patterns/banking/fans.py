"""Accounts with many partners at several banks: what collectors (many pay in) and dispersers (many are paid) share.

An account is the key of a group, its partners are counted. A bank's partners are its own customers, so distinct partners
add up over banks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from secagg.errors import PlanError
from secagg.party import PartyId
from secagg.patterns.banking.tables import TRANSFERS
from secagg.patterns.banking.warnings import FEW, small_amounts
from secagg.patterns.counts import factorize, group_sum, nunique
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.pattern import Tables, Terms
from secagg.protocols.group_by import Field, Rows


class Bounds(NamedTuple):
    """A fan's parameters, whatever a job calls its partners."""

    min_partners: int
    min_banks: int
    min_total_cents: int
    max_partners_per_bank: int
    max_cents_per_bank: int


class FanPattern(GroupByPattern):
    """Accounts with many partners at several banks.

    Attributes:
      key: the column of the account, and `partner` that of whom it has to do with.
      partners: what parameters and results call the partners.
      few: how a warning says that one customer, or two customers, stand behind an account.
      figure: what a flagged account's total then shows of one customer.
    """

    inputs = {"transfers": TRANSFERS}  # noqa: RUF012  # nobody changes it
    key: ClassVar[str]
    partner: ClassVar[str]
    partners: ClassVar[str]
    few: ClassVar[tuple[str, str]]
    figure: ClassVar[str]

    @abstractmethod
    def bounds(self, parameters: Any) -> Bounds:
        """Return the parameters by what they mean."""

    def fields(self, parameters: Any) -> tuple[Field, ...]:
        """Return partners, total and banks."""
        bounds = self.bounds(parameters)
        return (
            Field(self.partners, bounds.max_partners_per_bank, at_least=bounds.min_partners),
            Field("total", bounds.max_cents_per_bank, at_least=bounds.min_total_cents),
            Field("banks", 1, at_least=bounds.min_banks, opened=False),
        )

    def check(self, parameters: Any, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed or reached."""
        banks, min_banks = len(terms.input_parties), self.bounds(parameters).min_banks
        if min_banks > banks:
            raise PlanError(
                f"min_banks = {min_banks} is out of reach, because {banks} parties put in data; "
                f"lower min_banks to {banks} or less, or name more parties under input"
            )
        super().check(parameters, terms)

    def group_rows(self, parameters: Any, tables: Tables) -> Rows:  # noqa: ARG002  # as every pattern's
        """Return one bank's rows: each account with its distinct partners here, its total, and one bank."""
        transfers = tables["transfers"]
        groups = factorize(transfers[self.key])
        partners = nunique(groups, factorize(transfers[self.partner]))
        total = group_sum(groups, transfers["amount"])
        return Rows(groups.categories, np.stack([partners, total, np.ones(len(total), np.uint64)], axis=1))

    def flagged(self, parameters: Any, tables: Mapping[PartyId, Tables]) -> dict[str, tuple[int, ...]]:
        """Compute in the clear, from everybody's transfers, each flagged account's partners and total."""
        bounds = self.bounds(parameters)
        partners: dict[str, set[tuple[PartyId, str]]] = {}
        total: dict[str, int] = {}
        for bank, table in tables.items():
            columns = table["transfers"]
            cents = columns["amount"].tolist()
            for account, partner, c in zip(columns[self.key], columns[self.partner], cents, strict=True):
                partners.setdefault(account, set()).add((bank, partner))
                total[account] = total.get(account, 0) + c
        return {
            account: (len(partners[account]), total[account])
            for account in total
            if len(partners[account]) >= bounds.min_partners
            and len({bank for bank, _ in partners[account]}) >= bounds.min_banks
            and total[account] >= bounds.min_total_cents
        }

    def warnings(self, parameters: Any, terms: Terms) -> list[str]:
        """Warn of thresholds under which one customer's or one bank's figures can be read."""
        found, bounds = super().warnings(parameters, terms), self.bounds(parameters)
        if bounds.min_partners < FEW:
            found.append(
                f"min_{self.partners} = {bounds.min_partners}: an account {self.few[bounds.min_partners - 1]} is flagged, "
                f"and its total shows {self.figure}. Take {FEW} or more."
            )
        if bounds.min_banks == 1:
            found.append(
                "min_banks = 1: an account is flagged by what a single bank has seen. Any other bank that puts in a row "
                "for it then reads that bank's figures. Take 2 or more."
            )
        if bounds.max_partners_per_bank == 1:
            found.append(
                f"max_{self.partners}_per_bank = 1: the joint number of {self.partners} is the number of banks, which is "
                "not opened else."
            )
        return found + small_amounts(terms, min_total=bounds.min_total_cents)
