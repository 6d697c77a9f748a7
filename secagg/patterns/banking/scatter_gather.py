"""Scatter-gather: one account pays several that all pay the same third.

Each bank puts in which of its accounts paid which accounts, when first and when last (`transfers` says whose row of a
transfer enters), and the list of its own accounts. A source and a destination are flagged if at least `min_between`
accounts stand between them: the source paid each of these, and each paid the destination, not all of it before the source's
first payment. Accounts that pay more than `max_receivers` others are shops and the like, and stand between nobody.

Learns: a bank, for each of its own accounts, whether it is the source of a flagged pair, stands between one, or is the
destination.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from secagg.mpc import concat, int32, sort_by, stack
from secagg.mpc.arrays import SharedArray
from secagg.mpc.arrays.arithmetic import selected
from secagg.mpc.arrays.handle import as_numbers
from secagg.mpc.arrays.segments import placed, running
from secagg.mpc.tables.runs import any_up_to, earlier
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
        """Follow each payment to whom its receiver paid, and count those between a source and a destination.

        Accounts are compared once. From then on they have numbers of 32 bits.
        """
        pairs, accounts = tables["pairs"], tables["accounts"]
        n, a, k = pairs.rows, accounts.rows, parameters.max_receivers
        ends = Ends(pairs["sender"], pairs["beneficiary"], [accounts["account"]])
        by_source = running(as_numbers(ends.goes, int32.bits)) - 1
        number, by_source = ends.given([ends.numbers(), by_source])
        source, between, nobody = number[:n], number[n : 2 * n], number[:a] * 0
        nothing = pairs.valid & False
        of_accounts = accounts.valid & False
        counts, other, time, by_source = ends.ordered(
            [
                concat([pairs.valid & (source != between), pairs.valid, of_accounts]),
                concat([between, source, nobody]),
                concat([pairs["last"], pairs["first"], accounts["account"] * 0]),
                concat([by_source[:n], by_source[:n], nobody]),
            ]
        )
        kept = [counts, other, time, by_source, ends.place]
        (valid, source, first, by_source, place), there, (destination, last) = ends.followed(
            counts, [other, time], kept, k
        )
        follows = stack(there) & valid & (first <= stack(last)) & (stack(destination) != source)
        source, place, *slots = placed(
            by_source, [source, place, *destination, *(follows[i] for i in range(k))]
        )
        found = _often(source, slots[:k], slots[k:], parameters.min_between)
        often = placed(place - n, [found[:, i] for i in range(k)])
        of_pair = stack(often).any(axis=0)
        *marks, is_source, is_between = ends.ordered(
            [
                *(concat([nothing, slot, of_accounts]) for slot in often),
                concat([of_pair, nothing, of_accounts]),
                concat([nothing, of_pair, of_accounts]),
            ]
        )
        (reached,) = ends.given([ends.any_following(marks)])
        (is_destination,) = ends.ordered([concat([nothing, reached[:n], of_accounts])])
        roles = ends.given(any_up_to([is_source, is_between, is_destination], ends.same))
        columns = {
            name: role[2 * n :]
            for name, role in zip(("source", "between", "destination"), roles, strict=True)
        }
        return Findings(columns, shown=columns["source"] | columns["between"] | columns["destination"])

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


def _often(
    source: SharedArray, destinations: Sequence[SharedArray], follows: Sequence[SharedArray], least: int
) -> SharedArray:
    """Return, shape (rows, slots), what follows with as many others of one source and one destination.

    Rows of one source stand side by side, so a stable sort by destination alone puts them there within each destination.

    Args:
      source: of each row.
      destinations, follows: of each row, by slot.
    """
    n, k = source.shape[0], len(destinations)
    rows = n * k
    there, whom = (stack(list(x), axis=1).reshape(rows) for x in (follows, destinations))
    if rows < least:
        return (there & False).reshape(n, k)
    whose = stack([source] * k, axis=1).reshape(rows)
    # What does not follow goes to account 0, which there is not, and stands apart from all that does.
    whom = selected(there, whom)
    whom, whose, place = sort_by([whom], [whom, whose, numbered(whom, int32)])
    # Of sorted rows, all between two that are alike are like these.
    ahead, upto = slice(least - 1, None), slice(0, rows - least + 1)
    begins = (whom[ahead] == whom[upto]) & (whose[ahead] == whose[upto])
    found, width = concat([begins, there[: least - 1] & False]), 1
    while width < least:
        step = min(width, least - width)
        found, width = found | earlier(found, step), width + step
    (found,) = placed(place, [found])
    return (found & there).reshape(n, k)


SCATTER_GATHER: Final = ScatterGather()
