"""Rows in: what each holder shares for each leaf of the plan, as a matrix of integers and one of bits.

Whose rows a block has is public, and with it the columns that `held` says everybody knows. What is shared is checked to
lie in its range.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import PlanError
from secagg.mpc.arrays import Engine, SharedArray, moves
from secagg.mpc.arrays.arithmetic import is_negative
from secagg.mpc.arrays.dtypes import boolean, int64
from secagg.mpc.arrays.handing_on import blank
from secagg.mpc.arrays.outside import share_with
from secagg.mpc.tables import Column, Table
from secagg.party import Party, PartyId
from secagg.query.encoding import Encoded, Field
from secagg.query.held import Held
from secagg.query.planner import Local, Plan

# What a holder shares of its blocks, in order: of each a matrix of integers and one of bits.
OwnBlocks: TypeAlias = Sequence[tuple[NDArray[np.int64], NDArray[np.bool_]]]


@dataclass(frozen=True, slots=True)
class Block:
    """What one holder shares for one leaf: a matrix of integers and one of bits, whose first row says which rows count."""

    local: Local
    holder: PartyId
    rows: int

    @property
    def held(self) -> Held:
        """What the holder runs and shares."""
        return self.local.held[self.holder]

    @property
    def fields(self) -> tuple[Field, ...]:
        """How the shared columns lie."""
        return self.local.fields_of(self.holder)

    @property
    def integers(self) -> tuple[int, int]:
        """The shape of the integers."""
        return sum(of.kind != "boolean" for of in self.fields), self.rows

    @property
    def bits(self) -> tuple[int, int]:
        """The shape of the bits."""
        fields = self.fields
        return 1 + sum(of.kind == "boolean" for of in fields) + sum(of.nullable for of in fields), self.rows


def blocks(plan: Plan, counts: Mapping[PartyId, Sequence[int]]) -> list[Block]:
    """Return what is shared, in order; `counts` are the announced row counts of each owner's leaves."""
    announced = announced_rows(plan, counts)
    return [whole_block(local, holder, announced) for local in plan.locals for holder in local.holders]


def announced_rows(plan: Plan, counts: Mapping[PartyId, Sequence[int]]) -> dict[tuple[Local, PartyId], int]:
    """Return the announced row count of each leaf and holder; dense leaves have none."""
    left = {owner: iter(each) for owner, each in counts.items()}
    return {
        (local, holder): next(left[holder])
        for local in plan.locals
        if not local.is_dense
        for holder in local.holders
    }


def whole_block(local: Local, holder: PartyId, announced: Mapping[tuple[Local, PartyId], int]) -> Block:
    """Return what a holder shares of a leaf that is not divided."""
    return Block(local, holder, local.per_holder if local.is_dense else max(1, announced[local, holder]))


def matrices(
    block: Block, columns: Sequence[tuple[Encoded, NDArray[np.int64]]], rows: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return a holder's columns as it shares them, filled up.

    Args:
      columns: in the leaf's order, each with its integers.
      rows: which rows count.
    """
    n, held = block.rows, len(rows)
    integers = np.zeros(block.integers, np.int64)
    bits = np.zeros(block.bits, bool)
    bits[0, :held] = rows
    place, bit = 0, 1
    for column, values in columns:
        if column.of.kind == "boolean":
            bits[bit, :held] = values != 0
            bit += 1
        else:
            integers[place, :held] = values
            place += 1
        if column.of.nullable:
            bits[bit, :held] = False if column.null is None else column.null
            bit += 1
    if held > n:
        raise PlanError(f"expected at most {n} rows of {block.local.table}, got {held}")
    return integers, bits


async def share_rows(party: Party, computing: Sequence[PartyId], inputs: OwnBlocks) -> None:
    """Share this party's blocks, in order, with the computing parties; it is none of them."""
    for integers, bits in inputs:
        if integers.size:
            await share_with(party, computing, integers)
        await share_with(party, computing, bits, dtype=bool)


def shared_table(
    engine: Engine, block: Block, mine: tuple[NDArray[np.int64], NDArray[np.bool_]] | None
) -> Table:
    """Return a holder's block as a table."""
    integers = None
    if math.prod(block.integers):
        integers = engine.share(None if mine is None else mine[0], owner=block.holder, shape=block.integers)
    bits = engine.share(None if mine is None else mine[1], owner=block.holder, shape=block.bits, dtype=bool)
    return _table(engine, block, integers, bits)


def shared_tables(
    engine: Engine,
    several: Sequence[Block],
    inputs: OwnBlocks,
) -> list[tuple[Block, Table]]:
    """Return blocks as tables; inputs: this party's, in order."""
    own = iter(inputs)
    me = engine.party.me
    return [
        (block, shared_table(engine, block, next(own, None) if block.holder == me else None))
        for block in several
    ]


def blank_table(engine: Engine, block: Block) -> Table:
    """Return a table as a holder's block is one, without values; see `handing_on`."""
    integers = blank(engine, block.integers, int64) if math.prod(block.integers) else None
    return _table(engine, block, integers, blank(engine, block.bits, boolean))


def _table(engine: Engine, block: Block, integers: SharedArray | None, bits: SharedArray) -> Table:
    shared: dict[str, Column] = {}
    place, bit = 0, 1
    for of in block.fields:
        if of.kind == "boolean" or integers is None:
            values, bit = bits[bit], bit + 1
        else:
            values, place = integers[place], place + 1
        null = None
        if of.nullable:
            null, bit = bits[bit], bit + 1
        shared[of.name] = Column(values, null)
    columns = {}
    for of in block.local.fields:
        if of.name in block.held.known:
            columns[of.name] = _known(engine, of, block.held.known[of.name].value, block.rows)
        else:
            columns[of.name] = shared[block.held.same.get(of.name, of.name)]
    return Table(columns, bits[0])


def _known(engine: Engine, of: Field, value: int | str | None, rows: int) -> Column:
    kind = bool if of.kind == "boolean" else np.int64
    null = engine.public(np.full(rows, value is None)) if of.nullable else None
    return Column(engine.public(np.full(rows, int(value or 0), kind)), null)


def out_of_range(block: Block, table: Table) -> SharedArray | None:
    """Return whether a holder shared a number outside its range; None where it shared none that has one.

    What stands where a value is NULL is read by nobody, and so is a row that does not count, but for a dense group-by.
    """
    fields = [of for of in block.fields if of.kind not in ("boolean", "identifier")]
    if not fields:
        return None
    low, high = (
        np.repeat(np.array([[getattr(of, end)] for of in fields], np.int64), block.rows, axis=1)
        for end in ("low", "high")
    )
    values = moves.stack([table[of.name].values for of in fields])
    # Modulo 2**64 both differences are signed and from 0 just where the value is in the range.
    wrong: SharedArray = is_negative(moves.stack([values - low, -(values - high)])).any(axis=0)
    if any(of.nullable for of in fields):
        wrong = wrong & ~moves.stack([table[of.name].is_null for of in fields])
    if not block.local.is_dense:
        wrong = wrong.any(axis=0) & table.valid
    found: SharedArray = wrong.reshape(-1).any()
    return found


def outside_ranges(several: Sequence[tuple[Block, Table]]) -> list[tuple[SharedArray, str]]:
    """Return for each block with ranges whether its holder shared a number outside one, and that in words."""
    return [
        (
            outside,
            f"{block.holder} shared numbers of {block.local.table} outside the range that the plan gives them",
        )
        for block, table in several
        if (outside := out_of_range(block, table)) is not None
    ]


def of_another_shard(table: Table, name: str, shard: int, shards: int) -> SharedArray:
    """Return whether a row counts whose identifier lies in another shard; shape ().

    Args:
      name: of the identifiers. A shard has those whose leading bits, of 64, are its number.
      shards: a power of two from 2.
    """
    width = (1 << 64) // shards
    low, high = np.array([shard * width, (shard + 1) * width - 1], np.uint64).view(np.int64)
    values = table[name].values
    # As for ranges of numbers: no shard is wider than half of all integers.
    wrong = is_negative(moves.stack([values - low, -(values - high)])).any(axis=0) & table.valid
    found: SharedArray = wrong.any()
    return found


def sizes(several: Sequence[Block], holder: PartyId) -> list[int]:
    """Return the bytes of each matrix that a holder shares: bits in words of 64."""
    found = []
    for block in several:
        if block.holder == holder:
            integers, bits = math.prod(block.integers), math.prod(block.bits)
            found += [8 * integers] * (integers > 0) + [-(-bits // 64) * 8]
    return found


def combinations(keys: Sequence[Any]) -> list[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Return the keys' values of each combination, and where they are NULL; the last key runs fastest, NULL is last."""
    each = []
    for key in keys:
        low, high = key.domain.bounds
        values: list[int | None] = list(range(low, high + 1))
        each.append([*values, None] if key.domain.nullable else values)
    rows = list(itertools.product(*each))
    found = []
    for i, key in enumerate(keys):
        column = [row[i] for row in rows]
        kind = bool if key.domain.kind == "boolean" else np.int64
        null = np.array([value is None for value in column], bool)
        found.append((np.array([value or 0 for value in column]).astype(kind), null))
    return found
