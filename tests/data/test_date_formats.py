"""Times that cannot be read: the message names the date format that reads all of them, and the option for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bank_tables import read_deposits
from secagg.data.dialect import Dialect
from secagg.errors import DataError

WINDOW = ("2026-01-01", "2027-01-01")


@pytest.fixture
def table(tmp_path: Path):
    def write(*times: str) -> Path:
        path = tmp_path / "t.csv"
        path.write_text("customer;amount;time\n" + "".join(f"c;1;{time}\n" for time in times), "utf-8")
        return path

    return write


def refusal(path: Path, **options) -> str:
    with pytest.raises(DataError) as refused:
        read_deposits(path, window=WINDOW, **options)
    return str(refused.value)


@pytest.mark.parametrize(
    ("times", "fitting"),
    [
        (["05.09.2026", "1.10.2026"], "%d.%m.%Y"),
        (["05.09.26"], "%d.%m.%y"),
        (["05.09.2026 10:15:00"], "%d.%m.%Y %H:%M:%S"),
        (["05/09/2026", "25/09/2026"], "%d/%m/%Y"),
        (["05/09/2026 10:15", "09/25/2026 10:15"], "%m/%d/%Y %H:%M"),
        (["5-Sep-2026", "25-Sep-2026"], "%d-%b-%Y"),
        (["2026-09-05 10:15 AM"], "%Y-%m-%d %I:%M %p"),
        (["1757000000", "1757000001"], "epoch-s"),
        (["1757000000000"], "epoch-ms"),
    ],
)
@pytest.mark.slow
def test_the_format_that_reads_all_times_is_named_and_works(table, times, fitting):
    path = table(*times)
    message = refusal(path)
    shown = f"'{fitting}'" if " " in fitting else fitting
    assert f"times: --date-format {shown} reads them" in message
    assert f'Dialect(date_format="{fitting}")' in message
    assert "skip" not in message
    assert times[-1] not in message
    read = read_deposits(path, window=("2020-01-01", "2030-01-01"), dialect=Dialect(date_format=fitting))
    assert len(read) == len(times)


def test_where_day_and_month_may_be_either_both_formats_are_named_and_none_is_guessed(table):
    message = refusal(table("05/09/2026", "01/02/2026"))
    assert "--date-format %d/%m/%Y or %m/%d/%Y reads them; ask whoever wrote the table" in message


@pytest.mark.slow
def test_a_declared_format_that_does_not_fit_is_answered_with_the_one_that_does(table):
    path = table("05.09.2026")
    assert "--date-format %d.%m.%Y reads them" in refusal(path, dialect=Dialect(date_format="%d/%m/%Y"))
    assert "--date-format epoch-ms reads" in refusal(
        table("1757000000000"), dialect=Dialect(date_format="epoch-s")
    )


@pytest.mark.parametrize(
    "times", [["soon"], ["05.09.2026", "soon"], ["99.99.2026"], ["2026-09-05", "05.09.2026"]]
)
@pytest.mark.slow
def test_no_format_is_named_where_none_reads_all_times(table, times):
    message = refusal(table(*times))
    assert "reads them" not in message
    assert "--date-format" in message


@pytest.mark.slow
def test_several_files_and_two_columns_are_answered_too(table, tmp_path):
    first = table("05.09.2026")
    second = tmp_path / "u.csv"
    second.write_text("customer,amount,day,clock\nc,1,25.09.2026,10:15\n")
    assert "%d.%m.%Y reads them" in refusal(first)
    mapping = {"customer": ("customer",), "amount": ("amount",), "time": ("day", "clock")}
    assert "--date-format '%d.%m.%Y %H:%M' reads them" in refusal(second, mapping=mapping)
