"""Clips of every size give sums within the stated error; what does not fit is refused with advice that works."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secagg
from secagg.aggregation import Bounded, Privacy, Protection, Rlwe
from secagg.errors import PlanError, RangeError, UsageError
from secagg.fixed_point import encode, plan
from secagg.updates.bounded import Quantized
from secagg.updates.coding import Coding, FixedPoint, Request, Units
from secagg.updates.structure import Structure

Get = Callable[[str], Protection]
ALL = ("masked", "additive", "bounded", "paillier", "ckks", "single-rlwe")
LARGEST = 1.7976931348623157e308
SMALLEST = 5e-324


def choice_of(protection: Get, name: str) -> Protection:
    return Bounded() if name == "bounded" else protection(name)


# Integers under a clip between two of them.


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_integers_are_moved_to_the_last_one_within_the_clip(protection: Get, name: str) -> None:
    choice, xs = choice_of(protection, name), [np.array([200, -200, 28, 3], np.int16)] * 3
    result = secagg.sum(xs, protocol=choice, clip=28.5)
    assert result.value.tolist() == [84, -84, 84, 9]
    assert result.report.error == 0
    assert result.report.clipped == {f"client{i}": 2 for i in range(3)}
    average = secagg.mean(xs, protocol=choice, clip=28.5)
    assert np.max(np.abs(average.value - [28, -28, 28, 3])) <= average.report.error < 1e-3


@pytest.mark.parametrize("max_weight", [3, 3.0])
def test_weighted_integers_are_moved_to_the_last_one_within_the_clip(max_weight: float) -> None:
    result = secagg.mean([np.array([200])] * 3, [1, 2, 3], max_weight=max_weight, clip=28.5)
    assert abs(result.value[0] - 28) <= result.report.error < 1e-3


@given(st.integers(-(2**30), 2**30), st.floats(1, 2.0**31), st.sampled_from([FixedPoint, Units, Quantized]))
@settings(deadline=None, max_examples=60)
def test_no_coding_gives_an_integer_beyond_the_clip(x: int, clip: float, kind: type[Coding]) -> None:
    structure = Structure(np.array([x]), "a")
    coding = kind(Request(structure, False, {"": clip}, None, 2, None))
    vectors = [coding.encode([np.array([x])], 1)[0] for _ in range(2)]
    decoded = coding.decode(vectors[0] + vectors[1], 2, 0.0)
    border = int(clip)
    exact = 2 * min(max(x, -border), border)
    assert abs(int(decoded.arrays[0][0]) - exact) <= decoded.errors[""]


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2"])
def test_clips_beyond_a_dtype_are_those_of_the_dtype(dtype: str) -> None:
    info = np.iinfo(dtype)
    xs = [np.array([info.min, info.max], dtype)] * 2
    for options in ({}, {"weights": [1, 1], "max_weight": 1.0}, {"protocol": "bounded"}):
        average = secagg.mean(xs, clip=1e30, **options)
        assert average.report.clipped == {"client0": 0, "client1": 0}
        off = average.value - np.array([info.min, info.max], np.float64)
        assert np.max(np.abs(off)) <= average.report.error < info.max * 1e-4


# Floats of every size.


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("clip", [1e30, 1e300, 1e-30, 1e-310, SMALLEST])
def test_clips_of_every_size_give_sums_within_a_small_error(protection: Get, name: str, clip: float) -> None:
    choice = choice_of(protection, name)
    xs = [np.array([clip, -clip / 2, clip / 3, 0.0, 1e305, -1e305]) for _ in range(3)]
    result = secagg.sum(xs, protocol=choice, clip=clip)
    exact = 3 * np.clip(xs[0], -clip, clip)
    small = max(clip * 1e-4, 64 * SMALLEST)
    assert np.max(np.abs(result.value - exact)) <= result.report.error <= small
    weighted = secagg.mean(xs, [1, 2, 3], max_weight=3, protocol=choice, clip=clip)
    assert np.max(np.abs(weighted.value - exact / 3)) <= weighted.report.error <= small


@pytest.mark.parametrize("name", ["masked", "bounded", "ckks"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_largest_numbers_have_a_finite_mean(protection: Get, name: str, dtype: str) -> None:
    largest = np.finfo(dtype).max
    xs = [np.array([largest, -largest], dtype)] * 3
    result = secagg.mean(xs, protocol=choice_of(protection, name), clip=float(largest))
    assert result.value.dtype == np.dtype(dtype)
    assert np.all(np.isfinite(result.value))
    off = result.value.astype(np.longdouble) - xs[0].astype(np.longdouble)
    assert np.max(np.abs(off)) <= result.report.error


@pytest.mark.slow
@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=4),
    st.integers(-1073, 1000),
    st.sampled_from([None, 1e-3, 1e-9]),
    st.sampled_from([FixedPoint, Units]),
    st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_errors_bound_what_comes_of_clips_of_every_size(
    xs: list[float], exponent: int, relative: float | None, kind: type[Coding], mean: bool
) -> None:
    clip = float(np.ldexp(1.0, exponent))
    updates = [np.array([x * clip]) for x in xs]
    precision = None if relative is None else max(relative * clip, SMALLEST)
    coding = kind(Request(Structure(updates[0], "a"), mean, {"": clip}, precision, len(xs), None))
    total = np.sum([coding.encode([x], 1)[0] for x in updates], axis=0)
    found = coding.decode(total, len(xs), 0.0)
    exact = sum(np.longdouble(x[0]) for x in updates) / (len(xs) if mean else 1)
    assert abs(np.longdouble(found.arrays[0][0]) - exact) <= found.errors[""]
    if precision is not None:
        assert found.errors[""] <= 1.01 * len(xs) * precision + 8 * SMALLEST


def test_unsigned_sums_do_not_wrap_below_zero() -> None:
    pytest.importorskip("tenseal", reason="CKKS needs TenSEAL")
    result = secagg.sum([np.zeros(64, np.uint64)] * 3, protocol="ckks", clip=1e12)
    assert int(np.max(result.value)) <= result.report.error < 1e9


def test_a_norm_too_small_for_noise_is_refused_with_what_to_do() -> None:
    pytest.importorskip("dp_accounting", reason="noise needs dp-accounting")
    xs = [np.full(3, 1e-301)] * 6
    with pytest.raises(UsageError, match="norm 1e-300: multiply them, and divide the result"):
        secagg.sum(xs, privacy=Privacy(8.0, 1e-6, 1e-300))


# Advice.


def number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)


def followed(message: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the options that an error advises to use, one a piece of advice with numbers in it."""
    advice, found = message.partition(";")[2], []
    for name, value in re.findall(r"(clip|precision|modulus_bits) ?(?:>=|<=|=) ?([0-9.e+-]+)", advice):
        if name == "modulus_bits":
            found.append({**options, "protocol": Rlwe(key_holders=1, modulus_bits=int(value))})
        else:
            found.append({**options, name: number(value)})
    found += [{**options, "clip": number(value)} for value in re.findall(r"clip at ([0-9.e+-]+)", advice)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "clients", "options", "pieces"),
    [
        ("f8", 3, {"clip": 1.0, "precision": 1e-19}, 2),
        ("f8", 7, {"clip": 3e5, "precision": 1e-16}, 2),
        ("f8", 3, {"clip": LARGEST, "precision": 1e290}, 1),
        ("f8", 3, {"clip": 1.0, "precision": 1e-12, "protocol": "bounded"}, 1),
        ("f8", 3, {"clip": 1.0, "precision": 1e-16, "protocol": Rlwe(key_holders=1, modulus_bits=64)}, 1),
        ("i8", 3, {"clip": 2.0**62}, 1),
        ("u8", 5, {"clip": 2.0**63}, 1),
        ("i1", 30, {"clip": 100}, 1),
        ("i1", 200, {"clip": 1, "protocol": "additive"}, 0),
        ("f2", 3, {"clip": 60000.0}, 1),
        ("f4", 7, {"clip": 3e38}, 1),
    ],
)
def test_what_a_refused_sum_advises_works(dtype: str, clients: int, options: Any, pieces: int) -> None:
    xs = [np.zeros(2, dtype)] * clients
    with pytest.raises(PlanError) as caught:
        secagg.sum(xs, **options)
    advised = followed(str(caught.value), options)
    assert len(advised) == pieces, str(caught.value)
    for better in advised:
        assert secagg.sum(xs, **better).report.contributors
    if "convert" in str(caught.value):
        wider = {"i1": "i2", "f2": "f4", "f4": "f8"}[dtype]
        assert secagg.sum([x.astype(wider) for x in xs], **options).report.contributors


@pytest.mark.slow
@given(st.integers(2, 10**6), st.integers(1, 2**40), st.floats(1e-3, 1e18), st.booleans())
@settings(deadline=None, max_examples=100)
def test_what_a_refused_plan_advises_works(clients: int, weight: int, clip: float, whole: bool) -> None:
    structure = Structure(np.zeros(1, np.int64 if whole else np.float64), "a")
    options = {"clip": max(clip, 1.0) if whole else clip, "precision": clip * 2.0**-45}

    def make(clip: float, precision: float) -> None:
        FixedPoint(Request(structure, True, {"": clip}, precision, clients, weight))

    try:
        make(**options)
    except PlanError as error:
        for better in followed(str(error), options):
            if better["clip"] >= 1 or not whole:
                make(**better)


@pytest.mark.slow
@given(st.floats(0.001, 1e6), st.sampled_from(["f2", "f4", "f8", "i4", "i8"]))
@settings(deadline=None, max_examples=60)
def test_what_a_number_beyond_the_clip_is_told_works(clip: float, dtype: str) -> None:
    made = plan(clip=clip, frac_bits=10, parties=3)
    x = np.array([min(3 * clip + 1, 65000.0) if dtype == "f2" else 3 * clip + 1]).astype(dtype)
    if float(x[0]) <= clip:
        return
    with pytest.raises(
        RangeError, match=r"plan a larger clip, or move them to it, as by numpy.clip\("
    ) as caught:
        encode(x, made)
    assert "out_of_range" not in str(caught.value)
    advised = re.search(r"numpy.clip\(x.astype\(float\), (\S+), (\S+)\)", str(caught.value))
    assert advised is not None
    encode(np.clip(x.astype(float), float(advised[1]), float(advised[2])), made)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"max_weight": float("nan")}, UsageError, "expected a positive number as max_weight, got nan"),
        ({"max_weight": float("inf")}, UsageError, "expected a positive number as max_weight, got inf"),
        ({"max_weight": 0}, UsageError, "expected a positive number as max_weight, got 0"),
        ({"max_weight": 10**400}, UsageError, "that float64 can hold as max_weight"),
        ({"weights": [1, 10**400]}, UsageError, "that float64 can hold as client1's weight"),
        (
            {"weights": np.ma.array([1, 2], mask=[False, True])},
            RangeError,
            "client1's weight is not a positive number",
        ),
        ({"clip": 10**400}, UsageError, "that float64 can hold as clip"),
        ({"precision": "fine"}, UsageError, "a number as precision, got the text"),
        ({"precision": float("nan")}, UsageError, "precision is a positive number"),
        ({"precision": -1}, UsageError, "precision is a positive number"),
    ],
)
def test_numbers_that_are_none_are_refused(options: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        secagg.mean([np.ones(2)] * 2, **{"weights": [1, 2], "max_weight": 3, "clip": 1.0, **options})
