from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg import ledger as ledger_module
from secagg.cost.network import LAN
from secagg.ledger import Ledger, Traffic, Usage
from secagg.network.simulated import simulate
from secagg.party import Party
from secagg.wire import Message


class Vector(Message, frozen=True):
    values: NDArray[np.uint32]


async def talk(p: Party) -> None:
    with p.phase("first"):
        p.broadcast(Vector(np.zeros(5, np.uint32)))
        await p.gather(Vector, p.others)
    with p.phase("second"):
        if p.me == "a":
            p.send("b", Vector(np.zeros((3, 3), np.uint32)))
        elif p.me == "b":
            await p.receive(Vector, "a")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that shows what the test put there."""
    now = [0.0]
    monkeypatch.setattr(ledger_module, "perf_counter", lambda: now[0])
    return now


def test_bytes_are_those_of_the_frames_by_phase_and_peer() -> None:
    out = simulate(dict.fromkeys("abc", talk), record=True)
    for name, ledger in out.ledgers.items():
        sent = [(to, len(frame)) for sender, to, frame in out.transcript if sender == name]
        total = ledger.total()
        assert total.sent.messages == len(sent)
        assert total.sent.frame_bytes == sum(size for _, size in sent)
        for peer, traffic in ledger.sent_to.items():
            sizes = [size for to, size in sent if to == peer]
            assert (traffic.messages, traffic.frame_bytes) == (len(sizes), sum(sizes))
    a = out.ledgers["a"]
    assert a.phases["first"].sent.payload_bytes == 2 * 20
    assert a.phases["second"].sent.payload_bytes == 36
    assert (a.sent_to["b"].payload_bytes, a.sent_to["c"].payload_bytes) == (56, 20)
    assert out.ledgers["b"].phases["second"].received.payload_bytes == 36


def test_what_one_sent_is_what_the_other_received() -> None:
    out = simulate(dict.fromkeys("abc", talk))
    for sender, ledger in out.ledgers.items():
        for receiver, traffic in ledger.sent_to.items():
            assert out.ledgers[receiver].received_from[sender] == traffic


def test_messages_that_nobody_reads_are_sent_and_not_received() -> None:
    async def program(p: Party) -> None:
        if p.me == "a":
            p.send("b", Vector(np.zeros(1, np.uint32)))
        else:
            await p.gather(Vector, [], quorum=0)

    out = simulate(dict.fromkeys("ab", program))
    assert out.ledgers["a"].total().sent.messages == 1
    assert out.ledgers["b"].total().received == Traffic()


def test_the_total_is_the_sum_over_phases() -> None:
    ledger = Ledger()
    for k, phase in enumerate(("x", "y", "x", "z"), 1):
        ledger.enter(phase)
        ledger.sent("b", 100 * k, 10 * k)
        ledger.received("c", 7 * k, k, depth=2 * k, phase=phase)
        ledger.waited(0.5 * k)
    assert ledger.total() == Usage(
        rounds=8,
        sent=Traffic(4, 1000, 100),
        received=Traffic(4, 70, 10),
        compute_s=0.0,
        wait_s=5.0,
    )
    assert ledger.phases["x"] == Usage(
        rounds=2 + 2, sent=Traffic(2, 400, 40), received=Traffic(2, 28, 4), wait_s=2.0
    )
    assert ledger.sent_to["b"] == Traffic(4, 1000, 100)
    assert ledger.received_from["c"] == Traffic(4, 70, 10)


def test_rounds_count_the_deepest_message_read_and_never_twice() -> None:
    ledger = Ledger()
    for depth in (1, 1, 3, 2, 3, 4):
        ledger.received("b", 1, 0, depth, phase="start")
    assert ledger.depth == ledger.total().rounds == 4


def test_computing_is_charged_to_the_phase_it_happens_in(clock: list[float]) -> None:
    ledger = Ledger()
    ledger.resume()
    clock[0] = 1.0
    ledger.enter("x")
    clock[0] = 3.0
    ledger.enter("x")  # no change
    clock[0] = 6.0
    ledger.enter("y")
    clock[0] = 10.0
    ledger.pause()
    clock[0] = 50.0  # waiting is nobody's computing
    ledger.enter("x")
    ledger.resume()
    clock[0] = 51.0
    ledger.pause()
    ledger.pause()
    assert {name: cost.compute_s for name, cost in ledger.phases.items()} == {
        "start": 1.0,
        "x": 6.0,
        "y": 4.0,
    }


def test_computing_without_an_await_inside_a_phase_is_charged_to_it(clock: list[float]) -> None:
    def work(seconds: float) -> None:
        clock[0] += seconds

    async def program(p: Party) -> None:
        work(1.0)
        with p.phase("heavy"):
            work(10.0)
        with p.phase("exchange"):
            work(2.0)
            p.broadcast(Vector(np.zeros(1, np.uint32)))
            await p.gather(Vector, p.others)
            work(4.0)
        work(1.0)

    out = simulate(dict.fromkeys("ab", program))
    for ledger in out.ledgers.values():
        assert {n: c.compute_s for n, c in ledger.phases.items()} == {
            "start": 2.0,
            "heavy": 10.0,
            "exchange": 6.0,
        }


def test_the_simulator_charges_waiting_on_its_own_clock() -> None:
    async def program(p: Party) -> None:
        if p.me == "a":
            p.send("b", Vector(np.zeros(1, np.uint32)))
        else:
            await p.receive(Vector, "a")

    out = simulate(dict.fromkeys("ab", program), network=LAN)
    assert out.ledgers["b"].total().wait_s == pytest.approx(out.seconds)
    assert out.ledgers["a"].total().wait_s == 0.0


def test_plain_data_for_a_record_leaves_out_phases_where_nothing_happened() -> None:
    ledger = Ledger()
    ledger.enter("nothing")
    ledger.enter("x")
    ledger.sent("b", 64, 8)
    data = json.loads(json.dumps(ledger.as_dict()))
    assert list(data["phases"]) == ["x"]
    assert data["phases"]["x"]["sent"] == {"messages": 1, "frame_bytes": 64, "payload_bytes": 8}
    assert data["total"]["sent"]["frame_bytes"] == data["sent_to"]["b"]["frame_bytes"] == 64
    assert data["received_from"] == {}


def test_every_cost_starts_at_nothing() -> None:
    def numbers(value: object) -> Iterator[float]:
        if isinstance(value, dict):
            for inner in value.values():
                yield from numbers(inner)
        elif isinstance(value, int | float):
            yield value

    assert set(numbers(Ledger().as_dict())) == {0}
