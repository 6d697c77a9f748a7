"""Tasks of a sum that workers of an organisation do come out as in one process, whatever workers are lost."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg.errors import PeerMissingError, TooFewPartiesError, UsageError
from secagg.jobs.shards import LocalWorkers, SumWorkers, sum_worker
from secagg.protocols.masked_sum.arcs import Around, Expand, Masks, Unmask
from secagg.protocols.masked_sum.masks import Mask, add_masks

PLACES = [("127.0.0.1", 0)] * 2
SEEDS = np.arange(5 * 33, dtype=np.uint8).reshape(5, 33) % 2


class InOrder:
    """Workers in this process, of which some are lost."""

    def __init__(self, lost: Callable[[int], bool]) -> None:
        self._lost = lost
        self.started: list[tuple[int, str]] = []

    def address(self, place: int, told: tuple[str, int]) -> tuple[str, int]:
        return told

    def start(self, place: int, told: tuple[str, int], module: str, task: bytes) -> bytes | None:
        self.started.append((place, module))
        return None if self._lost(len(self.started)) else sum_worker.run(task)

    def gather(self, started: Sequence[Any]) -> list[bytes | None]:
        return list(started)

    def end(self, started: Sequence[Any]) -> None:
        raise AssertionError


def tasks() -> list[Expand]:
    return [Expand(SEEDS, 20, start, 16) for start in (0, 16, 32, 48, 64)]


def assert_equals_one_vector(found: list[Any]) -> None:
    whole = np.zeros(80, np.uint32)
    add_masks(whole, [Mask(row[:32].tobytes(), minus=bool(row[32])) for row in SEEDS])
    assert all(isinstance(one, Masks) for one in found)
    assert np.array_equal(np.concatenate([one.total for one in found]), whole)


def test_a_lost_worker_costs_its_task_alone_and_slices_put_together_are_the_masks_of_the_whole_vector() -> (
    None
):
    workers = InOrder(lambda number: number in {2, 3})
    sum_workers = SumWorkers(workers, PLACES)
    assert_equals_one_vector(list(sum_workers(tasks())))
    assert len(workers.started) == len(tasks()) + 2
    assert {place for place, _ in workers.started} == {0, 1}
    assert [attempts for _, attempts, _ in sum_workers.done] == [1, 3, 1, 1, 1]
    assert all(peak > 1 << 20 for *_, peak in sum_workers.done)


def test_workers_that_are_always_lost_end_the_sum() -> None:
    workers = InOrder(lambda _number: True)
    with pytest.raises(PeerMissingError, match="lost 5 times"):
        list(SumWorkers(workers, PLACES)(tasks()))
    assert len(workers.started) == 2 * 5


def test_an_error_of_a_worker_is_raised_with_the_peer_that_it_names_and_not_tried_again(
    tmp_path: Any,
) -> None:
    # Client 3 is in the sum, and its one neighbour sent no answer.
    around = Around(
        bytes(32),
        1,
        np.array([3, 7], np.uint32),
        ["c3", "c7"],
        np.array([[7], [3]], np.uint32),
        np.array([7, 7], np.uint8),
        np.array([[7], [7]], np.uint8),
    )
    (tmp_path / "answers").touch()
    keys, published = np.zeros((2, 32), np.uint8), np.zeros((1, 32), np.uint8)
    path = str(tmp_path / "answers")
    task = Unmask(around, 2, 0, keys, published, path, np.array([-1, -1], np.int64), 32, 4)
    workers = InOrder(lambda _number: False)
    with pytest.raises(TooFewPartiesError, match="c3's secret from at least 2 clients, got 0") as raised:
        list(SumWorkers(workers, PLACES)([task]))
    assert raised.value.peer == "c3"
    assert len(workers.started) == 1


def test_a_sum_needs_a_worker() -> None:
    with pytest.raises(UsageError, match="one worker"):
        SumWorkers(LocalWorkers(), [])


def test_a_worker_limits_its_memory_to_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, both: limits.append((which, both)))
    list(SumWorkers(InOrder(lambda _number: False), PLACES, memory_bytes=1 << 30)(tasks()[:1]))
    assert limits == [(resource.RLIMIT_AS, (1 << 30, 1 << 30))]


def test_what_a_worker_is_told_and_tells_shows_nothing_of_it() -> None:
    assert "secret" not in repr(sum_worker.Ordered("1.0", "unmask", b"secret", None))
    assert "secret" not in repr(sum_worker.Done("masks", b"secret", 0))


@pytest.mark.slow
def test_processes_do_tasks_within_their_memory() -> None:
    first, others = tasks()[:2], tasks()[2:]
    found = list(SumWorkers(LocalWorkers(), PLACES, memory_bytes=1 << 30)(first))
    assert_equals_one_vector([*found, *SumWorkers(InOrder(lambda _number: False), PLACES)(others)])


def test_a_worker_of_another_release_does_nothing_and_the_server_hears_it() -> None:
    class Older(InOrder):
        def start(self, place: int, told: tuple[str, int], module: str, task: bytes) -> bytes | None:
            ordered = msgspec.msgpack.decode(task, type=sum_worker.Ordered)
            task = msgspec.msgpack.encode(msgspec.structs.replace(ordered, release="9.9"))
            return super().start(place, told, module, task)

    with pytest.raises(UsageError, match=r"its main process secagg 9\.9; install the same release"):
        list(SumWorkers(Older(lambda _: False), PLACES)(tasks()))
