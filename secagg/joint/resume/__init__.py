"""Where an organisation keeps what an interrupted run goes on from: in its own folder, under a key of its own.

`secagg.jobs.resuming` is how parties agree where a run goes on. `secagg.jobs.checkpoints` is what they keep.
"""

from __future__ import annotations

from secagg.home import Home
from secagg.jobs.checkpoints import CheckpointFolder, delete_old, folder_key
from secagg.jobs.job import Job
from secagg.jobs.resuming import Resuming
from secagg.party import PartyId

__all__ = ["resuming_of"]


def __dir__() -> list[str]:
    return sorted(__all__)


def resuming_of(home: Home, job: Job, me: PartyId) -> Resuming:
    """Return this party's checkpoints of a job.

    Raises:
      UsageError: the folder or its key cannot be used.
    """
    delete_old(home.checkpoints)
    folder = CheckpointFolder(home.checkpoints, folder_key(home.keys), job=job.digest, me=me)
    return Resuming(folder, job)
