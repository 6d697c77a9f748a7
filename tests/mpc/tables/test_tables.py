"""Operators on shared tables give what DuckDB gives on the same rows: NULL, duplicates, rows that are not valid, no rows."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clear import run_clear
from secagg.mpc import tables
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.sorting import methods
from secagg.mpc.tables import Column
from table_rows import by_duckdb, in_order, rows_of, shared

_NUMBERS = st.one_of(st.none(), st.integers(-3, 3))
_BOOLS = st.one_of(st.none(), st.booleans())


@st.composite
def made_up(draw, /, **columns):
    n = draw(st.integers(0, 9))
    plain = {name: draw(st.lists(values, min_size=n, max_size=n)) for name, values in columns.items()}
    return plain, draw(st.lists(st.booleans(), min_size=n, max_size=n))


def opened(program, *made):
    """Return the rows of the tables of `program(*tables)`."""

    async def start(primitives):
        engine = Engine(primitives)
        results = program(*(shared(engine, plain, valid) for plain, valid in made))
        return [rows_of(await tables.open_table(t)) for t in results]

    return run_clear(start)


AGGREGATES = {
    "total": ("sum", "x"),
    "n": ("count", None),
    "seen": ("count", "x"),
    "kinds": ("count_distinct", "x"),
    "least": ("min", "x"),
    "most": ("max", "x"),
    "odd": ("max", "y"),
    "some": ("any", "b"),
    "every": ("all", "b"),
}
AS_SQL = (
    "sum(x)::BIGINT, count(*), count(x), count(DISTINCT x), min(x), max(x), max(y), bool_or(b), bool_and(b)"
)


@pytest.mark.slow
@settings(max_examples=10)
@given(made_up(k=_NUMBERS, l=_NUMBERS, x=_NUMBERS, y=st.integers(-3, 3), b=_BOOLS))
def test_groups_and_aggregates_are_those_of_duckdb(made):
    def program(t):
        return [
            tables.group_by(t, ["k"], AGGREGATES),
            tables.group_by(t, [], AGGREGATES),
            tables.group_by(t, ["k", "l"], {"n": ("count", None)}, within=Column(t["y"].values > 0)),
            tables.distinct(t, ["l", "b"]),
        ]

    got = opened(program, made)
    for rows, sql in zip(
        got,
        (
            f"SELECT k, {AS_SQL} FROM t GROUP BY k",
            f"SELECT {AS_SQL} FROM t",
            "SELECT k, l, count(*) FILTER (WHERE y > 0) FROM t GROUP BY k, l",
            "SELECT DISTINCT l, b FROM t",
        ),
        strict=True,
    ):
        assert in_order(rows) == in_order(by_duckdb(sql, t=made)), sql


@pytest.mark.slow
@example(  # the row without a key stands behind one that matches
    ({"k": [1, None], "l": [1, 1], "x": [5, 6]}, [True, True]),
    ({"k": [1], "m": [1], "b": [True]}, [True]),
)
@settings(max_examples=10)
@given(
    made_up(k=_NUMBERS, l=st.integers(-2, 2), x=_NUMBERS), made_up(k=_NUMBERS, m=st.integers(-2, 2), b=_BOOLS)
)
def test_joins_are_those_of_duckdb(left, right):
    pairs = [("k", "k"), ("l", "m")]

    def program(t, u):
        return [
            tables.join(t, u, pairs, matches=9)[0],
            tables.join(t, u, pairs, how="left", matches=9)[0],
            tables.join(t, u, pairs, how="semi")[0],
            tables.join(t, u, pairs, how="anti")[0],
            tables.join(u, t, [("k", "k")], how="left", unique="left", matches=9)[0],
        ]

    got = opened(program, left, right)
    on = "ON t.k = u.k AND t.l = u.m"
    for rows, sql in zip(
        got,
        (
            f"SELECT t.k, l, x, b FROM t JOIN u {on}",
            f"SELECT t.k, l, x, b FROM t LEFT JOIN u {on}",
            f"SELECT * FROM t SEMI JOIN u {on}",
            f"SELECT * FROM t ANTI JOIN u {on}",
            "SELECT u.k, m, b, l, x FROM u LEFT JOIN t ON t.k = u.k",
        ),
        strict=True,
    ):
        assert in_order(rows) == in_order(by_duckdb(sql, t=left, u=right)), sql


def test_the_declared_number_of_matches_holds_and_is_broken_by_one_more():
    left, right = ({"k": [1, 2]}, [True] * 2), ({"k": [1, 2, 1, 1, 1], "y": [5, 6, 7, 8, 9]}, [True] * 5)

    async def start(primitives):
        engine = Engine(primitives)
        t, u = shared(engine, *left), shared(engine, *right)
        return [bool(await tables.join(t, u, [("k", "k")], matches=m)[1].open()) for m in range(1, 6)]

    assert run_clear(start) == [True, True, True, False, False]


def test_a_null_of_the_right_table_stays_null_in_a_left_join():
    left = {"k": [1, 2, 3]}, [True] * 3
    right = {"k": [1, 2], "y": [None, 9]}, [True] * 2
    (rows,) = opened(lambda t, u: [tables.join(t, u, [("k", "k")], how="left")[0]], left, right)
    assert in_order(rows) == [(1, None), (2, 9), (3, None)]


@pytest.mark.slow
@settings(max_examples=10)
@given(made_up(k=_NUMBERS, x=_NUMBERS, y=st.integers(-3, 3)))
def test_windows_and_orders_are_those_of_duckdb(made):
    functions = {
        "rank": ("rank", None, None),
        "dense": ("dense_rank", None, None),
        "before": ("lag", "z", None),
        "after": ("lead", "z", 2),
        "total": ("running_sum", "z", None),
        "seen": ("running_count", "x", None),
        "all": ("sum", "x", None),
        "first": ("first", "x", None),
        "last": ("last", "x", None),
    }
    peers = {"s": ("peer_sum", "x", None), "c": ("peer_count", "x", None), "n": ("count", "y", None)}

    def program(t):
        number = tables.window(
            t, [], [("k", False), ("x", True), ("y", False)], {"z": ("row_number", None, None)}
        )
        # z tells rows apart, so that neighbours are those of DuckDB.
        ordered = tables.order_by(number, [("z", True)])
        ends = {"first": ("first", "x"), "last": ("last", "x")}
        return [
            tables.group_by(ordered, ["k"], ends),
            tables.group_by(ordered, [], ends),
            tables.window(number, ["k"], [("z", True)], functions),
            tables.window(
                t,
                ["k"],
                [("y", False)],
                {"r": ("rank", None, None), "d": ("dense_rank", None, None), **peers},
            ),
        ]

    ends, whole_ends, windows, ranks = opened(program, made)
    over = "OVER (PARTITION BY k ORDER BY z DESC ROWS UNBOUNDED PRECEDING)"
    whole = "OVER (PARTITION BY k ORDER BY z DESC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
    number = "WITH n AS (SELECT *, row_number() OVER (ORDER BY k NULLS LAST, x DESC NULLS LAST, y) z FROM t)"
    sql = f"{number} SELECT k, first(x ORDER BY z DESC), last(x ORDER BY z DESC) FROM n GROUP BY k"
    assert in_order(ends) == in_order(by_duckdb(sql, t=made))
    sql = f"{number} SELECT first(x ORDER BY z DESC), last(x ORDER BY z DESC) FROM n"
    assert whole_ends == by_duckdb(sql, t=made)
    sql = f"""{number}
        SELECT *, rank() {over}, dense_rank() {over}, lag(z) {over}, lead(z, 2) {over}, sum(z) {over}::BIGINT,
            count(x) {over}, sum(x) {whole}::BIGINT, first(x) {whole}, last(x) {whole} FROM n"""
    assert in_order(windows) == in_order(by_duckdb(sql, t=made))
    over = "OVER (PARTITION BY k ORDER BY y)"
    sql = f"""SELECT *, rank() {over}, dense_rank() {over}, sum(x) {over}::BIGINT, count(x) {over},
        count(y) OVER (PARTITION BY k) FROM t"""
    assert in_order(ranks) == in_order(by_duckdb(sql, t=made))


@settings(max_examples=10)
@given(made_up(b=_BOOLS, b2=_BOOLS, x=_NUMBERS, y=_NUMBERS))
@pytest.mark.slow
def test_a_filter_passes_over_null_and_a_union_keeps_it(made):
    def program(t):
        return [
            t,
            t.filter(t["b"]),
            tables.concat([t.select(["x"]), t.select(["y"]).renamed({"y": "x"})]),
        ]

    got = opened(program, made)
    sql = "SELECT * FROM t"
    for rows, query in zip(
        got, (sql, sql + " WHERE b", "SELECT x FROM t UNION ALL SELECT y FROM t"), strict=True
    ):
        assert in_order(rows) == in_order(by_duckdb(query, t=made)), query


def test_operators_that_want_the_same_order_sort_once(monkeypatch):
    sorts = []
    sort = methods.sort

    def counted(*args, **options):
        sorts.append(1)
        return sort(*args, **options)

    monkeypatch.setattr(methods, "sort", counted)
    sales = {"k": [3, 1, 3, 2], "x": [1, 2, 3, 4]}, [True, True, True, False]
    shops = {"k": [1, 3], "y": [10, 30]}, [True, True]

    def program(t, u):
        joined, _ = tables.join(t, u, [("k", "k")])
        ranked = tables.window(joined.filter(joined["x"].values > 1), ["k"], [], {"n": ("count", "x", None)})
        return [tables.group_by(ranked, ["k"], {"s": ("sum", "x"), "y": ("first", "y")})]

    assert opened(program, sales, shops) == [[(1, 2, 10), (3, 3, 30)]]
    assert len(sorts) == 1
