"""Every operation of four parties costs what it declares, and products at most 1.6 times what they cost three."""

from __future__ import annotations

import numpy as np
import pytest

from secagg.mpc.four import costs, inputs, opening
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.shares import FourShares
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.mpc.three.costs import COSTS
from secagg.network.simulated import simulate
from secagg.ring import Ring

FOUR = ("ada", "bob", "cleo", "dora")
G64, G20 = RingGroup(Ring(64)), RingGroup(Ring(20))
N = 101


def zeros(engine, group, *shape):
    return FourShares(group, {j: np.zeros(shape, group.dtype) for j in engine.channel.others})


OPERATIONS = {
    "multiply": (lambda e: e.multiply(zeros(e, G64, N), zeros(e, G64, N)), costs.multiply_cost(N)),
    "multiply one": (lambda e: e.multiply(zeros(e, G64, 1), zeros(e, G64, 1)), costs.multiply_cost(1)),
    "multiply in 20 bits": (
        lambda e: e.multiply(zeros(e, G20, N), zeros(e, G20, N)),
        costs.multiply_cost(N, ring=Ring(20)),
    ),
    "matmul": (lambda e: e.matmul(zeros(e, G64, 5, 3), zeros(e, G64, 3, 7)), costs.multiply_cost(35)),
    "conjunction": (
        lambda e: e.conjunction(
            [(zeros(e, XOR, 2, 5), zeros(e, XOR, 2, 5)), (zeros(e, XOR, 3), zeros(e, XOR, 3))]
        ),
        costs.conjunction_cost(13),
    ),
    "truncate": (lambda e: e.truncate(zeros(e, G64, N), 16), costs.truncate_cost(N)),
    "truncate in 20 bits": (
        lambda e: e.truncate(zeros(e, G20, N), 5),
        costs.truncate_cost(N, ring=Ring(20)),
    ),
    "from bits": (lambda e: e.from_bits(zeros(e, XOR, 2), G64, N), costs.from_bits_cost(N)),
    "shuffle": (lambda e: e.shuffle(zeros(e, G64, 2, 9, 3)), costs.shuffle_cost(8 * 2 * 9 * 3)),
    "check": (lambda e: e.check(), costs.check_cost()),
    "open to all": (lambda e: e.open(zeros(e, G64, N)), costs.open_cost(8 * N)),
    "open to one and outside": (
        lambda e: e.open(zeros(e, G64, N), ["bob", "reader"]),
        costs.open_cost(8 * N, [1], outside=1),
    ),
    "input": (
        lambda e: e.input(G64, "cleo", (N,), np.zeros(N, np.uint64) if e.party.me == "cleo" else None),
        costs.input_cost(8 * N, 2),
    ),
}


def measured(operation, others=None):
    """Return rounds and the bytes that each computing party sends in an operation."""

    async def program(party):
        engine = await FourEngine.set_up(party, FOUR)
        before, depth = party.ledger.total().sent.payload_bytes, party.ledger.depth
        await operation(engine)
        return depth, party.ledger.depth, party.ledger.total().sent.payload_bytes - before

    results = simulate(dict.fromkeys(FOUR, program) | (others or {})).values()[:4]
    (depth,) = {depth for depth, _, _ in results}
    return max(after for _, after, _ in results) - depth, [sent for _, _, sent in results]


async def nothing(party):
    return None


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_costs_what_it_declares(name):
    operation, declared = OPERATIONS[name]
    others = {"reader": nothing}
    if "outside" in name:
        others = {"reader": lambda party: opening.receive_opening(party, FOUR, G64, (N,))}
    assert costs.four_cost(*measured(operation, others)) == declared


def test_set_up_and_inputs_from_outside_cost_what_they_declare():
    async def program(party):
        await FourEngine.set_up(party, FOUR)
        return party.ledger.depth, party.ledger.total().sent.payload_bytes

    assert simulate(dict.fromkeys(FOUR, program)).values() == [(costs.set_up_cost().rounds, 0)] * 4
    give = {"owner": lambda party: inputs.share_input(party, FOUR, G64, np.zeros(N, np.uint64))}
    rounds, sent = measured(lambda e: e.input(G64, "owner", (N,)), give)
    # An outside party's message leaves at depth 0, when the computing parties have counted rounds already.
    assert costs.four_cost(rounds + 1, sent) == costs.input_cost(8 * N, None)


@pytest.mark.parametrize("n", [4, 5, 6, 7, 64, 1001, 1 << 20])
def test_products_and_ands_send_at_most_1_6_times_what_they_do_among_three(n):
    three = max(COSTS.multiply(n, Ring(64)).payload_bytes.values())
    for cost in (costs.multiply_cost(n), costs.conjunction_cost(n)):
        assert max(cost.payload_bytes.values()) <= 1.6 * three
        assert sum(cost.payload_bytes.values()) == 6 * 8 * n
        assert cost.rounds == COSTS.multiply(n, Ring(64)).rounds
    assert costs.conjunction_cost(n).payload_bytes == costs.multiply_cost(n).payload_bytes
