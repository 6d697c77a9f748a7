"""Seven TPC-H queries over tables of three owners beside DuckDB on the pooled ones: `python -m benchmarks.tpch --scale S`.

Tables come from `tpchgen-cli`; each is dealt to the owners row by row. All parties run in this process, one thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.tpch import HOLDERS, QUERIES, declaration
from secagg.query import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.001)
    parser.add_argument("--query", choices=sorted(QUERIES), action="append", help="one of them (repeat)")
    given = parser.parse_args()
    declared = declaration(given.scale, largest_part=0.5)
    chosen = given.query or sorted(QUERIES)
    equal = 0
    with tempfile.TemporaryDirectory() as folder:
        program = Path(sys.executable).parent / "tpchgen-cli"
        subprocess.run(
            [program, "parquet", "-s", str(given.scale), f"--output-dir={folder}"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        pooled = duckdb.connect()
        tables: dict[str, dict[str, Any]] = {name: {} for name in HOLDERS}
        for table in declared:
            pooled.execute(f"CREATE TABLE {table} AS SELECT * FROM '{folder}/{table}.parquet'")
            for i, name in enumerate(HOLDERS):
                part = f"SELECT * FROM {table} WHERE rowid % {len(HOLDERS)} = {i}"
                tables[name][table] = pooled.sql(part).to_arrow_table()
        for name in chosen:
            theirs = pooled.execute(QUERIES[name]).fetchall()
            begin = time.perf_counter()
            ours = run(QUERIES[name], declared, tables, to=HOLDERS[0], announce_filtered=True)
            spent = time.perf_counter() - begin
            same = _alike(ours, theirs)
            equal += same
            print(f"{name}  {'equal' if same else 'DIFFERS'}  {len(theirs)} rows  {spent:.1f} s", flush=True)
    print(f"{equal} of {len(chosen)} queries equal")


def _alike(ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]]) -> bool:
    """Return whether rows are equal, numbers with a fraction up to 1e-9 of them."""
    a, b = (sorted([[_plain(value) for value in row] for row in rows], key=repr) for rows in (ours, theirs))
    return len(a) == len(b) and all(
        len(x) == len(y) and all(_same(one, other) for one, other in zip(x, y, strict=True))
        for x, y in zip(a, b, strict=True)
    )


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int | float | Decimal) else str(value)


def _same(a: Any, b: Any) -> bool:
    return abs(a - b) <= 1e-9 * max(1.0, abs(b)) if isinstance(a, float) and isinstance(b, float) else a == b


if __name__ == "__main__":
    main()
