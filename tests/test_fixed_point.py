"""Fixed-point numbers: plans, rounding and sums err by what is stated, and what does not fit is refused.

The module is long because one list of plans serves every claim.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secagg.errors import PlanError, RangeError, ShapeError, UsageError
from secagg.fixed_point import Encoded, Plan, decode, encode, plan
from secagg.prg import Stream

KEY = bytes(32)
# One plan for each ring, and one whose encoded numbers are too large for the fast rounding.
PLANS = [
    plan(clip=3.0, frac_bits=2, parties=10),
    plan(clip=3.0, frac_bits=8, parties=10),
    plan(clip=100.0, frac_bits=16, parties=20),
    plan(clip=100.0, frac_bits=24, parties=20),
    plan(clip=1000.0, frac_bits=48, parties=20),
]


def integers(encoded: Encoded, p: Plan) -> list[int]:
    return p.ring.to_signed(encoded.values).tolist()


def scaled(x: float, p: Plan) -> Fraction:
    return Fraction(x) * (1 << p.frac_bits)


plans = st.builds(
    lambda bits, frac, share, parties, weight: (bits, frac, share, parties, weight),
    st.sampled_from([8, 16, 32, 64]),
    st.integers(0, 60),
    st.floats(0.01, 1.0),
    st.integers(1, 50),
    st.integers(1, 9),
)


def largest_plan(bits: int, frac_bits: int, share: float, parties: int, weight: int) -> Plan | None:
    """Return a plan that fills `share` of the ring, or None where nothing fits."""
    most = ((1 << (bits - 1)) - 1) // (parties * weight)
    clip = math.ldexp(most, -frac_bits) * share * (1 - 2**-40)
    if not clip or Fraction(clip) * (1 << frac_bits) > most:
        return None
    return Plan(bits=bits, frac_bits=frac_bits, clip=clip, parties=parties, max_weight=weight)


# Planner


def test_planner_takes_the_smallest_ring_that_holds_the_sums() -> None:
    # 127 is the largest number of an 8-bit ring, and so on.
    for bits in (8, 16, 32):
        most = (1 << (bits - 1)) - 1
        assert plan(clip=1.0, frac_bits=0, parties=most).bits == bits
        assert plan(clip=1.0, frac_bits=0, parties=most + 1).bits == 2 * bits
        assert plan(clip=1.0, frac_bits=0, parties=1, max_weight=most + 1).bits == 2 * bits
    assert plan(clip=1.0, frac_bits=0, parties=(1 << 63) - 1).bits == 64
    with pytest.raises(PlanError):
        plan(clip=1.0, frac_bits=0, parties=1 << 63)


@pytest.mark.parametrize(("parties", "bits"), [(1, 2), (3, 3), (4, 4), (127, 8), (128, 9), (1000, 11)])
def test_sum_bits_is_exact(parties: int, bits: int) -> None:
    assert plan(clip=1.0, frac_bits=0, parties=parties).sum_bits == bits


@pytest.mark.slow
@settings(max_examples=200)
@given(st.floats(1e-12, 0.4))
def test_precision_is_met_with_the_fewest_places(precision: float) -> None:
    p = plan(clip=1.0, precision=precision, parties=3)
    assert p.error() <= precision
    assert p.frac_bits == 0 or 2 * p.error() > precision


def test_precision_at_powers_of_two_and_beyond_one() -> None:
    assert plan(clip=1.0, precision=2.0**-11, parties=3).frac_bits == 10
    assert plan(clip=1.0, precision=0.5, parties=3).frac_bits == 0
    assert plan(clip=1.0, precision=100.0, parties=3).frac_bits == 0


def test_refusal_says_how_much_is_left_and_what_would_fit() -> None:
    with pytest.raises(PlanError) as caught:
        plan(clip=1000.0, frac_bits=52, parties=20)
    assert str(caught.value) == (
        "frac_bits=52 with clip=1000.0 takes 63 bits a number and leaves 1 of 64 for 20 parties, who need 5;"
        " use frac_bits <= 48 (precision >= 1.7763568394002505e-15) or clip <= 102.39999999999999"
    )
    with pytest.raises(PlanError, match=r"of 16 for 20 parties with weights up to 7, .* or bits=32$"):
        plan(clip=1000.0, frac_bits=10, parties=20, max_weight=7, bits=16)
    with pytest.raises(PlanError, match=r"use fewer parties, smaller weights or a smaller clip$"):
        plan(clip=1e30, frac_bits=0, parties=1 << 63)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.floats(1e-6, 1e12),
    st.integers(0, 80),
    st.integers(1, 10**6),
    st.integers(1, 1000),
    st.sampled_from([None, 8, 16, 32]),
)
def test_what_a_refusal_suggests_fits_and_no_more_does(
    clip: float, frac_bits: int, parties: int, weight: int, bits: int | None
) -> None:
    given_: dict[str, Any] = {"parties": parties, "max_weight": weight, "bits": bits}
    try:
        plan(clip=clip, frac_bits=frac_bits, **given_)
    except PlanError as error:
        message = str(error)
    else:
        assume(False)
    if found := re.search(r"frac_bits <= (\d+)", message):
        plan(clip=clip, frac_bits=int(found[1]), **given_)
        with pytest.raises(PlanError):
            plan(clip=clip, frac_bits=int(found[1]) + 1, **given_)
    if found := re.search(r"clip <= (\S+?)( or|$)", message):
        plan(clip=float(found[1]), frac_bits=frac_bits, **given_)
        with pytest.raises(PlanError):
            plan(clip=float(found[1]) * (1 + 2**-50), frac_bits=frac_bits, **given_)
    if found := re.search(r"bits=(\d+)$", message):
        plan(clip=clip, frac_bits=frac_bits, **(given_ | {"bits": int(found[1])}))


@pytest.mark.parametrize(
    "change",
    [
        {"clip": 0.0},
        {"clip": -1.0},
        {"clip": math.inf},
        {"clip": math.nan},
        {"frac_bits": -1},
        {"frac_bits": 1001},
        {"frac_bits": np.int64(3)},
        {"parties": 0},
        {"parties": np.int64(3)},
        {"max_weight": 0},
        {"bits": 24},
        {"frac_bits": None, "precision": 0.0},
        {"frac_bits": None, "precision": math.nan},
    ],
)
def test_planner_refuses_arguments_out_of_range(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        plan(**({"clip": 1.0, "frac_bits": 3, "parties": 3} | change))


def test_planner_wants_precision_or_frac_bits() -> None:
    for both in ({}, {"precision": 0.1, "frac_bits": 3}):
        with pytest.raises(UsageError, match="one of the two"):
            plan(clip=1.0, parties=3, **both)  # type: ignore[arg-type]


def test_a_plan_cannot_be_built_around_the_planner() -> None:
    with pytest.raises(PlanError, match="use frac_bits <= 3"):
        Plan(bits=8, frac_bits=4, clip=1.0, parties=15)


# Rounding


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(plans, st.lists(st.floats(-1.0, 1.0), max_size=20))
def test_nearest_encoding_is_the_exact_rounding_and_meets_its_bound(
    parts: tuple[int, int, float, int, int], numbers: list[float]
) -> None:
    p = largest_plan(*parts)
    assume(p is not None)
    assert p is not None
    x = np.array(numbers, np.float64) * p.clip
    encoded = encode(x, p)
    assert encoded.clipped == 0
    # Python rounds fractions as IEEE does, ties to even.
    assert integers(encoded, p) == [round(scaled(v, p)) for v in x.tolist()]
    for v, back in zip(x.tolist(), decode(encoded.values, p).tolist(), strict=True):
        exact = Fraction(round(scaled(v, p)), 1 << p.frac_bits)
        assert back == float(exact)
        assert abs(exact - Fraction(v)) <= Fraction(p.error())


@pytest.mark.parametrize("p", PLANS, ids=str)
def test_nearest_rounding_takes_ties_to_even_and_reaches_its_bound(p: Plan) -> None:
    unit = 2.0**-p.frac_bits
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999, -0.50001]) * unit
    assert integers(encode(x, p), p) == [-2, -2, 0, 0, 2, 2, 0, -1]
    assert abs(decode(encode(x[:6], p).values, p) - x[:6]).max() == p.error("nearest")


@pytest.mark.parametrize("p", PLANS, ids=str)
def test_stochastic_rounding_stays_within_one_unit_and_keeps_exact_numbers(p: Plan) -> None:
    x = np.random.default_rng(1).uniform(-p.clip, p.clip, 3000)
    values = integers(encode(x, p, rounding="stochastic", rng=Stream(KEY)), p)
    units = [scaled(v, p) for v in x.tolist()]
    assert all(abs(a - b) < 1 for a, b in zip(values, units, strict=True))
    assert p.error("stochastic") == 2.0**-p.frac_bits
    exact = np.arange(-5, 6) * 2.0**-p.frac_bits
    assert integers(encode(exact, p, rounding="stochastic"), p) == list(range(-5, 6))


def test_stochastic_rounding_keeps_exact_numbers_even_when_zero_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p = PLANS[2]
    unit = 2.0**-p.frac_bits
    x = np.array([-3.0, 0.0, 3.0, -2.5, 2.5]) * unit
    monkeypatch.setattr(Stream, "words", lambda self, n: np.zeros(n, np.uint64))
    assert integers(encode(x, p, rounding="stochastic"), p) == [-3, 0, 3, -2, 3]
    monkeypatch.setattr(Stream, "words", lambda self, n: np.full(n, (1 << 64) - 1, np.uint64))
    assert integers(encode(x, p, rounding="stochastic"), p) == [-3, 0, 3, -3, 2]


@pytest.mark.parametrize("p", PLANS[:4], ids=str)
@pytest.mark.parametrize("fraction", [0.5, 0.25, 0.9, 0.01])
@pytest.mark.parametrize("sign", [1, -1])
def test_stochastic_rounding_is_unbiased(p: Plan, fraction: float, sign: int) -> None:
    n = 100_000
    x = np.full(n, sign * (3 + fraction) * 2.0**-p.frac_bits)
    values = np.array(integers(encode(x, p, rounding="stochastic", rng=Stream(KEY)), p))
    assert set(values.tolist()) == {sign * 3, sign * 4}
    away = int((values == sign * 4).sum())
    # Five standard deviations: one false alarm in 1.7 million keys, and this key is fixed.
    assert abs(away - n * fraction) < 5 * math.sqrt(n * fraction * (1 - fraction))


def test_stochastic_rounding_is_reproducible_from_the_stream_and_fresh_without() -> None:
    p = PLANS[2]
    x = np.random.default_rng(1).uniform(-1, 1, 100_000)
    one, two = (encode(x, p, rounding="stochastic", rng=Stream(KEY)).values for _ in range(2))
    assert (one == two).all()
    other, another = (encode(x, p, rounding="stochastic").values for _ in range(2))
    assert (other != another).any()
    assert (other != one).any()


# Sums


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(plans, st.sampled_from([1, -1]), st.sampled_from(["nearest", "stochastic"]))
def test_sums_at_the_extreme_never_wrap(
    parts: tuple[int, int, float, int, int], sign: int, rounding: Any
) -> None:
    p = largest_plan(*parts)
    assume(p is not None)
    assert p is not None
    x = np.full(3, sign * p.clip)
    total = np.zeros(3, p.ring.dtype)
    for _ in range(p.parties):
        total += encode(x, p, rounding=rounding).values * p.ring.dtype.type(p.max_weight)
    weight = p.parties * p.max_weight
    exact = weight * Fraction(sign * p.clip)
    for value in p.ring.to_signed(total).tolist():
        assert abs(Fraction(value, 1 << p.frac_bits) - exact) <= Fraction(p.error(rounding, summands=weight))
        assert value.bit_length() + 1 <= p.sum_bits
    assert decode(total, p).tolist() == [
        float(Fraction(v, 1 << p.frac_bits)) for v in p.ring.to_signed(total).tolist()
    ]


def test_a_weighted_sum_decodes_within_its_bound() -> None:
    p = plan(clip=10.0, precision=1e-6, parties=50, max_weight=1000)
    made_up = np.random.default_rng(5)
    x = made_up.uniform(-10, 10, (50, 200))
    weights = made_up.integers(1, 1001, 50)
    scaled = [encode(row, p).values * p.ring.dtype.type(w) for row, w in zip(x, weights, strict=True)]
    total = np.sum(scaled, axis=0, dtype=p.ring.dtype)
    summands = int(weights.sum())
    exact = [
        sum(Fraction(v) * int(w) for v, w in zip(column, weights, strict=True)) for column in x.T.tolist()
    ]
    decoded = decode(total, p, summands=summands)
    worst = max(abs(Fraction(d) - e) for d, e in zip(decoded.tolist(), exact, strict=True))
    assert 0 < worst <= Fraction(p.error(summands=summands))


def test_decode_refuses_sums_that_no_planned_numbers_give() -> None:
    p = plan(clip=1.0, frac_bits=4, parties=3)
    assert decode(np.array([48, 256 - 48], np.uint8), p).tolist() == [3.0, -3.0]
    for value in (49, 256 - 49):
        with pytest.raises(RangeError, match=r"1 of 2 elements are no sum of 3 numbers within \+-1\.0"):
            decode(np.array([0, value], np.uint8), p)
    with pytest.raises(RangeError, match="no sum of 2 numbers"):
        decode(np.array([48], np.uint8), p, summands=2)
    for summands in (-1, 4):
        with pytest.raises(RangeError, match="weight 0 to 3"):
            decode(np.zeros(1, np.uint8), p, summands=summands)


# Range


@pytest.mark.parametrize("p", PLANS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("out_of_range", ["raise", "clip"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_and_infinity_are_refused(p: Plan, bad: float, out_of_range: Any, dtype: Any) -> None:
    x = np.zeros((300, 400), dtype)
    x[250, 7] = x[299, 399] = bad
    with pytest.raises(
        RangeError, match=r"2 of 120000 numbers are NaN or infinite, the first at index \[250, 7\]"
    ):
        encode(x, p, out_of_range=out_of_range)


@pytest.mark.parametrize("p", PLANS, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_range_ends_exactly_at_clip(p: Plan, sign: int) -> None:
    x = np.zeros(70_000)
    x[69_999] = sign * p.clip
    encode(x, p)
    x[69_999] = sign * np.nextafter(p.clip, math.inf)
    with pytest.raises(
        RangeError, match=rf"1 of 70000 numbers lie beyond \+-{p.clip}, the first at index \[69999\]"
    ):
        encode(x, p)
    clipped = encode(x, p, out_of_range="clip")
    assert clipped.clipped == 1
    assert integers(clipped, p)[-1] == sign * p.limit


def test_clipping_moves_numbers_to_the_bound_and_counts_them() -> None:
    p = plan(clip=2.0, frac_bits=8, parties=3)
    encoded = encode(np.array([[-9.0, -2.0], [1.0, 2.5]]), p, out_of_range="clip")
    assert encoded.clipped == 2
    assert decode(encoded.values, p).tolist() == [[-2.0, -2.0], [1.0, 2.0]]
    whole = np.tile(np.array([3.0, 0.0]), 100_000)
    assert encode(whole, p, out_of_range="clip").clipped == 100_000


def test_a_border_between_two_short_floats_is_kept() -> None:
    # float32(0.1) is above 0.1: it lies beyond the border, by less than float32 could tell.
    p = plan(clip=0.1, frac_bits=30, parties=3)
    x = np.array([0.1, -0.1, 0.0], np.float32)
    with pytest.raises(RangeError, match="2 of 3 numbers"):
        encode(x, p)
    assert encode(x, p, out_of_range="clip").clipped == 2
    p = plan(clip=1e6, frac_bits=3, parties=3)  # beyond float16
    assert encode(np.array([-60000, 60000], np.float16), p, out_of_range="clip").clipped == 0


def test_errors_and_repr_never_show_a_number() -> None:
    p = plan(clip=2.0, frac_bits=8, parties=3)
    with pytest.raises(RangeError) as caught:
        encode(np.array([0.0, 7654.25]), p)
    assert "7654" not in str(caught.value)
    with pytest.raises(RangeError) as caught:
        decode(np.array([31234], np.uint16), p)
    assert "31234" not in str(caught.value)
    assert repr(encode(np.array([1.0]), p)) == "Encoded(clipped=0)"


# Input and output arrays


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
@pytest.mark.parametrize("frac_bits", [0, 5])
def test_integers_are_encoded_exactly(dtype: Any, frac_bits: int) -> None:
    info = np.iinfo(dtype)
    p = plan(clip=2.0**50, frac_bits=frac_bits, parties=1)
    low, high = max(info.min, -(1 << 50)), min(info.max, 1 << 50)
    for rounding in ("nearest", "stochastic"):
        encoded = encode(np.array([low, 0, 1, high], dtype), p, rounding=rounding)
        assert integers(encoded, p) == [v << frac_bits for v in (low, 0, 1, high)]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_integers_beyond_the_range_are_refused_or_clipped(dtype: Any) -> None:
    info = np.iinfo(dtype)
    p = plan(clip=100.9, frac_bits=2, parties=3)
    x = np.array([info.min, 100, info.max], dtype)
    beyond = 1 if info.min == 0 else 2
    with pytest.raises(RangeError, match=f"{beyond} of 3 numbers lie beyond"):
        encode(x, p)
    encoded = encode(x, p, out_of_range="clip")
    assert encoded.clipped == beyond
    assert integers(encoded, p) == [max(info.min, -100) * 4, 400, 400]


def test_integers_that_float64_cannot_tell_from_the_border_are_refused() -> None:
    p = plan(clip=2.0**53, frac_bits=0, parties=1)
    x = np.array([2**53 + 1, -(2**53) - 1, 2**53], np.int64)
    with pytest.raises(RangeError, match="2 of 3 numbers"):
        encode(x, p)
    encoded = encode(x, p, out_of_range="clip")
    assert encoded.clipped == 2
    assert integers(encoded, p) == [2**53, -(2**53), 2**53]


def test_clipping_integers_holds_where_the_bound_exceeds_their_dtype() -> None:
    p = plan(clip=127.0, frac_bits=0, parties=1)
    x = np.array([-128, 127], np.int8)
    assert encode(x, p, out_of_range="clip").clipped == 1
    p = plan(clip=2.0**40, frac_bits=0, parties=1)
    assert integers(encode(x, p, out_of_range="clip"), p) == [-128, 127]


def test_tiny_ranges_with_many_places_are_encoded() -> None:
    p = plan(clip=1e-80, frac_bits=300, parties=10)
    x = np.array([1e-80, -3e-81, 0.0])
    assert integers(encode(x, p), p) == [round(scaled(v, p)) for v in x.tolist()]
    assert integers(encode(np.zeros(3, np.int64), p), p) == [0, 0, 0]
    with pytest.raises(RangeError):
        encode(np.ones(3, np.int64), p)
    p = plan(clip=2.0**-297, frac_bits=300, parties=10)
    assert p.bits == 8
    assert integers(encode(np.zeros(3, np.int64), p), p) == [0, 0, 0]


@pytest.mark.parametrize("p", PLANS, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_short_floats_are_encoded_as_the_numbers_they_are(p: Plan, dtype: Any) -> None:
    x = np.random.default_rng(2).uniform(-p.clip, p.clip, 2000).astype(dtype)
    x = x[abs(x.astype(np.float64)) <= p.clip]
    assert (encode(x, p).values == encode(x.astype(np.float64), p).values).all()


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (70_001,), (3, 5, 7)])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_shapes_are_kept(shape: tuple[int, ...], rounding: Any) -> None:
    p = PLANS[2]
    x = np.random.default_rng(3).uniform(-1, 1, shape)
    values = encode(x, p, rounding=rounding).values
    back = decode(values, p)
    assert values.shape == back.shape == shape
    assert values.dtype == p.ring.dtype
    assert np.all(abs(back - x) <= p.error(rounding))


def test_strided_and_list_inputs_are_taken_and_left_alone() -> None:
    p = PLANS[2]
    x = np.arange(12.0).reshape(3, 4)
    before = x.copy()
    assert decode(encode(x.T, p).values.T, p).tolist() == x.tolist()
    assert decode(encode(x[:, ::2], p).values, p).tolist() == x[:, ::2].tolist()
    assert (x == before).all()
    assert decode(encode([1.5, -2.0], p).values, p).tolist() == [1.5, -2.0]


@pytest.mark.parametrize("p", PLANS, ids=str)
def test_output_arrays_are_used(p: Plan) -> None:
    x = np.linspace(-p.clip, p.clip, 1001)
    values, numbers = np.empty(1001, p.ring.dtype), np.empty(1001)
    assert encode(x, p, out=values).values is values
    assert decode(values, p, out=numbers) is numbers
    assert abs(numbers - x).max() <= p.error()


def test_arrays_and_options_that_do_not_match_are_refused() -> None:
    p = PLANS[2]
    x = np.zeros(4)
    for bad in (
        np.zeros(4, np.int32),
        np.zeros(3, np.uint32),
        np.zeros(8, np.uint32)[::2],
        np.zeros(4, np.uint64),
    ):
        with pytest.raises(ShapeError, match="encode writes"):
            encode(x, p, out=bad)  # type: ignore[arg-type]
    for wrong in (
        np.zeros(4, bool),
        np.zeros(4, complex),
        np.array(["1"]),
        np.zeros(4, object),
        np.zeros(4, np.longdouble),
    ):
        with pytest.raises(ShapeError, match="encode takes"):
            encode(wrong, p)
    with pytest.raises(ShapeError, match="uint32, not int64"):
        decode(np.zeros(4, np.int64), p)
    with pytest.raises(ShapeError, match="decode writes"):
        decode(np.zeros(4, np.uint32), p, out=np.zeros(4, np.float32))
    with pytest.raises(UsageError, match="rounding"):
        encode(x, p, rounding="up")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="rounding"):
        p.error("up")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="out_of_range"):
        encode(x, p, out_of_range="wrap")  # type: ignore[arg-type]


def test_numbers_go_through_the_narrow_ring_exactly() -> None:
    for clip, precision in ((8.0, 1e-6), (1.0, 0.1), (3e4, 1e-9)):
        made = plan(clip=clip, precision=precision, parties=5)
        ring = made.sum_ring(5)
        assert max(8, made.sum_bits) == ring.bits <= made.bits
        values = np.random.default_rng(1).uniform(-clip, clip, (5, 100))
        values[:, 0], values[:, 1] = clip, -clip  # the largest sums there are
        encoded = [encode(v, made).values for v in values]
        total = np.zeros(100, ring.dtype)
        for e in encoded:
            total += made.narrow(e)
        total = ring.reduce(total)
        sums = decode(made.widen(total), made)
        assert abs(sums - values.sum(axis=0)).max() <= made.error(summands=5) * (1 + 1e-6)
        assert abs(sums - values.sum(axis=0)).max() > 0


def test_a_plan_for_fewer_vectors_than_clients_is_refused() -> None:
    made = plan(clip=1.0, frac_bits=10, parties=4, max_weight=3)
    assert made.sum_ring(4).bits == made.sum_bits == 15
    with pytest.raises(PlanError, match="plan for 5"):
        made.sum_ring(5)


def test_elements_of_another_dtype_are_neither_narrowed_nor_widened() -> None:
    made = plan(clip=1.0, frac_bits=5, parties=4)
    assert (made.bits, made.sum_ring(4).bits) == (16, 9)
    for change in (made.narrow, made.widen):
        with pytest.raises(ShapeError):
            change(np.zeros(3, np.uint64))
