"""Queries over several owners' tables give what DuckDB gives over the pooled ones."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pooled_queries as pooled
from secagg.query.run import run

OWNERS = ("north", "south", "west")
DECLARATION = """
[tables.moves]
holders = ["north", "south", "west"]
max_rows = 20
[tables.moves.columns]
who = {type = "identifier", nullable = true}
kind = {type = "category", values = ["card", "cash", "wire"], nullable = true}
amount = {type = "money", max = 1000, nullable = true}
n = {type = "integer", min = -9, max = 9, nullable = true}
rate = {type = "real", min = -1.5, max = 1.5, decimals = 2, nullable = true}
day = {type = "date", min = 2024-01-01, max = 2025-12-31, nullable = true}
urgent = {type = "boolean", nullable = true}
[tables.people]
holder = "south"
max_rows = 20
keys = [["id"]]
[tables.people.columns]
id = "identifier"
age = {type = "integer", min = 0, max = 120, nullable = true}
"""

NAMES = st.sampled_from(["a", "b", "c"])
AMOUNTS = st.integers(0, 2000).map(lambda v: Decimal(v).scaleb(-2))
RATES = st.integers(-150, 150).map(lambda v: Decimal(v).scaleb(-2))
DAYS = st.integers(0, 500).map(lambda v: datetime.date(2024, 1, 1) + datetime.timedelta(days=v))
ROW = st.tuples(
    *(
        st.none() | of
        for of in (
            NAMES,
            st.sampled_from(["card", "cash", "wire"]),
            AMOUNTS,
            st.integers(-9, 9),
            RATES,
            DAYS,
            st.booleans(),
        )
    )
)
PEOPLE = st.dictionaries(NAMES, st.none() | st.integers(0, 120), max_size=3)
COLUMNS = ("who", "kind", "amount", "n", "rate", "day", "urgent")


def tables_of(rows, people):
    """Return each owner's tables: some of the rows, and all people at one."""
    tables = {
        owner: {"moves": {c: [row[i] for row in mine] for i, c in enumerate(COLUMNS)}}
        for owner, mine in rows.items()
    }
    tables["south"]["people"] = {"id": list(people), "age": list(people.values())}
    return tables


QUERIES = {
    "local filters, dense groups": "SELECT kind, urgent, sum(amount) s, count(*) n, count(rate) c, avg(rate) a, min(n) lo, "
    "max(day) hi, bool_or(urgent) o FROM moves WHERE n > -5 OR amount IS NULL GROUP BY kind, urgent",
    "no groups": "SELECT sum(amount * (1 - rate)) s, avg(n) a, count(DISTINCT who) d, min(amount) lo FROM moves",
    "groups by sort, having": "SELECT who, n, sum(rate) s, count(*) c FROM moves GROUP BY who, n HAVING sum(rate) > -1",
    "three-valued logic": "SELECT CASE WHEN n > 0 AND urgent THEN 'yes' WHEN NOT (n > 0 OR urgent) THEN 'no' ELSE 'open' "
    "END verdict, count(*) c FROM moves GROUP BY verdict",
    "inner join": "SELECT m.who, p.age, m.amount, m.n + p.age total FROM moves m JOIN people p ON m.who = p.id "
    "WHERE p.age > 10 OR m.n IS NULL",
    "left join, groups": "SELECT p.id, count(m.n) c, sum(m.amount) s FROM people p LEFT JOIN moves m ON p.id = m.who "
    "GROUP BY p.id",
    "semi join": "SELECT kind, n FROM moves WHERE who IN (SELECT id FROM people WHERE age < 60)",
    "distinct, union": "SELECT DISTINCT who, urgent FROM moves UNION ALL SELECT id, age > 50 FROM people",
    "order and limit": "SELECT who, n, kind FROM moves ORDER BY n DESC NULLS LAST, kind NULLS FIRST, who, amount, rate, day, "
    "urgent LIMIT 3 OFFSET 1",
    "quotients": "SELECT m.kind, sum(m.amount) / count(*) r, 100 * sum(CASE WHEN p.age > 30 THEN m.n ELSE 0 END) / sum(m.n) q "
    "FROM moves m JOIN people p ON m.who = p.id GROUP BY m.kind",
    "dates": "SELECT year(m.day) y, quarter(m.day) q, m.day - DATE '2024-01-01' d FROM moves m JOIN people p ON m.who = p.id "
    "WHERE m.day + INTERVAL 30 DAY >= DATE '2024-06-01'",
    "windows": "SELECT who, n, row_number() OVER (PARTITION BY who ORDER BY n NULLS FIRST, amount, rate, day, urgent, kind) r, "
    "rank() OVER (PARTITION BY who ORDER BY n NULLS FIRST) k FROM moves",
    "subquery": "WITH t AS (SELECT who, sum(n) s FROM moves GROUP BY who) SELECT count(*) c, sum(s) t FROM t WHERE s > 0",
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in QUERIES])
@settings(max_examples=8, deadline=None)
@given(rows=st.fixed_dictionaries({o: st.lists(ROW, max_size=6) for o in OWNERS}), people=PEOPLE)
def test_a_query_gives_what_duckdb_gives_over_the_pooled_tables(name, rows, people):
    query, tables = QUERIES[name], tables_of(rows, people)
    theirs = pooled.answer(query, DECLARATION, tables)
    ours = run(query, DECLARATION, tables, to=OWNERS)
    assert pooled.alike(ours, theirs, ordered="ORDER BY n DESC" in query), (ours, theirs)
