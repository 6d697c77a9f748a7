"""Known ways around rules: each is refused on the plan by rule, column and owner, or suppressed before anything is opened.

The numbers are those of docs/soundness.md, "Rules of owners". Suppression is seen on the plan's plaintext evaluation;
the same plan runs on shares.

Longer than most: the ways share one declaration, and are numbered as on the page.
"""

from __future__ import annotations

from typing import Any

import pytest

from owner_rules import COLUMNS, all_rules, answer, grants, payment, payments, rules_of
from secagg.errors import RuleError

MIXED = ("north", "south", "west", "north", "south", "west")


def amounts(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["s"] for row in rows]


# 1


def test_one_own_rows_do_not_help_a_receiver_over_the_bound_however_many_there_are() -> None:
    sql = "SELECT city, SUM(amount) AS s FROM payments GROUP BY city"
    victims = payments("south", "west")
    for own in (0, 1, 50):
        rows = victims + [payment("north", 10 + i) for i in range(own)]
        assert answer(sql, {"payments": rows}, to=["north"]) == []
    enough = [*payments("south", "west", "south"), payment("north", 9)]
    assert amounts(answer(sql, {"payments": enough}, to=["north"])) == [400]


# 2


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT SUM(amount) AS s FROM payments UNION ALL SELECT SUM(amount) FROM payments WHERE day < 30",
        (
            "WITH a AS (SELECT city, SUM(amount) AS s FROM payments GROUP BY city), "
            "b AS (SELECT city, SUM(amount) AS t FROM payments WHERE day < 30 GROUP BY city) "
            "SELECT a.s, b.t FROM a JOIN b ON a.city = b.city"
        ),
    ],
)
def test_two_aggregates_over_different_rows_of_a_table_are_refused(sql: str) -> None:
    joined = COLUMNS.replace("city = {uses = [", 'city = {uses = ["join", ')
    with pytest.raises(
        RuleError, match=r"north's rule smallest_group = 3 of payments.*difference may be one row"
    ):
        grants(sql, all_rules(columns=joined))


def test_n_rows_and_n_less_one_in_one_aggregate_are_suppressed() -> None:
    sql = (
        "SELECT SUM(CASE WHEN day < 9 THEN amount ELSE 0 END) AS s, "
        "SUM(CASE WHEN day < 10 THEN amount ELSE 0 END) AS t FROM payments"
    )
    many = [payment(one, i, day=1) for i, one in enumerate(MIXED * 2)]
    late = [payment(one, 20 + i, day=20) for i, one in enumerate(MIXED)]
    victim = [payment("south", 90, day=9, amount=777)]
    assert answer(sql, {"payments": many + late + victim}) == []
    assert answer(sql, {"payments": many + late}) == [{"s": 1200, "t": 1200}]


def test_a_having_counts_as_a_comparison_of_what_it_compares() -> None:
    columns = COLUMNS.replace('"aggregate", "compare"]', '"aggregate"]', 1)
    with pytest.raises(RuleError, match=r"north's rules do not allow payments\.amount to be used as compare"):
        grants("SELECT city FROM payments GROUP BY city HAVING SUM(amount) > 5", all_rules(columns=columns))


# 3


@pytest.mark.parametrize(
    "sql",
    [
        (
            "SELECT SUM(CASE WHEN amount > 1 THEN 1 ELSE 0 END) a, SUM(CASE WHEN amount > 2 THEN 1 ELSE 0 END) b, "
            "SUM(CASE WHEN amount > 3 THEN 1 ELSE 0 END) c FROM payments"
        ),
        "SELECT COUNT(*) AS n FROM payments WHERE amount > 1 AND amount > 2 AND amount <> 3",
        "SELECT COUNT(*) AS n FROM payments WHERE amount IN (1, 2, 3)",
        "SELECT COUNT(*) AS n FROM (SELECT amount AS x FROM payments WHERE amount > 1) AS q WHERE x > 2 AND x > 3",
    ],
)
def test_many_comparisons_of_one_column_are_refused(sql: str) -> None:
    with pytest.raises(RuleError, match=r"north's rule comparisons = 2 of payments\.amount: .* 3 times"):
        grants(sql)


@pytest.mark.parametrize("other", ["day * 0 + 2500", "day"])
def test_a_comparison_with_a_column_counts_as_one_with_a_constant(other: str) -> None:
    columns = COLUMNS.replace('"aggregate", "compare"]', '"aggregate", "compare"], comparisons = 0', 1)
    with pytest.raises(RuleError, match=r"north's rule comparisons = 0 of payments\.amount: .* 1 times"):
        grants(f"SELECT COUNT(*) AS n FROM payments WHERE amount > {other}", all_rules(columns=columns))


def test_a_comparison_with_another_table_counts_once_for_each_of_its_rows() -> None:
    sql = (
        "SELECT COUNT(*) AS n FROM payments JOIN guesses ON payments.id = guesses.customer "
        "WHERE payments.amount > guesses.threshold"
    )
    with pytest.raises(RuleError, match=r"comparisons = 2 of payments\.amount: .* 50 times"):
        grants(sql)


def test_one_name_for_two_values_is_two_comparisons() -> None:
    columns = COLUMNS.replace('"aggregate", "compare"]', '"aggregate", "compare"], comparisons = 1', 1)
    inner = "SELECT amount AS x FROM payments"
    for _ in range(4):
        inner = f"SELECT 10000 - x AS x FROM ({inner}) AS q WHERE x > 5"
    with pytest.raises(RuleError, match=r"rule comparisons = 1 of payments\.amount"):
        grants(f"SELECT COUNT(*) AS n FROM ({inner}) AS q", all_rules(columns=columns))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT SUM(FLOOR(amount * 0.0001 + 0.65)) AS s FROM payments",
        "SELECT SUM(CEIL(amount)) AS s FROM payments",
        "SELECT SUM(ROUND(amount + 0.04, 1)) AS s FROM payments",
        "SELECT SUM(CAST(amount + 0.4 AS INTEGER)) AS s FROM payments",
        "SELECT COUNT(DISTINCT f) AS s FROM (SELECT FLOOR(amount) AS f FROM payments) AS q",
    ],
)
def test_steps_are_comparisons_and_refused_inside_aggregates(sql: str) -> None:
    with pytest.raises(
        RuleError, match=r"rule arithmetic = false of payments\.\w+: the query aggregates (FL|CE|RO)"
    ):
        grants(sql)
    columns = COLUMNS.replace('"compare"]}\nfee', '"compare"], arithmetic = true, comparisons = 0}\nfee')
    if "amount" in sql:
        with pytest.raises(RuleError, match=r"rule comparisons = 0 of payments\.amount"):
            grants(sql, all_rules(columns=columns))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT SUM(amount) AS s FROM (SELECT amount FROM payments ORDER BY amount LIMIT 5) AS q",
        "SELECT SUM(r) AS s FROM (SELECT ROW_NUMBER() OVER (ORDER BY amount) AS r FROM payments) AS q",
    ],
)
def test_orders_and_ranks_of_a_column_ask_for_their_own_use(sql: str) -> None:
    with pytest.raises(RuleError, match=r"payments\.amount to be used as rank"):
        grants(sql)


# 4


def test_groups_of_one_come_out_suppressed() -> None:
    rows = [*payments(*MIXED), payment("south", 9, city=1, amount=777)]
    sql = "SELECT city, SUM(amount) AS s FROM payments GROUP BY city"
    assert amounts(answer(sql, {"payments": rows})) == [600]


def test_a_group_that_is_all_but_one_the_receivers_own_is_suppressed() -> None:
    rows = [payment("north", i) for i in range(9)] + [payment("south", 20, amount=777)]
    assert answer("SELECT SUM(amount) AS s FROM payments", {"payments": rows}, to=["north"]) == []


@pytest.mark.parametrize(("largest", "told"), [(300, True), (2000, False)])
def test_a_sum_that_one_person_makes_up_is_suppressed(largest: int, told: bool) -> None:
    bounds = 'smallest_group = 3\npersons = "customer"\ndominance = {largest = 1, percent = 60}'
    rows = payments(*MIXED) + [payment("south", 50 + i, customer="whale", amount=largest) for i in range(2)]
    found = answer("SELECT SUM(amount) AS s FROM payments", {"payments": rows}, all_rules(bounds))
    assert bool(found) is told


def test_two_persons_who_make_up_a_sum_are_seen_by_a_rule_for_two() -> None:
    rows = payments(*MIXED)
    rows += [payment("south", 50, amount=900), payment("north", 51, amount=900)]
    sql = "SELECT SUM(amount) AS s FROM payments"
    for largest, told in ((1, True), (2, False)):
        bounds = f"smallest_group = 3\ndominance = {{largest = {largest}, percent = 60}}"
        assert bool(answer(sql, {"payments": rows}, all_rules(bounds))) is told


def test_many_rows_of_one_person_are_one_person() -> None:
    bounds = 'smallest_group = 3\npersons = "customer"'
    rows = [payment(one, i, customer="same") for i, one in enumerate(MIXED)]
    sql = "SELECT SUM(amount) AS s FROM payments"
    assert answer(sql, {"payments": rows}, all_rules(bounds)) == []
    assert amounts(answer(sql, {"payments": rows})) == [600]


DOMINATED = "smallest_group = 3\ndominance = {largest = 1, percent = 60}"


@pytest.mark.parametrize(
    ("bounds", "rule"),
    [
        ("smallest_group = 3\nround_counts = 5", "round_counts = 5"),
        (DOMINATED, "dominance"),
    ],
)
@pytest.mark.parametrize(
    "value",
    [
        "amount + 1",
        "amount - 0.01",
        "amount + CASE WHEN day >= 0 THEN 1 ELSE 0 END",
        "COALESCE(fee, 1)",
        "CASE WHEN day > 3 THEN amount ELSE 1 END",
        "amount + one",
    ],
)
def test_constants_in_sums_do_not_undo_rules(bounds: str, rule: str, value: str) -> None:
    with pytest.raises(RuleError, match=f"a constant, which undoes the rule {rule}"):
        grants(f"SELECT SUM({value}) AS s FROM (SELECT *, 1 AS one FROM payments) AS q", all_rules(bounds))


@pytest.mark.parametrize("value", ["amount + 0.37", "amount + day"])
def test_nothing_is_added_to_a_column_whose_sums_are_rounded(value: str) -> None:
    rounding = COLUMNS.replace('"compare"]}\nfee', '"compare"], rounding = 100}\nfee')
    with pytest.raises(RuleError, match="which undoes the rule rounding = 100"):
        grants(f"SELECT SUM({value}) AS s FROM payments", all_rules(columns=rounding))


def test_a_sum_beside_a_mean_does_not_undo_rounded_counts() -> None:
    with pytest.raises(RuleError, match="a sum beside a mean tells the exact number of rows"):
        grants("SELECT SUM(amount) AS s, AVG(amount) AS m FROM payments", all_rules("round_counts = 5"))


@pytest.mark.parametrize("other", ["CASE WHEN day < 10 THEN amount ELSE 0 END", "amount + fee"])
def test_sums_whose_difference_may_be_one_contributors_are_refused_under_dominance(other: str) -> None:
    grants(f"SELECT SUM({other}) AS s FROM payments", all_rules(DOMINATED))
    with pytest.raises(
        RuleError, match=r"north's rule dominance of payments: .* different sums over payments\.amount"
    ):
        grants(f"SELECT SUM(amount) AS s, SUM({other}) AS t FROM payments", all_rules(DOMINATED))


def test_a_receivers_own_rows_do_not_hide_a_large_contributor() -> None:
    rows = [*payments("south", "west", "south", amount=0), payment("south", 9, amount=9999)]
    rows += [payment("north", 20 + i, amount=9999) for i in range(3)]
    sql = "SELECT SUM(amount) AS s FROM payments"
    assert amounts(answer(sql, {"payments": rows}, all_rules(DOMINATED))) == [39996]
    assert answer(sql, {"payments": rows}, all_rules(DOMINATED), to=["north"]) == []


# 5


def test_a_group_at_one_organisation_is_suppressed_unless_all_owners_allow_it() -> None:
    rows = payments("south", "south", "south", "south")
    sql = "SELECT SUM(amount) AS s FROM payments"
    assert answer(sql, {"payments": rows}) == []
    allowed = all_rules("smallest_group = 3\nsmallest_organisations = 1")
    assert amounts(answer(sql, {"payments": rows}, allowed)) == [400]
    allowed["west"] = rules_of("west", "smallest_group = 3\nsmallest_organisations = 2")
    assert answer(sql, {"payments": rows}, allowed) == []


def test_groups_by_organisation_and_more_organisations_than_there_are_get_refused() -> None:
    bounds = "smallest_group = 3\nsmallest_organisations = %d"
    with pytest.raises(RuleError, match="groups by org lie at one organisation"):
        grants("SELECT org, COUNT(*) AS n FROM payments GROUP BY org", all_rules(bounds % 2))
    with pytest.raises(RuleError, match="rows lie at 2 organisations besides north"):
        grants("SELECT COUNT(*) AS n FROM payments", all_rules(bounds % 3), to=["north"])


# 6


@pytest.mark.parametrize("function", ["MIN", "MAX"])
def test_what_copies_a_value_asks_that_the_value_may_be_opened(function: str) -> None:
    for of in ("payments", "(SELECT MAX(amount) AS amount FROM payments GROUP BY customer) AS q"):
        with pytest.raises(RuleError, match=r"payments\.amount to be used as open"):
            grants(f"SELECT {function}(amount) AS m FROM {of}")


def test_a_maximum_of_sums_of_maxima_is_a_copy_too() -> None:
    sql = (
        "SELECT MAX(s) AS m FROM (SELECT city, SUM(a) AS s FROM "
        "(SELECT city, customer, MAX(amount) AS a FROM payments GROUP BY city, customer) AS q GROUP BY city) AS r"
    )
    with pytest.raises(RuleError, match=r"payments\.amount to be used as open"):
        grants(sql)


def test_distinct_counts_over_a_filter_are_of_the_rows_that_pass() -> None:
    sql = "SELECT COUNT(DISTINCT fee) AS n FROM payments WHERE day = 7"
    rows = [*payments(*MIXED), payment("south", 9, day=7)]
    assert answer(sql, {"payments": rows}) == []


# 7


@pytest.mark.parametrize(
    "value",
    ["amount * 1000 + day", "amount * day", "amount / 3", "day % 2", "ABS(amount - 100)", "amount * amount"],
)
def test_arithmetic_that_can_encode_is_refused_inside_aggregates(value: str) -> None:
    with pytest.raises(RuleError, match=r"north's rule arithmetic = false of payments\.(amount|day)"):
        grants(f"SELECT SUM({value}) AS s FROM payments")


def test_encodings_through_subqueries_and_weights_by_case_are_refused() -> None:
    for sql in (
        "SELECT SUM(x + day) AS s FROM (SELECT amount * 1000 AS x, day FROM payments) AS q",
        "SELECT SUM(CASE WHEN city = 'a' THEN 1 WHEN city = 'b' THEN 1000 ELSE 0 END) AS s FROM payments",
    ):
        with pytest.raises(RuleError, match=r"rule arithmetic = false of payments"):
            grants(sql)


def test_sums_of_columns_and_of_one_column_in_other_units_are_allowed() -> None:
    grants("SELECT SUM(amount + fee) AS s, SUM(amount * 100) AS c, SUM(amount - day) AS d FROM payments")
    columns = COLUMNS.replace('"compare"]}\nfee', '"compare"], arithmetic = true}\nfee')
    grants("SELECT SUM(amount * amount) AS s FROM payments", all_rules(columns=columns))


@pytest.mark.parametrize("value", ["amount * 1000", "amount + amount"])
def test_a_multiple_does_not_get_round_a_rounding(value: str) -> None:
    rounding = COLUMNS.replace('"compare"]}\nfee', '"compare"], rounding = 100}\nfee')
    with pytest.raises(
        RuleError, match=r"north's rule (rounding = 100|arithmetic = false) of payments\.amount"
    ):
        grants(f"SELECT SUM({value}) AS s FROM payments", all_rules(columns=rounding))


def test_counts_by_sums_are_rounded_as_counts() -> None:
    bounds = "smallest_group = 3\nround_counts = 5"
    rows = [payment(at, i, day=8 * (i % 2)) for i, at in enumerate(MIXED * 2)]
    sql = "SELECT SUM(CASE WHEN day < 5 THEN 1 ELSE 0 END) AS s, COUNT(*) AS n FROM payments"
    assert answer(sql, {"payments": rows}, all_rules(bounds)) == [{"s": 5, "n": 10}]
    with pytest.raises(RuleError, match="a mean of conditions is a count"):
        grants("SELECT AVG(CASE WHEN day < 5 THEN 1 ELSE 0 END) AS s FROM payments", all_rules(bounds))


# 8


@pytest.mark.parametrize("key", ["(CASE WHEN day > 3 THEN customer ELSE id END)", "CAST('k' AS VARCHAR)"])
def test_joins_on_keys_that_are_computed_or_constant_are_refused(key: str) -> None:
    sql = (
        f"SELECT COUNT(*) AS n FROM (SELECT {key} AS k FROM payments) AS p "
        "JOIN people ON p.k = people.customer"
    )
    with pytest.raises((RuleError, ValueError)):
        grants(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) AS n FROM guesses JOIN people ON guesses.customer = people.customer",
        "SELECT COUNT(*) AS n FROM guesses WHERE customer IN (SELECT customer FROM people)",
    ],
)
def test_guesses_tell_nothing_of_fewer_matches_than_a_group_has(sql: str) -> None:
    people = [{"customer": f"p{i}", "age": 40} for i in range(9)]

    def found(guesses: list[str]) -> list[dict[str, Any]]:
        rows = [{"customer": one, "label": 0, "threshold": 0} for one in guesses]
        return answer(sql, {"people": people, "guesses": rows}, to=["west"])

    assert found(["p1"]) == []
    assert found(["p1"] * 20) == []  # one person, matched by many rows of one's own
    assert found(["p1", "p2", "p3", "nobody"]) == [{"n": 3}]


def test_groups_that_a_join_lets_share_a_row_are_refused() -> None:
    joined = "FROM guesses JOIN payments ON guesses.customer = payments.id"
    with pytest.raises(
        RuleError,
        match=r"smallest_group = 3 of payments: a join may put its rows in several groups by guesses\.label",
    ):
        grants(f"SELECT guesses.label, COUNT(*) AS n {joined} GROUP BY guesses.label")
    grants(f"SELECT payments.city, COUNT(*) AS n {joined} GROUP BY payments.city")


def test_sums_that_weigh_a_row_by_how_often_a_join_repeats_it_are_refused() -> None:
    with pytest.raises(RuleError, match=r"payments\.amount: a join may repeat its rows"):
        grants("SELECT SUM(amount) AS s FROM guesses JOIN payments ON guesses.customer = payments.id")
    grants("SELECT SUM(amount) AS s FROM payments JOIN people ON payments.customer = people.customer")


def test_anti_joins_against_a_table_with_a_bound_are_refused() -> None:
    with pytest.raises(RuleError, match="south's rule smallest_group = 3 of people cannot be checked"):
        grants(
            "SELECT COUNT(*) AS n FROM guesses WHERE NOT EXISTS "
            "(SELECT 1 FROM people WHERE people.customer = guesses.customer)"
        )


# 9


MARGINS = (
    "SELECT city, kind, COUNT(*) AS s FROM payments GROUP BY city, kind "
    "UNION ALL SELECT city, 'all' AS k, COUNT(*) FROM payments GROUP BY city "
    "UNION ALL SELECT 'all' AS c, kind, COUNT(*) FROM payments GROUP BY kind "
    "UNION ALL SELECT 'all' AS c, 'all' AS k, COUNT(*) FROM payments"
)


def test_totals_of_a_suppressed_cell_are_suppressed_and_no_others() -> None:
    rows = [payment(at, i, city=c, kind=k) for c in range(3) for k in range(2) for i, at in enumerate(MIXED)]
    told = {(row["city"], row["kind"]): row["s"] for row in answer(MARGINS, {"payments": rows})}
    assert len(told) == 6 + 3 + 2 + 1
    assert sorted(told.values())[-3:] == [18, 18, 36]
    hidden = (0, 0)
    rows = [row for row in rows if (row["city"], row["kind"]) != hidden] + payments("north", "south")
    found = {(row["city"], row["kind"]): row["s"] for row in answer(MARGINS, {"payments": rows})}
    assert len(found) == 12 - 4
    # No total is told of the cell's city, of its kind or of all: what is told is what stood there before.
    assert found == {cell: n for cell, n in told.items() if cell in found}


def test_two_tables_of_one_query_that_share_margins_are_refused() -> None:
    with pytest.raises(RuleError, match="two aggregates"):
        grants(
            "SELECT city, COUNT(*) AS s FROM payments GROUP BY city "
            "UNION ALL SELECT kind, COUNT(*) AS s FROM payments GROUP BY kind"
        )


def test_totals_of_something_else_than_the_cells_are_no_margins() -> None:
    with pytest.raises(RuleError, match="two aggregates"):
        grants(
            "SELECT city, SUM(CASE WHEN day < 9 THEN amount ELSE 0 END) AS s FROM payments GROUP BY city "
            "UNION ALL SELECT 'all' AS c, SUM(CASE WHEN day < 10 THEN amount ELSE 0 END) AS s FROM payments"
        )


# 10


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT SUM(q.other) AS s FROM (SELECT secret AS other FROM payments) AS q",
        "WITH v AS (SELECT secret AS a FROM payments), w AS (SELECT a AS b FROM v) SELECT SUM(b) AS s FROM w",
        "SELECT SUM(x) AS s FROM (SELECT secret AS x FROM payments UNION ALL SELECT day AS x FROM payments) AS u",
        "SELECT COUNT(*) AS n FROM payments AS p WHERE p.secret = 3",
        "SELECT secret FROM payments GROUP BY secret",
        "SELECT SUM(CASE WHEN secret = 3 THEN 1 ELSE 0 END) AS s FROM payments",
        "SELECT city, COUNT(*) AS n FROM payments GROUP BY city ORDER BY SUM(secret)",
    ],
)
def test_renaming_changes_no_rule(sql: str) -> None:
    with pytest.raises(RuleError, match=r"north's rules do not allow payments\.secret .*no rule, so never"):
        grants(sql)


@pytest.mark.parametrize(
    "rows",
    [
        "(SELECT amount, 'p' AS c FROM payments UNION ALL SELECT amount, 'q' AS c FROM payments WHERE day < 9)",
        "(SELECT a.amount, a.city AS c FROM payments AS a JOIN payments AS b ON a.id = b.id)",
    ],
)
def test_an_aggregate_that_reads_a_table_twice_is_refused(rows: str) -> None:
    with pytest.raises(RuleError, match="of payments: an aggregate reads it 2 times"):
        grants(f"SELECT c, SUM(amount) AS s FROM {rows} AS u GROUP BY c")


@pytest.mark.parametrize(
    ("inner", "what"),
    [
        ("SELECT city, MAX(day) AS d FROM payments GROUP BY city, customer", "max inside an aggregate"),
        (
            "SELECT city, SUM(CASE WHEN day = 3 THEN day ELSE 0 END) AS d FROM payments GROUP BY city, customer",
            "rows of a CASE",
        ),
        ("SELECT city, SUM(day) OVER (PARTITION BY customer) AS d FROM payments", "sum over a window"),
    ],
)
def test_inner_values_whose_rows_cannot_be_counted_are_refused(inner: str, what: str) -> None:
    columns = COLUMNS.replace('"join", "group"', '"join", "group", "aggregate"')
    with pytest.raises(RuleError, match=f"rule smallest_group = 3 of payments cannot be checked for {what}"):
        grants(f"SELECT city, SUM(d) AS s FROM ({inner}) AS q GROUP BY city", all_rules(columns=columns))


# 11


def test_null_does_not_fill_a_group_up() -> None:
    rows = [payment(one, i, fee=None) for i, one in enumerate(MIXED)] + [payment("south", 9, fee=77)]
    assert answer("SELECT SUM(fee) AS s FROM payments", {"payments": rows}) == []
    assert answer("SELECT SUM(fee) AS s, COUNT(*) AS n FROM payments", {"payments": rows}) == []
    assert answer("SELECT COUNT(fee) AS s FROM payments", {"payments": rows}) == []
    one_null = [*payments(*MIXED), payment("south", 9, fee=None)]
    assert amounts(answer("SELECT SUM(fee) AS s FROM payments", {"payments": one_null})) == [30]
    assert answer("SELECT COUNT(fee) AS s, COUNT(*) AS n FROM payments", {"payments": one_null}) == []


# 12


def test_an_owner_with_no_rows_does_not_give_the_others_away() -> None:
    sql = "SELECT SUM(amount) AS s FROM payments"
    assert answer(sql, {"payments": [payment("south", i) for i in range(9)]}) == []
    alone = [payment("south", i) for i in range(9)] + [payment("north", 20 + i) for i in range(9)]
    assert answer(sql, {"payments": alone}, to=["north"]) == []
    assert answer(sql, {"payments": []}) == []


# 13


def test_receivers_who_pool_what_they_have_are_taken_as_one() -> None:
    sql = "SELECT SUM(amount) AS s FROM payments"
    rows = payments("north", "north", "north", "west", "west", "west", "south")
    both = ["north", "west"]
    assert answer(sql, {"payments": rows}, to=both) == []
    apart = all_rules("smallest_group = 3\nreceivers_pool = false")
    assert amounts(answer(sql, {"payments": rows}, apart, to=both)) == [700]
    enough = [*rows, payment("south", 50), payment("south", 51)]
    assert amounts(answer(sql, {"payments": enough}, to=both)) == [900]


def test_a_cell_of_one_receivers_rows_alone_is_not_told_to_another_receiver() -> None:
    sql = "SELECT SUM(CASE WHEN day < 9 THEN amount ELSE 0 END) AS s, COUNT(*) AS n FROM payments"
    rows = payments("south", "south", "south", "south", "west", "west", day=20)
    north = [payment("north", 50 + i, day=1) for i in range(3)]
    bounds = all_rules("smallest_group = 3\nsmallest_organisations = 1")
    assert answer(sql, {"payments": rows + north[:1]}, bounds, to=["north", "west"]) == []
    assert answer(sql, {"payments": rows + north}, bounds, to=["north", "west"]) == [{"s": 300, "n": 9}]
