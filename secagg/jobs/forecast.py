"""What a job will cost each party, from the announced row counts and the engine's declared cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from secagg.cost.network import Network
from secagg.errors import PlanError
from secagg.jobs.job import Job
from secagg.party import PartyId
from secagg.protocols.group_by import Layout, cost

# A computing party's own work, with three of them on one two-core machine.
_COMPUTE_S_PER_BYTE: Final = 8e-9
_COMPUTE_S_PER_ROUND: Final = 0.5e-3


@dataclass(frozen=True, slots=True)
class Forecast:
    """The declared cost of one run.

    Attributes:
      rounds: the longest chain of messages.
      sent_bytes: what each party sends, arrays only; frames and TLS add some 100 bytes a message.
      log2_false_match: as in `Findings`.
      log2_abort: as in `Layout`.
    """

    rounds: int
    sent_bytes: Mapping[PartyId, int]
    log2_false_match: float
    log2_abort: float

    def seconds(self, network: Network) -> float:
        """Return about how long the run takes on a network, without connecting and reading data."""
        most = max(self.sent_bytes.values())
        carried = self.rounds * network.latency_s + most / network.bytes_per_s
        return carried + self.rounds * _COMPUTE_S_PER_ROUND + most * _COMPUTE_S_PER_BYTE


def forecast(job: Job, rows: Mapping[PartyId, int]) -> Forecast:
    """Return what a run costs in which the input parties announce these row counts.

    Raises:
      PlanError: more rows than the job allows.
    """
    query = job.query
    for name in query.input_parties:
        if rows[name] > query.row_limit:
            raise PlanError(
                f"{name} with {rows[name]} rows is above max_rows, which is {query.row_limit}; set max_rows in the job"
            )
    layout = Layout.plan(query, [rows[name] for name in query.input_parties])
    declared = cost(layout, job.roster)
    return Forecast(declared.rounds, declared.payload_bytes, layout.log2_false_match, layout.log2_abort)
