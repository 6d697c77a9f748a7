"""Every operation of four parties costs what it declares, and products at most 1.6 times what they cost three."""

from __future__ import annotations

import numpy as np
import pytest

from secagg.cost.operation import Cost
from secagg.mpc.four import inputs, opening
from secagg.mpc.four.costs import COMPUTING, FourCosts
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.shares import shares
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.mpc.three.costs import COSTS as COSTS_OF_THREE
from secagg.network.simulated import simulate
from secagg.ring import Ring

FOUR = ("ada", "bob", "cleo", "dora")
G64, G20 = RingGroup(Ring(64)), RingGroup(Ring(20))
N = 101


def zeros(engine, group, *shape):
    return shares(engine, group, {j: np.zeros(shape, group.dtype) for j in engine.channel.others})


R64, R20 = Ring(64), Ring(20)
COSTS = FourCosts()
OPERATIONS = {
    "multiply": (lambda e: e.multiply(zeros(e, G64, N), zeros(e, G64, N)), COSTS.multiply(N, R64)),
    "multiply one": (lambda e: e.multiply(zeros(e, G64, 1), zeros(e, G64, 1)), COSTS.multiply(1, R64)),
    "multiply in 20 bits": (
        lambda e: e.multiply(zeros(e, G20, N), zeros(e, G20, N)),
        COSTS.multiply(N, R20),
    ),
    "multiply reals": (
        lambda e: e.multiply(zeros(e, G64, N), zeros(e, G64, N), 16),
        COSTS.multiply(N, R64, 16),
    ),
    "matmul": (lambda e: e.matmul(zeros(e, G64, 5, 3), zeros(e, G64, 3, 7)), COSTS.multiply(35, R64)),
    "matmul of reals": (
        lambda e: e.matmul(zeros(e, G64, 5, 3), zeros(e, G64, 3, 7), 20),
        COSTS.multiply(35, R64, 20),
    ),
    "conjunction": (
        lambda e: e.conjunction(
            [(zeros(e, XOR, 5), zeros(e, XOR, 2, 5)), (zeros(e, XOR, 3), zeros(e, XOR, 3))]
        ),
        COSTS.conjunction(13),
    ),
    "open conjunction": (
        lambda e: e.open_conjunction(*(zeros(e, XOR, 5) for _ in range(3))),
        COSTS.open_conjunction(5),
    ),
    "exchange": (
        lambda e: e.exchange(zeros(e, XOR, 9), [(zeros(e, XOR, 3, 9), zeros(e, XOR, 3, 9))]),
        COSTS.exchange(27),
    ),
    "truncate": (lambda e: e.truncate(zeros(e, G64, N), 16), COSTS.truncate(N, R64, 16)),
    "truncate in 20 bits": (lambda e: e.truncate(zeros(e, G20, N), 5), COSTS.truncate(N, R20, 5)),
    "shift": (lambda e: e.shift(zeros(e, G64, N), 16), COSTS.shift(N, R64, 16)),
    "negative": (lambda e: e.negative(zeros(e, G64, N)), COSTS.negative(N, R64)),
    "negative in 20 bits": (lambda e: e.negative(zeros(e, G20, N)), COSTS.negative(N, R20)),
    "zero": (lambda e: e.zero(zeros(e, G64, N)), COSTS.zero(N, R64)),
    "to bits": (lambda e: e.to_bits(zeros(e, G20, N)), COSTS.to_bits(N, R20)),
    "from bits": (lambda e: e.from_bits(zeros(e, XOR, 2), G64, N), COSTS.from_bits(N, R64)),
    "shuffle": (
        lambda e: e.shuffle(zeros(e, G64, 2, 9, 3), zeros(e, XOR, 2, 9)),
        COSTS.shuffle(8 * 2 * 9 * 3, 8 * 2 * 9),
    ),
    "check": (lambda e: e.check(), COSTS.check()),
    "open to all": (lambda e: e.open(zeros(e, G64, N)), COSTS.open(8 * N, range(4))),
    "open to one and outside": (
        lambda e: e.open(zeros(e, G64, N), ["bob", "reader"]),
        COSTS.open(8 * N, [1], outside=[4]),
    ),
    "open each": (
        lambda e: e.open_each([(zeros(e, G64, N), ["bob"]), (zeros(e, G64, 3), ["bob", "dora"])]),
        COSTS.open(8 * N, [1]).beside(COSTS.open(8 * 3, [1, 3])),
    ),
    "input": (
        lambda e: e.input(G64, "cleo", (N,), np.zeros(N, np.uint64) if e.party.me == "cleo" else None),
        COSTS.input(8 * N, 2),
    ),
}


def cost_of(rounds, sent):
    return Cost(rounds, dict(zip(COMPUTING, sent, strict=True)))


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
    assert cost_of(*measured(operation, others)) == declared


def test_set_up_and_inputs_from_outside_cost_what_they_declare():
    async def program(party):
        await FourEngine.set_up(party, FOUR)
        return party.ledger.depth, party.ledger.total().sent.payload_bytes

    assert simulate(dict.fromkeys(FOUR, program)).values() == [(COSTS.set_up().rounds, 0)] * 4
    give = {"owner": lambda party: inputs.share_input(party, FOUR, G64, np.zeros(N, np.uint64))}
    rounds, sent = measured(lambda e: e.input(G64, "owner", (N,)), give)
    # An outside party's message leaves at depth 0, when the computing parties have counted rounds already.
    assert cost_of(rounds + 1, sent) == COSTS.input(8 * N, None)


@pytest.mark.parametrize("n", [4, 5, 6, 7, 64, 1001, 1 << 20])
def test_products_and_ands_send_at_most_1_6_times_what_they_do_among_three(n):
    three = max(COSTS_OF_THREE.multiply(n, R64).payload_bytes.values())
    for cost in (COSTS.multiply(n, R64), COSTS.conjunction(n)):
        assert max(cost.payload_bytes.values()) <= 1.6 * three
        assert sum(cost.payload_bytes.values()) == 6 * 8 * n
        assert cost.rounds == COSTS_OF_THREE.multiply(n, R64).rounds
    for frac_bits in (8, 16, 20, 32):
        reals, of_three = COSTS.multiply(n, R64, frac_bits), COSTS_OF_THREE.multiply(n, R64, frac_bits)
        # One element or word more where n is odd.
        assert max(reals.payload_bytes.values()) <= 1.5 * max(of_three.payload_bytes.values()) + 12
        assert reals.rounds == of_three.rounds
