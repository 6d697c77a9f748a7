from __future__ import annotations

import contextlib
import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import RangeError, UsageError
from secagg.prg import Stream
from secagg.protocols.masked_sum import shamir
from secagg.protocols.masked_sum.shamir import PRIME, SHARE_BYTES, Basis, Polynomials, read_share

SECRETS = (bytes(range(32)), bytes(32), b"\xff" * 32)


def stream(seed: int = 0) -> Stream:
    return Stream(seed.to_bytes(32, "little"))


def combine(points: tuple[int, ...], shares: np.ndarray) -> bytes:
    return Basis(points).combine([read_share(share.tobytes()) for share in shares])


def test_the_modulus_is_prime() -> None:
    # Miller-Rabin: of the bases below a composite at most a quarter find nothing, and nobody chose this number so that
    # the first 64 do; Baillie-PSW, of which no composite is known that passes, is in the next test.
    d, s = PRIME - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for base in range(2, 66):
        x = pow(base, d, PRIME)
        assert x in (1, PRIME - 1) or any((x := x * x % PRIME) == PRIME - 1 for _ in range(s - 1)), (
            f"{base} witnesses that the modulus is composite"
        )
    assert PRIME == 2**256 + 297


def test_gmpy2_finds_the_modulus_prime() -> None:
    gmpy2 = pytest.importorskip("gmpy2", reason="Baillie-PSW test")
    assert gmpy2.is_strong_bpsw_prp(PRIME)
    assert gmpy2.is_prime(PRIME, 50)


@pytest.mark.parametrize("threshold", [1, 2, 3, 16, 17, 33])
def test_any_threshold_of_the_shares_give_all_secrets_back(threshold: int) -> None:
    points = tuple(range(1, threshold + 4))
    shares = Polynomials(SECRETS, threshold, stream()).at(points)
    assert shares.shape == (3, len(points), SHARE_BYTES)
    for first in range(4):
        chosen = points[first : first + threshold]
        for row, secret in enumerate(SECRETS):
            assert combine(chosen, shares[row, first : first + threshold]) == secret


@given(
    secret=st.binary(min_size=32, max_size=32),
    points=st.lists(st.integers(1, 2**32 - 1), min_size=2, max_size=9, unique=True),
)
@settings(deadline=None, max_examples=50)
def test_shares_at_any_points_in_any_order_give_the_secret_back(secret: bytes, points: list[int]) -> None:
    shares = Polynomials([secret], len(points), stream(3)).at(points)[0]
    assert combine(tuple(points), shares) == secret
    assert combine(tuple(points[::-1]), shares[::-1]) == secret


def test_shares_are_values_of_one_polynomial_whose_value_at_zero_is_the_secret() -> None:
    # The plain twin: coefficients read from the same stream, evaluated by definition.
    drawn = stream(9).bytes(48 * 3)
    c = [int.from_bytes(SECRETS[0], "little")]
    c += [int.from_bytes(drawn[i : i + 48], "little") % PRIME for i in range(0, 144, 48)]
    shares = Polynomials(SECRETS[:1], 4, stream(9)).at([1, 7, 1000])[0]
    for x, share in zip((1, 7, 1000), shares, strict=True):
        assert read_share(share.tobytes()) == sum(a * x**i for i, a in enumerate(c)) % PRIME


def test_fewer_shares_than_the_threshold_are_the_same_for_all_secrets() -> None:
    # For two shares of three needed: each pair of values at 1 and 2 belongs to exactly one value at 0 for each third.
    # On paper for the field; here: with the polynomial of another secret through the same two shares.
    shares = Polynomials(SECRETS[:1], 3, stream()).at([1, 2])[0]
    y1, y2 = (read_share(s.tobytes()) for s in shares)
    for other in (0, 1, 2**255):
        # Interpolate through (0, other), (1, y1), (2, y2): there is such a polynomial of degree 2.
        half = pow(2, -1, PRIME)
        a2 = (other - 2 * y1 + y2) * half % PRIME
        a1 = (y1 - other - a2) % PRIME
        assert (other + a1 + a2) % PRIME == y1
        assert (other + 2 * a1 + 4 * a2) % PRIME == y2


@pytest.mark.slow
def test_single_shares_of_constant_secrets_are_uniform() -> None:
    # Low bytes of 20,000 first shares: 255 degrees of freedom, 366 is exceeded with probability 7e-6. The stream is
    # fixed, so the test passes always or never.
    shares = Polynomials([bytes(32)] * 20_000, 2, stream(5)).at([1])[:, 0, 0]
    counts = np.bincount(shares, minlength=256)
    assert ((counts - 20_000 / 256) ** 2 / (20_000 / 256)).sum() < 366


def test_one_wrong_share_gives_another_secret_or_none() -> None:
    points = (1, 2, 3)
    shares = Polynomials(SECRETS[:1], 3, stream()).at(points)[0].copy()
    for row in range(3):
        wrong = shares.copy()
        wrong[row, 0] ^= 1
        with contextlib.suppress(RangeError):
            assert combine(points, wrong) != SECRETS[0]


def test_a_share_has_one_spelling() -> None:
    assert read_share((PRIME - 1).to_bytes(33, "little")) == PRIME - 1
    for bad in (PRIME.to_bytes(33, "little"), b"\xff" * 33, bytes(32), bytes(34), b""):
        with pytest.raises(RangeError):
            read_share(bad)


def test_what_recombines_to_no_secret_of_32_bytes_is_refused() -> None:
    with pytest.raises(RangeError):
        Basis((1,)).combine([PRIME - 1])


@pytest.mark.parametrize("points", [(0, 1), (1, 1), (-1, 2), (1, 2**32)])
def test_points_that_repeat_or_would_show_the_secret_are_refused(points: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        Basis(points)
    with pytest.raises(UsageError):
        Polynomials(SECRETS, 2, stream()).at(points)


def test_wrong_lengths_and_thresholds_are_refused() -> None:
    with pytest.raises(UsageError):
        Polynomials([bytes(31)], 2, stream())
    with pytest.raises(UsageError):
        Polynomials(SECRETS, 0, stream())
    with pytest.raises(UsageError):
        Basis((1, 2)).combine([1])


def test_polynomials_are_not_shown_copied_or_pickled() -> None:
    secret = Polynomials([b"\x55" * 32], 2, stream())
    assert "55" not in repr(secret).lower()
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(secret)


def test_a_basis_is_that_of_lagrange() -> None:
    # On a small scale by definition: the product over j != i of x_j / (x_j - x_i).
    for points in itertools.permutations((2, 5, 11)):
        shares = [7, PRIME - 3, 1 << 200]
        expected = 0
        for i, x in enumerate(points):
            weight = 1
            for j, y in enumerate(points):
                if i != j:
                    weight = weight * y * pow(y - x, -1, PRIME) % PRIME
            expected += weight * shares[i]
        if expected % PRIME < 2**256:
            assert Basis(points).combine(shares) == (expected % PRIME).to_bytes(32, "little")


POINTS = (3, 4, 7, 1000, 2**31, 2**32 - 1)


@pytest.mark.parametrize("other", [POINTS, POINTS[1:], (*POINTS[:3], 5, 9), (1, 2, 8), (4, 3)])
def test_a_basis_made_from_another_is_that_of_its_points(other: tuple[int, ...]) -> None:
    changed = Basis(POINTS).changed_to(other)
    assert changed.points == other
    assert changed._coefficients == Basis(other)._coefficients


@pytest.mark.parametrize("count", [1, 2, 3, 70])
@pytest.mark.slow
def test_leaving_each_out_is_what_the_others_give(count: int) -> None:
    points = [5 * i + 1 for i in range(count + 1)]
    rows = Polynomials(SECRETS[:1], count, stream(7)).at(points)[0]
    shares = [read_share(row.tobytes()) for row in rows]
    assert Basis(points).without_each(shares) == [SECRETS[0]] * (count + 1)
    shares[0] ^= 1
    found = Basis(points).without_each(shares)
    assert found[0] == SECRETS[0]
    for i, secret in enumerate(found):
        others = [p for p in points if p != points[i]]
        with contextlib.suppress(RangeError):
            assert secret == Basis(others).combine([s for k, s in enumerate(shares) if k != i])
    assert SECRETS[0] not in found[1:]


def test_products_of_large_numbers_do_not_wrap() -> None:
    for numbers in ([2**32 - 1] * 40, [-(2**31)] * 3, [3] * 100, [1], [-1, 2**20]):
        product = 1
        for number in numbers:
            product = product * number % PRIME
        assert shamir._product(np.array(numbers, np.int64)) == product


@pytest.mark.parametrize("secret", [1 << 256, (1 << 256) + 296])
def test_numbers_below_the_prime_that_are_no_secret_of_32_bytes_are_none(secret: int) -> None:
    points = [1, 2, 3]
    shares = [(secret + 12345 * x) % PRIME for x in points]
    with pytest.raises(RangeError, match="no secret"):
        Basis(points).combine(shares)
    assert Basis(points).without_each(shares) == [None] * 3
    largest = [((1 << 256) - 1 + 12345 * x) % PRIME for x in points]
    assert Basis(points).combine(largest) == b"\xff" * 32
    assert Basis(points).without_each(largest) == [b"\xff" * 32] * 3
