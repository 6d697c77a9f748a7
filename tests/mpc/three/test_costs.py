"""Every operation costs what it declares: rounds by causal depth, payload bytes of each party exactly."""

from __future__ import annotations

import numpy as np
import pytest

from secagg.mpc.array import (
    SharedArray,
    bits_cost,
    equal_cost,
    from_bits,
    from_bits_cost,
    less_than_cost,
    rshift_cost,
    share_array,
    where,
    where_cost,
)
from secagg.mpc.bits import (
    Gates,
    SharedBits,
    add,
    add_gates,
    all_planes,
    any_plane,
    any_plane_gates,
    at_least,
    at_least_gates,
    less_than,
    less_than_gates,
)
from secagg.mpc.numbers import RING64, RingGroup
from secagg.mpc.three.comparison import msb, msb_cost
from secagg.mpc.three.costs import FREE, computing_cost, same_cost
from secagg.mpc.three.engine import ThreeEngine, input_cost, open_cost, outside_opener
from secagg.mpc.three.products import multiply_cost
from secagg.mpc.three.shuffle import SHUFFLE_ROUNDS, shuffle, shuffle_payload_bytes
from secagg.mpc.three.truncation import truncate, truncate_cost
from secagg.network.simulated import simulate
from secagg.ring import Ring

COMPUTING = ("ada", "bob", "cleo")
N = 1000  # no multiple of 64
WORDS = -(-N // 64)
R20 = Ring(20)


def numbers(engine, shape, *, ring=RING64, frac_bits=0):
    share = np.zeros(shape, ring.dtype)
    return SharedArray(engine, share, share, ring=ring, frac_bits=frac_bits)


def bits(engine, *shape):
    return SharedBits(engine, np.zeros(shape, np.uint64), np.zeros(shape, np.uint64))


def gates_cost(gates, words=WORDS):
    return same_cost(gates.rounds, 8 * words * gates.ands)


def shuffle_cost(nbytes):
    return same_cost(SHUFFLE_ROUNDS, shuffle_payload_bytes(nbytes))


async def scan(engine):
    """Truncate additive shares of a narrow ring."""
    return await truncate(engine, R20, np.zeros(N, R20.dtype), 5)


OPERATIONS = {
    "multiply": (lambda e: numbers(e, N) * numbers(e, N), multiply_cost(N)),
    "multiply by broadcasting": (lambda e: numbers(e, (20, 1)) * numbers(e, 50), multiply_cost(N)),
    "multiply nothing": (lambda e: numbers(e, 0) * numbers(e, 0), multiply_cost(0)),
    "multiply in 20 bits": (
        lambda e: numbers(e, N, ring=R20) * numbers(e, N, ring=R20),
        multiply_cost(N, ring=R20),
    ),
    "multiply fixed-point": (
        lambda e: numbers(e, N, frac_bits=16) * numbers(e, N, frac_bits=16),
        multiply_cost(N, frac_bits=16),
    ),
    "multiply fixed-point of 20 places": (
        lambda e: numbers(e, N, frac_bits=30) * numbers(e, N, frac_bits=20),
        multiply_cost(N, frac_bits=20),
    ),
    "matmul": (lambda e: numbers(e, (20, 30)) @ numbers(e, (30, 50)), multiply_cost(N)),
    "matmul fixed-point": (
        lambda e: numbers(e, (20, 3), frac_bits=9) @ numbers(e, (3, 50), frac_bits=9),
        multiply_cost(N, frac_bits=9),
    ),
    "scale": (lambda e: numbers(e, N, frac_bits=16).scale(0.5), multiply_cost(N, frac_bits=16)),
    "truncate in 20 bits": (scan, truncate_cost(N, R20, 5)),
    "shift to the right": (lambda e: numbers(e, N) >> 16, rshift_cost(N, 16)),
    "less than": (lambda e: numbers(e, N) < 5, less_than_cost(N)),
    "less than, many": (lambda e: numbers(e, 1 << 15) < 5, less_than_cost(1 << 15)),
    "less than in 20 bits": (lambda e: numbers(e, N, ring=R20) < 5, less_than_cost(N, ring=R20)),
    "top bit by digits of 2": (
        lambda e: msb(e, np.zeros(N, np.uint64), 64, digit_bits=2),
        msb_cost(N, 64, digit_bits=2),
    ),
    "equal": (lambda e: numbers(e, N) == 5, equal_cost(N)),
    "equal in 20 bits": (lambda e: numbers(e, N, ring=R20) == 5, equal_cost(N, ring=R20)),
    "from bits": (lambda e: from_bits(bits(e, WORDS), N), from_bits_cost(N)),
    "bits": (lambda e: numbers(e, N).bits(), bits_cost(N)),
    "bits in 20 bits": (lambda e: numbers(e, N, ring=R20).bits(), bits_cost(N, ring=R20)),
    "where by bits": (
        lambda e: where(bits(e, WORDS), numbers(e, N), numbers(e, N)),
        where_cost(N),
    ),
    "where by integers": (
        lambda e: where(numbers(e, N), numbers(e, N), 3),
        where_cost(N, from_packed_bits=False),
    ),
    "and": (lambda e: bits(e, 3, WORDS) & bits(e, 3, WORDS), gates_cost(Gates(3, 1))),
    "any plane": (lambda e: any_plane(bits(e, 13, WORDS)), gates_cost(any_plane_gates(13))),
    "all planes": (lambda e: all_planes(bits(e, 64, WORDS)), gates_cost(any_plane_gates(64))),
    "less than in slices": (
        lambda e: less_than(bits(e, 72, WORDS), bits(e, 72, WORDS)),
        gates_cost(less_than_gates(72)),
    ),
    "at least in slices": (lambda e: at_least(bits(e, 48, WORDS), 77), gates_cost(at_least_gates(48))),
    "add in slices": (lambda e: add([bits(e, 48, WORDS)] * 5), gates_cost(add_gates(48, 5))),
    "shuffle": (
        lambda e: shuffle(numbers(e, (2, 30, 4)), RingGroup(RING64)),
        shuffle_cost(8 * 2 * 30 * 4),
    ),
    "open to all": (lambda e: numbers(e, N).open(), open_cost(8 * N)),
    "open to one": (lambda e: numbers(e, N).open(["bob"]), open_cost(8 * N, [1])),
    "open to an outside party": (
        lambda e: numbers(e, N).open(["ada", "analyst"]),
        open_cost(8 * N, [0], outside_openers=[outside_opener((*COMPUTING, "analyst"), "analyst")]),
    ),
    "open bits": (lambda e: bits(e, WORDS).open(), open_cost(8 * WORDS)),
    "sum, compare with public numbers": (lambda e: free(e), FREE),
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
    declared = input_cost(8 * N, index)
    assert sent == tuple(declared.payload_bytes.values())
    # An outside party's message leaves at depth 0, when the computing parties have counted rounds already.
    assert rounds == declared.rounds - (index is None)


def measured(operation, analyst=None):
    """Return the rounds and the bytes sent by each computing party for an operation."""

    async def program(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        for _ in range(3):  # all three reach the same depth
            await numbers(engine, 1).open()
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
