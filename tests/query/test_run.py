"""Queries over several owners' tables give what DuckDB gives over the pooled ones.

The module is long because one declaration and its tables serve every kind of query.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pooled_queries as pooled
from clear import run_clear
from secagg import simulate
from secagg.errors import DataError, UsageError
from secagg.mpc.arrays.engine import Engine
from secagg.query import planner, sql
from secagg.query.declaration import Declaration
from secagg.query.encoding import Field
from secagg.query.explain import explain
from secagg.query.joint_run import (
    agree,
    expected_cost,
    plan_query,
    run,
    run_for_owners,
    take_part,
)
from secagg.query.owner import from_mapping, prepare
from secagg.query.results import Opened, result_table
from secagg.query.rows import Rows
from secagg.query.terms import QueryTerms
from table_rows import shared

pytestmark = pytest.mark.slow

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
    "local filters, dense groups": """
        SELECT kind, urgent, sum(amount) s, count(*) n, count(rate) c, avg(rate) a, min(n) lo, max(day) hi,
            bool_or(urgent) o
        FROM moves WHERE n > -5 OR amount IS NULL GROUP BY kind, urgent""",
    "no groups": """
        SELECT sum(amount * (1 - rate)) s, avg(n) a, count(DISTINCT who) d, min(amount) lo FROM moves""",
    "groups by sort, having": """
        SELECT who, n, sum(rate) s, count(*) c FROM moves GROUP BY who, n HAVING sum(rate) > -1""",
    "three-valued logic": """
        SELECT CASE WHEN n > 0 AND urgent THEN 'yes' WHEN NOT (n > 0 OR urgent) THEN 'no' ELSE 'open' END verdict,
            count(*) c
        FROM moves GROUP BY verdict""",
    "inner join": """
        SELECT m.who, p.age, m.amount, m.n + p.age total FROM moves m JOIN people p ON m.who = p.id
        WHERE p.age > 10 OR m.n IS NULL""",
    "left join, groups": """
        SELECT p.id, count(m.n) c, sum(m.amount) s FROM people p LEFT JOIN moves m ON p.id = m.who GROUP BY p.id""",
    "semi join": "SELECT kind, n FROM moves WHERE who IN (SELECT id FROM people WHERE age < 60)",
    "distinct, union": "SELECT DISTINCT who, urgent FROM moves UNION ALL SELECT id, age > 50 FROM people",
    "order and limit": """
        SELECT n, kind FROM moves ORDER BY n DESC NULLS LAST, kind NULLS FIRST LIMIT 3 OFFSET 1""",
    "parts of joint dates": """
        SELECT kind, year(max(day)) y, month(min(day)) m, day(max(day)) d, quarter(min(day)) q, dayofweek(max(day)) w
        FROM moves GROUP BY kind, n""",
    "quotients": """
        SELECT m.kind, sum(m.amount) / count(*) r, 100 * sum(CASE WHEN p.age > 30 THEN m.n ELSE 0 END) / sum(m.n) q
        FROM moves m JOIN people p ON m.who = p.id GROUP BY m.kind""",
    "dates": """
        SELECT year(m.day) y, quarter(m.day) q, m.day - DATE '2024-01-01' d
        FROM moves m JOIN people p ON m.who = p.id WHERE m.day + INTERVAL 30 DAY >= DATE '2024-06-01'""",
    "windows of partitions and frames": """
        SELECT t.*, d + s AS both, dense_rank() OVER (PARTITION BY who ORDER BY n DESC) k,
            rank() OVER (PARTITION BY who ORDER BY n DESC) r FROM (
            SELECT who, n,
                sum(n) OVER (PARTITION BY who) s, count(*) OVER (PARTITION BY who) c, avg(amount) OVER (PARTITION BY who) a,
                min(rate) OVER (PARTITION BY who) lo, max(day) OVER (PARTITION BY who) hi, bool_or(urgent) OVER () o,
                sum(n) OVER (PARTITION BY kind ORDER BY n) d, count(*) OVER (ORDER BY amount DESC NULLS LAST) f
            FROM moves) t""",
    "windows of groups, which are unique": """
        SELECT who, n, row_number() OVER (PARTITION BY who ORDER BY n) r,
            lag(n) OVER (PARTITION BY who ORDER BY n) b, lead(c, 2) OVER (PARTITION BY who ORDER BY n) l,
            sum(s) OVER (PARTITION BY who ORDER BY n ROWS UNBOUNDED PRECEDING) t,
            avg(c) OVER (PARTITION BY who ORDER BY n ROWS UNBOUNDED PRECEDING) m
        FROM (SELECT who, n, sum(amount) s, count(*) c FROM moves GROUP BY who, n)""",
    "subquery": """
        WITH t AS (SELECT who, sum(n) s FROM moves GROUP BY who) SELECT count(*) c, sum(s) t FROM t WHERE s > 0""",
}
SOME = (  # NULL in every column; an owner without rows
    ("a", "card", Decimal("3.10"), 4, Decimal("0.25"), datetime.date(2024, 5, 6), True),
    ("b", None, Decimal("7.00"), -3, None, datetime.date(2025, 2, 28), False),
    (None, "cash", None, None, Decimal("-1.5"), None, None),
    ("a", "card", Decimal("0.01"), None, Decimal("0.01"), datetime.date(2024, 12, 31), None),
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in QUERIES])
@settings(max_examples=1, deadline=None)
@example(rows={"north": list(SOME), "south": [SOME[1], SOME[0]], "west": []}, people={"a": 40, "b": None})
@given(rows=st.fixed_dictionaries({o: st.lists(ROW, max_size=6) for o in OWNERS}), people=PEOPLE)
def test_a_query_gives_what_duckdb_gives_over_the_pooled_tables(name, rows, people):
    # So that the receiver knows all names.
    rows = rows | {"north": [*rows["north"], *((who, *SOME[0][1:]) for who in ("a", "b", "c"))]}
    query, tables = QUERIES[name], tables_of(rows, people)
    theirs = pooled.answer(query, DECLARATION, tables)
    ours = run(query, DECLARATION, tables, to=OWNERS)
    assert pooled.alike(ours, theirs, ordered=name == "order and limit"), (ours, theirs)


@pytest.mark.parametrize(
    "query", ["SELECT kind, count(*) c FROM moves GROUP BY kind", "SELECT who, n FROM moves"]
)
def test_no_rows_at_all_give_what_duckdb_gives(query):
    tables = tables_of(dict.fromkeys(OWNERS, ()), {})
    assert run(query, DECLARATION, tables) == pooled.answer(query, DECLARATION, tables) == []


def test_the_example_on_the_page_of_sql_prints_what_it_says(capsys):
    page = (Path(__file__).parents[2] / "docs/sql.md").read_text("utf-8").split("## Trying a query out")[1]
    code, said = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)[:2]
    exec(code, {})
    assert capsys.readouterr().out == said


def test_a_data_frame_is_taken_as_a_table():
    tables = tables_of(dict.fromkeys(OWNERS, SOME), {})
    frames = {
        o: {name: pd.DataFrame(columns) for name, columns in held.items()} for o, held in tables.items()
    }
    query = "SELECT kind, count(*) c, sum(n) s FROM moves GROUP BY kind"
    assert pooled.alike(
        run(query, DECLARATION, frames), pooled.answer(query, DECLARATION, tables), ordered=False
    )


def test_a_customer_that_owners_spell_differently_is_one():
    declaration = DECLARATION.replace("who = {", 'who = {spelling = "iban", ').replace(
        'id = "identifier"', 'id = {type = "identifier", spelling = "iban"}'
    )
    spellings = ("NL91ABNA0417164300", "nl91 abna 0417 1643 00", "IBAN NL91-ABNA-0417-1643-00")
    moves = {o: [(one, *SOME[0][1:])] for o, one in zip(OWNERS, spellings, strict=True)}
    tables = tables_of(moves, {"NL91 ABNA 0417 1643 00": 40})
    query = "SELECT m.who, p.age, count(*) c FROM moves m JOIN people p ON m.who = p.id GROUP BY m.who, p.age"
    assert run(query, declaration, tables, to=OWNERS) == [(spellings[0], 40, 3)]
    tables["west"]["moves"]["who"] = ["NL92ABNA0417164300"]
    with pytest.raises(DataError, match="who: 1 of 1 rows hold a text that is no IBAN: its check digits"):
        run(query, declaration, tables)
    with pytest.raises(UsageError, match="spells this constant 'NL91ABNA0417164300'; write it so"):
        run(f"SELECT n FROM moves WHERE who = '{spellings[1]}'", declaration, tables)


def test_each_owner_gets_the_rows_of_its_own_identifiers_and_no_others():
    moves = {"north": [SOME[0]], "south": [SOME[1]], "west": [SOME[0], SOME[1]]}
    told = run_for_owners("SELECT who, sum(n) s FROM moves GROUP BY who", DECLARATION, tables_of(moves, {}))
    found = {name: sorted(rows) for name, rows in told.items()}
    assert found == {"north": [("a", 8)], "south": [("b", -6)], "west": [("a", 8), ("b", -6)]}


def test_an_owner_outside_that_shares_no_identifiers_is_told_nothing_and_does_not_wait():
    declaration = """
    [tables.moves]
    holders = ["north", "south"]
    max_rows = 4
    [tables.moves.columns]
    who = "identifier"
    kind = {type = "category", values = ["card", "cash"]}
    [tables.fees]
    holder = "west"
    max_rows = 2
    keys = [["kind"]]
    [tables.fees.columns]
    kind = {type = "category", values = ["card", "cash"]}
    fee = {type = "integer", min = 0, max = 9}
    """
    query = "SELECT m.who, sum(f.fee) s FROM moves m JOIN fees f ON m.kind = f.kind GROUP BY m.who"
    held: dict[str, Any] = {
        "north": {"moves": {"who": ["a", "b"], "kind": ["card", "cash"]}},
        "south": {"moves": {"who": ["a"], "kind": ["cash"]}},
        "west": {"fees": {"kind": ["card", "cash"], "fee": [2, 5]}},
    }
    told = run_for_owners(query, declaration, held, computing=("north", "one", "two"))
    assert {name: sorted(rows) for name, rows in told.items()} == {
        "north": [("a", 7), ("b", 5)], "south": [("a", 7)], "west": []
    }  # fmt: skip
    with pytest.raises(UsageError, match="needs a column with an identifier"):
        run_for_owners("SELECT count(*) n FROM moves", declaration, held)


def test_four_parties_compute_for_owners_and_a_receiver_outside():
    moves = {"north": [SOME[0]], "south": [SOME[1]], "west": [SOME[0]]}
    query = (
        "SELECT m.kind, p.age, sum(m.n) s FROM moves m JOIN people p ON m.who = p.id GROUP BY m.kind, p.age"
    )
    found = run(
        query,
        DECLARATION,
        tables_of(moves, {"a": 40, "b": 3}),
        to="analyst",
        computing=["c1", "c2", "c3", "c4"],
    )
    assert sorted(found, key=str) == [("card", 40, 8), (None, 3, -3)]


PARTIES = (
    (OWNERS, ("north",)),
    (("north", "one", "two"), ("lab",)),
    (("north", "south", "one", "two"), ("lab", "south")),
)


@pytest.mark.parametrize(
    ("name", "parties"),
    [(name, PARTIES[i % 3]) for i, name in enumerate(QUERIES) if not name.startswith("windows")],
)
def test_what_a_query_is_said_to_cost_is_what_every_party_s_ledger_has(name, parties):
    computing, receivers = parties
    plan = plan_query(QUERIES[name], Declaration.parse(DECLARATION), receivers)
    terms = QueryTerms(tuple(dict.fromkeys([*OWNERS, *computing, *receivers])), computing, receivers)
    held = tables_of({o: list(SOME[:2]) for o in OWNERS}, {"a": 40, "b": None})
    found = explain(plan, terms, dict.fromkeys(OWNERS, 2))

    async def program(party):
        mine = None
        if party.me in plan.owners:
            mine = prepare(plan, party.me, from_mapping(held[party.me], party.me), announce_filtered=False)
        return await take_part(party, plan, terms, await agree(party, plan, terms, mine), mine)

    ledgers = simulate(dict.fromkeys(terms.parties, program)).ledgers
    # Sorts of two rows are by counting, whose bytes do not depend on values.
    assert found.cost.payload_bytes == {n: ledger.total().sent.payload_bytes for n, ledger in ledgers.items()}
    rounds = max(ledger.depth for ledger in ledgers.values())
    if found.has_sorts:  # a step of a sort may begin before the one before has ended everywhere
        assert rounds <= found.cost.rounds <= 1.06 * rounds
    else:
        assert found.cost.rounds == rounds


def test_a_receiver_sees_pseudonyms_of_identifiers_that_its_own_rows_have_not():
    found = run(
        "SELECT who FROM moves", DECLARATION, tables_of({o: [SOME[0]] for o in OWNERS}, {}), to="analyst"
    )
    assert len(found) == 3
    assert all(name.startswith("pseudonym:") for (name,) in found)


@pytest.mark.parametrize(
    ("query", "column", "value"),
    [
        ("SELECT n FROM moves", 0, 10),
        ("SELECT n FROM moves", 0, -(2**63)),
        ("SELECT kind, sum(n) s FROM moves GROUP BY kind", 0, 541),  # of at most 60 rows of at most 9
    ],
)
def test_numbers_outside_their_range_that_an_altered_owner_shares_end_the_run(query, column, value):
    declared = Declaration.parse(DECLARATION)
    plan = planner.plan(sql.plan(query, declared), declared)
    terms = QueryTerms(OWNERS, OWNERS, OWNERS)
    held = tables_of({o: [SOME[0]] for o in OWNERS}, {})
    prepared = {o: prepare(plan, o, from_mapping(held[o], o), announce_filtered=False) for o in OWNERS}
    prepared["west"].parts[0].columns[column].values[0] = value

    async def program(party):
        mine = prepared[party.me]
        return await take_part(party, plan, terms, await agree(party, plan, terms, mine), mine)

    with pytest.raises(
        DataError, match=r"^west shared numbers of moves outside [^;]*; nothing of the result was opened"
    ):
        simulate(dict.fromkeys(OWNERS, program)).values()


def _moves(row, times=1, **changed):
    columns = dict(zip(COLUMNS, row, strict=True)) | changed
    return {"moves": {name: [value] * times for name, value in columns.items()}}


@pytest.mark.parametrize(
    ("owner", "held", "says"),
    [
        ("north", {"moves": {"who": ["a"]}}, "north: moves has no column n"),
        ("north", _moves(SOME[0], n=10), "north: .*1 of 1 rows lie outside"),
        ("north", _moves(SOME[0], 21), "21 rows, and at most 20 are declared"),
        (
            "south",
            _moves(SOME[0]) | {"people": {"id": ["a", "a"], "age": [1, 2]}},
            "people declares id unique; values that stand in several rows: 1",
        ),
    ],
)
def test_a_table_that_breaks_the_declaration_is_refused_at_its_owner(owner, held, says):
    tables = tables_of(dict.fromkeys(OWNERS, ()), {}) | {owner: held}
    with pytest.raises(UsageError, match=says):
        run("SELECT m.n, p.age FROM moves m JOIN people p ON m.who = p.id", DECLARATION, tables)


def test_a_key_that_is_unique_at_each_owner_and_not_over_all_ends_the_run():
    declaration = DECLARATION.replace('holder = "south"', 'holders = ["north", "south"]')
    tables = tables_of({o: [SOME[0]] for o in OWNERS}, {"a": 1})
    tables["north"]["people"] = {"id": ["a"], "age": [2]}
    with pytest.raises(DataError, match=r"p\.id is declared unique.*nothing of the result was opened"):
        run("SELECT m.n, p.age FROM moves m JOIN people p ON m.who = p.id", declaration, tables)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT x FROM moves", "x"),
        ("SELECT n FROM nowhere", "nowhere"),
        ("SELECT sum(amount * amount * amount * amount) s FROM moves", "narrower ranges"),
        ("SELECT a.n FROM moves a JOIN moves b ON a.who = b.who", "no side whose keys are declared unique"),
        (
            "SELECT min(n) OVER (ORDER BY day) lo FROM moves",
            "MIN over a window is computed for whole partitions",
        ),
        ("SELECT sum(n) OVER (ROWS UNBOUNDED PRECEDING) s FROM moves", "ROWS without ORDER BY"),
        (
            "SELECT avg(q) a FROM (SELECT who, avg(n) q FROM moves GROUP BY who)",
            "the mean of .*q, a quotient",
        ),
    ],
)
def test_a_query_that_cannot_be_computed_is_refused_before_a_table_is_read(query, says):
    declaration = DECLARATION.replace("max = 1000,", "max = 1000000,")
    with pytest.raises(UsageError, match=says):
        run(query, declaration, {o: {} for o in OWNERS})


def test_the_expected_cost_is_the_ledgers():
    query = "SELECT kind, sum(n) s, avg(amount) a FROM moves GROUP BY kind"
    declared = Declaration.parse(DECLARATION)
    plan = planner.plan(sql.plan(query, declared), declared)
    terms = QueryTerms(OWNERS, OWNERS, OWNERS[:1])
    held = tables_of({o: list(SOME) for o in OWNERS}, {})
    prepared = {o: prepare(plan, o, from_mapping(held[o], o), announce_filtered=False) for o in OWNERS}

    async def program(party):
        mine = prepared[party.me]
        return await take_part(party, plan, terms, await agree(party, plan, terms, mine), mine)

    outcome = simulate(dict.fromkeys(OWNERS, program))
    outcome.values()
    expected = expected_cost(plan, terms, {o: prepared[o].counts(1) for o in OWNERS})
    for name in OWNERS:
        assert (
            sum(t.payload_bytes for t in outcome.ledgers[name].sent_to.values())
            == expected.payload_bytes[name]
        )


def test_the_repr_of_what_was_opened_shows_no_value():
    opened = Opened(Field("salary", "number"), np.array([123456]), np.array([123456]), None)
    assert "123456" not in repr(opened)


def test_all_of_an_owner_without_rows_or_values_is_not_false():
    no_value = (*SOME[0][:6], None)
    tables = tables_of({"north": [SOME[0]], "south": [no_value], "west": []}, {})
    assert run("SELECT kind, bool_and(urgent) e FROM moves GROUP BY kind", DECLARATION, tables) == [
        ("card", True)
    ]


def test_a_quotient_by_zero_is_null():
    less = (*SOME[0][:3], -SOME[0][3], *SOME[0][4:])
    tables = tables_of({"north": [SOME[0]], "south": [less], "west": []}, {})
    assert run("SELECT kind, sum(amount) / sum(n) r FROM moves GROUP BY kind", DECLARATION, tables) == [
        ("card", None)
    ]


def opened_matrix(plain, valid):
    """Return what is opened of a result's rows, in no asked order: which are valid, the values, and which are NULL."""
    fields = [Field(name, "number", low=0, high=99, nullable=True) for name in plain]

    async def start(primitives):
        matrix, _ = result_table(Rows(shared(Engine(primitives), plain, valid)), fields)
        return await matrix.open()

    return run_clear(start)


def test_of_rows_that_are_not_valid_and_under_null_zeros_are_opened():
    valid, values, null = opened_matrix({"x": [None, None, 5, None, 7]}, [True, True, True, False, False])
    assert valid.tolist() == [1, 1, 1, 0, 0]
    assert sorted(zip(values[:3].tolist(), null[:3].tolist(), strict=True)) == [(0, 1), (0, 1), (5, 0)]
    assert not values[3:].any()
    assert not null[3:].any()


def test_rows_in_no_asked_order_do_not_stand_as_they_came():
    came = list(range(30))
    _, values, _ = opened_matrix({"x": came}, [True] * 30)
    assert values.tolist() != came
    assert sorted(values.tolist()) == came
