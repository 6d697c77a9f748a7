"""What rules suppress, round and code, against a few lines of plain Python on random tables."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owner_rules import COLUMNS, ORGANISATIONS, all_rules, answer, grants, payment, payments
from secagg.errors import RuleError

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "customer": st.sampled_from("uvwxyz"),
            "city": st.integers(0, 1),
            "kind": st.integers(0, 1),
            "amount": st.integers(0, 90000),
            "day": st.integers(0, 20),
            "org": st.integers(0, 2),
        }
    ),
    max_size=30,
)
CODED = COLUMNS.replace('"compare"]}\nfee', '"compare"], rounding = 10, bottom = 50, top = 500}\nfee')


def made(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [payment(ORGANISATIONS[row["org"]], number, **row) for number, row in enumerate(rows)]


def nearest(value: int, multiple: int) -> int:
    return (2 * value + multiple) // (2 * multiple) * multiple


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    rows=ROWS,
    to=st.sampled_from([("lab",), ("north",), ("north", "south"), ORGANISATIONS]),
    pool=st.booleans(),
)
def test_groups_are_told_where_every_view_of_them_is_large_enough(
    rows: list[dict[str, Any]], to: tuple[str, ...], pool: bool
) -> None:
    bounds = f'smallest_group = 4\npersons = "customer"\nsmallest_persons = 2\nreceivers_pool = {str(pool).lower()}'
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in made(rows):
        groups[row["city"]].append(row)
    expected = []
    for city, group in groups.items():
        parts = [[row for row in group if (row["day"] < 9) is early] for early in (True, False)]
        large = True
        for owner in ORGANISATIONS:
            others = [one for one in to if one in ORGANISATIONS and one != owner]
            for without in [others] if pool else [[one] for one in others] or [[]]:
                for part in (group, *parts):
                    left = [row for row in part if ORGANISATIONS[row["org"]] not in without]
                    enough = (
                        len(left) >= 4
                        and len({row["customer"] for row in left}) >= 2
                        and len({row["org"] for row in left}) >= min(2, 3 - len(without))
                    )
                    large = large and (enough or (part is not group and not left))
        if large:
            coded = [min(max(row["amount"], 5000), 50000) for row in group]
            early = [c for c, row in zip(coded, group, strict=True) if row["day"] < 9]
            expected.append((city, nearest(sum(coded), 1000), nearest(sum(early), 1000)))
    sql = "SELECT city, SUM(amount) AS s, SUM(CASE WHEN day < 9 THEN amount ELSE 0 END) AS e FROM payments GROUP BY city"
    told = answer(sql, {"payments": made(rows)}, all_rules(bounds, CODED), to)
    assert sorted((row["city"], row["s"], row["e"]) for row in told) == sorted(expected)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(rows=ROWS, smallest=st.integers(2, 6))
def test_totals_are_told_where_all_their_cells_are(rows: list[dict[str, Any]], smallest: int) -> None:
    levels = [("city", "kind"), ("city",), ("kind",), ()]
    parts = []
    for keys in levels:
        shown = [key if key in keys else f"'Any' AS {key}" for key in ("city", "kind")]
        by = f" GROUP BY {', '.join(keys)}" if keys else ""
        parts.append(f"SELECT {', '.join(shown)}, COUNT(*) AS n FROM payments{by}")
    sql = " UNION ALL ".join(parts)
    table = made(rows)
    told = {
        (r["city"], r["kind"]): r["n"]
        for r in answer(sql, {"payments": table}, all_rules(f"smallest_group = {smallest}"))
    }
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for row in table:  # 'Any' comes before the others
        for city, kind in itertools.product((row["city"] + 1, 0), (row["kind"] + 1, 0)):
            counts[city, kind] += 1
    assert all(counts[cell] == n and n >= smallest for cell, n in told.items())
    cells = {cell for cell in counts if all(cell)}
    for total in counts.keys() - cells:
        line = {cell for cell in cells if all(own in (0, of) for own, of in zip(total, cell, strict=True))}
        assert (total in told) == (line <= told.keys() and counts[total] >= smallest)


@pytest.mark.parametrize(("amount", "told"), [(44, 0), (50, 100), (149, 100), (150, 200), (260, 300)])
def test_sums_and_means_are_rounded_to_the_nearest_multiple(amount: int, told: int) -> None:
    columns = COLUMNS.replace('"compare"]}\nfee', '"compare"], rounding = 1}\nfee')
    rows = [*payments("north", "south", "west", "north", amount=0), payment("south", 9, amount=amount)]
    assert answer(
        "SELECT SUM(amount) AS s FROM payments", {"payments": rows}, all_rules(columns=columns)
    ) == [{"s": told}]
    rows = payments("north", "south", "west", amount=amount)
    found = answer("SELECT AVG(amount) AS s FROM payments", {"payments": rows}, all_rules(columns=columns))
    assert [row["s"] / 2**20 for row in found] == [told / 100]


def test_roundings_and_codes_that_cannot_be_kept_are_refused() -> None:
    for rule, said in (
        ("rounding = 0.001", "expected at most 2 decimals"),
        ("top = 0.001", "expected at most 2 decimals"),
        ("bottom = 20000", "no value of the declared range would stay"),
    ):
        columns = COLUMNS.replace('"compare"]}\nfee', f'"compare"], {rule}}}\nfee')
        with pytest.raises(RuleError, match=f"north's rule .*{said}"):
            grants("SELECT SUM(amount) AS s FROM payments", all_rules(columns=columns))


def test_grants_say_which_rule_allows_what() -> None:
    found = {
        str(one) for one in grants("SELECT city, SUM(amount) AS s FROM payments WHERE day < 9 GROUP BY city")
    }
    assert any(
        "payments.city" in one and "allowed as group by north and south and west" in one for one in found
    )
    assert any("payments.amount" in one and "allowed as aggregate" in one for one in found)


def test_the_number_of_opened_cells_is_bounded() -> None:
    sql = "SELECT city, kind, SUM(amount) AS s, COUNT(*) AS n FROM payments GROUP BY city, kind"
    grants(sql, all_rules("smallest_group = 3\nopened_cells = 12"))
    with pytest.raises(
        RuleError, match="north's rule opened_cells = 11 of payments: the query may open 12 numbers"
    ):
        grants(sql, all_rules("smallest_group = 3\nopened_cells = 11"))
    with pytest.raises(RuleError, match="opened_cells = 1000"):
        grants(
            "SELECT customer, SUM(amount) AS s, COUNT(*) AS n, SUM(fee) AS f, SUM(day) AS g FROM payments GROUP BY customer"
        )


def test_rows_one_by_one_need_groups_of_one() -> None:
    opened = COLUMNS.replace("city = {uses = [", 'city = {uses = ["open", ')
    with pytest.raises(RuleError, match="north's rule smallest_group = 3 of payments: the query tells rows"):
        grants("SELECT city FROM payments", all_rules(columns=opened))
    single = "smallest_group = 1"
    grants("SELECT city FROM payments", all_rules(single, opened))
    with pytest.raises(RuleError, match=r"payments\.city to be used as open"):
        grants("SELECT city FROM payments", all_rules(single))
