"""Queries in shards give what DuckDB gives over the pooled tables, and cost what is said."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pooled_queries as pooled
from owner_rules import COLUMNS, ORGANISATIONS, payment
from owner_rules import DECLARATION as PAYMENTS
from secagg.query.declaration import Declaration
from secagg.query.joint_run import expected_cost, plan_query, run
from secagg.query.rules import parse_rules
from shard_queries import AGES, DECLARATION, HELD, OWNERS, SOME, played, prepared, tables_of, terms_of

pytestmark = pytest.mark.slow

JOIN = "FROM moves m JOIN people p ON m.who = p.id"
QUERIES = {
    "join, group by category": f"""
        SELECT m.kind, count(*) c, count(p.age) a, sum(m.amount) s, min(m.n) lo, max(p.age) hi, bool_or(m.urgent) o,
            bool_and(m.urgent) e, avg(m.n) v {JOIN} GROUP BY m.kind""",
    "join, no keys": f"SELECT sum(m.amount) s, count(*) c, min(p.age) lo, max(m.n) hi, avg(m.amount) a {JOIN}",
    "left join, rows told as they are": """
        SELECT m.who, m.kind, m.n, p.age FROM moves m LEFT JOIN people p ON m.who = p.id""",
    "left join of groups": """
        SELECT p.id, count(m.n) c, sum(m.amount) s FROM people p LEFT JOIN moves m ON p.id = m.who GROUP BY p.id""",
    "semi join": "SELECT kind, n FROM moves WHERE who IN (SELECT id FROM people WHERE age < 60)",
    "anti join, grouped": """
        SELECT kind, count(*) c FROM moves m WHERE NOT EXISTS (SELECT 1 FROM people p WHERE p.id = m.who) GROUP BY kind""",
    "distinct persons by category": f"SELECT m.kind, count(DISTINCT m.who) d, count(*) c {JOIN} GROUP BY m.kind",
    "distinct persons, no keys": "SELECT count(DISTINCT who) d, sum(n) s FROM moves",
    "group by many values": f"SELECT p.age, m.n, sum(m.amount) s, count(*) c {JOIN} GROUP BY p.age, m.n",
    "distinct rows": f"SELECT DISTINCT m.kind, p.age {JOIN}",
    "group by identifier, having": """
        SELECT who, sum(amount) s, count(*) c FROM moves GROUP BY who HAVING sum(amount) > 5""",
    "having, order, limit": f"""
        SELECT m.kind, sum(m.n) s, count(*) c {JOIN} GROUP BY m.kind HAVING count(*) > 1 ORDER BY c DESC, kind LIMIT 2""",
    "groups of groups": """
        SELECT c, count(*) k, sum(s) t FROM (SELECT who, count(*) c, sum(amount) s FROM moves GROUP BY who) GROUP BY c""",
    "quotients": f"SELECT m.kind, sum(m.amount) / count(*) r, 100 * sum(m.n) / sum(p.age) q {JOIN} GROUP BY m.kind",
    "quotients of shards' groups": "SELECT who, sum(amount) / count(*) r FROM moves GROUP BY who",
    "sorted by a quotient": """
        SELECT who, sum(n) / count(*) r, count(*) c FROM moves WHERE n > 0 GROUP BY who ORDER BY r DESC, c""",
    "what does not add up": f"SELECT m.kind, count(DISTINCT p.age) d {JOIN} GROUP BY m.kind",
    "three tables": """
        SELECT a.level, sum(m.amount) s, count(*) c FROM moves m JOIN people p ON m.who = p.id
        JOIN (SELECT of, max(level) AS level FROM alerts GROUP BY of) a ON a.of = p.id GROUP BY a.level""",
    "a table beside": """
        SELECT j.kind, j.s, f.fee FROM (SELECT m.kind, sum(m.n) s FROM moves m JOIN people p ON m.who = p.id
            GROUP BY m.kind) j JOIN fees f ON j.kind = f.kind""",
    "union": """
        SELECT x, count(*) c FROM (SELECT who AS x, n AS v FROM moves UNION ALL SELECT id, age FROM people) GROUP BY x""",
    "one subquery twice": """
        WITH t AS (SELECT who, count(*) c FROM moves GROUP BY who)
        SELECT a.c, count(*) k FROM t a JOIN t b ON a.who = b.who GROUP BY a.c""",
    "one subquery in two parts": """
        WITH t AS (SELECT who, kind FROM moves)
        SELECT a.kind, a.d, b.c FROM (SELECT kind, count(DISTINCT who) d FROM t GROUP BY kind) a
        JOIN (SELECT kind, count(DISTINCT who) c FROM t GROUP BY kind) b ON a.kind = b.kind""",
    "one subquery in shards and beside": """
        WITH t AS (SELECT who, kind FROM moves)
        SELECT x.who, y.d FROM t x JOIN (SELECT kind, count(DISTINCT who) d FROM t GROUP BY kind) y ON x.kind = y.kind""",
    "windows": f"""
        SELECT m.who, m.n, sum(m.n) OVER (PARTITION BY m.who) s, rank() OVER (PARTITION BY m.who ORDER BY m.n) r {JOIN}""",
    "two divided parts": f"""
        SELECT a.kind, a.s, b.d FROM (SELECT m.kind, sum(m.n) s {JOIN} GROUP BY m.kind) a JOIN
        (SELECT kind, count(DISTINCT who) d FROM moves GROUP BY kind) b ON a.kind = b.kind""",
}
NAMES = ("a", "b", "c", "d", "e", "f")
ROW = st.tuples(
    st.sampled_from(NAMES),
    st.none() | st.sampled_from(["card", "cash", "wire"]),
    st.none() | st.integers(0, 2000).map(lambda v: Decimal(v).scaleb(-2)),
    st.none() | st.integers(-9, 9),
    st.none() | st.booleans(),
)
ROWS = st.fixed_dictionaries({o: st.lists(ROW, max_size=7) for o in OWNERS})
PEOPLE = st.dictionaries(st.sampled_from([*NAMES, "z"]), st.none() | st.integers(0, 120), max_size=7)


def compare(query, tables, *, ordered=False, to=OWNERS, **options):
    theirs = pooled.answer(query, DECLARATION, tables)
    ours = run(query, DECLARATION, tables, to=to, **options)
    assert pooled.alike(ours, theirs, ordered=ordered), (ours, theirs)


@pytest.mark.parametrize("name", QUERIES)
@settings(max_examples=1, deadline=None)
@example(rows={"north": list(SOME), "south": [SOME[1], SOME[0]], "west": []}, people=AGES, count=4)
@given(rows=ROWS, people=PEOPLE, count=st.sampled_from([2, 8]))
def test_a_query_in_shards_gives_what_duckdb_gives_over_the_pooled_tables(name, rows, people, count):
    rows = rows | {"north": [*rows["north"], *((who, *SOME[0][1:]) for who in NAMES)]}  # it knows all names
    tables = tables_of(rows, people | {"z": 3})
    tables["north"]["moves"]["who"] += ["z"]
    for i, column in enumerate(("kind", "amount", "n", "urgent")):
        tables["north"]["moves"][column].append(SOME[0][i + 1])
    compare(QUERIES[name], tables, ordered="order" in name, shards=count)


@st.composite
def plans(draw):
    """Return a query with a join by identifier, conditions, groups and an order, in any combination."""
    source, age = draw(
        st.sampled_from(
            [
                ("moves m JOIN people p ON m.who = p.id", "p.age"),
                ("moves m LEFT JOIN people p ON m.who = p.id", "p.age"),
                (
                    "moves m JOIN (SELECT of, count(*) AS age FROM alerts GROUP BY of) p ON m.who = p.of",
                    "p.age",
                ),
                ("(SELECT DISTINCT who, kind, amount, n, urgent FROM moves) m", "m.n"),
            ]
        )
    )
    conditions = draw(
        st.lists(
            st.sampled_from(
                [
                    "m.n > -5",
                    f"{age} + m.n > 0",
                    "m.who IN (SELECT id FROM people WHERE age < 100)",
                    "NOT EXISTS (SELECT 1 FROM alerts a WHERE a.of = m.who AND a.level > 2)",
                    f"m.kind IS NULL OR {age} > 3",
                ]
            ),
            max_size=2,
            unique=True,
        )
    )
    where = f" WHERE {' AND '.join(f'({one})' for one in conditions)}" if conditions else ""
    functions = [
        "count(*)", f"count({age})", "sum(m.amount)", "min(m.n)", f"max({age})", "avg(m.n)", "count(DISTINCT m.who)",
        "bool_or(m.urgent)", f"sum(CASE WHEN {age} > m.n THEN 1 ELSE 0 END)",
    ]  # fmt: skip
    chosen = draw(st.lists(st.sampled_from(functions), min_size=1, max_size=3, unique=True))
    keys = draw(st.lists(st.sampled_from(["m.kind", "m.who", age, "m.urgent"]), max_size=2, unique=True))
    named = [f"{key} AS k{i}" for i, key in enumerate(keys)] + [f"{f} AS v{i}" for i, f in enumerate(chosen)]
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    having = " HAVING count(*) > 1" if keys and draw(st.booleans()) else ""
    return f"SELECT {', '.join(named)} FROM {source}{where}{grouped}{having}"


@settings(max_examples=12, deadline=None)
@given(query=plans(), rows=ROWS, people=PEOPLE, count=st.sampled_from([2, 4]))
def test_random_queries_in_shards_give_what_duckdb_gives(query, rows, people, count):
    rows = rows | {"north": [*rows["north"], *((who, *SOME[0][1:]) for who in NAMES)]}
    compare(query, tables_of(rows, people), shards=count)


def test_one_heavy_identifier_empty_shards_and_owners_without_rows_give_what_duckdb_gives():
    heavy = tables_of({"north": [SOME[0]] * 15, "south": [SOME[0]] * 2, "west": []}, AGES)
    nobody = tables_of(dict.fromkeys(OWNERS, ()), {})
    for name in (
        "join, group by category",
        "join, no keys",
        "left join of groups",
        "distinct persons by category",
    ):
        compare(QUERIES[name], heavy, to="south", shards=16)
        compare(QUERIES[name], nobody, shards=2)


@pytest.mark.parametrize(
    ("computing", "receivers"),
    [
        (("north", "one", "two"), ("lab", "south")),
        (("north", "south", "one", "two"), ("lab",)),
        (("one", "two", "three"), ("lab",)),
    ],
)
def test_three_or_four_parties_compute_for_owners_and_receivers_outside(computing, receivers):
    for name in ("a table beside", "quotients"):
        found = run(QUERIES[name], DECLARATION, HELD, to=receivers, computing=computing, shards=2)
        assert pooled.alike(found, pooled.answer(QUERIES[name], DECLARATION, HELD), ordered=False)


@pytest.mark.parametrize(
    "name", ["join, group by category", "left join, rows told as they are", "a table beside"]
)
@pytest.mark.parametrize(
    ("computing", "receivers"), [(OWNERS, OWNERS[:1]), (("one", "two", "north", "three"), ("lab",))]
)
def test_what_a_query_in_shards_is_said_to_cost_is_what_every_party_s_ledger_has(name, computing, receivers):
    # Sorts of so few rows are by counting, whose bytes do not depend on values.
    tables = tables_of(dict.fromkeys(OWNERS, SOME[:1]), {"a": 40})
    tables["west"]["fees"] = {"kind": ["card"], "fee": [2]}
    plan = plan_query(QUERIES[name], Declaration.parse(DECLARATION), receivers)
    terms = terms_of(4, computing, receivers)
    held = prepared(plan, tables)
    ledgers = played(plan, terms, held).ledgers
    said = expected_cost(plan, terms, {owner: mine.counts(1) for owner, mine in held.items()})
    sent = {name: ledger.total().sent.payload_bytes for name, ledger in ledgers.items()}
    assert said.payload_bytes == sent
    rounds = max(ledger.depth for ledger in ledgers.values())
    assert rounds <= said.rounds <= 1.1 * rounds


# Under owners' rules.

ROWS_PAID = [
    payment(
        at, number, customer=f"c{number % 5}", kind=number % 2, city=number // 8, amount=100 * (number + 1)
    )
    for number, at in enumerate(ORGANISATIONS * 4)
]


def paid_at(organisation):
    rows = [row for row in ROWS_PAID if row["org"] == ORGANISATIONS.index(organisation)]
    columns = {name: [row[name] for row in rows] for name in ("id", "customer", "day", "secret")}
    columns |= {name: [Decimal(row[name]).scaleb(-2) for row in rows] for name in ("amount", "fee")}
    columns |= {
        name: [values[row[name]] for row in rows] for name, values in (("city", "abc"), ("kind", "xy"))
    }
    people = {"customer": ["c0", "c1", "c2", "c3"], "age": [30, 40, 50, 60]}
    return {"payments": columns} | ({"people": people} if organisation == "south" else {})


def paid_rules(owner, bounds):
    return parse_rules(
        f"""
        owner = "{owner}"
        [tables.payments]
        {bounds}
        [tables.payments.columns]
        {COLUMNS}
        [tables.people]
        smallest_group = 1
        [tables.people.columns]
        customer = {{uses = ["join"]}}
        """
    )


OF_PEOPLE = "FROM payments p JOIN people q ON p.customer = q.customer"


@pytest.mark.parametrize(
    ("query", "bounds", "rows"),
    [
        (f"SELECT p.kind, sum(p.amount) s, count(*) n {OF_PEOPLE} GROUP BY p.kind", "smallest_group = 3", 2),
        (
            f"SELECT p.city, sum(p.amount) s {OF_PEOPLE} GROUP BY p.city",
            "smallest_group = 4\npersons = 'customer'\nsmallest_organisations = 2",
            1,
        ),
        (
            f"SELECT p.kind, sum(p.amount) s {OF_PEOPLE} GROUP BY p.kind",
            "smallest_group = 2\ndominance = {percent = 36}",
            1,
        ),
        ("SELECT customer, sum(amount) s FROM payments GROUP BY customer", "smallest_group = 3", 2),
    ],
)
def test_rules_suppress_in_shards_what_they_suppress_in_one_piece(query, bounds, rows):
    tables = {one: paid_at(one) for one in ORGANISATIONS}
    rules = {one: paid_rules(one, bounds) for one in ORGANISATIONS}
    whole, in_shards = (run(query, PAYMENTS, tables, to="lab", rules=rules, shards=n) for n in (1, 4))
    if "SELECT customer" in query:  # their pseudonyms are others in each run
        whole, in_shards = ([row[1:] for row in told] for told in (whole, in_shards))
    assert pooled.alike(in_shards, whole, ordered=False)
    assert len(whole) == rows
