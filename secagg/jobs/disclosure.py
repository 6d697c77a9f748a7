"""What a job opens to whom, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from secagg.jobs.job import Job
from secagg.party import PartyId

TRUST: Final = (
    "The computing parties are taken to follow the protocol; what other input parties put in is checked. Then no computing "
    "party learns more than this, even if it pools what it sees with any number of input parties. Two computing parties "
    "that pool what they hold see every row's numbers under pseudonyms, and with an input party's help can test guesses "
    "of whose they are. A computing party that lies is not caught in time: if it also puts in rows, it can have another "
    "party's opened to itself, with all sums. It can also take its own results and keep back the others'. And an input "
    "party that puts in made-up rows learns the others' sum for each of their identifiers, if it is flagged."
)


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Something that is opened, and who learns it.

    Attributes:
      each_its_own: each party of `to` learns it about its own rows and nobody else's.
    """

    what: str
    to: tuple[PartyId, ...]
    each_its_own: bool = False


def disclosures(job: Job) -> list[Disclosure]:
    """Return everything that a run opens, and to whom; the engine opens nothing else."""
    query = job.query
    identifier, *sums = job.pattern.result_columns
    rounded = f", rounded up to a multiple of {job.round_rows_to}" if job.round_rows_to > 1 else ""
    return [
        Disclosure(f"each input party's number of different {identifier} identifiers{rounded}", job.roster),
        Disclosure(
            "a salted commitment to each input party's rows, which shows nothing of them without the salt that their "
            "owner keeps",
            job.roster,
        ),
        Disclosure(
            "whether hashes fell so that the run must be repeated with a new key (the probability is in the run record)",
            job.roster,
        ),
        Disclosure(
            "for each input party whether what it put in is a list that a table makes (sorted, within bounds, no longer "
            "than announced), which always holds for an unaltered program",
            query.computing_parties,
        ),
        Disclosure(
            "which rows of the shuffled table are whose: a random order of those numbers, padding included",
            query.computing_parties,
        ),
        Disclosure(
            f"for each {identifier} that it put in: whether it is flagged and, only if so, its joint "
            f"{' and '.join(sums)}",
            query.input_parties,
            each_its_own=True,
        ),
    ]
