"""Runs whose work is divided into shards, each computed by a worker of every party in a session of its own.

`program` is what a party's main process runs. `attempts` has workers do a step, and again where one was lost. `gathering`
waits for them. `worker` is what a worker does, and `workers` says how an organisation starts one. What is worked on is
`sharded`: `groups` of owners' rows (`secagg.protocols.group_by.shards`) or `plans` of queries (`secagg.query.shards`). There
stands which rows are in which shard, and why the number of a shard tells nothing. `sums` has workers do what a server of
masked sums hands them; they meet nobody.

Within an organisation a worker is trusted with what the main process gives it: pseudonyms and numbers of its rows, a key for
one session, and a key for one file. It gets no identifier, no hash key, and not the organisation's own key.
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "IN_SHARDS",
    "Divisible",
    "LocalWorkers",
    "SumWorkers",
    "Watch",
    "Work",
    "Workers",
    "Workplace",
    "compute_in_shards",
    "find_in_shards",
    "phases_in_shards",
    "run_in_shards",
    "work_of",
]

if TYPE_CHECKING:
    from secagg.jobs.shards.attempts import Watch, Work, Workplace
    from secagg.jobs.shards.program import (
        IN_SHARDS,
        Divisible,
        compute_in_shards,
        find_in_shards,
        phases_in_shards,
        run_in_shards,
        work_of,
    )
    from secagg.jobs.shards.sums import SumWorkers
    from secagg.jobs.shards.workers import LocalWorkers, Workers
else:  # a worker starts for each step of each shard, and needs none of what reads jobs
    __getattr__, __dir__ = face(
        "secagg.jobs.shards",
        {
            "secagg.jobs.shards.attempts": "Watch Work Workplace",
            "secagg.jobs.shards.program": "IN_SHARDS Divisible compute_in_shards find_in_shards phases_in_shards "
            "run_in_shards work_of",
            "secagg.jobs.shards.sums": "SumWorkers",
            "secagg.jobs.shards.workers": "LocalWorkers Workers",
        },
    )
