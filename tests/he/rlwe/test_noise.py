from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import PlanError
from secagg.fixed_point import Plan
from secagg.he.rlwe import noise, sampling
from secagg.he.rlwe.keys import PublicKey, draw_secret, expand_seed, public_part
from secagg.he.rlwe.parameters import Parameters, parameters
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.products import multiply, transform_secret
from secagg.prg import Stream

SETS = [parameters(64), parameters(96), parameters(128)]
each_set = pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)


def integers_plan(sum_bits: int, parties: int, max_weight: int = 1) -> Plan:
    """A plan of integers whose sums take exactly so many bits."""
    largest = ((1 << (sum_bits - 1)) - 1) // (parties * max_weight)
    clip = float(largest if largest < 2**53 else 1 << (largest.bit_length() - 1))
    plan = Plan(64, 0, clip, parties, max_weight)
    assert plan.sum_bits == sum_bits
    return plan


def residuals(x: Polynomials) -> np.ndarray:
    """Coefficients as signed floats; they are small."""
    low = x.low.view(np.int64).astype(np.float64)
    if x.high is not None:
        assert np.all((x.high == 0) | (x.high == np.iinfo(x.high.dtype).max))
    return low.reshape(-1)


def encrypt_zeros(
    p: Parameters, holders: int, summands: int, blocks: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The noise in a sum of encryptions of zeros under the sum of several holders' keys, and what it may be."""
    rng = Stream(seed.to_bytes(32, "big"))
    public_seed = rng.bytes(32)
    secrets = [draw_secret(p, rng) for _ in range(holders)]
    parts = [public_part(p, public_seed, s, rng) for s in secrets]
    b = parts[0]
    for part in parts[1:]:
        b += part
    key = PublicKey(p, public_seed, b, holders=holders, flood_bits=0 if holders == 1 else 20)
    plan = integers_plan(20, summands)
    zeros = np.zeros(blocks * p.degree, np.uint64)
    total = key.encrypt_encoded(zeros, plan, rng=rng)
    for _ in range(summands - 1):
        total += key.encrypt_encoded(zeros, plan, rng=rng)
    x = total.c0.copy()
    for s in secrets:
        x += multiply(total.c1, transform_secret(s, p))
    # The variance given this key, exactly: the key's noise and the sum of secrets are what they are.
    e = b.copy()
    for s in secrets:
        e += multiply(expand_seed(p, public_seed), transform_secret(s, p))
    norm = np.sum(residuals(e) ** 2)
    together = np.sum(np.sum([s.astype(np.float64) for s in secrets], axis=0) ** 2)
    return residuals(x), summands * (2 / 3 * norm + 10.5 + 10.5 * together)


@each_set
@pytest.mark.parametrize(("holders", "summands"), [(1, 1), (3, 1), (1, 12), (4, 5)])
def test_measured_noise_is_that_of_the_formula(p: Parameters, holders: int, summands: int) -> None:
    found, given_key = encrypt_zeros(p, holders, summands, 8, 10 * holders + summands)
    expected = summands * float(noise.variance(p, holders))
    # 32,768 coefficients: the measured variance has a relative standard deviation of 0.8 %, the key's 1.2 %.
    assert math.isclose(np.var(found), given_key, rel_tol=0.035)
    assert math.isclose(np.var(found), expected, rel_tol=0.07)
    assert abs(np.mean(found)) < 5 * math.sqrt(expected / len(found))
    assert np.max(np.abs(found)) <= noise.worst_case(p, holders, summands)
    if holders == 1:
        assert np.max(np.abs(found)) <= noise.tail_bound(p, summands, len(found))
        assert noise.tail_bound(p, summands, len(found)) < 12 * math.sqrt(expected)


def test_noise_is_bounded_by_the_worst_case_where_all_signs_agree() -> None:
    p = parameters(64)
    # e u + e0 + e1 s with every number at its extreme: coefficient N - 1 of ones times ones is N.
    extreme = 21 * p.degree + 21 + 21 * p.degree
    assert noise.worst_case(p, 1, 1) == extreme
    assert noise.worst_case(p, 3, 7) == 7 * (2 * 3 * 21 * p.degree + 21)


def test_the_room_of_a_single_key_is_what_the_tail_needs() -> None:
    p = parameters(64)
    for sum_bits, most in ((48, 221), (46, 3542)):
        noise.check(integers_plan(sum_bits, most), p, coefficients=1 << 20)
        with pytest.raises(PlanError, match=rf"parties \* max_weight <= {most}.*parameters\(96\)"):
            noise.check(integers_plan(sum_bits, most + 1), p, coefficients=1 << 20)
        assert noise.largest_squares(integers_plan(sum_bits, 10), p, 1 << 20) == most


def test_a_thousand_summands_of_48_bits_are_refused_at_2_64() -> None:
    # Tried: of 102,400 such sums, 2 decode wrong.
    with pytest.raises(PlanError, match=r"sums of 48 bits leave 2\^15 for noise in a modulus of 64 bits"):
        noise.check(integers_plan(48, 1000), parameters(64), coefficients=102_400)
    noise.check(integers_plan(48, 1000), parameters(96), coefficients=102_400)


def test_longer_vectors_leave_less_room() -> None:
    plan, p = integers_plan(48, 225), parameters(64)
    noise.check(plan, p, coefficients=1 << 16)
    with pytest.raises(PlanError):
        noise.check(plan, p, coefficients=1 << 24)


def test_weights_count_as_summands() -> None:
    p = parameters(64)
    noise.check(integers_plan(48, 22, 10), p, coefficients=1 << 20)
    with pytest.raises(PlanError):
        noise.check(integers_plan(48, 23, 10), p, coefficients=1 << 20)


def test_what_is_offered_fits() -> None:
    p, plan = parameters(64), Plan(64, 20, 2.0**17, 1000)
    with pytest.raises(PlanError, match=r"frac_bits <= (\d+)") as caught:
        noise.check(plan, p, coefficients=1 << 20)
    offered = int(str(caught.value).split("frac_bits <= ")[1].split()[0])
    noise.check(Plan(64, offered, 2.0**17, 1000), p, coefficients=1 << 20)
    with pytest.raises(PlanError):
        noise.check(Plan(64, offered + 1, 2.0**17, 1000), p, coefficients=1 << 20)


@pytest.mark.parametrize(("bits", "sum_bits", "expected"), [(96, 36, 57), (128, 36, 89), (128, 64, 61)])
def test_flooding_takes_what_noise_leaves(bits: int, sum_bits: int, expected: int) -> None:
    p, plan = parameters(bits), integers_plan(sum_bits, 1000)
    most = noise.largest_flood_bits(plan, p, 3)
    assert most == expected
    noise.check(plan, p, coefficients=1 << 20, holders=3, flood_bits=most)
    with pytest.raises(PlanError, match=f"flood_bits <= {most}"):
        noise.check(plan, p, coefficients=1 << 20, holders=3, flood_bits=most + 1)


@given(
    bits=st.sampled_from([64, 96, 128]),
    sum_bits=st.integers(11, 64),
    holders=st.integers(1, 50),
    parties=st.integers(1, 1000),
)
@pytest.mark.slow
def test_the_largest_flooding_cannot_decode_wrong_and_more_could(
    bits: int, sum_bits: int, holders: int, parties: int
) -> None:
    p, plan = parameters(bits), integers_plan(sum_bits, parties)
    if bits == sum_bits:
        with pytest.raises(PlanError, match="leave nothing"):
            noise.largest_flood_bits(plan, p, holders)
        return
    half = 1 << (bits - sum_bits - 1)
    worst = 21 * parties * (2 * holders * p.degree + 1)
    try:
        most = noise.largest_flood_bits(plan, p, holders)
    except PlanError:
        assert worst + holders * 2 >= half
        return
    assert worst + holders * 2**most < half <= worst + holders * 2 ** (most + 1)
    max_left = noise.largest_residual(
        plan, p, holders=holders, flood_bits=most, weight=parties, squares=1, coefficients=1
    )
    assert max_left == worst + holders * 2**most


def test_a_residual_is_allowed_the_worst_case_where_that_decodes_right_and_else_the_tail() -> None:
    p, coefficients = parameters(64), 1 << 20
    roomy, tight = integers_plan(36, 100), integers_plan(46, 1000)
    assert noise.largest_residual(
        roomy, p, weight=100, squares=100, coefficients=coefficients
    ) == noise.worst_case(p, 1, 100)
    assert noise.largest_residual(
        tight, p, weight=100, squares=100, coefficients=coefficients
    ) == noise.tail_bound(p, 100, coefficients)


def test_too_wide_sums_are_refused() -> None:
    with pytest.raises(PlanError, match=r"leave nothing of a modulus of 64 bits.*parameters\(96\)"):
        noise.shift(integers_plan(64, 10), parameters(64))
    assert noise.shift(integers_plan(64, 10), parameters(96)) == 32


def test_the_noise_sampled_is_the_noise_reckoned_with() -> None:
    assert sampling.ETA == 21
    assert noise.variance(parameters(64), 1) == sampling.VARIANCE * (3 + 4 * 4096) / 3
