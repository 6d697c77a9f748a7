"""A participant: what protocols are written against, and what drivers advance."""

from secagg.party.checkpoints import SHARED, Checkpoints, Content, Place, Storage
from secagg.party.endings import STOPPED, UNKNOWN, aborted
from secagg.party.party import SESSION_BYTES, Computation, Outgoing, Party, Program
from secagg.party.request import array_bytes, check_array
from secagg.party.roster import PartyId, Roster
from secagg.party.run import Run

__all__ = [
    "SESSION_BYTES",
    "SHARED",
    "STOPPED",
    "UNKNOWN",
    "Checkpoints",
    "Computation",
    "Content",
    "Outgoing",
    "Party",
    "PartyId",
    "Place",
    "Program",
    "Roster",
    "Run",
    "Storage",
    "aborted",
    "array_bytes",
    "check_array",
]


def __dir__() -> list[str]:
    return sorted(__all__)
