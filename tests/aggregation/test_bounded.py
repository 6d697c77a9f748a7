"""Bounded sums and means are those of plain numpy over the clients within bounds; who is not is left out and named.

The module is long because one set of updates within and out of bounds serves sums, means and weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import secagg
from secagg.aggregation import Aggregate, Bounded
from secagg.errors import PlanError, TooFewPartiesError, UsageError
from secagg.protocols.bounded_sum import reference
from secagg.updates.bounded import Quantized
from secagg.updates.coding import Request
from secagg.updates.structure import Structure
from updates import CLIPS, model

HOW = ("large", "long", "wrapping")


UPDATES = {f"c{i}": model(i) for i in range(6)}
FLOATS = {f"c{i}": np.random.default_rng(i).uniform(-1, 1, 12) for i in range(6)}
WEIGHTS = {name: 17 * i + 5 for i, name in enumerate(UPDATES)}


def leaves(update: Any) -> dict[str, np.ndarray[Any, Any]]:
    structure = Structure(update, "a")
    return {
        leaf.path: array for leaf, array in zip(structure.leaves, structure.flatten(update, "a"), strict=True)
    }


def check(
    result: Aggregate, updates: Mapping[str, Any], weights: Mapping[str, float] | None, *, mean: bool
) -> None:
    """Compare with plain numpy over the contributors."""
    names = result.report.contributors
    for path, got in leaves(result.value).items():
        xs = np.array([leaves(updates[name])[path] for name in names], np.float64)
        ws = np.array([weights[name] if weights else 1 for name in names]).reshape(-1, *[1] * (xs.ndim - 1))
        expected = (xs * ws).sum(axis=0) / (ws.sum() if mean else 1)
        off = np.max(np.abs(got.astype(np.float64) - expected))
        assert off <= result.report.errors[path] + 1e-12 * max(1.0, np.max(np.abs(expected))), path


def scaled(x: Any, norm: float) -> Any:
    return x * min(1.0, norm / float(np.linalg.norm(x)))


# What it computes.


def test_sums_are_those_of_numpy_and_exact_for_integers() -> None:
    result = secagg.sum(UPDATES, protocol="bounded", clip=CLIPS, precision=1e-6)
    check(result, UPDATES, None, mean=False)
    assert result.report.contributors == tuple(UPDATES)
    assert not result.report.dropped
    assert result.report.errors["layer/bias"] <= 1e-6
    assert result.report.errors["steps"] == 0
    assert result.value["steps"] == sum(update["steps"] for update in UPDATES.values())
    assert [x.dtype for x in leaves(result.value).values()] == [
        x.dtype for x in leaves(UPDATES["c0"]).values()
    ]
    assert isinstance(result.value["loss"], float)


def test_means_are_those_of_numpy_with_weights_and_without() -> None:
    check(secagg.mean(UPDATES, protocol="bounded", clip=CLIPS), UPDATES, None, mean=True)
    result = secagg.mean(UPDATES, WEIGHTS, protocol="bounded", clip=CLIPS, max_weight=100)
    check(result, UPDATES, WEIGHTS, mean=True)
    assert result.report.weight == sum(WEIGHTS.values())
    assert result.report.errors["layer/bias"] < 1e-6
    assert result.report.errors["steps"] < 1e-6


def test_short_numbers_come_back_exactly() -> None:
    xs = [np.array([0.5, -0.125, 1.0]), np.array([0.25, 1.0, 1.0])]
    assert secagg.sum(xs, protocol="bounded", clip=1.0).value.tolist() == [0.75, 0.875, 2.0]


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.uint64])
def test_integers_are_summed_exactly(dtype: Any) -> None:
    xs = np.array([[0, 5, 20], [20, 1, 20], [3, 4, 0]], dtype)
    result = secagg.sum(xs, protocol="bounded", clip=20)
    assert result.value.tolist() == [23, 10, 40]
    assert result.value.dtype == dtype
    assert result.report.error == 0


def test_numbers_beyond_the_clip_are_moved_to_it_and_counted() -> None:
    floats = np.array([[3.0, -7.0, 0.5], [1.0, 1.0, 1.0]])
    result = secagg.sum(floats, protocol="bounded", clip=2.0)
    assert result.value.tolist() == [3.0, -1.0, 1.5]
    assert result.report.clipped == {"client0": 2, "client1": 0}
    result = secagg.sum(floats.astype(int), protocol="bounded", clip=2.9)
    assert result.value.tolist() == [3, -1, 1]
    assert result.report.clipped == {"client0": 2, "client1": 0}


def test_updates_longer_than_the_norm_are_scaled_down_over_all_arrays_and_counted() -> None:
    long, short = (
        {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])},
        {"a": np.zeros(2), "b": np.array([[0.6]])},
    )
    result = secagg.sum([long, short, short], protocol=Bounded(norm=1.0), clip=10.0)
    for path, expected in (("a", [0.6, 0.0]), ("b", [[0.8 + 0.6 + 0.6]])):
        assert np.max(np.abs(result.value[path] - expected)) <= result.report.errors[path] + 1e-15
    assert result.report.clipped == {"client0": 2, "client1": 0, "client2": 0}
    assert not result.report.dropped


def test_the_norm_is_that_of_the_update_before_it_was_weighted() -> None:
    xs = {name: 3 * x for name, x in FLOATS.items()}
    result = secagg.mean(xs, WEIGHTS, protocol=Bounded(norm=1.5), clip=3.0, max_weight=100)
    check(result, {name: scaled(x, 1.5) for name, x in xs.items()}, WEIGHTS, mean=True)
    assert len(result.report.contributors) == 6


def test_integers_are_scaled_towards_zero_so_that_the_norm_is_exact() -> None:
    votes = np.array([[1, 0, 0], [0, 1, 0], [5, 0, 0], [4, -4, 0]])
    result = secagg.sum(votes, protocol=Bounded(norm=1.0), clip=10)
    # (4, -4, 0) has no vector of integers of norm 1 in its direction.
    assert result.value.tolist() == [2, 1, 0]
    assert result.report.error == 0
    assert "rounding" not in str(result.report)


@pytest.mark.slow
@given(
    st.integers(1, 60),
    st.floats(1e-3, 50),
    st.sampled_from([1e-6, 0.3, 1.0, 7.0, 1e5]),
    st.sampled_from([None, 1, 1000]),
    st.integers(0, 1000),
    st.booleans(),
)
@example(4, 1.0, 1.0, None, 0, False)
@settings(deadline=None, max_examples=120)
def test_what_honest_clients_share_keeps_to_the_bounds(
    d: int, spread: float, norm: float, max_weight: int | None, seed: int, equal: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = np.full(d, spread) if equal else rng.normal(size=d) * spread
    coding = Quantized(Request(Structure(x, "a"), True, {"": 10.0}, None, 5, max_weight), norm)
    vector, clipped = coding.encode([x], max_weight or 1)
    steps, weight = coding.split(vector)
    row = coding.bounds.row(coding.bounds.ring.from_signed(steps), weight)
    assert coding.bounds.allow(row)
    total = vector.copy()
    total[:d] *= weight or 1
    (got,) = coding.decode(total, 1, 0.0).arrays
    honest = np.clip(x, -10, 10)
    assert (clipped > 0) == (np.linalg.norm(honest) > norm or np.max(np.abs(x)) > 10)
    error = coding.decode(total, 1, 0.0).errors[""]
    assert np.max(np.abs(got - scaled(honest, norm))) <= error + 1e-13 * norm


@pytest.mark.slow
@given(st.integers(1, 40), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.sampled_from([None, 3, 1000]))
@settings(deadline=None, max_examples=100)
def test_bounds_are_no_wider_than_clip_and_norm_and_rounding(
    d: int, clip: float, norm: float, max_weight: int | None
) -> None:
    coding = Quantized(Request(Structure(np.zeros(d), "a"), True, {"": clip}, None, 5, max_weight), norm)
    bounds = coding.bounds
    step = Fraction(min(clip, norm)) / bounds.coordinate
    assert bounds.limit * step <= Fraction(clip)
    longest = Fraction(norm) / step + Fraction(math.isqrt(d) + 1, 2)
    assert bounds.norm_limit <= longest**2 + 1
    # The largest number of steps that a check bears, but for less than a factor of 2.
    assert (
        d * ((max_weight or 1) * bounds.limit) ** 2
        < 1 << 63
        <= 4 * d * ((max_weight or 1) * (bounds.limit + 1)) ** 2
    )


def test_every_array_has_its_own_clip_as_its_bound() -> None:
    update = {"a": np.zeros(2), "b": np.zeros(3, np.float32), "n": np.zeros(2, int), "m": np.zeros(1, int)}
    clips = {"a": 0.1, "b": 3.0, "n": 1000.0, "m": 7.0}
    coding = Quantized(Request(Structure(update, "a"), False, clips, None, 5, None))
    for sign in (1, -1):
        at_clip = [
            np.full_like(x, sign * clip) for x, clip in zip(update.values(), clips.values(), strict=True)
        ]
        vector, clipped = coding.encode(at_clip, 1)
        assert clipped == int(np.float32(3) > 3)
        assert np.abs(vector[:7]).tolist() == [coding.bounds.limit] * 7
    assert coding.checked == "every number within its clip"
    # 7 does not divide the bound of the others; where it shows what that lets pass, it is said.
    integers = {"n": np.zeros(2, int), "m": np.zeros(1, int)}
    coding = Quantized(Request(Structure(integers, "a"), False, clips, None, 5, None))
    assert coding.bounds.limit == 1000
    assert coding.encode([np.full(2, 1000), np.full(1, 7)], 1)[0].tolist() == [1000, 1000, 142 * 7]
    assert coding.checked == "every number within its clip, at m within 7.04225"


def test_numbers_of_any_size_are_scaled_without_overflow() -> None:
    for clip, norm, number in ((1e300, 1e-300, 1e300), (1e-300, 1.0, 1e-301), (1e300, 1e200, 1e300)):
        xs = np.full((3, 4), number)
        result = secagg.sum(xs, protocol=Bounded(norm=norm), clip=clip)
        assert np.max(np.abs(result.value - 3 * scaled_far(number, 4, norm))) <= result.report.error * (
            1 + 1e-9
        )
    assert secagg.sum(np.zeros((2, 3)), protocol=Bounded(norm=1.0), clip=1.0).value.tolist() == [0, 0, 0]


def scaled_far(number: float, d: int, norm: float) -> float:
    return min(number, norm / math.sqrt(d))


# Who cheats.


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_a_client_that_cheats_is_left_out_and_named(how: str, weights: Any) -> None:
    choice = Bounded(norm=2.0, simulate_cheating={"c3": how})
    options: dict[str, Any] = {} if weights is None else {"max_weight": 100}
    result = secagg.mean(FLOATS, weights, protocol=choice, clip=1.0, **options)
    assert result.report.contributors == ("c0", "c1", "c2", "c4", "c5")
    assert result.report.dropped == {"c3": "refused: out of bounds"}
    check(result, {name: scaled(x, 2.0) for name, x in FLOATS.items()}, weights, mean=True)
    assert "c3: refused: out of bounds" in str(result.report)


@pytest.mark.parametrize("how", ["large", "wrapping"])
def test_cheats_are_caught_without_a_norm_and_among_integers(how: str) -> None:
    choice = Bounded(simulate_cheating={"c1": how, "c4": how}, batch=2)
    result = secagg.sum(UPDATES, protocol=choice, clip=CLIPS)
    assert list(result.report.dropped) == ["c1", "c4"]
    check(result, UPDATES, None, mean=False)
    votes = np.eye(4, dtype=np.int64)
    result = secagg.sum(votes, protocol=Bounded(norm=1.0, simulate_cheating={"client2": how}), clip=1)
    assert result.value.tolist() == [1, 1, 0, 1]
    assert list(result.report.dropped) == ["client2"]


def test_names_alone_cheat_by_large_numbers() -> None:
    result = secagg.sum(FLOATS, protocol=Bounded(simulate_cheating=("c0",)), clip=1.0)
    assert result.report.dropped == {"c0": "refused: out of bounds"}


@pytest.mark.parametrize("how", HOW)
def test_each_cheat_breaks_what_it_says(how: str) -> None:
    from secagg.aggregation.bounded import _cheat

    bounds = Quantized(Request(Structure(np.zeros(9), "a"), True, {"": 1.0}, None, 5, 7), 2.0).bounds
    row = _cheat(how, bounds, 7)
    numbers = [abs(int(x)) for x in bounds.ring.to_signed(row)[1:]]
    over = max(numbers) > 7 * bounds.limit
    assert over == (how != "long")
    assert not bounds.allow(row)
    assert reference({"a": row}, bounds)[1] == ()
    if how == "wrapping":
        assert sum(x * x for x in numbers) % (1 << 64) == 0


# Who vanishes.


@pytest.mark.parametrize("stage", ["seeds", "share"])
def test_a_client_that_vanishes_is_left_out_and_named(stage: str) -> None:
    result = secagg.mean(
        UPDATES, WEIGHTS, protocol="bounded", clip=CLIPS, max_weight=100, simulate_dropouts={"c2": stage}
    )
    check(result, UPDATES, WEIGHTS, mean=True)
    assert result.report.contributors == ("c0", "c1", "c3", "c4", "c5")
    assert result.report.dropped == {"c2": f"vanished in round {stage}, as was asked for"}


def test_dropouts_and_cheats_together_may_be_as_many_as_planned_for() -> None:
    result = secagg.sum(
        FLOATS, protocol=Bounded(simulate_cheating=["c5"]), clip=1.0, simulate_dropouts=["c0"]
    )
    assert result.report.contributors == ("c1", "c2", "c3", "c4")
    check(result, FLOATS, None, mean=False)
    with pytest.raises(
        TooFewPartiesError, match=r"at least 4 of 6 .* got uploads of 5; out of bounds: c4, c5; missing: c0"
    ):
        secagg.sum(
            FLOATS, protocol=Bounded(simulate_cheating=["c4", "c5"]), clip=1.0, simulate_dropouts=["c0"]
        )
    with pytest.raises(TooFewPartiesError, match="got uploads of 3; missing: c0, c1, c2; no sum is opened"):
        secagg.sum(FLOATS, protocol="bounded", clip=1.0, simulate_dropouts=["c0", "c1", "c2"])


def test_clients_may_be_called_as_aggregators_are() -> None:
    xs = {f"aggregator {i}": np.ones(2) for i in range(1, 5)}
    assert secagg.sum(xs, protocol="bounded", clip=1.0).value.tolist() == [4, 4]


# What is refused.


@pytest.mark.parametrize(
    ("choice", "options", "said"),
    [
        (Bounded(), {"weights": [1.5, 2, 3], "max_weight": 3.5}, "integer weights: give max_weight=4"),
        (Bounded(norm=0.0), {}, "expected a positive number as the norm"),
        (Bounded(norm=math.inf), {}, "expected a positive number as the norm"),
        (Bounded(batch=0), {}, "batches of at least 1"),
        (Bounded(max_dropout=1.0), {}, "max_dropout as a fraction"),
        (Bounded(simulate_cheating="client1"), {}, "as a collection, got the text 'client1'"),
        (Bounded(simulate_cheating=("nobody",)), {}, "'nobody' cannot cheat: it is not among the clients"),
        (
            Bounded(simulate_cheating={"client1": "loud"}),
            {},
            "client1 cannot cheat by 'loud'; there is large, long, wrapping",
        ),
        (
            Bounded(simulate_cheating={"client1": "long"}),
            {},
            "no update within the clips is longer, or there is no norm",
        ),
        (
            Bounded(norm=2.0),
            {"clip": {"a": 1.0, "b": 2.0}},
            "one clip, and there are 1 to 2; give one, such as clip=2",
        ),
        (Bounded(norm=2.0), {"clip": "max"}, "one clip"),
        (Bounded(), {"clip": None}, "give clip"),
        (Bounded(), {"precision": -1.0}, "precision is a positive number"),
        (
            Bounded(),
            {"precision": 1e-12},
            r"of 4 numbers each may have 1518500249 quantization levels.* takes 500000000001; precision=3.33e-10 fits",
        ),
        (
            Bounded(),
            {"weights": [1, 2, 3], "max_weight": 20_000_000},
            r"up to 20000000 each may have 75 quantization levels.* 2\^-8 of the clip takes 128; precision=0.00673 fits",
        ),
        (
            Bounded(),
            {"weights": [1, 2, 3], "max_weight": 1 << 33},
            "each may have 0 quantization levels at most.* smaller clips or weights",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused_with_what_would_do(
    choice: Bounded, options: Any, said: str
) -> None:
    updates = [{"a": np.full(2, 0.5), "b": np.full(2, 0.1 * i)} for i in range(3)]
    call = {"clip": 1.0, **options}
    with pytest.raises(UsageError, match=said):
        secagg.mean(updates, protocol=choice, **call)


def test_a_precision_that_was_asked_for_is_kept_where_it_fits() -> None:
    xs = np.zeros((3, 4))
    asked = 3.33e-10  # what the message above says
    most = secagg.mean(xs, protocol="bounded", clip=1.0, precision=asked).report
    assert 0.98 * asked < most.error <= asked
    # No precision asked for: the best that is a power of two.
    assert secagg.sum(xs, protocol="bounded", clip=1.0).report.plan.clip == 1 << 30


@pytest.mark.parametrize(
    ("update", "choice", "clip", "kind", "said"),
    [
        ({"x": np.ones(2), "n": 3}, Bounded(norm=1.0), 4.0, UsageError, "convert 'n' to floats"),
        (np.ones(2, int), Bounded(norm=0.5), 4.0, UsageError, "makes zeros of integers"),
        (
            np.ones(2, int),
            Bounded(),
            1 << 40,
            PlanError,
            "of 2 numbers none may be above 2147483647.* up to 1099511627776",
        ),
        ({"x": np.ones(2), "n": 3}, Bounded(), 1e12, PlanError, "none may be above 1753413056"),
        (np.ones(2, np.int8), Bounded(), 100, PlanError, "do not fit int8"),
    ],
)
def test_integers_that_cannot_be_checked_are_refused(
    update: Any, choice: Bounded, clip: float, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        secagg.sum([update] * 3, protocol=choice, clip=clip)


def test_clips_of_integers_may_be_large_where_the_norm_is_small() -> None:
    xs = np.array([[1 << 40, 0], [0, -3]])
    assert secagg.sum(xs, protocol=Bounded(norm=100.0), clip=1 << 41).value.tolist() == [100, -3]


def test_noise_is_refused_as_it_has_no_bound() -> None:
    from secagg.aggregation import Privacy

    privacy = Privacy(epsilon=1.0, delta=1e-6, norm=1.0)
    with pytest.raises(UsageError, match="bounded does not go with privacy: noise has no bound"):
        secagg.sum(FLOATS, protocol="bounded", privacy=privacy)
    assert [Bounded(max_dropout=1 / 4).min_clients(n) for n in (2, 4, 100)] == [2, 3, 75]


# What it says and costs.


def test_the_report_says_who_learns_what_and_what_is_checked_and_shows_no_update() -> None:
    secret = 1.2345678
    xs = {"al": np.full(3, secret), "bo": np.full(3, 2 * secret), "cy": np.zeros(3), "di": np.ones(3)}
    weights = {"al": 76543, "bo": 1, "cy": 1, "di": 1}
    choice = Bounded(norm=3.0, simulate_cheating=("di",))
    result = secagg.mean(xs, weights, max_weight=100_000, clip=2.0, protocol=choice)
    text = str(result.report)
    for shown in (
        "bounded: 3 aggregators, shares of 64 bits",
        "every number within its clip, all together",
        "within the norm 3 (rounding may add",
        "over at least 3 clients",
        "unless two of them work together",
        "di: refused: out of bounds",
        "bo: 3 of its numbers",
        "4 of 64 bits each, 2^14 quantization levels up to 2, integer weights up to 100000, longer updates scaled down",
        "76545",
    ):
        assert shown in " ".join(text.split())
    for hidden in ("1.2345", "2.469", "76543", "76,543"):
        assert hidden not in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_a_client_sends_eight_bytes_a_number_and_two_seeds_whatever_it_holds(weights: Any) -> None:
    shown = []
    for xs in (FLOATS, {name: 0 * x for name, x in FLOATS.items()}):
        options: dict[str, Any] = {} if weights is None else {"max_weight": 1000}
        result = secagg.mean(xs, weights, protocol=Bounded(norm=1.0), clip=1.0, **options)
        totals = [result.report.ledgers[name].total() for name in FLOATS]
        assert {(t.sent.messages, t.sent.payload_bytes) for t in totals} == {
            (2, 8 * (12 + bool(weights)) + 64)
        }
        assert result.report.bits == 64
        roles = {role.role: role for role in result.report.roles}
        assert roles["client"].parties == 6
        assert roles["aggregator"].parties == 3
        shown.append([(r.sent_bytes, r.received_bytes, r.rounds) for r in roles.values()])
    assert shown[0] == shown[1]
