"""Workers on an organisation's own Dask cluster.

    workers = DaskWorkers("tcp://scheduler.bank.example:8786")

Each worker of ours is a task on a machine of the cluster: the one whose address the job gives to its place. Dask workers
need `secagg` installed, and are best started with one thread.

Dask pickles (cloudpickle) what its processes tell each other. Of ours these are a function by its name, a module's name and
bytes. Nothing of another organisation passes through it. Whoever can reach the scheduler can run programs on the cluster and
read what it carries, which holds this organisation's pseudonyms, numbers and keys of sessions: let Dask use TLS, and keep
its ports closed to all others.

Dask starts a task again whose worker it lost. `jobs.shards.worker` notices that an attempt had begun, and the main process
has a new one begin.
"""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from distributed import Client, wait

from secagg.errors import PeerMissingError, UsageError
from secagg.jobs.job import Address

_LOOK_EVERY_S: Final = 0.5
_GONE_S: Final = 30.0  # how long a machine may have no worker before its task counts as lost


class DaskWorkers:
    """Workers that are tasks of a Dask cluster.

    Args:
      cluster: the scheduler's address, or a client.

    Raises:
      PeerMissingError: the scheduler does not answer.
    """

    def __init__(self, cluster: str | Client) -> None:
        try:
            self._client = Client(cluster) if isinstance(cluster, str) else cluster
        except (OSError, TimeoutError) as error:
            raise PeerMissingError(f"the Dask scheduler at {cluster} does not answer: {error}") from None

    def address(self, place: int, told: Address) -> Address:  # noqa: ARG002  # as of all workers
        """Return the address that the job says."""
        return told

    def start(self, place: int, told: Address, module: str, task: bytes) -> Any:
        """Submit a task to a machine of the job's address."""
        there = self._on(told[0])
        if not there:
            raise UsageError(
                f"expected a Dask worker at {told[0]}, where the job has worker {place}, and there is none"
            )
        return self._client.submit(
            call,
            module,
            task,
            workers=[there[place % len(there)]],
            allow_other_workers=False,
            pure=False,
            retries=0,
            key=f"secagg-{uuid.uuid4()}",
        )

    def gather(self, started: Sequence[Any]) -> list[bytes | None]:
        """Wait for tasks; None for each whose worker was lost or failed."""
        left, there_at = set(started), time.monotonic()
        while left:
            try:
                left = wait(left, timeout=_LOOK_EVERY_S).not_done
            except TimeoutError:
                left = {future for future in left if not future.done()}
            # A task that waits for a machine that is gone would wait for ever.
            if self._client.scheduler_info(n_workers=-1)["workers"]:
                there_at = time.monotonic()
            elif time.monotonic() - there_at > _GONE_S:
                self._client.cancel(list(left))
                break
        return [future.result() if future.status == "finished" else None for future in started]

    def _on(self, host: str) -> list[str]:
        """Return the Dask workers on a machine, in an order that stays."""
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        return sorted(address for address, about in known.items() if about["host"] == host)


def call(module: str, task: bytes) -> bytes:
    """Run a task; Dask knows this function by its name."""
    answer: bytes = importlib.import_module(module).run(task)
    return answer
