"""Owners' rules at their edges: what counts as which use or comparison, and just where a number is suppressed or rounded.

Suppression is seen on the plan's plaintext evaluation; the same plan runs on shares.
"""

from __future__ import annotations

import msgspec
import pytest

from owner_rules import (
    COLUMNS,
    DECLARATION,
    ORGANISATIONS,
    all_rules,
    answer,
    grants,
    payment,
    payments,
    rules_of,
)
from secagg.errors import RuleError
from secagg.query.rules import OwnerRules, apply
from secagg.query.sql import plan

MIXED = ("north", "south", "west", "north", "south", "west")
LARGEST_60 = "smallest_group = 3\ndominance = {largest = 1, percent = 60}"
SUM = "SELECT SUM(amount) AS s FROM payments"


def allowing(column: str, uses: str, more: str = "") -> str:
    """Return the columns' rules with other uses of one column."""
    lines = [line for line in COLUMNS.strip().splitlines() if not line.startswith(f"{column} =")]
    return "\n".join([*lines, f"{column} = {{uses = [{uses}]{more}}}"])


def with_people_rounded(rules: OwnerRules, multiple: int) -> OwnerRules:
    people = msgspec.structs.replace(rules.tables["people"], round_counts=multiple)
    return msgspec.structs.replace(rules, tables={**rules.tables, "people": people})


# Uses and comparisons


@pytest.mark.parametrize("function", ["LEAST", "GREATEST"])
def test_least_and_greatest_with_a_constant_count_as_comparisons(function: str) -> None:
    columns = allowing("amount", '"aggregate", "compare"', ", arithmetic = true")
    sums = ", ".join(f"SUM({function}(amount, {i})) AS s{i}" for i in (1, 2, 3))
    with pytest.raises(RuleError, match=r"rule comparisons = 2 of payments\.amount: .* 3 times"):
        grants(f"SELECT {sums} FROM payments", all_rules(columns=columns))


def test_is_null_counts_as_a_comparison() -> None:
    columns = allowing("fee", '"aggregate", "compare"', ", comparisons = 0")
    with pytest.raises(RuleError, match=r"rule comparisons = 0 of payments\.fee: .* 1 times"):
        grants("SELECT COUNT(*) AS n FROM payments WHERE fee IS NULL", all_rules(columns=columns))


def test_a_limit_counts_as_a_comparison_of_what_it_orders_by() -> None:
    columns = allowing("day", '"aggregate", "rank"', ", comparisons = 0")
    sql = "SELECT SUM(amount) AS s FROM (SELECT amount, day FROM payments ORDER BY day LIMIT 5) AS q"
    with pytest.raises(RuleError, match=r"rule comparisons = 0 of payments\.day: .* 1 times"):
        grants(sql, all_rules(columns=columns))


def test_a_mean_of_a_case_with_several_weights_is_refused_as_its_sum_is() -> None:
    weights = "CASE WHEN city = 'a' THEN 1 WHEN city = 'b' THEN 1000 ELSE 0 END"
    with pytest.raises(RuleError, match=r"rule arithmetic = false of payments\.city: .*several weights"):
        grants(f"SELECT AVG({weights}) AS s FROM payments")


def test_distinct_below_an_aggregate_asks_for_the_use_as_group() -> None:
    columns = allowing("id", '"join", "group"')
    with pytest.raises(RuleError, match=r"payments\.amount to be used as group"):
        grants(
            "SELECT COUNT(*) AS n FROM (SELECT DISTINCT id, amount FROM payments) AS q",
            all_rules(columns=columns),
        )


@pytest.mark.parametrize("function", ["LAG", "LEAD"])
def test_a_copied_value_told_as_a_key_asks_that_it_may_be_opened(function: str) -> None:
    columns = allowing("day", '"group", "rank"')
    sql = (
        f"SELECT x, COUNT(*) AS n FROM (SELECT {function}(day) OVER (PARTITION BY customer ORDER BY day) AS x "
        "FROM payments) AS q GROUP BY x"
    )
    with pytest.raises(RuleError, match=r"payments\.day to be used as open"):
        grants(sql, all_rules(columns=columns))


def test_rows_one_by_one_need_persons_of_one_too() -> None:
    bounds = 'smallest_group = 1\npersons = "customer"\nsmallest_persons = 2'
    with pytest.raises(RuleError, match="smallest_persons = 2 of payments: the query tells rows"):
        grants("SELECT city FROM payments", all_rules(bounds, allowing("city", '"open"')))


# Who and what fills a group up


def test_of_several_owners_who_ask_for_persons_the_one_who_asks_for_most_counts() -> None:
    asked = {
        one: rules_of(one, f'smallest_group = 2\npersons = "customer"\nsmallest_persons = {n}')
        for one, n in zip(ORGANISATIONS, (2, 5, 3), strict=True)
    }
    rows = payments(*ORGANISATIONS, *ORGANISATIONS)
    assert answer(SUM, {"payments": rows}, asked) != []
    assert answer(SUM, {"payments": rows[:4]}, asked) == []


def test_a_receivers_own_persons_do_not_fill_a_group_up() -> None:
    rules = all_rules('smallest_group = 3\npersons = "customer"')
    victim = [payment(one, i, customer="same") for i, one in enumerate(("south", "west") * 3)]
    own = [payment("north", 20 + i) for i in range(9)]
    assert answer(SUM, {"payments": [*victim, *own]}, rules, to=["north"]) == []
    assert answer(SUM, {"payments": [*payments("south", "west", "south"), *own]}, rules, to=["north"])


def test_rows_that_are_null_in_an_inner_sum_do_not_fill_a_group_up() -> None:
    sql = "SELECT SUM(s) AS t FROM (SELECT customer, SUM(fee) AS s FROM payments GROUP BY customer) AS q"
    missing = payments(*MIXED, customer="same", fee=None)
    victim = payment("south", 9, customer="same", fee=77)
    assert answer(sql, {"payments": [*missing, victim]}) == []
    assert answer(sql, {"payments": payments(*MIXED, customer="same")})


def test_a_branch_of_a_part_of_a_union_is_a_group() -> None:
    sql = (
        "SELECT SUM(x) AS s FROM (SELECT CASE WHEN day < 9 THEN amount ELSE 0 END AS x FROM payments "
        "UNION ALL SELECT age AS x FROM people) AS u"
    )
    people = [{"customer": f"p{i}", "age": 40} for i in range(6)]
    late = payments(*MIXED, day=20)
    early = [payment(one, 50 + i, day=1) for i, one in enumerate(MIXED)]
    assert answer(sql, {"payments": [*late, *early], "people": people})
    alone = payment("south", 90, day=1, amount=777)
    assert answer(sql, {"payments": [*late, alone], "people": people}) == []


# Dominance


@pytest.mark.parametrize(("largest", "told"), [(600, True), (601, False)])
@pytest.mark.parametrize("function", ["SUM", "AVG"])
def test_sums_and_means_are_told_up_to_just_the_allowed_part_of_one_row(
    function: str, largest: int, told: bool
) -> None:
    rows = [*payments("north", "south", "west", "north"), payment("south", 9, amount=largest)]
    sql = f"SELECT {function}(amount) AS s FROM payments"
    assert bool(answer(sql, {"payments": rows}, all_rules(LARGEST_60))) is told


def test_contributions_below_zero_count_by_their_size() -> None:
    bounds = all_rules("smallest_group = 3\ndominance = {largest = 1, percent = 30}")
    rows = [payment(ORGANISATIONS[i % 3], i, day=1, amount=0) for i in range(14)]
    whale = payment("south", 50, day=0, amount=1000)
    sql = "SELECT SUM(day - amount) AS s FROM payments"
    assert answer(sql, {"payments": rows}, bounds)
    assert answer(sql, {"payments": [*rows, whale]}, bounds) == []


def test_who_dominates_the_whole_though_no_view_without_a_receiver_is_suppressed() -> None:
    rules = all_rules('persons = "customer"\n' + LARGEST_60)
    west = [payment("west", i, amount=100) for i in range(4)]
    halves = [payment(one, customer="zoe", amount=500) for one in ("north", "south")]
    assert answer(SUM, {"payments": [*west, *halves[:1]]}, rules, ("lab",)) != []  # 500 of 900
    assert answer(SUM, {"payments": [*west, *halves]}, rules, ("north", "south")) == []  # 1000 of 1400
    halves[1] |= {"customer": "yan"}
    assert answer(SUM, {"payments": [*west, *halves]}, rules, ("north", "south")) != []


def test_dominance_of_rows_and_of_persons_hold_side_by_side() -> None:
    of_rows = all_rules(LARGEST_60)
    of_both = all_rules(LARGEST_60, south=rules_of("south", LARGEST_60 + '\npersons = "customer"'))
    rows = payments(*MIXED) + [payment("south", 50 + i, customer="whale", amount=900) for i in range(2)]
    assert answer(SUM, {"payments": rows}, of_rows)
    assert answer(SUM, {"payments": rows}, of_both) == []


# Margins

MARGINS_OF_TWO = (
    "SELECT city, kind, COUNT(*) AS s FROM payments GROUP BY city, kind "
    "UNION ALL SELECT city, 'all' AS k, COUNT(*) FROM payments GROUP BY city "
    "UNION ALL SELECT 'all' AS c, kind, COUNT(*) FROM payments GROUP BY kind "
    "UNION ALL SELECT 'all' AS c, 'all' AS k, COUNT(*) FROM payments"
)


def test_a_suppressed_cell_takes_its_three_totals_along() -> None:
    cells = {(0, 0): 1, (0, 1): 5, (1, 0): 6, (1, 1): 3, (2, 0): 4, (2, 1): 4}
    rows = [
        payment(ORGANISATIONS[i % 3], 100 * c + 10 * k + i, city=c, kind=k)
        for (c, k), n in cells.items()
        for i in range(n)
    ]
    assert len(answer(MARGINS_OF_TWO, {"payments": rows})) == 12 - 4


def test_the_other_cells_are_told_beside_a_suppressed_one() -> None:
    sql = "SELECT city, COUNT(*) AS n FROM payments GROUP BY city UNION ALL SELECT 'all' AS c, COUNT(*) FROM payments"
    rows = [
        payment(ORGANISATIONS[i % 3], 10 * c + i, city=c) for c, n in enumerate((2, 4, 6)) for i in range(n)
    ]
    assert sorted(row["n"] for row in answer(sql, {"payments": rows})) == [4, 6]


# Rounding


def test_counts_over_two_tables_are_rounded_as_the_coarser_rule_asks() -> None:
    sql = "SELECT COUNT(*) AS n FROM payments JOIN people ON payments.customer = people.customer"
    bounds = all_rules("smallest_group = 3\nround_counts = 10")
    rules = {one: with_people_rounded(of, 2) for one, of in bounds.items()}
    rows = payments(*MIXED, "north", "south")
    people = [{"customer": row["customer"], "age": 40} for row in rows]
    assert answer(sql, {"payments": rows, "people": people}, rules) == [{"n": 10}]


def test_counts_are_rounded_as_the_owner_of_the_coarsest_rule_asks() -> None:
    fine, coarse = "smallest_group = 3\nround_counts = 2", "smallest_group = 3\nround_counts = 10"
    rules = all_rules(fine, south=rules_of("south", coarse))
    rows = payments(*MIXED, "north", "south")
    assert answer("SELECT COUNT(*) AS n FROM payments", {"payments": rows}, rules) == [{"n": 10}]


@pytest.mark.parametrize(("day", "told"), [(5, -20), (6, -20), (4, -10), (1, 0), (9, -30)])
def test_sums_below_zero_are_rounded_away_from_it_at_halves(day: int, told: int) -> None:
    rules = all_rules(columns=allowing("day", '"aggregate"', ", rounding = 10"))
    rows = payments("north", "south", "west", day=day)
    assert answer("SELECT SUM(-day) AS s FROM payments", {"payments": rows}, rules) == [{"s": told}]


def test_a_rounded_count_stays_in_its_range() -> None:
    rules = all_rules(south=with_people_rounded(rules_of("south"), 30))
    rows = [{"customer": f"p{i}", "age": 40} for i in range(50)]  # as many as are declared
    assert answer("SELECT COUNT(*) AS n FROM people", {"people": rows}, rules) == [{"n": 50}]


# What parties compare


def test_parties_compare_whose_rules_they_are_what_they_say_and_who_is_told() -> None:
    root, stricter = plan(SUM, DECLARATION).root, "smallest_group = 4"
    digests = [
        apply(root, rules, to, DECLARATION).digest
        for rules, to in (
            (all_rules(), ["lab"]),
            (all_rules(), ["lab", "north"]),
            (all_rules(stricter), ["lab"]),
            (all_rules(south=rules_of("south", stricter)), ["lab"]),
            (all_rules(west=rules_of("west", stricter)), ["lab"]),
        )
    ]
    assert len(set(digests)) == 5
    assert apply(root, all_rules(), ["north", "lab", "lab"], DECLARATION).digest == digests[1]
