"""Work for an executor is done even if none of its threads ever becomes free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import secagg
from secagg.errors import UsageError
from secagg.threads import helping

PATIENCE_S = 60.0  # how long a call may hang before the test says that it does


class Busy(Executor):
    """All of its threads are taken for ever."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.waiting.append(lambda: fn(*args, **kwargs))
        return Future()


def test_work_that_no_thread_begins_is_done_by_who_asks_for_it() -> None:
    threads = helping(Busy())
    here = threads.submit(threading.get_ident)
    assert here.result(PATIENCE_S) == threading.get_ident()
    assert list(threads.map(lambda x: x * x, range(5), timeout=PATIENCE_S)) == [0, 1, 4, 9, 16]
    failing = threads.submit(lambda: 1 // 0)
    assert isinstance(failing.exception(PATIENCE_S), ZeroDivisionError)


def test_no_work_is_done_twice() -> None:
    busy = Busy()
    done: list[int] = []
    piece = helping(busy).submit(done.append, 1)
    piece.result(PATIENCE_S)
    for late in busy.waiting:
        late()
    assert done == [1]


def test_cancelled_work_is_not_done() -> None:
    busy = Busy()
    done: list[int] = []
    piece = helping(busy).submit(done.append, 1)
    assert piece.cancel()
    for late in busy.waiting:
        late()
    with pytest.raises(CancelledError):
        piece.result(PATIENCE_S)
    assert done == []


def test_threads_that_are_free_do_the_work() -> None:
    with ThreadPoolExecutor(1) as pool:
        begun = threading.Event()

        def work() -> int:
            begun.set()
            return threading.get_ident()

        piece = helping(pool).submit(work)
        assert begun.wait(PATIENCE_S)
        assert piece.result(PATIENCE_S) != threading.get_ident()
    assert helping(helping(pool)) is not pool


@pytest.mark.parametrize(
    "name",
    ["masked", "additive", "bounded", pytest.param("paillier", marks=pytest.mark.slow), "ckks", "rlwe"],
)
def test_a_sum_may_run_in_its_own_executor(name: str) -> None:
    options: dict[str, Any] = {"protocol": name}
    if name == "paillier":
        pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")
        from secagg.aggregation import Paillier

        options = {"protocol": Paillier(bits=2048)}
    if name == "ckks":
        pytest.importorskip("tenseal", reason="CKKS needs TenSEAL")
    length = {"paillier": 60, "rlwe": 70_000}.get(name, 9000)  # enough for several pieces
    xs = np.arange(4 * length).reshape(4, length) % 40_000
    pool = ThreadPoolExecutor(1)
    try:
        running = pool.submit(secagg.sum, xs, clip=40_000, executor=pool, **options)
        result = running.result(PATIENCE_S)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    assert np.max(np.abs(result.value - xs.sum(axis=0))) <= result.report.error


def test_sums_that_fill_their_own_executor_come_to_an_end() -> None:
    xs = np.ones((4, 9000), np.int64)
    pool = ThreadPoolExecutor(2)
    try:
        running = [pool.submit(secagg.sum, xs, clip=1, executor=pool) for _ in range(4)]
        for future in running:
            assert np.all(future.result(PATIENCE_S).value == 4)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@pytest.mark.slow
def test_a_pool_of_randomizers_may_be_filled_in_its_own_executor() -> None:
    pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")
    from secagg.he.paillier import RandomizerPool, SecretKey

    key = SecretKey.generate(2048)
    pool = ThreadPoolExecutor(1)
    try:

        def fill() -> int:
            randomizers = RandomizerPool(key.public_key, pool, size=16)
            randomizers.fill()
            return len(randomizers)

        assert pool.submit(fill).result(PATIENCE_S) == 16
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@pytest.mark.parametrize("wrong", [4, ThreadPoolExecutor])
def test_what_is_no_executor_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="an executor with threads of this process"):
        secagg.sum([1.0, 2.0], clip=2.0, executor=wrong)


def test_processes_are_refused_since_their_randomizers_would_be_lost() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(UsageError, match="got a ProcessPoolExecutor"):
        secagg.sum([1.0, 2.0], clip=2.0, executor=pool)
