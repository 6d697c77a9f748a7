"""What a job will cost each party, from announced row counts and the cost that its pattern declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from secagg.cost.network import Network
from secagg.cost.operation import Cost
from secagg.jobs.job import Job
from secagg.party import PartyId
from secagg.patterns.pattern import Risk

# A computing party's own work, with three of them on one two-core machine.
_COMPUTE_S_PER_BYTE: Final = 8e-9
_COMPUTE_S_PER_ROUND: Final = 0.5e-3


def forecast(job: Job, rows: Mapping[PartyId, int]) -> Cost:
    """Return what a run costs in which the input parties announce these row counts.

    Raises:
      PlanError: more rows than the job allows.
    """
    return job.pattern.cost(job.parameters, job.terms, rows)


def risks(job: Job, rows: Mapping[PartyId, int]) -> list[Risk]:
    """Return what may go wrong by chance in such a run; errors as in `forecast`."""
    return list(job.pattern.risks(job.parameters, job.terms, rows))


def expected_seconds(cost: Cost, network: Network) -> float:
    """Return about how long a run takes on a network, without connecting and reading data."""
    most = max(cost.payload_bytes.values(), default=0)
    return cost.seconds(network) + cost.rounds * _COMPUTE_S_PER_ROUND + most * _COMPUTE_S_PER_BYTE
