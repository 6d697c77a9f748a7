"""What an owner's own SQL computes is what the evaluator and DuckDB's own reading of the query make of the same rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from query_tables import DECLARATION, filled, t_rows
from secagg.query import Pool, plan, planner
from secagg.query.algebra import Call, Project, walk
from secagg.query.evaluator import rows_of
from secagg.query.owner import from_mapping, prepare

OPERATIONS = {
    "add": ["a + p", "d + 3", "z + INTERVAL 5 MINUTE"],
    "sub": ["p - a", "d - 3", "d - DATE '2020-03-01'", "z < TIMESTAMP '2020-12-31 09:30:00'"],
    "mul": ["p * p", "a * p * -1.5"],
    "intdiv": ["a // 3"],
    "mod": ["a % 3"],
    "neg": ["-p"],
    "abs": ["abs(p)"],
    "floor": ["floor(p)"],
    "ceil": ["ceil(p)"],
    "round": ["round(p)", "round(p, 1)", "round(p * p, 3)", "CAST(p * p AS DECIMAL(9, 3))", "CAST(p AS INTEGER)"],
    "rescale": ["coalesce(a, p)"],
    "to_number": ["CAST(b AS INTEGER)"],
    "eq": ["c = 'red'", "d = DATE '2020-02-29'", "s = 'x'"],
    "ne": ["c <> 'red'", "a <> p"],
    "lt": ["a < p"],
    "le": ["d <= z"],
    "gt": ["a > 2", "c > 'green'"],
    "ge": ["z >= '2020-12-31 09:30:00'"],
    "in": ["a IN (0, 3)", "c IN ('red', 'blue')", "s NOT IN ('x')"],
    "like": ["s LIKE '_%'"],
    "and": ["b AND a > 0"],
    "or": ["b OR a > 0"],
    "not": ["NOT b"],
    "is_null": ["z IS NULL"],
    "coalesce": ["coalesce(a, 9)", "coalesce(c, 'none')"],
    "least": ["least(a, p)"],
    "greatest": ["greatest(d, DATE '2020-12-31')"],
    "recode": ["CASE WHEN b THEN c ELSE 'amber' END"],
    "year": ["year(d)"],
    "month": ["month(z)"],
    "day": ["day(z)"],
    "quarter": ["quarter(d)"],
    "weekday": ["dayofweek(z)"],
    "date_of": ["CAST(z AS DATE)"],
    "to_timestamp": ["d = z"],
    # NULL as the first value of a CASE.
    "eq, and NULL first": [
        "nullif(c, 'red')", "nullif(p, 7.25)", "nullif(d, DATE '2020-02-29')", "nullif(s, 'x')",
        "coalesce(nullif(c, 'red'), 'white')", "CASE WHEN c = 'green' THEN NULL ELSE c END",
        "CASE WHEN a > 3 THEN NULL WHEN a = 3 THEN z END",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with filled() as made:
        yield made


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_owner_computes_an_operation_as_the_evaluator_and_duckdb_do(pool: Pool, operation: str) -> None:
    columns = ", ".join(f"{text} AS x{i}" for i, text in enumerate(OPERATIONS[operation]))
    query = plan(f"SELECT id, {columns} FROM t", DECLARATION)
    assert isinstance(query.root, Project)
    used = {part.op for _, one in query.root.expressions for part in walk(one) if isinstance(part, Call)}
    assert operation.split(",")[0] in used
    rows = t_rows()
    held = {"t": {name: [row[name] for row in rows] for name in rows[0]}}
    planned = planner.plan(query, DECLARATION)
    (part,) = prepare(planned, "north", from_mapping(held, "north"), announce_filtered=True).parts
    texts = [
        [None if column.null is not None and column.null[i] else column.values[i] for i in range(len(rows))]
        for column in part.columns
    ]
    named = dict(zip([column.of.name for column in part.columns], texts, strict=True))
    same = part.local.held["north"].same
    named |= {name: named[of] for name, of in same.items()}
    assert named.keys() == set(query.root.names)
    found = list(zip(*(named[name] for name in query.root.names), strict=True))
    expected = [tuple(row.values()) for row in rows_of(query.root, {"t": pool.rows("t")})]
    assert sorted(found) == sorted(expected) == sorted(pool.units(query))
