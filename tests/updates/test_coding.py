"""Vectors add up to what they stand for, within the stated error, and cannot overflow."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import PlanError, RangeError, UsageError
from secagg.updates.bounded import Quantized
from secagg.updates.coding import Coding, FixedPoint, Request, Units
from secagg.updates.structure import Structure


def request(
    update: Any,
    *,
    mean: bool = False,
    clips: dict[str, float] | None = None,
    precision: float | None = None,
    clients: int = 4,
    max_weight: float | None = None,
) -> Request:
    structure = Structure(update, "a")
    return Request(structure, mean, clips or {"": 2.0}, precision, clients, max_weight)


def opened(coding: Coding, updates: list[Any], weights: Sequence[float]) -> Any:
    """Encode, add as the protocols do and decode."""
    vectors = [coding.encode([x], w)[0] for x, w in zip(updates, weights, strict=True)]
    for vector in vectors:
        assert np.max(np.abs(vector)) <= coding.plan.clip
    return coding.decode(np.sum(vectors, axis=0), len(vectors), 0.0)


@pytest.mark.parametrize("kind", [FixedPoint, Quantized])
@pytest.mark.parametrize(
    ("dtype", "total", "border"), [("i1", 200, 127), ("i1", -200, -128), ("u1", -57, 0), ("u8", -1, 0)]
)
def test_integers_that_only_a_liar_adds_up_to_are_moved_to_the_border_of_their_dtype(
    kind: type[Coding], dtype: str, total: int, border: int
) -> None:
    coding = kind(request(np.zeros(1, dtype), clips={"": 1.0}))
    one = coding.encode([np.ones(1, dtype)], 1)[0]
    assert coding.decode(total * one, 4, 0.0).arrays[0].tolist() == [border]


clients = st.lists(st.lists(st.floats(-2, 2), min_size=3, max_size=3), min_size=1, max_size=4)


def exactly(updates: list[Any], weights: list[Any]) -> list[Fraction]:
    return [
        sum((Fraction(float(x[i])) * Fraction(w) for x, w in zip(updates, weights, strict=True)), Fraction())
        for i in range(len(updates[0]))
    ]


@given(
    clients,
    st.sampled_from(["f2", "f4", "f8"]),
    st.sampled_from([None, 1e-3, 1e-9]),
    st.sampled_from([False, True]),
)
@settings(deadline=None, max_examples=60)
@pytest.mark.slow
def test_sums_and_plain_means_are_within_the_stated_error(
    xs: list[list[float]], dtype: str, precision: float | None, mean: bool
) -> None:
    updates = [np.array(x, dtype) for x in xs]
    for kind in (FixedPoint, Units):
        coding = kind(request(updates[0], mean=mean, precision=precision))
        found = opened(coding, updates, [1] * len(updates))
        by = len(updates) if mean else 1
        (values,) = found.arrays
        assert values.dtype == np.dtype(dtype)
        for got, exact in zip(values, exactly(updates, [1] * len(updates)), strict=True):
            assert abs(Fraction(float(got)) - exact / by) <= Fraction(found.errors[""])


@pytest.mark.slow
@given(clients, st.lists(st.integers(1, 1000), min_size=4, max_size=4))
@settings(deadline=None, max_examples=60)
def test_means_with_integer_weights_err_by_the_precision(xs: list[list[float]], ws: list[int]) -> None:
    updates, weights = [np.array(x) for x in xs], ws[: len(xs)]
    coding = FixedPoint(request(updates[0], mean=True, precision=1e-4, max_weight=1000))
    found = opened(coding, updates, weights)
    assert found.weight == sum(weights)
    assert found.errors[""] <= 1.0001e-4
    for got, exact in zip(found.arrays[0], exactly(updates, weights), strict=True):
        assert abs(Fraction(float(got)) - exact / sum(weights)) <= Fraction(found.errors[""])


@pytest.mark.slow
@given(clients, st.lists(st.floats(0.5, 10), min_size=4, max_size=4), st.booleans())
@settings(deadline=None, max_examples=60)
def test_means_with_other_weights_are_within_the_stated_error(
    xs: list[list[float]], ws: list[float], rounded: bool
) -> None:
    updates, weights = [np.array(x) for x in xs], ws[: len(xs)]
    coding = Units(request(updates[0], mean=True, max_weight=10.0), rounded=rounded)
    found = opened(coding, updates, weights)
    whole = sum(map(Fraction, weights))
    assert abs(found.weight - whole) <= 10 * len(xs) * 2**-19
    # 2 * (half a unit a client) * clip / (sum of weights / max_weight)
    assert found.errors[""] <= 1.01 * len(xs) * 2.0 * 2**-19 * 10 / float(whole)
    for got, exact in zip(found.arrays[0], exactly(updates, weights), strict=True):
        assert abs(Fraction(float(got)) - exact / whole) <= Fraction(found.errors[""])


@pytest.mark.slow
@given(st.lists(st.integers(-(2**59), 2**59), min_size=4, max_size=4))
@settings(deadline=None)
def test_sums_of_integers_are_exact_beyond_what_float64_holds(numbers: list[int]) -> None:
    updates = [np.array([x]) for x in numbers]
    found = opened(FixedPoint(request(updates[0], clips={"": 2.0**59})), updates, [1] * 4)
    assert found.arrays[0].tolist() == [sum(numbers)]
    assert found.errors == {"": 0.0}


def test_numbers_beyond_the_clip_are_moved_and_counted() -> None:
    x = np.array([-9.0, -2.0, 0.5, 2.5])
    for kind in (FixedPoint, Units):
        coding = kind(request(x))
        vector, clipped = coding.encode([x], 1)
        assert clipped == 2
        assert coding.decode(vector, 1, 0.0).arrays[0].tolist() == [-2, -2, 0.5, 2]


def test_clips_go_by_the_longest_path() -> None:
    update = {"a": {"b": np.zeros(1), "c": np.zeros(1)}, "ab": np.zeros(1)}
    made = request(update, clips={"": 1.0, "a": 2.0, "a/c": 3.0})
    assert [made.clip_of(leaf) for leaf in made.structure.leaves] == [2.0, 3.0, 1.0]
    with pytest.raises(UsageError, match="no clip for 'ab'"):
        FixedPoint(request(update, clips={"a": 2.0}))


def test_the_ring_holds_the_sum_of_the_largest() -> None:
    for max_weight in (None, 7):
        x = np.array([2.0, -2.0])
        coding = FixedPoint(request(x, mean=True, clients=5, max_weight=max_weight))
        vectors = [coding.encode([x], max_weight or 1)[0]] * 5
        total = np.sum(vectors, axis=0)
        assert np.max(np.abs(total)).item() < 1 << (coding.plan.sum_bits - 1)
        assert coding.decode(total, 5, 0.0).arrays[0].tolist() == [2.0, -2.0]


@pytest.mark.parametrize(
    ("update", "options", "said"),
    [
        (np.zeros(1), {"precision": 1e-19}, "precision >="),
        (
            np.zeros(1),
            {"precision": 1e-12, "clients": 10**6, "max_weight": 1 << 20, "mean": True},
            "weights up to",
        ),
        (np.zeros(1, "i1"), {"clips": {"": 100.0}}, "sums of 4 numbers up to 100 do not fit int8; convert"),
        (
            {"h": np.zeros(1, "f2")},
            {"clips": {"": 3e4}},
            "at h: sums of 4 numbers up to 30000.0 do not fit float16",
        ),
        (np.zeros(1, "u8"), {"clips": {"": 2.0**61}}, "parties"),
    ],
)
def test_what_could_overflow_is_refused(update: Any, options: Any, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        FixedPoint(request(update, **options))


@pytest.mark.parametrize(
    ("update", "options", "said"),
    [
        (np.zeros(1), {"precision": 0.0}, "precision is a positive number"),
        (np.zeros(1), {"clips": {"": float("inf")}}, "a clip is a positive number"),
        (np.zeros(1), {"clips": {"": -1.0}}, "a clip is a positive number"),
        (np.zeros(1, "i8"), {"clips": {"": 0.5}}, "makes zeros of integers"),
    ],
)
def test_a_clip_or_precision_out_of_range_is_refused(update: Any, options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FixedPoint(request(update, **options))


def test_weights_far_below_the_largest_are_refused_when_they_are_lost() -> None:
    x = np.array([1.0])
    coding = Units(request(x, mean=True, max_weight=1e9))
    vectors = [coding.encode([x], 1.0)[0] for _ in range(4)]
    with pytest.raises(RangeError, match=r"lost in rounding.*smaller max_weight or precision"):
        coding.decode(np.sum(vectors, axis=0), 4, 0.0)


def test_means_of_integers_are_float64() -> None:
    updates = [np.array([k], np.int32) for k in (1, 2, 4)]
    for kind in (FixedPoint, Units):
        found = opened(kind(request(updates[0], mean=True, clips={"": 10.0})), updates, [1] * 3)
        assert found.arrays[0].dtype == np.float64
        assert abs(found.arrays[0][0] - 7 / 3) <= found.errors[""]
    exact = opened(FixedPoint(request(updates[0], mean=True, clips={"": 10.0})), updates, [1] * 3)
    assert exact.errors[""] < 1e-14


def test_the_error_of_the_largest_float16_is_finite() -> None:
    updates = [np.array([65504.0], np.float16)] * 2
    for kind in (FixedPoint, Units):
        found = opened(kind(request(updates[0], mean=True, clips={"": 65504.0})), updates, [1] * 2)
        assert abs(float(found.arrays[0][0]) - 65504) <= found.errors[""] < 20
