"""Predictions are held against real processes behind a relay, and rows that say nothing are left out."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ended import Ended
from secagg.bench.case import Case
from secagg.bench.networks import Compared, Machine, conclusion, predicted
from secagg.bench.processes import Processes
from secagg.cost.network import WAN, Network
from secagg.network.trace import Host, Trace
from secagg.wire import Message

CASE = Case("operation", "less", 3, 100, 3)


class Block(Message, frozen=True):
    """Bytes that mean nothing."""

    x: np.ndarray


@pytest.mark.slow
def test_the_relay_delays_and_throttles_what_passes_it():
    """No upper bound is on the times, for a busy machine makes them longer."""

    async def program(party):
        peer, took = party.others[0], []
        for size in (1, 50_000):
            begun = time.perf_counter()
            if party.me == "left":
                party.send(peer, Block(np.zeros(size, np.uint8)))
            got = await party.receive(Block, peer, max_bytes=60_000)
            if party.me == "right":
                party.send(peer, got)
            took.append(time.perf_counter() - begun)
        return took

    outcome = Processes(Network("slow", 0.03, 1e6))({"left": program, "right": program})
    small, large = outcome.results["left"]
    assert small >= 2 * 0.03
    assert large >= 2 * (0.03 + 0.05)


@pytest.mark.slow
def test_the_command_states_the_largest_difference_last(capsys):
    ended = Ended(capsys, "bench", "networks", "--tiny", "--networks", "5ms/100mbit", "--repeat", "1")
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert lines[-2].startswith("less, 3 parties")
    assert "largest difference" in lines[-1] or "rows are disturbed" in lines[-1]


def test_disturbed_rows_are_left_out_of_the_conclusion():
    rows = [
        Compared(CASE, "lan", 1.0, 2.0, 0.5),
        Compared(CASE, "wan", 1.1, 1.0, 0.2),
        Compared(CASE, "wan", 1.0, 1.0, 0),
    ]
    assert conclusion(rows) == (
        "largest difference +10.0% of 2 rows: less on wan (goal 15%); 1 rows that other work disturbed are left out"
    )
    assert conclusion(rows[:1]).startswith("all 1 rows are disturbed")


def test_the_relay_s_own_time_counts_as_latency():
    trace = Trace(("left", "right"))
    trace.begin("left")
    trace.end("left", 0.0, [("right", 0)])
    trace.begin("right")
    trace.read("right", "left", 0)
    trace.end("right", 0.0, [])
    assert predicted(trace, WAN, Machine(Host(), 0.01)) == pytest.approx(WAN.latency_s + 0.01)
