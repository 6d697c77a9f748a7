"""The computing parties' side: share, check, merge, group, test, shuffle, open; and what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from secagg.cost.operation import Cost
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
from secagg.mpc.groups import XOR
from secagg.mpc.merge import merge, merge_gates
from secagg.mpc.three.engine import Opening, ThreeEngine, outside_opener
from secagg.mpc.three.shuffle import SHUFFLE_ROUNDS, shuffle, shuffle_payload_bytes
from secagg.party import PartyId
from secagg.protocols.group_by.layout import Layout, bit_fields, take
from secagg.protocols.group_by.lists import check_gates, check_lists
from secagg.protocols.group_by.owner import PlacedRows
from secagg.protocols.group_by.query import Query
from secagg.ring import U64, transpose64


async def compute(engine: ThreeEngine, layout: Layout, table: PlacedRows | None) -> U64 | None:
    """Do the computing party's part; return what is opened to this party, if it put in rows."""
    party, query = engine.party, layout.query
    with party.phase("share"):
        joint = await _share(engine, layout, table)
    with party.phase("merge"):
        # The check is begun first: it takes a copy before the merge moves the first row.
        await party.parallel(_check(joint, layout), _merge(joint, layout))
    with party.phase("group"):
        sums = await _sum_groups(joint, layout)
    with party.phase("test"):
        flag, opened = await _test(sums, query)
    with party.phase("shuffle"):
        rows = _to_rows(joint, flag, opened, layout)
        del joint, sums, flag, opened
        rows = await shuffle(rows, XOR)
    with party.phase("open"):
        return await _open_to_owners(rows, layout)


async def _share(engine: ThreeEngine, layout: Layout, table: PlacedRows | None) -> SharedBits:
    query, columns = layout.query, layout.buckets.length * layout.buckets.words
    put_in = layout.key_planes + query.value_planes
    joint = SharedBits(engine, *(np.zeros((layout.planes, columns), np.uint64) for _ in range(2)))
    # Own rows first, so that inputs of computing parties travel in one round; outside parties' last, because the
    # computing parties compare their copies in one common order.
    for owner in sorted(query.input_parties, key=lambda p: (p not in engine.computing, p != engine.party.me)):
        position = query.input_parties.index(owner)
        where = layout.region(position)
        value = table.planes() if table is not None and owner == engine.party.me else None
        shape = (put_in, where.stop - where.start)
        # The owner has told this party what it heard, so it waits for no opening of an earlier protocol.
        part = await input_bits(engine, owner, shape, value, owner_sent_before=(Opening,))
        joint.share_0[:put_in, where] = part.share_0
        joint.share_1[:put_in, where] = part.share_1
        origin = np.array([ONES if position >> b & 1 else 0 for b in range(query.origin_planes)], np.uint64)
        constant = public_bits(engine, np.repeat(origin[:, None], where.stop - where.start, axis=1))
        joint.share_0[put_in:, where] = constant.share_0
        joint.share_1[put_in:, where] = constant.share_1
    return joint


async def _check(joint: SharedBits, layout: Layout) -> None:
    with joint.engine.party.phase("check"):
        await check_lists(joint, layout)


async def _merge(joint: SharedBits, layout: Layout) -> None:
    buckets = layout.buckets
    for lengths in buckets.merges():
        lists = joint[:, : sum(lengths) * buckets.words]
        await merge(lists, lengths=lengths, key_planes=layout.key_planes, block=buckets.block)


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
    terms = [_spread(query, values.shape[-1], [(0, values)])]
    for d in range(1, parties):
        # What comes from d rows below and from parties - d rows above cannot both be there: the group would
        # have more rows than there are parties. So one XOR joins them; of padding both are zero.
        parts = [(0, products[2 * (d - 1)])] if d <= len(chain) else []
        if (up := parties - d) <= len(chain):
            parts.append((up * step, products[2 * (up - 1) + 1]))
        terms.append(_spread(query, values.shape[-1], parts))
    # Sums stay within their fields, as planned, so one addition over all of them carries nothing across.
    return await add(terms)


def _spread(query: Query, columns: int, parts: Sequence[tuple[int, SharedBits]]) -> SharedBits:
    """Return the XOR of values that begin at some column each, every field in as many planes as its sum has."""
    wide = [np.zeros((sum(query.sum_widths), columns), np.uint64) for _ in range(2)]
    for first, values in parts:
        where = slice(first, first + values.shape[-1])
        for into, begin, width in zip(
            _begins(query.sum_widths), _begins(query.widths), query.widths, strict=True
        ):
            for target, source in zip(wide, (values.share_0, values.share_1), strict=True):
                target[into : into + width, where] ^= source[begin : begin + width]
    return SharedBits(parts[0][1].engine, *wide)


def _begins(widths: Sequence[int]) -> list[int]:
    return [0, *itertools.accumulate(widths)][:-1]


async def _test(sums: SharedBits, query: Query) -> tuple[SharedBits, SharedBits]:
    """Return the flag of each row, (columns,), and the opened sums where it is set."""
    offsets = [0, *itertools.accumulate(query.sum_widths)]
    tests = []
    for f, begin, end in zip(query.fields, offsets[:-1], offsets[1:], strict=True):
        tests += [(sums[begin:end], f.at_least, False)] if f.at_least else []
        tests += [(sums[begin:end], f.below, True)] if f.below is not None else []
    passed = await sums.engine.party.parallel(*(at_least(planes, bound) for planes, bound, _ in tests))
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
        (joint.share_0, flag.share_0, opened.share_0),
        (joint.share_1, flag.share_1, opened.share_1),
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


async def _open_to_owners(rows: SharedBits, layout: Layout) -> U64 | None:
    engine, query = rows.engine, layout.query
    offset = bit_fields(layout)[-1] + (query.sum_widths[query.opened[-1]] if query.opened else 1)
    x, y = (
        take(share, offset, query.origin_planes).astype(np.uint8) for share in (rows.share_0, rows.share_1)
    )
    engine.send_opening(x, y, engine.computing)
    origin = await engine.receive_opened(XOR, x, y)
    mine = None
    flat = [share.reshape(-1, layout.row_words) for share in (rows.share_0, rows.share_1)]
    for position, owner in enumerate(query.input_parties):
        where = origin == position
        if (np.count_nonzero(where, axis=1) != layout.buckets.capacities[position]).any():
            a, b = (name for name in engine.computing if name != engine.party.me)
            raise RemoteProtocolError(
                f"the shuffled table does not hold {owner}'s rows, and no row was opened; {a} or {b} computed wrongly, and "
                f"it cannot be known which"
            )
        places = np.flatnonzero(where)
        held = flat[0].take(places, axis=0), flat[1].take(places, axis=0)
        engine.send_opening(*held, [owner])
        if owner == engine.party.me:
            mine = held
    return None if mine is None else await engine.receive_opened(XOR, *mine)


def cost(layout: Layout, roster: Sequence[PartyId]) -> Cost:
    """Return what a run costs, known from public numbers alone.

    Args:
      roster: the order in which the parties know each other.
    """
    query, buckets = layout.query, layout.buckets
    gates = _gates(layout)
    sent = dict.fromkeys(roster, 0)
    computing = query.computing_parties
    for i, name in enumerate(computing):
        # ANDs, a byte a list, two of three shuffle hops, and the origins, one byte a row
        sent[name] += gates.ands // 8 + len(query.input_parties)
        sent[name] += shuffle_payload_bytes(buckets.rows * layout.row_words * 8) + buckets.rows
        if name in query.input_parties:
            capacity = buckets.capacities[query.input_parties.index(name)]
            sent[computing[i - 1]] += capacity * buckets.buckets * layout.row_words * 8
    for capacity, name in zip(buckets.capacities, query.input_parties, strict=True):
        put_in = (layout.key_planes + query.value_planes) * capacity * buckets.words * 8
        sent[name] += put_in if name in computing else 2 * put_in
        if name not in computing:
            opened = capacity * buckets.buckets * layout.row_words * 8
            first = outside_opener(roster, name)
            sent[computing[first]] += 2 * opened
            sent[computing[(first + 1) % 3]] += opened
    return Cost(_rounds(query, roster, gates.rounds), sent)


def _rounds(query: Query, roster: Sequence[PartyId], and_rounds: int) -> int:
    """Return the longest chain of messages, by following how deep each computing party is."""
    inside = [name in query.input_parties for name in query.computing_parties]
    outside = set(query.input_parties) - set(query.computing_parties)
    depth = [3 if bank else 2 for bank in inside]  # announcements, compared; hash key

    def receive(*senders: Sequence[int]) -> None:
        """All send, then each reads from its `senders` (relative positions)."""
        before = depth.copy()
        for i in range(3):
            depth[i] = max([before[i], *(before[(i + k) % 3] + 1 for k in senders[i])])

    receive(*[(1, 2)] * 3)  # pair secrets
    receive(*[(2,) if inside[i - 1] else () for i in range(3)])  # inputs
    if outside:
        depth = [max(d, 4) for d in depth]
    for _ in outside:
        receive(*[(1, 2)] * 3)  # digests of what an outside party handed over
    for _ in range(and_rounds):
        receive((1,), (1,), (1,))
    for hop in range(SHUFFLE_ROUNDS):
        receive(*[((1,), (2,), ())[(i - hop) % 3] for i in range(3)])
    receive((2,), (2,), (2,))  # origins
    openers = {(outside_opener(roster, name) + k) % 3 for name in outside for k in range(2)}
    last = [depth[i] + 1 for i in openers]
    receive(*[(2,) if inside[i] else () for i in range(3)])  # rows to their owners
    return max(*depth, *last)


def _gates(layout: Layout) -> Gates:
    """Return ANDs over the whole table, and rounds, of checking, merging, grouping and testing."""
    query, buckets = layout.query, layout.buckets
    rows, parties = buckets.rows, len(query.input_parties)
    ands, rounds = 0, 0
    for lengths in buckets.merges():
        gates, layers = merge_gates(lengths, layout.planes, layout.key_planes)
        ands, rounds = ands + gates * buckets.buckets, rounds + layers
    check = check_gates(layout)
    ands, rounds = ands + check.ands, max(rounds, check.rounds + 1)  # side by side; its bits are opened
    # neighbours at distance d: length - d of them in each bucket
    neighbours = [rows - d * buckets.buckets for d in range(1, min(parties, buckets.length))]
    equal = any_plane_gates(layout.key_planes)
    ands += equal.ands * neighbours[0] + sum(neighbours[1:]) + 2 * query.value_planes * sum(neighbours)
    rounds += equal.rounds + len(neighbours)
    tests = [
        at_least_gates(width)
        for f, width in zip(query.fields, query.sum_widths, strict=True)
        for _ in range(bool(f.at_least) + (f.below is not None))
    ]
    each_row = add_gates(sum(query.sum_widths), parties) + any_plane_gates(len(tests))
    each_row += Gates(sum(t.ands for t in tests), max(t.rounds for t in tests))
    each_row += Gates(sum(query.sum_widths[i] for i in query.opened), 1)
    return Gates(ands + each_row.ands * rows, rounds + each_row.rounds)
