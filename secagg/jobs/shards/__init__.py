"""Runs whose work is divided into shards, each computed by a worker of every party in a session of its own.

`program` is what a party's main process runs. `attempts` has workers do a step, and again where one was lost. `worker` is
what a worker does, and `workers` says how an organisation starts one. Which rows are in which shard, and why the number of
a shard tells nothing, is in `secagg.protocols.group_by.shards`.

Within an organisation a worker is trusted with what the main process gives it: pseudonyms and numbers of its rows, a key for
one session, and a key for one file. It gets no identifier, no hash key, and not the organisation's own key.
"""

from __future__ import annotations

from secagg.jobs.shards.attempts import Work
from secagg.jobs.shards.program import find_in_shards
from secagg.jobs.shards.workers import LocalWorkers, Workers

__all__ = ["LocalWorkers", "Work", "Workers", "find_in_shards"]


def __dir__() -> list[str]:
    return sorted(__all__)
