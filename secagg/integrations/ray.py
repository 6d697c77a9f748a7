"""Workers on an organisation's own Ray cluster.

    workers = RayWorkers("ray://head.bank.example:10001")

Each worker of ours is a task on a machine of the cluster: the one whose address the job gives to its place. Its machines
need `secagg` installed.

Ray pickles (cloudpickle) what its processes tell each other. Of ours these are a function by its name, a module's name and
bytes. Nothing of another organisation passes through it. Whoever can reach the cluster can run programs on it and read what
it carries, which holds this organisation's pseudonyms, numbers and keys of sessions: let Ray use TLS, and keep its ports
closed to all others.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Final

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise ImportError('this needs Ray: pip install "secagg[ray]"') from None

from secagg.errors import PeerMissingError, UsageError
from secagg.jobs.job import Address

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class RayWorkers:
    """Workers that are tasks of a Ray cluster.

    Args:
      address: of the cluster, "auto" for the one of this machine; None where this process is connected already.

    Raises:
      PeerMissingError: there is no cluster.
    """

    def __init__(self, address: str | None) -> None:
        if address is not None:
            try:
                ray.init(address=address, log_to_driver=False)
            except ConnectionError as error:
                raise PeerMissingError(f"there is no Ray cluster at {address}: {error}") from None
        # A task that is lost is begun anew by the main process, in a new session; never by Ray.
        self._call = ray.remote(max_retries=0)(call)

    def address(self, place: int, told: Address) -> Address:  # noqa: ARG002  # as of all workers
        """Return the address that the job says."""
        return told

    def start(self, place: int, told: Address, module: str, task: bytes) -> Any:
        """Submit a task to a machine of the job's address."""
        # Ray knows this machine by another address than a loopback one.
        host = ray.util.get_node_ip_address() if told[0] in _LOOPBACK else told[0]
        there = sorted(
            node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == host
        )
        if not there:
            raise UsageError(
                f"expected a Ray node at {told[0]}, where the job has worker {place}, and there is none"
            )
        strategy = NodeAffinitySchedulingStrategy(there[place % len(there)], soft=False)
        return self._call.options(scheduling_strategy=strategy).remote(module, task)

    def gather(self, started: Sequence[Any]) -> list[bytes | None]:
        """Wait for tasks; None for each that was lost or failed."""
        return [_answer(one) for one in started]

    def end(self, started: Sequence[Any]) -> None:
        """Cancel tasks, and kill the processes of those that have begun."""
        for one in started:
            ray.cancel(one, force=True)


def _answer(started: Any) -> bytes | None:
    try:
        answer: bytes = ray.get(started)
    except ray.exceptions.RayError:
        return None
    return answer


def call(module: str, task: bytes) -> bytes:
    """Run a task; Ray knows this function by its name."""
    answer: bytes = importlib.import_module(module).run(task)
    return answer
