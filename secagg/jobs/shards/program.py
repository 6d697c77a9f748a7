"""What the main process of a party runs where groups are found shard by shard."""

from __future__ import annotations

from typing import Any, Final, Protocol, runtime_checkable

from secagg.jobs.job import Job
from secagg.jobs.shards.attempts import Watch, Work, Workplace, attempts
from secagg.jobs.shards.groups import groups_in_shards
from secagg.jobs.shards.sharded import COMPUTE, OPEN
from secagg.party import Party
from secagg.patterns.pattern import Agreed, Result, Terms
from secagg.protocols.group_by import Announced, Findings, Query
from secagg.protocols.group_by.shards import divide, settle

IN_SHARDS: Final = ("agree", COMPUTE, "check", OPEN)  # the phases of the main process


@runtime_checkable
class Divisible(Protocol):
    """What a pattern has besides the contract whose jobs may be divided into shards."""

    def groups(self, parameters: Any, terms: Terms) -> Query | None:
        """Return the query on groups that a job is, None where it is none."""

    def announced(self, agreed: Agreed) -> Announced:
        """Return what was announced, as the protocol knows it."""

    def told(self, agreed: Agreed, findings: Findings | None) -> Result | None:
        """Return what this party is told of what it found, None if it put in nothing."""


def work_of(job: Job, here: Workplace) -> Work:
    """Return who works on a job's shards."""
    return Work(here, {m.name: m.workers for m in job.members}, job.shards, job.timeouts)


async def find_in_shards(
    party: Party, query: Query, announced: Announced, work: Work, watch: Watch | None = None
) -> Findings | None:
    """Return the findings about this party's rows, None if it put in none, once everybody has announced its rows.

    Args:
      watch: what is told how far it is.

    Raises:
      as `divide`, `settle` and `Attempts.step`.
    """
    division = await divide(party, query, announced, shards=work.shards)
    with attempts(party, work, groups_in_shards(division), watch) as tries:
        with party.phase(COMPUTE):
            computed = await tries.step(COMPUTE)
        # Nobody comes here before all parties have said that all their workers have computed their shards.
        await settle(party, division.layout, [one["counted"] for one in computed if "counted" in one])
        with party.phase(OPEN):
            opened = await tries.step(OPEN)
        if announced.rows is None:
            return None
        found = [Findings(one["flagged"], one["sums"], division.layout.log2_false_match) for one in opened]
        return division.findings(found)
