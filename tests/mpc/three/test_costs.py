"""Every operation costs what it declares: rounds by causal depth, payload bytes of each party exactly."""

from __future__ import annotations

import numpy as np
import pytest

from eager import SharedArray, from_bits, share_array, where
from secagg.mpc.bits import (
    add,
    add_gates,
    all_planes,
    any_plane,
    any_plane_gates,
    at_least,
    at_least_gates,
    conjunction,
    less_than,
    less_than_gates,
)
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RING64, RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three.comparison import msb
from secagg.mpc.three.costs import COSTS, computing_cost, msb_cost, same_cost
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.truncation import truncate
from secagg.network.simulated import simulate
from secagg.ring import Ring
from shared import opened

COMPUTING = ("ada", "bob", "cleo")
COMPUTING_AND = (*COMPUTING, "analyst")
N = 1000  # no multiple of 64
WORDS = -(-N // 64)
R20 = Ring(20)


def numbers(engine, shape, *, ring=RING64, frac_bits=0):
    share = np.zeros(shape, ring.dtype)
    return SharedArray(engine, RingGroup(ring), (share, share), frac_bits=frac_bits)


def bits(engine, *shape):
    return Shares(engine, XOR, (np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)))


def gates_cost(gates, words=WORDS):
    return same_cost(gates.rounds, 8 * words * gates.ands)


async def scan(engine):
    """Truncate additive shares of a narrow ring."""
    return await truncate(engine.channel, R20, np.zeros(N, R20.dtype), 5)


OPERATIONS = {
    "multiply": (lambda e: numbers(e, N) * numbers(e, N), COSTS.multiply(N, RING64)),
    "multiply by broadcasting": (lambda e: numbers(e, (20, 1)) * numbers(e, 50), COSTS.multiply(N, RING64)),
    "multiply nothing": (lambda e: numbers(e, 0) * numbers(e, 0), COSTS.multiply(0, RING64)),
    "multiply in 20 bits": (
        lambda e: numbers(e, N, ring=R20) * numbers(e, N, ring=R20),
        COSTS.multiply(N, R20),
    ),
    "multiply fixed-point": (
        lambda e: numbers(e, N, frac_bits=16) * numbers(e, N, frac_bits=16),
        COSTS.multiply(N, RING64, 16),
    ),
    "multiply fixed-point of 20 places": (
        lambda e: numbers(e, N, frac_bits=30) * numbers(e, N, frac_bits=20),
        COSTS.multiply(N, RING64, 20),
    ),
    "matmul": (lambda e: numbers(e, (20, 30)) @ numbers(e, (30, 50)), COSTS.multiply(N, RING64)),
    "matmul fixed-point": (
        lambda e: numbers(e, (20, 3), frac_bits=9) @ numbers(e, (3, 50), frac_bits=9),
        COSTS.multiply(N, RING64, 9),
    ),
    "scale": (lambda e: numbers(e, N, frac_bits=16).scale(0.5), COSTS.multiply(N, RING64, 16)),
    "truncate in 20 bits": (scan, COSTS.truncate(N, R20, 5)),
    "shift to the right": (lambda e: numbers(e, N) >> 16, COSTS.shift(N, RING64, 16)),
    "less than": (lambda e: numbers(e, N) < 5, COSTS.negative(N, RING64)),
    "less than, many": (lambda e: numbers(e, 1 << 15) < 5, COSTS.negative(1 << 15, RING64)),
    "less than in 20 bits": (lambda e: numbers(e, N, ring=R20) < 5, COSTS.negative(N, R20)),
    "top bit by digits of 2": (
        lambda e: msb(e.channel, e, np.zeros(N, np.uint64), 64, digit_bits=2),
        msb_cost(N, 64, digit_bits=2),
    ),
    "equal": (lambda e: numbers(e, N) == 5, COSTS.zero(N, RING64)),
    "equal in 20 bits": (lambda e: numbers(e, N, ring=R20) == 5, COSTS.zero(N, R20)),
    "from bits": (lambda e: from_bits(bits(e, WORDS), N), COSTS.from_bits(N, RING64)),
    "bits": (lambda e: numbers(e, N).bits(), COSTS.to_bits(N, RING64)),
    "bits in 20 bits": (lambda e: numbers(e, N, ring=R20).bits(), COSTS.to_bits(N, R20)),
    "where by bits": (
        lambda e: where(bits(e, WORDS), numbers(e, N), numbers(e, N)),
        COSTS.from_bits(N, RING64).then(COSTS.multiply(N, RING64)),
    ),
    "where by integers": (
        lambda e: where(numbers(e, N), numbers(e, N), 3),
        COSTS.multiply(N, RING64),
    ),
    "and": (lambda e: conjunction(bits(e, 3, WORDS), bits(e, 3, WORDS)), COSTS.conjunction(3 * WORDS)),
    "and, opened at once": (
        lambda e: e.open_conjunction(*(bits(e, 3, WORDS) for _ in range(3))),
        COSTS.open_conjunction(3 * WORDS),
    ),
    "any plane": (lambda e: any_plane(bits(e, 13, WORDS)), gates_cost(any_plane_gates(13))),
    "all planes": (lambda e: all_planes(bits(e, 64, WORDS)), gates_cost(any_plane_gates(64))),
    "less than in slices": (
        lambda e: less_than(bits(e, 72, WORDS), bits(e, 72, WORDS)),
        gates_cost(less_than_gates(72)),
    ),
    "at least in slices": (lambda e: at_least(bits(e, 48, WORDS), 77), gates_cost(at_least_gates(48))),
    "add in slices": (lambda e: add([bits(e, 48, WORDS)] * 5), gates_cost(add_gates(48, 5))),
    "shuffle": (
        lambda e: e.shuffle(numbers(e, (2, 30, 4)), numbers(e, (2, 30), ring=R20), bits(e, 2, 30, 3)),
        COSTS.shuffle(8 * 2 * 30 * 4, 4 * 2 * 30, 8 * 2 * 30 * 3),
    ),
    "exchange": (
        lambda e: e.exchange(
            bits(e, 5), [(bits(e, 7, 1, 3), bits(e, 7, 1, 3)), (bits(e, 7, 2), bits(e, 7, 2))]
        ),
        COSTS.exchange(7 * 5),
    ),
    "truncate": (lambda e: e.truncate(numbers(e, (10, 100)), 16), COSTS.truncate(N, RING64, 16)),
    "open several, each to its receivers": (
        lambda e: e.open_each([(bits(e, 5), ["ada"]), (bits(e, 7), ["bob", "ada"]), (bits(e, 9), COMPUTING)]),
        COSTS.open(8 * 21, [0]).beside(COSTS.open(8 * 16, [1]), COSTS.open(8 * 9, [2])),
    ),
    "check": (lambda e: e.check(), COSTS.check()),
    "open to all": (lambda e: opened(numbers(e, N)), COSTS.open(8 * N)),
    "open to one": (lambda e: opened(numbers(e, N), ["bob"]), COSTS.open(8 * N, [1])),
    "open to an outside party": (
        lambda e: opened(numbers(e, N), ["ada", "analyst"]),
        COSTS.open(8 * N, [0], outside=[COMPUTING_AND.index("analyst")]),
    ),
    "open bits": (lambda e: opened(bits(e, WORDS)), COSTS.open(8 * WORDS)),
    "sum, compare with public numbers": (lambda e: free(e), same_cost(0, 0)),
}


async def free(engine):
    x = numbers(engine, (20, 50))
    return (3 * x.T + 1 - x.sum()) @ np.ones(20, int)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_costs_what_it_declares(name):
    operation, declared = OPERATIONS[name]
    rounds, sent = measured(operation)
    assert computing_cost(rounds, sent) == declared


@pytest.mark.parametrize("owner", [*COMPUTING, "analyst"])
def test_input_costs_what_it_declares(owner):
    index = COMPUTING.index(owner) if owner in COMPUTING else None

    def operation(engine):
        value = np.zeros(N, np.uint64) if engine.party.me == owner else None
        return engine.input(RingGroup(RING64), owner, (N,), value)

    async def give(party):
        if index is None:
            await share_array(party, COMPUTING, np.zeros(N, np.uint64))

    rounds, sent = measured(operation, give)
    declared = COSTS.input(8 * N, index)
    assert sent == tuple(declared.payload_bytes.values())
    # An outside party's message leaves at depth 0, when the computing parties have counted rounds already.
    assert rounds == declared.rounds - (index is None)


def measured(operation, analyst=None):
    """Return the rounds and the bytes sent by each computing party for an operation."""

    async def program(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        for _ in range(3):  # all three reach the same depth
            await opened(numbers(engine, 1))
        before = party.ledger.total().sent.payload_bytes
        depth = party.ledger.depth
        await operation(engine)
        return depth, party.ledger.depth, party.ledger.total().sent.payload_bytes - before

    async def nothing(party):
        return None

    programs = dict.fromkeys(COMPUTING, program) | {"analyst": analyst or nothing}
    results = simulate(programs).values()[:3]
    depths = {depth for depth, _, _ in results}
    assert len(depths) == 1
    return max(after for _, after, _ in results) - depths.pop(), tuple(sent for _, _, sent in results)
