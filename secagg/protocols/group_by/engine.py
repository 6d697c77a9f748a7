"""The computing parties' side: share, check, merge, group, test, shuffle, open; and what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import RemoteProtocolError, UsageError
from secagg.mpc.bits import (
    LANES,
    ONES,
    Gates,
    add,
    add_gates,
    all_planes,
    any_plane,
    any_plane_gates,
    at_least,
    at_least_gates,
    conjunction,
    plane_order,
    zeros,
)
from secagg.mpc.checkpoints import keep, ready_to_open, taken_up
from secagg.mpc.engines import OPENING_KINDS, costs_of, share_input_bytes
from secagg.mpc.groups import XOR, XOR_BYTES
from secagg.mpc.merge import merge, merge_gates
from secagg.mpc.primitives import Costs, Primitives, Shares, concatenate
from secagg.party import SHARED, PartyId
from secagg.protocols.group_by.layout import Layout, bit_fields, take
from secagg.protocols.group_by.lists import check_counts_gates, check_gates, check_lists
from secagg.protocols.group_by.owner import PlacedRows
from secagg.protocols.group_by.query import Query
from secagg.ring import U64, transpose64

STEPS: Final = (SHARED, "merge", "group", "test", "shuffle")  # the marks of checkpoints


async def compute(
    engine: Primitives, layout: Layout, table: PlacedRows | None, key: bytes | None = None
) -> U64 | None:
    """Do the computing party's part; return what is opened to this party, if it put in rows.

    Args: as `shuffled`.
    """
    rows, _ = await shuffled(engine, layout, table, key)
    with engine.party.phase("open"):
        await ready_to_open(engine)
        return await open_to_owners(rows, layout)


async def shuffled(
    engine: Primitives, layout: Layout, table: PlacedRows | None, key: bytes | None = None
) -> tuple[Shares, Shares | None]:
    """Do the computing party's part up to the opening; return the shuffled rows, and what `check_lists` returns.

    Each step keeps a checkpoint, and a run that goes on begins behind the one that was kept. Shards keep none.

    Args:
      key: of the pseudonyms, which an input party needs again when the run goes on.
    """
    party, query = engine.party, layout.query
    resumes = party.checkpoints.resumes
    held = {} if resumes is None else await taken_up(engine)
    counted: Shares | None = None
    done = 0 if resumes is None else STEPS.index(resumes.mark) + 1

    async def kept(**secrets: Shares) -> None:
        held.clear()
        held.update(secrets)
        await keep(engine, STEPS[done], secrets, {"key": key})

    if done < 1:
        with party.phase("share"):
            await kept(joint=await _share(engine, layout, table))
        done = 1
    if done < 2:
        with party.phase("merge"):
            # The check is begun first: it takes a copy before the merge moves the first row.
            counted, _ = await party.parallel(_check(held["joint"], layout), _merge(held["joint"], layout))
            await kept(joint=held["joint"])
        done = 2
    if done < 3:
        with party.phase("group"):
            await kept(joint=held["joint"], sums=await _sum_groups(held["joint"], layout))
        done = 3
    if done < 4:
        with party.phase("test"):
            flag, opened = await _test(held.pop("sums"), query)
            await kept(joint=held["joint"], flag=flag, opened=opened)
            del flag, opened
        done = 4
    if done < 5:
        with party.phase("shuffle"):
            rows = _to_rows(held.pop("joint"), held.pop("flag"), held.pop("opened"), layout)
            (rows,) = await engine.shuffle(rows)
            await kept(rows=rows)
            del rows
    return held["rows"], counted


async def _share(engine: Primitives, layout: Layout, table: PlacedRows | None) -> Shares:
    query, columns = layout.query, layout.buckets.length * layout.buckets.words
    put_in = layout.key_planes + query.value_planes
    joint = zeros(engine, (layout.planes, columns))

    async def put(owner: PartyId) -> None:
        position = query.input_parties.index(owner)
        where = layout.region(position)
        shape = (put_in, where.stop - where.start)
        value = table.planes() if table is not None and owner == engine.party.me else None
        # The owner has told this party what it heard, so it waits for no opening of an earlier protocol.
        joint[:put_in, where] = await engine.input(XOR, owner, shape, value, owner_sent_before=OPENING_KINDS)
        origin = np.array([ONES if position >> b & 1 else 0 for b in range(query.origin_planes)], np.uint64)
        joint[put_in:, where] = engine.public(XOR, origin[:, None])

    # Inputs of computing parties share rounds. Those of others come in their owners' only lane, one after the other.
    inside = [owner for owner in query.input_parties if owner in engine.computing]
    await engine.party.parallel(*(put(owner) for owner in inside))
    for owner in query.input_parties:
        if owner not in inside:
            await put(owner)
    return joint


async def _check(joint: Shares, layout: Layout) -> Shares | None:
    with joint.engine.party.phase("check"):
        return await check_lists(joint, layout)


async def _merge(joint: Shares, layout: Layout) -> None:
    buckets = layout.buckets
    for lengths in buckets.merges():
        lists = joint[:, : sum(lengths) * buckets.words]
        await merge(lists, lengths=lengths, key_planes=layout.key_planes, block=buckets.block)


async def _sum_groups(joint: Shares, layout: Layout) -> Shares:
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
        chain.append(await conjunction(chain[-1][:-step], equal[(d - 1) * step :]))
    pairs = []
    for d, same in enumerate(chain, start=1):
        pairs += [(same, values[:, d * step :]), (same, values[:, : -d * step])]
    products = await joint.engine.conjunction(pairs)
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


def _spread(query: Query, columns: int, parts: Sequence[tuple[int, Shares]]) -> Shares:
    """Return the XOR of values that begin at some column each, every field in as many planes as its sum has."""
    wide = zeros(parts[0][1].engine, (sum(query.sum_widths), columns))
    for first, values in parts:
        where = slice(first, first + values.shape[-1])
        for into, begin, width in zip(
            _begins(query.sum_widths), _begins(query.widths), query.widths, strict=True
        ):
            target = wide[into : into + width, where]
            target ^= values[begin : begin + width]
    return wide


def _begins(widths: Sequence[int]) -> list[int]:
    return [0, *itertools.accumulate(widths)][:-1]


async def _test(sums: Shares, query: Query) -> tuple[Shares, Shares]:
    """Return the flag of each row, (columns,), and the opened sums where it is set."""
    offsets = [0, *itertools.accumulate(query.sum_widths)]
    tests = []
    for f, begin, end in zip(query.fields, offsets[:-1], offsets[1:], strict=True):
        tests += [(sums[begin:end], f.at_least, False)] if f.at_least else []
        tests += [(sums[begin:end], f.below, True)] if f.below is not None else []
    passed = await sums.engine.party.parallel(*(at_least(planes, bound) for planes, bound, _ in tests))
    verdicts = [~p if below else p for p, (_, _, below) in zip(passed, tests, strict=True)]
    flag = await all_planes(concatenate([v.reshape(1, -1) for v in verdicts]))
    opened = concatenate([sums[:0], *(sums[offsets[i] : offsets[i + 1]] for i in query.opened)])
    return flag, await conjunction(flag, opened)


def _to_rows(joint: Shares, flag: Shares, opened: Shares, layout: Layout) -> Shares:
    """Return the rows in words, shape (buckets, positions, row_words): identity, flag, opened sums, origin."""
    buckets, query = layout.buckets, layout.query
    identity = np.argsort(plane_order(layout.key_planes))[: layout.identity_bits]
    origins = joint[layout.planes - query.origin_planes :]
    planes = concatenate([joint[identity], flag.reshape(1, -1), opened, origins])

    def rows(table: U64) -> U64:
        rows = np.empty((LANES, buckets.words, buckets.length, layout.row_words), np.uint64)
        for word in range(layout.row_words):
            part = np.zeros((LANES, table.shape[1]), np.uint64)
            held = table[word * LANES : (word + 1) * LANES]
            part[: len(held)] = held
            transpose64(part)
            rows[..., word] = part.reshape(LANES, buckets.length, buckets.words).swapaxes(1, 2)
        return rows.reshape(buckets.buckets, buckets.length, layout.row_words)

    return planes.each(rows)


async def open_to_owners(rows: Shares, layout: Layout) -> U64 | None:
    """Open which list each shuffled row came from to the computing parties, then each row to who put it in."""
    engine, query = rows.engine, layout.query
    offset = bit_fields(layout)[-1] + (query.sum_widths[query.opened[-1]] if query.opened else 1)
    origins = rows.into(XOR_BYTES, lambda part: take(part, offset, query.origin_planes).astype(np.uint8))
    origin = await engine.open(origins)
    if origin is None:  # cannot be: it is opened to the computing parties
        raise UsageError("nothing was opened to this computing party")
    flat = rows.reshape(-1, layout.row_words)
    lists = []
    for position, owner in enumerate(query.input_parties):
        where = origin == position
        if (np.count_nonzero(where, axis=1) != layout.buckets.capacities[position]).any():
            others = " or ".join(name for name in engine.computing if name != engine.party.me)
            raise RemoteProtocolError(
                f"the shuffled table does not hold {owner}'s rows, and no row was opened; {others} computed wrongly, and "
                f"it cannot be known which"
            )
        lists.append((flat[np.flatnonzero(where)], [owner]))
    opened = await engine.open_each(lists)
    return next((rows for rows in opened if rows is not None), None)


def cost(layout: Layout, roster: Sequence[PartyId]) -> Cost:
    """Return what a run costs, known from public numbers alone.

    Rounds are exact but for two input parties that both compute: there they may be one fewer, because a computing party
    that receives no input is a step ahead. With four computing parties a party may send a word more or less in each
    round. And a check of two rounds takes place by itself for each 256 MiB that are vouched for.

    Shards take turns, as with one worker a party: then their rounds add up. Each has two rounds or so more, in which shares
    are made anew.

    Args:
      roster: the order in which the parties know each other.
    """
    of_each, shards = _cost_of_each(layout, roster), layout.shards
    if shards == 1:
        return of_each
    computing, costs = layout.query.computing_parties, costs_of(layout.query.computing_parties)
    everybody = range(costs.computing)
    gates = check_counts_gates(layout)
    settle = costs.conjunction(gates.ands // LANES).then(
        costs.open(len(layout.query.input_parties), everybody)
    )
    named = settle.named({f"P_{i}": computing[i] for i in everybody}).payload_bytes
    sent = {name: shards * nbytes + named.get(name, 0) for name, nbytes in of_each.payload_bytes.items()}
    rounds = shards * of_each.rounds + costs.set_up().rounds + gates.rounds + 1
    return Cost(rounds, sent, expected=of_each.expected)


def _cost_of_each(layout: Layout, roster: Sequence[PartyId]) -> Cost:
    query, buckets = layout.query, layout.buckets
    computing, costs = query.computing_parties, costs_of(query.computing_parties)
    gates = _gates(layout, costs)
    everybody = range(costs.computing)
    place = {name: computing.index(name) if name in computing else None for name in query.input_parties}
    put_in, taken_out = {}, {}
    for capacity, name in zip(buckets.capacities, query.input_parties, strict=True):
        put_in[name] = (layout.key_planes + query.value_planes) * capacity * buckets.words * 8
        taken_out[name] = capacity * buckets.buckets * layout.row_words * 8
    inputs = {name: costs.input(nbytes, place[name]) for name, nbytes in put_in.items()}
    openings = [
        costs.open(nbytes, [], outside=[list(roster).index(name)])
        if (i := place[name]) is None
        else costs.open(nbytes, [i])
        for name, nbytes in taken_out.items()
    ]
    shuffle = costs.shuffle(buckets.rows * layout.row_words * 8)
    origins = costs.open(buckets.rows, everybody)
    whole = costs.conjunction(gates.ands // LANES).then(
        *inputs.values(), costs.open(len(query.input_parties), everybody), shuffle, origins, *openings
    )
    sent = dict.fromkeys(roster, 0)
    sent.update(whole.named({f"P_{i}": computing[i] for i in everybody}).payload_bytes)
    for name, i in place.items():
        if i is None:
            sent[name] += share_input_bytes(computing, put_in[name])
    # Announced, compared, and the contributions to the hash key beside the engine's set-up.
    rounds = 2 + max(1, costs.set_up().rounds)
    rounds += max((inputs[name].rounds for name, i in place.items() if i is not None), default=0)
    for name, i in place.items():
        if i is None:  # its message is the first round; it left as soon as the hash key was there
            rounds = max(rounds, 4) + inputs[name].rounds - 1
    rounds += gates.rounds + shuffle.rounds + origins.rounds + max(opening.rounds for opening in openings)
    return Cost(rounds, sent, expected=costs.computing == 4)


def _gates(layout: Layout, costs: Costs) -> Gates:
    """Return ANDs over the whole table, and rounds, of checking, merging, grouping and testing."""
    query, buckets = layout.query, layout.buckets
    rows, parties = buckets.rows, len(query.input_parties)
    ands, rounds = 0, 0
    for lengths in buckets.merges():
        gates, layers = merge_gates(lengths, layout.planes, layout.key_planes)
        ands, rounds = ands + gates * buckets.buckets, rounds + layers
    check = check_gates(layout)
    # side by side; its bits are opened
    ands, rounds = ands + check.ands, max(rounds, check.rounds + costs.open(0, ()).rounds)
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
