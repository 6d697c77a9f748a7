"""Workers on an organisation's own Dask cluster.

    workers = DaskWorkers("tcp://scheduler.bank.example:8786")

Each worker of ours is a task on a machine of the cluster: the one whose address the job gives to its place. Dask workers
need `secagg` installed, and are best started with one thread.

Dask pickles (cloudpickle) what its processes tell each other. Of ours these are a function by its name, a module's name and
bytes. Nothing of another organisation passes through it. Whoever can reach the scheduler can run programs on the cluster and
read what it carries, which holds this organisation's pseudonyms, numbers and keys of sessions: let Dask use TLS, and keep
its ports closed to all others.

A task is bound to one Dask worker. Where that one is gone the task is cancelled, and the main process has a new attempt
begin. Were Dask to start the task again, `jobs.shards.worker` would notice that its attempt had begun.
"""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

try:
    from distributed import Client
except ImportError:
    raise ImportError('this needs Dask: pip install "secagg[dask]"') from None

from secagg.errors import PeerMissingError, UsageError
from secagg.jobs.job import Address

_LOOK_EVERY_S: Final = 0.5
_BACK_S: Final = 30.0  # how long a machine may have no worker


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

    def start(self, place: int, told: Address, module: str, task: bytes) -> tuple[Any, str]:
        """Submit a task to a machine of the job's address, and return it with the Dask worker that it is bound to."""
        deadline = time.monotonic() + _BACK_S
        while not (there := self._on(told[0])):  # a worker that was killed takes a while to come back
            if time.monotonic() > deadline:
                raise UsageError(
                    f"expected a Dask worker at {told[0]}, where the job has worker {place}, and there is none"
                )
            time.sleep(_LOOK_EVERY_S)
        at = there[place % len(there)]
        options = {"workers": [at], "allow_other_workers": False, "pure": False, "retries": 0}
        future = self._client.submit(call, module, task, key=f"secagg-{uuid.uuid4()}", **options)
        return future, at

    def gather(self, started: Sequence[tuple[Any, str]]) -> list[bytes | None]:
        """Wait for tasks; None for each whose worker was lost or failed."""
        left = dict(started)
        while left := {future: at for future, at in left.items() if not future.done()}:
            # Dask would keep a task for a worker that is gone until one comes back at its address.
            # What `scheduler_info` returns, another thread may have asked for, and for other workers.
            known = self._client.nthreads()
            for future, at in left.items():
                if at not in known:
                    future.cancel()
            time.sleep(_LOOK_EVERY_S)
        return [future.result() if future.status == "finished" else None for future, _ in started]

    def end(self, started: Sequence[tuple[Any, str]]) -> None:
        """Cancel tasks; Dask goes on with one that has begun, until its peers have left."""
        for future, _ in started:
            future.cancel()

    def _on(self, host: str) -> list[str]:
        """Return the Dask workers on a machine, in an order that stays."""
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        return sorted(address for address, about in known.items() if about["host"] == host)


def call(module: str, task: bytes) -> bytes:
    """Run a task; Dask knows this function by its name."""
    answer: bytes = importlib.import_module(module).run(task)
    return answer
