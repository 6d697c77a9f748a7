"""Expressions with NULL in every place: the evaluator's three-valued logic is DuckDB's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query_tables import DECLARATION, filled
from secagg.query import Pool, plan
from secagg.query.evaluator import rows_of

NUMBERS = st.sampled_from(["a", "id", "NULL", "0", "3", "-2"])
TEXTS = st.sampled_from(["c", "'red'", "coalesce(c, 'blue')", "CASE WHEN b THEN c ELSE 'green' END", "NULL"])
DATES = st.sampled_from(["d", "DATE '2020-02-29'", "d + 1", "CAST(z AS DATE)", "NULL"])
BOOLEANS = st.sampled_from(["b", "TRUE", "FALSE", "NULL", "a IS NULL", "c LIKE 'r%'", "s = 'x'", "c = 'red'"])


def numbers(inner: st.SearchStrategy[str], truth: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(st.sampled_from("+-*"), two).map(lambda x: f"({x[1][0]} {x[0]} {x[1][1]})"),
        inner.map(lambda x: f"(- {x})"),
        inner.map(lambda x: f"abs({x})"),
        inner.map(lambda x: f"({x} // 3)"),
        inner.map(lambda x: f"({x} % 3)"),
        DATES.filter(lambda x: x != "NULL").map(lambda x: f"month({x})"),
        st.tuples(st.sampled_from(["coalesce", "nullif", "least", "greatest"]), two).map(
            lambda x: f"{x[0]}({x[1][0]}, {x[1][1]})"
        ),
        st.tuples(truth, two).map(lambda x: f"CASE WHEN {x[0]} THEN {x[1][0]} ELSE {x[1][1]} END"),
        st.tuples(truth, inner).map(lambda x: f"CASE WHEN {x[0]} THEN {x[1]} END"),
    )


def booleans(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    number = st.recursive(NUMBERS, lambda below: numbers(below, BOOLEANS), max_leaves=4)
    comparison = st.sampled_from(
        ["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]
    )
    return st.one_of(
        st.tuples(number, comparison, number).map(lambda x: f"({' '.join(x)})"),
        st.tuples(TEXTS, comparison, TEXTS).map(lambda x: f"({' '.join(x)})"),
        st.tuples(DATES, comparison, DATES).map(lambda x: f"({' '.join(x)})"),
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda x: f"({' '.join(x)})"),
        inner.map(lambda x: f"(NOT {x})"),
        st.tuples(inner, st.sampled_from(["NULL", "NOT NULL", "TRUE", "NOT FALSE"])).map(
            lambda x: f"({x[0]} IS {x[1]})"
        ),
        st.tuples(number, NUMBERS, NUMBERS).map(lambda x: f"({x[0]} BETWEEN {x[1]} AND {x[2]})"),
        number.map(lambda x: f"({x} IN (0, 3, NULL))"),
        st.sampled_from(["(c IN ('red', NULL))", "(c NOT IN ('red', 'blue'))", "(c NOT LIKE '%z%')"]),
        st.tuples(inner, inner, inner).map(lambda x: f"CASE WHEN {x[0]} THEN {x[1]} ELSE {x[2]} END"),
    )


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with filled() as made:
        yield made


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    st.recursive(BOOLEANS, booleans, max_leaves=6),
    st.recursive(NUMBERS, lambda x: numbers(x, BOOLEANS), max_leaves=6),
)
def test_null_in_every_place_gives_what_duckdb_gives(pool: Pool, condition: str, number: str) -> None:
    sql = f"SELECT id, {condition} AS condition, {number} AS number FROM t WHERE {condition} OR id % 2 = 0"
    query = plan(sql, DECLARATION)
    mine = [tuple(row.values()) for row in rows_of(query.root, {"t": pool.rows("t")})]
    assert sorted(mine, key=str) == sorted(pool.units(query), key=str)
