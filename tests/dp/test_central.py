"""One-shot sums and histograms are right up to the noise that they report."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytest.importorskip("dp_accounting", reason="differential privacy needs dp-accounting")

import numpy as np

from secagg import dp
from secagg.errors import ShapeError, UsageError
from secagg.prg import Stream

BUDGET: dict[str, Any] = {"epsilon": 1.0, "delta": 1e-6}


def seeded(byte=0):
    return Stream(bytes([byte]) * 32)


def test_a_sum_of_numbers_is_right_up_to_the_noise():
    """6 deviations: false alarm 2e-9."""
    x = np.random.default_rng(1).uniform(-2, 5, 10_000)
    released = dp.sum(x, clip=3.0, rng=seeded(), **BUDGET)
    assert released.value.shape == ()
    assert abs(released.value - np.clip(x, -3, 3).sum()) < 6 * math.hypot(released.report.noise_std, 3.0)
    assert released.report.adjacency == "add-remove"
    assert 0.999 < released.report.epsilon <= 1.0


def test_the_deviation_is_the_reported_one():
    """20,000 elements: variance within 5 standard errors; false alarm 6e-7."""
    released = dp.sum(np.zeros((1, 20_000)), clip=2.0, rng=seeded(), **BUDGET)
    planned = released.report.noise_std**2
    assert abs(np.mean(released.value**2) - planned) < 5 * planned * math.sqrt(2 / 20_000)


def test_sums_of_whole_numbers_are_whole():
    released = dp.sum(np.arange(-5, 6), clip=4, rng=seeded(), **BUDGET)
    assert released.value == int(released.value)
    # The sensitivity of whole numbers of at most 4 is 4; sqrt(2 ln(1 / delta)) / epsilon is about 5.
    assert 4 * 3 < released.report.noise_std < 4 * 5.3


def test_rows_are_clipped_as_a_whole():
    rows = np.array([[30.0, 40.0], [0.3, 0.4], [0.0, 0.0]])
    released = dp.sum(rows, clip=1.0, rng=seeded(), epsilon=1e4, delta=1e-6)
    assert released.value == pytest.approx([0.9, 1.2], abs=6 * released.report.noise_std + 0.01)


@pytest.mark.slow
def test_rows_can_add_shares_of_the_noise():
    rows = np.random.default_rng(2).normal(size=(40, 25)) / 10
    released = dp.sum(rows, clip=2.0, min_clients=30, colluders=5, rng=seeded(), **BUDGET)
    assert released.report.adjacency == "zero-out"
    assert released.report.noise == "skellam"
    assert released.report.noise_std == pytest.approx(5 * released.report.share_std)
    error = released.value - rows.sum(axis=0)
    # 25 elements, 40 shares: 6 standard errors of the mean square.
    expected = 40 * released.report.share_std**2
    assert abs(np.mean(error**2) - expected) < 6 * expected * math.sqrt(2 / 25)


def test_no_rows_give_noise_alone():
    released = dp.sum(np.zeros((0, 3)), clip=1.0, rng=seeded(), **BUDGET)
    assert released.value.shape == (3,)
    assert np.abs(released.value).max() < 6 * released.report.noise_std
    assert released.value.any()


@pytest.mark.slow
def test_releases_repeat_with_a_stream_only():
    assert dp.sum([1.0], clip=1.0, rng=seeded(), **BUDGET) == dp.sum([1.0], clip=1.0, rng=seeded(), **BUDGET)
    values = {float(dp.sum([1.0], clip=1.0, **BUDGET).value) for _ in range(5)}
    assert len(values) > 1


def test_a_histogram_counts_its_categories_only():
    labels = ["a"] * 500 + ["b"] * 300 + ["unheard of"] * 900
    released = dp.histogram(labels, ["b", "c", "a"], rng=seeded(), **BUDGET)
    assert np.abs(released.value - [300, 0, 500]).max() < 6 * released.report.noise_std
    assert (released.value == np.rint(released.value)).all()
    same = dp.histogram(np.array(labels), ["b", "c", "a"], rng=seeded(), **BUDGET)
    assert np.array_equal(same.value, released.value)


@pytest.mark.slow
def test_noise_of_histograms_follows_contributions_and_adjacency():
    def deviation(**arguments):
        return dp.histogram([1, 2], [1, 2, 3], **BUDGET, **arguments).report.noise_std

    assert deviation(contributions=3) == pytest.approx(3 * deviation(), rel=1e-3)
    assert deviation(adjacency="replace") == pytest.approx(math.sqrt(2) * deviation(), rel=1e-3)
    dp.histogram([1], [1], adjacency="replace", **BUDGET)


@pytest.mark.parametrize(
    "arguments",
    [
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"delta": 1.0},
        {"clip": 0.0},
        {"clip": math.nan},
        {"colluders": 1},
        {"min_clients": 4},
        {"min_clients": 2, "colluders": 2},
        {"min_clients": 2, "adjacency": "add-remove"},
        {"adjacency": "neighbours"},
        {"values": [1.0, math.nan]},
        {"values": [math.inf]},
    ],
)
def test_bad_sums_are_refused(arguments):
    with pytest.raises(UsageError):
        dp.sum(**{"values": [1.0, 2.0, 3.0], "clip": 1.0, **BUDGET, **arguments})


@pytest.mark.parametrize("values", [["a"], np.zeros((1, 1, 1)), np.zeros((2, 0)), np.float64(3), [True]])
def test_what_is_no_table_of_numbers_is_refused(values):
    with pytest.raises(ShapeError):
        dp.sum(values, clip=1.0, **BUDGET)


def test_bad_histograms_are_refused():
    for categories in ([], ["a", "a"]):
        with pytest.raises(UsageError, match="categories"):
            dp.histogram(["a"], categories, **BUDGET)
    with pytest.raises(UsageError, match="rows"):
        dp.histogram(["a"], ["a"], contributions=0, **BUDGET)
    with pytest.raises(ShapeError):
        dp.histogram(np.array([["a"]]), ["a"], **BUDGET)
