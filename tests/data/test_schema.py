"""Tables of any schema are read: several amounts, whole numbers of a range, no time at all."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pytest

from secagg.data.columns import parse_columns, resolve_columns
from secagg.data.conventions import Conventions
from secagg.data.dialect import Dialect
from secagg.data.tables import read_table
from secagg.errors import DataError, UsageError
from secagg.query.schema import (
    Boolean,
    Category,
    Date,
    Format,
    Identifier,
    Integer,
    Money,
    Real,
    Schema,
    Time,
    Timestamp,
    Type,
)

STAYS = Schema(
    patient=Identifier(), diagnosis=Identifier(), age=Integer(0, 130), cost=Money(), paid=Money(), rank=Integer(-2)
)  # fmt: skip
HEADER = "patient,diagnosis,age,cost,paid,rank\n"


def put(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_every_column_becomes_an_array_of_its_type(tmp_path: Path) -> None:
    text = HEADER + "p2,I21,64,12.50,0,-2\np1,E11,+7,1000,3.1,5\np2, I21 ,130.00,0.01,7.25,0\n"
    conventions = Conventions({"diagnosis": "folded"})
    table = read_table(put(tmp_path, text), STAYS, conventions=conventions)
    assert table["patient"].strings.tolist() == ["p2", "p1", "p2"]
    assert table["diagnosis"].strings.tolist() == ["i21", "e11", "i21"]
    expected = {"age": [64, 7, 130], "cost": [1250, 100_000, 1], "paid": [0, 310, 725], "rank": [-2, 5, 0]}
    for field, numbers in expected.items():
        assert table[field].dtype == np.int64
        assert table[field].tolist() == numbers
    assert len(table) == 3
    assert table.own_spelling == {"patient": {}, "diagnosis": {"i21": "I21", "e11": "E11"}}
    assert (table.report.times, table.report.span, table.report.zoned) == ("none", None, 0)
    assert dict(table.report.columns) == {field: (field,) for field in STAYS}


@pytest.mark.parametrize(("text", "line"), [("entry\na\nb\n\n", 4), ("entry\na\n\nb\n", 3)])
def test_a_blank_line_below_one_column_is_a_row_without_a_value(tmp_path: Path, text: str, line: int) -> None:
    path, schema = put(tmp_path, text), Schema(entry=Identifier())
    with pytest.raises(DataError, match=rf"t\.csv:{line}: entry is missing"):
        read_table(path, schema)
    assert read_table(path, schema, bad_rows="skip")["entry"].strings.tolist() == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ("p,d,131,1,1,0", "age", "lies outside 0 to 130"),
        ("p,d,-1,1,1,0", "age", "lies outside 0 to 130"),
        ("p,d,1,1,1,-3", "rank", "lies outside -2 to 100000000000000000"),
        ("p,d,6.5,1,1,0", "age", "is not a whole number"),
        ("p,d,6e1,1,1,0", "age", "is not a whole number"),
        ("p,d,,1,1,0", "age", "is missing"),
        ("p,d,old,1,1,0", "age", "is not a whole number"),
        ("p,d,1,1,1,1234567890123456789", "rank", "is not a whole number of at most 18 digits"),
        ("p,d,1,-1,1,0", "cost", "is negative"),
        ("p,d,1,1,1.0051,0", "paid", "has digits below 0.01"),
        ("p,,1,1,1,0", "diagnosis", "is missing"),
        ("NULL,d,1,1,1,0", "patient", "stands for no identifier"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_line_and_column(
    tmp_path: Path, row: str, column: str, reason: str
) -> None:
    path = put(tmp_path, f"{HEADER}p,d,1,1,1,0\n{row}\n")
    with pytest.raises(DataError, match=re.escape(f"t.csv:3: {column} {reason}")):
        read_table(path, STAYS)
    table = read_table(path, STAYS, bad_rows="skip")
    assert len(table) == 1
    assert table.report.left_out() == (f"{path}: 1 row with amounts is left out; sums lack it",)


def test_whole_numbers_of_typed_columns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 'p' AS who, 7::UTINYINT AS a, 12.0::DOUBLE AS b, 3::DECIMAL(5, 2) AS c) "
            f"TO '{path}' (FORMAT parquet)"
        )
    table = read_table(path, Schema(who=Identifier(), a=Integer(), b=Integer(), c=Integer()))
    assert [table[field].tolist() for field in "abc"] == [[7], [12], [3]]


def test_amounts_in_two_columns_have_the_same_separators(tmp_path: Path) -> None:
    schema = Schema(who=Identifier(), a=Money(), b=Money())
    path = put(tmp_path, "who;a;b\nx;1.000,50;2,5\ny;3;4.000,00\n")
    table = read_table(path, schema, dialect=Dialect(decimal=",", thousands="."))
    assert [table[field].tolist() for field in "ab"] == [[100_050, 300], [250, 400_000]]


@pytest.mark.slow
def test_files_of_one_table_are_put_together(tmp_path: Path) -> None:
    files = [put(tmp_path, f"{HEADER}p{i},d,{i},1,2,0\n", f"{i}.csv") for i in range(3)]
    table = read_table(files, STAYS)
    assert table["age"].tolist() == [0, 1, 2]
    assert table["patient"].strings.tolist() == ["p0", "p1", "p2"]


def test_a_window_for_a_table_without_times_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, HEADER + "p,d,1,1,1,0\n")
    assert len(read_table(path, STAYS, window=(None, None))) == 1
    with pytest.raises(
        UsageError, match=r"a window is about times, and the columns are patient, .*leave it out"
    ):
        read_table(path, STAYS, window=(0, 10))


def test_rows_left_out_of_a_table_without_amounts_are_told_too(tmp_path: Path) -> None:
    schema = Schema(who=Identifier(), age=Integer(0, 9))
    report = read_table(put(tmp_path, "who,age\na,1\nb,10\n"), schema, bad_rows="skip").report
    assert report.left_out() == (f"{tmp_path}/t.csv: 1 row is left out",)


def test_identifiers_that_are_repeated_look_like_no_placeholder(tmp_path: Path) -> None:
    path = put(tmp_path, "code\n" + "I21\n" * 40 + "E11\n")
    (doubt,) = read_table(path, Schema(code=Identifier())).report.warnings
    assert "one of them stands in 40 of 41 rows" in doubt
    assert read_table(path, Schema(code=Identifier(repeated=True))).report.warnings == ()


def test_a_schema_knows_formats_by_name_and_from_the_header() -> None:
    schema = Schema(who=Identifier(), when=Time()).with_formats(
        Format("clinic", {"who": ("Station", "Nr"), "when": ("Datum", "Zeit")})
    )
    header = ("Nr", "Station", "Zeit", "Datum")
    expected = {"who": ("Station", "Nr"), "when": ("Datum", "Zeit")}
    assert resolve_columns(header, None, schema, table="t") == expected
    assert resolve_columns(header, "clinic", schema, table="t") == expected
    with pytest.raises(DataError, match=r"known are secagg: who, when, clinic: Station, Nr, Datum, Zeit"):
        resolve_columns(header, "ward", schema, table="t")
    with pytest.raises(UsageError, match="expected columns for who, when in the format other, got who"):
        schema.with_formats(Format("other", {"who": ("a",)}))


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"who": ("a",)}, "expected columns for who, n, got some for who"),
        ({"who": ("a",), "n": ()}, "expected columns for who, n"),
        ({"who": ("a",), "n": ("b", "c")}, "n is one column, but the mapping names 2"),
    ],
)
def test_a_mapping_of_other_roles_is_refused(mapping: dict[str, tuple[str, ...]], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve_columns(("a", "b", "c"), mapping, Schema(who=Identifier(), n=Integer()), table="t")
    with pytest.raises(UsageError, match="n is one column, but the mapping names 2"):
        parse_columns(["n=a", "n=b"], Schema(who=Identifier(), n=Integer()))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "at most one Time among them, got none"),
        ({"a": Time(), "b": Time()}, "at most one Time among them, got a, b"),
        ({"Upper": Identifier()}, "lower-case letters, digits and '_', got 'Upper'"),
        ({"x" * 33: Identifier()}, "at most 32"),
        (
            {"a": Identifier},
            "expected one of Identifier, Money, Time, Integer, Real, Date, Timestamp, Category, Boolean for a",
        ),
        (
            {"a": type("Name", (Identifier,), {})()},
            "expected one of Identifier, Money, Time, Integer, Real, Date, Timestamp, Category, Boolean for a",
        ),
    ],
)
def test_a_schema_that_cannot_be_is_refused(columns: dict[str, Type], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        Schema(**columns)


@pytest.mark.parametrize(("low", "high"), [(1, 0), (-(10**17) - 1, 0), (0, 10**17 + 1)])
def test_a_range_that_cannot_be_is_refused(low: int, high: int) -> None:
    with pytest.raises(UsageError, match="expected a range of integers"):
        Integer(low, high)


VISITS = Schema(
    level=Real(Decimal("-1.5"), Decimal(20), 2),
    score=Real(Decimal(0), Decimal(1), 4, nullable=True),
    ward=Category(("north", "east"), nullable=True),
    smokes=Boolean(nullable=True),
    day=Date(nullable=True),
    at=Timestamp("Europe/Berlin", 1, nullable=True),
    paid=Money(0, max=50, nullable=True),
    age=Integer(0, 130, nullable=True),
)  # fmt: skip
VISIT = "level,score,ward,smokes,day,at,paid,age\n"
GOOD = "-1.5,0.25,north,yes,2020-02-29,2020-10-25 02:30:00.5,50,64\n"


def test_reals_categories_booleans_dates_and_timestamps_are_read(tmp_path: Path) -> None:
    rows = GOOD + "20,,,,,,,\n1.00,1,east,0,1969/12/31,2020-07-01T12:00:00+02:00,0,0\n"
    first, second = put(tmp_path, VISIT + rows), put(tmp_path, VISIT + GOOD, "u.csv")
    table = read_table([first, second], VISITS)
    expected = {
        "level": [-150, 2000, 100, -150],
        "score": [2500, None, 10_000, 2500],
        "ward": [1, None, 0, 1],
        "smokes": [True, None, False, True],
        "day": [18_321, None, -1, 18_321],
        "at": [
            16_035_858_005,
            None,
            15_935_976_000,
            16_035_858_005,
        ],  # the first of the two times that clocks show
        "paid": [50, None, 0, 50],
        "age": [64, None, 0, 64],
    }
    for field, values in expected.items():
        assert table[field].tolist() == values, field
        assert isinstance(table[field], np.ma.MaskedArray) == (field != "level")
        assert table[field].dtype == (np.bool_ if field == "smokes" else np.int64)


def test_typed_columns_of_the_new_types_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 0.07::DOUBLE AS level, NULL::DECIMAL(5, 4) AS score, 'east'::ENUM('east', 'x') AS ward, "
            "false AS smokes, 7 AS paid, NULL::INT AS age, "
            "DATE '2020-02-29' AS day, TIMESTAMPTZ '2020-07-01 10:00:00.1+00' AS at) "
            f"TO '{path}'"
        )
    table = read_table(path, VISITS)
    found = {field: table[field].tolist() for field in VISITS}
    assert found == {
        "level": [7], "score": [None], "ward": [0], "smokes": [False], "day": [18_321], "at": [15_935_976_001],
        "paid": [7], "age": [None],
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-1.5,", "-1.6,", "level lies outside -1.5 to 20"),
        ("-1.5,", "20.01,", "level lies outside -1.5 to 20"),
        ("-1.5,", "1.0051,", "level has digits below 0.01"),
        ("-1.5,", "(1.5),", "level is below zero in a form that is not known"),
        ("-1.5,", ",", "level is missing"),
        ("0.25", "1.1", "score lies outside 0 to 1"),
        ("0.25", "-0.1", "score lies outside 0 to 1"),
        ("north", "North", "ward is none of the category's values"),
        ("yes", "maybe", "smokes is neither true nor false"),
        ("2020-02-29", "2021-02-29", "day is not an ISO date"),
        ("2020-02-29", "29.02.2020", "day is not an ISO date"),
        ("2020-02-29", "2200-01-01", "day lies outside 1900-01-01 to 2199-12-31"),
        (
            "2020-10-25 02:30:00.5",
            "2020-03-29 02:30:00",
            "at does not exist in Europe/Berlin, whose clocks skip it",
        ),
        ("2020-10-25 02:30:00.5", "2020-10-25 02:30:00.55", "at is finer than 1 decimals of a second"),
        ("2020-10-25 02:30:00.5", "noon", "at is not an ISO timestamp"),
        (",50,", ",51,", "paid lies outside 0 to 50"),
        (",64", ",131", "age lies outside 0 to 130"),
    ],
)
def test_a_value_of_the_new_types_that_cannot_be_is_named(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    assert old in GOOD
    path = put(tmp_path, VISIT + GOOD + GOOD.replace(old, new, 1))
    with pytest.raises(DataError, match=re.escape(f"t.csv:3: {reason}")):
        read_table(path, VISITS)


def test_further_decimals_of_a_score_are_cut_where_the_type_says_so_and_no_score_passes_an_edge(
    tmp_path: Path,
) -> None:
    scores = Schema(score=Real(Decimal(0), Decimal(1), 15, cut=True))
    path = tmp_path / "t.csv"
    path.write_text("score\n0.8444218515250481\n1.2e-05\n0.0999999999999999994\n0.30000000000000004\n1\n")
    found = [844421851525048, 12 * 10**9, 99999999999999, 3 * 10**14, 10**15]
    assert read_table(path, scores)["score"].tolist() == found
    for wrong in ("-0.1", "1.7"):
        path.write_text(f"score\n{wrong}\n")
        with pytest.raises(DataError, match="score lies outside 0 to 1") as refused:
            read_table(path, scores)
        assert "reversals" not in str(refused.value)
