"""Tables as they come out of organisations, read, checked and made alike."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "BadRow",
    "Conventions",
    "DepositColumns",
    "Deposits",
    "Dialect",
    "ReadReport",
    "TransferColumns",
    "Transfers",
    "read_deposits",
    "read_transfers",
]

if TYPE_CHECKING:
    from secagg.data.columns import DepositColumns, TransferColumns
    from secagg.data.conventions import Conventions
    from secagg.data.dialect import Dialect
    from secagg.data.reports import BadRow, ReadReport
    from secagg.data.tables import Deposits, Transfers, read_deposits, read_transfers
else:
    __getattr__, __dir__ = face(
        "secagg.data",
        {
            "secagg.data.columns": "DepositColumns TransferColumns",
            "secagg.data.conventions": "Conventions",
            "secagg.data.dialect": "Dialect",
            "secagg.data.reports": "BadRow ReadReport",
            "secagg.data.tables": "Deposits Transfers read_deposits read_transfers",
        },
    )
