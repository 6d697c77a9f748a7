"""Rows that cannot be used are named by line and column, counted, and left out only where that is said."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import pytest

from bank_tables import HEADER, places, read_transfers
from secagg.data.csv_files import CsvFile, Malformed
from secagg.data.reports import BadRow
from secagg.errors import DataError, UsageError

UNKNOWN_SEPARATORS = "has separators that are not known; say them with --decimal and --thousands"
SCIENTIFIC = "is in scientific notation, where a spreadsheet has cut digits; export the column as text"
BAD: list[tuple[str | bytes, str, str]] = [
    (",s,1,1", "beneficiary", "is missing"),
    ('" ",s,1,1', "beneficiary", "is missing"),
    ("b,,1,1", "sender", "is missing"),
    ("b,s,,1", "amount", "is missing"),
    ("b,s,1,", "time", "is missing"),
    ("b,s,1,\t", "time", "is missing"),
    ("b,s,-0.01,1", "amount", "is negative"),
    ("b,s,-1e-9,1", "amount", "is negative"),
    ("b,s,-1e99,1", "amount", "is negative"),
    ("b,s,nan,1", "amount", "is not a number"),
    ("b,s,NaN,1", "amount", "is not a number"),
    ("b,s,inf,1", "amount", "is not a number"),
    ("b,s,ten,1", "amount", "is not a number"),
    ("b,s,0x10,1", "amount", "is not a number"),
    ("b,s,1_000,1", "amount", UNKNOWN_SEPARATORS),
    ('b,s,"1,000.00",1', "amount", UNKNOWN_SEPARATORS),
    ("b,s,1 000,1", "amount", UNKNOWN_SEPARATORS),
    ("b,s,1.234.567,1", "amount", UNKNOWN_SEPARATORS),
    ('b,s,"1,5",1', "amount", UNKNOWN_SEPARATORS),
    (
        "b,s,1.000,1",
        "amount",
        "can be read with decimals or with thousands; say which with --decimal and --thousands",
    ),
    (
        "b,s,10.005,1",
        "amount",
        "can be read with decimals or with thousands; say which with --decimal and --thousands",
    ),
    ("b,s,10.0005,1", "amount", "has digits below 0.01"),
    ("b,s,1.0355E2,1", "amount", SCIENTIFIC),
    ("b,s,1.23457E+05,1", "amount", SCIENTIFIC),
    ("b,s,1e3,1", "amount", SCIENTIFIC),
    ("b,s,1e-3,1", "amount", SCIENTIFIC),
    ("b,s,1e-300,1", "amount", SCIENTIFIC),
    ("b,s,(103.50),1", "amount", "is negative"),
    ('b,s,"(1,103.50)",1', "amount", "is negative"),
    ("b,s,103.50-,1", "amount", "is negative"),
    ("b,s,\u2212103.50,1", "amount", "is negative"),
    ("b,s,1,05.09.2026", "time", "is a date with points; say its form, such as --date-format %d.%m.%Y"),
    (
        "b,s,1,05.09.2026 10:15",
        "time",
        "is a date with points; say its form, such as --date-format '%d.%m.%Y %H:%M'",
    ),
    ("b,s,$5,1", "amount", "has a currency beside the number"),
    ("b,s,5.00 €,1", "amount", "has a currency beside the number"),
    ("b,s,EUR 5,1", "amount", "has a currency beside the number"),
    ("b,s,5.00 CHF,1", "amount", "has a currency beside the number"),
    (",,,", "", "is empty"),
    ("b,s,.,1", "amount", "is not a number"),
    ("b,s,1000000000000.01,1", "amount", "is above 1000000000000"),
    ("b,s,999999999999999.99,1", "amount", "is above 1000000000000"),
    ("b,s,1e30,1", "amount", SCIENTIFIC),
    ("b,s,1e999,1", "amount", SCIENTIFIC),
    ("b,s,123456789012345678901234567890,1", "amount", "is above 1000000000000"),
    ("NULL,s,1,1", "beneficiary", "stands for no identifier (as NULL, N/A, true or -)"),
    (
        "b,1.23E+15,1,1",
        "sender",
        "is a number in scientific notation, which has lost its digits; export the column as text",
    ),
    ("b,s,1,soon", "time", "is not a number or an ISO timestamp"),
    ("b,s,1,nan", "time", "is not a number or an ISO timestamp"),
    ("b,s,1,inf", "time", "is not a number or an ISO timestamp"),
    ("b,s,1,1e999", "time", "is not a number or an ISO timestamp"),
    ("b,s,1,infinity", "time", "is not a number or an ISO timestamp"),
    ("b,s,1,epoch", "time", "is not a number or an ISO timestamp"),
    ("b,s,1,2022-02-30", "time", "is not a number or an ISO timestamp"),
    ("b,s,1,2022-09-01 25:00", "time", "is not a number or an ISO timestamp"),
    ("b,s,1,01/09/2022", "time", "is not a number or an ISO timestamp"),
    ("b,s,1,2022-09-01 00:00:00 Europe/Berlin", "time", "is not a number or an ISO timestamp"),
    ("b,s,1", "", "has too few columns"),
    ("b", "", "has too few columns"),
    ("b,s,1,1,1", "", "has too many columns"),
    (b"b\xff,s,1,1", "", "is not UTF-8"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("row", "column", "reason"), BAD)
def test_each_kind_of_bad_row_is_named_by_line_and_column(put, row, column, reason):
    row = row if isinstance(row, bytes) else row.encode()
    path = put(HEADER.encode() + b"b,s,1,1\n" + row + b"\nb,s,2,2\n")
    with pytest.raises(DataError) as refused:
        read_transfers(path)
    message = str(refused.value)
    assert f"{path}:3: {column or 'the row'} {reason}" in message
    assert f"{path}: 1 of 3 rows" in message
    wrong_without = reason.startswith(
        (
            "is above",
            "is negative",
            "has digits below",
            "is in scientific",
            "can be read with",
            "has a currency",
            "has separators",
            "is a date",
            "is not UTF-8",
        )
    )
    assert ("--bad-rows skip" in message) != wrong_without


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(BAD), 15))
def test_each_kind_of_bad_row_is_left_out_where_that_is_said_and_located(put, start):
    some = BAD[start : start + 15]  # reports list twenty
    rows = [row if isinstance(row, bytes) else row.encode() for row, _, _ in some]
    lines = [HEADER.encode().rstrip(), b"b,s,1,1", *(part for row in rows for part in (row, b"b,s,2,2")), b""]
    table = read_transfers(put(b"\n".join(lines)), bad_rows="skip")
    assert table["amount"].tolist() == [100, *[200] * len(some)]
    assert places(table.report) == [(3 + 2 * i, *which) for i, (_, *which) in enumerate(some)]
    counted = {(fault.column, fault.reason): fault.rows for fault in table.report.faults}
    assert counted == Counter((column, reason) for _, column, reason in some)
    read, bad = 1 + 2 * len(some), len(some)
    assert (table.report.rows_read, table.report.rows_bad, table.report.rows_in_window) == (
        read, bad, read - bad
    )  # fmt: skip


@pytest.mark.slow
def test_all_kinds_of_bad_rows_at_once_are_counted_and_located(put):
    # Blank lines, quoted line ends and malformed records shift lines against records; so does no column
    # that is read being the first.
    out, line = io.BytesIO(), 2
    expected: list[Any] = []
    out.write(b"note," + HEADER.encode())
    for row, column, reason in BAD[::-1] * 3:
        record = row if isinstance(row, bytes) else str(row).encode()
        for filler in (b'"two\nlines",b,s,1,1\n', b"\n", b"n,b,s,1,1\n"):
            out.write(filler)
            line += filler.count(b"\n")
        out.write(b'"' + b"n\n" * (len(expected) % 3) + b'",' + record + b"\n")
        expected.append((line, column, reason))
        line += 1 + len(expected[:-1]) % 3
    for name in ("t.csv", "t.csv.gz"):
        table = read_transfers(put(out.getvalue(), name), bad_rows="skip")
        assert places(table.report) == expected[:20]
        assert table.report.rows_bad == len(BAD) * 3
        assert len(table) == len(BAD) * 6
        assert sum(fault.rows for fault in table.report.faults) == len(BAD) * 3
        too_few = [fault.rows for fault in table.report.faults if fault.reason == "has too few columns"]
        assert too_few == [6]


def test_leaving_out_is_not_advised_where_one_of_the_rows_has_an_amount_that_can_be_read(put):
    with pytest.raises(DataError) as refused:
        read_transfers(put(HEADER + "b,,1,1\nb,s,(5.00),1\n"))
    assert "--bad-rows" not in str(refused.value)


def test_rows_with_amounts_that_are_left_out_are_counted(put):
    report = read_transfers(put(HEADER + "b,s,1,1\nb,,1,1\nb,s,-5,1\nb,s,,1\n"), bad_rows="skip").report
    assert report.left_out() == (f"{report.source}: 2 rows with amounts are left out; sums lack them",)
    report = read_transfers(put(HEADER + "b,s,1,1\nb,s,,1\n"), bad_rows="skip").report
    assert report.left_out() == ()


def test_refusal_lists_twenty_rows(put):
    path = put(HEADER + "b,s,-1,1\n" * 15 + "b,s,1,1\n" + "b,,1,1\n" * 5)
    with pytest.raises(DataError) as refused:
        read_transfers(path)
    message = str(refused.value)
    assert "20 of 21 rows" in message
    assert message.count(f"{path}:") == 21  # the first line, and twenty rows
    assert f"{path}:22: sender is missing" in message
    assert "more; in all" not in message


def test_refusal_of_more_than_twenty_rows_lists_the_first_of_each_kind_and_counts_the_rest(put):
    path = put(HEADER + "b,s,-1,1\n" * 15 + "b,,-1,1\n" + "b,s,1,1\n" + "b,,1,1\n" * 10)
    with pytest.raises(DataError) as refused:
        read_transfers(path)
    lines = str(refused.value).split("\n")
    assert lines[0] == f"{path}: 26 of 27 rows cannot be used"
    assert [line.removeprefix(f"  {path}:").split(":")[0] for line in lines[1:8]] == [
        "2", "3", "4", "17", "19", "20", "21",
    ]  # fmt: skip
    assert lines[8].startswith("  and 19 more; in all: ")


@pytest.mark.slow
def test_refusal_shows_no_value_of_the_table(put):
    for row in ("9876501,9876502,-9876503,9876504", "9876501,9876502,9876503x,9876504", "9876501,9876502"):
        with pytest.raises(DataError) as refused:
            read_transfers(put(HEADER + row + "\n"))
        assert "98765" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_bad_rows_outside_the_window_are_bad_too(put):
    table = read_transfers(put(HEADER + "b,s,-1,50\nb,s,1,50\nb,s,1,1\n"), window=(0, 10), bad_rows="skip")
    assert (table.report.rows_bad, table.report.rows_outside, table.report.rows_in_window) == (1, 1, 1)


def test_report_says_what_was_left_out(put):
    path = put(HEADER + "b,s,-1,5\nb,s,1,50\nb,s,1,1\n")
    report = read_transfers(path, window=(0, 10), bad_rows="skip").report
    assert str(report) == f"{path}: 3 rows read, 1 used, 1 outside the window, 1 bad (amount is negative: 1)"


def test_bad_rows_takes_refuse_or_skip(put):
    with pytest.raises(UsageError, match="bad_rows"):
        read_transfers(put(HEADER), bad_rows="ignore")


@pytest.mark.parametrize("rows", ['b,"s,1,1\nb,s,2,2\nb,s,3,3\n', 'b,"s"x,1,1\nb,s,2,2\n'])
def test_broken_quotes_are_refused_even_when_bad_rows_are_skipped(put, rows):
    path = put(HEADER + "b,s,1,1\n" + rows)
    with pytest.raises(DataError, match=r"t\.csv:3: from here on, a quote is not closed"):
        read_transfers(path, bad_rows="skip")


@pytest.mark.slow
def test_no_row_is_lost_beside_a_malformed_one_at_a_block_of_duckdbs(put):
    # DuckDB reading in parallel loses the rows after byte 8,000,000 here, without an error.
    good, bad = b"plain,b,s,1,5\n", b"n,b,s,1\n"
    header = b"note," + HEADER.encode()
    count = 8_000_000 // len(good) - 10
    note = b"n" * (8_000_004 - len(header) - count * len(good) - len(b",b,s,1,5\n"))
    path = put(header + good * count + note + b",b,s,1,5\n" + bad + good * 2)
    report = read_transfers(path, bad_rows="skip").report
    assert (report.rows_in_window, report.rows_bad) == (count + 3, 1)
    assert places(report) == [(count + 3, "", "has too few columns")]


def test_a_file_that_duckdb_and_the_csv_module_split_differently_is_refused(put):
    # DuckDB takes a quote after a space for one, the csv module does not.
    with pytest.raises(DataError, match="holds 3 records, of which DuckDB finds 2"):
        read_transfers(put(HEADER + 'b, "s\nx",1,1\nb,s,1,1\n'), bad_rows="skip")


def test_no_line_is_told_rather_than_a_wrong_one(put):
    table = CsvFile(put(HEADER + "b,s,1,1\nb,s,1\nb,s,2,2\n"))
    start = len(HEADER) + len("b,s,1,1\n")
    assert table.locate([0, 1], [Malformed(start, "")], 2) == ([2, 4], [3])
    assert table.locate([0, 1], [Malformed(start + 1000, "")], 2) == ([0, 0], [0])
    assert str(BadRow("t.csv", 0, "amount", "is negative")) == "t.csv: line not known: amount is negative"


def test_a_row_is_named_with_all_that_is_wrong_in_it(put):
    """Between rows with faults that a query finds stands one with a fault that only spelling finds."""
    rows = "b,s,1,1\nNULL,s,-1,soon\nNULL,s,1,1\n,NULL,ten,1\n,,,\n"
    path = put(HEADER + rows)
    told = [
        str(row).removeprefix(f"{path}:") for row in read_transfers(path, bad_rows="skip").report.bad_rows
    ]
    unnamed = "stands for no identifier (as NULL, N/A, true or -)"
    assert told == [
        f"3: amount is negative; time is not a number or an ISO timestamp; beneficiary {unnamed}",
        f"4: beneficiary {unnamed}",
        f"5: beneficiary is missing; amount is not a number; sender {unnamed}",
        "6: the row is empty",
    ]
