"""Predictions are held against real processes behind a relay, and rows that say nothing are left out."""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
import pytest

from ended import Ended
from secagg.bench.case import Case
from secagg.bench.measure import Simulator
from secagg.bench.networks import Compared, Machine, Pair, _Drawn, conclusion, predicted
from secagg.bench.processes import Processes
from secagg.bench.subjects import prepare
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
def test_the_command_writes_its_table_into_a_page_and_states_the_largest_difference_last(capsys, tmp_path):
    page = tmp_path / "costs.md"
    page.write_text("before\n<!-- networks: written by hand -->\nold\n<!-- networks: end -->\nafter\n")
    command = ("bench", "networks", "--tiny", "--networks", "5ms/100mbit", "--repeat", "1")
    ended = Ended(capsys, *command, "--write", page)
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert lines[-2].startswith("less, size 100")
    assert "largest difference" in lines[-1] or "rows are disturbed" in lines[-1]
    before, _, after = page.read_text().partition("\n| less, size 100")
    assert before.startswith("before\n<!-- networks: written by hand -->\n\n| case | network |")
    assert "old" not in before + after
    assert lines[-1][1:] in after
    assert after.endswith("\n<!-- networks: end -->\nafter\n")


def test_a_page_without_a_place_for_the_table_is_refused_before_anything_is_measured(capsys, tmp_path):
    page = tmp_path / "costs.md"
    page.write_text("<!-- networks: end -->\n<!-- networks: written by hand -->\n")
    ended = Ended(capsys, "bench", "networks", "--write", page)
    assert ended.status == 2
    assert ended.out == ""
    assert "between which the table goes: <!-- networks: written by COMMAND -->" in ended.err


@pytest.mark.slow
def test_both_runs_of_a_pair_draw_the_same_rounds():
    """A sort of 300 takes a number of rounds that is drawn; two sorts of one seed take the same."""
    subject = prepare(Case("operation", "sort", 3, 300, 3))
    simulated, real = _Drawn(Simulator(), 5), _Drawn(Processes(Network("fast", 0.0, 1e12)), 5)
    another = _Drawn(Simulator(), 6)
    for drive in (simulated, real, another):
        subject.run(drive)
    sent = [
        {name: asdict(ledger.total().sent) for name, ledger in one.outcome.ledgers.items()}
        for one in (simulated, real, another)
    ]
    assert sent[0] == sent[1]
    assert sent[0] != sent[2]


def compared(network: str, *pairs: Pair) -> Compared:
    return Compared(CASE, network, pairs)


def test_pairs_and_rows_that_other_work_disturbed_are_left_out():
    busy, late = Pair(1.0, 2.0, others=0.11), Pair(1.0, 2.0, late=0.06)
    rows = [
        compared("lan", busy, late),
        compared("wan", busy, Pair(1.1, 1.0, 0.1, 0.05), late),
        compared("wan", Pair(1.0, 1.0), Pair(1.05, 1.0), Pair(2.0, 1.0)),
    ]
    assert [row.disturbed for row in rows] == [True, False, False]
    assert rows[1].differences == pytest.approx((0.1, 0.1, 0.1))
    assert rows[2].differences == pytest.approx((0.025, 0.05, 0.525))
    assert rows[0].differences == pytest.approx((-0.5, -0.5, -0.5))
    assert conclusion(rows) == (
        "largest difference +10.0% of 2 rows: less on wan (goal 15%); 1 row that other work disturbed left out"
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
