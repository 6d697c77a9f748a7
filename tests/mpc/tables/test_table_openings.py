"""What is opened of a table: how many rows are valid, and the columns of these rows, in an order that tells nothing."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from clear import run_clear
from secagg.errors import UsageError
from secagg.mpc import tables
from secagg.mpc.arrays import segments
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.clear import ClearEngine
from secagg.mpc.tables import Column, Table
from secagg.network.simulated import simulate
from table_rows import in_order, rows_of, shared

HIDDEN, UNDER_NULL = 666, 777
KEYS = np.array([5, HIDDEN, 5, 3, HIDDEN, 9])
VALUES = np.array([10, HIDDEN, UNDER_NULL, 30, UNDER_NULL, 20])
NULL = np.array([False, False, True, False, True, False])
VALID = np.array([True, False, True, True, False, True])


class Noting(Engine):
    """An engine that notes what the program opens, and not what sorts open on their way."""

    def __init__(self, primitives):
        super().__init__(primitives)
        self.opened = []

    async def open(self, *arrays, to=None):
        values = await super().open(*arrays, to=to)
        self.opened += [np.asarray(v).tolist() for v in values]
        return values


def openings(program, valid=VALID):
    """Return what `program(table)` returns, and the arrays that it opens."""

    async def start(party):
        engine = Noting(ClearEngine(party))
        key, value, null, bits = (
            engine.share(v, owner="ada", shape=v.shape, dtype=v.dtype) for v in (KEYS, VALUES, NULL, valid)
        )
        table = Table({"key": Column(key), "value": Column(value, null)}, bits)
        return await program(table), engine.opened

    return simulate({"ada": start}, insecure_seed=1).values()[0]


def numbers(opened):
    return [int(v) for values in opened for v in np.atleast_1d(values)]


def test_of_rows_in_no_order_the_valid_ones_are_opened_after_a_shuffle():
    result, (valid, keys, values, nulls) = openings(tables.open_table)
    assert sorted(valid) == sorted(VALID.tolist())
    assert sorted(keys) == [3, 5, 5, 9]
    assert sorted(values) == [0, 10, 20, 30]
    assert sorted(nulls) == [False, False, False, True]
    assert in_order(rows_of(result)) == [(3, 30), (5, 10), (5, None), (9, 20)]


def test_the_values_of_other_rows_and_those_under_null_are_never_opened():
    async def program(t):
        await tables.open_table(tables.group_by(t, ["key"], {"n": ("count", None), "top": ("max", "value")}))
        await tables.open_table(tables.order_by(t, [("value", False)]))
        await tables.open_table(tables.window(t, ["key"], [("value", True)], {"next": ("lead", "value", 1)}))
        await tables.open_table(tables.limit(t, 2))
        for how in ("inner", "left", "semi", "anti"):
            other = tables.distinct(t, ["key"])
            await tables.open_table(tables.join(t, other, [("key", "key")], how=how)[0])
        await tables.open_table(t, rows=5)
        return await tables.open_table(t)

    _, opened = openings(program)
    assert not {HIDDEN, UNDER_NULL} & set(numbers(opened))
    assert {3, 5, 9, 10, 20, 30} <= set(numbers(opened))


def test_of_rows_in_order_their_number_is_opened_and_then_they_in_that_order():
    result, opened = openings(
        lambda t: tables.open_table(tables.order_by(t, [("value", True)]).select(["value"]))
    )
    count, values, nulls = opened
    assert count == VALID.sum()
    assert values == [30, 20, 10, 0]
    assert nulls == [False, False, False, True]
    assert result["value"].tolist() == [30, 20, 10, None]


@pytest.mark.parametrize("rows", [4, 6, 9])
def test_of_a_fixed_number_of_rows_the_receivers_alone_learn_how_many_are_valid(rows):
    result, opened = openings(lambda t: tables.open_table(t, rows=rows))
    assert sorted(result["key"].tolist()) == [3, 5, 5, 9]
    *too_many, valid, keys, values, nulls = opened
    assert too_many == [False] * (rows < len(KEYS))
    padding = [0] * (min(rows, len(KEYS)) - 4)
    assert sorted(valid) == [bool(p) for p in padding] + [True] * 4
    assert sorted(keys) == [*padding, 3, 5, 5, 9]
    assert sorted(values) == [*padding, 0, 10, 20, 30]
    assert sum(nulls) == 1


def test_more_rows_than_the_fixed_number_are_refused_and_not_opened():
    async def program(t):
        with pytest.raises(UsageError, match="at most 3 valid rows"):
            await tables.open_table(t, rows=3)

    _, opened = openings(program)
    assert opened == [True]


def test_a_table_without_valid_rows_opens_none():
    result, opened = openings(tables.open_table, valid=np.zeros(6, bool))
    assert {name: values.tolist() for name, values in result.items()} == {"key": [], "value": []}
    assert opened == [[False] * 6]


def test_groups_show_the_order_of_their_keys_only_where_these_are_opened():
    """The order of rows by a column that is not opened would tell of it."""

    async def program(t):
        groups = tables.group_by(t, ["key"], {"n": ("count", None)})
        return groups.order, groups.select(["n"]).order, groups.filter(t.valid).select(["key"]).order

    (whole, without, filtered), _ = openings(program)
    assert (whole.unique, whole.packed) == (True, True)
    assert (without.unique, without.keys) == (False, ())
    assert (filtered.unique, filtered.packed) == (True, False)

    async def opened(t):
        groups = tables.group_by(t, ["key"], {"n": ("count", None)})
        await tables.open_table(Table({"n": groups["n"]}, groups.valid, groups.order))

    _, (first, _) = openings(opened)
    assert sorted(first) == [False] * 3 + [True] * 3  # the bits of shuffled rows


class Overheard(ClearEngine):
    """An engine in the clear that shuffles by given orders, and notes all that is opened, on the way too."""

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


def transcripts(program, shuffles):
    """Return how often each sequence of openings comes, over all orders of shuffles of three rows."""

    async def start(party):
        found: Counter[tuple[bytes, ...]] = Counter()
        for orders in itertools.product(itertools.permutations(range(3)), repeat=shuffles):
            primitives = Overheard(party, orders)
            await program(Engine(primitives))
            found[tuple(primitives.opened)] += 1
        return found

    return simulate({"ada": start}).values()[0]


@pytest.mark.parametrize("pattern", [[True, False, True], [True, True, True]])
def test_what_a_partition_opens_does_not_depend_on_its_bits(pattern):
    def opened(low, high):
        async def program(engine):
            bits = [engine.public(np.array(b)) for b in (low, high)]
            await segments.partition(bits, [engine.public(np.arange(3))])[0].open()

        # What the program itself opens at the end is the last opening.
        return Counter({key[:-1]: count for key, count in transcripts(program, 1).items()})

    alike, others = opened([False] * 3, [False] * 3), opened(pattern, pattern[::-1])
    assert len(alike) == 6
    assert others == alike


def test_where_valid_rows_stand_when_they_are_opened_depends_on_their_number_alone():
    def opened(valid):
        async def program(engine):
            table = Table({"x": Column(engine.public(np.full(3, 7)))}, engine.public(np.array(valid)))
            await tables.open_table(table)

        return transcripts(program, 1)

    first, last = opened([True, False, False]), opened([False, False, True])
    assert len(first) == 3
    assert set(first.values()) == {2}
    assert first == last
    assert opened([True, True, False]) != first


@pytest.mark.slow
def test_ties_are_opened_in_an_order_that_does_not_depend_on_the_input():
    """The order of the input would tell whose rows they are."""

    async def program(engine):
        columns = {"k": Column(engine.public(np.full(3, 7))), "x": Column(engine.public(np.arange(3)))}
        t = Table(columns, engine.public(np.ones(3, bool)))
        opened = await tables.open_table(tables.order_by(t, [("k", False)]).select(["x"]))
        engine.primitives.opened = [tuple(opened["x"].tolist())]

    found = transcripts(program, 2)
    assert len(found) == 6
    assert set(found.values()) == {6}


def test_a_key_that_was_declared_unique_and_is_not_is_found():
    async def program(primitives):
        engine = Engine(primitives)

        def table(keys, valid, null=None):
            null = None if null is None else engine.public(np.array(null))
            column = Column(engine.public(np.array(keys)), null)
            return Table({"k": column}, engine.public(np.array(valid)))

        left = table([1, 1, 2], [True] * 3)
        twice = table([4, 2, 4], [True] * 3)
        cases = [
            tables.join(left, twice, [("k", "k")]),
            tables.join(left, table([4, 2, 4], [True, True, False]), [("k", "k")]),
            tables.join(left, table([4, 2, 4], [True] * 3, [True, False, True]), [("k", "k")]),
            tables.join(left, twice, [("k", "k")], matches=2),
            tables.join(left, table([4, 4, 4], [True] * 3), [("k", "k")], matches=2),
            tables.join(left, twice, [("k", "k")], unique="left"),
            tables.join(twice, left, [("k", "k")], how="semi"),
        ]
        return [bool(bit) for bit in await engine.open(*(broken for _, broken in cases))]

    assert run_clear(program) == [True, False, False, False, True, True, False]


def test_a_left_join_says_that_left_keys_which_were_declared_unique_are_not():
    right = {"k": [1, 2], "y": [8, 9]}
    assert broken({"k": [1, 1, 2], "x": [5, 6, 7]}, right, how="left", unique="left")
    assert not broken({"k": [1, 3, 2], "x": [5, 6, 7]}, right, how="left", unique="left")


def test_rows_without_a_key_are_not_too_many_of_one_key():
    left = {"k": [1, 2]}
    assert not broken(left, {"k": [1, None, None, None], "y": [5, 6, 7, 8]}, matches=2)
    assert broken(left, {"k": [1, 1, 1, None], "y": [5, 6, 7, 8]}, matches=2)


def broken(left, right, **options):
    """Return whether a join of two tables on k finds that their keys are not as declared."""

    async def start(primitives):
        engine = Engine(primitives)
        t, u = (shared(engine, plain, [True] * len(plain["k"])) for plain in (left, right))
        _, found = tables.join(t, u, [("k", "k")], **options)
        return bool(await found.open())

    return run_clear(start)
