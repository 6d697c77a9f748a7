"""The check, on shares, that the list of each input party is well-formed.

Sums over groups are right, and show a party what they should and no more, if in each bucket of each list

  1. keys rise strictly until padding begins, and only padding follows (its mark is a key's highest bit);
  2. no value is above its field's `max`;
  3. the values of padding are zero;

and if

  4. no list holds more rows than its owner announced.

Rules 2 and 3 are one comparison for most fields: a value must stay below a limit, `max + 1` for rows and 1 for padding.
Whatever breaks a rule at any place of a list is folded into one bit, and this bit is opened, one for each list. It is a
function of what the list's owner put in. It tells nothing of a party that keeps to the protocol: there it is zero.

Neither what the keys of padding are nor whether a key belongs into its bucket needs a check; docs/soundness.md says why.

Counting (4) adds bits of one weight three at a time, as in [Wal64]. First it adds within the 64 lanes, where each word is
one term of 64 counters. Then it adds the lanes' counters, each lane moved to lane 0. A constant is added that makes the
sum reach a power of two just where the count is above the announced one.

Learns: the computing parties, one bit a list. Cost: see `check_gates`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from secagg.errors import RemoteProtocolError
from secagg.mpc.bits import (
    LANES,
    ONES,
    Gates,
    add,
    add_gates,
    any_plane,
    any_plane_gates,
    conjunction,
    decide,
    decide_gates,
    less_in_turn,
    less_in_turn_gates,
    less_than,
    less_than_gates,
    plane_order,
    zeros,
)
from secagg.mpc.groups import XOR, XOR_BYTES
from secagg.mpc.merge import merge_gates
from secagg.mpc.primitives import Shares, concatenate
from secagg.party import PartyId
from secagg.protocols.group_by.layout import Layout
from secagg.protocols.group_by.query import Query
from secagg.ring import U64


async def check_lists(joint: Shares, layout: Layout) -> Shares | None:
    """Open one bit for each list, and end the run if it is set.

    Args:
      joint: the lists as they were put in, one after the other; not needed any more after the first wait.

    Returns:
      For `check_counts`, how many rows each list has in this shard. None where the shard is the whole table: there rule 4
      is checked at once.

    Raises:
      RemoteProtocolError: a list breaks the rules; its owner is named.
    """
    bits, counted = await _broken_lists(joint, layout)
    await _open_faults(bits, layout)
    return counted


async def check_counts(counted: Sequence[Shares], layout: Layout) -> None:
    """Check rule 4 over all shards: open one bit for each list, and end the run if it is set.

    Args:
      counted: what `check_lists` returned for each shard, in one session.

    Raises:
      RemoteProtocolError: a list has more rows in all shards than its owner announced; the owner is named.
    """
    counts = np.array(layout.buckets.counts, np.uint64)
    most = len(counted) << len(counted[0])
    top = max(most, *(int(n) for n in counts)).bit_length()
    terms = [concatenate([n[w : w + 1] for n in counted]) for w in range(len(counted[0]))]
    await _open_faults(_lane_0(await _exceed(terms, counts, top))[0], layout)


def check_counts_gates(layout: Layout) -> Gates:
    """Return ANDs in words, and rounds, of `check_counts`."""
    bits = _count_bits(layout)
    top = max(layout.shards << bits, *layout.buckets.counts).bit_length()
    return _exceed_gates([layout.shards] * bits, top, len(layout.query.input_parties))


async def _open_faults(bits: Shares, layout: Layout) -> None:
    engine, query = bits.engine, layout.query
    opened = await engine.open(bits.into(XOR_BYTES, lambda share: share.astype(np.uint8)))
    if opened is not None and opened.any():
        raise _broken([query.input_parties[i] for i in np.flatnonzero(opened)], engine.party.me)


def _broken(owners: Sequence[PartyId], me: PartyId) -> RemoteProtocolError:
    what = (
        "keys do not rise, a value is above the agreed largest, padding is not empty, or there are more rows than "
        "announced; nothing was opened"
    )
    others = [owner for owner in owners if owner != me]
    if not others:
        return RemoteProtocolError(
            f"the list that {me} put in came out as not well-formed ({what}); if {me} runs the program as it is, another "
            f"computing party computed wrongly, and it cannot be known which"
        )
    return RemoteProtocolError(
        f"what {', '.join(others)} put in is not a well-formed list: {what}; ask {others[0]} what it runs",
        peer=others[0],
    )


async def broken_lists(joint: Shares, layout: Layout) -> Shares:
    """Return whether each list breaks the rules, shape (lists,), in lane 0 of each word; the other lanes are zero."""
    return (await _broken_lists(joint, layout))[0]


async def _broken_lists(joint: Shares, layout: Layout) -> tuple[Shares, Shares | None]:
    """Return what `broken_lists` does, and of one shard of several how many rows each list has."""
    whole = layout.shards == 1
    engine, query, words = joint.engine, layout.query, layout.buckets.words
    # A merge that runs beside this moves rows in place.
    held = joint[: layout.key_planes + query.value_planes].copy()
    keys, values = held[: layout.key_planes], held[layout.key_planes :]
    mark = keys[layout.key_planes - 1]
    compare = _compare_in_turn if _in_turn(layout) else _compare_as_trees
    limited, full = _fields(query)
    full_planes = [values[begin : begin + width] for _, begin, width in full]
    (rising, *within), counted, *filled = await engine.party.parallel(
        compare(keys, [(values[begin : begin + w], largest) for largest, begin, w in limited], words),
        _too_many(mark, layout) if whole else _counted(mark, layout),
        *([any_plane(concatenate(full_planes))] if full else []),
    )
    out_of_order, *not_empty = await engine.conjunction(
        [(~rising, ~mark[words:]), *((mark, f) for f in filled)]
    )
    faults = [_between_rows(out_of_order, layout), *(~w for w in within), *not_empty]
    by_row = await any_plane(concatenate([fault.reshape(1, -1) for fault in faults]))
    by_lane = await any_plane(_by_list(by_row, layout))
    broken = await any_plane(
        concatenate([_lanes_apart(by_lane.reshape(1, -1)), *([counted] if whole else [])])
    )
    return _lane_0(broken), None if whole else _lane_0(counted)


def check_gates(layout: Layout) -> Gates:
    """Return ANDs over the whole table, and rounds, of `broken_lists`."""
    return _check_gates(layout, in_turn=_in_turn(layout))


def _check_gates(layout: Layout, *, in_turn: bool) -> Gates:
    buckets = layout.buckets
    lists = len(layout.query.input_parties)
    rows, pairs = buckets.rows, buckets.rows - buckets.buckets
    limited, full = _fields(layout.query)
    order = (less_in_turn_gates if in_turn else less_than_gates)(layout.key_planes)
    limits = [less_in_turn_gates(w) if in_turn else Gates(w, 1) + decide_gates(w) for _, _, w in limited]
    filled = any_plane_gates(sum(w for *_, w in full))
    count = _count_gates(layout)
    ands = order.ands * pairs + (filled.ands + sum(g.ands for g in limits)) * rows + count.ands
    rounds = max(g.rounds for g in (order, filled, count, *limits))
    by_row = any_plane_gates(1 + len(limits) + bool(full))
    ands += pairs + rows * bool(full) + by_row.ands * rows
    by_lane, at_last = any_plane_gates(_max_words(layout)), any_plane_gates(LANES + (layout.shards == 1))
    ands += (by_lane.ands + at_last.ands) * lists * LANES
    return Gates(ands, rounds + 1 + by_row.rounds + by_lane.rounds + at_last.rounds)


def _in_turn(layout: Layout) -> bool:
    """Return whether to compare one bit after the other: fewer gates, in rounds that the merge takes anyway."""
    merges = [merge_gates(n, layout.planes, layout.key_planes) for n in layout.buckets.merges()]
    return _check_gates(layout, in_turn=True).rounds < sum(rounds for _, rounds in merges)


def _fields(query: Query) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Return (max, first plane, planes) of each field: those whose planes hold larger numbers, and the others."""
    begins = [sum(query.widths[:i]) for i in range(len(query.widths))]
    found = [(f.max, begin, w) for f, begin, w in zip(query.fields, begins, query.widths, strict=True)]
    return [f for f in found if f[0] + 1 < 1 << f[2]], [f for f in found if f[0] + 1 == 1 << f[2]]


async def _compare_in_turn(keys: Shares, fields: Sequence[tuple[Shares, int]], step: int) -> list[Shares]:
    """Return whether each key is less than the next row's (not of the last row), then for each field its `_limits`."""
    lower, upper = keys[:, :-step], keys[:, step:]
    places = np.argsort(plane_order(len(keys)))
    mark = keys[len(keys) - 1]
    return await less_in_turn(
        ((lower[p] ^ upper[p], upper[p]) for p in places),
        *(((x ^ limit, limit) for x, limit in _limits(values, largest, mark)) for values, largest in fields),
    )


async def _compare_as_trees(keys: Shares, fields: Sequence[tuple[Shares, int]], step: int) -> list[Shares]:
    """Return what `_compare_in_turn` does, in few rounds."""
    lower, upper = keys[:, :-step], keys[:, step:]
    mark = keys[len(keys) - 1]
    found: list[Shares] = await keys.engine.party.parallel(
        less_than(lower ^ upper, upper),
        *(_below(list(_limits(values, largest, mark))) for values, largest in fields),
    )
    return found


async def _below(bits: Sequence[tuple[Shares, Shares]]) -> Shares:
    """Return whether numbers are less than their limits, as a tree."""
    limits = concatenate([limit.reshape(1, -1) for _, limit in bits])
    differ = concatenate([x.reshape(1, -1) for x, _ in bits]) ^ limits
    return await decide(await conjunction(differ, limits), differ[1:])


def _limits(values: Shares, largest: int, mark: Shares) -> Iterator[tuple[Shares, Shares]]:
    """Yield, lowest bit first, a field's planes and those of what its values must stay below.

    This is `largest + 1` for rows and 1 for padding: both are public, so which of them it is takes no product.
    """
    ones = mark.engine.public(XOR, np.full(mark.shape, ONES))
    nothing = zeros(mark.engine, mark.shape)
    for j in range(len(values)):
        at_rows, at_padding = (largest + 1) >> j & 1, j == 0
        if at_rows and at_padding:
            limit = ones
        elif at_rows:
            limit = ~mark
        else:
            limit = mark if at_padding else nothing
        yield values[j], limit


def _between_rows(out_of_order: Shares, layout: Layout) -> Shares:
    """Return what is known of neighbours, at the earlier row; the last row of a list has none."""
    words = layout.buckets.words
    none = zeros(out_of_order.engine, (words,))
    full = concatenate([out_of_order, none])
    for i in range(len(layout.query.input_parties)):
        stop = layout.region(i).stop
        full[stop - words : stop] = none
    return full


def _max_words(layout: Layout) -> int:
    return max(layout.buckets.capacities) * layout.buckets.words


def _by_list(bits: Shares, layout: Layout) -> Shares:
    """Return a word for each position of a list, shape (words, lists); shorter lists are filled up with zeros."""
    lists = len(layout.query.input_parties)
    table = zeros(bits.engine, (_max_words(layout), lists))
    for i in range(lists):
        where = layout.region(i)
        table[: where.stop - where.start, i] = bits[where]
    return table


def _lanes_apart(bits: Shares) -> Shares:
    """Return each lane of words (n, lists) as lane 0 of a word, shape (64 * n, lists); the other lanes do not count."""
    lanes = np.arange(LANES, dtype=np.uint64)[:, None, None]
    return bits.each(lambda share: (share >> lanes).reshape(-1, share.shape[-1]))


def _lane_0(bits: Shares) -> Shares:
    """Return words with nothing but lane 0: the others hold ORs and sums of some lanes, which nobody may see."""
    return bits.each(lambda share: share & np.uint64(1))


async def _too_many(mark: Shares, layout: Layout) -> Shares:
    """Return whether each list holds more rows than were announced, shape (1, lists), in lane 0; others do not count."""
    return await _exceed(
        await _by_weight(mark, layout), np.array(layout.buckets.counts, np.uint64), _count_bits(layout)
    )


async def _counted(mark: Shares, layout: Layout) -> Shares:
    """Return how many rows each list holds, shape (bits, lists), lowest bit first, in lane 0; others do not count."""
    top = _count_bits(layout)
    summed = await _compress(await _by_weight(mark, layout), top)
    return (await add([_term(summed, i, top) for i in range(2)]))[:top]


async def _by_weight(mark: Shares, layout: Layout) -> list[Shares]:
    """Return for each weight, lowest first, terms that add up to each list's rows, shape (terms, lists), in lane 0."""
    bits = await _compress([_by_list(~mark, layout)], _count_bits(layout))
    return [_lanes_apart(of_weight) for of_weight in bits]


async def _exceed(terms: Sequence[Shares], counts: U64, top: int) -> Shares:
    """Return whether the terms of each list add up to more than its count, shape (1, lists), in lane 0.

    Args:
      terms: for each weight, lowest first, shape (terms, lists); their sum and the counts are below 2**top.
    """
    engine = terms[0].engine
    spare = (np.uint64(1) << np.uint64(top)) - np.uint64(1) - counts
    apart = []
    for weight in range(top):
        plane = engine.public(XOR, ((spare >> np.uint64(weight)) & np.uint64(1))[None])
        apart.append(concatenate([*terms[weight : weight + 1], plane]))
    summed = await _compress(apart, top)
    return (await add([_term(summed, i, top) for i in range(2)]))[top:]


def _count_gates(layout: Layout) -> Gates:
    lists, top = len(layout.query.input_parties), _count_bits(layout)
    gates, terms = _compress_gates([_max_words(layout)], top)
    gates = Gates(gates.ands * lists * LANES, gates.rounds)
    of_weight = [LANES * n for n in terms]
    if layout.shards == 1:
        return gates + _exceed_gates(of_weight, top, lists)
    then, _ = _compress_gates(of_weight, top)
    then += add_gates(top + 1, 2)
    return gates + Gates(then.ands * lists * LANES, then.rounds)


def _exceed_gates(terms: Sequence[int], top: int, lists: int) -> Gates:
    """Return ANDs of bits, and rounds, of `_exceed`."""
    apart = [(terms[w] if w < len(terms) else 0) + 1 for w in range(top)]
    gates, _ = _compress_gates(apart, top)
    gates += add_gates(top + 1, 2)
    return Gates(gates.ands * lists * LANES, gates.rounds)


def _count_bits(layout: Layout) -> int:
    """Return bits that hold the number of places of any list, and every announced count."""
    return max(LANES * _max_words(layout), *layout.buckets.counts).bit_length()


def _term(bits: Sequence[Shares], i: int, top: int) -> Shares:
    """Return the i-th term of each weight up to `top` as a number in slices, zero where there is none."""
    engine, lists = bits[0].engine, bits[0].shape[-1]
    none = zeros(engine, (1, lists))
    planes = [bits[w][i : i + 1] if w < len(bits) and i < len(bits[w]) else none for w in range(top + 1)]
    return concatenate(planes)


async def _compress(bits: Sequence[Shares], top: int) -> list[Shares]:
    """Return at most two terms for each weight below `top`, with the same sum, which is below 2**(top + 1).

    Args:
      bits: for each weight, lowest first, its terms, shape (terms, lists). Of weight `top` any number is left.
    """
    left = list(bits)
    while triples := _triples([len(terms) for terms in left], top):
        cut = [(left[w][:t], left[w][t : 2 * t], left[w][2 * t : 3 * t]) for w, t in triples]
        # majority(a, b, c) = (a ^ c) & (b ^ c) ^ c
        carries = await left[0].engine.conjunction([(a ^ c, b ^ c) for a, b, c in cut])
        grown: list[list[Shares]] = [[terms] for terms in left]
        for (w, t), (a, b, c), carry in zip(triples, cut, carries, strict=True):
            carry ^= c
            grown[w][:1] = [a ^ b ^ c, left[w][3 * t :]]  # behind them a carry may stand already
            if w + 1 == len(grown):
                grown.append([])
            grown[w + 1].append(carry)
        left = [concatenate(terms) for terms in grown]
    if len(left) > top:  # a sum below 2**(top + 1) has at most one term there that is not zero
        total = left[top][:1]
        for i in range(1, len(left[top])):
            total = total ^ left[top][i : i + 1]
        left[top] = total
    return left


def _triples(terms: Sequence[int], top: int) -> list[tuple[int, int]]:
    """Return for each weight below `top` that has three terms or more how many triples of them to add."""
    return [(w, n // 3) for w, n in enumerate(terms[:top]) if n >= 3]


def _compress_gates(terms: Sequence[int], top: int) -> tuple[Gates, list[int]]:
    """Return what `_compress` costs a list, in ANDs of words, and how many terms of each weight it leaves."""
    left, gates = list(terms), Gates(0, 0)
    while triples := _triples(left, top):
        for w, t in triples:
            if w + 1 == len(left):
                left.append(0)
            left[w] -= 2 * t
            left[w + 1] += t
        gates += Gates(sum(t for _, t in triples), 1)
    return gates, left[:top]
