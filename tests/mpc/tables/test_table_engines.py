"""Tables among three and four parties, at the declared cost, and in debug mode over the whole range of 64 bits."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest

from secagg import mpc
from secagg.errors import ShapeError, UsageError
from secagg.mpc import tables
from secagg.mpc.arrays.dtypes import fixed, int8
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.tables import Column, Order, Table
from secagg.network.simulated import simulate
from table_rows import Plain, by_duckdb, in_order, put, rows_of, shared

NAMES = ("ada", "bob", "cleo", "dan")
SALES: Plain = {
    "k": [4, None, 4, 2, 2, 7, None, 4],
    "x": [1, 2, None, -5, 6, 9, 3, 8],
    "b": [True, False] * 4,
}
HERE = [True, True, True, True, False, True, True, True]
SHOPS: Plain = {"k": [2, 4, 9, 4], "y": [20, 40, 90, None]}
OPEN = [True, True, True, False]


@pytest.mark.parametrize("count", [3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_engines_give_what_duckdb_gives(count):
    async def program(party):
        engine = await Engine.create(party)
        sales, shops = shared(engine, SALES, HERE), shared(engine, SHOPS, OPEN, owner="bob")
        joined, broken = tables.join(sales, shops, [("k", "k")], how="left")
        totals = tables.group_by(
            joined, ["y"], {"n": ("count", None), "top": ("max", "x"), "all": ("all", "b")}
        )
        ranks = tables.window(
            sales, ["b"], [("x", True)], {"r": ("rank", None, None), "s": ("running_sum", "x", None)}
        )
        first = tables.order_by(sales.filter(sales["b"]), [("x", True)], first=2)
        return [
            bool(await broken.open()),
            *[rows_of(await tables.open_table(t)) for t in (totals, ranks, first)],
        ]

    everyone = simulate(dict.fromkeys(NAMES[:count], program), insecure_seed=1).values()
    broken, totals, ranks, first = everyone[0]
    assert all(results == everyone[0] for results in everyone)
    made = {"t": (SALES, HERE), "u": (SHOPS, OPEN)}
    assert not broken
    sql = "SELECT y, count(*), max(x), bool_and(b) FROM t LEFT JOIN u ON t.k = u.k GROUP BY y"
    assert in_order(totals) == in_order(by_duckdb(sql, **made))
    over = "OVER (PARTITION BY b ORDER BY x DESC NULLS LAST ROWS UNBOUNDED PRECEDING)"
    sql = f"SELECT *, rank() {over}, sum(x) {over}::BIGINT FROM t"
    assert in_order(ranks) == in_order(by_duckdb(sql, **made))
    assert first == by_duckdb("SELECT * FROM t WHERE b ORDER BY x DESC NULLS LAST LIMIT 2", **made)


async def sorted_before(party):
    """Operators on a table whose order is known: none of them sorts, so their bytes are exact."""
    engine = await Engine.create(party)
    n = 70
    key = put(engine, np.arange(n) // 3, "ada", np.int64)
    value = put(engine, np.arange(n), "bob", np.int64)
    null = put(engine, np.arange(n) % 5 == 0, "bob", bool)
    valid = put(engine, np.arange(n) < 60, "cleo", bool)
    order = Order((("k", False), ("x", False)), packed=True, shown=True)
    t = Table({"k": Column(key), "x": Column(value, null)}, valid, order)
    groups = tables.group_by(t, ["k"], {"s": ("sum", "x"), "n": ("count", None), "l": ("last", "x")})
    ranks = tables.window(t, ["k"], [("x", False)], {"r": ("rank", None, None), "p": ("lag", "x", 2)})
    few = tables.limit(t.filter(t["x"].values > 5), 9)
    return [await tables.open_table(each, to="bob", rows=each.rows) for each in (groups, ranks, few)]


@pytest.mark.parametrize("count", [3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_bytes_are_those_declared_where_nothing_is_sorted(count):
    names = NAMES[:count]
    run = simulate(dict.fromkeys(names, sorted_before))
    groups, ranks, few = run.values()[1]
    assert groups["s"].tolist()[:3] == [1 + 2, 3 + 4, 6 + 7 + 8]
    assert ranks["r"].tolist() == [1, 2, 3] * 20
    assert few["x"].tolist()[:2] == [6, 7]
    declared = mpc.cost(sorted_before, dict.fromkeys(names, ()))
    sent = {name: ledger.total().sent.payload_bytes for name, ledger in run.ledgers.items()}
    assert sent == dict(declared.payload_bytes)
    rounds = max(ledger.depth for ledger in run.ledgers.values())
    assert 0.8 * declared.rounds <= rounds <= declared.rounds  # a party that waits for nothing goes on sooner


def test_a_rehearsal_opens_all_rows_unless_it_is_told_how_many_are_valid():
    async def program(party):
        engine = await Engine.create(party)
        t = Table(
            {"x": Column(engine.share(None, owner="ada", shape=100))}, engine.public(np.ones(100, bool))
        )
        await tables.open_table(t)

    whole = mpc.cost(program, dict.fromkeys(NAMES[:3], ()))
    few = mpc.cost(program, dict.fromkeys(NAMES[:3], ()), opened=[np.arange(100) < 10, np.zeros(10)])
    assert max(whole.payload_bytes.values()) == max(few.payload_bytes.values()) + 90 * 8


@pytest.mark.slow
def test_debug_mode_takes_keys_and_sums_that_wrap_on_the_way():
    ends = [2**63 - 1, -(2**63), 0, 2**63 - 1, -(2**63)]

    async def program(party):
        engine = await Engine.create(party, debug=True)
        t = shared(engine, {"k": ends, "x": [2**62, 2**62, 2**62, 5, None]}, [True] * 5)
        groups = tables.group_by(t.select(["k", "x"]), ["k"], {"n": ("count", "x"), "top": ("max", "x")})
        right = groups.select(["k", "top"])
        joined, _ = tables.join(t, right, [("k", "k")])
        sums = tables.group_by(joined.filter(joined["x"].filled < 9), ["k"], {"s": ("sum", "x")})
        return [rows_of(await tables.open_table(each)) for each in (groups, joined, sums)]

    groups, joined, sums = simulate(dict.fromkeys(NAMES[:3], program)).values()[0]
    assert groups == [(-(2**63), 1, 2**62), (0, 1, 2**62), (2**63 - 1, 2, 2**62)]
    assert len(joined) == 5
    assert sums == [(-(2**63), None), (2**63 - 1, 5)]


def test_who_does_not_compute_receives_a_fixed_number_of_rows():
    async def computes(party):
        engine = await Engine.create(party, NAMES[:3])
        t = shared(engine, {"x": [4, None, 6]}, [True, True, False])
        with pytest.raises(UsageError, match="got dan, which does not know how many rows"):
            await tables.open_table(t, to="dan")
        return await tables.open_table(t, to="dan", rows=3)

    async def receives(party):
        bits = [await mpc.receive(party, NAMES[:3], (3,), dtype=bool)]
        values = await mpc.receive(party, NAMES[:3], (3,))
        bits.append(await mpc.receive(party, NAMES[:3], (3,), dtype=bool))
        return sorted(zip(*(each.tolist() for each in (*bits, values)), strict=True))

    results = simulate(dict.fromkeys(NAMES[:3], computes) | {"dan": receives}).values()
    assert results == [{"x": None}] * 3 + [[(False, False, 0), (True, False, 4), (True, True, 0)]]


@pytest.mark.slow
def test_dtypes_stay_what_they_are_and_integers_are_summed_in_64_bits():
    async def program(party):
        engine = await Engine.create(party)
        small = put(engine, np.array([100, 100, -3], np.int8), "ada", int8)
        real = put(engine, np.array([0.5, 0.25, -1.5]), "ada", fixed(8))
        t = Table({"i": Column(small), "r": Column(real)}, engine.public(np.ones(3, bool)))
        totals = tables.group_by(t, [], {"i": ("sum", "i"), "r": ("sum", "r"), "m": ("mean", "i")})
        groups = tables.group_by(t, ["i"], {"r": ("sum", "r"), "n": ("mean", "r")})
        return [await tables.open_table(each) for each in (totals, groups)]

    totals, groups = simulate(dict.fromkeys(NAMES[:3], program)).values()[0]
    assert totals["i"].tolist() == [197]
    assert totals["r"].tolist() == [-0.75]
    assert totals["m"].tolist() == pytest.approx([197 / 3], abs=2**-13)
    assert groups["i"].tolist() == [-3, 100]
    assert groups["r"].tolist() == [-1.5, 0.75]
    assert groups["n"].tolist() == pytest.approx([-1.5, 0.375], abs=2**-6)


@pytest.mark.parametrize(
    ("operate", "error", "message"),
    [
        (lambda t, u: t["z"], UsageError, "column among k, x, b, got 'z'"),
        (lambda t, u: t.filter(t["x"]), UsageError, "condition of bools"),
        (lambda t, u: t.with_columns({"y": u["y"]}), ShapeError, "Column of 8 rows"),
        (lambda t, u: t.renamed({"k": "x"}), UsageError, "each once"),
        (lambda t, u: tables.concat([t, u]), UsageError, "same columns, got k, x, b and k, y"),
        (lambda t, u: tables.concat([]), UsageError, "at least one table"),
        (lambda t, u: tables.group_by(t, ["k"], {"k": ("sum", "x")}), UsageError, "different names"),
        (lambda t, u: tables.group_by(t, ["k"], {"s": ("total", "x")}), UsageError, "'s' to be one of sum"),
        (lambda t, u: tables.group_by(t, ["k"], {"s": ("sum", None)}), UsageError, "count of None"),
        (lambda t, u: tables.group_by(t, ["k"], {"s": ("any", "x")}), UsageError, "bools for any of 'x'"),
        (lambda t, u: tables.group_by(t, [], {}), UsageError, "at least one key"),
        (
            lambda t, u: tables.group_by(t, ["k"], {"f": ("first", "x")}, within=t["b"]),
            UsageError,
            "filter the table instead",
        ),
        (lambda t, u: tables.join(t, u, [("k", "k")], how="full"), UsageError, "how among inner"),
        (
            lambda t, u: tables.join(t, u, [("b", "k")]),
            UsageError,
            "one dtype to join on, got bool and int64",
        ),
        (lambda t, u: tables.join(t, u, [("k", "y")]), UsageError, "got k twice"),
        (lambda t, u: tables.join(t, u, []), UsageError, "pairs of columns"),
        (lambda t, u: tables.join(t, u, [("k", "k")], matches=0), UsageError, "at least 1, got 0"),
        (lambda t, u: tables.order_by(t, []), UsageError, "at least one column"),
        (lambda t, u: tables.limit(t, -1), UsageError, "at least 0, got -1"),
        (lambda t, u: tables.limit(t, cast(Any, "two")), UsageError, "at least 0, got 'two'"),
        (
            lambda t, u: tables.window(t, ["k"], [], {"x": ("rank", None, None)}),
            UsageError,
            "which the table has",
        ),
        (lambda t, u: tables.window(t, ["k"], [], {"r": ("lag", "x", 0)}), UsageError, "from 1 on"),
        (
            lambda t, u: tables.window(t, ["k"], [], {"r": ("ntile", None, 4)}),
            UsageError,
            "one of row_number",
        ),
        (lambda t, u: tables.window(t, ["k"], [("k", True)], {}), UsageError, "each column once"),
        (lambda t, u: dataclasses.replace(t, valid=u.valid), ShapeError, "Column of 4 rows"),
        (lambda t, u: Column(t["x"].values, t["x"].values), ShapeError, "bools of shape"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_sent(operate, error, message):
    async def program(party):
        engine = await Engine.create(party)
        t, u = shared(engine, SALES, HERE), shared(engine, SHOPS, OPEN)
        before = party.ledger.total().sent.payload_bytes
        with pytest.raises(error, match=message):
            operate(t, u)
        return party.ledger.total().sent.payload_bytes - before

    assert simulate(dict.fromkeys(NAMES[:3], program)).values() == [0, 0, 0]
