"""What the main process of a party runs where the work is divided into shards: groups of owners' rows, or a query's plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from secagg.errors import UsageError
from secagg.jobs.job import Job
from secagg.jobs.shards.attempts import Watch, Work, Workplace, attempts
from secagg.jobs.shards.groups import groups_in_shards
from secagg.jobs.shards.sharded import COMPUTE, OPEN
from secagg.party import Party, PartyId
from secagg.patterns.pattern import Agreed, Result, Terms
from secagg.protocols.group_by import Announced, Findings, Query
from secagg.protocols.group_by.shards import divide, settle

if TYPE_CHECKING:  # with the parser of SQL, which jobs without a query do without
    from secagg.jobs.query_in_shards import PlanInShards

IN_SHARDS: Final = ("agree", COMPUTE, "check", OPEN)  # the phases of the main process where groups are found


@runtime_checkable
class Divisible(Protocol):
    """What a pattern has besides `Pattern` whose jobs on groups may be divided into shards."""

    def groups(self, parameters: Any, terms: Terms) -> Query | None:
        """Return the query on groups that a job is, None where it is none."""

    def announced(self, agreed: Agreed) -> Announced:
        """Return what was announced, as the protocol knows it."""

    def told(self, agreed: Agreed, findings: Findings | None) -> Result | None:
        """Return what this party is told of what it found, None if it put in nothing."""


@runtime_checkable
class DivisiblePlan(Protocol):
    """What a pattern has besides, which computes a plan in shards where a job is no query on groups."""

    def in_shards(self, parameters: Any, terms: Terms, agreed: Agreed) -> PlanInShards:
        """Return the divided plan, with what was announced."""

    def rows_told(self, terms: Terms, me: PartyId, rows: Sequence[Sequence[Any]] | None) -> Result | None:
        """Return what a party is told of the plan's rows, None if it is no recipient."""


def phases_in_shards(job: Job) -> tuple[str, ...]:
    """Return the phases of the main process of a divided job, in order."""
    return job.pattern.phases if _groups_of(job) is None else IN_SHARDS


def work_of(job: Job, here: Workplace) -> Work:
    """Return who works on a job's shards."""
    return Work(here, {m.name: m.workers for m in job.members}, job.shards, job.timeouts)


async def run_in_shards(
    party: Party, job: Job, agreed: Agreed, here: Workplace, watch: Watch
) -> Result | None:
    """Return what this party is told of a divided job, once everybody has announced its rows; None if it is told nothing.

    Raises:
      UsageError: a pattern that is not divided.
      and as `find_in_shards` and `compute_in_shards`.
    """
    pattern, terms, work = job.pattern, job.terms, work_of(job, here)
    query = _groups_of(job)
    if isinstance(pattern, Divisible) and query is not None:
        findings = await find_in_shards(party, query, pattern.announced(agreed), work, watch)
        return pattern.told(agreed, findings)
    if not isinstance(pattern, DivisiblePlan):
        raise UsageError(
            f"{pattern.name} is no query on groups and no SQL, and cannot be divided into shards"
        )
    plan = pattern.in_shards(job.parameters, job.terms, agreed)
    return pattern.rows_told(terms, party.me, await compute_in_shards(party, plan, work, watch))


def _groups_of(job: Job) -> Query | None:
    pattern = job.pattern
    return pattern.groups(job.parameters, job.terms) if isinstance(pattern, Divisible) else None


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


async def compute_in_shards(
    party: Party, plan: PlanInShards, work: Work, watch: Watch | None = None
) -> list[tuple[Any, ...]] | None:
    """Return the rows of a query that this party is told, None if it is told nothing.

    Args:
      watch: what is told how far it is.

    Raises:
      as `query.shards.divide`, `Attempts.step` and `query.shards.finish`.
    """
    from secagg.jobs.shards.plans import kept_shards, plan_in_shards
    from secagg.query import shards

    division = await shards.divide(party, plan.plan, plan.terms, plan.announced, plan.mine)
    with attempts(party, work, plan_in_shards(plan, division), watch) as tries, party.phase(COMPUTE):
        kept = kept_shards(await tries.step(COMPUTE))
    # Nobody comes here before all parties have said that all their workers have computed their shards.
    return await shards.finish(party, plan.plan, plan.terms, plan.announced, division, kept)
