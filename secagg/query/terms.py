"""Who takes part in a query, and what of it is agreed on beside the plan."""

from __future__ import annotations

from dataclasses import dataclass

from secagg.party import PartyId


@dataclass(frozen=True, slots=True)
class QueryTerms:
    """Who takes part, besides the owners that the declaration names.

    Attributes:
      parties: all.
      computing: three or four of them.
      receivers: who gets the result.
      about_own: owners each of whom gets the rows of the result whose identifier its own rows have.
      step: row counts are rounded up to multiples of it.
      announce_filtered: row counts are those of what owners' own parts leave.
      shards: into how many shards the work is divided; 1 for a run in one piece.
    """

    parties: tuple[PartyId, ...]
    computing: tuple[PartyId, ...]
    receivers: tuple[PartyId, ...]
    about_own: tuple[PartyId, ...] = ()
    step: int = 1
    announce_filtered: bool = False
    shards: int = 1

    @property
    def recipients(self) -> tuple[PartyId, ...]:
        """All who are told something."""
        return tuple(dict.fromkeys([*self.receivers, *self.about_own]))
