"""Chi-square thresholds are the 1 - 1e-6 quantiles; the streams are seeded, so that no run differs from another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg.he.rlwe import sampling
from secagg.he.rlwe.parameters import parameters
from secagg.prg import Stream

N = 1 << 20


def stream(seed: int = 0) -> Stream:
    return Stream(seed.to_bytes(32, "big"))


class Script:
    """Stands in for a stream: gives the bytes it was given."""

    def __init__(self, *draws: bytes) -> None:
        self.draws = list(draws)

    def fill(self, out: NDArray[Any]) -> None:
        out.reshape(-1).view(np.uint8)[:] = np.frombuffer(self.draws.pop(0), np.uint8)

    def ring(self, shape: int, bits: int) -> NDArray[np.uint8]:
        assert bits == 8
        out = np.empty(shape, np.uint8)
        self.fill(out)
        return out


def binomial(k: int) -> float:
    return math.comb(42, k) / 2**42


def test_secrets_are_uniform_over_three_values() -> None:
    out = np.empty((4, N // 4), np.int8)
    sampling.ternary(out, stream())
    counts = np.bincount(out.reshape(-1) + 1, minlength=3)
    assert counts.sum() == N
    assert len(counts) == 3
    assert np.sum((counts - N / 3) ** 2 / (N / 3)) < 27.6  # 2 degrees of freedom


def test_each_value_stands_for_85_bytes_and_zero_is_drawn_anew() -> None:
    out = np.empty(256, np.int8)
    sampling.ternary(out, Script(bytes(range(256)), bytes([0]), bytes([200])))  # type: ignore[arg-type]
    assert out[0] == 1  # twice rejected, then 200
    assert [int(np.sum(out[1:] == v)) for v in (-1, 0, 1)] == [85, 85, 85]


def test_noise_is_binomial_over_42_coins() -> None:
    for kind in ("counts", "signed"):
        if kind == "counts":
            counts, words = np.zeros(N, np.uint64), np.empty(N, np.uint64)
            sampling.noise_counts(counts, words, stream(1))
            values = counts.astype(np.int64) - sampling.ETA
        else:
            values = sampling.noise((N,), stream(1)).astype(np.int64)
        assert np.max(np.abs(values)) <= sampling.ETA
        found = np.bincount(values + 21, minlength=43)
        inner = range(8, 35)
        expected = [N * binomial(k) for k in inner]
        statistic = sum((found[k] - e) ** 2 / e for k, e in zip(inner, expected, strict=True))
        assert statistic < 79  # 26 degrees of freedom
        assert math.isclose(np.var(values), sampling.VARIANCE, rel_tol=0.01)


def test_noise_has_the_width_that_the_security_estimate_assumes() -> None:
    variance = sum(binomial(k) * (k - 21) ** 2 for k in range(43))
    assert math.isclose(variance, sampling.VARIANCE)
    assert math.isclose(math.sqrt(variance), 3.24, rel_tol=1e-3)


def test_counts_are_written_to_lowest_bytes_only() -> None:
    counts, words = np.zeros((2, 8), np.uint64), np.empty((2, 8), np.uint64)
    for seed in range(3):
        sampling.noise_counts(counts, words, stream(seed))
        assert counts.max() <= 42
        np.testing.assert_array_equal(
            counts.astype(np.int64) - 21, sampling.noise((2, 8), stream(seed)).astype(np.int64)
        )


@pytest.mark.parametrize("bits", [64, 96, 128])
def test_uniform_words_are_the_keystream(bits: int) -> None:
    p = parameters(bits)
    x, keystream = sampling.uniform(p, 2, stream(4)), stream(4)
    for word in x.words:
        assert word.tobytes() == keystream.bytes(word.nbytes)
