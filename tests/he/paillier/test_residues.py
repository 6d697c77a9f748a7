"""Residues in digits are residues modulo n^(s+1), and logarithms undo powers of 1 + n."""

from __future__ import annotations

import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from damgard_jurik import discrete_logarithm
from secagg.he.paillier import residues

N = (2**61 - 1) * (2**31 - 1)
exponents = st.sampled_from((1, 2, 3))


@st.composite
def numbers(draw, powers: int):
    """Return s, and two numbers below n^(s + powers), often with digits 0 and n - 1."""
    s = draw(exponents)
    digit = st.one_of(st.sampled_from((0, 1, N - 1)), st.integers(0, N - 1))
    pair = [sum(draw(digit) * N**k for k in range(s + powers)) for _ in range(2)]
    return s, *pair


@pytest.mark.slow
@given(numbers(1))
def test_digits_stand_for_the_number(drawn):
    s, a, b = drawn
    digits = residues.to_digits([mpz(a), mpz(b)], mpz(N), s)
    assert len(digits) == s + 1
    assert all(0 <= digit < N for column in digits for digit in column)
    assert residues.from_digits(digits, mpz(N)) == [a, b]


@pytest.mark.slow
@given(numbers(1))
def test_the_product_is_the_product_modulo_n_to_the_s_plus_1(drawn):
    s, a, b = drawn
    first, second = (residues.to_digits([mpz(v)], mpz(N), s) for v in (a, b))
    product = residues.multiply(first, second, mpz(N))
    assert all(0 <= digit < N for column in product for digit in column)
    assert residues.from_digits(product, mpz(N)) == [a * b % N ** (s + 1)]


@pytest.mark.slow
@given(numbers(0), st.integers(1, N - 1))
def test_blinding_multiplies_by_the_power_of_1_plus_n(drawn, randomizer):
    s, m, _ = drawn
    modulus = N ** (s + 1)
    randomizers = residues.to_digits([pow(mpz(randomizer), N, modulus)], mpz(N), s)
    blinded = residues.from_digits(residues.blind(randomizers, [mpz(m)], mpz(N)), mpz(N))
    assert blinded == [pow(1 + N, m, modulus) * pow(randomizer, N, modulus) % modulus]


@given(numbers(0))
@pytest.mark.slow
def test_the_logarithm_is_what_damgard_and_juriks_loop_computes(drawn):
    s, m, _ = drawn
    power, one = (pow(mpz(1 + N), exponent, N ** (s + 1)) for exponent in (m, 1))
    log, unit = residues.log([power, one], mpz(N), s)
    assert log * pow(int(unit), -1, N**s) % N**s == m == discrete_logarithm(int(power), N, s)
