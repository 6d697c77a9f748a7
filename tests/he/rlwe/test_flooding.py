"""Flooding: its distribution, the bound on the statistical distance, and the planner that uses both."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import wire
from secagg.errors import PlanError, UsageError
from secagg.fixed_point import Plan
from secagg.he.rlwe import flooding, noise
from secagg.he.rlwe.flooding import (
    INFORMATION,
    MAX_FLOOD_BITS,
    MIN_FLOOD_BITS,
    ReleaseFields,
    ReleasePlan,
    plan_release,
)
from secagg.he.rlwe.parameters import parameters
from secagg.he.rlwe.polynomials import Polynomials
from secagg.prg import Stream

KEY = bytes(range(32))


def counts(width: int) -> list[int]:
    """How many ways four numbers in [0, width) have each sum."""

    def three(n: int) -> int:
        return n * (n - 1) * (n - 2) // 6 if n > 2 else 0

    return [
        sum(c * three(k - j * width + 3) for j, c in enumerate((1, -4, 6, -4))) for k in range(4 * width - 3)
    ]


def information(width: int) -> float:
    """J W^2 from the distribution itself."""
    roots = np.sqrt(np.array([0, *counts(width), 0], np.float64))
    return 4 * float(np.sum(np.diff(roots) ** 2)) / width**2


def bound(width: int, a: float = 0.8079) -> float:
    """The bound of J W^2 in the module's docstring, before it is rounded."""
    first = 0.75 * (width**2 + 2 * width - 3) + math.log(width + 1) / 2
    second = width**2 * (a + 4 / width**2 + 1.5 / width**4) / (1 - width**-2)
    return 2 * (4 + first + second) / width**2


def plan_of(bits: int, parties: int) -> Plan:
    """A plan whose sums take so many bits."""
    return Plan(64, 0, float((2 ** (bits - 1) - 1) // parties >> 11 << 11), parties)


def test_the_counted_distribution_is_that_of_four_uniform_numbers() -> None:
    ones = np.ones(7, np.int64)
    assert counts(7) == np.convolve(np.convolve(ones, ones), np.convolve(ones, ones)).tolist()


@pytest.mark.slow
def test_information_of_a_shift_is_below_the_constant_for_every_width_used() -> None:
    for width in (3, 16, 100, 1024, 1025, 4096, 50_000):
        assert information(width) <= bound(width)
    least = 1 << (MIN_FLOOD_BITS - 1)
    assert information(least) < bound(least) < INFORMATION
    # Every term of the bound that depends on the width falls with it.
    widths = [least * 2**i for i in range(80)]
    assert all(bound(b) < bound(a) < INFORMATION for a, b in itertools.pairwise(widths[:21]))
    assert all(bound(w) < INFORMATION for w in widths)
    assert information(50_000) > 3.1157  # the constant is near to the truth


def test_the_integral_in_the_proof_is_below_its_bound() -> None:
    # P'^2 / P on [1, 2]: P grows, P' grows to 4/3 and falls after, so the ends of small steps bound it.
    n = 300_000
    t = 1 + np.arange(n + 1) / n
    p = (t**3 - 4 * (t - 1) ** 3) / 6
    slope = (t**2 - 4 * (t - 1) ** 2) / 2
    assert np.all(np.diff(p) > 0)
    largest = np.maximum(slope[:-1], slope[1:])
    largest[(t[:-1] <= 4 / 3) & (t[1:] >= 4 / 3)] = 2 / 3
    assert float(np.sum(largest**2 / p[:-1])) / n < 0.8079


@pytest.mark.parametrize("shift", [(1, 0), (5, 0), (3, 4), (20, 7)])
def test_total_variation_of_a_shifted_product_is_below_the_bound(shift: tuple[int, int]) -> None:
    width = 32
    f = np.array(counts(width), np.float64) / width**4
    padded = np.pad(f, 40)
    joint = np.outer(padded, padded)
    moved = np.outer(np.roll(padded, shift[0]), np.roll(padded, shift[1]))
    distance = float(np.sum(np.abs(joint - moved))) / 2
    assert distance <= math.hypot(*shift) * math.sqrt(information(width)) / width / 2
    assert distance > 0


@pytest.mark.parametrize(
    ("modulus_bits", "flood_bits"), [(96, 11), (96, 57), (96, 62), (96, 63), (96, 83), (128, 94)]
)
def test_flooding_is_exactly_the_sum_of_four_uniform_numbers(modulus_bits: int, flood_bits: int) -> None:
    ring = parameters(modulus_bits)
    target = Polynomials.zeros(ring, 2)
    flooding.add(target, Stream(KEY), flood_bits)
    stream, bits, shape = Stream(KEY), flood_bits - 1, target.low.shape
    if flood_bits <= 62:
        drawn = [[int(x) >> (64 - bits) for x in stream.words(shape).reshape(-1)] for _ in range(4)]
    else:
        low = [stream.ring(shape, 32).reshape(-1).tolist() for _ in range(4)]
        high = [[int(x) >> (96 - bits) for x in stream.words(shape).reshape(-1)] for _ in range(4)]
        drawn = [[a + (b << 32) for a, b in zip(x, y, strict=True)] for x, y in zip(low, high, strict=True)]
    assert all(0 <= x < 1 << bits for row in drawn for x in row)
    expected = [sum(column) - 2 * ((1 << bits) - 1) for column in zip(*drawn, strict=True)]
    assert max(abs(x) for x in expected) < 1 << flood_bits
    got = [
        low + (high << 64) for low, high in zip(*(w.reshape(-1).tolist() for w in target.words), strict=True)
    ]
    assert got == [x % (1 << modulus_bits) for x in expected]


@pytest.mark.parametrize("flood_bits", [57, 80])
def test_flooding_has_the_variance_of_its_distribution(flood_bits: int) -> None:
    target = Polynomials.zeros(parameters(96), 16)
    flooding.add(target, Stream(KEY), flood_bits)
    # Half a unit of 2^(F - 30) is lost to rounding.
    values = target.round_off(flood_bits - 30).values.view(np.int64).astype(np.float64) / 2.0**30
    # In units of 2^F: a width of 1/2 each, so a variance of 4/48. 65,536 samples; five standard errors.
    assert abs(float(np.mean(values))) < 5 * math.sqrt(1 / 12 / values.size)
    assert abs(float(np.var(values)) * 12 - 1) < 5 * math.sqrt(2 / values.size)
    assert float(np.max(np.abs(values))) < 1


def test_flooding_adds_to_what_is_there_and_differs_with_the_key() -> None:
    ring = parameters(128)
    flood, other = Polynomials.zeros(ring, 1), Polynomials.zeros(ring, 1)
    flooding.add(flood, Stream(KEY), 89)
    flooding.add(other, Stream(KEY[::-1]), 89)
    assert not np.any(flood.low == other.low)
    start = Polynomials(ring, Stream(KEY).words((1, 8192)), Stream(KEY).words((1, 8192)))
    total = start.copy()
    flooding.add(total, Stream(KEY), 89)
    total -= flood
    assert total == start


@pytest.mark.parametrize("flood_bits", [MIN_FLOOD_BITS - 1, MAX_FLOOD_BITS + 1])
def test_flooding_out_of_range_is_refused(flood_bits: int) -> None:
    with pytest.raises(UsageError, match="expected flooding of 11 to 94 bits"):
        flooding.add(Polynomials.zeros(parameters(96), 1), Stream(KEY), flood_bits)


@pytest.mark.parametrize(
    ("modulus_bits", "sum_bits", "blocks", "flood_bits", "distance"),
    [
        (96, 36, 1, 57, -36.50),
        (96, 36, 1 << 8, 57, -32.50),
        (96, 36, 1 << 15, 57, -29.00),
        (128, 36, 1 << 15, 89, -60.00),
        (128, 64, 1 << 15, 61, -32.00),
    ],
)
def test_known_distances(
    modulus_bits: int, sum_bits: int, blocks: int, flood_bits: int, distance: float
) -> None:
    ring = parameters(modulus_bits)
    found = plan_release(
        plan_of(sum_bits, 1000),
        holders=3,
        releases=1,
        length=blocks * ring.degree,
        statistical_bits=0,
        modulus_bits=modulus_bits,
    )
    deviation = math.sqrt(1000 * 10.5 * (1 + 4 * 3 * ring.degree / 3))
    by_hand = deviation * math.sqrt(3.12 * blocks * ring.degree) / 2 / 2 ** (flood_bits - 1)
    assert found.flood_bits == flood_bits
    assert found.log2_distance == distance
    assert math.log2(by_hand) < found.log2_distance < math.log2(by_hand) + 0.0101
    assert f"2^{distance:.2f} over all" in str(found)


@settings(max_examples=60, deadline=None)
@given(
    sum_bits=st.integers(20, 64),
    parties=st.integers(2, 5000) | st.integers(5000, 2**40),
    holders=st.integers(2, 12),
    releases=st.integers(1, 10_000),
    length=st.integers(1, 10**7),
    statistical_bits=st.integers(20, 64),
)
@pytest.mark.slow
def test_a_plan_decodes_surely_and_keeps_its_distance_or_is_refused(
    sum_bits: int, parties: int, holders: int, releases: int, length: int, statistical_bits: int
) -> None:
    plan = Plan(64, 0, float(max(1, (2 ** (sum_bits - 1) - 1) // parties >> 11 << 11)), parties)
    try:
        found = plan_release(
            plan, holders=holders, releases=releases, length=length, statistical_bits=statistical_bits
        )
    except PlanError:
        return
    worst = noise.worst_case(found.parameters, holders, plan.parties) + holders * 2**found.flood_bits
    assert worst < 2 ** (found.parameters.modulus_bits - plan.sum_bits - 1)
    assert found.squared_distance <= Fraction(1, 4**statistical_bits)
    assert found.log2_distance <= -statistical_bits


def test_the_smaller_ring_is_taken_while_it_hides_enough() -> None:
    narrow, wide = plan_of(32, 1000), plan_of(36, 1000)
    few = plan_release(narrow, holders=3, releases=1, length=4096)
    assert few.parameters.modulus_bits == 96
    assert plan_release(narrow, holders=3, releases=10, length=4096).parameters.modulus_bits == 128
    assert plan_release(wide, holders=3, releases=1, length=4096).parameters.modulus_bits == 128


def test_a_refusal_says_what_would_fit() -> None:
    plan = plan_of(34, 1000)

    def attempt(releases: int, statistical_bits: int, modulus_bits: int | None = 96) -> ReleasePlan:
        return plan_release(
            plan,
            holders=3,
            releases=releases,
            length=4096,
            statistical_bits=statistical_bits,
            modulus_bits=modulus_bits,
        )

    with pytest.raises(
        PlanError, match=r"releases <= 31 .*statistical_bits <= 33, or modulus_bits=128"
    ) as refused:
        attempt(1000, 36)
    assert "2^-33.51 over all" in str(refused.value)
    assert attempt(31, 36).log2_distance <= -36
    assert attempt(1000, 33).log2_distance <= -33
    assert attempt(1000, 36, 128).log2_distance <= -36
    with pytest.raises(PlanError, match="statistical_bits <= 39, or plan smaller sums"):
        plan_release(plan_of(64, 1000), holders=3, releases=1, length=8192)
    with pytest.raises(PlanError, match=r"no room for flooding at q=2\^96.*or modulus_bits=128"):
        plan_release(plan_of(64, 2**40), holders=3, releases=1, length=1, modulus_bits=96)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"holders": 1}, UsageError, "holders is a Python int of at least 2"),
        ({"releases": 0}, UsageError, "releases is a Python int of at least 1"),
        ({"length": 1.5}, UsageError, "length is a Python int"),
        ({"parameters": parameters(64)}, UsageError, "96 or 128 bits, not 64"),
        ({"flood_bits": 58}, PlanError, "expected flooding of 11 to 57 bits, got 58"),
        ({"flood_bits": 0}, PlanError, "expected flooding of 11 to 57 bits, got 0"),
    ],
)
def test_a_release_plan_that_cannot_be_is_refused(
    changes: dict[str, Any], error: type[UsageError], message: str
) -> None:
    good = ReleasePlan(parameters(96), plan_of(36, 1000), 3, 1, 100, 57)
    with pytest.raises(error, match=message):
        replace(good, **changes)


def test_another_modulus_is_refused() -> None:
    with pytest.raises(UsageError, match="96 or 128 bits, not 64"):
        plan_release(plan_of(36, 10), holders=3, releases=1, length=1, modulus_bits=64)


def test_a_release_plan_comes_back_from_its_message() -> None:
    plan = ReleasePlan(parameters(128), plan_of(36, 1000), 3, 7, 12345, 80)
    data = wire.to_bytes(plan.to_fields())
    assert ReleasePlan.from_fields(wire.from_bytes(data, ReleaseFields)) == plan
