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
from msgspec import Meta

from secagg.errors import PlanError
from secagg.mpc import concat, int32, sort_by
from secagg.mpc.arrays import SharedArray
from secagg.mpc.arrays.arithmetic import selected
from secagg.mpc.arrays.handle import as_numbers
from secagg.mpc.arrays.reductions import cumulative_sum
from secagg.mpc.arrays.segments import differences, partition, placed, running
from secagg.mpc.tables.runs import carried, earlier, later
from secagg.mpc.tables.table import numbered
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.banking.successors import Ends
from secagg.patterns.banking.transfers import (
    INPUTS,
    Side,
    distinct_pairs,
    entering,
    own_accounts,
    pooled_transfers,
)
from secagg.patterns.joint_tables import Columns, JointTable
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema

_BAD: Final = 1 << 32  # more than there are accounts


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
        # Ends of payments come first within an account, so that those of one that counts stand in its first few rows.
        given = concat([real, real, accounts.valid & False])
        ends = Ends(pairs["sender"], pairs["beneficiary"], [accounts["account"]], behind=~given)
        swapped = concat([ends.rank[n : 2 * n], ends.rank[:n], ends.rank[2 * n :]])
        real, other_end = ends.ordered([given, swapped])
        number = _least_around(ends, real, other_end, slots=slots, rounds=parameters.max_accounts - 1)
        (number,) = carried(~ends.same, [number])
        (beside,) = placed(other_end, [number])
        far = ends.before(slots)[-1]  # an end that the search has not seen
        size = _sizes(number, ~ends.same, ((beside != number) | far) & real)
        found = ends.given([size])[0][2 * n :]
        small = (found >= parameters.min_accounts) & (found <= parameters.max_accounts)
        return Findings({"accounts": found * small}, shown=small)

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


def _least_around(
    ends: Ends, real: SharedArray, other_end: SharedArray, *, slots: int, rounds: int
) -> SharedArray:
    """Return, in the first row of each account of few rows, the least number of accounts within so many payments.

    A row holds the number of its account as it was in the round before. Only the first `slots` rows of an account take part.

    Args:
      real: which rows are ends of payments.
      other_end: where the other end of each stands.
    """
    number, before = ends.numbers(), ends.before(slots)
    distances = [1 << i for i in range(slots.bit_length()) if 1 << i < slots]
    # Rows at least `by` behind the first of their account, and not twice as far.
    behind = {
        by: as_numbers(
            before[by - 1] & ~before[2 * by - 1] if 2 * by <= slots else before[by - 1], int32.bits
        )
        for by in distances
    }
    for _ in range(rounds):
        (beside,) = placed(other_end, [number])
        number = number + selected((beside < number) & real, beside - number)
        for by in distances:  # to the first row from those behind it
            there, near = later(number, by), later(before[by - 1], by)
            number = number + selected((there < number) & near, there - number)
        for by in distances:  # and back: rows that are nearer than `by` to the first hold what it does
            number = number + behind[by] * (earlier(number, by) - number)
    return number


def _sizes(number: SharedArray, is_first: SharedArray, bad: SharedArray) -> SharedArray:
    """Return of each row how many accounts have its number, and a large number if a row of that number is bad.

    Args:
      number: of each row's account.
      is_first: which row is the first of its account.
    """
    counted = as_numbers(is_first) + _BAD * as_numbers(bad)
    number, counted, place = sort_by([number], [number, counted, numbered(number, int32)])
    goes_on = concat([is_first[:1] & False, number[1:] == number[:-1]])
    total = cumulative_sum(counted)
    everything = total[-1:]
    position, begins, before = partition([goes_on], [numbered(number, int32), ~goes_on, total - counted])
    # Behind the last set stands everything, as if another one began there.
    until = everything + selected(begins, before - everything)
    size = concat([until[1:], everything]) - until
    (steps,) = placed(position, [selected(begins, differences(size))])
    return placed(place, [running(steps)])[0]


ISOLATED: Final = Isolated()
