"""Scatter-gather: one account pays several that all pay the same third.

Each bank puts in which of its accounts paid which accounts, when first and when last (`transfers` says whose row of a
transfer enters), and the list of its own accounts. A source and a destination are flagged if at least `min_between`
accounts stand between them: the source paid each of these, and each paid the destination, not all of it before the source's
first payment. Accounts that pay more than `max_receivers` others are shops and the like, and stand between nobody.

Learns: a bank, for each of its own accounts, whether it is the source of a flagged pair, stands between one, or is the
destination.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.mpc import concat, stack
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.banking.successors import successors
from secagg.patterns.banking.transfers import (
    INPUTS,
    Side,
    distinct_pairs,
    entering,
    own_accounts,
    pooled_transfers,
)
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import MS, Columns, JointTable
from secagg.patterns.pattern import Tables
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Boolean, Identifier, Schema, Time


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many stand between, how many these may pay, and whose row of a transfer enters."""

    min_between: Annotated[int, Meta(ge=2)] = 3
    max_receivers: Annotated[int, Meta(ge=1, le=64)] = 8
    rows_of: Side = "payer"


class ScatterGather(ProgramPattern):
    """Money that is split and comes together again; see the module."""

    name = "scatter_gather"
    summary = "one account pays several that all pay the same third."
    inputs = INPUTS
    results = Schema(account=Identifier(), source=Boolean(), between=Boolean(), destination=Boolean())
    Parameters = Thresholds
    example = staticmethod(examples.scatter_gather)
    about = "accounts"
    tells = (
        "for each account that it put in: whether it is the source of a flagged pair, stands between one, or is the "
        "destination"
    )

    def shared(self, parameters: Thresholds) -> dict[str, Columns]:  # noqa: ARG002  # as every pattern's
        """Return pairs of payer and payee, and accounts."""
        return {
            "pairs": {"sender": Identifier(), "beneficiary": Identifier(), "first": Time(), "last": Time()},
            "accounts": {"account": Identifier()},
        }

    def local(self, parameters: Thresholds, tables: Tables) -> dict[str, Mapping[str, Any]]:
        """Return who paid whom, once each, and the bank's accounts."""
        pairs = distinct_pairs(entering(tables, parameters.rows_of))
        return {"pairs": pairs, "accounts": own_accounts(tables)}

    def program(self, parameters: Thresholds, tables: Mapping[str, JointTable]) -> Findings:
        """Follow each payment to whom its receiver paid, and count those between a source and a destination."""
        pairs, accounts = tables["pairs"], tables["accounts"]
        n, k = pairs.rows, parameters.max_receivers
        source, between = pairs["sender"], pairs["beneficiary"]
        there, (destination, last) = successors(
            between, source, pairs.valid, [between, pairs["last"]], most=k
        )
        distinct = (destination != source.reshape(n, 1)) & (destination != between.reshape(n, 1))
        follows = there & pairs.valid.reshape(n, 1) & (pairs["first"].reshape(n, 1) <= last) & distinct
        sources = stack([source] * k, axis=1).reshape(n * k)
        count = Groups([sources, destination.reshape(n * k)]).sum_each(follows.reshape(n * k))
        found = follows & (count.reshape(n, k) >= parameters.min_between)
        of_pair = found.any(axis=1)
        keys = concat([accounts["account"], source, between, destination.reshape(n * k)])
        a = accounts.rows
        roles = np.zeros((a + 2 * n + n * k, 3), bool)
        roles[a : a + n, 0] = roles[a + n : a + 2 * n, 1] = roles[a + 2 * n :, 2] = True
        none = accounts.valid & np.zeros(a, bool)
        marks = concat([none, of_pair, of_pair, found.reshape(n * k)])
        mine = Groups([keys]).sum_each((marks.reshape(-1, 1) & roles).astype(int))[:a] > 0
        columns = {"source": mine[:, 0], "between": mine[:, 1], "destination": mine[:, 2]}
        return Findings(columns, shown=mine.any(axis=1))

    def pooled(
        self, parameters: Thresholds, tables: Mapping[PartyId, Tables]
    ) -> dict[tuple[str], tuple[bool, bool, bool]]:
        """Look at each pair of a source and a destination in the clear."""
        first: dict[tuple[str, str], int] = {}
        last: dict[tuple[str, str], int] = {}
        receivers: dict[str, set[str]] = {}
        for sender, payee, _, at in pooled_transfers(tables, parameters.rows_of):
            ms, pair = round(at * MS), (sender, payee)
            first[pair], last[pair] = min(ms, first.get(pair, ms)), max(ms, last.get(pair, ms))
            receivers.setdefault(sender, set()).add(payee)
        between: dict[tuple[str, str], set[str]] = {}
        for source, middle in first:
            onward = receivers.get(middle, set())
            for destination in onward if len(onward) <= parameters.max_receivers else ():
                if destination not in (source, middle) and first[source, middle] <= last[middle, destination]:
                    between.setdefault((source, destination), set()).add(middle)
        roles: dict[tuple[str], list[bool]] = {}
        for (source, destination), all_between in between.items():
            if len(all_between) >= parameters.min_between:
                for i, accounts in enumerate(((source,), all_between, (destination,))):
                    for account in accounts:
                        roles.setdefault((account,), [False] * 3)[i] = True
        return {account: (found[0], found[1], found[2]) for account, found in roles.items()}


SCATTER_GATHER: Final = ScatterGather()
