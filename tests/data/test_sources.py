"""Files as they come: encodings, delimiters, compression, several files, known formats; and dialects that cannot be."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import warnings
import zipfile
from pathlib import Path

import duckdb
import pytest

from bank_tables import read_deposits, read_transfers
from secagg.data.dialect import Dialect
from secagg.data.sources import find_sources, open_source
from secagg.errors import DataError, EmptyTableError, UsageError

DEPOSITS = "customer,amount,time\n"
TEXT = DEPOSITS + "Müller,1.5,1\nŁukasz,2,2\nx€,-3,3\n"


@pytest.fixture
def put(tmp_path):
    def put(text: str | bytes, name: str = "t.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return put


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1250"])
def test_text_in_another_encoding_is_read_to_the_letter_and_line(put, encoding, zipped):
    text = TEXT.encode(encoding)
    path = put(gzip.compress(text) if zipped else text)
    told = encoding if encoding not in ("utf-8", "utf-8-sig", "utf-16") else None
    table = read_deposits(path, dialect=Dialect(encoding=told), bad_rows="skip")
    assert table["customer"].strings.tolist() == ["Müller", "Łukasz"]
    assert [row.line for row in table.report.bad_rows] == [4]
    assert f"CSV in {encoding.removesuffix('-sig')}" in table.report.files[0]


def test_a_file_that_was_recoded_leaves_nothing_open(put):
    path = put(TEXT.encode("utf-16"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.closing(open_source(path)) as source:
            assert source.csv_file is not None
            place = Path(source.csv_file.place)
            assert place.exists()
        assert not place.exists()
        with pytest.raises(DataError, match="the file is empty"):
            open_source(put("".encode("utf-16"), "e.csv"))
    for other in ("t.csv", "/proc/self/fd/0"):
        with contextlib.closing(open_source(path)) as source, pytest.raises(duckdb.PermissionException):
            source.connection.execute(f"SELECT * FROM read_csv('{other}')")


def test_text_that_is_not_in_the_encoding_that_is_said_is_named_by_line(put):
    text = (DEPOSITS + "a,1,1\n" * 400_000 + "é,1,1\n").encode("latin-1")
    with pytest.raises(DataError, match=r"t\.csv:400002: this is not ascii"):
        read_deposits(put(text), dialect=Dialect(encoding="ascii"))
    with pytest.raises(DataError, match=r"this is no UTF-8; say its encoding, .*utf-16-le"):
        read_deposits(put(TEXT.encode("utf-16-le")))
    with pytest.raises(
        DataError,
        match=r"begins with the mark of UTF-8, and its encoding is said to be cp1252; leave the encoding out",
    ):
        read_deposits(put(TEXT.encode("utf-8-sig")), dialect=Dialect(encoding="cp1252"))
    with pytest.raises(DataError, match=r"t\.csv:2: the row is not UTF-8\n.*--encoding"):
        read_deposits(put((DEPOSITS + "é,1,1\n").encode("latin-1")))


@pytest.mark.parametrize(
    ("line", "delimiter"),
    [("sep=;", ";"), ('"sep=;"', ";"), ("SEP=|", "|"), ("sep=,", ","), ("sep=\t", "\t")],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_first_line_that_names_the_delimiter_is_no_header_and_no_row(put, line, delimiter, end):
    rows = ["customer,amount,time", "a,1,1", "a,b,c,d", "b,x,1", '"c\n,""",2,2']
    rows = [
        row.replace(",", delimiter) if i < 4 else row.replace(",", delimiter, 3) for i, row in enumerate(rows)
    ]
    rows[4] = delimiter.join(['"c\n,"""', "2", "2"])
    table = read_deposits(put(end.join([line, *rows, ""])), bad_rows="skip")
    assert table["customer"].strings.tolist() == ["a", 'c\n,"']
    assert table.report.rows_read == 4
    assert [(row.line, row.column) for row in table.report.bad_rows] == [(4, ""), (5, "amount")]


def test_a_delimiter_that_is_said_is_taken(put):
    text = "customer:amount:time,x\na,b:1:1\n"
    table = read_deposits(put(text.replace("time,x", "time")), dialect=Dialect(delimiter=":"), mapping=None)
    assert table["customer"].strings.tolist() == ["a,b"]
    with pytest.raises(DataError, match=r"first line says sep=;, and the delimiter is said to be ','"):
        read_deposits(put("sep=;\ncustomer;amount;time\na;1;1\n"), dialect=Dialect(delimiter=","))


def test_gzip_is_known_by_its_content_and_not_by_the_name(put):
    for name, content in (
        ("a.csv", gzip.compress(b"customer,amount,time\na,1,1\n")),
        ("b.csv.gz", b"customer,amount,time\na,1,1\n"),
    ):
        assert read_deposits(put(content, name))["customer"].strings.tolist() == ["a"]


@pytest.mark.slow
@pytest.mark.parametrize("keep", [3, 15, 0.5, -9, -3])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_gzip_file_that_ends_too_early_is_said_to_wherever_it_ends(put, keep, encoding):
    rows = "".join(f"{i * 7919 % 999983},{i},1\n" for i in range(150_000))
    whole = gzip.compress(("customer,amount,time\n" + rows).encode(encoding), 1)
    end = int(len(whole) * keep) if isinstance(keep, float) else keep
    with pytest.raises(DataError, match=r"t\.csv\.gz: the gzip file ends too early; copy it again"):
        read_deposits(put(whole[:end], "t.csv.gz"))


def test_a_gzip_file_with_changed_bytes_is_said_to_be_damaged(put):
    whole = bytearray(gzip.compress(b"customer,amount,time\n" + b"a,1,1\n" * 1000))
    whole[-6] ^= 1  # of the checksum
    with pytest.raises(DataError, match=r"t\.csv\.gz: the gzip file is damaged; copy it again"):
        read_deposits(put(bytes(whole), "t.csv.gz"))


@pytest.mark.slow
def test_header_names_differ_in_case(put):
    assert read_deposits(put("CUSTOMER,Amount, TIME \na,1,1\n"))["customer"].strings.tolist() == ["a"]
    table = read_transfers(put("TARGETNODEID,sourcenodeid,VALUE,time\n1,2,3,4\n"))
    assert (table["beneficiary"].strings[0], table["sender"].strings[0]) == ("1", "2")
    assert dict(table.report.columns)["beneficiary"] == ("TARGETNODEID",)
    mapping = {"beneficiary": ("To",), "sender": ("from",), "amount": ("amount",), "time": ("time",)}
    assert read_transfers(put("TO,FROM,Amount,Time\n1,2,3,4\n"), mapping=mapping)[
        "sender"
    ].strings.tolist() == ["2"]
    # Where two differ in case alone, nothing decides.
    both = put("To,TO,from,amount,time\n1,9,2,3,4\n")
    for name in ("To", "to"):
        with pytest.raises(
            DataError, match=f"'{name}' can be each of the columns To, TO, which differ in case alone"
        ):
            read_transfers(both, mapping={**mapping, "beneficiary": (name,)})


@pytest.mark.slow
def test_paysim_and_saml_d_are_known(put):
    paysim = (
        "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud,isFlaggedFraud\n"
        "1,TRANSFER,9839.64,C1231006815,170136.0,160296.36,M1979787155,0.0,0.0,0,0\n"
    )
    saml = (
        "Time,Date,Sender_account,Receiver_account,Amount,Payment_currency,Received_currency,Sender_bank_location,"
        "Receiver_bank_location,Payment_type,Is_laundering,Laundering_type\n"
        "10:35:19,2022-10-07,8724731955,2769355426,1459.15,UK pounds,UK pounds,UK,UK,Cash Deposit,0,Normal\n"
    )
    for text, name, beneficiary, sender, cents, time in (
        (paysim, "paysim", "M1979787155", "C1231006815", 983964, 1.0),
        (saml, "saml-d", "2769355426", "8724731955", 145915, 1665138919.0),
    ):
        for mapping in (None, name):
            table = read_transfers(put(text), mapping=mapping)
            assert (table["beneficiary"].strings[0], table["sender"].strings[0]) == (beneficiary, sender)
            assert (table["amount"][0], table["time"][0]) == (cents, time)


def test_several_files_are_one_table(put, tmp_path):
    put("customer,amount,time\nÉ1,1,1\nb,2,9\n", "m-1.csv")
    put("Time;CUSTOMER;amount\n2;e\u03011;3\n2;b\n3;NULL;4\n", "m-2.csv")
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 7 AS customer, 5 AS amount, 3 AS time) TO '{tmp_path}/m.parquet'")
    table = read_deposits([str(tmp_path / "m-*.csv"), tmp_path / "m.parquet"], window=(0, 5), bad_rows="skip")
    assert table["customer"].strings.tolist() == ["É1", "é1", "7"]
    assert table["amount"].tolist() == [100, 300, 500]
    report = table.report
    assert (report.rows_read, report.rows_in_window, report.rows_outside, report.rows_bad) == (6, 3, 1, 2)
    assert [(Path(row.file).name, row.line) for row in report.bad_rows] == [("m-2.csv", 3), ("m-2.csv", 4)]
    assert report.span == (1, 9)
    assert len(report.files) == 3


@pytest.mark.slow
def test_one_customer_in_several_files_is_one(put):
    from secagg.data.conventions import Conventions

    first, second = put(DEPOSITS + "Anna 1,1,1\n", "1.csv"), put(DEPOSITS + "ANNA 1,2,1\nb1,1,1\n", "2.csv")
    table = read_deposits([first, second], conventions=Conventions({"customer": "folded"}))
    assert table["customer"].categories.tolist() == ["anna 1", "b1"]
    assert table["customer"].codes.tolist() == [0, 0, 1]
    assert table.own_spelling["customer"] == {"anna 1": "Anna 1"}
    assert (table.report.identifiers[0].distinct, table.report.identifiers[0].merged) == (2, 1)


@pytest.mark.slow
def test_an_empty_file_among_others_is_no_empty_table(put):
    first, second = put(DEPOSITS, "1.csv"), put(DEPOSITS + "a,1,1\n", "2.csv")
    assert len(read_deposits([first, second])) == 1
    with pytest.raises(EmptyTableError, match=r"1\.csv, .*2\.csv: no row counts; 1 were read"):
        read_deposits([first, second], window=(5, 6))


@pytest.mark.slow
def test_files_that_cannot_be_one_table_are_refused(put, tmp_path):
    numbers, timestamps = put(DEPOSITS + "a,1,1\n", "1.csv"), put(DEPOSITS + "a,1,2026-09-01\n", "2.csv")
    with pytest.raises(DataError, match=r"one kind of times; .*1\.csv has numbers, .*2\.csv has timestamps"):
        read_deposits([numbers, timestamps])
    for twice in (
        [numbers, tmp_path / "." / "1.csv"],
        [str(tmp_path / "*.csv"), numbers],
        ["duckdb:SELECT 1"] * 2,
    ):
        with pytest.raises(DataError, match="named twice, and its rows would count twice"):
            find_sources(twice)
    (tmp_path / "link.csv").symlink_to(numbers)
    with pytest.raises(DataError, match="named twice"):
        find_sources([numbers, tmp_path / "link.csv"])
    with pytest.raises(DataError, match=r"no-\*\.csv: no file has such a name"):
        find_sources(tmp_path / "no-*.csv")
    with pytest.raises(DataError, match="at least one table"):
        find_sources([])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"encoding": "utf-9"}, "an encoding such as"),
        ({"encoding": "hex"}, "an encoding such as"),
        ({"encoding": ""}, "an encoding such as"),
        ({"delimiter": ""}, "one ASCII character"),
        ({"delimiter": "ab"}, "one ASCII character"),
        ({"delimiter": "\n"}, "one ASCII character"),
        ({"delimiter": '"'}, "one ASCII character"),
        ({"delimiter": "§"}, "one ASCII character"),
        ({"delimiter": "x"}, "letter or digit"),
        ({"decimal": ";"}, 'is "." or ","'),
        ({"thousands": ";"}, "thousands separator is one of"),
        ({"thousands": "."}, "both decimals and thousands"),
        ({"decimal": ",", "thousands": ","}, "both decimals and thousands"),
        ({"date_format": "epoch"}, "a date format is epoch-s"),
        ({"date_format": "%Y"}, "year, month and day"),
        ({"date_format": "%d.%m."}, "year, month and day"),
        ({"date_format": "%d.%m.%Y %Q"}, "year, month and day"),
        ({"date_format": "%d.%m.%Y %Z"}, "year, month and day"),
        ({"date_format": "%d.%m.%Y %"}, "year, month and day"),
    ],
)
def test_a_dialect_that_cannot_be_is_refused(options, says):
    with pytest.raises(UsageError, match=says):
        Dialect(**options)


def test_dialects_have_names_for_what_is_hard_to_type():
    dialect = Dialect(
        encoding="UTF8", delimiter="tab", decimal=",", thousands="space", date_format="%d %b %Y %H:%M:%S.%f"
    )
    assert (dialect.encoding, dialect.delimiter, dialect.thousands) == ("utf-8", "\t", " ")
    assert Dialect(delimiter="\\t").delimiter == "\t"


@pytest.mark.slow
def test_copies_of_a_file_are_refused_and_days_without_rows_are_none(tmp_path):
    header = "customer,amount,time\n"
    for name, rows in (("a", "x,1,1\n"), ("b", "x,2,1\n"), ("c", ""), ("d", ""), ("copy", "x,1,1\n")):
        (tmp_path / f"{name}.csv").write_text(header + rows)
    days = [tmp_path / f"{name}.csv" for name in "abcd"]
    assert read_deposits(days, allow_empty=True)["amount"].tolist() == [100, 200]
    with pytest.raises(DataError, match=r"copy.csv: its content is that of .*a.csv, .*leave one of them out"):
        read_deposits([*days, tmp_path / "copy.csv"], allow_empty=True)
    for name in ("a.csv.gz", "copy.csv.gz"):
        (tmp_path / name).write_bytes(gzip.compress((header + "x,1,1\n").encode(), mtime=0))
    with pytest.raises(DataError, match="its content is that of"):
        read_deposits([tmp_path / "a.csv.gz", tmp_path / "copy.csv.gz"])


def test_a_spreadsheet_is_to_be_exported(put):
    with pytest.raises(DataError, match=r"got '\.xlsx'; export a spreadsheet as CSV"):
        read_deposits(put("PK", "t.xlsx"))


def _zipped(*names: str, text: bytes) -> bytes:
    with zipfile.ZipFile(packed := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, text)
    return packed.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_packed_files_read_as_the_files_in_them_and_bad_rows_keep_their_lines(put, encoding: str) -> None:
    text = "customer,amount,time\nMüller,1,1\nb,x,2\n".encode(encoding)
    dialect = Dialect(encoding=encoding)
    for name, packed in (
        ("t.csv.bz2", bz2.compress(text)),
        ("t.csv.xz", lzma.compress(text)),
        ("t.csv.zip", _zipped("t.csv", text=text)),
        ("export.ZIP", _zipped("folder/", "folder/t.csv", text=text)),
        ("t.csv", bz2.compress(text)),
    ):
        path = put(packed, name)
        with pytest.raises(DataError, match=rf"{name}:3: amount is not a number"):
            read_deposits(path, dialect=dialect)
        assert read_deposits(path, dialect=dialect, bad_rows="skip")["customer"].categories.tolist() == [
            "Müller"
        ]


def test_packed_files_that_are_damaged_or_hold_several_are_refused(put) -> None:
    rows = b"customer,amount,time\n" + b"".join(b"%d,1,1\n" % i for i in range(5000))
    for name, packed, fault in (
        ("t.csv.bz2", bz2.compress(rows)[:-9], "the bzip2 file ends too early"),
        ("t.csv.xz", lzma.compress(rows)[:-40], "the xz file ends too early"),
        ("t.csv.bz2", bz2.compress(rows)[:40] + bytes(4000), "the bzip2 file is damaged"),
        ("t.csv.zip", _zipped("t.csv", text=rows)[:-40], "the zip file is damaged"),
        ("t.zip", _zipped("a.csv", "b.csv", text=rows), "a ZIP archive of 2 files"),
        (
            "t.csv",
            _zipped("[Content_Types].xml", "xl/workbook.xml", text=rows),
            "a spreadsheet .*; export it as CSV",
        ),
    ):
        with pytest.raises(DataError, match=fault):
            read_deposits(put(packed, name))
