"""Plans of SQL, computed by the plaintext evaluator, equal what DuckDB makes of the same SQL on the pooled tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.tpch import QUERIES
from benchmarks.tpch import declaration as tpch
from query_tables import DECLARATION, filled
from secagg.query import Pool, plan
from secagg.query.algebra import Aggregate, Dependence, Join, Limit, Scan, Source, relations
from secagg.query.evaluator import Row, rows_of
from secagg.query.joint_run import plan_query


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with filled() as made:
        yield made


@pytest.fixture(scope="module")
def rows(pool: Pool) -> dict[str, list[Row]]:
    return {name: pool.rows(name) for name in DECLARATION}


ORDERED = [
    "SELECT id, a + 1 AS x, p * 2 - a FROM t WHERE a > 0 OR p < 1 ORDER BY p DESC, id",
    "SELECT id FROM t ORDER BY a NULLS FIRST, c DESC, id LIMIT 7 OFFSET 3",
    "SELECT c, count(*) AS n, sum(p), avg(p), min(a), max(d), count(a) FROM t GROUP BY c /* colour */ ORDER BY n DESC, c",
    "SELECT c, sum(p) AS s FROM t GROUP BY ALL HAVING count(*) > 2 AND min(a) < 3 ORDER BY abs(sum(p)), c",
    "SELECT org, count(DISTINCT s) AS n, bool_or(b), bool_and(b) FROM t GROUP BY org ORDER BY 1",
    "SELECT sum(a) FILTER (WHERE b) AS s, count(*) FILTER (WHERE c = 'red'), count_if(a > 2) FROM t",
    "SELECT sum(a), count(*), avg(a) FROM t WHERE a > 9 AND a < 0",
    "SELECT a // 3, a % 3, a FROM t WHERE a IS NOT NULL ORDER BY id",
    "SELECT a / p AS q, p / 0, round(p, 1), round(a / 3, 2), floor(p), ceil(p), CAST(p AS INTEGER) FROM t ORDER BY id",
    "SELECT year(d), extract(month FROM z), day(z), quarter(d), dayofweek(d), date_trunc('month', d) FROM t ORDER BY id",
    "SELECT d + INTERVAL 1 DAY, d - 3, d < DATE '2020-01-31' + INTERVAL 1 MONTH, date_diff('day', d, z) FROM t ORDER BY id",
    "SELECT id FROM t WHERE d BETWEEN '2020-02-01' AND '2021-01-01' OR z >= '2021-01-01 00:30:00' ORDER BY id",
    "SELECT id FROM t WHERE d < z OR NOT (d < z) ORDER BY id",
    "SELECT t.id, w, u.c FROM t JOIN u ON t.id = u.id AND w > 5 ORDER BY t.id",
    "SELECT t.id, w FROM t, u WHERE t.id = u.id AND t.c = u.c ORDER BY 1",
    "SELECT t.id, w FROM t LEFT JOIN u ON u.id = t.id + 1 AND u.w > 20 WHERE t.a > 0 ORDER BY 1",
    "SELECT u.id, a FROM t RIGHT JOIN u ON u.id = t.id AND t.a > 0 ORDER BY 1",
    "SELECT t.id, v.w FROM t JOIN u USING (id) LEFT JOIN u AS v ON v.id = u.id WHERE u.c <> 'red' ORDER BY 1",
    "SELECT u.id, t.a, v.w FROM t JOIN u ON u.id = t.id AND t.a < u.w RIGHT JOIN u AS v ON v.id = t.id + 3 ORDER BY v.w",
    "SELECT ID, a AS order1 FROM T ORDER BY B, p, Id",
    "SELECT a % 2 AS k, count(*) AS n, 1, 'x' FROM t GROUP BY k ORDER BY n, 1",
    "SELECT id, a + 1 AS p FROM t WHERE p > 2 ORDER BY id",
    "SELECT id, a * 2 AS twice FROM t WHERE twice > 5 ORDER BY id",
    "SELECT -a AS a, id FROM t ORDER BY a, id",
    "SELECT id FROM t SEMI JOIN u ON t.id = u.id AND u.w > 9 ORDER BY id",
    "SELECT id FROM t ANTI JOIN u ON t.id = u.id WHERE a IS NULL ORDER BY id",
    "SELECT id FROM t WHERE id IN (SELECT id FROM u WHERE w > 9) AND id NOT IN (SELECT id FROM u WHERE w > 90) ORDER BY id",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id AND u.w > 9) ORDER BY id",
    "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u AS v WHERE v.id = t.id AND v.c = t.c AND w > 9) ORDER BY id",
    "WITH n AS (SELECT c, count(*) AS k FROM t GROUP BY c) SELECT t.id, k FROM t JOIN n ON t.c = n.c ORDER BY k, t.id",
    "WITH n(k) AS (SELECT a FROM t) SELECT x.k, y.k AS other FROM n x JOIN n y ON x.k = y.k + 5 ORDER BY 1, 2",
    "SELECT k, count(*) FROM (SELECT a * 2 FROM t) AS s(k) GROUP BY k ORDER BY k",
    "SELECT c, p AS v FROM t WHERE a > 2 UNION ALL SELECT c, w FROM u ORDER BY v, c",
    "SELECT a FROM t UNION SELECT id FROM u ORDER BY 1",
    "SELECT DISTINCT c, b FROM t ORDER BY c, b",
    "SELECT id, row_number() OVER (PARTITION BY c ORDER BY p, id) AS r FROM t QUALIFY r <= 2 ORDER BY id",
    "SELECT id, rank() OVER (ORDER BY a), dense_rank() OVER (PARTITION BY b ORDER BY a DESC) FROM t ORDER BY id",
    "SELECT id, lag(a) OVER w, lead(p, 2) OVER w FROM t WINDOW w AS (PARTITION BY c ORDER BY id) ORDER BY id",
    "SELECT id, sum(a) OVER (PARTITION BY c ORDER BY b), avg(p) OVER (PARTITION BY c) FROM t ORDER BY id",
    "SELECT id, sum(a) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING), count(*) OVER () FROM t ORDER BY id",
    "SELECT c, sum(sum(a)) OVER (ORDER BY c) FROM t GROUP BY c ORDER BY c",
    "SELECT CASE c WHEN 'red' THEN 'warm' WHEN 'blue' THEN 'cold' END AS k, count(*) FROM t GROUP BY k ORDER BY k",
    "SELECT id FROM t WHERE c LIKE '%e_' AND c NOT LIKE 'bl%' OR c > 'h' ORDER BY id",
    "SELECT id FROM t WHERE s LIKE 'x%' OR s = 'y' ORDER BY id",
    "SELECT coalesce(c, 'none') AS k, nullif(a, 3), greatest(a, p), if(b, a, -a) FROM t ORDER BY id",
    "SELECT max(c), min(c) FROM t WHERE c IN ('red', 'green', NULL)",
]  # fmt: skip


@pytest.mark.parametrize("sql", ORDERED)
def test_a_plan_computes_what_duckdb_does_row_for_row(
    pool: Pool, rows: dict[str, list[Row]], sql: str
) -> None:
    query = plan(sql, DECLARATION)
    names = query.root.names
    expected = pool.units(query)  # also holds that every value lies in the inferred range
    assert [tuple(row[name] for name in names) for row in rows_of(query.root, rows)] == expected
    assert len(expected) <= query.root.max_rows


@pytest.mark.parametrize("name", list(QUERIES))
def test_a_query_of_tpch_becomes_a_plan_whose_sums_fit_63_bits(name: str) -> None:
    query = plan(QUERIES[name], tpch(0.1))
    domains = [column.domain for one in relations(query.root) for column in one.columns]
    sizes = [max(map(abs, one.bounds)) for one in domains if one.kind == "number"]
    assert max(sizes) < 2**63


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_query_of_tpch_fits_at_a_tenth_of_its_full_scale(name: str) -> None:
    plan_query(QUERIES[name], tpch(0.1, largest_part=0.5), ["first"])


def test_zeros_behind_the_point_of_a_constant_make_no_product_larger(
    pool: Pool, rows: dict[str, list[Row]]
) -> None:
    sql = "SELECT id, p, p * 1.500 AS x, -p * 100.00 AS y, a * 0.00 AS z FROM t ORDER BY id"
    query = plan(sql, DECLARATION)
    decimals = {name: query.root[name].domain.decimals for name in "pxyz"}
    assert decimals == {"p": decimals["p"], "x": decimals["p"] + 1, "y": decimals["p"], "z": 0}
    assert [tuple(row.values()) for row in rows_of(query.root, rows)] == pool.units(query)


def test_declared_keys_say_which_side_of_a_join_is_unique() -> None:
    (join,) = (one for one in relations(plan(QUERIES["q12"], tpch(0.1)).root) if isinstance(one, Join))
    assert (join.left_is_unique, join.right_is_unique) == (True, False)
    assert join.max_rows == join.right.max_rows
    grouped = plan(
        "SELECT x.id, x.n FROM (SELECT id, count(*) AS n FROM t GROUP BY id) x JOIN u ON u.id = x.id",
        DECLARATION,
    )
    (join,) = (one for one in relations(grouped.root) if isinstance(one, Join))
    assert join.left_is_unique
    assert join.right_is_unique
    assert isinstance(join.left.inputs[0].inputs[0], Aggregate)


def test_a_result_is_traced_to_the_columns_it_depends_on() -> None:
    inner = "SELECT c, p * 2 AS v, id FROM t WHERE a > 1"
    sql = f"SELECT q.c, sum(q.v) AS s FROM ({inner}) AS q JOIN u USING (id) GROUP BY q.c ORDER BY s LIMIT 3"
    root = plan(sql, DECLARATION).root
    assert isinstance(root, Limit)
    assert root["c"].lineage == {Dependence(Source("t", "c"))}
    assert root["s"].lineage == {Dependence(Source("t", "p"), ("compute", "sum"))}
    assert root.rows_from == {
        Dependence(Source("t", "a"), ("compare",)),
        Dependence(Source("t", "id"), ("join",)),
        Dependence(Source("u", "id"), ("join",)),
        Dependence(Source("t", "c"), ("group",)),
        Dependence(Source("t", "p"), ("compute", "sum", "rank")),
    }


def test_a_condition_on_one_table_goes_below_the_join() -> None:
    for join in ("t JOIN u ON t.id = u.id", "t LEFT JOIN u ON t.id = u.id"):
        root = plan(f"SELECT t.id FROM {join} WHERE t.a > 3", DECLARATION).root
        (found,) = (one for one in relations(root) if isinstance(one, Join))
        assert not isinstance(found.left, Scan)
    kept = plan("SELECT u.id FROM t RIGHT JOIN u ON t.id = u.id WHERE t.a > 3", DECLARATION).root
    assert not isinstance(kept.inputs[0], Join)


def test_tables_are_named_once_each() -> None:
    query = plan("SELECT x.id FROM t x JOIN t y ON x.id = y.id JOIN u ON u.id = x.id", DECLARATION)
    assert query.tables == ("t", "u")
    assert Source("u", "id") in query.sources
