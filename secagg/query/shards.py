"""A query in shards: each shard in a session of its own, and what is above them in one more.

  divide     owners draw the hash key and divide their rows; whose rows do not fit into the blocks ends the run before it
             shares anything
  compute    for each shard: owners share their blocks; computing parties work out the shard's part of the plan, and keep
             shares of its rows, of bits that say what is wrong, such as a row that belongs to another shard, and of how
             many rows each block has; nothing is opened
  finish     these shares are made anew; over all shards bits are joined by OR, and numbers of rows added up; one bit of each
             check is opened; the rest of the plan is computed of all shards' rows, and the result opened

The caller sees to it that all shards are computed before `finish` begins, and that all computing parties' `KeptShard` of a
shard are of one session. A `compute` that broke off is done again, with other keys and masks.

Threat model: as `joint_run`. Learns: as there, and what docs/soundness-shards.md names besides; of a shard by itself nobody
anything. Cost: `costs_of_shards`.

The module is long because what a shard hands on, and what takes it up, have to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.cost.operation import Cost
from secagg.errors import PlanError, UsageError
from secagg.mpc import tables
from secagg.mpc.arrays import Engine, SharedArray, moves, reductions
from secagg.mpc.arrays.dtypes import int64
from secagg.mpc.arrays.handing_on import hand_on, take_up
from secagg.mpc.arrays.handle import as_numbers
from secagg.mpc.arrays.keeping import Stages
from secagg.mpc.arrays.rehearsal import cost, receive_nothing, share_nothing
from secagg.mpc.engines import share_input_bytes
from secagg.mpc.groups import Array
from secagg.mpc.tables import Column, Table
from secagg.party import SHARED, Party, PartyId
from secagg.protocols.pseudonyms import agree_hash_key
from secagg.query.algebra import Relation
from secagg.query.announcement import Announced
from secagg.query.blocks import (
    Block,
    OwnBlocks,
    announced_rows,
    blank_table,
    matrices,
    of_another_shard,
    outside_ranges,
    share_rows,
    shared_tables,
    sizes,
)
from secagg.query.division import DividedPlan, FromShards, Leaf
from secagg.query.encoding import Encoded, pseudonymous
from secagg.query.execute import Execution
from secagg.query.owner import Part, Prepared
from secagg.query.planner import Local
from secagg.query.results import (
    Opened,
    Shape,
    open_checks,
    open_to_receivers,
    receive_result,
    receive_shape,
    result_table,
    rows_of,
)
from secagg.query.rows import Ratio, Rows
from secagg.query.terms import QueryTerms

_LABEL: Final = "query shard"


@dataclass(frozen=True, slots=True, eq=False)
class KeptShard:
    """What a computing party holds of a shard that is computed: its shares.

    Attributes:
      arrays: of each array that is handed on, in order.
    """

    arrays: Sequence[Sequence[Array]] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class _OwnRows:
    """An owner's rows of a leaf, divided.

    Attributes:
      columns: as it shares them, each with its integers; in their own order.
      order: the row numbers of all shards, one shard after the other.
      begins: where each shard begins in `order`, and where the last one ends.
    """

    block: Block
    columns: Sequence[tuple[Encoded, NDArray[np.int64]]] = field(repr=False)
    order: NDArray[np.int64] = field(repr=False)
    begins: NDArray[np.int64] = field(repr=False)

    def of(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return what is shared in a shard."""
        rows = self.order[self.begins[shard] : self.begins[shard + 1]]
        columns = [
            (replace(column, null=None if column.null is None else column.null[rows]), values[rows])
            for column, values in self.columns
        ]
        return matrices(self.block, columns, np.ones(len(rows), bool))


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """What a party puts in, divided into shards; its `repr` shows no value.

    Attributes:
      inputs: what it shares once, in order.
      names: of identifiers, those of its own rows; none where it is told none.
    """

    inputs: OwnBlocks = field(default_factory=list, repr=False)
    names: Mapping[int, str] = field(default_factory=dict, repr=False)
    divided: Sequence[_OwnRows] | None = field(default=None, repr=False)

    def own(self, shard: int) -> OwnBlocks | None:
        """Return what this party shares in a shard, in order; None if it puts in no rows that are divided."""
        return [one.of(shard) for one in self.divided] if self.divided else None


async def run_shard_after_shard(
    party: Party, d: DividedPlan, terms: QueryTerms, announced: Announced, mine: Prepared | None
) -> list[tuple[Any, ...]] | None:
    """Take part in all shards, one after the other in one session: for tests, and to see what shards cost.

    Raises: as `divide`, `compute_shard` and `finish`.
    """
    division = await divide(party, d, terms, announced, mine)
    counts = announced.counts
    kept = [
        await compute_shard(party, d, terms, counts, k, division.own(k), label=str(k))
        for k in range(d.shards)
    ]
    return await finish(party, d, terms, announced, division, kept)


async def divide(
    party: Party, d: DividedPlan, terms: QueryTerms, announced: Announced, mine: Prepared | None
) -> Division:
    """Agree on the hash key, and divide this party's rows into shards; at a party that puts in nothing, do nothing.

    Raises:
      PlanError: more of this party's rows fell into a shard than its block has; nothing was shared.
      RemoteProtocolError: as `agree_hash_key`.
    """
    if mine is None:
        return Division()
    with party.phase("share"):
        key = await agree_hash_key(party, announced.contribution, announced.contributions)
        parts = {part.local: part for part in mine.parts}
        is_told = party.me in terms.recipients and any(
            column.domain.kind == "identifier" for column in d.plan.root.columns
        )
        names: dict[int, str] = {}
        integers: dict[Local, list[tuple[Encoded, NDArray[np.int64]]]] = {}
        for local, part in parts.items():
            integers[local] = _integers(part, key, names if is_told else None)
        divided = [
            _by_shard(leaf, block, integers[leaf.local], d.shards)
            for leaf, block in d.blocks(announced.counts)
            if block.holder == party.me
        ]
        inputs = [
            matrices(block, integers[block.local], parts[block.local].rows)
            for block in d.main_blocks(announced.counts)
            if block.holder == party.me
        ]
        return Division(inputs, names, divided)


def _integers(
    part: Part, key: bytes, names: dict[int, str] | None
) -> list[tuple[Encoded, NDArray[np.int64]]]:
    """Return an owner's columns with their integers; `names` takes in what identifiers stand for."""
    found = []
    for column in part.columns:
        values = column.values
        if column.of.kind == "identifier":
            values, known = pseudonymous(column, key)
            if names is not None:
                names |= known
        found.append((column, values))
    return found


def _by_shard(
    leaf: Leaf, block: Block, columns: Sequence[tuple[Encoded, NDArray[np.int64]]], shards: int
) -> _OwnRows:
    name = block.held.same.get(leaf.column, leaf.column)
    (pseudonyms,) = [values for column, values in columns if column.of.name == name]
    shard = (pseudonyms.view(np.uint64) >> np.uint64(64 - (shards.bit_length() - 1))).astype(np.int64)
    fullest = int(np.max(np.bincount(shard, minlength=1), initial=0))
    if fullest > block.rows:
        raise PlanError(
            f"more than the {block.rows} rows of {leaf.local.table} that are kept for {block.holder} fell into one shard, "
            "which happens at most once in 2**40 runs; nothing was shared; run again, which draws a new hash key"
        )
    order = np.argsort(shard, kind="stable")
    return _OwnRows(block, columns, order, np.searchsorted(shard[order], np.arange(shards + 1)))


# A shard.


@dataclass(frozen=True)
class _Outputs:
    """What a shard hands on.

    Attributes:
      wrong: bits, each with what is wrong where it is set.
      elsewhere: of each block, whether a row of another shard counts, shape ().
      counted: how many rows of each block count, shape (1,).
      rows: of each part of the plan.
    """

    wrong: Sequence[tuple[SharedArray, str]]
    elsewhere: Sequence[SharedArray]
    counted: Sequence[SharedArray]
    rows: Sequence[Rows]

    @property
    def arrays(self) -> list[SharedArray]:
        """All of it, in order."""
        found = [*(bit for bit, _ in self.wrong), *self.elsewhere, *self.counted]
        for rows in self.rows:
            found.append(rows.table.valid)
            for column in rows.table.columns.values():
                found += [column.values] if column.null is None else [column.values, column.null]
        return found

    def of(self, arrays: Sequence[SharedArray]) -> _Outputs:
        """Return outputs of the same form, made of these arrays in the order of `arrays`."""
        left = iter(arrays)
        wrong = [(next(left), what) for _, what in self.wrong]
        elsewhere = [next(left) for _ in self.elsewhere]
        counted = [next(left) for _ in self.counted]
        by_part = []
        for rows in self.rows:
            valid = next(left)
            columns = {
                name: Column(next(left), None if column.null is None else next(left))
                for name, column in rows.table.columns.items()
            }
            by_part.append(rows.with_table(Table(columns, valid)))
        return _Outputs(wrong, elsewhere, counted, by_part)


def _outputs(
    engine: Engine, d: DividedPlan, by_block: Sequence[tuple[Leaf, Block, Table]], shard: int
) -> _Outputs:
    """Return what a shard hands on, not worked out yet."""
    wrong = outside_ranges([(block, table) for _, block, table in by_block])
    by_part = []
    for part in d.parts:
        shared: dict[Local, list[Table]] = {}
        for leaf, _, table in by_block:
            if leaf in part.leaves:
                shared.setdefault(leaf.local, []).append(table)
        execution = Execution(engine, shared)
        by_part.append(_handed_on(execution(part.relation), part))
        wrong += execution.checks
    elsewhere = [of_another_shard(table, leaf.column, shard, d.shards) for leaf, _, table in by_block]
    counted = [reductions.sum(as_numbers(table.valid, int64.bits), keepdims=True) for *_, table in by_block]
    return _Outputs(wrong, elsewhere, counted, by_part)


def _handed_on(rows: Rows, part: FromShards) -> Rows:
    """Return the rows of a part with as few places as are known to be enough, and hidden columns called by the part."""
    table, ratios = rows.table, {}
    for name, ratio in rows.ratios.items():
        called = {old: f"{old}\0{part.number}" for old in (ratio.numerator, ratio.denominator)}
        table = table.renamed(called)
        ratios[name] = Ratio(called[ratio.numerator], called[ratio.denominator], ratio.of)
    if part.rows_of_each is not None and table.order.packed and table.rows > part.rows_of_each:
        first = slice(0, part.rows_of_each)
        columns = {
            name: Column(c.values[first], None if c.null is None else c.null[first])
            for name, c in table.columns.items()
        }
        table = Table(columns, table.valid[first])
    return Rows(table, ratios)


def _of_shard(
    engine: Engine, d: DividedPlan, blocks: Sequence[tuple[Leaf, Block]], shard: int, own: OwnBlocks
) -> list[SharedArray]:
    """Return what a shard hands on; nobody else keeps what it is computed of, so that it is freed once it is used."""
    given = shared_tables(engine, [block for _, block in blocks], own)
    by_block = [(leaf, block, table) for (leaf, _), (block, table) in zip(blocks, given, strict=True)]
    return _outputs(engine, d, by_block, shard).arrays


async def compute_shard(
    party: Party,
    d: DividedPlan,
    terms: QueryTerms,
    counts: Mapping[PartyId, Sequence[int]],
    shard: int,
    own: OwnBlocks | None,
    *,
    label: str = "",
) -> KeptShard | None:
    """Compute a shard; return what a computing party keeps of it.

    Args:
      counts: what owners announced.
      shard: its number.
      own: of `Division.own`.
      label: tells apart the shards of one session.

    Raises:
      RemoteProtocolError: a peer sent what the protocol forbids.
    """
    blocks = d.blocks(counts)
    mine = [block for _, block in blocks if block.holder == party.me]
    if own is not None and len(own) != len(mine):
        raise UsageError(f"expected {len(mine)} blocks of {party.me} in a shard, got {len(own)}")
    if party.me not in terms.computing:
        with party.phase("share"):
            await share_rows(party, terms.computing, own or [])
        return None
    engine = await Engine.create(party, terms.computing, label=f"{_LABEL} {label}")
    arrays = _of_shard(engine, d, blocks, shard, own or [])
    with party.phase("share"):
        await Stages(engine).share(SHARED, arrays)
    with party.phase("compute"):
        return KeptShard(await hand_on(engine, arrays))


# All shards.


async def finish(
    party: Party,
    d: DividedPlan,
    terms: QueryTerms,
    announced: Announced,
    division: Division,
    kept: Sequence[KeptShard | None],
) -> list[tuple[Any, ...]] | None:
    """Compute what is left of a plan whose shards are computed; return the rows that this party is told, None for nothing.

    Args:
      kept: of each shard what `compute_shard` returned; of one session at all computing parties.

    Raises:
      DataError: a key that was declared unique is not, or an owner shared more rows than it announced, rows in another
        shard than theirs, or numbers outside their ranges; of all shards together, and nothing of the result was opened.
      RemoteProtocolError: a peer sent what the protocol forbids.
    """
    if party.me in terms.computing:
        shares = [None if one is None else one.arrays for one in kept]
        if len(shares) != d.shards or None in shares:
            raise UsageError(f"expected what {party.me} keeps of {d.shards} shards, got less")
        opened = await _finish(party, d, terms, announced.counts, division.inputs, shares)
    else:
        opened = None
        if division.inputs:
            with party.phase("share"):
                await share_rows(party, terms.computing, division.inputs)
        if party.me in terms.receivers:
            with party.phase("open"):
                opened = await receive_result(party, terms.computing, d.plan.fields)
    return None if opened is None else rows_of(opened, division.names)


async def _finish(
    party: Party,
    d: DividedPlan,
    terms: QueryTerms,
    counts: Mapping[PartyId, Sequence[int]],
    inputs: OwnBlocks,
    kept: Sequence[Sequence[Sequence[Array]] | None],
) -> list[Opened] | None:
    """Take part at a computing party; return the opened result if it is a receiver."""
    engine = await Engine.create(party, terms.computing, label="query")
    # Of whatever shard: only shapes are asked for.
    like = _outputs(
        engine, d, [(leaf, block, blank_table(engine, block)) for leaf, block in d.blocks(counts)], 0
    )
    once = shared_tables(engine, d.main_blocks(counts), inputs)
    with party.phase("share"):
        several = [like.of(arrays) for arrays in await take_up(engine, like.arrays, kept)]
    with party.phase("compute"):
        checks, matrix, shape = _above_shards(engine, d, counts, once, several)
    del once, several, like  # what is used is freed
    with party.phase("share"):
        await Stages(engine).share(SHARED, [*(bit for bit, _ in checks), matrix])
    with party.phase("open"):
        await open_checks(engine, checks)
        return await open_to_receivers(engine, [(terms.receivers, matrix, shape)])


def _above_shards(
    engine: Engine,
    d: DividedPlan,
    counts: Mapping[PartyId, Sequence[int]],
    once: Sequence[tuple[Block, Table]],
    several: Sequence[_Outputs],
) -> tuple[list[tuple[SharedArray, str]], SharedArray, Shape]:
    """Return what is to be checked, and what is opened of the result, not worked out yet.

    Args:
      once: what is shared once.
      several: what each shard handed on.
    """
    shared: dict[Local, list[Table]] = {}
    for block, table in once:
        shared.setdefault(block.local, []).append(table)
    given: dict[Relation, Rows] = {
        part: first.with_table(tables.concat([one.rows[i].table for one in several]))
        for i, (part, first) in enumerate(zip(d.parts, several[0].rows, strict=True))
    }
    execution = Execution(engine, shared, given)
    matrix, shape = result_table(execution(d.root), d.plan.fields)
    checks = outside_ranges(once) + _of_all_shards(d, counts, several)
    # A group that has rows in two shards would break a key that groups make. It would tell who put them there of a group of
    # others' rows.
    elsewhere = _any([bit for one in several for bit in one.elsewhere])
    checks += [(bit & ~elsewhere, what) for bit, what in execution.checks]
    return checks, matrix, shape


def _of_all_shards(
    d: DividedPlan, counts: Mapping[PartyId, Sequence[int]], several: Sequence[_Outputs]
) -> list[tuple[SharedArray, str]]:
    """Return what is wrong in any shard, and what each owner's rows of all shards together have wrong."""
    found = [
        (_any([one.wrong[i][0] for one in several]), what) for i, (_, what) in enumerate(several[0].wrong)
    ]
    announced = announced_rows(d.plan, counts)
    for i, (leaf, block) in enumerate(d.blocks(counts)):
        elsewhere = _any([one.elsewhere[i] for one in several])
        found.append(
            (
                elsewhere,
                f"{block.holder} shared rows of {leaf.local.table} in other shards than their identifiers'",
            )
        )
        total = reductions.sum(moves.concat([one.counted[i] for one in several]))
        more = total > announced[leaf.local, block.holder]
        found.append((more, f"{block.holder} shared more rows of {leaf.local.table} than it announced"))
    return found


def _any(bits: Sequence[SharedArray]) -> SharedArray:
    found: SharedArray = reductions.any(moves.concat([moves.reshape(bit, -1) for bit in bits]))
    return found


def costs_of_shards(
    d: DividedPlan, terms: QueryTerms, counts: Mapping[PartyId, Sequence[int]], before: Any
) -> tuple[Cost, Cost]:
    """Return what each shard costs, and what the main session does, with what all parties send; sorts as expected.

    Args:
      before: what each party does before it divides its rows.
    """

    async def one_shard(party: Party) -> None:
        await compute_shard(party, d, terms, counts, 0, None)

    async def the_rest(party: Party) -> None:
        await before(party)
        await _finish(party, d, terms, counts, [], [None] * d.shards)

    async def outside_shard(party: Party) -> None:
        for _ in sizes(of_each, party.me):
            await share_nothing(party, terms.computing)

    async def outside_the_rest(party: Party) -> None:
        await before(party)
        for _ in sizes(once, party.me):
            await share_nothing(party, terms.computing)
        told = party.me in terms.receivers
        if told and (await receive_shape(party, terms.computing, d.plan.fields)).rows:
            await receive_nothing(party, terms.computing, int64)

    of_each, once = [block for _, block in d.blocks(counts)], d.main_blocks(counts)
    nothing = dict.fromkeys(terms.parties, ())
    outside = [name for name in terms.parties if name not in terms.computing]

    def costs(program: Any, other: Any, several: Sequence[Block]) -> Cost:
        of = cost(program, nothing, computing=terms.computing, outside=dict.fromkeys(outside, other))
        sent = {name: of.payload_bytes.get(name, 0) for name in terms.parties}
        for name in outside:
            sent[name] += sum(share_input_bytes(terms.computing, n) for n in sizes(several, name))
        return Cost(of.rounds, sent, expected=of.expected)

    return costs(one_shard, outside_shard, of_each), costs(the_rest, outside_the_rest, once)
