"""Rows that are not kept show nothing, and keys that are not unique are found."""

from __future__ import annotations

import numpy as np

from clear import run_clear
from secagg.mpc import tables
from secagg.mpc.arrays.engine import Engine
from table_rows import in_order, rows_of, shared


def test_null_bits_of_other_rows_are_not_opened_among_a_fixed_number(monkeypatch):
    seen, original = [], Engine.open

    async def spied(self, *arrays, **options):
        found = await original(self, *arrays, **options)
        seen.append(found)
        return found

    async def start(primitives):
        engine = Engine(primitives)
        t = shared(engine, {"x": [1, None, None, None, None]}, [True, False, False, False, False])
        monkeypatch.setattr(Engine, "open", spied)
        return await tables.open_table(t, rows=5)

    run_clear(start)
    (valid, values, null) = seen[-1]
    assert np.count_nonzero(valid) == 1
    assert not values[~valid].any()
    assert not null.any()


def _broken(left, right, **options):
    async def start(primitives):
        engine = Engine(primitives)
        t, u = (shared(engine, plain, [True] * len(plain["k"])) for plain in (left, right))
        _, broken = tables.join(t, u, [("k", "k")], **options)
        return bool(await broken.open())

    return run_clear(start)


def test_a_left_join_says_that_left_keys_which_were_declared_unique_are_not():
    left, right = {"k": [1, 1, 2], "x": [5, 6, 7]}, {"k": [1, 2], "y": [8, 9]}
    assert _broken(left, right, how="left", unique="left")
    assert not _broken({"k": [1, 3, 2], "x": [5, 6, 7]}, right, how="left", unique="left")


def test_rows_without_a_key_are_not_too_many_of_one_key():
    left, right = {"k": [1, 2]}, {"k": [1, None, None, None], "y": [5, 6, 7, 8]}
    assert not _broken(left, right, matches=2)
    assert _broken(left, {"k": [1, 1, 1, None], "y": [5, 6, 7, 8]}, matches=2)


def test_a_null_of_the_right_table_stays_null_in_a_left_join():
    async def start(primitives):
        engine = Engine(primitives)
        t = shared(engine, {"k": [1, 2, 3]}, [True] * 3)
        u = shared(engine, {"k": [1, 2], "y": [None, 9]}, [True] * 2)
        joined, _ = tables.join(t, u, [("k", "k")], how="left")
        return rows_of(await tables.open_table(joined))

    assert in_order(run_clear(start)) == [(1, None), (2, 9), (3, None)]
