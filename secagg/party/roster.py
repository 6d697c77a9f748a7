"""The names of the parties, in the order that all of them know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from secagg.errors import UsageError

PartyId: TypeAlias = str


class Roster(tuple[PartyId, ...]):
    """The names of all parties, the same everywhere and in the same order; `position` finds a name.

    Parties in one process may share one, which thousands of them need: none of them then does work that grows with
    their number.

    Raises:
      UsageError: names that are empty or come twice.
    """

    position: dict[PartyId, int]
    _known: frozenset[PartyId]

    def __new__(cls, names: Sequence[PartyId]) -> Roster:
        roster = super().__new__(cls, names)
        roster.position = {name: i for i, name in enumerate(roster)}
        if len(roster.position) != len(roster) or not all(roster):
            raise UsageError(f"expected a roster of distinct, non-empty names, got {list(roster)}")
        roster._known = frozenset()
        return roster

    def strangers(self, names: frozenset[PartyId]) -> frozenset[PartyId]:
        """Return those of the names that are not in the roster; asked about one set again, it remembers."""
        if names is self._known:
            return frozenset()
        strangers = names.difference(self.position)
        if not strangers:
            self._known = names
        return strangers
