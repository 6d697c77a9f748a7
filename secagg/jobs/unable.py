"""A party that cannot begin a run tells those who wait for it; see `network.unable`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from secagg.errors import SecaggError
from secagg.jobs.gates import agreement
from secagg.jobs.job import Address, Job
from secagg.network.identity import Identity
from secagg.network.unable import Cause, tell_unable
from secagg.party import PartyId

__all__ = ["Cause", "telling_others"]


@contextlib.contextmanager
def telling_others(
    job: Job,
    cause: Cause,
    *,
    me: PartyId,
    identity: Identity,
    gates: Sequence[str],
    listen: Address | None = None,
) -> Iterator[None]:
    """Tell the parties that wait for this one that it cannot take part, where the body raises.

    Args:
      job: with its certificates.
      cause: what others are told, and nothing else.
      gates: the names of the run's gates.
      listen: as in `run_job`.
    """
    try:
        yield
    except SecaggError as error:
        told = tell_unable(
            me=me,
            identity=identity,
            peers=job.peers(),
            listen=listen or next(member.address for member in job.members if member.name == me),
            agreement=agreement(job, gates)[0],
            cause=cause,
        )
        if told:
            were = "was" if len(told) == 1 else "were"
            error.add_note(f"{', '.join(told)} {were} there and heard that this party cannot take part")
        raise
