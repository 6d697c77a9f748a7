"""Which plans are divided into shards, by what, and how many rows a shard's blocks have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from secagg.errors import DataError, PlanError, UsageError
from secagg.mpc import buckets
from secagg.query.declaration import Declaration
from secagg.query.division import FromShards, divided
from secagg.query.explain import explain
from secagg.query.joint_run import check, plan_query
from secagg.query.owner import from_mapping, prepare
from shard_queries import DECLARATION, OWNERS, terms_of

JOIN = "FROM moves m JOIN people p ON m.who = p.id"


def planned(query, declaration=DECLARATION, receivers=OWNERS):
    return plan_query(query, Declaration.parse(declaration), receivers)


@pytest.mark.parametrize(
    ("query", "leaves", "rows"),
    [
        # rows: that each shard hands on of the first part, None for as many as it has
        (f"SELECT m.kind, count(*) c {JOIN} GROUP BY m.kind", [("m.who", 15), ("p.id", 1)], 4),
        (f"SELECT count(*) c {JOIN}", [("m.who", 15), ("p.id", 1)], 1),
        (f"SELECT m.who, p.age {JOIN}", [("m.who", 15), ("p.id", 1)], None),
        ("SELECT count(DISTINCT who) d FROM moves", [("moves.who", 15)], 1),
        ("SELECT who, sum(n) s FROM moves GROUP BY who HAVING sum(n) > 3", [("moves.who", 1)], None),
        ("SELECT who, kind, max(n) s FROM moves GROUP BY who, kind", [("moves.who", 4)], None),
        (f"SELECT p.age, sum(m.n) s {JOIN} GROUP BY p.age", [("m.who", 15), ("p.id", 1)], None),
        ("SELECT DISTINCT who, urgent FROM moves", [("who", 3)], None),
        ("SELECT who, n, sum(n) OVER (PARTITION BY who) s FROM moves", [("moves.who", 15)], None),
    ],
)
def test_each_leaf_is_divided_by_an_identifier_with_the_rows_that_keys_and_the_declaration_allow(
    query, leaves, rows
):
    found = divided(planned(query), terms_of(4))
    assert [(leaf.column, leaf.most) for leaf in found.leaves] == leaves
    assert found.parts[0].rows_of_each == rows


ALT = DECLARATION.replace("urgent =", 'alt = {type = "identifier", max_rows = 9}\nurgent =')
UNITED = f"""
    SELECT y, count(DISTINCT x) d FROM (SELECT m.who AS x, p.id AS y {JOIN}
    UNION ALL SELECT who, CASE WHEN n > 0 THEN alt ELSE who END FROM moves) GROUP BY y"""
GROUPED = "WITH t AS (SELECT who, alt, sum(n) s FROM moves GROUP BY who, alt)"


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        # What each shard computes, whether a group may have rows in several shards, and rows at most of all shards.
        (f"SELECT p.age, sum(m.n) s {JOIN} GROUP BY p.age", [("Aggregate", True, 4 * 60)]),
        (f"SELECT m.kind, count(DISTINCT p.age) d {JOIN} GROUP BY m.kind", [("Project", False, 60)]),
        (f"SELECT DISTINCT m.kind, p.age {JOIN}", [("Distinct", True, 4 * 60)]),
        ("SELECT m.who, count(p.age) c FROM moves m LEFT JOIN people p ON m.who = p.id GROUP BY m.who",
         [("Project", False, 60)]),
        # Rows without a partner have NULL for p.id in every shard.
        ("SELECT p.id, count(*) c FROM moves m LEFT JOIN people p ON m.who = p.id GROUP BY p.id",
         [("Aggregate", True, 4 * 60)]),
        # One leaf cannot be divided by two identifiers at once.
        (f"{GROUPED} SELECT x, count(*) c FROM (SELECT who AS x, s FROM t UNION ALL SELECT alt, s FROM t) GROUP BY x",
         [("Aggregate", True, 4 * 120)]),
        (f"{GROUPED} SELECT count(*) c FROM t a JOIN (SELECT alt, count(*) k FROM t GROUP BY alt) b ON a.who = b.alt",
         [("Project", False, 60), ("Project", False, 60)]),
    ],
)  # fmt: skip
def test_shards_compute_as_much_as_follows_from_the_rows_of_each_alone(query, parts):
    found = divided(planned(query, ALT), terms_of(4))
    assert [(type(p.relation).__name__, p.is_partial, p.max_rows) for p in found.parts] == parts
    assert all(not p.unique if p.is_partial else p.unique == p.relation.unique for p in found.parts)


def test_a_table_that_no_identifier_joins_is_shared_once():
    plan = planned(
        f"SELECT j.kind, f.fee FROM (SELECT m.kind, sum(m.n) s {JOIN} GROUP BY m.kind) j JOIN fees f ON j.kind = f.kind"
    )
    found = divided(plan, terms_of(4))
    counts = {"north": (9,), "south": (9, 5), "west": (9, 3)}
    assert [(block.local.table, block.rows) for block in found.main_blocks(counts)] == [("fees", 3)]
    assert {block.local.table for _, block in found.blocks(counts)} == {"moves", "people"}
    assert [one for one in found.root.inputs if isinstance(one, FromShards)] == []  # deeper down


@pytest.mark.parametrize(
    ("query", "changed", "says"),
    [
        ("SELECT kind, sum(n) s FROM moves GROUP BY kind", {},
         "each owner adds up its own groups of moves by moves.kind, so that no rows are left to divide"),
        ("SELECT n, urgent FROM moves", {}, "what owners share of moves has no identifier"),
        ("SELECT who, n FROM moves", {}, "it selects rows of single tables, one by one"),
        ("SELECT m.who, f.fee FROM moves m JOIN fees f ON m.kind = f.kind", {},
         "what owners share of fees has no identifier"),
        (f"SELECT count(*) c {JOIN}", {'id = "identifier"': 'id = {type = "identifier", nullable = true}'},
         "p.id of people may be NULL; declare the column without nullable = true"),
        (f"SELECT m.kind, count(*) c {JOIN} GROUP BY m.kind", {", max_rows = 15": ""},
         "how many rows of moves one who has at one owner at most; declare it, as in who = .* or group by who first"),
        ("SELECT count(*) c FROM (SELECT CASE WHEN n > 0 THEN who ELSE alt END x FROM moves) m JOIN people p ON m.x = p.id",
         {"urgent =": 'alt = "identifier"\nurgent ='}, "one m.x an owner shares of moves at most, and that is computed"),
        ("SELECT kind, max(n) OVER (PARTITION BY kind) s, who FROM moves", {},
         "a window by moves.kind is not partitioned by an identifier"),
        # At two owners everybody knows whom it is of, and so they share no column to divide by.
        ("SELECT x, count(*) c FROM (SELECT CASE WHEN org = 'north' THEN who ELSE 'q' END AS x FROM moves) m GROUP BY x", {},
         "nothing of this query can be divided"),
        # What is equal to x in one part of the union is not so in the other.
        (UNITED,
         {"urgent =": 'alt = {type = "identifier", max_rows = 9}\nurgent ='}, "one y an owner shares of moves at most"),
        ("SELECT a.who, b.n FROM moves a JOIN (SELECT n, max(amount) x FROM moves GROUP BY n) b ON a.n = b.n", {},
         "each owner adds up its own groups of moves by moves.n"),
    ],
)  # fmt: skip
def test_a_plan_that_is_not_divided_is_refused_with_the_condition_that_fails(query, changed, says):
    declaration = DECLARATION
    for old, new in changed.items():
        declaration = declaration.replace(old, new)
    with pytest.raises(UsageError, match=says):
        check(planned(query, declaration), terms_of(4))


def test_a_refusal_says_what_is_missing_for_both_ways():
    terms = terms_of(4)
    with pytest.raises(
        PlanError,
        match=r"nothing of this query can be divided.* none: it is not told to all",
    ):
        check(planned("SELECT kind, sum(n) s FROM moves GROUP BY kind"), terms)
    own = type(terms)(terms.parties, terms.computing, (), about_own=OWNERS, shards=4)
    with pytest.raises(
        PlanError, match=r"named, and this one tells north, south, west.*none: m is not of a sum of numbers"
    ):
        check(planned("SELECT who, max(n) m FROM moves GROUP BY who"), own)
    for count in (3, 512):
        with pytest.raises(PlanError, match=f"a power of two from 2 to 256 shards, got {count}"):
            check(planned(f"SELECT count(*) c {JOIN}"), terms_of(count))


def test_what_is_explained_names_shards_and_the_places_of_each_block():
    plan = planned(f"SELECT m.kind, count(*) c {JOIN} GROUP BY m.kind")
    found = explain(plan, terms_of(4), dict.fromkeys(OWNERS, 20))
    lines = "\n".join(found.tree)
    assert "Take what each of 4 shards by m.who and p.id has  (at most 16 rows)" in lines
    assert (
        "Divided: people by p.id, one row of each identifier; places in a shard: 20 for the 20 rows of south"
        in lines
    )
    assert any(
        "shared more rows than it announced, in all shards together" in what for _, what in found.opened
    )
    assert found.has_sorts


def test_the_right_side_of_a_left_join_divides_nothing_above_it():
    above = "SELECT x, count(*) c FROM (SELECT m.n x, p.id FROM moves m LEFT JOIN people p ON m.who = p.id) j GROUP BY "
    assert divided(planned(above + "x"), terms_of(4)).parts[0].is_partial
    by_right = "SELECT id, count(*) c FROM (SELECT p.id FROM moves m LEFT JOIN people p ON m.who = p.id) j GROUP BY id"
    assert divided(planned(by_right), terms_of(4)).parts[0].is_partial  # rows of NULL lie in all shards


# Rows of one identifier.


def test_a_declared_key_with_a_column_that_may_be_null_bounds_no_rows_of_an_identifier():
    """Rows with NULL in a key may be as many as one likes: NULL equals no other NULL there, as it does in groups."""
    unique = DECLARATION.replace(
        '[tables.moves]\nholders = ["north", "south", "west"]',
        '[tables.moves]\nkeys = [["who", "kind"]]\nholders = ["north", "south", "west"]',
    ).replace(", max_rows = 15", "")
    rows = "SELECT who, kind, n, sum(n) OVER (PARTITION BY who) s FROM moves"
    found = divided(planned(rows, unique.replace('"wire"], nullable = true', '"wire"]')), terms_of(4))
    assert [leaf.most for leaf in found.leaves] == [3]
    many_with_null = {"who": ["a"] * 20, "kind": [None] * 20, "amount": [1] * 20, "n": [1] * 20}
    held = from_mapping({"moves": many_with_null}, "north")
    assert prepare(planned(rows, unique), "north", held, announce_filtered=False).counts(1) == (20,)
    with pytest.raises(PlanError, match="how many rows of moves one who has at one owner at most"):
        divided(planned(rows, unique), terms_of(4))
    groups = """SELECT who, kind, max(n) OVER (PARTITION BY who) s
        FROM (SELECT who, kind, max(n) AS n FROM moves GROUP BY who, kind)"""
    assert [leaf.most for leaf in divided(planned(groups, unique), terms_of(4)).leaves] == [4]


def test_distinct_rows_and_groups_of_very_many_columns_are_divided():
    """The numbers of their combinations are larger than any float."""
    columns = "".join(f'w{i} = {{type = "integer", min = 0, max = {10**17}}}\n' for i in range(20))
    wide = DECLARATION.replace(
        "urgent =", f'alt = {{type = "identifier", nullable = true}}\n{columns}urgent ='
    )
    names = ", ".join(f"w{i}" for i in range(20))
    found = divided(planned(f"SELECT DISTINCT who, {names} FROM moves", wide), terms_of(4))
    assert [leaf.most for leaf in found.leaves] == [15]
    found = divided(
        planned(f"SELECT {names}, alt, who, max(n) m FROM moves GROUP BY {names}, alt, who", wide),
        terms_of(4),
    )
    assert [leaf.most for leaf in found.leaves] == [15]


def test_an_owner_with_more_rows_of_an_identifier_than_declared_is_told_how_many_and_no_name():
    plan = planned(f"SELECT count(*) c {JOIN}")
    columns: dict[str, Any] = {"who": ["secret"] * 16 + ["b"] * 2, "kind": ["card"] * 18, "amount": [1] * 18}
    held = {"moves": columns | {"n": [1] * 18, "urgent": [True] * 18}}
    says = r"^north: moves declares at most 15 rows of one who \(max_rows\); identifiers with more: 1, the largest with 16"
    with pytest.raises(DataError, match=says) as caught:
        prepare(plan, "north", from_mapping(held, "north"), announce_filtered=False)
    assert "secret" not in str(caught.value)


def test_as_many_rows_of_an_identifier_as_declared_are_taken_and_rows_without_one_are_not_counted():
    declaration = DECLARATION.replace("max_rows = 15", "max_rows = 15, nullable = true")
    plan = planned("SELECT kind, count(who) c FROM moves WHERE n > 0 GROUP BY kind", declaration)
    columns: dict[str, Any] = {
        "kind": ["card"] * 20,
        "amount": [1] * 20,
        "n": [1] * 20,
        "urgent": [True] * 20,
    }

    def take(who):
        held = {"moves": columns | {"who": who}}
        prepare(plan, "north", from_mapping(held, "north"), announce_filtered=False)

    take(["a"] * 15 + ["b"] * 5)
    take([None] * 18 + ["a", "b"])
    with pytest.raises(DataError, match="identifiers with more: 1, the largest with 16"):
        take(["a"] * 16 + [None] * 4)


@pytest.mark.parametrize("most", ["0", "100000001", "true", "1.5"])
def test_max_rows_of_an_identifier_is_a_number_of_rows(most):
    with pytest.raises(UsageError, match="max_rows"):
        Declaration.parse(DECLARATION.replace("max_rows = 15", f"max_rows = {most}"))


def test_other_types_take_no_max_rows():
    with pytest.raises(UsageError, match="max_rows"):
        Declaration.parse(DECLARATION.replace("min = -9,", "max_rows = 3, min = -9,"))


# Capacities.


def exact_tail(weights, shards, capacity):
    """Return the probability that more rows than the capacity fall into one shard; weights: rows of each identifier."""
    chances = np.zeros(sum(weights) + 1)
    chances[0] = 1
    for weight in weights:
        moved = np.zeros_like(chances)
        moved[weight:] = chances[: len(chances) - weight]
        chances = chances * (1 - 1 / shards) + moved / shards
    return chances[capacity + 1 :].sum()


@pytest.mark.parametrize(
    ("rows", "most", "shards"), [(4000, 1, 8), (4000, 7, 8), (4000, 20, 2), (3000, 30, 16)]
)
def test_rows_of_identifiers_with_any_numbers_overflow_a_shard_with_at_most_the_probability_said(
    rows, most, shards
):
    lists = 3
    capacity = buckets.capacity(rows, shards, lists, most)
    allowed = 2.0**-buckets.OVERFLOW_BITS / (lists * shards)
    assert capacity < rows
    draw = np.random.default_rng(rows * most + shards)
    largest = [most] * (rows // most)
    mixed = draw.integers(1, most + 1, rows // most).tolist()
    for weights in (largest, [1] * rows, mixed, largest[: len(largest) // 2] + [1] * (rows // 2)):
        assert sum(weights) <= rows
        assert exact_tail(weights, shards, capacity) <= allowed
    # The bound is not far from what rows of the largest identifiers do: a tenth of the room less would not do.
    less = math.floor(rows / shards + 0.6 * (capacity - rows / shards))
    assert exact_tail(largest, shards, less) > allowed


def test_capacities_grow_with_rows_of_one_identifier_and_are_never_more_than_all_rows():
    sizes = [buckets.capacity(10_000, 16, 4, most) for most in (1, 5, 25, 125, 10_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 900
    assert sizes[-1] == 10_000
    assert buckets.capacity(0, 16, 4, 5) == 1
