"""Words against Python's integers; products are in test_products.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import ShapeError, UsageError, WireError
from secagg.he.rlwe.parameters import Parameters, parameters
from secagg.he.rlwe.polynomials import Polynomials, exponents
from secagg.ring import RingArray

SETS = [parameters(64), parameters(96), parameters(128)]
each_set = pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)


def integers(x: Polynomials) -> list[int]:
    """Coefficients as Python integers in stored order, all blocks."""
    low = [int(v) for v in x.low.reshape(-1)]
    if x.high is None:
        return low
    return [v + (int(h) << 64) for v, h in zip(low, x.high.reshape(-1), strict=True)]


def polynomials(p: Parameters, values: list[int]) -> Polynomials:
    x = Polynomials.zeros(p, p.blocks(len(values)))
    for i, v in enumerate(values):
        v %= 1 << p.modulus_bits
        x.low.reshape(-1)[i] = v & (2**64 - 1)
        if x.high is not None:
            x.high.reshape(-1)[i] = v >> 64
    return x


def coefficients(p: Parameters) -> st.SearchStrategy[list[int]]:
    edges = [0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2 ** (p.modulus_bits - 1), 2**p.modulus_bits - 1]
    one = st.one_of(st.sampled_from(edges), st.integers(0, 2**p.modulus_bits - 1))
    return st.lists(one, min_size=6, max_size=6)


def signed(v: int, bits: int) -> int:
    return (v + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


@pytest.mark.slow
@each_set
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_sums_differences_and_multiples_are_those_of_integers(p: Parameters, data: st.DataObject) -> None:
    a, b = data.draw(coefficients(p)), data.draw(coefficients(p))
    k = data.draw(st.one_of(st.integers(-(2**70), 2**70), st.sampled_from([1, -1, 2**32, -(2**64)])))
    modulus = 1 << p.modulus_bits
    x, y = polynomials(p, a), polynomials(p, b)
    total, rest = x.copy(), x.copy()
    total += y
    rest -= y
    assert integers(total)[:6] == [(s + t) % modulus for s, t in zip(a, b, strict=True)]
    assert integers(rest)[:6] == [(s - t) % modulus for s, t in zip(a, b, strict=True)]
    assert integers(x.times(k))[:6] == [s * k % modulus for s in a]
    assert integers(x)[:6] == a
    y += y
    x -= x
    assert integers(y)[:6] == [2 * t % modulus for t in b]
    assert not any(integers(x))


@pytest.mark.slow
@each_set
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_small_and_shifted_numbers_are_added_with_their_carries(p: Parameters, data: st.DataObject) -> None:
    a = data.draw(coefficients(p))
    small = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=6, max_size=6))
    shift = data.draw(st.integers(0, p.modulus_bits - 1))
    modulus = 1 << p.modulus_bits
    x = polynomials(p, a)
    e = np.zeros(x.low.shape, np.int64)
    e[0, :6] = small
    x.add_signed(e)
    assert integers(x)[:6] == [(s + t) % modulus for s, t in zip(a, small, strict=True)]
    for dtype in (np.uint64, np.uint32, np.uint8):
        values: RingArray = np.array([v % 2**64 for v in small], np.uint64).astype(dtype)
        y = polynomials(p, a)
        y.add_shifted(values, shift)
        assert integers(y)[:6] == [(s + (int(v) << shift)) % modulus for s, v in zip(a, values, strict=True)]
        assert not any(integers(y)[6:])


@pytest.mark.slow
@each_set
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_rounding_off_gives_the_nearest_multiple_and_the_largest_remainder(
    p: Parameters, data: st.DataObject
) -> None:
    a = data.draw(coefficients(p))
    shift = data.draw(st.integers(0, p.modulus_bits - 1))
    values, residual = polynomials(p, a).round_off(shift)
    found, distances = [], [0]
    for v in a:
        half = (1 << shift) >> 1
        quotient = (signed(v, p.modulus_bits) + half) >> shift
        distances.append(abs(signed(v, p.modulus_bits) - (quotient << shift)))
        found.append(signed(quotient, p.modulus_bits - shift) % 2**64)
    assert [int(v) for v in values.reshape(-1)[:6]] == found
    assert residual == max(distances)


@each_set
def test_one_bit_more_or_less_changes_the_digest(p: Parameters) -> None:
    x = Polynomials.zeros(p, 2)
    before = x.digest()
    assert before == Polynomials.zeros(p, 2).digest()
    assert before != Polynomials.zeros(p, 1).digest()
    for word in x.words:
        word[1, 7] ^= word.dtype.type(1)
        assert x.digest() != before
        word[1, 7] ^= word.dtype.type(1)
    assert x == Polynomials.zeros(p, 2)
    assert x != Polynomials.zeros(p, 3)


def test_stored_order_pairs_the_halves() -> None:
    order = exponents(parameters(64))
    assert order[:4].tolist() == [0, 2048, 1, 2049]
    assert sorted(order.tolist()) == list(range(4096))


def test_words_that_do_not_fit_are_refused() -> None:
    p, wide = parameters(64), parameters(96)
    with pytest.raises(ShapeError, match="expected words of uint64 for rlwe/4096/64, got int64"):
        Polynomials(p, np.zeros((1, 4096), np.int64))
    with pytest.raises(ShapeError, match="expected words of uint64 and uint32 for rlwe/4096/96, got uint64"):
        Polynomials(wide, np.zeros((1, 4096), np.uint64))
    with pytest.raises(ShapeError, match=r"shape \(blocks, 4096\) for rlwe/4096/64, got \(1, 2048\)"):
        Polynomials(p, np.zeros((1, 2048), np.uint64))
    with pytest.raises(ShapeError, match="without gaps"):
        Polynomials(p, np.zeros((2, 8192), np.uint64)[:, ::2])
    with pytest.raises(WireError, match="expected 2 polynomials, got 1, from bank") as caught:
        Polynomials.from_words(p, (np.zeros((1, 4096), np.uint64),), 2, peer="bank")
    assert caught.value.peer == "bank"
    with pytest.raises(WireError, match="got none"):
        Polynomials.from_words(p, (), 1)
    with pytest.raises(ShapeError, match="cannot combine"):
        Polynomials.zeros(p, 1).__iadd__(Polynomials.zeros(wide, 1))
    with pytest.raises(ShapeError, match="cannot combine"):
        Polynomials.zeros(p, 1).__isub__(Polynomials.zeros(p, 2))


def test_shifts_and_values_out_of_range_are_refused() -> None:
    x = Polynomials.zeros(parameters(64), 1)
    for shift in (-1, 64):
        with pytest.raises(UsageError, match="shift of 0 to 63"):
            x.round_off(shift)
        with pytest.raises(UsageError, match="shift of 0 to 63"):
            x.add_shifted(np.zeros(1, np.uint64), shift)
    with pytest.raises(ShapeError, match="up to 4096 unsigned"):
        x.add_shifted(np.zeros(4097, np.uint64), 1)
    with pytest.raises(ShapeError, match="expected signed integers"):
        x.add_signed(np.zeros((1, 4096), np.uint64))


def test_nothing_of_the_words_is_shown() -> None:
    assert repr(Polynomials.zeros(parameters(128), 3)) == "<3 polynomials of rlwe/8192/128>"
