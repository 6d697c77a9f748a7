"""What a job does, in words for the persons who are asked to approve it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from secagg.jobs.agreement import OFF
from secagg.jobs.job import Job
from secagg.party import PartyId

__all__ = ["Explanation", "explained"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job in plain words; sentences and clauses without markup.

    Attributes:
      computes: what is computed, from whose data.
      everybody: what all parties are told.
      learns: for each party, what it is told besides; "nothing else" is no entry.
      infers: what may be concluded from what is told, and who is trusted not to look further.
      approval: who is asked, how often the job may run, and until when.
    """

    computes: str
    everybody: tuple[str, ...]
    learns: Mapping[PartyId, tuple[str, ...]]
    infers: tuple[str, ...]
    approval: tuple[str, ...]


def explained(job: Job) -> Explanation:
    """Return a job in plain words."""
    inputs = ", ".join(job.input_parties)
    tables = ", ".join(job.pattern.inputs)
    counts = f"how many rows each of {inputs} puts in"
    if job.row_step > 1:
        counts += f", rounded up to a multiple of {job.row_step}"
    everybody, learns = [counts], {name: list[str]() for name in job.roster}
    for one in job.disclosures():
        if set(one.to) == set(job.roster) and not one.each_its_own:
            everybody.append(one.what)
            continue
        for name in one.to:
            learns[name].append(f"{one.what} (of its own rows alone)" if one.each_its_own else one.what)
    what = f"{job.pattern.name}: {job.pattern.summary}"
    return Explanation(
        computes=f"{what.rstrip('.')}. {inputs} put in {tables}, as shares of which none tells anything alone.",
        everybody=tuple(everybody),
        learns={name: tuple(told) for name, told in learns.items()},
        infers=(*job.warnings(), job.trust(), *_over_runs(job)),
        approval=_approval(job),
    )


def _over_runs(job: Job) -> tuple[str, ...]:
    again = (
        "Who compares the results of two runs learns what changed between them. Where one person's rows were added, these "
        "may be read from the difference."
    )
    runs = 1 if job.agreement is None else job.agreement.runs
    return (again,) if runs > 1 or job.approval == OFF else ()


def _approval(job: Job) -> tuple[str, ...]:
    if job.approval == OFF:
        return ("Nobody is asked, and nobody counts how often the job runs.",)
    agreed = job.agreement
    if agreed is None:
        return ("The job has no [agreement] yet: nobody can approve it, and it cannot run.",)
    start = "now" if agreed.start is None else f"{agreed.start:%Y-%m-%d %H:%M} UTC"
    often = "once" if agreed.runs == 1 else f"{agreed.runs} times"
    found = [
        f"{agreed.author} wrote it. Persons of {', '.join(job.input_parties)} approve it, none of them the author alone.",
        f"It may run {often}, from {start} until {agreed.until:%Y-%m-%d %H:%M} UTC.",
    ]
    if job.vary:
        found += [
            f"It is a template. Each run chooses, and {agreed.requester} chose for this one: "
            + "; ".join(f"{name} of {job.shown_allowed(name)}" for name in job.vary)
        ]
    if agreed.auditor:
        found += [f"{agreed.auditor} audits it: it reads the audit log, and nothing else."]
    return tuple(found)
