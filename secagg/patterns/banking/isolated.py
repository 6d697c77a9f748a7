"""Isolated: small groups of accounts that pay each other and nobody else, over all banks.

Each bank puts in which of its accounts paid which accounts (`transfers` says whose row of a transfer enters), and the
list of its own accounts. Accounts and payments, whatever their direction, make a graph. Its connected components of
`min_accounts` to `max_accounts` accounts are flagged.

By label propagation: each account takes the least number among its own and its neighbours', `max_accounts` - 1 times. A set
of at most that many accounts of one number, which no payment leaves, is a component. Accounts with more than 2
(`max_accounts` - 1) neighbours, counting both directions, lie in none.

Learns: a bank, for each of its own accounts, whether it lies in such a group and, if so, how many accounts the group has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.mpc import concat, stack
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.banking.transfers import (
    INPUTS,
    Side,
    distinct_pairs,
    entering,
    own_accounts,
    pooled_transfers,
)
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import Columns, JointTable
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many accounts a group has, and whose row of a transfer enters."""

    min_accounts: Annotated[int, Meta(ge=2, le=16)] = 3
    max_accounts: Annotated[int, Meta(ge=2, le=16)] = 6
    rows_of: Side = "payer"


class Isolated(ProgramPattern):
    """Small groups that pay nobody else; see the module."""

    name = "isolated"
    summary = "small groups of accounts that pay each other and nobody else, over all banks."
    inputs = INPUTS
    results = Schema(account=Identifier(), accounts=Integer())
    Parameters = Limits
    example = staticmethod(examples.isolated)
    about = "accounts"
    tells = "for each account that it put in: whether it lies in such a group and, only if so, of how many accounts"

    def check(self, parameters: Limits, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed."""
        if parameters.min_accounts > parameters.max_accounts:
            raise PlanError(
                f"expected min_accounts of at most max_accounts, which is {parameters.max_accounts}, got "
                f"{parameters.min_accounts}"
            )
        super().check(parameters, terms)

    def shared(self, parameters: Limits) -> dict[str, Columns]:  # noqa: ARG002  # as every pattern's
        """Return pairs of payer and payee, and accounts."""
        return {
            "pairs": {"sender": Identifier(), "beneficiary": Identifier()},
            "accounts": {"account": Identifier()},
        }

    def local(self, parameters: Limits, tables: Tables) -> dict[str, Mapping[str, Any]]:
        """Return who paid whom, once each, and the bank's accounts."""
        pairs = distinct_pairs(entering(tables, parameters.rows_of))
        return {
            "pairs": {name: pairs[name] for name in ("sender", "beneficiary")},
            "accounts": own_accounts(tables),
        }

    def program(self, parameters: Limits, tables: Mapping[str, JointTable]) -> Findings:
        """Hand on the least number, and look which sets of one number nothing leaves."""
        pairs, accounts = tables["pairs"], tables["accounts"]
        n, slots = pairs.rows, 2 * (parameters.max_accounts - 1)
        real = pairs.valid & (pairs["sender"] != pairs["beneficiary"])
        none = accounts.valid & np.zeros(accounts.rows, bool)
        ends = concat([real, real, none])
        # Ends of payments come first within an account, so that those of one that counts stand in its first few rows.
        keys = [concat([pairs["sender"], pairs["beneficiary"], accounts["account"]])]
        groups = Groups(keys, [~ends])
        marks = ~groups.within[0]
        degree = groups.sums(marks)
        nearby = groups.same_group(slots)
        number, far = groups.places, groups.rows
        for _ in range(parameters.max_accounts - 1):
            mine = groups.unsorted(groups.spread(number))
            across = groups.sorted(concat([mine[n : 2 * n], mine[:n], mine[2 * n :]]))
            least = groups.least_nearby((across - far) * marks, nearby)
            beside = groups.first_of(least) + far
            number = number + (beside - number) * (beside < number)
        mine = groups.unsorted(groups.spread(number))
        leaves = (mine[:n] != mine[n : 2 * n]) & real
        bad = groups.sums(groups.sorted(concat([leaves, leaves, none]))) + (degree > slots)
        known = Groups([number]).sum_each(stack([bad * 0 + 1, bad], axis=1))
        size = known[:, 0]
        small = (size >= parameters.min_accounts) & (size <= parameters.max_accounts) & (known[:, 1] == 0)
        found = groups.unsorted(groups.spread(size * small))[2 * n :]
        return Findings({"accounts": found}, shown=found > 0)

    def pooled(self, parameters: Limits, tables: Mapping[PartyId, Tables]) -> dict[tuple[str], tuple[int]]:
        """Search components in the clear."""
        beside: dict[str, set[str]] = {}
        for sender, payee, _, _ in pooled_transfers(tables, parameters.rows_of):
            if sender != payee:
                for account, other in ((sender, payee), (payee, sender)):
                    beside.setdefault(account, set()).add(other)
        found: dict[tuple[str], tuple[int]] = {}
        done: set[str] = set()
        for start in beside:
            if start in done:
                continue
            component, front = {start}, [start]
            while front:
                new = beside[front.pop()] - component
                component |= new
                front += new
            done |= component
            if parameters.min_accounts <= len(component) <= parameters.max_accounts:
                found |= {(account,): (len(component),) for account in component}
        return found


ISOLATED: Final = Isolated()
