"""Integer vectors keep to the bound that the noise is sized for, whatever the input."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("dp_accounting", reason="differential privacy needs dp-accounting")

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from secagg.dp import Grid
from secagg.dp.clipping import rotate, unrotate
from secagg.errors import PlanError, RangeError, ShapeError, UsageError
from secagg.prg import Stream

SEED = b"rotation of round one"


def seeded(byte=0):
    return Stream(bytes([byte]) * 32)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    x=st.integers(1, 9).flatmap(
        lambda d: arrays(np.float64, d, elements=st.floats(-1e300, 1e300, allow_nan=False))
    ),
    clip=st.floats(1e-3, 1e6),
    frac_bits=st.integers(-2, 9),
    random_rotation=st.booleans(),
    byte=st.integers(0, 255),
)
def test_no_input_gives_a_vector_beyond_the_bound(x, clip, frac_bits, random_rotation, byte):
    if not 1 <= clip * 2.0**frac_bits <= 2**29:
        return
    grid = Grid(clip, frac_bits, x.size, random_rotation)
    (v,) = grid.to_integers(x, rng=seeded(byte), seed=SEED if random_rotation else None).values
    v = [int(e) for e in v]
    norm2 = sum(e * e for e in v)
    assert norm2 <= grid.norm_limit
    assert max(map(abs, v)) <= grid.element_units
    assert math.sqrt(norm2) <= grid.sensitivity.l2
    assert sum(map(abs, v)) <= grid.sensitivity.l1


@pytest.mark.parametrize("d", [1, 2, 3, 17, 1000])
@pytest.mark.parametrize("c", [1, 3.5, 16, 1024])
def test_the_bound_is_the_published_one_or_that_of_single_elements(c, d):
    grid = Grid(c, 0, d)
    published = min(c + math.sqrt(d), math.sqrt(c * c + d / 4 + c + math.sqrt(d) / 2))
    assert grid.norm_limit == min(math.floor(published**2), d * math.ceil(c) ** 2)
    assert grid.sensitivity.l2 == pytest.approx(math.sqrt(grid.norm_limit))
    assert grid.sensitivity.l1 == pytest.approx(grid.sensitivity.l2 * min(math.sqrt(d), grid.sensitivity.l2))


def test_roundings_beyond_the_bound_are_drawn_again():
    """Each of 1,000 elements is 1/2: about half of all roundings are beyond the bound."""
    d = 1000
    x = np.full((200, d), 0.5)
    grid = Grid(math.sqrt(d) / 2, 0, d)
    first = grid._round(x, seeded())
    assert 20 < np.count_nonzero(np.sum(first * first, axis=1) > grid.norm_limit - 20) < 180
    values = grid.to_integers(x, rng=seeded()).values
    assert np.sum(values * values, axis=1).max() <= grid.norm_limit


def test_redrawing_ends_even_if_no_rounding_is_accepted(monkeypatch):
    grid = Grid(2.0, 0, 100)
    monkeypatch.setattr(Grid, "_round", lambda self, rows, rng: np.ones(rows.shape, np.int64) * 2)
    values = grid.to_integers(np.full(100, -0.2), rng=seeded()).values
    assert not values.any()


def test_rounding_is_right_on_average():
    """Mean of 40,000 roundings of 0.3 within 5 standard errors."""
    values = Grid(100.0, 0, 1).to_integers(np.full((40_000, 1), 0.3), rng=seeded()).values
    assert set(np.unique(values)) == {0, 1}
    assert abs(values.mean() - 0.3) < 5 * math.sqrt(0.21 / 40_000)


def test_only_long_vectors_are_scaled():
    grid = Grid(5.0, 20, 2)
    short, long = [3.0, -4.0], [30.0, -40.0]
    rounded = grid.to_integers(np.array([short, long, [0.0, 0.0]]), rng=seeded())
    assert rounded.clipped == 1
    assert np.abs(rounded.values[:2] * grid.unit - short).max() <= 2 * grid.unit
    assert not rounded.values[2].any()


def test_whole_numbers_stay_whole():
    grid = Grid(7.0, 0, 1)
    values = grid.to_integers(np.array([[-9], [-7], [0], [3], [8]]), rng=seeded()).values
    assert values[:, 0].tolist() == [-7, -7, 0, 3, 7]
    assert grid.sensitivity.l2 == pytest.approx(7)


@pytest.mark.parametrize("length", [1, 2, 5, 32, 33, 1000, 4096])
@pytest.mark.slow
def test_rotation_keeps_norms_and_is_undone(length):
    x = np.random.default_rng(length).normal(size=(3, length))
    y = rotate(x, SEED)
    assert y.shape == (3, 1 << (length - 1).bit_length())
    assert np.linalg.norm(y, axis=1) == pytest.approx(np.linalg.norm(x, axis=1), rel=1e-12)
    for row, turned in zip(x, y, strict=True):
        assert unrotate(turned, SEED, length) == pytest.approx(row, abs=1e-12)


@pytest.mark.slow
def test_rotation_is_the_hadamard_matrix_after_signs():
    matrix = rotate(np.eye(128), SEED)
    assert np.abs(np.abs(matrix) - 128**-0.5).max() < 1e-15
    assert matrix @ matrix.T == pytest.approx(np.eye(128), abs=1e-12)
    assert not np.array_equal(matrix, rotate(np.eye(128), SEED + b"."))
    signs = np.sign(matrix[:, 0])
    k = np.arange(128)
    parity = np.bitwise_count((k[:, None] & k).astype(np.uint8)) & 1
    assert np.array_equal(np.sign(matrix), signs[:, None] * np.where(parity, -1, 1))


def test_a_rotated_vector_comes_back_to_within_the_rounding():
    grid = Grid(1.0, 16, 300, random_rotation=True)
    x = np.zeros(300)
    x[7] = 1.0  # the largest single element that there is
    values = grid.to_integers(x, rng=seeded(), seed=SEED).values[0]
    assert grid.element_units < 2**16 * 0.45
    # Each of 512 elements errs by less than a unit, so the vector by less than sqrt(512) units.
    assert np.linalg.norm(grid.to_numbers(values, seed=SEED) - x) < math.sqrt(512) * grid.unit


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"clip": 0.0}, UsageError),
        ({"clip": math.nan}, UsageError),
        ({"clip": math.inf}, UsageError),
        ({"length": 0}, UsageError),
        ({"element_clip": -1.0}, UsageError),
        ({"frac_bits": 31}, PlanError),
        ({"frac_bits": -1}, PlanError),
        ({"frac_bits": 4000}, PlanError),
    ],
)
def test_impossible_grids_are_refused(arguments, error):
    with pytest.raises(error):
        Grid(**{"clip": 1.0, "frac_bits": 8, "length": 3, **arguments})


def test_what_is_no_finite_vector_is_refused():
    grid = Grid(1.0, 8, 3)
    for bad in (np.zeros(4), np.zeros((2, 2, 3)), np.array(["a", "b", "c"]), np.zeros(3, complex)):
        with pytest.raises(ShapeError):
            grid.to_integers(bad)
    with pytest.raises(RangeError, match="2 of 3"):
        grid.to_integers([1.0, math.nan, -math.inf])
    with pytest.raises(ShapeError):
        grid.to_numbers(np.zeros(4, np.int64))


def test_a_seed_goes_with_rotation_only():
    with pytest.raises(UsageError, match="seed"):
        Grid(1.0, 8, 3).to_integers(np.zeros(3), seed=SEED)
    with pytest.raises(UsageError, match="seed"):
        Grid(1.0, 8, 3, random_rotation=True).to_integers(np.zeros(3))
