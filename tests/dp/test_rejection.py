"""The bounds that decide in integers hold at every number of small distributions, and doubt is settled by further digits."""

from __future__ import annotations

from fractions import Fraction

import pytest

pytest.importorskip("dp_accounting", reason="differential privacy needs dp-accounting")

import mpmath
import numpy as np
from scipy import stats

from secagg.dp.distributions import GaussianDistribution, PoissonDistribution
from secagg.dp.rejection import RejectionSampler
from secagg.prg import Stream

WORD = 1 << 64
DISTRIBUTIONS: dict[str, GaussianDistribution | PoissonDistribution] = {
    "gaussian 1/4": GaussianDistribution(Fraction(1, 4)),
    "gaussian 10": GaussianDistribution(Fraction(10)),
    "gaussian 5000": GaussianDistribution(Fraction(5000)),
    "gaussian 10^5 + 1/3": GaussianDistribution(Fraction(300001, 3)),
    "poisson 1/1000": PoissonDistribution(Fraction(1, 1000)),
    "poisson 3": PoissonDistribution(Fraction(3)),
    "poisson 60": PoissonDistribution(Fraction(60)),
    "poisson 4000 + 1/7": PoissonDistribution(Fraction(28001, 7)),
}


def weight(distribution, x):
    with mpmath.workdps(60):
        log = distribution.log_weight(x, 50)
        return mpmath.mpf(0) if log is None else mpmath.exp(mpmath.mpf(str(log)))


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_number_is_bracketed_and_none_is_accepted_with_more_than_certainty(name):
    distribution = DISTRIBUTIONS[name]
    sampler = RejectionSampler(distribution)
    m = 1 << sampler._bin_bits
    assert sum(sampler._weights) == WORD
    assert all(w > 0 for w in sampler._weights)
    covered, doubt = [], mpmath.mpf(0)
    with mpmath.workdps(60):
        for i, bin_ in enumerate(sampler._bins):
            w = sampler._weights[i]
            low, slope = int(sampler._lows[i]), int(sampler._slopes[i])
            high, rise = int(sampler._highs[i]), int(sampler._rises[i])
            if bin_.step_bits is not None:
                assert (low, slope, high, rise) == (0, 0, WORD - 1, 0)
                for t in range(0, 40 << bin_.step_bits, max(1, (1 << bin_.step_bits) // 3)):
                    heads = t >> bin_.step_bits
                    f = weight(distribution, bin_.edge + bin_.sign * t)
                    assert sampler._scale * f * (2 << (bin_.step_bits + heads)) <= w
                continue
            for t in range(m):
                x = bin_.edge + bin_.sign * t
                covered.append(x)
                accepted = WORD * sampler._scale * m * weight(distribution, x) / w
                assert accepted <= WORD
                assert 0 <= low - t * slope <= accepted
                assert high - t * rise >= 0
                assert accepted <= high - t * rise + 1  # a word above high - t * rise is rejected
                doubt += mpmath.mpf(w) / m / WORD * (high - t * rise + 1 - (low - t * slope)) / WORD
    assert len(set(covered)) == len(covered)
    inner = [b.edge for b in sampler._bins if b.step_bits is not None]
    lowest = min(inner) + 1 if len(inner) == 2 else 0
    assert set(range(lowest, max(inner))) <= set(covered)
    assert doubt < 1 / 500


# Weights of tails are whole numbers rounded up, so for most distributions they are 1 whatever they are computed from.
# Where nearly all weight lies on the mode, and the tail begins just where it may, twice that is needed.
NARROW: dict[str, GaussianDistribution | PoissonDistribution] = {
    "gaussian 50/4501": GaussianDistribution(Fraction(50, 4501)),  # ln f(1) is -45.01
    "poisson e^-45.01": PoissonDistribution(Fraction(2834, 10**23)),
}


@pytest.mark.parametrize("name", NARROW)
def test_a_tail_weighs_enough_where_it_begins_as_high_as_it_may(name):
    distribution = NARROW[name]
    sampler = RejectionSampler(distribution)
    tails = [
        (bin_.edge, bin_.step_bits, w)
        for bin_, w in zip(sampler._bins, sampler._weights, strict=True)
        if bin_.step_bits is not None
    ]
    assert tails
    for edge, step_bits, w in tails:
        with mpmath.workdps(60):
            needed = sampler._scale * weight(distribution, edge) * (2 << step_bits)
            assert needed > 1  # more than rounding up gives
            assert needed <= w


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian 10", "poisson 60", "gaussian 10^5 + 1/3"])
def test_tails_are_sampled_in_proportion_to_the_distribution(name):
    """4,000 attempts in the upper tail, chi-square over up to 8 cells; false alarm 1e-6."""
    distribution, rng = DISTRIBUTIONS[name], Stream(b"tails of the law, 32 bytes long!")
    sampler = RejectionSampler(distribution)
    number = next(i for i, b in enumerate(sampler._bins) if b.step_bits is not None and b.sign == 1)
    edge, step_bits, words = sampler._bins[number].edge, sampler._bins[number].step_bits, rng.words(4000)
    assert step_bits is not None
    # As the weight of the bin is rounded up to a whole number, few would be kept: words are drawn below the bound.
    peak = sampler._scale * weight(distribution, edge) * (2 << step_bits)
    scaled = [int(int(w) * min(mpmath.mpf(1), peak / sampler._weights[number])) for w in words]
    tries = [sampler._decide(number, edge, w, rng) for w in scaled]
    kept = np.array([x - edge for x, keep in tries if keep])
    assert len(kept) > 1000
    width = max(1, distribution.spread // 30)
    probabilities = np.array(
        [
            float(sum(weight(distribution, edge + t) for t in range(c * width, (c + 1) * width)))
            for c in range(12)
        ]
    )
    rest = float(sum(weight(distribution, edge + t) for t in range(12 * width, 60 * width)))
    expected = np.append(probabilities, rest) / (probabilities.sum() + rest) * len(kept)
    observed = np.append([np.sum(kept // width == c) for c in range(12)], np.sum(kept // width >= 12))
    cells = int(np.sum(expected > 20))
    folded = [np.append(a[: cells - 1], a[cells - 1 :].sum()) for a in (observed, expected)]
    assert stats.chisquare(*folded).pvalue > 1e-6


class Scripted(Stream):
    """Gives what it is told to, in place of what a seed would."""

    def __init__(self, words):
        self.left = list(words)

    def words(self, n):
        return np.array([self.left.pop(0) for _ in range(n)], np.uint64)


class ScriptedTail(Scripted):
    """Words, and what `below` gives, as they are asked for: coins, the place in a step, digits in doubt."""

    def __init__(self, heads, low):
        super().__init__([1] * heads + [0])
        self.low = low

    def below(self, bound, shape):
        assert self.low < bound
        return np.array([self.low], np.uint64)


@pytest.mark.parametrize("name", ["gaussian 10", "gaussian 5000", "poisson 60"])
@pytest.mark.parametrize("heads", [0, 1, 3])
def test_a_number_in_a_tail_comes_as_often_as_its_weight_says(name, heads):
    # It is proposed with probability W / 2^64 / (2^(heads + 1) T), and being kept makes that S f / 2^64.
    distribution = DISTRIBUTIONS[name]
    sampler = RejectionSampler(distribution)
    for number, bin_ in enumerate(sampler._bins):
        if bin_.step_bits is None:
            continue
        step = 1 << bin_.step_bits
        low = step // 2
        x = bin_.edge + bin_.sign * (heads * step + low)
        with mpmath.workdps(80):
            proposed = mpmath.mpf(sampler._weights[number]) / 2 ** (heads + 1) / step
            word = int(WORD * sampler._scale * weight(distribution, x) / proposed)
        assert 1 < word < WORD - 1
        for asked, keep in ((word - 1, True), (word + 1, False)):
            rng = ScriptedTail(heads, low)
            assert sampler._decide(number, bin_.edge, asked, rng) == (x, keep)
            assert rng.left == []


def test_a_word_in_doubt_is_decided_by_further_words():
    distribution = DISTRIBUTIONS["gaussian 5000"]
    sampler = RejectionSampler(distribution)
    x, size = 33, 1 << sampler._bin_bits
    number = next(i for i, b in enumerate(sampler._bins) if b.sign == 1 and b.edge <= x < b.edge + size)
    with mpmath.workdps(80):
        exact = sampler._scale * size * weight(distribution, x) / sampler._weights[number]
        word = int(exact * WORD)
        next_word = int((exact * WORD - word) * WORD)
    for script, keep in ([next_word - 1], True), ([next_word + 1], False):
        rng = Scripted(script)
        assert sampler._decide(number, x, word, rng) == (x, keep)
        assert rng.left == []
    assert sampler._decide(number, x, word - 1, Scripted([])) == (x, True)
    assert sampler._decide(number, x, word + 1, Scripted([])) == (x, False)
