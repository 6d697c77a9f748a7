"""The computing parties' side: share, merge, group, test, shuffle, open; and what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from secagg.errors import RemoteProtocolError
from secagg.mpc.bits import (
    LANES,
    ONES,
    Gates,
    SharedBits,
    add,
    add_gates,
    all_planes,
    and_batch,
    any_plane,
    any_plane_gates,
    at_least,
    at_least_gates,
    block_order,
    input_bits,
    public_bits,
)
from secagg.mpc.merge import merge, merge_gates
from secagg.mpc.replicated import XOR, Engine
from secagg.mpc.shuffle import SHUFFLE_ROUNDS, shuffle
from secagg.protocols.joint_groups.holder import PlacedRows
from secagg.protocols.joint_groups.layout import Layout, bit_fields, take
from secagg.protocols.joint_groups.query import Query
from secagg.ring import U64, transpose64


async def compute(engine: Engine, layout: Layout, table: PlacedRows | None) -> U64 | None:
    """Do the computing party's part; return what is opened to this party, if it put in rows."""
    party, query, buckets = engine.party, layout.query, layout.buckets
    with party.phase("share"):
        joint = await _share(engine, layout, table)
    with party.phase("merge"):
        for length in buckets.merged_lengths():
            tail = joint[:, (buckets.length - length) * buckets.words :]
            await merge(tail, length=length, key_planes=layout.key_planes, block=buckets.block)
    with party.phase("group"):
        sums = await _sum_groups(joint, layout)
    with party.phase("test"):
        flag, opened = await _test(sums, query)
    with party.phase("shuffle"):
        rows = _to_rows(joint, flag, opened, layout)
        del joint, sums, flag, opened
        rows = await shuffle(rows, XOR)
    with party.phase("open"):
        return await _open_to_holders(rows, layout)


async def _share(engine: Engine, layout: Layout, table: PlacedRows | None) -> SharedBits:
    query, columns = layout.query, layout.buckets.length * layout.buckets.words
    put_in = layout.key_planes + query.value_planes
    joint = SharedBits(engine, *(np.zeros((layout.planes, columns), np.uint64) for _ in range(2)))
    # Own rows first, so that all inputs travel in one round.
    for owner in sorted(query.input_parties, key=lambda p: p != engine.party.me):
        position = query.input_parties.index(owner)
        where = layout.region(position)
        value = table.planes() if table is not None and owner == engine.party.me else None
        part = await input_bits(engine, owner, (put_in, where.stop - where.start), value)
        joint.first[:put_in, where] = part.first
        joint.second[:put_in, where] = part.second
        origin = np.array([ONES if position >> b & 1 else 0 for b in range(query.origin_planes)], np.uint64)
        constant = public_bits(engine, np.repeat(origin[:, None], where.stop - where.start, axis=1))
        joint.first[put_in:, where] = constant.first
        joint.second[put_in:, where] = constant.second
    return joint


async def _sum_groups(joint: SharedBits, layout: Layout) -> SharedBits:
    """Return, for each row, the sums over all rows with its key, shape (value planes, columns)."""
    query, step = layout.query, layout.buckets.words
    keys = joint[: layout.key_planes]
    values = joint[layout.key_planes : layout.key_planes + query.value_planes]
    parties = len(query.input_parties)
    equal = ~(await any_plane(keys[:, :-step] ^ keys[:, step:]))  # row i and row i + 1
    # chain[d - 1]: rows i to i + d are all of one group; a group has at most one row of each party
    chain = [equal]
    for d in range(2, parties):
        if chain[-1].shape[-1] <= step:
            break
        chain.append(await (chain[-1][:-step] & equal[(d - 1) * step :]))
    pairs = []
    for d, same in enumerate(chain, start=1):
        pairs += [(same, values[:, d * step :]), (same, values[:, : -d * step])]
    products = await and_batch(pairs)
    terms = [values]
    for d in range(1, parties):
        # What comes from d rows below and from parties - d rows above cannot both be there: the group would
        # have more rows than there are parties. So one XOR joins them; of padding both are zero.
        term = SharedBits(joint.engine, np.zeros_like(values.first), np.zeros_like(values.second))
        if d <= len(chain):
            term[:, : -d * step].__ixor__(products[2 * (d - 1)])
        if (up := parties - d) <= len(chain):
            term[:, up * step :].__ixor__(products[2 * (up - 1) + 1])
        terms.append(term)
    # Sums stay within their fields, as planned, so one addition over all of them carries nothing across.
    return await add([_widened(term, query) for term in terms])


def _widened(values: SharedBits, query: Query) -> SharedBits:
    """Return values with each field in as many planes as its sum has."""
    planes = np.concatenate(
        [np.arange(begin, begin + w) for begin, w in zip(_begins(query.sum_widths), query.widths, strict=True)]
    )
    wide = [np.zeros((sum(query.sum_widths), values.shape[-1]), np.uint64) for _ in range(2)]
    wide[0][planes], wide[1][planes] = values.first, values.second
    return SharedBits(values.engine, *wide)


def _begins(widths: Sequence[int]) -> list[int]:
    return [0, *itertools.accumulate(widths)][:-1]


async def _test(sums: SharedBits, query: Query) -> tuple[SharedBits, SharedBits]:
    """Return the flag of each row, (columns,), and the opened sums where it is set."""
    offsets = [0, *itertools.accumulate(query.sum_widths)]
    tests = []
    for f, begin, end in zip(query.fields, offsets[:-1], offsets[1:], strict=True):
        tests += [(sums[begin:end], f.at_least, False)] if f.at_least else []
        tests += [(sums[begin:end], f.below, True)] if f.below is not None else []
    passed = await sums.engine.party.together(*(at_least(planes, bound) for planes, bound, _ in tests))
    verdicts = [~p if below else p for p, (_, _, below) in zip(passed, tests, strict=True)]
    flag = await all_planes(SharedBits.concatenate([v.reshape(1, -1) for v in verdicts]))
    opened = SharedBits.concatenate([sums[:0], *(sums[offsets[i] : offsets[i + 1]] for i in query.opened)])
    return flag, (await and_batch([(flag, opened)]))[0]


def _to_rows(joint: SharedBits, flag: SharedBits, opened: SharedBits, layout: Layout) -> SharedBits:
    """Return the rows in words, shape (buckets, positions, row_words): identity, flag, opened sums, origin."""
    buckets, query = layout.buckets, layout.query
    shares = []
    identity = np.argsort(block_order(layout.key_planes))[: layout.identity_bits]
    for table, bit, total in (
        (joint.first, flag.first, opened.first),
        (joint.second, flag.second, opened.second),
    ):
        planes = [*table[identity], bit, *total, *table[layout.planes - query.origin_planes :]]
        rows = np.empty((LANES, buckets.words, buckets.length, layout.row_words), np.uint64)
        for word in range(layout.row_words):
            part = np.zeros((LANES, table.shape[1]), np.uint64)
            for i, plane in enumerate(planes[word * LANES : (word + 1) * LANES]):
                part[i] = plane
            transpose64(part)
            rows[..., word] = part.reshape(LANES, buckets.length, buckets.words).swapaxes(1, 2)
        shares.append(rows.reshape(buckets.buckets, buckets.length, layout.row_words))
    return SharedBits(joint.engine, *shares)


async def _open_to_holders(rows: SharedBits, layout: Layout) -> U64 | None:
    engine, query = rows.engine, layout.query
    offset = bit_fields(layout)[-1] + (query.sum_widths[query.opened[-1]] if query.opened else 1)
    x, y = (take(share, offset, query.origin_planes).astype(np.uint8) for share in (rows.first, rows.second))
    engine.send_opening(x, y, engine.computing)
    origin = await engine.receive_opened(XOR, x, y)
    mine = None
    for position, owner in enumerate(query.input_parties):
        where = origin == position
        if (where.sum(axis=1) != layout.buckets.capacities[position]).any():
            raise RemoteProtocolError(f"the shuffled table does not hold {owner}'s rows; nothing is opened")
        held = rows.first[where], rows.second[where]
        engine.send_opening(*held, [owner])
        if owner == engine.party.me:
            mine = held
    return None if mine is None else await engine.receive_opened(XOR, *mine)


def cost(layout: Layout) -> Gates:
    """Return AND gates over the whole table and rounds of the computing parties, after sharing."""
    query, buckets = layout.query, layout.buckets
    rows, parties = buckets.rows, len(query.input_parties)
    ands, rounds = 0, 0
    for length in buckets.merged_lengths():
        gates, layers = merge_gates(length, layout.planes, layout.key_planes)
        ands, rounds = ands + gates * buckets.buckets, rounds + layers
    equal = any_plane_gates(layout.key_planes)
    neighbours = rows - buckets.buckets
    ands, rounds = ands + equal.ands * neighbours, rounds + equal.rounds
    chain = [neighbours]
    for d in range(2, parties):
        if buckets.length - d < 1:
            break
        chain.append(rows - d * buckets.buckets)
        ands, rounds = ands + chain[-1], rounds + 1
    ands += sum(2 * query.value_planes * c for c in chain)
    total = Gates(0, 1) + add_gates(sum(query.sum_widths), parties)
    tests = [Gates(0, 0)]
    for f, width in zip(query.fields, query.sum_widths, strict=True):
        tests += [at_least_gates(width)] * (bool(f.at_least) + (f.below is not None))
    side_by_side = tests[0]
    for t in tests[1:]:
        side_by_side = side_by_side.beside(t)
    total = total + side_by_side + any_plane_gates(len(tests) - 1)
    total = total + Gates(sum(query.sum_widths[i] for i in query.opened), 1)
    return Gates(ands + total.ands * rows, rounds + total.rounds + SHUFFLE_ROUNDS + 2)
