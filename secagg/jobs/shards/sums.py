"""A server of masked sums whose workers are an organisation's own: local processes, a Dask or a Ray cluster.

    workers = SumWorkers(LocalWorkers(), [("127.0.0.1", 0)] * 4)
    division = Division(Path("/spool"), do=workers)
    result = await aggregate(party, terms=terms, division=division)

A task whose worker was lost is done again, by any worker, up to `MOST_ATTEMPTS` times. It is a function of its content and
of files that do not change, so nothing else is done again, and nobody but this server notices.

Within an organisation a worker is trusted with what the server sees: public keys, sealed shares, and the shares that clients
told. It gets no client's vector, masked or not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from secagg import errors, wire
from secagg.errors import PeerMissingError, RemoteProtocolError, SecaggError, UsageError
from secagg.jobs.job import Address
from secagg.jobs.shards import sum_worker
from secagg.jobs.shards.attempts import MOST_ATTEMPTS
from secagg.jobs.shards.sum_worker import Done, Ordered
from secagg.jobs.shards.workers import Workers
from secagg.protocols.masked_sum import arcs
from secagg.release import RELEASE

_ANSWERS: Final = {kind.KIND: kind for kind in (arcs.Refused, arcs.Relayed, arcs.Masks)}


class SumWorkers:
    """Has workers do the tasks of a sum; the `do` of a `Division`.

    Args:
      workers: the organisation's.
      addresses: of the machines that they are on, by place. They do not listen there.
      memory_bytes: of address space that each worker may take; None for any.
      module: what workers run.

    Raises:
      UsageError: no address.

    Attributes:
      done: of each task that was done its kind, its attempts, and the most memory that its worker had.
    """

    def __init__(
        self,
        workers: Workers,
        addresses: Sequence[Address],
        *,
        memory_bytes: int | None = None,
        module: str = sum_worker.__name__,
    ) -> None:
        if not addresses:
            raise UsageError("expected the address of one worker of the server at least, got none")
        self._workers, self._addresses = workers, list(addresses)
        self._memory_bytes, self._module = memory_bytes, module
        self.done: list[tuple[str, int, int]] = []

    def __call__(self, tasks: Iterable[arcs.Task]) -> Iterator[arcs.Answer]:
        """Do tasks, as many at a time as there are places, and yield their answers in order.

        Raises:
          PeerMissingError: a task's workers were lost too often.
          and what workers raised.
        """
        coming = iter(tasks)
        while turn := list(itertools.islice(coming, len(self._addresses))):
            yield from self._one_turn(turn)

    def _one_turn(self, turn: Sequence[arcs.Task]) -> list[arcs.Answer]:
        found: dict[int, arcs.Answer] = {}
        for attempt in range(1, MOST_ATTEMPTS + 1):
            left = [i for i in range(len(turn)) if i not in found]
            started = [self._start(place, turn[i]) for place, i in enumerate(left)]
            for i, answer in zip(left, self._workers.gather(started), strict=True):
                if answer is not None:
                    done = msgspec.msgpack.decode(answer, type=Done)
                    found[i] = _answer(done)
                    self.done.append((turn[i].KIND, attempt, done.peak_bytes))
            if len(found) == len(turn):
                return [found[i] for i in range(len(turn))]
        raise PeerMissingError(
            f"workers of this server were lost {MOST_ATTEMPTS} times at one task; see that they have enough memory, or let "
            "arcs have fewer clients",
            peer="",
        )

    def _start(self, place: int, task: arcs.Task) -> Any:
        ordered = msgspec.msgpack.encode(Ordered(RELEASE, task.KIND, wire.to_bytes(task), self._memory_bytes))
        return self._workers.start(place, self._addresses[place], self._module, ordered)


def _answer(done: Done) -> arcs.Answer:
    if not done.error:
        answer = wire.from_bytes(done.content, _ANSWERS[done.kind])
        if not isinstance(answer, arcs.Answer):
            raise UsageError(f"expected an answer from a worker of a sum, got {done.kind}")
        return answer
    kind: type[SecaggError] = getattr(errors, done.error)
    text = f"a worker of the server: {done.text}"
    if issubclass(kind, RemoteProtocolError | PeerMissingError):
        raise kind(text, peer=done.peer)
    raise kind(text)
