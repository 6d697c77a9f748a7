"""Parquet files and queries give the rows that CSV gives."""

from __future__ import annotations

import contextlib

import duckdb
import numpy as np
import pytest

from bank_tables import HEADER, parquet, places, read_deposits, read_transfers
from secagg.data import sources
from secagg.errors import DataError


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


@pytest.mark.slow
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
