"""Rule files: each mistake is named by line and field, defaults are the safe ones, and the digest covers the meaning."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from owner_rules import DECLARATION, all_rules, rules_of
from secagg.errors import RuleError, UsageError
from secagg.query.rules import Use, load_rules, parse_rules
from secagg.query.rules.strictest import strictest

GOOD = """\
owner = "north"
[tables.payments]
smallest_group = 5
[tables.payments.columns.amount]
uses = ["aggregate", "compare"]
rounding = 0.50
"""


def test_defaults_are_the_safe_ones() -> None:
    table = parse_rules(GOOD.replace("smallest_group = 5\n", "")).tables["payments"]
    assert (table.smallest_group, table.opened_cells, table.receivers_pool) == (10, 1000, True)
    column = table.columns["amount"]
    assert (column.comparisons, column.arithmetic) == (2, False)


def test_a_rounding_is_no_binary_fraction() -> None:
    assert parse_rules(GOOD).tables["payments"].columns["amount"].rounding == Decimal("0.50")


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("smallest_group = 5", "smallest_grop = 5", 3, "no such field"),
        ("smallest_group = 5", "smallest_group = 0", 3, "expected 1 to"),
        ("smallest_group = 5", "smallest_group = '5'", 3, "expected int"),
        ("smallest_group = 5", "smallest_persons = 5", 3, "name the column that tells persons apart"),
        ("smallest_group = 5", "dominance = {percent = 100}", 3, "expected 1 to 99 percent"),
        ("smallest_group = 5", "dominance = {percent = 50, largest = 9}", 3, "contributors"),
        ('uses = ["aggregate", "compare"]', "uses = []", 5, 'write \\["never"\\]'),
        ('uses = ["aggregate", "compare"]', 'uses = ["agregate"]', 5, "agregate"),
        ('uses = ["aggregate", "compare"]', 'uses = ["never", "open"]', 5, "never stands alone"),
        ("rounding = 0.50", "rounding = 0", 6, "expected more than 0"),
        ("rounding = 0.50", "top = inf", 6, "expected a finite number"),
        ("rounding = 0.50", "bottom = 2\ntop = 2", 6, "expected less than top"),
        ("rounding = 0.50", "comparisons = -1", 6, "expected 0 to"),
        ('owner = "north"', 'owner = ""', 1, "expected the owner's name"),
        ('owner = "north"\n', "", 0, "missing"),
    ],
)
def test_a_mistake_is_named_by_line_and_field(old: str, new: str, line: int, said: str) -> None:
    place = f"rules:{line}: " if line else "rules"
    with pytest.raises(UsageError, match=f"^{place}.*{said}"):
        parse_rules(GOOD.replace(old, new))


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("owner = ")
    with pytest.raises(UsageError, match="not TOML"):
        load_rules(tmp_path / "rules.toml")


def test_the_digest_covers_meaning_and_not_spelling() -> None:
    same = GOOD.replace('["aggregate", "compare"]', '["compare", "aggregate"] # no more').replace(
        "0.50", "0.5"
    )
    assert parse_rules(same).digest == parse_rules(GOOD).digest
    written_out = GOOD.replace("smallest_group = 5", "opened_cells = 1000\nsmallest_group = 5")
    assert parse_rules(written_out).digest == parse_rules(GOOD).digest
    for other in (GOOD.replace("= 5", "= 6"), GOOD.replace("0.50", "0.51"), GOOD.replace("north", "south")):
        assert parse_rules(other).digest != parse_rules(GOOD).digest


def test_the_strictest_of_several_rules_wins_and_is_named() -> None:
    column = "amount = {uses = %s, rounding = %s, bottom = %s, top = %s, comparisons = %s}"
    rules = {
        "north": rules_of(
            "north", "smallest_group = 3\nopened_cells = 10", column % ('["open", "rank"]', 1, 5, 90, 4)
        ),
        "south": rules_of(
            "south", "smallest_group = 7\nopened_cells = 20", column % ('["open"]', 10, 1, 80, 3)
        ),
    }
    found = strictest(rules, {"payments": ("north", "south")}, ["payments"])["payments"]
    bounds = (found.smallest_group, found.opened_cells)
    assert [(one.value, one.owner) for one in bounds] == [(7, "south"), (10, "north")]
    amount = found.column("amount")
    coded = (amount.rounding, amount.bottom, amount.top, amount.comparisons)
    assert [(one.value, one.owner) for one in coded if one] == [
        (10, "south"), (5, "north"), (80, "south"), (3, "south"),
    ]  # fmt: skip
    assert (amount.refuser(Use.OPEN), amount.refuser(Use.RANK)) == (None, "south")
    assert found.column("unknown").refuser(Use.OPEN) == "north"


def test_an_owner_without_rules_for_its_rows_allows_nothing() -> None:
    rules = all_rules()
    holders = {"payments": DECLARATION["payments"].holders}
    with pytest.raises(RuleError, match=r"^west holds rows of payments, and has no rules"):
        strictest({name: one for name, one in rules.items() if name != "west"}, holders, ["payments"])
    bare = parse_rules('owner = "west"\n[tables]')
    with pytest.raises(RuleError, match=r"^west holds rows of payments, and its rules have none"):
        strictest({**rules, "west": bare}, holders, ["payments"])
    with pytest.raises(RuleError, match="expected the rules of west, got those of north"):
        strictest({**rules, "west": rules["north"]}, holders, ["payments"])
