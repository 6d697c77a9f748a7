"""Declarations say what tables are; what is wrong with one is named by file, line and field."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from query_tables import DECLARATION, DECLARED, filled
from secagg.errors import RangeError, UsageError
from secagg.query import Category, Date, Declaration, Integer, Money, Pool, Real, Timestamp, plan
from secagg.query.declaration import domain_of
from secagg.query.values import in_units, of_units


def test_a_table_has_the_declared_columns_and_org_where_rows_are_split(tmp_path: Path) -> None:
    (tmp_path / "tables.toml").write_text(DECLARED)
    declared = Declaration.load(tmp_path / "tables.toml")
    assert declared == DECLARATION
    assert declared.holders == ("north", "south", "west")
    t, u = declared["t"], declared["u"]
    assert t.columns["p"] == Real(Decimal(-10), Decimal(10), 2, nullable=True)
    assert t.columns["org"] == Category(("north", "south"))
    assert "org" not in u.columns
    scan = t.scan("x")
    assert scan.max_rows == 200
    assert scan.is_unique(["x.id", "x.a"])
    assert not scan.is_unique(["x.a"])
    assert scan["x.c"].domain.values == ("blue", "green", "red")


@pytest.mark.parametrize(
    ("kind", "value", "units"),
    [
        (Money(3, max=5), Decimal("4.125"), 4125),
        (Real(Decimal(-1), Decimal(1), 2), -0.07, -7),
        (Date(min=datetime.date(1969, 12, 31)), datetime.date(1969, 12, 31), -1),
        (Timestamp("Europe/Berlin", 3), datetime.datetime.fromisoformat("1970-01-01T01:00:00.005"), 5),
        (Category(("b", "a")), "b", 1),
    ],
)
def test_values_have_units_and_a_range(kind, value, units) -> None:
    domain = domain_of(kind)
    assert in_units(value, domain) == units
    assert in_units(of_units(units, domain), domain) == units
    for wrong in (None, "other", 10**9):
        with pytest.raises(RangeError, match="expected a"):
            in_units(wrong, domain)


WRONG = [
    ("max_rows = 100\nkeys", "max_rows = 0\nkeys", "x.toml:4: tables.t.max_rows: expected 1 to 100000000 rows, got 0"),
    ('["north", "south"]', '["north", "north"]', "x.toml:3: tables.t.holders: expected each organisation once"),
    ('["north", "south"]', "[]", "tables.t.holders: expected 1 to 1000 organisations, got 0"),
    ('["north", "south"]', '["no rth"]', "tables.t.holders: expected names of letters"),
    ('holder = "west"', "", "tables.u: expected `holders`, who hold some of the rows each, or `holder`"),
    ('holder = "west"', 'holder = "west"\nholders = ["west"]', "got both"),
    ('keys = [["id"]]', 'keys = [["ib"]]', "x.toml:5: tables.t.keys[0]: there is no column 'ib'; there are id, a"),
    ('keys = [["id"]]', "keys = [[]]", "tables.t.keys[0]: expected different columns, at least one"),
    ("min = -5, max = 10", "min = 10, max = -5", "x.toml:8: tables.t.columns.a: expected a range of integers"),
    ("min = -5, max = 10", "min = -5", "tables.t.columns.a.max: this field is missing"),
    ("decimals = 2", "decimals = 16", "x.toml:9: tables.t.columns.p: expected 0 to 15 decimals"),
    ("min = -10, max = 10, decimals", "min = -10.125, max = 10, decimals", "expected a range with at most 2 decimals"),
    ("max = 10, decimals", "max = nan, decimals", "expected numbers of at most 28 digits"),
    ('"red", "green", "blue"', '"red", "red"', "tables.t.columns.c: expected a list of different texts, got 'red' twice"),
    ('"red", "green", "blue"', "", "expected a list of different texts, got none"),
    ("Europe/Berlin", "Berlin", "tables.t.columns.z: expected a zone such as UTC or Europe/Berlin, got 'Berlin'"),
    ("2020-01-01, max = 2021-12-31", "2020-01-01, max = 2019-12-31", "expected a range of dates"),
    ('type = "boolean"', 'type = "bool"', "x.toml:14: tables.t.columns.b: there is no type 'bool'; the types are"),
    ('"identifier", null', '"identifier", max_rows = 101, null', "s.max_rows: expected at most the 100 rows of"),
    ('"identifier", null', '"identifier", spelling = "ibn", null', "x.toml:11: tables.t.columns.s.spelling: expected a"),
    ('type = "boolean"', 'kind = "boolean"', 'expected a type such as "date"'),
    ('type = "boolean"', 'type = "boolean", min = 0', "tables.t.columns.b.min: there is no such field"),
    ("b = {type", "org = {type", "tables.t.columns.org: org names the organisation that a row lies at"),
    ("b = {type", "B = {type", "tables.t.columns: expected a field of at most 32 lower-case letters"),
    ("[tables.u]", "[tables.U]", "tables.U"),
    ("max = 1000}\n", "max = 0}\n", "expected a largest amount of 1 to"),
    ("[tables.t]", "[other]\n[tables.t]", "other: there is no such field"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_a_wrong_declaration_names_file_line_and_field(old: str, new: str, message: str) -> None:
    assert old in DECLARED
    at = DECLARED.rindex(old) if new == "max = 0}\n" else DECLARED.index(old)
    with pytest.raises(UsageError, match=re.escape(message)):
        Declaration.parse(DECLARED[:at] + new + DECLARED[at + len(old) :], file="x.toml")


def test_a_pool_takes_rows_as_declared_alone() -> None:
    with filled() as pool:
        assert {row["org"] for row in pool.rows("t")} == {0, 1}
    with Pool(DECLARATION) as pool:
        with pytest.raises(UsageError, match="t is held by north, south, not by 'west'"):
            pool.add("t", "west", [])
        with pytest.raises(UsageError, match="u: a row lacks the column 'c'"):
            pool.add("u", "west", [{"id": 1}])
        with pytest.raises(UsageError, match="u: rows of west are not as declared"):
            pool.add("u", "west", [{"id": "secret", "c": "red", "w": 1}])


def test_an_integer_without_a_range_is_no_declaration() -> None:
    with pytest.raises(UsageError, match="min: this field is missing"):
        Declaration.parse(DECLARED.replace('id = {type = "integer", min = 0, max = 1000}', 'id = "integer"'))
    assert domain_of(Integer()).bounds == (0, 10**17)


@pytest.mark.parametrize("given", ["mappings", "frame", "texts"])
def test_pooled_local_times_are_placed_as_owners_place_them(given: str) -> None:
    """Of a time that clocks show twice the first counts, and one that they skip is refused."""
    declaration = Declaration.parse(
        """
        [tables.t]
        holder = "north"
        max_rows = 5
        [tables.t.columns]
        z = {type = "timestamp", zone = "Europe/Berlin", decimals = 0}
        """
    )

    def rows(local: str) -> Any:
        moment = datetime.datetime.fromisoformat(local)
        if given == "frame":
            return pd.DataFrame({"z": [moment]})
        return [{"z": local if given == "texts" else moment}]

    with Pool(declaration) as pool:
        for local in ("2026-10-25 02:30:00", "2026-10-25 03:30:00", "2026-07-01 00:30:00"):
            pool.add("t", "north", rows(local))
        moments = [row["z"] for row in pool.rows("t")]
        assert moments == [
            int(datetime.datetime.fromisoformat(f"2026-{text}+00:00").timestamp())
            for text in ("10-25 00:30:00", "10-25 02:30:00", "06-30 22:30:00")
        ]
        with pytest.raises(UsageError, match="skip"):
            pool.add("t", "north", rows("2026-03-29 02:30:00"))
        assert pool.run(plan("SELECT day(z) AS d FROM t", declaration)) == [(25,), (25,), (1,)]
