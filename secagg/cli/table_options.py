"""The options that say how a party's table is read, which several commands have in common.

Typer reads the options of a command from its function's signature. So each command lists these nine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secagg.data.dialect import EPOCHS, Dialect
from secagg.home import Home

if TYPE_CHECKING:
    from secagg.data.source_files import SourceFile
    from secagg.jobs.inputs import InputTables
    from secagg.jobs.job import Job

__all__ = [
    "AllowEmptyOption",
    "BadRows",
    "BadRowsOption",
    "DateFormatOption",
    "DecimalOption",
    "DelimiterOption",
    "EncodingOption",
    "MapOption",
    "SourcesOption",
    "TableOptions",
    "ThousandsOption",
]


class BadRows(StrEnum):
    """`data.tables.BadRows` as the command line takes it: what to do with rows that cannot be used."""

    refuse = "refuse"
    skip = "skip"


MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN",
        help="Which column is which (repeat), such as amount=Betrag; or the name of a known format.",
    ),
]
BadRowsOption = Annotated[
    BadRows, typer.Option(help="Refuse the table, or leave out rows that cannot be used.")
]
EncodingOption = Annotated[
    str | None, typer.Option(help="The encoding of text files, such as cp1252; UTF-8 by default.")
]
DelimiterOption = Annotated[
    str | None, typer.Option(help='What separates columns, or "tab"; told from the header by default.')
]
DecimalOption = Annotated[
    str | None, typer.Option(help='The decimal separator of amounts that are text: "." or ",".')
]
ThousandsOption = Annotated[
    str | None, typer.Option(help='What separates thousands in amounts that are text: . , \' _ or "space".')
]
DateFormatOption = Annotated[
    str | None,
    typer.Option(
        help=f"How times are written: such as %d.%m.%Y, or {', '.join(EPOCHS)} for numbers; ISO 8601 by default."
    ),
]
AllowEmptyOption = Annotated[
    bool, typer.Option("--allow-empty", help="Take a table of which no row lies in the window.")
]
SourcesOption = Annotated[
    Path | None,
    typer.Option(
        "--sources",
        metavar="FILE",
        help="This owner's source file, which says where its tables are; sources.toml of the home folder by default.",
    ),
]


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How a table is read, as the command line says it.

    Attributes:
      sources: the owner's source file, if the command line names one.
    """

    mapping: Sequence[str] = ()
    bad_rows: BadRows = BadRows.refuse
    dialect: Dialect = field(default_factory=Dialect)
    allow_empty: bool = False
    sources: Path | None = None

    def source_file(self, home: Home | None) -> SourceFile | None:
        """Return the owner's source file: the one that is named, or that of its home folder, or none."""
        from secagg.data.source_files import SOURCES, SourceFile

        path = self.sources
        if path is None and home is not None and (home.path / SOURCES).exists():
            path = home.path / SOURCES
        return None if path is None else SourceFile.read(path)

    def tables(
        self, job: Job, sources: Sequence[str], *, me: str | None = None, home: Home | None = None
    ) -> InputTables:
        """Return the tables of a party of this job; errors as in `InputTables`."""
        from secagg.jobs.inputs import InputTables

        return InputTables(
            job,
            sources,
            mapping=self.mapping,
            bad_rows=self.bad_rows.value,
            dialect=self.dialect,
            allow_empty=self.allow_empty,
            me=me,
            source_file=self.source_file(home),
            identifiers=home is not None,
        )

    def own_tables(
        self, job: Job, sources: Sequence[str] | None, *, me: str, home: Home | None
    ) -> InputTables | None:
        """Return the tables of a party, or None where it names none and puts none in; errors as in `InputTables`."""
        if not sources and (me not in job.input_parties or self.source_file(home) is None):
            return None
        return self.tables(job, sources or (), me=me, home=home)

    def words(self) -> list[str]:
        """Return the options as words of a command line."""
        words = ["--bad-rows", self.bad_rows.value]
        for text in self.mapping:
            words += ["--map", text]
        for name in ("encoding", "delimiter", "decimal", "thousands", "date_format"):
            value = getattr(self.dialect, name)
            if value is not None:
                words += [f"--{name.replace('_', '-')}={value}"]
        if self.sources is not None:
            words += ["--sources", str(self.sources)]
        return words + ["--allow-empty"] * self.allow_empty
