"""The order of a shuffled table, by opened comparisons [HKI+12].

Threat model: that of the engine. The table's rows have been shuffled, so that nobody knows which row stands where. Its
numbers are distinct. Then every outcome that is opened is a function of the ranks of the rows as they stand, a permutation
that is uniform whatever the numbers are (docs/soundness.md).

Quicksort with pivots from a sorted sample, as in samplesort [FM70]:

1. A prefix of the rows, 2**k - 1 of them, is sorted first, itself in this way.
2. The middle of the sorted prefix splits the other rows, its quarters split the two parts, and so on for k levels. Where the
   other rows are few, each is compared with all pivots of several levels at once.
3. Parts without sorted rows take their first row as pivot.
4. Parts of up to 3 rows compare all pairs. So do all parts once this takes few comparisons more.

All comparisons of a level are one opening; more than `comparisons.PAIRS` are several. Parts without a row that is asked for
are left as they are.

Memory: step 2 takes `STRETCH` of the other rows at a time through all its levels. Steps 3 and 4 take as many parts at a time
as have so many rows. So what a level needs does not grow with the table.

Cost for n rows: about n log2(n) comparisons, in up to about 2 log2(n) levels. Both are random; see `expectation`.
Every level takes at least one row out of each part, so that n (n - 1) / 2 comparisons are never passed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg.mpc.sorting.comparisons import Comparisons, Rows, Verdicts

# One row of so many is in the sorted prefix: more cost comparisons, fewer make parts uneven. Where rounds cost more than
# comparisons, a longer prefix costs none, as its levels are taken several at once.
_SHARE: Final = 32
_SHARE_OF_FEW: Final = 8
_LEAST_PREFIX: Final = 63
SMALL: Final = 3  # three rows take 3 comparisons by all pairs and 2 2/3 by pivots, and a level more
FEW: Final = 20_000  # comparisons that take about as long as the rounds of a level
STRETCH: Final = 1 << 21  # rows that go through levels together; they take some 200 bytes each meanwhile


class Parts(NamedTuple):
    """Parts of the order that are not sorted yet: runs of rows that lie between rows whose rank is known.

    Attributes:
      start: the rank of the least row of each, shape (parts,).
      sorted, others: how many rows of each are in order already, and how many are not, shape (parts,).
      sorted_rows, other_rows: these rows, part after part.
    """

    start: Rows
    sorted: Rows
    others: Rows
    sorted_rows: Rows
    other_rows: Rows

    def where(self, chosen: Verdicts) -> Parts:
        if chosen.all():
            return self
        return Parts(
            self.start[chosen],
            self.sorted[chosen],
            self.others[chosen],
            self.sorted_rows[np.repeat(chosen, self.sorted)],
            self.other_rows[np.repeat(chosen, self.others)],
        )

    def pairs(self) -> Rows:
        """Return the comparisons of all pairs of each, but for those whose outcome is known."""
        return self.others * (2 * self.sorted + self.others - 1) // 2

    def excess(self) -> int:
        """Return how many comparisons fewer are expected if a level goes before those of all pairs."""
        return int(excess(self.sorted, self.others)[self.sorted + self.others > SMALL].sum())


def prefixes(n: int) -> list[int]:
    """Return how many rows are sorted first, second, ...; the last is n."""
    sizes = [n]
    while True:
        share = _SHARE_OF_FEW if sizes[-1] < FEW else _SHARE
        size = (1 << (sizes[-1] // share + 1).bit_length() - 1) - 1
        if size < _LEAST_PREFIX:
            return sizes[::-1]
        sizes.append(size)


def excess(in_order: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Return how many comparisons fewer are expected of parts of so many rows if a level goes before those of all pairs.

    A pivot out of j rows takes j - 1 comparisons and leaves (j - 1) (j - 2) / 3 pairs of j (j - 1) / 2. One from the middle
    of s sorted rows takes o, and leaves about o (2 s + o) / 4 of o (2 s + o - 1) / 2.
    """
    by_row, by_middle = (others - 1) * (others - 2) / 6, others * (2 * in_order + others - 6) / 4
    return np.asarray(np.where(in_order > 0, np.maximum(by_middle, 0), by_row))


def widths(rows: int, levels: int) -> list[int]:
    """Return how many levels are taken at once, one time after the other, to place so many rows among sorted ones.

    Taking w levels at once is 2**w - 1 comparisons a row.
    """

    def weight(taken: list[int]) -> int:
        return sum(((1 << width) - 1) * rows + FEW for width in taken)

    ways = [[levels // times + (i < levels % times) for i in range(times)] for times in range(1, levels + 1)]
    return min(ways, key=weight, default=[])


async def rows_in_order(compare: Comparisons, n: int, wanted: int | None = None) -> Rows:
    """Return the rows of a table from the least to the greatest.

    Args:
      compare: opens comparisons of the table's rows.
      n: how many rows there are, in an order that is uniform and known to nobody.
      wanted: how many of the least are asked for; None for all.
    """
    order = np.arange(n)
    wanted = n if wanted is None else wanted
    done = min(n, 1)
    for size in prefixes(n):
        await _sort_prefix(compare, order, size, done, wanted if size == n else size)
        done = size
    return order[:wanted]


async def _sort_prefix(compare: Comparisons, order: Rows, size: int, done: int, wanted: int) -> None:
    """Sort `order[:size]` in place, of which `order[:done]` is sorted, as far as the first `wanted`."""
    if done > 1 and wanted == size:
        together = await _among_sorted(compare, order, size, done)
        stretches = list(_stretches(together))
        del together
    else:
        start, in_order, others = (np.array([number]) for number in (0, done, size - done))
        stretches = [Parts(start, in_order, others, order[:done].copy(), order[done:size].copy())]
    while stretches:
        await _sort_parts(compare, order, stretches.pop(0), wanted)


async def _sort_parts(compare: Comparisons, order: Rows, parts: Parts, wanted: int) -> None:
    """Sort parts, and write them into the order, as far as the first `wanted` of all rows."""
    while (parts := _unsettled(order, parts, wanted)).start.size:
        by_pairs = parts.sorted + parts.others <= SMALL
        if parts.excess() <= FEW:
            by_pairs[:] = True
        ending, splitting = parts.where(by_pairs), parts.where(~by_pairs)
        members, i, j = _all_pairs(ending)
        splitting, pivots = _take_pivots(splitting)
        verdicts = await compare.less(
            np.concatenate([members[i], splitting.other_rows]),
            np.concatenate([members[j], np.repeat(pivots, splitting.others)]),
        )
        _place_by_wins(order, ending, members, i, j, verdicts[: i.size])
        parts = _split(order, splitting, pivots, verdicts[i.size :])


async def _among_sorted(compare: Comparisons, order: Rows, size: int, done: int) -> Parts:
    """Find for each row behind a sorted prefix of 2**k - 1 rows where it stands among these, in k levels.

    Other rows stay where they are until all levels are done, so that levels taken one by one cut them into bit planes once.
    """
    pivots, others = order[:done].copy(), order[done:size].copy()
    among = np.zeros(others.size, np.int64)  # so many pivots are known to be less
    for begin in range(0, others.size, STRETCH):
        rows, less = others[begin : begin + STRETCH], among[begin : begin + STRETCH]
        step, planes = done + 1, None
        for width in widths(rows.size, done.bit_length()):
            step >>= width
            if width == 1:
                planes = compare.cut(rows) if planes is None else planes
                less += step * (await compare.greater(planes, pivots[less + (step - 1)]))
                continue
            ends = step * np.arange(1, 1 << width)[:, None] - 1
            found = await compare.less(pivots[less + ends].reshape(-1), np.tile(rows, len(ends)))
            less += step * np.count_nonzero(found.reshape(len(ends), -1), axis=0)
        del planes
    held = np.bincount(among, minlength=done + 1)
    start = np.cumsum(held) - held + np.arange(done + 1)
    order[start[1:] - 1] = pivots
    nothing = np.zeros(done + 1, np.int64)
    return Parts(start, nothing, held, pivots[:0], others[_stable_order(among, done)])


def _stretches(parts: Parts) -> Iterator[Parts]:
    """Yield parts without sorted rows, as many at a time as have about `STRETCH` rows."""
    ends = np.cumsum(parts.others)
    cuts = np.searchsorted(ends, np.arange(STRETCH, parts.other_rows.size, STRETCH)).tolist()
    for a, b in itertools.pairwise([0, *cuts, ends.size]):
        rows = slice(ends[a - 1] if a else 0, ends[b - 1] if b else 0)
        yield Parts(
            parts.start[a:b],
            parts.sorted[a:b],
            parts.others[a:b],
            parts.sorted_rows,
            parts.other_rows[rows].copy(),
        )


def _stable_order(numbers: Rows, most: int) -> Rows:
    """Return numpy's stable argsort of numbers from 0 to `most`; it counts digits where they are short."""
    short = numbers.astype(np.uint16 if most < 1 << 16 else np.int64)
    return np.argsort(short, kind="stable")


def _unsettled(order: Rows, parts: Parts, wanted: int) -> Parts:
    """Write parts that are sorted into the order; return the others that reach below `wanted`."""
    settled = parts.where(parts.others == 0)
    of, place = _ramps(settled.sorted)
    order[settled.start[of] + place] = settled.sorted_rows
    return parts.where((parts.others > 0) & (parts.start < wanted))


def _ramps(lengths: Rows) -> tuple[Rows, Rows]:
    """Return, for runs of so many items, which run each item is in, and its place there."""
    of = np.repeat(np.arange(lengths.size), lengths)
    return of, np.arange(of.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _in_turn(a: Rows, b: Rows) -> Rows:
    """Return the first item of a, the first of b, the second of a, ..."""
    return np.stack([a, b], 1).reshape(-1)


def _alternating(a: Rows, in_a: Rows, b: Rows, in_b: Rows) -> Rows:
    """Return runs of a and b in turn; run k of a has in_a[k] rows."""
    from_a = np.repeat(np.tile([True, False], in_a.size), _in_turn(in_a, in_b))
    out = np.empty(from_a.size, np.int64)
    out[from_a] = a
    out[~from_a] = b
    return out


def _all_pairs(parts: Parts) -> tuple[Rows, Rows, Rows]:
    """Return the rows of parts, part after part, and indices i and j of pairs of them whose order is not known yet."""
    members = _alternating(parts.sorted_rows, parts.sorted, parts.other_rows, parts.others)
    sizes = parts.sorted + parts.others
    of, place = _ramps(sizes)
    known = place < parts.sorted[of]
    j, place = np.flatnonzero(~known), place[~known]
    of_pair, k = _ramps(place)  # the row at place p of its part is compared with the p before it
    return members, (j - place)[of_pair] + k, j[of_pair]


def _place_by_wins(order: Rows, parts: Parts, members: Rows, i: Rows, j: Rows, i_less: Verdicts) -> None:
    """Write parts into the order, of which all pairs have been compared."""
    of, place = _ramps(parts.sorted + parts.others)
    # A row's rank in its part is how many rows are less. Those that were in order know each other.
    less = np.where(place < parts.sorted[of], place, 0)
    less += np.bincount(j[i_less], minlength=members.size)
    less += np.bincount(i[~i_less], minlength=members.size)
    order[parts.start[of] + less] = members


def _take_pivots(parts: Parts) -> tuple[Parts, Rows]:
    """Return the parts without their pivots, and these: the middle of the sorted rows, or the first of the others."""
    at_sorted = (np.cumsum(parts.sorted) - parts.sorted + parts.sorted // 2)[parts.sorted > 0]
    at_others = (np.cumsum(parts.others) - parts.others)[parts.sorted == 0]
    pivots = np.empty(parts.start.size, np.int64)
    pivots[parts.sorted > 0] = parts.sorted_rows[at_sorted]
    pivots[parts.sorted == 0] = parts.other_rows[at_others]
    left = parts._replace(
        others=parts.others - (parts.sorted == 0),
        sorted_rows=np.delete(parts.sorted_rows, at_sorted),
        other_rows=np.delete(parts.other_rows, at_others),
    )
    return left, pivots


def _split(order: Rows, parts: Parts, pivots: Rows, is_less: Verdicts) -> Parts:
    """Write pivots into the order; return the parts before and behind each, whose rows stay in the order that they have.

    Args:
      parts: without the pivots, which `sorted` still counts.
    """
    before = parts.sorted // 2
    behind = np.maximum(parts.sorted - before - 1, 0)
    ends = np.cumsum(parts.others)
    wins = np.concatenate([[0], np.cumsum(is_less)])
    less = wins[ends] - wins[ends - parts.others]
    rank = parts.start + before + less
    order[rank] = pivots
    return Parts(
        _in_turn(parts.start, rank + 1),
        _in_turn(before, behind),
        _in_turn(less, parts.others - less),
        parts.sorted_rows,
        _alternating(parts.other_rows[is_less], less, parts.other_rows[~is_less], parts.others - less),
    )
