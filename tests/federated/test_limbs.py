"""Numbers in limbs: exact sums, and sums of limbs that tell nothing beyond the total."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg.errors import PlanError
from secagg.federated.limbs import Limbs, distance, shortest
from secagg.prg import Stream, system_stream

wide = st.floats(-(2.0**63), 2.0**63)


@pytest.mark.slow
@given(st.lists(st.tuples(wide, wide, st.integers(0, 2**20)), min_size=1, max_size=4), st.integers(44, 64))
def test_limbs_add_numbers_of_any_size_exactly(rows: list[tuple[float, float, int]], bits: int) -> None:
    limbs = Limbs(2, max_weight=2**20, nodes=4, ring_bits=bits)
    parts = [limbs.encode(row[:2], row[2]) for row in rows]
    total, weight = np.sum(parts, axis=0), sum(row[2] for row in rows)
    assert np.all(np.abs(total) < 2 ** (bits - 1))  # nothing leaves the ring
    if weight:
        for i, mean in enumerate(limbs.decode(total, weight)):
            rounded = [Fraction(round(Fraction(row[i]) * 2**32), 2**32) * row[2] for row in rows]
            assert mean == float(sum(rounded) / weight)


class Given:
    """Draws what it is given, in place of a stream."""

    def __init__(self, draws: NDArray[np.int64]) -> None:
        self.draws = draws

    def signed(self, _: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return self.draws.reshape(shape)


def opened(limbs: Limbs, numbers: list[float], draws: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the sums of limbs of one number of each node, by the nodes' draws."""
    rngs = [cast(Any, Given(row)) for row in draws]
    return np.sum(
        [limbs.encode([x], 1, rng=cast(Stream, rng)) for x, rng in zip(numbers, rngs, strict=True)], axis=0
    )


@pytest.mark.slow
@given(st.lists(st.integers(-(2**40), 2**40), min_size=4, max_size=4), st.integers(0, 2**40))
def test_equal_totals_open_alike_with_draws_that_differ_by_less_than_the_number_of_nodes(
    numbers: list[int], moved: int
) -> None:
    limbs = Limbs(1, max_weight=1, nodes=4, ring_bits=64)
    others = [numbers[0] - moved, numbers[1] + moved, *numbers[2:]]
    none = [np.zeros(limbs.length - 1, np.int64)] * 4
    here, there = (opened(limbs, [float(x) for x in case], none) for case in (numbers, others))
    shift, carry = [], 0
    for difference in (here - there).tolist()[:-1]:
        carry, rest = divmod(difference + carry, 1 << limbs.bits)
        assert rest == 0
        shift.append(carry)
    assert max(map(abs, shift)) < 4
    draws = [system_stream().signed(limbs.bound, limbs.length - 1) for _ in numbers]
    shifted = [draws[0] + np.array(shift), *draws[1:]]
    assert np.array_equal(
        opened(limbs, [float(x) for x in numbers], draws), opened(limbs, [float(x) for x in others], shifted)
    )


@pytest.mark.parametrize("numbers", [[0.05, 0.03, 0.03, -0.01, 0.01], [-0.4, -0.4, -0.4, 0.25, 0.25]])
def test_the_sum_of_last_limbs_does_not_count_negative_numbers(numbers: list[float]) -> None:
    limbs = Limbs(1, max_weight=1000, nodes=5, ring_bits=64)
    total = np.sum([limbs.encode([x], 10) for x in numbers], axis=0)
    # 2^-40 or so: a sum of draws as near to zero as a count of nodes is.
    assert np.all(np.abs(total) > 5)


@pytest.mark.parametrize("nodes", range(2, 8))
@pytest.mark.parametrize("bound", [2, 3, 8, 40])
def test_sums_of_draws_hide_every_carry_as_well_as_is_claimed(nodes: int, bound: int) -> None:
    one = np.full(2 * bound + 1, 1 / (2 * bound + 1))
    total = np.ones(1)
    for _ in range(nodes):
        total = np.convolve(total, one)

    def shifted(by: int) -> NDArray[np.float64]:
        return np.pad(total, (by, nodes - by))

    assert total.max() <= math.sqrt(2 / nodes) / (2 * bound + 1) + 1e-12
    worst = max(np.abs(shifted(c) - shifted(nodes // 2)).sum() / 2 for c in range(nodes))
    assert worst <= distance(2, nodes, bound) + 1e-12


@pytest.mark.parametrize("nodes", [2, 3, 5, 100, 1000])
@pytest.mark.parametrize("others", [0, 10**6])
def test_limbs_hide_to_40_bits_and_no_sum_leaves_the_ring(nodes: int, others: int) -> None:
    most = max(1, 2**28 // nodes)
    bits = shortest(3, others, max_weight=most, nodes=nodes, ring_bits=20)
    limbs = Limbs(3, max_weight=most, nodes=nodes, ring_bits=bits)
    assert distance(limbs.length // 3, nodes, limbs.bound) <= 2.0**-40
    # The largest limb: a full digit, and the draws at their ends.
    assert nodes * (limbs.bound * (2**limbs.bits + 1) + 2**limbs.bits) < 2 ** (bits - 1)


def test_where_carries_cannot_be_hidden_metrics_are_refused() -> None:
    with pytest.raises(PlanError, match="cannot hide"):
        Limbs(1, max_weight=1, nodes=5, ring_bits=32)
    with pytest.raises(PlanError, match="send metrics as an array"):
        shortest(1, 0, max_weight=1, nodes=10**7, ring_bits=20)
    assert Limbs(1, max_weight=1, nodes=10**4, ring_bits=64).hiding == 30
