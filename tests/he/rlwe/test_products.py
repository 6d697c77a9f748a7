"""Products against Python's integers, at the extremes, and the check of every rounding."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg.errors import InexactError
from secagg.he.rlwe import fourier, products
from secagg.he.rlwe.parameters import Parameters, parameters
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.products import Workspace, multiply, transform_keys, transform_secret

try:
    from gmpy2 import mpz  # multiplies integers of a million bits a hundred times faster
except ImportError:
    mpz = int

SETS = [parameters(64), parameters(96), parameters(128)]
each_set = pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)


def stored(values: list[int]) -> list[int]:
    """Coefficients of X^0, X^1, ... in the order in which they are stored."""
    half = len(values) // 2
    return [v for pair in zip(values[:half], values[half:], strict=True) for v in pair]


def natural(values: list[int]) -> list[int]:
    return values[0::2] + values[1::2]


def slow_product(a: list[int], s: list[int], bits: int) -> list[int]:
    """a * s modulo X^N + 1 and 2^bits; one product of two long Python integers."""
    n, slot = len(a), bits + 32

    def joined(values: list[int]) -> int:
        return int.from_bytes(b"".join(v.to_bytes(slot // 8, "little") for v in values), "little")

    # s + 1 is not negative, so that no slot borrows; the product by 1 + X + ... is taken off again.
    whole = mpz(joined(a))
    lifted = int(whole * joined([v + 1 for v in s])).to_bytes(2 * n * slot // 8, "little")
    ones = int(whole * joined([1] * n)).to_bytes(2 * n * slot // 8, "little")
    step = slot // 8
    full = [
        int.from_bytes(lifted[i : i + step], "little") - int.from_bytes(ones[i : i + step], "little")
        for i in range(0, len(lifted), step)
    ]
    return [(full[k] - full[k + n]) % (1 << bits) for k in range(n)]


def polynomial(p: Parameters, values: list[int]) -> Polynomials:
    x, row = Polynomials.zeros(p, 1), stored(values)
    x.low[0] = np.array([v & (2**64 - 1) for v in row], np.uint64)
    if x.high is not None:
        x.high[0] = np.array([v >> 64 for v in row], x.high.dtype)
    return x


def integers(x: Polynomials, row: int = 0) -> list[int]:
    low = [int(v) for v in x.low[row]]
    if x.high is not None:
        low = [v + (int(h) << 64) for v, h in zip(low, x.high[row], strict=True)]
    return natural(low)


def small(values: list[int]) -> NDArray[np.int8]:
    return np.array(stored(values), np.int8)


def limbs(p: Parameters, values: list[int]) -> int:
    """The coefficient whose signed limbs are these, the lowest first, repeated as needed."""
    return sum(values[i % len(values)] << (i * p.limb_bits) for i in range(p.limbs)) % (1 << p.modulus_bits)


@functools.cache
def hard_factors(p: Parameters) -> dict[str, tuple[list[int], list[int]]]:
    n, rng = p.degree, np.random.default_rng(5)
    most, least = (1 << (p.limb_bits - 1)) - 1, -(1 << (p.limb_bits - 1))
    top, bottom = limbs(p, [most]), limbs(p, [least])
    ones, turns = [1] * n, [(-1) ** j for j in range(n)]
    halves = [1] * (n // 2) + [-1] * (n // 2)
    random = rng.integers(-1, 2, n).tolist()
    words = [int.from_bytes(rng.bytes(16), "little") % (1 << p.modulus_bits) for _ in range(n)]
    signs = [top if v > 0 else bottom for v in rng.integers(0, 2, n)]
    wave = [top if np.cos(2 * np.pi * 7 * j / n) >= 0 else bottom for j in range(n)]
    return {
        "all largest, all ones": ([top] * n, ones),
        "all least, all ones": ([bottom] * n, ones),
        "all least, all minus ones": ([bottom] * n, [-1] * n),
        "alternating, alternating": ([(top, bottom)[j % 2] for j in range(n)], turns),
        "alternating limbs, all ones": ([limbs(p, [most, least])] * n, ones),
        "largest, sign turned half way": ([top] * n, halves),
        "extremes at random, random": (signs, random),
        "extremes in a wave, in a wave": (wave, [1 if v == top else -1 for v in wave]),
        "all bits": ([(1 << p.modulus_bits) - 1] * n, turns),
        "the middle": ([1 << (p.modulus_bits - 1)] * n, ones),
        "uniform, random": (words, random),
        "uniform, one": (words, [1] + [0] * (n - 1)),
        "uniform, X^(N-1)": (words, [0] * (n - 1) + [1]),
    }


@pytest.mark.slow
@each_set
@pytest.mark.parametrize("name", list(hard_factors(SETS[0])))
def test_products_are_exact_at_the_extremes(p: Parameters, name: str) -> None:
    a, s = hard_factors(p)[name]
    expected = slow_product(a, s, p.modulus_bits)
    x = polynomial(p, a)
    assert integers(multiply(x, transform_secret(small(s), p))) == expected
    work = Workspace(p, 1)
    out = Polynomials.empty(p, 1)
    words = tuple(word[None] for word in out.words)
    work.multiply_keys(transform_keys([x]), work.load_small(small(s).reshape(1, -1)), words)
    assert integers(out) == expected


def test_the_slow_product_is_the_definition() -> None:
    rng = np.random.default_rng(3)
    a, s = [int(v) for v in rng.integers(0, 2**62, 16)], rng.integers(-1, 2, 16).tolist()
    by_hand = [0] * 16
    for i, v in enumerate(a):
        for j, w in enumerate(s):
            by_hand[(i + j) % 16] += v * w if i + j < 16 else -v * w
    assert slow_product(a, s, 64) == [v % 2**64 for v in by_hand]


@each_set
@pytest.mark.slow
def test_errors_of_rounding_stay_far_below_the_check(p: Parameters, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watch(z: NDArray[np.complex128]) -> None:
        fourier.inverse(z)
        numbers = (z * fourier.weights(p.degree).backward[:1]).view(np.float64)
        seen.append(float(np.max(np.abs(numbers - np.rint(numbers)))))

    monkeypatch.setattr(products, "inverse", watch)
    for a, s in hard_factors(p).values():
        multiply(polynomial(p, a), transform_secret(small(s), p))
    assert 0 < max(seen) < 0.03


@each_set
@pytest.mark.parametrize("error", [0.26, -0.26, 0.5, 1.5, np.nan, np.inf, -np.inf, 2.0**52, -(2.0**52)])
def test_a_product_further_than_a_quarter_from_integers_raises(
    p: Parameters, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, s = Polynomials.zeros(p, 3), transform_secret(np.ones(p.degree, np.int8), p)
    for limb in range(p.limbs):

        def spoil(z: NDArray[np.complex128], limb: int = limb) -> None:
            fourier.inverse(z)
            z[limb, 1, 0] += complex(0, error)  # the weight of entry 0 is 1

        monkeypatch.setattr(products, "inverse", spoil)
        with np.errstate(invalid="ignore"), pytest.raises(InexactError, match="nothing was encrypted"):
            multiply(x, s)


@pytest.mark.slow
@each_set
def test_a_product_within_a_quarter_of_integers_is_rounded_to_them(
    p: Parameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, s = hard_factors(p)["uniform, random"]
    errors = np.random.default_rng(1).uniform(-0.17, 0.17, (2, p.degree // 2))

    def spoil(z: NDArray[np.complex128]) -> None:
        fourier.inverse(z)
        z += errors[0] + 1j * errors[1]

    monkeypatch.setattr(products, "inverse", spoil)
    assert integers(multiply(polynomial(p, a), transform_secret(small(s), p))) == slow_product(
        a, s, p.modulus_bits
    )


@each_set
def test_many_blocks_are_as_many_products_whoever_computes_them(p: Parameters) -> None:
    rng = np.random.default_rng(2)
    blocks = products.batch_blocks(p) + 3
    x = Polynomials.empty(p, blocks)
    for word in x.words:
        word[:] = rng.integers(0, 2**32, word.shape).astype(word.dtype) * word.dtype.type(0x9E3779B1)
    s = transform_secret(rng.integers(-1, 2, p.degree).astype(np.int8), p)
    whole = multiply(x, s)
    for row in (0, 5, blocks - 1):
        assert multiply(x.rows(row, row + 1), s) == whole.rows(row, row + 1)
    with ThreadPoolExecutor(2) as threads:
        assert multiply(x, s, executor=threads) == whole


@pytest.mark.parametrize("degree", [4096, 8192])
def test_weights_are_rounded_correctly(degree: int) -> None:
    high, low = fourier._roots(degree)
    angles = np.arange(2 * degree) * (np.pi / degree)
    assert np.max(np.abs(high - np.exp(1j * angles))) < 1e-15
    # Unit length to 100 bits, from the two parts of each root.
    for j in range(0, 2 * degree, 97):
        parts = [int(v * 2.0**60 * 2.0**100) for v in (high[j].real, high[j].imag)]
        rests = [int(v * 2.0**60 * 2.0**100) for v in (low[j].real, low[j].imag)]
        length = sum((a + b) ** 2 for a, b in zip(parts, rests, strict=True))
        assert abs(length - (1 << 320)) < 1 << 220
    assert np.max(np.abs(low)) <= 2.0**-53


def test_a_replaced_transform_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fft(values: NDArray[np.complex128], out: NDArray[np.complex128]) -> None:
        out[:] = values

    for name in ("_FORWARD", "_BACKWARD"):
        with monkeypatch.context() as patch:
            patch.setattr(fourier, name, fft)
            with pytest.raises(InexactError, match="was replaced by"):
                fourier.weights.__wrapped__(4096)


@pytest.mark.parametrize("name", ["_FORWARD", "_BACKWARD"])
def test_an_inexact_transform_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true = getattr(fourier, name)

    def inexact(values: NDArray[np.complex128], **options: object) -> None:
        true(values, **options)
        values *= 1 + 1e-14

    inexact.__module__, inexact.__name__ = "numpy.fft", true.__name__
    monkeypatch.setattr(fourier, name, inexact)
    with pytest.raises(InexactError, match="wrong by"):
        fourier.weights.__wrapped__(4096)


def test_replacing_numpys_transform_after_import_replaces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    p = parameters(64)
    a, s = hard_factors(p)["uniform, random"]
    monkeypatch.setattr(np.fft, "fft", lambda *_, **__: None)
    monkeypatch.setattr(np.fft, "ifft", lambda *_, **__: None)
    assert integers(multiply(polynomial(p, a), transform_secret(small(s), p))) == slow_product(a, s, 64)
