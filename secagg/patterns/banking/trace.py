"""Trace: accounts that money from a hidden list of accounts reaches within so many hops.

Each bank puts in which of its accounts paid which accounts (`transfers` says whose row of a transfer enters), the list
of its own accounts, and its *seeds*: accounts that it watches, its own or others'. Nobody learns anybody's seeds.

Learns: a bank, for each of its own accounts, whether somebody's seed reaches it within `hops` transfers, and by how few.
Times and amounts do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.mpc import concat
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.banking.transfers import (
    ACCOUNTS,
    INPUTS,
    Side,
    distinct_pairs,
    entering,
    own_accounts,
    pooled_transfers,
)
from secagg.patterns.counts import factorize
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import Columns, JointTable
from secagg.patterns.pattern import Tables
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far to follow, and how many seeds each bank may have (public; their number is not)."""

    hops: Annotated[int, Meta(ge=1, le=12)] = 3
    max_seeds: Annotated[int, Meta(ge=1, le=10**6)] = 100
    rows_of: Side = "payer"


class Trace(ProgramPattern):
    """Accounts that hidden accounts' money reaches; see the module."""

    name = "trace"
    summary = "accounts that money from a hidden list of accounts reaches within so many hops."
    inputs = {**INPUTS, "seeds": ACCOUNTS}  # noqa: RUF012  # nobody changes it
    results = Schema(account=Identifier(), hops=Integer())
    Parameters = Limits
    example = staticmethod(examples.trace)
    about = "accounts"
    tells = "for each account that it put in: whether a seed reaches it and, only if so, within how few hops"

    def shared(self, parameters: Limits) -> dict[str, Columns]:  # noqa: ARG002  # as every pattern's
        """Return pairs of payer and payee, accounts and seeds."""
        return {
            "transfers": {"sender": Identifier(), "beneficiary": Identifier()},
            "accounts": {"account": Identifier()},
            "seeds": {"account": Identifier()},
        }

    def sizes(self, parameters: Limits) -> dict[str, int]:
        """Return how many seeds each bank shares, padding included."""
        return {"seeds": parameters.max_seeds}

    def local(self, parameters: Limits, tables: Tables) -> dict[str, Mapping[str, Any]]:
        """Return who paid whom, once each, the bank's accounts and its seeds."""
        pairs = distinct_pairs(entering(tables, parameters.rows_of))
        seeds = factorize(tables["seeds"]["account"]).categories
        return {
            "transfers": {name: pairs[name] for name in ("sender", "beneficiary")},
            "accounts": own_accounts(tables),
            "seeds": {"account": seeds},
        }

    def program(self, parameters: Limits, tables: Mapping[str, JointTable]) -> Findings:
        """Pass on from payers to payees who is reached, hop by hop."""
        pairs, accounts, seeds = tables["transfers"], tables["accounts"], tables["seeds"]
        n, a, s = pairs.rows, accounts.rows, seeds.rows
        groups = Groups(
            [concat([pairs["sender"], pairs["beneficiary"], accounts["account"], seeds["account"]])]
        )

        def of_groups(beneficiaries: Any, starting: Any) -> Any:
            """Return which groups have a beneficiary, or a seed, that is set."""
            empty = groups.engine.public(np.zeros(n, bool)), groups.engine.public(np.zeros(a, bool))
            return groups.sums(groups.sorted(concat([empty[0], beneficiaries, empty[1], starting]))) > 0

        nobody = seeds.valid & np.zeros(s, bool)
        begun = of_groups(pairs.valid & np.zeros(n, bool), seeds.valid)
        reached, reached_by = begun, []
        for _ in range(parameters.hops):
            where = groups.unsorted(groups.spread(reached))
            arrived = of_groups((where[:n] > 0) & pairs.valid, nobody)
            reached_by.append(arrived)
            reached = begun | arrived
        # Who is reached within a hop is so within the next: the number of hops that reach tells the first.
        often = sum(arrived.astype(int) for arrived in reached_by)
        mine = groups.unsorted(groups.spread(often))[2 * n : 2 * n + a]
        return Findings({"hops": parameters.hops + 1 - mine}, shown=mine > 0)

    def pooled(self, parameters: Limits, tables: Mapping[PartyId, Tables]) -> dict[tuple[str], tuple[int]]:
        """Search breadth first in the clear."""
        paid: dict[str, set[str]] = {}
        for sender, payee, _, _ in pooled_transfers(tables, parameters.rows_of):
            paid.setdefault(sender, set()).add(payee)
        front = {seed for own in tables.values() for seed in own["seeds"]["account"]}
        found: dict[tuple[str], tuple[int]] = {}
        for hop in range(1, parameters.hops + 1):
            front = {payee for account in front for payee in paid.get(account, ())}
            for account in front:
                found.setdefault((account,), (hop,))
        return found


TRACE: Final = Trace()
