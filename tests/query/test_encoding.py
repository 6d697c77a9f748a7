"""Owners' columns as integers: what is refused, and that they come back as they were."""

from __future__ import annotations

import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pytest

from secagg.data.zones import to_instants
from secagg.errors import DataError
from secagg.query.encoding import Field, decode, encode, pseudonymous, shown_pseudonym, take_in

AMOUNT = Field("amount", "number", scale=2, low=0, high=10**9, nullable=True)
COUNT = Field("n", "number", low=-5, high=5)
DAY = Field("day", "date", low=0, high=40_000)
AT = Field("moment", "timestamp", low=0, high=2**32, zone="Europe/Amsterdam")
KIND = Field("kind", "category", high=1, categories=("it's", "b"))
FLAG = Field("flag", "boolean", high=1, nullable=True)
WHO = Field("who", "identifier", nullable=True)


def _taken(values: str, *fields: Field, owner: str = "north"):
    connection = duckdb.connect()
    names = ", ".join(f.name for f in fields)
    source = f"(SELECT * FROM (VALUES {values}) AS t({names}))"
    rows = take_in(connection, source, fields, into="taken", owner=owner, table="transfers")
    found = encode(connection, "SELECT * FROM taken", fields, owner=owner, what="transfers")
    return rows, found


def _back(found, names=None):
    columns = []
    for column in found:
        values, known = column.values, dict[int, str]()
        if column.of.kind == "identifier":
            values, known = pseudonymous(column, bytes(32))
        columns.append(decode(column.of, values, column.null, known if names is None else names))
    return list(zip(*columns, strict=True))


def test_columns_of_every_type_come_back_as_they_were():
    fields = (AMOUNT, COUNT, DAY, AT, KIND, FLAG, WHO)
    rows, found = _taken(
        "('12.30', '-5', '2024-02-29', '2024-07-01 12:00:00', 'it''s', true, 'NL1'), "
        "(NULL, '5', '1970-01-01', '2024-07-01 12:00:00+00', 'b', NULL, NULL)",
        *fields,
    )
    noon = datetime.datetime(2024, 7, 1, 12, tzinfo=datetime.UTC)
    assert rows == 2
    assert _back(found) == [
        (
            Decimal("12.30"),
            -5,
            datetime.date(2024, 2, 29),
            noon - datetime.timedelta(hours=2),
            "it's",
            True,
            "NL1",
        ),
        (None, 5, datetime.date(1970, 1, 1), noon, "b", None, None),
    ]


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        (
            "('1.00'), ('1.005'), ('0.001')",
            AMOUNT,
            r"2 of 3 rows have more than the 2 decimals .*first is row 2",
        ),
        (
            "(1.0::DOUBLE), (0.1::DOUBLE + 0.2), (0.125::DOUBLE)",
            AMOUNT,
            r"1 of 3 rows have more than .* row 3",
        ),
        ("('0'), ('-1')", AMOUNT, r"1 of 2 rows lie outside the declared range 0\.00 to 10000000\.00.*row 2"),
        ("(6)", COUNT, r"1 of 1 rows lie outside the declared range -5 to 5"),
        ("('many')", COUNT, "1 of 1 rows are no number"),
        ("(1), (NULL)", COUNT, r"1 of 2 rows are NULL.*row 2"),
        ("('2024-02-30')", DAY, "1 of 1 rows are no date"),
        ("('1969-12-31')", DAY, "1 of 1 rows lie outside the range 1970-01-01 to"),
        ("('2024-07-01 12:00:00.5')", AT, "more than the 0 decimals of a second"),
        (
            "('2024-03-31 01:30:00'), ('2024-03-31 02:30:00'), ('2024-03-31 02:30:00+00')",
            AT,
            "1 of 3 rows do not exist in Europe/Amsterdam, whose clocks skip them, the first is row 2",
        ),
        (
            "(TIMESTAMP '2024-03-31 02:30:00')",
            AT,
            "1 of 1 rows do not exist in Europe/Amsterdam",
        ),
        ("('c')", KIND, "1 of 1 rows are none of the declared values"),
        ("(' ')", WHO, "1 of 1 rows hold no text"),
        ("(1.5::DOUBLE)", WHO, "expected texts or whole numbers as identifiers, got DOUBLE"),
    ],
)
def test_a_row_that_was_not_declared_is_refused_at_its_owner_without_its_value(values, field, says):
    with pytest.raises(DataError, match=says) as refused:
        _taken(values, field)
    assert "many" not in str(refused.value)


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Berlin", "2026-10-25"),
        ("Europe/Berlin", "2026-03-29"),
        ("Australia/Lord_Howe", "2026-04-05"),
        ("Pacific/Apia", "2011-12-31"),
        ("America/Havana", "2025-11-02"),
    ],
)
@pytest.mark.slow
def test_a_local_time_is_the_instant_that_tables_of_patterns_have(zone, day):
    start = int(np.datetime64(day, "s").astype(np.int64)) - 3600
    local = np.arange(start, start + 6 * 3600, 900)
    instants, skipped = to_instants(local.astype(np.float64), ZoneInfo(zone))
    texts = [str(np.datetime64(second, "s")) for second in local[~skipped].tolist()]
    of = Field("moment", "timestamp", high=2**32, zone=zone)
    for kind in ("TIMESTAMP", "VARCHAR"):
        values = ", ".join(f"(CAST('{one}' AS {kind}))" for one in texts)
        _, (column,) = _taken(values, of)
        assert column.values.tolist() == instants[~skipped].tolist()
    for second in local[skipped].tolist():
        with pytest.raises(DataError, match="clocks skip"):
            _taken(f"('{np.datetime64(second, 's')}')", of)


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="north: transfers has no column amount; it has x"):
        take_in(duckdb.connect(), "(SELECT 1 AS x)", [AMOUNT], into="t", owner="north", table="transfers")


def test_an_identifier_comes_back_to_a_name_where_it_is_known_and_nowhere_else():
    _, (column,) = _taken("('NL1'), ('NL2'), ('NL1')", WHO)
    values, names = pseudonymous(column, bytes(32))
    assert values[0] == values[2] != values[1]
    assert len(np.unique(np.abs(values) >> 60)) > 0
    other = shown_pseudonym(int(values[1]))
    assert decode(WHO, values, None, {int(values[0]): names[int(values[0])]}) == ["NL1", other, "NL1"]
    assert values[0] != pseudonymous(column, bytes([1] * 32))[0][0]
    assert "NL1" not in repr(column)
