"""Queries of TPC-H over three owners give what DuckDB gives on the pooled tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.tpch.__main__ import main


@pytest.mark.slow
@pytest.mark.skipif(
    not (Path(sys.executable).parent / "tpchgen-cli").exists(),
    reason="tpchgen-cli is not installed; it makes the tables",
)
def test_queries_of_tpch_give_what_duckdb_gives(monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["tpch", "--scale", "0.0002", *(f"--query={name}" for name in ("q01", "q04", "q06"))]
    )
    main()
    assert capsys.readouterr().out.endswith("3 of 3 queries equal\n")
