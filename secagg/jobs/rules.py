"""What a job opens to whom, who is trusted, and what in its terms protects nobody: in the pattern's own words."""

from __future__ import annotations

from secagg.jobs.job import Job
from secagg.patterns.pattern import Disclosure


def disclosures(job: Job) -> list[Disclosure]:
    """Return everything that the job's pattern declares to open, and to whom."""
    return list(job.pattern.opens(job.parameters, job.terms))


def warnings(job: Job) -> list[str]:
    """Return a sentence for each term that protects nobody, or fewer than it seems."""
    return list(job.pattern.warnings(job.parameters, job.terms))
