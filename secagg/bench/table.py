"""Results as a table: rows that are equal in kind, for notebooks, spreadsheets and databases.

A row is about one `part` of a case: the whole `run`, a `party`, one of its `phase`s, a `link` from a party to a peer, or a
`network` for which the time was predicted.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb

from secagg.errors import UsageError

_TEXT: Final = "VARCHAR"
_COUNT: Final = "BIGINT"
_NUMBER: Final = "DOUBLE"
COLUMNS: Final[Mapping[str, str]] = {
    "kind": _TEXT,
    "name": _TEXT,
    "parties": _COUNT,
    "size": _COUNT,
    "engine": _COUNT,
    "driver": _TEXT,
    "part": _TEXT,
    "party": _TEXT,
    "peer": _TEXT,
    "phase": _TEXT,
    "network": _TEXT,
    "seconds_q1": _NUMBER,
    "seconds_median": _NUMBER,
    "seconds_q3": _NUMBER,
    "others_share": _NUMBER,
    "wait_s_q1": _NUMBER,
    "wait_s_median": _NUMBER,
    "wait_s_q3": _NUMBER,
    "rounds": _COUNT,
    "messages": _COUNT,
    "frame_bytes": _COUNT,
    "payload_bytes": _COUNT,
    "received_bytes": _COUNT,
    "peak_bytes": _COUNT,
    "max_error": _NUMBER,
    "error_bound": _NUMBER,
    "declared_rounds": _COUNT,
    "declared_bytes": _COUNT,
    "frac_bits": _COUNT,
    "repeat": _COUNT,
    "seed": _COUNT,
    "security": _TEXT,
    "parameters": _TEXT,
    "machine": _TEXT,
    "versions": _TEXT,
    "key": _TEXT,
}

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Results of cases.

    Attributes:
      results: of each case, as `measure` returns it.
      rows: the same in rows with the columns `COLUMNS`; what a row has not is None.
    """

    results: tuple[Mapping[str, Any], ...] = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)

    @classmethod
    def of(cls, results: Sequence[Mapping[str, Any]]) -> Table:
        """Return the table of results.

        Raises:
          UsageError: they are none of `measure`.
        """
        none = dict.fromkeys(COLUMNS)
        try:
            rows = tuple({**none, **row} for result in results for row in _rows(result))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"expected results of secagg bench, got other data: {error!r:.200}") from None
        return cls(tuple(results), rows)

    def __repr__(self) -> str:
        return f"Table of {len(self.results)} cases in {len(self.rows)} rows"

    def part(self, name: str) -> Table:
        """Return the rows of one part."""
        return Table(self.results, tuple(row for row in self.rows if row["part"] == name))

    def column(self, name: str) -> list[Any]:
        """Return the values of a column."""
        if name not in COLUMNS:
            raise UsageError(f"expected a column among {', '.join(COLUMNS)}, got {name!r:.80}")
        return [row[name] for row in self.rows]

    def to_pandas(self) -> Any:
        """Return a DataFrame of pandas, which has to be installed."""
        import pandas

        return pandas.DataFrame(list(self.rows), columns=list(COLUMNS))

    def to_polars(self) -> Any:
        """Return a DataFrame of polars, which has to be installed."""
        import polars

        kinds = {_TEXT: polars.String, _COUNT: polars.Int64, _NUMBER: polars.Float64}
        return polars.DataFrame(list(self.rows), schema={name: kinds[kind] for name, kind in COLUMNS.items()})

    def to_arrow(self) -> Any:
        """Return a Table of pyarrow, which has to be installed."""
        import pyarrow

        kinds = {_TEXT: pyarrow.string(), _COUNT: pyarrow.int64(), _NUMBER: pyarrow.float64()}
        return pyarrow.Table.from_pylist(
            list(self.rows), schema=pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
        )

    def write(self, path: Path) -> None:
        """Write the table to a file whose name ends in .csv, .parquet or .json.

        Raises:
          UsageError: another ending, or a file that cannot be written.
        """
        try:
            if path.suffix == ".csv":
                with path.open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(self.rows)
            elif path.suffix == ".json":
                path.write_text(json.dumps(list(self.results), indent=1) + "\n", encoding="utf-8")
            elif path.suffix == ".parquet":
                self._write_parquet(path)
            else:
                raise UsageError(f"expected a file that ends in .csv, .parquet or .json, got {path}")
        except (OSError, duckdb.IOException) as error:
            raise UsageError(f"cannot write {path}: {error}") from None

    def _write_parquet(self, path: Path) -> None:
        insert = f"INSERT INTO rows VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608  # nothing but marks
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        quoted = str(path).replace("'", "''")
        with duckdb.connect() as database:
            database.execute(f"CREATE TABLE rows ({columns})")
            if self.rows:
                database.executemany(insert, [list(row.values()) for row in self.rows])
            database.execute(f"COPY rows TO '{quoted}' (FORMAT parquet)")  # a path takes no parameter


def _rows(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    case = result["case"]
    about = {
        name: case[name]
        for name in ("kind", "name", "parties", "size", "engine", "frac_bits", "repeat", "seed")
    }
    about |= {
        "driver": "tcp" if case["tcp"] else "simulator",
        "security": result["security"],
        "parameters": result["parameters"],
        "machine": ", ".join(f"{name} {value}" for name, value in result["machine"].items()),
        "versions": ", ".join(f"{name} {value}" for name, value in result["versions"].items()),
        "key": result["key"],
    }
    totals = [phases["total"] for phases in result["parties"].values()]
    declared = result["declared"]
    yield about | {
        "part": "run",
        **_seconds(result["seconds"]),
        "others_share": result.get("others_share"),  # earlier results do not say
        "rounds": result["rounds"],
        "messages": result["messages"],
        **{name: max(t[name] for t in totals) for name in ("frame_bytes", "payload_bytes", "received_bytes")},
        "peak_bytes": result["peak_bytes"],
        "max_error": result["error"],
        "error_bound": result["bound"],
        "declared_rounds": declared.get("rounds"),
        "declared_bytes": declared.get("payload_bytes"),
    }
    for party, phases in result["parties"].items():
        for phase, usage in phases.items():
            yield about | {
                "part": "party" if phase == "total" else "phase",
                "party": party,
                "phase": phase,
                **_seconds(usage["compute_s"]),
                **_seconds(usage["wait_s"], "wait_s"),
                **{name: usage[name] for name in _FIGURES},
            }
    for link in result["links"]:
        yield about | {
            "part": "link",
            "party": link["sender"],
            "peer": link["receiver"],
            **{name: link[name] for name in ("messages", "frame_bytes", "payload_bytes")},
        }
    for network, seconds in result["networks"].items():
        yield about | {"part": "network", "network": network, **_seconds(seconds)}


_FIGURES: Final = ("rounds", "messages", "frame_bytes", "payload_bytes", "received_bytes")


def _seconds(quartiles: Sequence[float], name: str = "seconds") -> dict[str, float]:
    return {f"{name}_{place}": value for place, value in zip(("q1", "median", "q3"), quartiles, strict=True)}
