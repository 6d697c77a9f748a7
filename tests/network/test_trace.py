"""A run that was traced once is predicted on other networks as if it had been simulated there."""

from __future__ import annotations

import numpy as np
import pytest

from secagg import mpc
from secagg.cost.network import LAN, LOOPBACK, MOBILE, WAN, Network
from secagg.errors import UsageError
from secagg.network.simulated import Fault, simulate
from secagg.network.trace import Host, Trace

NAMES = ("ada", "bob", "cleo")
INSTANT = Network("instant", 0.0, 1e15)


async def sorts(party):
    engine = await mpc.Engine.create(party)
    values = np.arange(40)[::-1] if party.me == "ada" else None
    x = engine.share(values, owner="ada", shape=40)
    return await engine.open(mpc.sort(x), x * x)


@pytest.mark.parametrize("network", [LOOPBACK, LAN, WAN, MOBILE], ids=lambda network: network.name)
def test_a_traced_run_takes_as_long_on_a_network_as_a_simulated_one(network):
    programs = dict.fromkeys(NAMES, sorts)
    there = simulate(programs, network=network, insecure_seed=1)
    elsewhere = simulate(programs, network=INSTANT, insecure_seed=1, trace=True)
    assert elsewhere.trace is not None
    assert elsewhere.trace.seconds(network) == pytest.approx(there.seconds, rel=1e-3)


def test_measured_computing_is_in_the_trace():
    outcome = simulate(dict.fromkeys(NAMES, sorts), network=WAN, measure_compute=True, trace=True)
    assert outcome.trace is not None
    assert outcome.trace.seconds(WAN) == pytest.approx(outcome.seconds)
    computed = {name: ledger.total().compute_s for name, ledger in outcome.ledgers.items()}
    assert {n: sum(step.took for step in steps) for n, steps in outcome.trace.steps.items()} == pytest.approx(
        computed
    )


def trace_of_two(took: float, size: int) -> Trace:
    """Two parties compute, send each other a message, and read it."""
    trace = Trace(("ada", "bob"))
    for me, other in (("ada", "bob"), ("bob", "ada")):
        trace.begin(me)
        trace.end(me, took, [(other, size)])
        trace.begin(me)
        trace.read(me, other, 0)
        trace.end(me, 0.0, [])
    return trace


def test_parties_that_share_a_core_compute_one_after_the_other():
    trace = trace_of_two(1.0, 0)
    assert trace.seconds(INSTANT) == 1.0
    assert trace.seconds(INSTANT, Host(cores=1)) == 2.0
    assert trace.seconds(INSTANT, Host(cores=2)) == 1.0


def test_messages_and_their_bytes_take_time_at_both_ends():
    trace = trace_of_two(0.0, 1000)
    host = Host(send_s=0.25, receive_s=0.5, byte_s=0.001)
    assert trace.seconds(INSTANT, host) == pytest.approx(0.25 + 0.5 + 2 * 1.0)
    assert trace.seconds(Network("slow", 3.0, 500.0)) == pytest.approx(3.0 + 2.0)


def test_messages_that_meet_at_a_line_take_turns():
    """Ten times as long a message that begins first does not keep a short one waiting until its own end."""
    trace = Trace(("ada", "bob", "cleo"))
    for sender, size in (("ada", 1_000_000), ("bob", 100_000)):
        trace.begin(sender)
        trace.end(sender, 0.0, [("cleo", size)])
    for sender in ("bob", "ada"):
        trace.begin("cleo")
        trace.read("cleo", sender, 0)
        trace.end("cleo", 0.0 if sender == "ada" else 10.0, [])
    # Bob's message takes 0.2 s in turns with Ada's, and Ada's then ends while Cleo still computes.
    assert trace.seconds(Network("line", 0.0, 1e6)) == pytest.approx(10.2, abs=0.02)


def test_a_run_with_faults_is_not_traced():
    with pytest.raises(UsageError, match="expected a run without faults to trace"):
        simulate(dict.fromkeys(NAMES, sorts), faults=[Fault("drop", 0)], trace=True)


def test_a_trace_of_messages_that_nobody_sent_has_no_time():
    trace = Trace(("ada", "bob"))
    trace.begin("ada")
    trace.read("ada", "bob", 0)
    trace.end("ada", 0.0, [])
    with pytest.raises(UsageError, match="messages that nobody sent"):
        trace.seconds(LAN)


@pytest.mark.parametrize("host", [{"cores": 0}, {"send_s": -1.0}, {"byte_s": -1.0}])
def test_a_host_has_cores_and_takes_time(host):
    with pytest.raises(UsageError, match="expected at least one core"):
        Host(**host)
