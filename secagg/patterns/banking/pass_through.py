"""Pass-through: accounts that money leaves about as it came, within a short time.

Each bank puts in the transfers of its own accounts (`transfers` says whose row enters), and the list of these accounts.
An account is flagged if for some transfer into it this holds: what it receives within `within_s` seconds from then on is at
least `min_total`, and what it pays in the same time differs from that by at most `tolerance_percent`.

Learns: a bank, for each of its own accounts, whether it is flagged and, if so, for how many transfers into it that holds.
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
from secagg.patterns.banking.transfers import (
    INPUTS,
    MAX_CENTS,
    Side,
    entering,
    own_accounts,
    pooled_transfers,
    shared_columns,
)
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import MS, Columns, JointTable
from secagg.patterns.pattern import Tables
from secagg.patterns.program import Findings, ProgramPattern
from secagg.patterns.windows import Asked, window_sums
from secagg.query.schema import Identifier, Integer, Schema


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much, within how long, how nearly the same; and whose row of a transfer enters."""

    min_total_cents: Annotated[int, Meta(ge=1)] = 100_000
    within_s: Annotated[int, Meta(ge=0, le=10**9)] = 172_800
    tolerance_percent: Annotated[int, Meta(ge=0, le=99)] = 10
    rows_of: Side = "payer"
    max_amount_cents: Annotated[int, Meta(ge=1)] = MAX_CENTS


class PassThrough(ProgramPattern):
    """Accounts that money leaves as it came; see the module."""

    name = "pass_through"
    summary = "accounts that money leaves about as it came, within a short time."
    inputs = INPUTS
    results = Schema(account=Identifier(), times=Integer())
    Parameters = Thresholds
    example = staticmethod(examples.pass_through)
    about = "accounts"
    tells = (
        "for each account that it put in: whether it is flagged and, only if so, after how many transfers into it the money "
        "left again"
    )
    summed = ("transfers.amount",)
    factor = 200  # amounts are multiplied by 100 and compared

    def shared(self, parameters: Thresholds) -> dict[str, Columns]:
        """Return transfers and accounts."""
        return shared_columns(parameters.max_amount_cents)

    def local(self, parameters: Thresholds, tables: Tables) -> dict[str, Mapping[str, Any]]:
        """Return the transfers that this bank puts in, and its accounts."""
        return {"transfers": entering(tables, parameters.rows_of), "accounts": own_accounts(tables)}

    def program(self, parameters: Thresholds, tables: Mapping[str, JointTable]) -> Findings:
        """Add up what comes in and goes out from each transfer on, and count for each account where it is about equal."""
        transfers, accounts = tables["transfers"], tables["accounts"]
        amount, time = transfers["amount"] * transfers.valid, transfers["time"]
        payee, nothing = transfers["beneficiary"], amount * 0
        known = window_sums(
            concat([payee, transfers["sender"]]),
            concat([time, time]),
            stack([concat([amount, nothing]), concat([nothing, amount])], axis=1),
            Asked(payee, time, time + parameters.within_s * MS),
        )
        came, went = known[:, 0], known[:, 1]
        room, gap = parameters.tolerance_percent * came, 100 * (went - came)
        passed = (came >= parameters.min_total_cents) & (gap <= room) & (-gap <= room) & transfers.valid
        none = accounts.valid & np.zeros(accounts.rows, bool)
        times = Groups([concat([accounts["account"], payee])]).sum_each(concat([none, passed]))[
            : accounts.rows
        ]
        return Findings({"times": times}, shown=times > 0)

    def pooled(
        self, parameters: Thresholds, tables: Mapping[PartyId, Tables]
    ) -> dict[tuple[str], tuple[int]]:
        """Look at each transfer into each account in the clear."""
        inward: dict[str, list[tuple[int, int]]] = {}
        outward: dict[str, list[tuple[int, int]]] = {}
        for sender, payee, cents, at in pooled_transfers(tables, parameters.rows_of):
            inward.setdefault(payee, []).append((round(at * MS), cents))
            outward.setdefault(sender, []).append((round(at * MS), cents))
        found: dict[tuple[str], tuple[int]] = {}
        for account, transfers in inward.items():
            times = 0
            for start, _ in transfers:
                end = start + parameters.within_s * MS
                came = sum(c for at, c in transfers if start <= at <= end)
                went = sum(c for at, c in outward.get(account, []) if start <= at <= end)
                near = 100 * abs(went - came) <= parameters.tolerance_percent * came
                times += came >= parameters.min_total_cents and near
            if times:
                found[account,] = (times,)
        return found


PASS_THROUGH: Final = PassThrough()
