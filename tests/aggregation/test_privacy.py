"""Noise inside the sum: as much as is counted on, fresh, accounted for, and the same numbers as without where it is tiny.

The module is long because one set of updates and budgets serves every protection.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import secagg
from secagg import dp
from secagg.aggregation import Bounded, Ckks, Masked, Privacy, Protection, Rlwe
from secagg.errors import PlanError, RangeError, UsageError
from secagg.prg import Stream
from secagg.updates.coding import Request
from secagg.updates.noisy import Noisy
from secagg.updates.structure import Structure

Get = Callable[[str], Protection]
NAMES = ("masked", "active", "additive", "rlwe", "single-rlwe", "paillier", "threshold-paillier")
# Noise of a thousandth of the norm or less: what is left is rounding.
FAINT = Privacy(epsilon=1e6, delta=1e-6, norm=16.0)
USUAL = Privacy(epsilon=2.0, delta=1e-6, norm=3.0, rounds=10)


def model(seed: int) -> dict[str, Any]:
    """Return a made-up update, shorter than FAINT's norm."""
    rng = np.random.default_rng(seed)
    return {
        "layer": [rng.normal(size=(3, 2)).astype(np.float32), rng.normal(size=2)],
        "half": rng.normal(size=3).astype(np.float16),
        "steps": np.int64(rng.integers(-5, 5)),
    }


UPDATES = {f"c{i}": model(i) for i in range(6)}
WEIGHTS = {name: 3 * i + 5 for i, name in enumerate(UPDATES)}


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what makes noise reproducible: every share is drawn from the stream of a seed, one after the other."""

    def seed(number: int) -> None:
        stream = Stream(number.to_bytes(32, "big"))
        monkeypatch.setattr("secagg.dp.mechanism.system_stream", lambda: stream)

    seed(1)
    return seed


def flat(update: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    parts = [*update["layer"], update["half"], update["steps"]]
    return np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in parts])


def share_of(privacy: Privacy, *, clients: int, min_clients: int, length: int) -> float:
    """Return the variance of one share of noise, as a number."""
    mechanism = privacy.mechanism(clients=clients, min_clients=min_clients, length=length)
    return mechanism.noise.variance * mechanism.grid.unit**2


def noisy(choice: Protection, privacy: Privacy, clients: int, update: Any, **more: Any) -> Noisy:
    request = Request(
        Structure(update, "c"), clips={"": privacy.norm}, precision=None, clients=clients, **more
    )
    cohort = {"min_clients": choice.min_clients(clients), "colluders": choice.colluders(clients)}
    return Noisy(request, privacy, **cohort, modular=choice.modular)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "random_rotation"), [*((name, False) for name in NAMES), ("masked", True), ("single-rlwe", True)]
)
def test_with_faint_noise_sums_are_those_of_numpy(
    protection: Get, name: str, random_rotation: bool, seeded: Callable[[int], None]
) -> None:
    privacy = Privacy(epsilon=1e6, delta=1e-6, norm=16.0, random_rotation=random_rotation)
    result = secagg.sum(UPDATES, protocol=protection(name), privacy=privacy)
    off = flat(result.value) - sum(map(flat, UPDATES.values()))
    # Steps of 2^-6 of six clients and of noise no larger; float16 rounds a sum near 10 by 2^-8.
    assert result.report.noise_std < 0.1
    assert np.max(np.abs(off[:-1])) < 6 * result.report.noise_std + 2.0**-8
    assert off[-1] == pytest.approx(0, abs=1)
    for part, first in zip(result.value["layer"], UPDATES["c0"]["layer"], strict=True):
        assert (part.dtype, part.shape) == (first.dtype, first.shape)
    assert result.value["half"].dtype == np.float16
    assert type(result.value["steps"]) is np.int64
    assert set(result.report.clipped.values()) == {0}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["masked", "additive", "rlwe", "paillier"])
@pytest.mark.parametrize("max_weight", [20, 20.0])
def test_with_faint_noise_weighted_means_are_those_of_numpy(
    protection: Get, name: str, max_weight: float, seeded: Callable[[int], None]
) -> None:
    result = secagg.mean(
        UPDATES,
        WEIGHTS,
        max_weight=max_weight,
        protocol=protection(name),
        privacy=FAINT,
        simulate_dropouts=["c2"],
    )
    kept = {name: weight for name, weight in WEIGHTS.items() if name != "c2"}
    expected = sum(weight * flat(UPDATES[name]) for name, weight in kept.items()) / sum(kept.values())
    off = flat(result.value) - expected
    assert result.report.noise_std < 0.05
    assert np.max(np.abs(off)) < 6 * result.report.noise_std + 2.0**-10
    assert result.report.weight == pytest.approx(sum(kept.values()), rel=0.02)
    assert result.value["steps"].dtype == np.float64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "absent"),
    [("masked", ()), ("masked", (0, 4)), ("active", (0, 4)), ("additive", (1,)), ("single-rlwe", (1, 2))],
)
def test_the_noise_in_a_sum_is_a_share_of_each_contributor_and_no_less_than_what_is_counted_on(
    protection: Get, name: str, absent: tuple[int, ...], seeded: Callable[[int], None]
) -> None:
    n, d, choice = 9, 20_000, protection(name)
    result = secagg.sum(
        np.zeros((n, d)), protocol=choice, privacy=USUAL, simulate_dropouts=[f"client{i}" for i in absent]
    )
    report = result.report
    assert len(report.contributors) == n - len(absent)
    share = share_of(USUAL, clients=n, min_clients=choice.min_clients(n), length=d)
    expected = len(report.contributors) * share
    # Of d near normal numbers the mean square errs by sqrt(2/d) of itself.
    error = 5 * math.sqrt(2 / d)
    assert np.mean(result.value**2) == pytest.approx(expected, rel=error)
    assert abs(np.mean(result.value)) < 5 * math.sqrt(expected / d)
    assert report.spent is not None
    assert report.spent.noise_std**2 == pytest.approx((choice.min_clients(n) - 3) * share)
    assert expected > report.spent.noise_std**2
    assert report.noise_std == pytest.approx(math.sqrt(expected), rel=0.01)


@pytest.mark.slow
def test_the_noise_of_a_mean_is_that_of_the_sum_over_the_contributors(
    seeded: Callable[[int], None],
) -> None:
    n, d = 8, 20_000
    result = secagg.mean(np.zeros((n, d)), privacy=USUAL, simulate_dropouts=["client1"])
    share = share_of(USUAL, clients=n, min_clients=6, length=d)
    assert np.mean(result.value**2) == pytest.approx(share / 7, rel=5 * math.sqrt(2 / d))
    assert result.report.noise_std == pytest.approx(math.sqrt(share / 7), rel=0.01)
    assert result.report.weight is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["masked", "single-rlwe"])
def test_rotated_noise_has_the_same_variance(
    protection: Get, name: str, seeded: Callable[[int], None]
) -> None:
    n, d = 4, 1 << 14
    privacy = Privacy(epsilon=2.0, delta=1e-6, norm=3.0, random_rotation=True, max_corrupt=0.25)
    choice = Masked(max_corrupt=0.25, max_dropout=0.25) if name == "masked" else protection(name)
    result = secagg.sum(np.zeros((n, d - 5)), protocol=choice, privacy=privacy)
    share = share_of(privacy, clients=n, min_clients=choice.min_clients(n), length=d - 5)
    assert result.report.length == d
    assert np.mean(result.value**2) == pytest.approx(n * share, rel=5 * math.sqrt(2 / d))


@pytest.mark.slow
def test_a_weighted_mean_is_nearly_unbiased_and_as_noisy_as_reported(seeded: Callable[[int], None]) -> None:
    n, d = 30, 10_000
    privacy = Privacy(epsilon=60.0, delta=1e-6, norm=3.0)
    rng = np.random.default_rng(5)
    weights = rng.integers(200, 1000, n).tolist()
    # All have the same norm, near to the largest; the first half of the numbers is of clients with large weights.
    update = np.full(d, 2.9 / math.sqrt(d))
    updates = np.array([update * (1 if weight > 600 else -1) for weight in weights])
    expected = np.average(updates, axis=0, weights=weights)
    result = secagg.mean(updates, weights, max_weight=1000, privacy=privacy)
    report = result.report
    assert report.weight is not None
    # One draw of the sum of weights: within 5 deviations; the mean over d numbers shows what it does to the ratio.
    share = share_of(Privacy(60.0, 1e-6, 3 * math.sqrt(2)), clients=n, min_clients=20, length=d + 1)
    of_weights = math.sqrt(n * share) / 3.0 * 1000
    assert abs(report.weight - sum(weights)) < 5 * of_weights
    ratio = sum(weights) / report.weight
    off = result.value - expected * ratio
    assert report.noise_std == pytest.approx(math.sqrt(n * share) * 3 * 1000 / (report.weight * 3), rel=0.01)
    assert abs(np.mean(off)) < 5 * report.noise_std / math.sqrt(d)
    assert np.std(off) == pytest.approx(report.noise_std, rel=5 / math.sqrt(2 * d) + 0.01)


@pytest.mark.slow
def test_many_weighted_means_average_to_the_exact_one(seeded: Callable[[int], None]) -> None:
    n, runs = 12, 200
    privacy = Privacy(epsilon=200.0, delta=1e-6, norm=2.0)
    weights = {f"c{i}": 5.0 + i % 6 for i in range(n)}
    updates = {name: np.array([0.5 - i / n, -1.2]) for i, name in enumerate(weights)}
    coding = noisy(Masked(), privacy, n, updates["c0"], mean=True, max_weight=10.0)
    found = []
    for _ in range(runs):
        vectors = [coding.encode([update], weights[name])[0] for name, update in updates.items()]
        found.append(coding.decode(np.sum(vectors, axis=0), n, 0.0))
    values = np.array([decoded.arrays[0] for decoded in found])
    expected = np.average(list(updates.values()), axis=0, weights=list(weights.values()))
    deviation = np.mean([decoded.noise_std for decoded in found])
    assert 0.02 < deviation < 0.15
    # What is reported is that of the number furthest from 0, which errs with the sum of weights as well.
    assert np.std(values[:, 1]) == pytest.approx(deviation, rel=5 / math.sqrt(2 * runs))
    of_sums = deviation / math.hypot(1, 1.2 / 2)
    assert np.std(values[:, 0]) == pytest.approx(of_sums, rel=5 / math.sqrt(2 * runs))
    assert np.max(np.abs(np.mean(values, axis=0) - expected)) < 5 * deviation / math.sqrt(runs)


@pytest.mark.slow
def test_noise_is_fresh_in_every_call() -> None:
    first, second = (secagg.sum(np.zeros((4, 2000)), privacy=USUAL).value for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
    assert not np.array_equal(first, second)


def test_an_update_of_any_length_adds_no_more_than_the_norm(seeded: Callable[[int], None]) -> None:
    short = {"a": np.zeros(3, np.float32), "b": np.zeros((2, 2), np.int64)}
    long = {"a": np.full(3, 3e38, np.float32), "b": np.full((2, 2), 1 << 62)}
    middling = {"a": np.array([30, 0, 0], np.float32), "b": np.array([[40, 0], [0, 0]])}
    result = secagg.sum({"u": long, "v": short, "w": middling}, privacy=FAINT, protocol="additive")
    # All arrays are one vector: (30, 40) becomes (3, 4) / 5 of the norm; beside 3e38, 2^62 is nothing.
    each = 16 / math.sqrt(3)
    assert result.value["a"] == pytest.approx([each + 16 * 0.6, each, each], abs=0.3)
    assert result.value["b"].tolist()[0][0] == pytest.approx(16 * 0.8, abs=1.3)
    assert np.max(np.abs(result.value["b"].reshape(-1)[1:])) <= 1
    assert result.report.clipped == {"u": 1, "v": 0, "w": 1}
    assert "u: its update, scaled down" in str(result.report)


def test_the_largest_float64_neither_overflows_nor_counts_more(seeded: Callable[[int], None]) -> None:
    xs = np.array([[1.7e308, 1.7e308], [-5e-324, 0.0], [0.0, 0.0]])
    result = secagg.mean(xs, privacy=FAINT)
    assert result.value == pytest.approx(16 / math.sqrt(2) / 3, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("weight", [1e-9, 0.3, 1.0])
@pytest.mark.parametrize("x", [np.zeros(50), np.full(50, 1e9), np.linspace(-1, 1, 50)])
def test_a_weighted_contribution_is_within_the_joint_norm(
    weight: float, x: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray[Any, Any]] = []
    contribute = dp.Contributor.contribute

    def watched(self: dp.Contributor, update: Any, **more: Any) -> Any:
        seen.append(update.copy())
        return contribute(self, update, **more)

    monkeypatch.setattr(dp.Contributor, "contribute", watched)
    coding = noisy(Masked(), Privacy(50.0, 1e-6, 2.0), 20, x, mean=True, max_weight=1.0)
    coding.encode([x], weight)
    (vector,) = seen
    assert np.linalg.norm(vector[:-1]) <= weight * 2.0 * (1 + 1e-12)
    assert vector[-1] == weight * 2.0
    assert np.linalg.norm(vector) <= weight * 2.0 * math.sqrt(2) * (1 + 1e-12)
    # The noise is made for that norm, and the coordinate of the weight is one of those that it covers.
    assert coding.mechanism.grid.clip == 2.0 * math.sqrt(2)
    assert coding.mechanism.noise.sensitivity.length == 51
    assert coding.mechanism.grid.sensitivity.l2 >= math.sqrt(8) / coding.mechanism.grid.unit


@pytest.mark.slow
def test_the_reported_epsilon_is_the_accountants_and_grows_with_rounds() -> None:
    xs, spent = np.ones((5, 7)), []
    for round_number in (1, 2, 9, 10):
        report = secagg.sum(xs, privacy=USUAL, round_number=round_number, protocol="additive").report.spent
        assert isinstance(report, dp.Report)
        expected = USUAL.mechanism(clients=5, min_clients=4, length=7).report(round_number)
        assert report == expected
        assert report.rounds == round_number
        spent.append(report.epsilon)
    assert spent == sorted(spent)
    assert len(set(spent)) == 4
    assert spent[-1] <= USUAL.epsilon
    assert spent[-1] == pytest.approx(USUAL.epsilon, rel=1e-3)


def test_where_noise_is_cut_off_this_is_taken_from_delta() -> None:
    n, d, choice = 9, 100, Rlwe()
    coding = noisy(choice, USUAL, n, np.zeros(d), mean=False, max_weight=None)
    noise = coding.mechanism.noise
    assert noise.budget.delta == USUAL.delta * (1 - 2**-20)
    assert coding.report(10).delta == USUAL.delta
    one = dp.Noise(noise.kind, noise.variance, noise.sensitivity, dp.Cohort(), noise.budget)
    room = coding.plan.limit - coding.mechanism.grid.element_units
    # Any number of any client in any round.
    beyond = n * d * USUAL.rounds * math.exp(one.log_tail(room))
    assert noise.budget.delta + (1 + math.exp(USUAL.epsilon)) * beyond <= USUAL.delta
    assert n * d * USUAL.rounds * math.exp(one.log_tail(room - 2)) * (1 + math.exp(2)) > 2**-20 * USUAL.delta


@pytest.mark.slow
def test_vectors_keep_to_the_bound_where_they_have_to(monkeypatch: pytest.MonkeyPatch) -> None:
    coding = noisy(Rlwe(), USUAL, 9, np.zeros(1000), mean=False, max_weight=None)
    far = 10 * coding.plan.limit

    def draw(self: dp.Skellam, count: int, rng: Stream) -> Any:
        return np.where(np.arange(count) % 2, far, -far)

    monkeypatch.setattr(dp.Skellam, "draw", draw)
    monkeypatch.setattr(coding, "_contributor", dp.Contributor(coding.mechanism))
    values, _ = coding.encode([np.zeros(1000)], 1)
    assert np.max(np.abs(values)) == coding.plan.limit


def test_an_epsilon_that_leaves_no_room_for_all_of_the_noise_is_refused() -> None:
    with pytest.raises(PlanError, match="more than 64 bits; use a smaller epsilon"):
        secagg.sum(np.zeros((9, 2)), protocol="rlwe", privacy=Privacy(1e18, 1e-6, 1.0))


@pytest.mark.slow
def test_the_smallest_delta_is_a_delta() -> None:
    privacy = Privacy(8.0, 5e-324, 1.0)
    assert secagg.sum(np.zeros((9, 2)), protocol="rlwe", privacy=privacy).report.noise_std > 0


@pytest.mark.parametrize("rounds", [0, 1.5, math.nan, math.inf])
def test_rounds_are_counted_in_whole_numbers(rounds: Any) -> None:
    with pytest.raises(UsageError, match="1 round or more, a whole number"):
        Privacy(8.0, 1e-6, 1.0, rounds=rounds)


@pytest.mark.slow
def test_the_larger_of_both_parts_of_corrupt_clients_is_not_counted_on() -> None:
    def honest(choice: Protection, corrupt: float) -> int:
        privacy = Privacy(8.0, 1e-6, 1.0, max_corrupt=corrupt)
        coding = noisy(choice, privacy, 20, np.zeros(3), mean=False, max_weight=None)
        return coding.mechanism.noise.cohort.honest

    assert honest(Masked(max_corrupt=0.4, max_dropout=0.1), 0.2) == 18 - 8
    assert honest(Masked(max_corrupt=0.1, max_dropout=0.1), 0.25) == 18 - 5
    assert honest(Rlwe(max_dropout=0.5), 0.25) == 10 - 5
    assert honest(Masked(max_corrupt=0.0, max_dropout=0.0), 0.0) == 20


XS = np.ones((6, 3))


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"clip": 1.0}, UsageError, r"Privacy\(norm=\.\.\.\); leave clip out"),
        ({"clip": "max"}, UsageError, "leave clip out"),
        ({"precision": 0.1}, UsageError, "leave precision out"),
        ({"protocol": Ckks()}, UsageError, 'ckks does not go with privacy: .*single updates.*use "masked"'),
        ({"protocol": "bounded"}, UsageError, "bounded does not go with privacy: .*out of bounds"),
        ({"protocol": Bounded(norm=2.0)}, UsageError, "bounded does not go with privacy"),
        ({"round_number": 11}, UsageError, r"round 11 is not among the 10 .*plan Privacy\(rounds"),
        ({"round_number": 0}, UsageError, "round 0 is not among"),
        ({"round_number": 1.0}, UsageError, "round_number as an integer, got a float"),
        ({"privacy": 8.0}, UsageError, "secagg.aggregation.Privacy as privacy, got a float"),
        ({"privacy": None, "clip": 1.0, "round_number": 2}, UsageError, "give privacy, or leave it out"),
        (
            {"protocol": Rlwe(max_dropout=0.6), "privacy": Privacy(2.0, 1e-6, 1.0, max_corrupt=0.5)},
            PlanError,
            "of 6 clients 3 are sure .* 3 are not counted on for noise: nobody is left; allow fewer dropouts",
        ),
    ],
)
def test_what_does_not_go_with_noise_is_refused(
    options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        secagg.sum(XS, **{"privacy": USUAL, **options})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "norm", "said"),
    [
        (np.uint16, 3.0, "uint16 is not; convert the updates to a signed type"),
        (np.int8, 20.0, "can reach .* does not fit int8; convert the updates to a wider type"),
        (np.float16, 9000.0, "can reach .* does not fit float16; convert the updates to a wider type"),
    ],
)
def test_sums_that_may_leave_their_dtype_with_their_noise_are_refused(
    dtype: type[Any], norm: float, said: str
) -> None:
    update = {"x": [np.ones(3, dtype)]}
    with pytest.raises(PlanError, match=f"at x/0: .*{said}"):
        secagg.sum([update] * 6, privacy=Privacy(8.0, 1e-6, norm))
    assert secagg.mean([update] * 6, privacy=Privacy(8.0, 1e-6, norm)).report.contributors


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float16, np.float64])
@pytest.mark.slow
def test_a_number_beyond_its_dtype_is_moved_to_the_border(dtype: type[Any]) -> None:
    update = np.ones(2, dtype)
    coding = noisy(Masked(), Privacy(8.0, 1e-6, 1.0), 6, update, mean=False, max_weight=None)
    least, most = coding._cast(Structure(update, "c").leaves[0], np.array([-1.7e308, 1.7e308]))
    info = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
    assert (least.dtype, most.dtype) == (dtype, dtype)
    assert float(most) > 0.999 * min(float(info.max), 1.7e308)
    assert float(least) == max(float(info.min), -1.7e308)


@pytest.mark.slow
def test_weights_that_are_lost_in_noise_give_no_mean(seeded: Callable[[int], None]) -> None:
    with pytest.raises(PlanError, match=r"even if all 6 weights were the largest.*larger epsilon"):
        secagg.mean(XS, [1] * 6, max_weight=1, privacy=Privacy(1.0, 1e-6, 1.0))
    strong = Privacy(100.0, 1e-6, 1.0)
    assert secagg.mean(XS, [9] * 6, max_weight=9, privacy=strong).report.weight == pytest.approx(54, abs=20)
    with pytest.raises(RangeError, match=r"not clearly above its noise.*this round is spent; give a smaller"):
        secagg.mean(XS, [9] * 6, max_weight=90_000, privacy=strong)
    with pytest.raises(UsageError, match="tells about the data; with privacy agree on max_weight"):
        secagg.mean(XS, [9] * 6, max_weight="max", privacy=strong)


def test_the_report_says_what_was_spent_and_on_whom_it_rests(seeded: Callable[[int], None]) -> None:
    secret = 0.7654321
    result = secagg.mean(
        {name: np.full(3, secret * i) for i, name in enumerate(("al", "bo", "cy", "di"))},
        {"al": 765, "bo": 1000, "cy": 1000, "di": 1000},
        max_weight=1000,
        privacy=Privacy(epsilon=90.0, delta=1e-7, norm=2.0, rounds=3),
        round_number=2,
    )
    text = " ".join(repr(result).split())
    spent = result.report.spent
    assert spent is not None
    for shown in (
        f"epsilon {spent.epsilon:.4g} of 90 spent at delta 1e-07, after 2 of 3 rounds; updates of norm 2",
        f"of standard deviation {result.report.noise_std:.3g} in every number, from 4 clients",
        "at least 3 of 4 clients are in every sum that is released",
        "at least 2 of those clip, add their noise as told, and tell nobody about it",
        "which is opened too, with its noise",
        "cy: its update, scaled down",
        "with noise",
    ):
        assert shown in text
    for hidden in ("0.7654", "1.5308", "2.2962"):
        assert hidden not in text
    assert "error" not in text
    assert result.report.error == math.inf
    assert result.report.privacy == Privacy(epsilon=90.0, delta=1e-7, norm=2.0, rounds=3)
    assert result.report.clips == {"": 2.0}


def test_without_privacy_nothing_of_it_is_reported() -> None:
    report = secagg.sum(XS, clip=1.0).report
    assert (report.spent, report.privacy, report.noise_std) == (None, None, 0.0)
    assert "noise" not in str(report)
    assert "error" in str(report)


def test_nothing_secret_shows(seeded: Callable[[int], None]) -> None:
    update = np.full(3, 0.7654321)
    coding = noisy(Masked(), USUAL, 6, update, mean=False, max_weight=None)
    values, _ = coding.encode([update], 1)
    shown = repr(coding) + repr(coding.decode(6 * values, 6, 0.0)) + repr(coding.mechanism) + coding.about
    for value in (*values, 0.7654):
        assert str(value) not in shown


@pytest.mark.slow
def test_noise_needs_its_package_and_the_rest_does_not() -> None:
    code = (
        "import sys; sys.modules['dp_accounting'] = None\n"
        "import secagg\n"
        "from secagg.aggregation import Privacy\n"
        "print(secagg.sum([1.0, 2.0], clip=2.0).value)\n"
        "try:\n"
        "    secagg.sum([1.0, 2.0, 3.0], privacy=Privacy(1.0, 1e-6, 2.0))\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "3.0"
    assert 'pip install "secagg[dp]"' in second


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"epsilon": 0.0}, UsageError),
        ({"epsilon": math.inf}, UsageError),
        ({"epsilon": math.nan}, UsageError),
        ({"delta": 0.0}, UsageError),
        ({"delta": 1.0}, UsageError),
        ({"norm": -1.0}, UsageError),
        ({"rounds": 0}, UsageError),
        ({"max_corrupt": 1.0}, UsageError),
        ({"adjacency": "add-remove"}, UsageError),
    ],
)
def test_a_privacy_out_of_range_is_refused(wrong: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^(expected|adjacency)"):
        Privacy(**{"epsilon": 1.0, "delta": 1e-6, "norm": 1.0, **wrong})


@pytest.mark.slow
def test_replacing_takes_twice_the_noise() -> None:
    def deviation(adjacency: Any) -> float:
        report = secagg.sum(XS, privacy=Privacy(2.0, 1e-6, 1.0, adjacency=adjacency)).report
        assert report.spent is not None
        assert report.spent.adjacency == adjacency
        return report.spent.noise_std

    assert deviation("replace") == pytest.approx(2 * deviation("zero-out"), rel=0.01)
