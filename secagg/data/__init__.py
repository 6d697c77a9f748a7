"""Tables as they come out of organisations, read, checked and made alike."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["BadRow", "Conventions", "Dialect", "ReadReport", "Table", "parse_columns", "read_table"]

if TYPE_CHECKING:
    from secagg.data.columns import parse_columns
    from secagg.data.conventions import Conventions
    from secagg.data.dialect import Dialect
    from secagg.data.reports import BadRow, ReadReport
    from secagg.data.tables import Table, read_table
else:
    __getattr__, __dir__ = face(
        "secagg.data",
        {
            "secagg.data.columns": "parse_columns",
            "secagg.data.conventions": "Conventions",
            "secagg.data.dialect": "Dialect",
            "secagg.data.reports": "BadRow ReadReport",
            "secagg.data.tables": "Table read_table",
        },
    )
