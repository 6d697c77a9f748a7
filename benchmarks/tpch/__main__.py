"""Seven TPC-H queries over tables of three owners beside DuckDB on the pooled ones: `python -m benchmarks.tpch --scale S`.

Tables come from `tpchgen-cli`; each is dealt to the owners row by row. All parties run in this process, one thread. A row is
one of a table that the query reads, before its owner filters it. Processor seconds are of all parties together, from their
tables to the result; bytes are those that the busiest party sends. ORQ's paper: 7.8 us a row by the clock, on 64 cores.
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
from secagg import simulate
from secagg.query.algebra import Scan, relations
from secagg.query.joint_run import agree, plan_query, take_part
from secagg.query.owner import from_mapping, prepare
from secagg.query.terms import QueryTerms


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
            begin, busy = time.perf_counter(), time.process_time()
            ours, read, sent = _run(QUERIES[name], declared, tables)
            wall, busy = time.perf_counter() - begin, time.process_time() - busy
            same = _alike(ours, theirs)
            equal += same
            print(
                f"{name}  {'equal' if same else 'DIFFERS'}  {len(theirs)} rows of {read:,d}  {wall:.1f} s, {busy:.1f} s of "
                f"processors, {1e6 * busy / read:.1f} us a row; {sent / 1e6:.0f} MB, {sent / read:.0f} bytes a row",
                flush=True,
            )
    print(f"{equal} of {len(chosen)} queries equal")


def _run(text: str, declared: Any, tables: dict[str, Any]) -> tuple[list[tuple[Any, ...]], int, int]:
    """Return the result, how many rows all owners have in the tables that are read, and what the busiest party sends."""
    plan = plan_query(text, declared, HOLDERS[:1])
    terms = QueryTerms(HOLDERS, HOLDERS, HOLDERS[:1], announce_filtered=True)
    prepared = {
        name: prepare(plan, name, from_mapping(tables[name], name), announce_filtered=True)
        for name in HOLDERS
    }

    async def take(party: Any) -> Any:
        announced = await agree(party, plan, terms, prepared[party.me])
        return await take_part(party, plan, terms, announced, prepared[party.me])

    outcome = simulate(dict.fromkeys(HOLDERS, take))
    sent = max(ledger.total().sent.frame_bytes for ledger in outcome.ledgers.values())
    read = {one.table for one in relations(plan.query.root) if isinstance(one, Scan)}
    rows = sum(tables[name][table].num_rows for name in HOLDERS for table in read)
    return outcome.values()[0] or [], rows, sent


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
