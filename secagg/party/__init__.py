"""A participant: what protocols are written against, and what drivers advance."""

from secagg.party.endings import STOPPED, UNKNOWN, aborted
from secagg.party.party import SESSION_BYTES, Computation, Outgoing, Party, Program
from secagg.party.request import array_bytes, check_array
from secagg.party.roster import PartyId, Roster
from secagg.party.run import Run

__all__ = [
    "SESSION_BYTES",
    "STOPPED",
    "UNKNOWN",
    "Computation",
    "Outgoing",
    "Party",
    "PartyId",
    "Program",
    "Roster",
    "Run",
    "aborted",
    "array_bytes",
    "check_array",
]


def __dir__() -> list[str]:
    return sorted(__all__)
