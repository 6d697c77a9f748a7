"""Options that say who works on the shards of a job."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from secagg.errors import UsageError

if TYPE_CHECKING:
    from secagg.jobs.job import Job
    from secagg.jobs.shards import Workers, Workplace

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# What an interpreter takes of address space with numpy, or with what computes plans of SQL; and some.
_LEAST: Final = 1 << 28
_LEAST_OF_PLANS: Final = 1 << 29

WorkersOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Of a job with shards: local (processes on this machine, by default), dask:ADDRESS of a scheduler, or "
        "ray:ADDRESS of a cluster (ray:auto for the one of this machine).",
    ),
]
WorkerFolderOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Of a job with shards: where workers keep shards, encrypted, until they are opened; all of them reach it. By "
        "default in --out.",
    ),
]
WorkerMemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Of a job with shards and --workers local: the address space a worker may take, such as 4G; default any.",
    ),
]


def workplace_of(job: Job, where: str | None, *, folder: Path, memory: str | None) -> Workplace | None:
    """Return what this party has for work on shards, None for a job without shards.

    Raises:
      UsageError: options of a job without shards, that name no workers, or that bound a cluster's memory.
    """
    from secagg.jobs.shards import IN_SHARDS, Workplace, phases_in_shards

    if job.shards == 1:
        if where is not None or memory is not None:
            raise UsageError(
                f"{job.name} is not divided into shards; leave out --workers and --worker-memory"
            )
        return None
    if memory is not None and where not in (
        None,
        "local",
    ):  # a cluster's process goes on to other tasks under the bound
        raise UsageError(
            f"--worker-memory bounds workers of --workers local; let the cluster bound its own, got --workers {where!r:.80}"
        )
    least = _LEAST if phases_in_shards(job) == IN_SHARDS else _LEAST_OF_PLANS
    return Workplace(_workers(where or "local"), folder.absolute() / "shards", _bytes(memory, least))


def _workers(where: str) -> Workers:
    from secagg.jobs.shards import LocalWorkers

    kind, colon, address = where.partition(":")
    if kind == "local" and not colon:
        return LocalWorkers()
    if kind == "dask" and address:
        if importlib.util.find_spec("distributed") is None:
            raise UsageError("--workers dask:... needs Dask: pip install 'secagg[dask]'")
        from secagg.integrations.dask import DaskWorkers

        return DaskWorkers(address)
    if kind == "ray" and address:
        if importlib.util.find_spec("ray") is None:
            raise UsageError("--workers ray:... needs Ray: pip install 'secagg[ray]'")
        from secagg.integrations.ray import RayWorkers

        return RayWorkers(address)
    raise UsageError(
        f"expected --workers local, dask:ADDRESS such as dask:tcp://scheduler:8786, or ray:ADDRESS, got {where!r:.80}"
    )


def _bytes(text: str | None, least: int) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,15})([KMGT]?)", text)
    count = int(found[1]) * _UNITS[found[2]] if found else 0
    if count < least:
        raise UsageError(
            f"expected --worker-memory of {least >> 20}M or more for this job, such as 4G, got {text!r:.40}"
        )
    return count
