"""Amounts become exact cents, and times seconds; what could be read in two ways is refused."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bank_tables import HEADER, parquet, places, read_deposits, read_transfers
from secagg.data.columns import parse_columns
from secagg.data.conventions import Conventions
from secagg.data.dialect import Dialect
from secagg.data.times import parse_time
from secagg.errors import DataError, UsageError
from secagg.patterns.banking.tables import DEPOSITS

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
        DataError,
        match=r"(?s)n\.csv:3: time is a number, and the window is of timestamps.*epoch-ms.*spreadsheet's numbers of days",
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
    short = put("customer;amount;time\nc;1;05.09.26 02:00\n", "short.csv")
    with pytest.raises(
        DataError, match=r"not in the years 1900 to 2199 as .*; %y takes a year of two digits"
    ):
        read_deposits(short, dialect=dialect)
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
