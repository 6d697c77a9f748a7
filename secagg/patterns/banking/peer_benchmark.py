"""Peer benchmark: where an organisation stands among its peers, figure by figure.

Each organisation puts in its figures, one a name. For each figure that at least `min_peers` organisations put in, each of
these learns how many they are, its own rank, and the total of all. Equal figures have equal ranks; rank 1 is the largest.

Learns: an organisation, of its own figures, these three numbers. The total less its own figure is what all others add up
to: with `min_peers` organisations, of whom all but two pool what they know, that is a sum of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import DataError, PlanError
from secagg.mpc import concat
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.counts import factorize
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import JointTable
from secagg.patterns.pattern import Tables, Terms
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Integer, Schema

_MOST: Final = 10**15  # 255 organisations' figures add up to less than 2**62; a name put in twice is refused


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many organisations have to have a figure."""

    min_peers: Annotated[int, Meta(ge=2, le=255)] = 4


class PeerBenchmark(ProgramPattern):
    """Ranks and totals among peers; see the module."""

    name = "peer_benchmark"
    summary = "where an organisation stands among its peers, figure by figure."
    inputs = {  # noqa: RUF012  # nobody changes it
        "figures": Schema(figure=Identifier(), value=Integer(-_MOST, _MOST))
    }
    results = Schema(
        figure=Identifier(),
        value=Integer(-_MOST, _MOST),
        peers=Integer(),
        rank=Integer(),
        total=Integer(-_MOST * 99, _MOST * 99),
    )
    Parameters = Thresholds
    example = staticmethod(examples.peer_benchmark)
    about = "figures"
    tells = "for each of its figures: whether enough peers have it and, only if so, how many, its rank, and the total"
    refusals = ("an organisation put a figure in twice, which its program does not do",)

    def check(self, parameters: Thresholds, terms: Terms) -> None:
        """Raise `PlanError` for what cannot be computed or reached."""
        organisations = len(terms.input_parties)
        if parameters.min_peers > organisations:
            raise PlanError(
                f"min_peers = {parameters.min_peers} is out of reach, because {organisations} parties put in data; "
                f"lower it to {organisations} or less, or name more parties under input"
            )
        super().check(parameters, terms)

    def warnings(self, parameters: Thresholds, terms: Terms) -> list[str]:
        """Warn of totals out of which a peer's figure is read."""
        found = super().warnings(parameters, terms)
        if parameters.min_peers == 2 and not found:
            found.append(
                "min_peers = 2: each of two peers reads the other's figure out of the total. Take 4 or more."
            )
        return found

    def local(self, parameters: Thresholds, tables: Tables) -> dict[str, Mapping[str, Any]]:  # noqa: ARG002
        """Return the figures, each name once."""
        figures = tables["figures"]
        names = factorize(figures["figure"])
        if len(names.categories) < len(names):
            raise DataError(
                f"{len(names) - len(names.categories)} of {len(names)} figures have a name that another has; keep one each"
            )
        return {"figures": {"figure": names, "value": figures["value"]}}

    def program(self, parameters: Thresholds, tables: Mapping[str, JointTable]) -> Findings:
        """Hand each organisation's figure to all that have one of the same name, and compare."""
        rows = tables["figures"]
        n = len(rows.owners)
        mine = rows.owner[:, None] == np.arange(n)
        there = (rows.valid.reshape(-1, 1) & mine).astype(int)
        groups = Groups([rows["figure"]])
        known = groups.sum_each(concat([there, rows["value"].reshape(-1, 1) * there], axis=1))
        present, values = known[:, :n], known[:, n:]
        above = (values > rows["value"].reshape(-1, 1)) & (present > 0)
        peers = present.sum(axis=1)
        columns = {"peers": peers, "rank": 1 + above.sum(axis=1), "total": values.sum(axis=1)}
        # So that the figures of one name are organisations, and none reaches the bound alone.
        refused = {self.refusals[0]: groups.is_repeated(rows.owner)}
        return Findings(columns, peers >= parameters.min_peers, refused)

    def pooled(
        self, parameters: Thresholds, tables: Mapping[PartyId, Tables]
    ) -> dict[tuple[str, int], tuple[int, int, int]]:
        """Rank in the clear."""
        values: dict[str, list[int]] = {}
        for own in tables.values():
            for figure, value in zip(own["figures"]["figure"], own["figures"]["value"].tolist(), strict=True):
                values.setdefault(figure, []).append(value)
        return {
            (figure, value): (len(known), 1 + sum(other > value for other in known), sum(known))
            for figure, known in values.items()
            if len(known) >= parameters.min_peers
            for value in known
        }


PEER_BENCHMARK: Final = PeerBenchmark()
