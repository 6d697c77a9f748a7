"""Cycles: money that comes back to where it left, over up to five accounts, with rising time and about the same amount.

Each bank puts in the transfers of its own accounts (`transfers` says whose row enters) from `min_amount` on, and the
list of these accounts. A cycle is a sequence of `min_hops` to `max_hops` transfers. Each begins where the one before ended,
not before it, and the last ends where the first began. All take place within `within_s` seconds, no account comes twice,
and each amount differs from the first by at most `tolerance_percent` of that. Accounts that make more than `max_transfers`
such
transfers are shops and the like: they begin cycles, and stand within none.

Every step keeps at most `max_paths` paths and `max_cycles` cycles, which are public. If there are more, the run ends and
tells that.

Learns: a bank, for each of its own accounts, whether a cycle passes through it, and over how few transfers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.mpc import concat, sort_by, stack
from secagg.mpc.arrays import SharedArray
from secagg.mpc.arrays.reductions import cumulative_sum
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.banking.successors import successors
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
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as a cycle, and the sizes that bound the work (public)."""

    min_hops: Annotated[int, Meta(ge=2, le=5)] = 3
    max_hops: Annotated[int, Meta(ge=2, le=5)] = 4
    tolerance_percent: Annotated[int, Meta(ge=0, le=99)] = 10
    within_s: Annotated[int, Meta(ge=0, le=10**9)] = 2_592_000
    min_amount_cents: Annotated[int, Meta(ge=1)] = 10_000
    max_transfers: Annotated[int, Meta(ge=1, le=64)] = 8
    max_paths: Annotated[int, Meta(ge=1, le=10**7)] = 100_000
    max_cycles: Annotated[int, Meta(ge=1, le=10**6)] = 1_000
    rows_of: Side = "payer"
    max_amount_cents: Annotated[int, Meta(ge=1, le=10**16)] = MAX_CENTS  # a hundred times it fits 62 bits


class Cycles(ProgramPattern):
    """Money that comes back; see the module."""

    name = "cycles"
    summary = "money that comes back to where it left, over up to five accounts."
    inputs = INPUTS
    results = Schema(account=Identifier(), hops=Integer())
    Parameters = Limits
    example = staticmethod(examples.cycles)
    about = "accounts"
    tells = "for each account that it put in: whether a cycle passes through it and, only if so, over how few transfers"
    refusals = (
        "more paths than max_paths could be part of a cycle",
        "there are more cycles of a length than max_cycles",
    )

    def check(self, parameters: Limits, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed."""
        if parameters.min_hops > parameters.max_hops:
            raise PlanError(
                f"expected min_hops of at most max_hops, which is {parameters.max_hops}, got {parameters.min_hops}"
            )
        super().check(parameters, terms)

    def shared(self, parameters: Limits) -> dict[str, Columns]:
        """Return transfers and accounts."""
        return shared_columns(parameters.max_amount_cents)

    def local(self, parameters: Limits, tables: Tables) -> dict[str, Mapping[str, Any]]:
        """Return the transfers from the least amount on that this bank puts in, and its accounts."""
        large = entering(tables, parameters.rows_of, min_amount_cents=parameters.min_amount_cents)
        return {"transfers": large, "accounts": own_accounts(tables)}

    def program(self, parameters: Limits, tables: Mapping[str, JointTable]) -> Findings:
        """Follow all transfers step by step, and keep what comes back."""
        transfers, accounts = tables["transfers"], tables["accounts"]
        paths = _Paths.begin(transfers)
        cycles: list[tuple[list[SharedArray], SharedArray]] = []
        too_many_paths = too_many_cycles = transfers.valid[0] & False  # of shared bits
        for hops in range(2, parameters.max_hops + 1):
            longer, returns = paths.extended(transfers, parameters)
            if hops >= parameters.min_hops:
                too_many_cycles = too_many_cycles | (returns.sum() > parameters.max_cycles)
                cycles.append(_first(returns, longer.nodes[:-1], parameters.max_cycles))
            if hops < parameters.max_hops:
                too_many_paths = too_many_paths | (longer.valid.sum() > parameters.max_paths)
                paths = longer.kept(parameters.max_paths)
        a = accounts.rows
        none = accounts.valid.reshape(-1, 1) & np.zeros((a, len(cycles)), bool)
        keys, marks = [accounts["account"]], [none.astype(int)]
        for i, (nodes, there) in enumerate(cycles):
            of_length = np.arange(len(cycles)) == i
            for node in nodes:
                keys.append(node)
                marks.append((there.reshape(-1, 1) & of_length).astype(int))
        passes = Groups([concat(keys)]).sum_each(concat(marks))[:a]
        # The number of lengths up to which nothing was found tells the shortest.
        upto = cumulative_sum(passes, axis=1) > 0
        return Findings(
            {"hops": parameters.max_hops + 1 - upto.sum(axis=1)},
            shown=upto[:, -1],
            refused=dict(zip(self.refusals, (too_many_paths, too_many_cycles), strict=True)),
        )

    def pooled(self, parameters: Limits, tables: Mapping[PartyId, Tables]) -> dict[tuple[str], tuple[int]]:
        """Search depth first in the clear."""
        out: dict[str, list[tuple[str, int, int]]] = {}
        for sender, payee, cents, at in pooled_transfers(tables, parameters.rows_of):
            if cents >= parameters.min_amount_cents:
                out.setdefault(sender, []).append((payee, cents, round(at * MS)))
        found: dict[tuple[str], tuple[int]] = {}

        def follow(nodes: list[str], cents: int, start: int, now: int) -> None:
            end, hops = nodes[-1], len(nodes)
            onward = out.get(end, [])
            if len(onward) > parameters.max_transfers:
                return
            for payee, amount, at in onward:
                near = 100 * abs(amount - cents) <= parameters.tolerance_percent * cents
                if not (near and now <= at <= start + parameters.within_s * MS):
                    continue
                if payee == nodes[0]:
                    for account in nodes if hops >= parameters.min_hops else ():
                        found[account,] = min(found.get((account,), (hops,)), (hops,))
                elif payee not in nodes and hops < parameters.max_hops:
                    follow([*nodes, payee], cents, start, at)

        for sender, transfers in out.items():
            for payee, cents, at in transfers:
                if payee != sender:
                    follow([sender, payee], cents, at, at)
        return found


@dataclass(frozen=True)
class _Paths:
    """Paths of transfers: the accounts on each in order, the first amount, the first and the last time, which are real."""

    nodes: list[SharedArray]
    amount: SharedArray
    start: SharedArray
    now: SharedArray
    valid: SharedArray

    @classmethod
    def begin(cls, transfers: JointTable) -> _Paths:
        """Return paths of one transfer each."""
        nodes = [transfers["sender"], transfers["beneficiary"]]
        valid = transfers.valid & (nodes[0] != nodes[1])
        return cls(nodes, transfers["amount"], transfers["time"], transfers["time"], valid)

    def extended(self, transfers: JointTable, parameters: Limits) -> tuple[_Paths, SharedArray]:
        """Return paths with a transfer more that do not come back, and beside them which do."""
        p, k = self.amount.shape[0], parameters.max_transfers
        there, (node, amount, time) = successors(
            self.nodes[-1],
            transfers["sender"],
            transfers.valid,
            [transfers["beneficiary"], transfers["amount"], transfers["time"]],
            most=k,
        )
        first, start = self.amount.reshape(p, 1), self.start.reshape(p, 1)
        room, gap = parameters.tolerance_percent * first, 100 * (amount - first)
        fits = there & self.valid.reshape(p, 1) & (gap <= room) & (-gap <= room)
        fits = fits & (self.now.reshape(p, 1) <= time) & (time <= start + parameters.within_s * MS)
        returns = fits & (node == self.nodes[0].reshape(p, 1))
        onward = fits & ~returns
        for earlier in self.nodes[1:]:
            onward = onward & (node != earlier.reshape(p, 1))

        def each(x: SharedArray) -> SharedArray:
            return stack([x] * k, axis=1).reshape(p * k)

        nodes = [*map(each, self.nodes), node.reshape(p * k)]
        longer = _Paths(
            nodes, each(self.amount), each(self.start), time.reshape(p * k), onward.reshape(p * k)
        )
        return longer, returns.reshape(p * k)

    def kept(self, most: int) -> _Paths:
        """Return the real ones in at most so many places."""
        columns, valid = _first(self.valid, [*self.nodes, self.amount, self.start, self.now], most)
        *nodes, amount, start, now = columns
        return _Paths(nodes, amount, start, now, valid)


def _first(
    chosen: SharedArray, columns: list[SharedArray], most: int
) -> tuple[list[SharedArray], SharedArray]:
    """Return columns of the chosen rows, at most so many, and which of the places they take."""
    *kept, valid = sort_by([~chosen], [*columns, chosen], first=min(most, chosen.shape[0]))
    return kept, valid


CYCLES: Final = Cycles()
