"""Updates of few bits a number and of a part of the numbers: right on average, and off by what is stated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import secagg
from secagg.aggregation import Bounded, Ckks, Compression, Masked, Paillier, Privacy, Rlwe
from secagg.errors import PlanError, RangeError, UsageError
from secagg.prg import Stream
from secagg.updates.coding import Request
from secagg.updates.compressed import Compressed
from secagg.updates.structure import Structure

SEED = bytes(range(32))
RNG = np.random.default_rng(5)
UPDATE = RNG.uniform(-1, 1, 200)
CLIENTS = {f"c{i}": {"w": RNG.uniform(-1, 1, 400), "b": RNG.uniform(-3, 3, 20)} for i in range(5)}
WEIGHTS = {name: 3 * i + 1 for i, name in enumerate(CLIENTS)}


def coding_of(
    compression: Compression, *, clients: int = 1, max_weight: int | None = None, mean: bool = True
) -> Compressed:
    request = Request(Structure(UPDATE, "c"), mean, {"": 1.0}, None, clients, max_weight)
    return Compressed(request, compression, rng=Stream(SEED))


@pytest.mark.parametrize(("bits", "weight"), [(2, None), (5, None), (5, 70), (9, 70)])
@pytest.mark.slow
def test_rounding_is_right_on_average_and_off_by_what_is_stated(bits: int, weight: int | None) -> None:
    max_weight = None if weight is None else 100
    coding = coding_of(Compression(bits), max_weight=max_weight)
    found = [coding.decode(coding.encode([UPDATE], weight or 1)[0], 1, 0.0) for _ in range(400)]
    off = np.array([one.arrays[0] for one in found]) - UPDATE
    assert np.max(np.abs(off)) < found[0].errors[""]
    assert {one.weight for one in found} == {weight}
    std = found[0].noise_std  # at most, of each number
    # 200 averages of 400; beyond 5.5 standard deviations with a probability of 10^-5, and the stream is fixed.
    assert np.max(np.abs(off.mean(axis=0))) < 5.5 * std / 20
    # Of a uniform fraction f, f (1 - f) is 1/6 on average, 2/3 of the largest.
    assert np.sqrt(np.mean(off**2)) == pytest.approx(std * np.sqrt(2 / 3), rel=0.1)


def test_a_mean_that_rounding_makes_noise_of_is_refused_and_a_bound_above_the_clip_is_said() -> None:
    rows = [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, -1.0]]
    with pytest.raises(RangeError, match="698 times the clip: the mean would be noise; give a max_weight"):
        secagg.mean(rows, weights=[1, 1, 2], max_weight=100_000, clip=5.0, compression=Compression(bits=6))
    with pytest.raises(RangeError, match=r"1\.4 times the clip"):  # 200 sqrt(3) / 31 / 4 / 2
        secagg.mean(rows, weights=[1, 1, 2], max_weight=200, clip=5.0, compression=Compression(bits=6))
    few = secagg.mean(rows, weights=[1, 1, 2], max_weight=2, clip=5.0, compression=Compression(bits=3))
    assert few.report.error < 5
    assert "below the clip" not in str(few.report)
    few = secagg.mean(rows, clip=5.0, compression=Compression(bits=2))
    assert few.report.error >= 5
    assert "That is not below the clip" in str(few.report)
    assert "below the clip" not in str(secagg.sum(rows, clip=5.0, compression=Compression(bits=2)).report)


@pytest.mark.slow
def test_numbers_that_are_drawn_make_a_result_that_is_right_on_average() -> None:
    found = []
    for i in range(600):
        coding = coding_of(Compression(8, 0.2, seed=i.to_bytes(32, "big")))
        vector, clipped = coding.encode([UPDATE], 1)
        assert (vector.size, clipped) == (40, 0)
        found.append(coding.decode(vector, 1, 0.0))
    off = np.array([one.arrays[0] for one in found]) - UPDATE
    std = 2 * np.abs(UPDATE).max()  # sqrt(d / k - 1) times the number, at most
    assert np.max(np.abs(off.mean(axis=0))) < 5.5 * std / np.sqrt(600)
    stated = np.sqrt(np.mean([one.noise_std**2 for one in found]))
    assert np.sqrt(np.mean(off**2)) == pytest.approx(stated, rel=0.05)
    for errors, one in zip(off, found, strict=True):
        assert np.max(np.abs(errors)) <= one.errors[""]


@pytest.mark.slow
def test_each_number_is_drawn_as_often_as_any_other() -> None:
    compression = Compression(keep=0.25)
    drawn = [compression.places(40, i.to_bytes(32, "big")) for i in range(1200)]
    assert all(places.size == 10 and (np.diff(places) > 0).all() for places in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=40)
    # Binomial(1200, 1/4): a standard deviation of 15, of 40 places.
    assert np.max(np.abs(counts - 300)) < 5 * 15
    assert np.array_equal(drawn[3], compression.places(40, (3).to_bytes(32, "big")))
    assert len({places.tobytes() for places in drawn}) > 1190


@pytest.mark.slow
@given(st.integers(1, 10**4), st.integers(6, 24))
def test_weights_come_back_exactly(weight: int, bits: int) -> None:
    coding = coding_of(Compression(bits), clients=3, max_weight=10**4)
    vectors = [coding.encode([UPDATE], w)[0] for w in (weight, 1, 10**4)]
    assert all(np.max(np.abs(vector)) <= coding.plan.limit for vector in vectors)
    assert coding.decode(np.sum(vectors, axis=0), 3, 0.0).weight == weight + 1 + 10**4


@pytest.mark.slow
def test_what_is_opened_of_weights_is_their_sum_at_random_places() -> None:
    # Up to the levels there is one coordinate: the sum itself.
    assert coding_of(Compression(8), max_weight=127).length == UPDATE.size + 1
    coding = coding_of(Compression(8), clients=3, max_weight=1000)
    spread = coding.length - UPDATE.size
    assert spread == 32
    for weights in ((1, 1, 998), (333, 333, 334)):
        sums = np.array(
            [sum(coding.encode([UPDATE], w)[0][UPDATE.size :] for w in weights) for _ in range(200)]
        )
        assert (sums.sum(axis=1) == 1000).all()
        # 1000 units among 32 places, whatever the weights: of 6400 counts the mean is exact, and the variance is
        # 1000 / 32 (1 - 1 / 32), to 1.8 percent.
        assert sums.var() == pytest.approx(1000 / 32 * 31 / 32, rel=0.09)
        # Each place on average: 200 sums, a standard deviation of 0.39.
        assert np.max(np.abs(sums.mean(axis=0) - 1000 / 32)) < 5 * 0.39


@pytest.mark.parametrize(
    ("bits", "max_weight", "way"), [(2, 2, "bits=3"), (8, 10**7, "bits=10"), (2, 10**9, "units")]
)
def test_weights_that_would_be_told_in_parts_are_refused(bits: int, max_weight: int, way: str) -> None:
    with pytest.raises(PlanError, match=f"do not fit {bits} bits.*{way}"):
        coding_of(Compression(bits), max_weight=max_weight)


def exact(mean: bool) -> dict[str, Any]:
    weights = np.array(list(WEIGHTS.values() if mean else [1] * 5))
    stacked = {key: np.array([update[key] for update in CLIENTS.values()]) for key in ("w", "b")}
    return {key: weights @ rows / (weights.sum() if mean else 1) for key, rows in stacked.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "keep"),
    [
        (Masked(), 1.0),
        (Masked(), 0.3),
        ("additive", 0.3),
        (Rlwe(key_holders=1), 1.0),
        (Paillier(bits=2048), 0.3),
    ],
)
def test_compressed_results_are_within_their_bounds_under_each_protocol(protocol: Any, keep: float) -> None:
    clip, compression = {"w": 1.0, "b": 3.0}, Compression(6, keep, SEED)
    total = secagg.sum(CLIENTS, protocol=protocol, clip=clip, compression=compression)
    means = secagg.mean(
        CLIENTS, WEIGHTS, protocol=protocol, clip=clip, compression=compression, max_weight=20
    )
    for result, expected in ((total, exact(mean=False)), (means, exact(mean=True))):
        for key, numbers in expected.items():
            off = np.abs(result.value[key] - numbers)
            assert np.max(off) <= result.report.errors[key]
        rms = np.sqrt(np.mean(np.concatenate([result.value[k] - expected[k] for k in expected]) ** 2))
        assert 0 < rms < 1.5 * result.report.noise_std  # of 420 numbers, of which 126 may be drawn
        assert "right on average" in str(result.report)
    assert means.report.weight == sum(WEIGHTS.values())


@pytest.mark.slow
def test_what_is_sent_shrinks_with_bits_and_numbers() -> None:
    updates = np.zeros((10, 40_000))

    def sent(**options: Any) -> tuple[int, float]:
        report = secagg.sum(updates, clip=1.0, **options).report
        return report.ledgers["client3"].total().sent.frame_bytes, report.bits

    plain, bits = sent()
    assert bits == 24  # 20 for a number, 4 for ten clients
    eight, bits = sent(compression=Compression(bits=8))
    assert bits == 12
    tenth, _ = sent(compression=Compression(bits=8, keep=0.1))
    assert plain > 40_000 * 24 / 8
    keys = plain - 40_000 * 24 // 8  # and shares, which do not shrink
    assert eight - keys == pytest.approx(40_000 * 12 / 8, abs=64)
    assert tenth - keys == pytest.approx(4_000 * 12 / 8, abs=64)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"protocol": Bounded()}, "64 bits however few"),
        ({"protocol": Ckks()}, "no shorter for few bits"),
        ({"privacy": Privacy(1.0, 1e-6, 1.0), "clip": None}, "leave compression out"),
        ({"precision": 0.1}, "leave precision out"),
        ({"compression": 8}, "expected secagg.Compression"),
        ({"weights": [1.0] * 3, "max_weight": 2.0}, "max_weight=2"),
        ({"updates": [np.arange(3)] * 3}, "would round integers"),
    ],
)
def test_what_does_not_go_with_compression_is_refused(options: dict[str, Any], match: str) -> None:
    given: dict[str, Any] = {"updates": np.zeros((3, 4)), "clip": 1.0, "compression": Compression()}
    given |= options
    with pytest.raises(UsageError, match=match):
        secagg.mean(given.pop("updates"), given.pop("weights", None), **given)


@pytest.mark.parametrize("fields", [{"bits": 1}, {"bits": 25}, {"bits": 8.0}, {"keep": 0.0}, {"keep": 1.5}])
def test_a_compression_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Compression(**fields)
    with pytest.raises(UsageError, match="32 bytes"):
        Compression(seed=b"short")


def test_results_that_leave_a_short_dtype_when_they_are_scaled_up_are_refused() -> None:
    updates = np.zeros((4, 10), np.float16)
    assert secagg.sum(updates, clip=5000.0, compression=Compression()).value.dtype == np.float16
    with pytest.raises(PlanError, match="do not fit float16"):
        secagg.sum(updates, clip=5000.0, compression=Compression(keep=0.1))
    # By rounding, a small weight's number may come out many times the clip.
    with pytest.raises(PlanError, match="do not fit float16"):
        secagg.mean(updates, [1] * 4, max_weight=100, clip=10_000.0, compression=Compression(bits=5))


def test_what_is_stated_of_numbers_that_were_not_drawn_is_their_clip_and_rounding_counts_as_often_as_drawn() -> (
    None
):
    for mean, most in ((True, 1.0), (False, 3.0)):
        coding = coding_of(Compression(8, 0.25, SEED), clients=3, mean=mean)
        found = coding.decode(np.zeros(50, np.int64), 3, 0.0)
        # What was not drawn is zero here, and may have been as large as the clip at each client.
        assert found.errors[""] == most
        # Three numbers of 127 levels are rounded, each by a variance of 1/4, and one in four is drawn.
        assert found.noise_std == pytest.approx(math.sqrt(3 / 4 * 4) / 127 / (3 if mean else 1))
