"""What protocols, operations and patterns cost: measured, predicted for networks, extrapolated, and drawn.

    run              a table for notebooks; `secagg bench` is the same on the command line
    Case, Table      what is measured, and what comes out
    names            protocols, operations and patterns that can be measured

All inputs are made up, from a seed. Keys and masks are real, drawn from the operating system, and thrown away. All parties
belong to whoever measures: nothing here protects anybody's data.
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["Case", "Table", "names", "run"]

if TYPE_CHECKING:
    from secagg.bench.campaign import run
    from secagg.bench.case import Case
    from secagg.bench.subjects import names
    from secagg.bench.table import Table
else:
    __getattr__, __dir__ = face(
        "secagg.bench",
        {
            "secagg.bench.campaign": "run",
            "secagg.bench.case": "Case",
            "secagg.bench.subjects": "names",
            "secagg.bench.table": "Table",
        },
    )
