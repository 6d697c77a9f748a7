"""Reading transfers and deposits: which columns and dialects are told, and which tables are refused."""

from __future__ import annotations

import csv
import gzip
import io

import numpy as np
import pytest

from bank_tables import HEADER, places, read_deposits, read_transfers
from secagg.data.columns import parse_columns
from secagg.data.dialect import Dialect
from secagg.data.tables import read_table
from secagg.errors import DataError, EmptyTableError, UsageError
from secagg.patterns.banking.tables import DEPOSITS, TRANSFERS
from secagg.query.schema import Identifier, Integer, Schema

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
        f"{table.report.source}: 1 row with amounts is left out; sums lack it",
    )


@pytest.mark.slow
def test_a_missing_identifier_is_none_where_it_may_be_and_of_several_columns_all_or_none_are(put):
    schema = Schema(card=Identifier(nullable=True), n=Integer(0, 9, nullable=True))
    rows = ["x,1,", ",,5", " x,1,", ",,", "y,,7", "z,1,2"]
    path = put("bank,number,n\n" + "\n".join(rows) + "\n")
    columns = {"card": ("bank", "number"), "n": ("n",)}
    table = read_table(path, schema, mapping=columns, bad_rows="skip")
    assert list(table["card"]) == ["x:1", None, "x:1", None, "z:1"]
    assert table["card"].codes.tolist() == [0, -1, 0, -1, 1]
    assert places(table.report) == [(6, "number", "is missing")]
    two = [put("card,n\nx,1\n,2\n", "1.csv"), put("card,n\n,3\ny,\n", "2.csv")]
    assert list(read_table(two, schema)["card"]) == ["x", None, None, "y"]
    blank = read_table(put("card\nx\n\n"), Schema(card=Identifier(nullable=True)), bad_rows="skip")
    assert places(blank.report) == [(3, "", "is empty")]


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
@pytest.mark.slow
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


@pytest.mark.slow
def test_numbers_and_timestamps_in_one_table_are_refused(put):
    path = put(HEADER + "b,s,-1,7\nb,s,1,2022-09-01\nb,s,1,5\nb,s,1,2022-09-02\n")
    table = read_transfers(path, bad_rows="skip")
    assert len(table) == 2
    assert places(table.report) == [
        (2, "amount", "is negative"),
        (4, "time", "is a number, while the first good row has a timestamp"),
    ]


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


@pytest.mark.slow
def test_missing_column_says_what_there_is_and_which_option_names_it(put):
    path = put("beneficiary,payer,amount,time\nb,s,1,1\n")
    with pytest.raises(
        DataError, match=r"its columns are beneficiary, payer, amount, time.*--map sender=COLUMN"
    ):
        read_transfers(path)
    with pytest.raises(DataError, match=r"its only column is beneficiary,payer.*--delimiter ','"):
        read_transfers(path, dialect=Dialect(delimiter=";"))
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


@pytest.mark.slow
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
