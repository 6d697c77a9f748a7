"""Watchlist overlap: who stands on the lists of at least so many organisations.

Each organisation puts in its list. A person or company is flagged if at least `min_organisations` lists have it.

Program, threat model and cost: `secagg.protocols.group_by`.

Learns: an organisation, for each entry of its own list, whether it is flagged. If so, it learns how many lists have the
entry, and not which ones. Nothing about entries that it does not have. So a made-up entry asks whether others have it:
agree who may be listed, and on a `max_rows` that leaves no room for guesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import PlanError
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.counts import factorize
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.pattern import Tables, Terms
from secagg.protocols.group_by import Field, Rows
from secagg.query.schema import Identifier, Integer, Schema


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On how many lists an entry has to stand."""

    min_organisations: Annotated[int, Meta(ge=1, le=255)] = 2


class WatchlistOverlap(GroupByPattern):
    """Entries of several lists; see the module."""

    name = "watchlist_overlap"
    summary = "who stands on the lists of at least so many organisations."
    inputs = {"watchlist": Schema(entry=Identifier())}  # noqa: RUF012  # nobody changes it
    results = Schema(entry=Identifier(), organisations=Integer())
    Parameters = Thresholds
    example = staticmethod(examples.watchlist_overlap)

    def fields(self, parameters: Thresholds) -> tuple[Field, ...]:
        """Return the number of lists."""
        return (Field("organisations", 1, at_least=parameters.min_organisations),)

    def check(self, parameters: Thresholds, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed or reached."""
        organisations = len(terms.input_parties)
        if parameters.min_organisations > organisations:
            raise PlanError(
                f"min_organisations = {parameters.min_organisations} is out of reach, because {organisations} parties put "
                f"in data; lower it to {organisations} or less, or name more parties under input"
            )
        super().check(parameters, terms)

    def group_rows(self, parameters: Thresholds, tables: Tables) -> Rows:  # noqa: ARG002  # as every pattern's
        """Return one organisation's entries, each once."""
        entries = factorize(tables["watchlist"]["entry"]).categories
        return Rows(entries, np.ones((len(entries), 1), np.uint64))

    def flagged(self, parameters: Thresholds, tables: Mapping[PartyId, Tables]) -> dict[str, tuple[int, ...]]:
        """Count in the clear how many lists have each entry."""
        lists = [set(own["watchlist"]["entry"]) for own in tables.values()]
        count = {entry: sum(entry in own for own in lists) for entry in set().union(*lists)}
        return {entry: (n,) for entry, n in count.items() if n >= parameters.min_organisations}

    def warnings(self, parameters: Thresholds, terms: Terms) -> list[str]:
        """Warn of a threshold that flags everything."""
        found = super().warnings(parameters, terms)
        if parameters.min_organisations == 1:
            found.append(
                "min_organisations = 1: every entry is flagged, with the number of lists that have it. Take 2."
            )
        return found


WATCHLIST_OVERLAP: Final = WatchlistOverlap()
