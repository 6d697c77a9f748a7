"""Reading transfers and deposits: formats, exact cents, windows, and rows that cannot be used."""

from __future__ import annotations

import contextlib
import csv
import datetime
import gzip
import io
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bank_tables import read_deposits, read_transfers
from secagg.data import sources
from secagg.data.columns import parse_columns
from secagg.data.conventions import Conventions
from secagg.data.csv_files import CsvFile, Malformed
from secagg.data.dialect import Dialect
from secagg.data.reports import BadRow
from secagg.data.times import parse_time
from secagg.errors import DataError, EmptyTableError, UsageError
from secagg.patterns.banking.tables import DEPOSITS, TRANSFERS

HEADER = "beneficiary,sender,amount,time\n"


@pytest.fixture
def put(tmp_path):
    def put(text: str | bytes, name: str = "t.csv") -> Path:
        path = tmp_path / name
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return put


def parquet(path: Path, select: str) -> Path:
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path


def places(report) -> list[tuple[int, str, str]]:
    return [(row.line, row.column, row.reason) for row in report.bad_rows]


# What is read


def test_identifiers_are_numbered_in_the_order_of_the_rows_that_count(put):
    # The sender of the first row is refused, and its beneficiary first counts in the last row.
    rows = ["b,1e+09,1,1\n", "c,t,1,1\n", "a,s,1,1\n", "b,s,1,1\n"]
    one = put(HEADER + "".join(rows))
    two = [put(HEADER + "".join(part), f"{i}.csv") for i, part in enumerate((rows[:2], rows[2:]))]
    for source in (one, two):
        found = read_transfers(source, bad_rows="skip")["beneficiary"]
        assert list(found) == ["c", "a", "b"]
        assert found.categories.tolist() == ["c", "a", "b"]
        assert found.codes.tolist() == [0, 1, 2]


def test_own_transfers_come_as_typed_arrays_in_file_order(put):
    table = read_transfers(put(HEADER + "b2,s1,10.05,3\nb1,s2,7,1.5\n"))
    assert table["beneficiary"].strings.tolist() == ["b2", "b1"]
    assert table["sender"].strings.tolist() == ["s1", "s2"]
    assert table["amount"].tolist() == [1005, 700]
    assert table["amount"].dtype == np.int64
    assert table["time"].tolist() == [3.0, 1.5]
    assert table["time"].dtype == np.float64
    assert len(table) == 2
    assert table.report.rows_read == table.report.rows_in_window == 2
    assert table.report.times == "numbers"


def test_own_deposits_are_read(put):
    table = read_deposits(put("time,amount,customer\n2025-01-01,9999.99,c1\n"))
    assert table["customer"].strings.tolist() == ["c1"]
    assert table["amount"].tolist() == [999999]
    assert table["time"].tolist() == [1735689600.0]
    assert table.report.times == "timestamps"


def test_amlsim_transactions_are_recognised(put):
    table = read_transfers(
        put("sourceNodeId,targetNodeId,value,time\n360,18984,103.55,1\n587,18604,259.7,2\n")
    )
    assert table["beneficiary"].strings.tolist() == ["18984", "18604"]
    assert table["sender"].strings.tolist() == ["360", "587"]
    assert table["amount"].tolist() == [10355, 25970]
    assert table["time"].tolist() == [1.0, 2.0]


def test_amlsim_converted_log_is_recognised(put):
    header = "TX_ID,SENDER_ACCOUNT_ID,RECEIVER_ACCOUNT_ID,TX_TYPE,TX_AMOUNT,TIMESTAMP,IS_FRAUD,ALERT_ID\n"
    table = read_transfers(put(header + "1,6456,9069,TRANSFER,465.05,0,False,-1\n"))
    assert table["beneficiary"].strings.tolist() == ["9069"]
    assert table["sender"].strings.tolist() == ["6456"]
    assert table["amount"].tolist() == [46505]


IBM = (
    "Timestamp,From Bank,Account,To Bank,Account,Amount Received,Receiving Currency,"
    "Amount Paid,Payment Currency,Payment Format,Is Laundering\n"
)


def test_ibm_aml_identifiers_are_bank_and_account_with_leading_zeros(put):
    row = "2022/09/01 00:20,010,8000EBD30,003,8000F4580,3697.34,US Dollar,3700.00,Euro,Reinvestment,0\n"
    table = read_transfers(put(IBM + row))
    assert table["beneficiary"].strings.tolist() == ["003:8000F4580"]
    assert table["sender"].strings.tolist() == ["010:8000EBD30"]
    assert table["amount"].tolist() == [369734]
    assert table["time"].tolist() == [1661991600.0]


def test_ibm_aml_is_not_recognised_with_its_two_accounts_exchanged(put):
    exchanged = IBM.replace("From Bank,Account,To Bank", "To Bank,Account,From Bank")
    with pytest.raises(DataError, match="no known format"):
        read_transfers(put(exchanged))


def test_a_header_of_no_format_is_answered_with_what_is_lacking(put):
    def refused(header: str) -> str:
        with pytest.raises(DataError) as caught:
            read_transfers(put(header + "\n1,2,3,4\n"))
        return str(caught.value)

    some = refused("IBAN,Auftraggeber,amount,time")
    assert some.endswith("say which column is which: --map beneficiary=COLUMN --map sender=COLUMN")
    assert "secagg is beneficiary, sender, amount, time; others are amlsim, amlsim-tx" in some
    assert "paysim lacks 'step' alone; say" in refused("nameOrig,nameDest,amount,day")
    above = refused("Statement,,,")
    assert "its columns are Statement, (no name), _1, _2; if the names stand on a later line, remove" in above


def test_a_row_that_holds_nothing_is_not_said_to_have_an_amount(put):
    table = read_transfers(put(HEADER + "b,s,1,1\n,,,\n\nb,,2,2\n"), bad_rows="skip")
    assert places(table.report) == [(3, "", "is empty"), (5, "sender", "is missing")]
    assert table.report.left_out() == (
        f"{table.report.source}: 1 rows with amounts are left out; sums lack them",
    )


def test_format_can_be_named(put):
    path = put("sourceNodeId,targetNodeId,value,time\n1,2,3,4\n")
    assert read_transfers(path, mapping="amlsim")["beneficiary"].strings.tolist() == ["2"]
    with pytest.raises(
        DataError, match="no format 'visa' for beneficiary, sender, amount, time; known are secagg"
    ):
        read_transfers(path, mapping="visa")
    with pytest.raises(DataError, match="no format 'amlsim' for customer, amount, time"):
        read_deposits(path, mapping="amlsim")


def test_columns_can_be_named(put):
    path = put("To Account,bank,from,EUR,day\nx,B1,y,5,1\n")
    pairs = ["beneficiary=bank", "beneficiary=To Account", "sender=from", "amount=EUR", "time=day"]
    table = read_transfers(path, mapping=parse_columns(pairs, TRANSFERS))
    assert table["beneficiary"].strings.tolist() == ["B1:x"]
    assert table["amount"].tolist() == [500]


def test_mapping_keeps_its_base_for_roles_not_named():
    base = {"beneficiary": ("a",), "sender": ("b",), "amount": ("c",), "time": ("d",)}
    assert parse_columns(["amount=x=y"], TRANSFERS, base=base) == {**base, "amount": ("x=y",)}
    assert parse_columns([], DEPOSITS) == {field: (field,) for field in DEPOSITS}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["amount"], "field=column"),
        (["amount="], "field=column"),
        (["colour=x"], "no field 'colour'.*beneficiary, sender, amount, time"),
        (["time=a", "time=b", "time=c"], "time is one column, or a date and a time of day"),
        (["amount=a", "amount=b"], "amount is one column"),
    ],
)
def test_bad_mapping_is_refused(pairs, message):
    with pytest.raises(UsageError, match=message):
        parse_columns(pairs, TRANSFERS)


@pytest.mark.parametrize(
    ("header", "mapping", "message"),
    [
        ("beneficiary,sender,amount,time,amount", (), "2 columns are called 'amount'; rename"),
        ("b,sender,amount,time,b", ("beneficiary=b",), "2 columns are called 'b'; rename"),
        ("beneficiary,sender,amount,time,Amount", (), "'amount' can be each of the columns amount, Amount"),
        ("beneficiary,sender,Amount,time,AMOUNT", (), "'amount' can be each of the columns Amount, AMOUNT"),
        ("beneficiary,sender,amount,time,AMOUNT", ("amount=AMOUNT",), "can be each of the columns"),
        ("a,b,amount,time,x", ("beneficiary=a", "sender=a"), "beneficiary and sender are both read from 'a'"),
        ("beneficiary,sender,v,x,y", ("amount=v", "time=v"), "amount and time are both read from 'v'"),
        (
            "beneficiary,a,b,v,t",
            ("sender=V", "amount=v", "time=t"),
            "sender and amount are both read from 'v'",
        ),
    ],
)
def test_a_column_that_cannot_be_told_or_has_two_roles_is_refused(put, header, mapping, message):
    columns = parse_columns(mapping, TRANSFERS) if mapping else None
    with pytest.raises(DataError, match=message):
        read_transfers(put(header + "\nb,s,1,1,2\n"), mapping=columns)


def test_columns_of_one_name_that_are_not_used_do_no_harm(put):
    table = read_transfers(put("beneficiary,sender,amount,time,note,note,NOTE\nb,s,1,1,x,y,z\n"))
    assert table["amount"].tolist() == [100]


def test_identifiers_are_stripped_composed_and_otherwise_untouched(put):
    text = (
        HEADER
        + "\u00a0\u2003Ünï-çødé 账户 \t,  007,1,1\nABC,abc,1,1\n,\n".replace(",\n", "")
        + "e\u0301,\u00e9,1,1\n"
    )
    table = read_transfers(put(text))
    assert table["beneficiary"].strings.tolist() == ["Ünï-çødé 账户", "ABC", "\u00e9"]
    assert table["sender"].strings.tolist() == ["007", "abc", "\u00e9"]


def test_quoted_fields_hold_delimiters_quotes_and_line_ends(put):
    table = read_transfers(put(HEADER + '"b, ""one""\nx",s,"1.50","2"\n'))
    assert table["beneficiary"].strings.tolist() == ['b, "one"\nx']
    assert table["amount"].tolist() == [150]


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ""), ("t.csv.gz", "\ufeff"), ("T.CSV", "\ufeff")])
@pytest.mark.parametrize(("delimiter", "line_end"), [(",", "\r\n"), (";", "\n"), ("\t", "\r\n"), ("|", "\n")])
def test_dialects_of_csv_are_told_from_the_header(put, name, line_end, mark, delimiter):
    lines = [line.replace(",", delimiter) for line in ("beneficiary,sender,amount,time", "b,s,1.25,2")]
    table = read_transfers(put(mark + line_end.join(lines), name))
    assert (
        table["beneficiary"].strings[0],
        table["sender"].strings[0],
        table["amount"][0],
        table["time"][0],
    ) == (
        "b",
        "s",
        125,
        2.0,
    )


def test_tsv_takes_tabs_alone(put):
    table = read_transfers(put("beneficiary\tsender\tamount\ttime\na,b,c,d\ts\t1\t2\n", "t.tsv"))
    assert table["beneficiary"].strings.tolist() == ["a,b,c,d"]


def test_blank_lines_do_not_count_as_rows(put):
    assert len(read_transfers(put(HEADER + "\nb,s,1,1\n\n\nb,s,2,2\n\n"))) == 2


@pytest.mark.parametrize("text", [HEADER, HEADER.strip()])
def test_header_alone_is_an_empty_table_for_those_who_take_one(put, text):
    with pytest.raises(EmptyTableError, match=r"no row counts; 0 were read.*--allow-empty"):
        read_transfers(put(text))
    table = read_transfers(put(text), allow_empty=True)
    assert len(table) == 0
    assert table["beneficiary"].strings.dtype == object
    assert table["amount"].dtype == np.int64
    assert table["time"].dtype == np.float64
    assert table.report.times == "none"


def test_a_table_does_not_show_its_rows_when_printed(put):
    table = read_transfers(put(HEADER + "secret-account,s,123456,1\n"))
    assert "secret" not in repr(table)
    assert "123456" not in repr(table)


# Amounts


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        ("0", 0),
        ("-0.00", 0),
        ("0.01", 1),
        (".5", 50),
        ("5.", 500),
        ("+7.1", 710),
        (" 12 ", 1200),
        ("103.55000000000001", 10_355),
        ("0.30000000000000004", 30),
        ("0.29", 29),
        ("0.2900000000000000000000000", 29),
        ("1000.000", 100_000),
        ("0.000", 0),
        ("0e-300", 0),
        ("1000000000000", 10**14),
        ("1000000000000.00", 10**14),
        ("999999999999.99", 10**14 - 1),
        ("000000000000000000000000000012.30", 1230),
    ],
)
def test_amounts_become_exact_cents(put, text, cents):
    assert read_transfers(put(f"{HEADER}b,s,{text},1\n"))["amount"].tolist() == [cents]


@pytest.mark.slow
@pytest.mark.parametrize("decimals", range(5))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 10**17), min_size=1, max_size=100), st.integers(0, 10))
def test_amounts_are_exact_in_every_currency(put, decimals, smallest, zeros):
    smallest = [amount // 10 ** (4 - decimals) for amount in smallest]
    texts = [f"{Decimal(amount).scaleb(-decimals):f}" for amount in smallest]
    texts = [text + "0" * zeros if "." in text else text for text in texts]
    table = read_transfers(
        put(HEADER + "".join(f"b,s,{text},1\n" for text in texts)),
        conventions=Conventions(currency_decimals=decimals, largest_amount=10**13),
        dialect=Dialect(decimal="."),
    )
    assert table["amount"].tolist() == smallest


@pytest.mark.parametrize(
    ("text", "decimals"),
    [
        ("0.001", 2), ("0.285", 2), ("0.2950000001", 2), ("0.2849999999", 2), ("1000000000.004", 2),
        ("1000000000000.0001", 2), ("999999999999.005", 2),
        ("0.5", 0), ("1.00001", 4), ("10.1234", 3), ("0.29000000000001", 2),
    ],
)  # fmt: skip
def test_digits_below_the_smallest_unit_are_refused_and_not_dropped(put, text, decimals):
    with pytest.raises(DataError) as refused:
        read_transfers(put(f"{HEADER}b,s,{text},1\n"), conventions=Conventions(currency_decimals=decimals))
    unit = Decimal(1).scaleb(-decimals)
    assert f"t.csv:2: amount has digits below {unit:f}\n" in str(refused.value)
    assert "currency_decimals" in str(refused.value)
    assert "skip" not in str(refused.value)


@pytest.mark.parametrize("decimals", [0, 2, 3, 4])
def test_amounts_that_could_have_decimals_or_thousands_are_refused(put, decimals):
    texts = ["3.000", "1,234", "-1.234", "+999,999", "12.345"]
    path = put("beneficiary;sender;amount;time\n" + "".join(f"b;s;{text};1\n" for text in texts))
    with pytest.raises(DataError) as refused:
        read_transfers(path, conventions=Conventions(currency_decimals=decimals))
    assert str(refused.value).count("amount can be read with decimals or with thousands; say which") == len(
        texts
    )


def test_columns_of_numbers_are_never_ambiguous(tmp_path):
    path = parquet(tmp_path / "t.parquet", "SELECT 'c' AS customer, 3.000::DECIMAL(9,3) AS amount, 1 AS time")
    assert read_deposits(path)["amount"].tolist() == [300]
    assert read_deposits(path, dialect=Dialect(decimal=","))["amount"].tolist() == [300]


@pytest.mark.parametrize(
    ("decimal", "thousands", "text", "cents"),
    [
        (",", None, "3,5", 350),
        (",", None, "3,000", 300),
        (",", ".", "3.000", 300_000),
        (",", ".", "1.234.567,89", 123_456_789),
        (",", ".", "1234567,89", 123_456_789),
        (None, ",", "1,234", 123_400),
        (None, ",", "12,34,567.5", 123_456_750),
        (".", None, "3.000", 300),
        (".", "'", "1'234.5", 123_450),
        (".", "\u2019", "1\u2019234.5", 123_450),
        (",", "space", "1 234 567,89", 123_456_789),
        (",", " ", "1\u00a0234\u202f567,89", 123_456_789),
        (",", ".", "-0,00", 0),
    ],
)
def test_separators_that_are_said_are_read(put, decimal, thousands, text, cents):
    path = put(f"beneficiary;sender;amount;time\nb;s;{text};1\n")
    dialect = Dialect(decimal=decimal, thousands=thousands)
    assert read_transfers(path, dialect=dialect)["amount"].tolist() == [cents]


@pytest.mark.parametrize(
    ("decimal", "thousands", "text"),
    [
        (",", None, "3.000"), (",", None, "3.5"), (",", ".", "3.50"), (",", ".", "12.34,5"), (",", ".", "0.123"),
        (",", ".", "1.234.5"), (",", ".", "1.2345"), (".", ",", "1,23"), (".", ",", "12,34"), (".", None, "1,234"),
        (",", ".", "1,234,567"), (".", "'", "1,234"), (".", ",", "1.234,50"),
    ],
)  # fmt: skip
def test_separators_other_than_those_that_are_said_are_refused(put, decimal, thousands, text):
    path = put(f"beneficiary;sender;amount;time\nb;s;{text};1\n")
    with pytest.raises(DataError, match="amount has other separators than the ones that were said"):
        read_transfers(path, dialect=Dialect(decimal=decimal, thousands=thousands))


def test_largest_amount_is_the_jobs_and_is_not_advised_to_be_left_out(put):
    path = put(HEADER + "b,s,100.01,1\n")
    assert len(read_transfers(path, conventions=Conventions(largest_amount=101))) == 1
    with pytest.raises(DataError, match=r"amount is above 100\n.*largest_amount") as refused:
        read_transfers(path, conventions=Conventions(largest_amount=100))
    assert "skip" not in str(refused.value)
    for limit in (0, 10**13 + 1):
        with pytest.raises(UsageError, match="largest_amount"):
            Conventions(largest_amount=limit)


def test_negative_amounts_are_refused_with_what_to_do(put):
    with pytest.raises(DataError, match=r"t\.csv:2: amount is negative\n.*net reversals") as refused:
        read_transfers(put(HEADER + "b,s,-1,1\n"))
    assert "skip" not in str(refused.value)


def test_a_hundred_billion_of_the_smallest_unit_is_no_mistake(put):
    assert read_transfers(put(HEADER + "b,s,25000000000,1\n"))["amount"].tolist() == [25 * 10**11]


# Times and windows


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("-3", -3.0),
        ("1661991600.25", 1661991600.25),
        ("20220901", 20220901.0),
        ("2022-09-01", 1661990400.0),
        ("2022/09/01 00:20", 1661991600.0),
        ("2022-9-1 0:20", 1661991600.0),
        ("2022-09-01T00:20:00Z", 1661991600.0),
        ("2022-09-01 00:20:00.5", 1661991600.5),
        ("2022-09-01T00:20:00+02:00", 1661984400.0),
        ("2022-09-01T00:20:00-05", 1662009600.0),
        ("1969-12-31 23:59:59", -1.0),
    ],
)
def test_times_are_numbers_or_seconds_since_1970_utc(put, text, seconds):
    assert read_transfers(put(f"{HEADER}b,s,1,{text}\n"))["time"].tolist() == [seconds]


@pytest.mark.parametrize("timezone", ["America/New_York", "Asia/Kolkata"])
def test_times_do_not_depend_on_the_machines_zone(put, monkeypatch, timezone):
    monkeypatch.setenv("TZ", timezone)
    assert read_transfers(put(HEADER + "b,s,1,2022-09-01 00:20:00\n"))["time"].tolist() == [1661991600.0]
    assert parse_time("2022-09-01 00:20:00") == 1661991600.0


def test_window_holds_its_start_and_not_its_end(put):
    path = put(HEADER + "".join(f"b{t},s,1,{t}\n" for t in (9, 10, 11, 19.5, 20, 21)))
    table = read_transfers(path, window=(10, 20))
    assert table["time"].tolist() == [10, 11, 19.5]
    assert table["beneficiary"].strings.tolist() == ["b10", "b11", "b19.5"]
    assert table["amount"].tolist() == [100] * 3
    assert (table.report.rows_read, table.report.rows_in_window, table.report.rows_outside) == (6, 3, 3)
    assert read_transfers(path, window=(None, 10))["time"].tolist() == [9]
    assert read_transfers(path, window=(20, None))["time"].tolist() == [20, 21]


def test_window_of_timestamps(put):
    path = put(HEADER + "".join(f"b,s,1,2022-09-{day:02d} 00:00:00\n" for day in range(1, 11)))
    utc = datetime.UTC
    window: Any
    for window in [
        ("2022-09-02", "2022/09/04"),
        (datetime.datetime(2022, 9, 2, tzinfo=utc), datetime.datetime(2022, 9, 4, tzinfo=utc)),
        ("2022-09-02T02:00:00+02:00", 1662249600),
    ]:
        assert read_transfers(path, window=window)["time"].tolist() == [1662076800, 1662163200]


@pytest.mark.slow
def test_a_window_of_one_kind_takes_times_of_that_kind_alone(put):
    numbers = put(HEADER + "b,s,1,20260905\nb,s,1,1757030400\n", "n.csv")
    with pytest.raises(
        DataError, match=r"n\.csv:3: time is a number, and the window is of timestamps.*epoch-ms"
    ):
        read_transfers(numbers, window=("2026-09-01", "2026-10-01"))
    assert read_transfers(numbers, window=(20260901, 20261001))["time"].tolist() == [20260905.0]
    timestamps = put(HEADER + "b,s,1,2026-09-05\n")
    with pytest.raises(DataError, match=r"t\.csv:2: time is a timestamp, and the window is of numbers"):
        read_transfers(timestamps, window=(0, 10**12))


@pytest.mark.parametrize(
    "text", ["20260905", "2026-09-05", "20260905000000", "20260905T000000Z", "2026/9/5 0:00", "2026-09-05T00:00Z",
             "2026-09-05 00:00:00 UTC", "2026-09-05T02:00:00+0200"],
)  # fmt: skip
def test_forms_of_a_timestamp(put, text):
    table = read_transfers(put(f"{HEADER}b,s,1,{text}\n"), window=("2026-09-01", "2026-10-01"))
    assert table["time"].tolist() == [1788566400.0]


def test_compact_dates_may_be_whole_numbers(tmp_path):
    path = parquet(tmp_path / "t.parquet", "SELECT 'c' AS customer, 1 AS amount, 20260905 AS time")
    assert read_deposits(path, window=("2026-09-01", None))["time"].tolist() == [1788566400.0]


@pytest.mark.parametrize("text", ["20261305", "20260931", "20269999", "18000101", "99999999"])
def test_numbers_that_are_no_compact_date_are_refused(put, text):
    with pytest.raises(DataError, match=r"t\.csv:2: time is"):
        read_transfers(put(f"{HEADER}b,s,1,{text}\n"), window=("2026-09-01", "2026-10-01"))


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "scale"), [("epoch-s", 1), ("epoch-ms", 1000), ("epoch-us", 10**6)])
def test_epochs_are_read_where_their_unit_is_said(put, unit, scale):
    path = put(HEADER + "".join(f"b,s,1,{scale * 1788566400 + i * scale // 4}\n" for i in (0, 1)))
    window = ("2026-09-05", "2026-09-06")
    table = read_transfers(path, window=window, dialect=Dialect(date_format=unit))
    assert table["time"].tolist()[0] == 1788566400.0
    assert table.report.times == "timestamps"
    assert table.report.zoned == 2
    wrong = "epoch-s" if unit != "epoch-s" else "epoch-us"
    with pytest.raises(DataError, match=r"not in the years 1900 to 2199|no row counts"):
        read_transfers(path, window=window, dialect=Dialect(date_format=wrong))
    with pytest.raises(DataError, match="the window is of numbers"):
        read_transfers(path, window=(0, None), dialect=Dialect(date_format=unit))


@pytest.mark.slow
def test_times_have_the_date_format_that_is_said(put):
    path = put("customer;amount;time\nc;1;05.09.2026 02:00\n")
    dialect = Dialect(date_format="%d.%m.%Y %H:%M")
    assert read_deposits(path, dialect=dialect)["time"].tolist() == [1788573600.0]
    with pytest.raises(DataError, match=r"time does not have the date format %m/%d/%Y"):
        read_deposits(path, dialect=Dialect(date_format="%m/%d/%Y"))
    zoned = put("customer;amount;time\nc;1;05.09.2026 02:00 +0200\n", "z.csv")
    berlin = Conventions(time_zone="Europe/Berlin")
    for conventions in (berlin, Conventions()):
        dialect = Dialect(date_format="%d.%m.%Y %H:%M %z")
        assert read_deposits(zoned, dialect=dialect, conventions=conventions)["time"].tolist() == [
            1788566400.0
        ]
    with pytest.raises(DataError, match="column 'time' is of type TIMESTAMP and takes no date format"):
        read_deposits(
            "duckdb:SELECT 'c' AS customer, 1 AS amount, TIMESTAMP '2026-09-05' AS time", dialect=dialect
        )


@pytest.mark.parametrize("kind", ["csv", "TIMESTAMP", "TIMESTAMPTZ"])
def test_times_without_a_zone_are_in_the_jobs(put, tmp_path, kind):
    local = ["2026-08-31 23:59:59", "2026-09-01 00:00:00", "2026-09-30 23:59:59", "2026-10-01 00:00:00"]
    if kind == "csv":
        path = put(HEADER + "".join(f"b{i},s,1,{text}\n" for i, text in enumerate(local)))
    else:
        # A type with a zone keeps its instants, whatever zone the job has.
        rows = " UNION ALL ".join(
            f"SELECT 'b{i}' AS beneficiary, 's' AS sender, 1 AS amount, '{text}{'+02' if kind != 'TIMESTAMP' else ''}'"
            f"::{kind} AS time"
            for i, text in enumerate(local)
        )
        path = parquet(tmp_path / "t.parquet", rows)
    start, end = (datetime.datetime(2026, month, 1, tzinfo=ZoneInfo("Europe/Berlin")) for month in (9, 10))
    table = read_transfers(path, window=(start, end), conventions=Conventions(time_zone="Europe/Berlin"))
    assert table["beneficiary"].strings.tolist() == ["b1", "b2"]
    assert table["time"].tolist() == [start.timestamp(), end.timestamp() - 1]
    assert (table.report.zoned, table.report.unzoned) == ((4, 0) if kind == "TIMESTAMPTZ" else (0, 4))
    assert table.report.window == "2026-09-01 00:00:00+02:00 to 2026-10-01 00:00:00+02:00"


@pytest.mark.slow
def test_a_time_that_clocks_show_twice_is_the_first_and_one_that_they_skip_is_bad(put):
    berlin = Conventions(time_zone="Europe/Berlin")
    path = put(HEADER + "b,s,1,2025-10-26 02:30\nb,s,1,2026-03-29 02:30\nb,s,1,2026-03-29 03:00\n")
    with pytest.raises(DataError, match=r"t\.csv:3: time does not exist in Europe/Berlin"):
        read_transfers(path, conventions=berlin)
    table = read_transfers(path, conventions=berlin, bad_rows="skip")
    assert table["time"].tolist() == [1761438600.0, 1774746000.0]


def test_a_date_and_a_time_of_day_may_stand_in_two_columns(put):
    path = put("who,eur,day,at\nc,1,2026-09-05,02:00:01\nc,1,2026-09-05,\n")
    mapping = parse_columns(["customer=who", "amount=eur", "time=day", "time=at"], DEPOSITS)
    table = read_deposits(path, mapping=mapping, bad_rows="skip")
    assert table["time"].tolist() == [1788573601.0]
    assert places(table.report) == [(3, "day", "is missing")]


# Tables of which nothing counts


def test_a_table_of_which_no_row_counts_is_refused_with_its_reasons(put):
    path = put(HEADER + "b,s,1,2026-08-05\nb,s,1,2026-08-07 10:00\nb,s,x,2026-08-07\n")
    window = ("2026-09-01", "2026-10-01")
    with pytest.raises(EmptyTableError) as refused:
        read_transfers(path, window=window, bad_rows="skip")
    text = str(refused.value)
    assert (
        f"{path}: no row counts; 3 were read; 1 of them are bad (amount is not a number: 1); 2 lie outside"
        in text
    )
    assert "the window 2026-09-01 00:00:00+00:00 to 2026-10-01 00:00:00+00:00" in text
    assert "times run from 2026-08-05 00:00:00+00:00 to 2026-08-07 10:00:00+00:00" in text
    assert "--allow-empty" in text
    assert len(read_transfers(path, window=window, bad_rows="skip", allow_empty=True)) == 0


def test_peers_are_told_that_no_row_counts_and_nothing_of_the_table(put):
    with pytest.raises(EmptyTableError) as refused:
        read_transfers(put(HEADER + "b,s,1,5\n"), window=(7, 8))
    told = refused.value.for_peers()
    assert told == "no row of its table counts, by the job's window; its own output says why"


@pytest.mark.parametrize("window", [(2, 2), (3, 2), ("x", 2), (float("nan"), 1), (0, float("inf"))])
def test_window_that_is_none_is_refused(put, window):
    with pytest.raises(UsageError, match="window"):
        read_transfers(put(HEADER), window=window)


def test_numbers_and_timestamps_in_one_table_are_refused(put):
    path = put(HEADER + "b,s,-1,7\nb,s,1,2022-09-01\nb,s,1,5\nb,s,1,2022-09-02\n")
    table = read_transfers(path, bad_rows="skip")
    assert len(table) == 2
    assert places(table.report) == [
        (2, "amount", "is negative"),
        (4, "time", "is a number, while the first good row has a timestamp"),
    ]


# Bad rows

UNKNOWN_SEPARATORS = "has separators that are not known; say them with --decimal and --thousands"
SCIENTIFIC = "is in scientific notation, where a spreadsheet has cut digits; export the column as text"
BAD = [
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

    table = read_transfers(path, bad_rows="skip")
    assert table["amount"].tolist() == [100, 200]
    assert places(table.report) == [(3, column, reason)]
    assert [(fault.column, fault.reason, fault.rows) for fault in table.report.faults] == [
        (column, reason, 1)
    ]
    assert (table.report.rows_read, table.report.rows_bad, table.report.rows_in_window) == (3, 1, 2)


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


def test_refusal_lists_twenty_rows_and_counts_the_rest(put):
    path = put(HEADER + "b,s,-1,1\n" * 15 + "b,s,1,1\n" + "b,,1,1\n" * 10)
    with pytest.raises(DataError) as refused:
        read_transfers(path)
    message = str(refused.value)
    assert "25 of 26 rows" in message
    assert message.count(f"{path}:") == 21  # the first line, and twenty rows
    assert f"{path}:22: sender is missing" in message
    assert f"{path}:23:" not in message
    assert "and 5 more; in all: amount is negative: 15; sender is missing: 10" in message


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


# Parquet and queries


def test_parquet_gives_what_its_csv_export_gives(tmp_path):
    select = (
        "SELECT * FROM (VALUES ('b1', 7, 103.55::DOUBLE, 1), ('b2', 8, 0.1::DOUBLE + 0.2, 2), ('b1', 9, 1e9, 3))"
        " AS t(beneficiary, sender, amount, time)"
    )
    typed = read_transfers(parquet(tmp_path / "t.parquet", select))
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{tmp_path / 't.csv'}'")
    text = read_transfers(tmp_path / "t.csv")
    assert typed["amount"].tolist() == text["amount"].tolist() == [10355, 30, 10**11]
    assert typed["beneficiary"].strings.tolist() == text["beneficiary"].strings.tolist()
    assert typed["sender"].strings.tolist() == text["sender"].strings.tolist() == ["7", "8", "9"]
    assert typed["time"].tolist() == text["time"].tolist()


@pytest.mark.parametrize("kind", ["DECIMAL(18,2)", "FLOAT", "DOUBLE", "VARCHAR"])
def test_amounts_of_every_type_give_the_same_cents(tmp_path, kind):
    path = parquet(tmp_path / "t.parquet", f"SELECT 'c' AS customer, 103.55::{kind} AS amount, 1 AS time")
    assert read_deposits(path)["amount"].tolist() == [10355]


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_NS", "TIMESTAMPTZ", "VARCHAR"])
def test_timestamps_of_every_type_give_the_same_seconds(tmp_path, kind):
    time = f"'2022-09-01 00:20:00{'+00' if kind == 'TIMESTAMPTZ' else ''}'::{kind}"
    path = parquet(tmp_path / "t.parquet", f"SELECT 'c' AS customer, 1 AS amount, {time} AS time")
    table = read_deposits(path)
    assert table["time"].tolist() == [1661991600.0]
    assert table.report.times == "timestamps"


def test_parquet_reports_rows_from_one(tmp_path):
    path = parquet(
        tmp_path / "t.parquet",
        "SELECT unnest(['c1', 'c2', NULL, 'c4']) AS customer, unnest([1.0, 'nan'::DOUBLE, 2, NULL]) AS amount, 1 AS time",
    )
    report = read_deposits(path, bad_rows="skip").report
    assert places(report) == [
        (2, "amount", "is not a number"),
        (3, "customer", "is missing"),
        (4, "amount", "is missing"),
    ]
    assert str(report.bad_rows[0]) == f"{path}: row 2: amount is not a number"


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (
            "SELECT 12.0::DOUBLE AS customer, 1 AS amount, 1 AS time",
            r"identifier.*'customer' is of type DOUBLE, which loses digits above 2\*\*53",
        ),
        ("SELECT 12::FLOAT AS customer, 1 AS amount, 1 AS time", "'customer' is of type FLOAT, which loses"),
        ("SELECT true AS customer, 1 AS amount, 1 AS time", "identifier.*BOOLEAN"),
        ("SELECT DATE '2026-09-01' AS customer, 1 AS amount, 1 AS time", "identifier.*DATE"),
        ("SELECT 1.5 AS customer, 1 AS amount, 1 AS time", "identifier.*DECIMAL"),
        ("SELECT 1 AS customer, true AS amount, 1 AS time", "'amount' is of type BOOLEAN"),
        ("SELECT 1 AS customer, 1 AS amount, [1] AS time", r"'time' is of type INTEGER\[\]"),
    ],
)
def test_columns_of_a_type_that_cannot_serve_are_refused(select, message):
    with pytest.raises(DataError, match=message):
        read_deposits("duckdb:" + select)


def test_a_query_selects_rows_and_names_columns(put):
    path = put("acct,eur,day\nc1,5.10,1\nc2,6.20,2\nc3,7.30,3\n")
    table = read_deposits(
        f"duckdb:SELECT acct AS customer, eur AS amount, day AS time FROM read_csv('{path}', all_varchar = true) "
        "WHERE eur::DECIMAL(9, 2) > 6 -- the larger\n;"
    )
    assert table["customer"].strings.tolist() == ["c2", "c3"]
    assert table["amount"].tolist() == [620, 730]


@pytest.mark.slow
def test_a_query_joins_csv_and_parquet_from_a_file(put, tmp_path):
    names = parquet(tmp_path / "n.parquet", "SELECT 'n1' AS name, 1 AS id")
    file = put("id,amount,time\n1,5,1\n2,6,2\n")
    rows = f"read_csv('{file}', types = {{'id': 'INTEGER', 'amount': 'INTEGER', 'time': 'INTEGER'}})"
    path = put(
        f"-- deposits\nSELECT name AS customer, amount, time FROM {rows} JOIN '{names}' USING (id);\n",
        "q.sql",
    )
    assert read_deposits(path)["customer"].strings.tolist() == ["n1"]
    prefixed = put(f"duckdb:SELECT 'x' AS customer, amount, time FROM {rows}", "p.sql")
    assert len(read_deposits(str(prefixed))) == 2


def test_a_query_is_one_select(tmp_path):
    target = tmp_path / "x.csv"
    for query in (f"COPY (SELECT 1) TO '{target}'", "SELECT 1; SELECT 2", "", "DROP TABLE x"):
        with pytest.raises(DataError, match="one SELECT is expected"):
            read_deposits("duckdb:" + query)
    assert not target.exists()


@pytest.mark.slow
def test_a_query_that_is_wrong_is_explained_without_values(put):
    for query, message in [
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM (SELECT 1 AS one)", "nothing"),
        ("SELECT * FROM 'no-such-file.parquet'", "No files found"),
        ("SELECT 1 AS a, 2 AS a", "two columns are called 'a'"),
        ("SELECT 1 AS a", "no known format"),
    ]:
        with pytest.raises(DataError, match=message):
            read_deposits("duckdb:" + query)
    rows = put("who\nsecret-value\n")
    with pytest.raises(DataError) as refused:
        read_deposits(f"duckdb:SELECT who::INTEGER AS customer, 1 AS amount, 1 AS time FROM '{rows}'")
    assert "ConversionException" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_query_sees_no_python_variable(monkeypatch):
    ones = {"customer": np.ones(1, int), "amount": np.ones(1, int), "time": np.ones(1, int)}
    monkeypatch.setattr(sources, "deposits", ones, raising=False)
    with pytest.raises(DataError, match="deposits does not exist"):
        read_deposits("duckdb:SELECT * FROM deposits")


def test_a_files_connection_opens_that_file_alone(put):
    other = put(HEADER + "b,s,1,1\n", "other.csv")
    table = sources.open_source(put(HEADER))
    with contextlib.closing(table.connection), pytest.raises(duckdb.PermissionException):
        table.connection.execute(f"SELECT * FROM '{other}'")


# Tables that are none


def test_missing_files_and_unknown_suffixes_are_explained(put, tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv: there is no such file"):
        read_transfers(tmp_path / "absent.csv")
    for name in ("t.xlsx", "t", "t.gz", "t.zip.gz"):
        with pytest.raises(DataError, match=r"\.parquet.*duckdb:"):
            read_transfers(put(HEADER, name))
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(DataError, match="a file is expected"):
        read_transfers(tmp_path / "dir.csv")


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.parquet"])
@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_empty_files_are_refused(put, name, data):
    with pytest.raises(DataError, match=r"empty|cannot be read"):
        read_transfers(put(data, name))


def test_files_of_another_kind_are_refused(put, tmp_path):
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_transfers(put(HEADER, "t.parquet"))
    for start, what in (
        (b"PK\x03\x04", "spreadsheet"),
        (b"PAR1", "Parquet"),
        (b"\xd0\xcf\x11\xe0", "spreadsheet"),
    ):
        with pytest.raises(DataError, match=f"text file is expected, and this is .*{what}"):
            read_transfers(put(start + b"...", "t.csv"))
    with pytest.raises(DataError, match=r"not UTF-8; say the table's encoding.*--encoding"):
        read_transfers(put(HEADER.replace("sender", "sendér").encode("latin-1")))
    (tmp_path / "broken.csv").write_bytes(b"\x1f\x8b" + HEADER.encode())
    with pytest.raises(DataError, match="the gzip file is damaged; copy it again"):
        read_transfers(tmp_path / "broken.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress((HEADER + "b,s,1,1\n" * 10**5).encode())[:-20])
    with pytest.raises(DataError, match="the gzip file ends too early; copy it again"):
        read_transfers(tmp_path / "cut.csv.gz")


def test_missing_column_says_what_there_is_and_which_option_names_it(put):
    path = put("beneficiary,payer,amount,time\nb,s,1,1\n")
    with pytest.raises(
        DataError, match=r"its columns are beneficiary, payer, amount, time.*--map sender=COLUMN"
    ):
        read_transfers(path)
    with pytest.raises(DataError, match=r"no column 'sender' for sender; .*payer.*--map sender=COLUMN"):
        read_transfers(path, mapping="secagg")
    with pytest.raises(DataError, match=r"no column 'x' for beneficiary"):
        read_transfers(path, mapping=parse_columns(["beneficiary=amount", "beneficiary=x"], TRANSFERS))


def test_a_table_without_header_does_not_have_its_first_row_shown(put):
    with pytest.raises(DataError, match="looks like data") as refused:
        read_transfers(put("360,secret-account,103.55,1\n269,9237,178.96,1\n"))
    assert "secret" not in str(refused.value)


def test_names_that_duckdb_would_take_for_patterns_are_refused(put):
    put(HEADER + "b,s,1,1\n", "t1.csv")
    with pytest.raises(DataError, match="rename it"):
        read_transfers(put(HEADER + "b,s,2,2\n", "t[1].csv"))


def test_names_with_quotes_and_spaces_are_read(put):
    assert len(read_transfers(put(HEADER + "b,s,1,1\n", 'it\'s a "table" %41.csv'))) == 1


def test_a_file_as_the_csv_module_writes_it_comes_back(put):
    rng = np.random.default_rng(7)
    alphabet = np.array(list("ab,;\"'\n\r é账|\t"))
    rows = [
        ["x" + "".join(rng.choice(alphabet, 5)) + "x", f"s{i}", f"{i}.{i % 100:02d}", str(i)]
        for i in range(3000)
    ]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([HEADER.strip().split(","), *rows])
    table = read_transfers(put(text.getvalue().encode()))
    assert table["beneficiary"].strings.tolist() == [row[0] for row in rows]
    assert table["amount"].tolist() == [i * 100 + i % 100 for i in range(3000)]
