"""Sorting agrees with numpy's stable argsort, opens nothing that depends on keys, and costs what it declares."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest

from clear import run_clear
from secagg.errors import ShapeError, UsageError
from secagg.mpc import engines
from secagg.mpc.clear import ClearEngine
from secagg.mpc.groups import XOR, XOR_BYTES
from secagg.mpc.numbers import RingGroup
from secagg.mpc.sorting import comparisons as opened_comparisons
from secagg.mpc.sorting import methods, quicksort
from secagg.mpc.sorting.comparisons import Comparisons
from secagg.mpc.sorting.expectation import comparisons
from secagg.mpc.sorting.keys import Key, check_rows, place_bits
from secagg.mpc.sorting.methods import Method, cheapest, sort, sort_cost
from secagg.mpc.sorting.permutations import invert, place, take
from secagg.network.simulated import simulate
from secagg.ring import Ring, to_planes

POSITIONS = RingGroup(Ring(32))
SHORT = RingGroup(Ring(16))


def positions(engine, n):
    return engine.public(POSITIONS, np.arange(n, dtype=np.uint32))


def in_clear(x):
    return x.parts[0]


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("n", [0, 1, 2, 64, 151])
def test_rows_are_sorted_by_several_columns_as_numpy_does(method, n):
    rng = np.random.default_rng(n)
    a = rng.integers(-2, 2, n)  # few values, so that later keys and places decide
    width = 64 - place_bits(n) if n else 64  # one bit of it stands in the second word of a row
    b = rng.integers(0, 3, n).astype(np.uint64) << np.uint64(width - 2)
    stray = rng.integers(0, 1 << 64 - width, n).astype(np.uint64) << np.uint64(width % 64)
    c = rng.integers(0, 2, n).astype(np.uint64)
    payload = rng.integers(0, 1 << 64, (n, 2), np.uint64, endpoint=False)

    async def program(engine):
        keys = [
            Key(engine.public(SHORT, a.astype(np.uint16)), signed=True),
            Key(engine.public(XOR, b | stray), bits=width, descending=True),
            Key(engine.public(XOR, to_planes(c, 1)), rows=n),
        ]
        columns = [positions(engine, n), engine.public(XOR, payload)]
        return [in_clear(x) for x in await sort(keys, columns, method=method)]

    order, moved = run_clear(program)
    expected = np.lexsort((c, -(b >> np.uint64(width - 2)).astype(np.int64), a))  # lexsort is stable
    assert np.array_equal(order, expected)
    assert np.array_equal(moved, payload[expected])


@pytest.mark.parametrize("first", [None, 2, 3000])
def test_a_sorted_prefix_splits_longer_tables(first):
    n = 3000
    assert quicksort.prefixes(n) == [255, n]
    keys = np.random.default_rng(1).integers(0, 500, n).astype(np.uint16)

    async def program(engine):
        column = Key(engine.public(SHORT, keys), descending=True)
        return in_clear((await sort([column], [positions(engine, n)], first=first))[0])

    expected = np.argsort(-keys.astype(np.int64), kind="stable")
    assert np.array_equal(run_clear(program), expected[:first])


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("first", [0, 1, 3, 5])
def test_either_method_returns_as_many_rows_as_are_asked_for(method, first):
    numbers = np.array([4, 1, 3, 1, 0], np.uint16)

    async def program(engine):
        column = Key(engine.public(SHORT, numbers))
        return in_clear((await sort([column], [positions(engine, 5)], first=first, method=method))[0])

    assert run_clear(program).tolist() == [4, 1, 3, 2, 0][:first]


def test_rows_without_order_keep_theirs():
    async def program(engine):
        alike = Key(engine.public(XOR, np.zeros(70, np.uint64)), bits=7)
        return in_clear((await sort([alike], [positions(engine, 70)]))[0])

    assert np.array_equal(run_clear(program), np.arange(70))


def test_permutations_are_applied_and_inverted_in_secret():
    rng = np.random.default_rng(3)
    n = 77
    order, x = rng.permutation(n), rng.integers(0, 1 << 64, (n, 2), np.uint64, endpoint=False)

    async def program(engine):
        shared, column = engine.public(POSITIONS, order.astype(np.uint32)), engine.public(XOR, x)
        results = [*await place(shared, column), *await take(shared, column), await invert(shared)]
        return [in_clear(result) for result in results]

    placed, taken, inverse = run_clear(program)
    assert np.array_equal(placed[order], x)
    assert np.array_equal(taken, x[order])
    assert np.array_equal(inverse, np.argsort(order))


@pytest.mark.parametrize("numbers", [[0, 2, 2], [0, 1, 3], [0, 1, 2**32 - 1]])
def test_numbers_that_are_no_permutation_are_refused(numbers):
    async def program(engine):
        return await invert(engine.public(POSITIONS, np.array(numbers, np.uint32)))

    with pytest.raises(UsageError, match="expected a permutation of 0 to 2"):
        run_clear(program)


def test_bad_arguments_are_refused():
    async def program(engine):
        words, planes = (
            engine.public(XOR, np.zeros(3, np.uint64)),
            engine.public(XOR, np.zeros((4, 1), np.uint64)),
        )
        short, key = engine.public(SHORT, np.zeros(2, np.uint16)), Key(words, bits=8)
        wrong: list[tuple[Any, dict[str, Any]]] = [
            *((words, options) for options in ({}, {"bits": 0}, {"bits": 65}, {"bits": 4, "rows": 3})),
            *((planes, options) for options in ({}, {"bits": 4})),
            *((short, options) for options in ({"bits": 16}, {"rows": 2})),
            (engine.public(XOR_BYTES, np.zeros(3, np.uint8)), {}),
        ]
        for column, options in wrong:
            with pytest.raises(UsageError):
                Key(column, **options)
        with pytest.raises(ShapeError):
            Key(planes, rows=65)
        with pytest.raises(ShapeError):
            Key(planes.reshape(2, 2, 1), rows=3)
        with pytest.raises(UsageError):
            await sort([], [words])
        for keys, columns in (([key, Key(short)], [words]), ([key], [short])):
            with pytest.raises(ShapeError):
                await sort(keys, columns)
        for ranks, columns in (
            (words, [short]),
            (planes, []),
            (words, [engine.public(XOR, np.zeros((), np.uint64))]),
        ):
            with pytest.raises(ShapeError):
                await place(ranks, *columns)
        for first in (-1, 4):
            with pytest.raises(UsageError):
                await sort([key], [words], first=first)
        other = ClearEngine(engine.party).public(XOR, np.zeros(3, np.uint64))
        for keys, columns in (([key, Key(other, bits=8)], [words]), ([key], [other])):
            with pytest.raises(UsageError):
                await sort(keys, columns)

    run_clear(program)


def test_too_many_rows_and_keys_of_two_engines_are_refused(monkeypatch):
    async def program(engine):
        one, other = (e.public(XOR, np.zeros(3, np.uint64)) for e in (engine, ClearEngine(engine.party)))
        with pytest.raises(UsageError, match="columns of one engine"):
            check_rows([Key(one, bits=8), Key(other, bits=8)])
        assert check_rows([Key(one, bits=8)]) == 3
        monkeypatch.setattr("secagg.mpc.sorting.keys.LARGEST", 2)
        with pytest.raises(UsageError, match="at most 2 rows"):
            check_rows([Key(one, bits=8)])

    run_clear(program)


class Overheard(ClearEngine):
    """An engine in the clear that shuffles by given orders and notes what is opened."""

    def __init__(self, party, orders):
        super().__init__(party)
        self.orders = iter(orders)
        self.opened = []

    async def shuffle(self, *arrays):
        order = np.array(next(self.orders))
        return [array.each(lambda part: part[:, order]) for array in arrays]

    async def open(self, x, to=None):
        value = await super().open(x, to)
        assert value is not None
        self.opened.append(value.tobytes())
        return value


def transcripts(keys, bits, method, first=None):
    """Return how often each sequence of openings comes, over all orders of each shuffle."""
    n, shuffles = len(keys), 1 if method is Method.QUICKSORT or bits <= 2 else 3

    async def program(party):
        found: Counter[tuple[bytes, ...]] = Counter()
        for orders in itertools.product(itertools.permutations(range(n)), repeat=shuffles):
            engine = Overheard(party, orders)
            column = Key(engine.public(XOR, np.array(keys, np.uint64)), bits=bits)
            await sort([column], [positions(engine, n)], first=first, method=method)
            found[tuple(engine.opened)] += 1
        return found

    return simulate({"ada": program}).values()[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("few", "first", "stretch", "prefix"),
    [
        (1 << 15, None, quicksort.STRETCH, None),
        (0, None, quicksort.STRETCH, None),
        (0, 2, quicksort.STRETCH, None),
        (0, None, 1, 3),  # rows behind a sorted prefix, one after the other
        (1 << 15, None, quicksort.STRETCH, 3),  # two levels at once
    ],
)
def test_what_quicksort_opens_does_not_depend_on_the_keys(monkeypatch, few, first, stretch, prefix):
    """Over all orders of the shuffle, for keys that are alike and for others."""
    monkeypatch.setattr(quicksort, "FEW", few)  # all pairs at once, or pivots
    monkeypatch.setattr(quicksort, "STRETCH", stretch)
    if prefix:
        monkeypatch.setattr(quicksort, "prefixes", lambda n: [prefix, n])
    alike, others = (transcripts(keys, 2, Method.QUICKSORT, first) for keys in ([0] * 5, [3, 0, 3, 1, 2]))
    assert len(alike) > 1
    assert others == alike


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_what_radix_opens_does_not_depend_on_the_keys(bits):
    alike, others = (transcripts(keys, bits, Method.RADIX) for keys in ([0, 0, 0], [(1 << bits) - 1, 0, 1]))
    assert len(alike) == 6 ** (1 if bits <= 2 else 3)
    assert others == alike


class Counting(Comparisons):
    """Counts comparisons level by level, and compares in the clear."""

    def __init__(self, ranks):
        self.ranks, self.levels = ranks, []

    async def less(self, left, right):
        if left.size:
            self.levels.append(left.size)
        return self.ranks[left] < self.ranks[right]

    def cut(self, rows):
        return rows

    async def greater(self, planes, left):
        self.levels.append(left.size)
        return self.ranks[left] < self.ranks[planes]


def test_levels_are_taken_at_once_where_rows_are_few():
    assert quicksort.widths(1, 0) == []
    assert quicksort.widths(quicksort.FEW // 2, 4) == [2, 2]
    assert quicksort.widths(10 * quicksort.FEW, 11) == [1] * 11
    for rows in (1, 30, 1000, 10_000, 100_000):
        for levels in range(1, 14):
            taken = quicksort.widths(rows, levels)
            assert sum(taken) == levels
            made = sum((1 << width) - 1 for width in taken) * rows
            assert made - levels * rows <= quicksort.FEW * (levels - len(taken))


@pytest.mark.parametrize(
    ("n", "first", "stretch", "rel"),
    [
        (100, None, quicksort.STRETCH, 0),
        (1500, None, quicksort.STRETCH, 0.05),
        (30_000, None, quicksort.STRETCH, 0.02),
        (30_000, 20, quicksort.STRETCH, 0.15),
        (30_000, None, 9000, 0.02),
    ],
)
@pytest.mark.slow
def test_comparisons_and_levels_are_about_as_many_as_expected(monkeypatch, n, first, stretch, rel):
    monkeypatch.setattr(quicksort, "STRETCH", stretch)
    rng = np.random.default_rng(7)
    runs = []
    for _ in range(5):
        compare = Counting(rng.permutation(n))

        async def program(engine, compare=compare):
            return await quicksort.rows_in_order(compare, n, first)

        order = run_clear(program)
        assert np.array_equal(compare.ranks[order], np.arange(n if first is None else first))
        runs.append((sum(compare.levels), len(compare.levels)))
    made, levels = np.mean(runs, axis=0)
    expected = comparisons.__wrapped__(n, first)  # what is remembered is of another stretch
    assert made == pytest.approx(sum(expected), rel=rel)
    assert levels == pytest.approx(len(expected), abs=3 * -(-n // stretch))


NAMES = ("ada", "bob", "cleo", "dora")


class Noting(Comparisons):
    """Notes how many comparisons each level makes, by party."""

    levels: ClassVar[dict[str, list[int]]] = {}

    def note(self, pairs):
        if pairs:
            self.levels.setdefault(self._columns.engine.party.me, []).append(pairs)

    async def less(self, left, right):
        self.note(left.size)
        return await super().less(left, right)

    async def greater(self, planes, left):
        self.note(left.size)
        return await super().greater(planes, left)


@pytest.mark.slow
@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("parties", engines.COMPUTING)
def test_engines_sort_at_the_declared_cost(monkeypatch, parties, method):
    monkeypatch.setattr(
        quicksort, "FEW", 20
    )  # the last of the rows behind the prefix take two levels at once
    monkeypatch.setattr(quicksort, "prefixes", lambda n: [7, n])
    monkeypatch.setattr(quicksort, "STRETCH", 24)  # of 63 rows
    monkeypatch.setattr(opened_comparisons, "PAIRS", 24)
    monkeypatch.setattr(methods, "Comparisons", Noting)
    monkeypatch.setattr(Noting, "levels", {})
    n, names = 70, NAMES[:parties]
    key = np.random.default_rng(4).integers(-9, 9, n)
    bits, column_bytes = SHORT.ring.bits, [n * POSITIONS.dtype.itemsize]

    async def program(party):
        engine = await engines.set_up(party, names)
        values = key.astype(np.uint16) if party.me == "bob" else None
        column = Key(await engine.input(SHORT, "bob", (n,), values), signed=True)
        await engine.open(engine.public(XOR, np.zeros(1, np.uint64)))
        sent, begun = party.ledger.total().sent.payload_bytes, party.ledger.depth
        (order,) = await sort([column], [positions(engine, n)], method=method)
        sent, ended = party.ledger.total().sent.payload_bytes - sent, party.ledger.depth
        return sent, begun, ended, await engine.open(order)

    results = simulate(dict.fromkeys(names, program), insecure_seed=2).values()
    costs = engines.costs_of(names)
    if method is Method.QUICKSORT:
        levels, *others = Noting.levels.values()
        assert all(other == levels for other in others)
        assert len(levels) > 6
        assert max(levels) > opened_comparisons.PAIRS  # some level is opened in pieces
        monkeypatch.setattr(methods, "comparisons", lambda n, first: levels)
    declared = sort_cost(costs, n, [bits], column_bytes, elements=[bits], method=method)
    for result in results:
        assert np.array_equal(result[3], np.argsort(key, kind="stable"))
    assert [sent for sent, *_ in results] == list(declared.payload_bytes.values())
    depth = max(ended for _, _, ended, _ in results) - max(begun for _, begun, _, _ in results)
    # Of three parties one waits for nothing in some operations, and may be a round ahead in the next.
    ahead = 0 if parties == 4 else 1 if method is Method.QUICKSORT else 0.2 * declared.rounds
    assert declared.rounds - ahead <= depth <= declared.rounds


@pytest.mark.parametrize("parties", engines.COMPUTING)
def test_the_method_that_costs_least_is_chosen(parties):
    costs = engines.costs_of(NAMES[:parties])
    assert cheapest(costs, 100_000, [1], [800_000]) is Method.RADIX
    assert cheapest(costs, 100_000, [64], [800_000]) is Method.QUICKSORT
    for bits in (2, 9, 33):
        cost = {m: sort_cost(costs, 10_000, [bits], [80_000], method=m) for m in Method}
        weight = {m: max(c.payload_bytes.values()) + 62_500 * c.rounds for m, c in cost.items()}
        assert cheapest(costs, 10_000, [bits], [80_000]) is min(Method, key=weight.__getitem__)
