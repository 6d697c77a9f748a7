"""A model's metrics by group on shares are those of scikit-learn on pooled rows, and small counts do not follow."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

from clear import run_clear
from secagg import mpc
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc.arrays.engine import Engine
from secagg.network.simulated import simulate
from secagg.patterns.health import metrics_by_group
from secagg.statistics.served import GroupMetrics, _told, _told_bins, group_counts, metrics_of, released

SMALLEST, BINS, GROUPS = 8, 4, 5
RNG = np.random.default_rng(3)


def rows_of(sizes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    group = np.repeat(np.arange(len(sizes)), sizes)
    score = RNG.beta(1.5, 1.5, len(group))
    label = RNG.uniform(size=len(group)) < score * np.where(group == 1, 0.6, 1.0)
    return group, label, score


# The third group is small; the fourth has few positives; the last is empty.
OWNERS = [rows_of(sizes) for sizes in ((60, 45, 2, 30, 0), (50, 40, 1, 20, 0), (70, 50, 3, 25, 0))]
for group, label, _score in OWNERS:
    label[(group == 3) & (np.arange(len(group)) % 20 != 0)] = False
POOLED = [np.concatenate(column) for column in zip(*OWNERS, strict=True)]


def reference(i: int) -> GroupMetrics:
    group, label, score = (column[POOLED[0] == i] for column in POOLED)
    said = score >= 0.5
    (tn, fp), (fn, tp) = confusion_matrix(label, said, labels=[False, True])
    return GroupMetrics(len(group), accuracy_score(label, said), label.mean(), tp / (tp + fn), fp / (fp + tn))


async def program(party: Any) -> Any:
    engine = await Engine.create(party)
    names = ("ada", "bob", "cleo")
    shape = (GROUPS, 4 + 3 * BINS)
    shares: list[Any] = []
    for name, (group, label, score) in zip(names, OWNERS, strict=True):
        mine = group_counts(group, label, score, n_groups=GROUPS, bins=BINS) if party.me == name else None
        shares.append(engine.share(mine, owner=name, shape=shape))
    stacked: Any = np.stack(shares)
    return await engine.open(*released(stacked, smallest=SMALLEST, threshold=0.5), to="ada")


@pytest.mark.slow
def test_metrics_of_three_owners_are_those_of_the_pooled_rows_and_the_small_groups_are_not_told() -> None:
    outcome = simulate(dict.fromkeys(("ada", "bob", "cleo"), program))
    found = metrics_of(outcome.results["ada"])
    for i in (0, 1):
        want, got = reference(i), found[i]
        for name in ("rows", "accuracy", "positive_rate", "tpr", "fpr"):
            assert getattr(got, name) == pytest.approx(getattr(want, name)), name
        label, score = (column[POOLED[0] == i] for column in POOLED[1:])
        place = np.minimum((score * BINS).astype(int), BINS - 1)
        for b, told in enumerate(got.calibration):
            assert told is not None
            assert told[0] == np.count_nonzero(place == b)
            # Scores are rounded to 2^-16.
            assert told[1:] == pytest.approx(
                (score[place == b].mean(), label[place == b].mean()), abs=2.0**-16
            )
        assert got.calibration_error is not None
    served_worse = found[1].calibration_error
    assert served_worse is not None
    assert served_worse > 2 * (found[0].calibration_error or 0)
    # Of group 3 the sides are not told: it has too few positives. Groups 2 and 4 hold 6 rows together, so the smallest
    # of the others, group 3, is not told either.
    assert [one.rows is None for one in found] == [False, False, True, True, True]
    assert found[2] == GroupMetrics(calibration=(None,) * BINS)


def shown(counts: Any, smallest: int = SMALLEST, threshold: float = 0.5) -> list[Any]:
    async def start(primitives: Any) -> Any:
        engine = mpc.Engine(primitives)
        shared = engine.share(counts, owner="ada", shape=counts.shape)
        return await engine.open(*released(shared, smallest=smallest, threshold=threshold))

    return run_clear(start)


def test_a_group_with_few_of_one_side_tells_its_rows_alone() -> None:
    label = np.zeros(60, bool)
    label[:5] = True
    counts = [group_counts(np.zeros(60, int), label, np.full(60, 0.25), n_groups=1, bins=2)]
    # The model says 0 of everybody: whoever knows how many rows are right knows the five positives.
    opened = shown(np.array(counts))
    assert metrics_of(opened) == [GroupMetrics(60, calibration=(None, None))]
    assert sum(int(np.abs(part).sum()) for part in opened[:3]) == 60


@pytest.mark.parametrize(("threshold", "edge"), [(0.0, 0), (0.25, 2), (0.5, 4)])
def test_no_small_bin_follows_from_how_many_the_model_says_1_of(threshold: float, edge: int) -> None:
    sizes = np.array([[0, 19, 3, 20, 40, 8, 9, 3], [30, 2, 30, 9, 3, 30, 9, 11], [9, 9, 9, 9, 9, 9, 9, 3]])
    group, place = np.repeat(np.indices(sizes.shape).reshape(2, -1), sizes.reshape(-1), axis=1)
    label = np.arange(len(group)) % 2 == 0
    # Each row is at the lower edge of its bin.
    counts = group_counts(group, label, place / 8, n_groups=3, threshold=threshold, bins=8)
    rows, sides, bins, _, has_sides, has_bin = map(np.asarray, shown(np.array([counts]), threshold=threshold))
    assert has_sides.all()
    said = sides[:, 1] + sides[:, 2]
    for side, known in ((slice(edge, None), said), (slice(0, edge), rows - said)):
        for size, told, total, opened in zip(
            sizes[:, side], has_bin[:, side], known, bins[:, 0, side], strict=True
        ):
            hidden = size[~told]
            assert total - opened.sum() == hidden.sum()
            # Otherwise all of a side is hidden, or nothing is.
            assert not told.any() or not hidden.size or (len(hidden) >= 2 and hidden.sum() >= SMALLEST)


def told_in_clear(counts: Any, smallest: int) -> Any:
    async def start(primitives: Any) -> Any:
        engine = mpc.Engine(primitives)
        shared = engine.share(counts, owner="ada", shape=counts.shape)
        return await engine.open(_told(shared, smallest), _told(shared, smallest))

    return run_clear(start)[0]


def test_what_follows_from_a_known_total_is_of_two_counts_and_enough_rows() -> None:
    edges = [[0, 0, 0, 0], [4, 5, 5, 5], [4, 5, 6, 7], [2, 2, 9, 9], [2, 3, 9, 9], [5, 5, 5, 5], [0, 0, 0, 9]]
    counts, smallest = np.concatenate([edges, RNG.integers(0, 13, (400, 4))]), 5
    told = told_in_clear(counts, smallest)
    for row, kept in zip(counts, told, strict=True):
        assert (row[kept] >= smallest).all()
        hidden = row[~kept]
        if not hidden.size or row.sum() < smallest:  # there is nothing to hide it among
            continue
        assert len(hidden) >= 2
        assert hidden.sum() >= smallest
        # No more is taken out than has to be: without the secondary ones a total would tell.
        primary = row[row < smallest]
        if len(hidden) > len(primary):
            most = len(primary) * (smallest - 1)
            assert len(primary) == 1 or primary.sum() < smallest or primary.sum() == most


def test_no_small_count_follows_from_the_total_and_from_which_counts_are_told() -> None:
    smallest = 3
    counts = np.array(list(itertools.product(range(10), repeat=4)))
    told = told_in_clear(counts, smallest)
    worlds: dict[Any, list[Any]] = {}
    for row, kept in zip(counts, told, strict=True):
        worlds.setdefault((row.sum(), tuple(np.where(kept, row, -1))), []).append(row)
    # Where nothing is told there is nothing large to hide the counts among.
    for (total, seen), rows in worlds.items():
        for column, shown_count in zip(np.transpose(rows), seen, strict=True):
            if shown_count < 0 and max(seen) >= 0:
                assert len(set(column)) > 1 or column[0] >= smallest, (total, seen)


@pytest.mark.slow
def test_no_bins_positives_or_negatives_follow_from_their_totals_and_from_which_bins_are_told() -> None:
    smallest, bins = 3, 4
    a_bin = [(rows, hits) for rows in range(5) for hits in range(rows + 1)]
    sides = np.array(list(itertools.product(a_bin, repeat=bins)))  # of shape (sides, bins, 2)

    async def start(primitives: Any) -> Any:
        engine = mpc.Engine(primitives)
        shared = engine.share(sides, owner="ada", shape=sides.shape)
        return await engine.open(_told_bins(shared[..., 0], shared[..., 1], smallest))

    told = np.asarray(run_clear(start)[0])
    assert (sides[..., 0][told] >= smallest).all()
    rows_alone = np.asarray(told_in_clear(sides[..., 0], smallest))
    assert (told <= rows_alone).all()
    # No more is taken out than has to be: a bin has nothing to add where both labels are hidden already.
    both = (sides * ~rows_alone[..., None]).sum(axis=1)
    enough = rows_alone.all(axis=1) | ((both[:, 1] >= 1) & (both[:, 0] > both[:, 1]))
    assert (told == rows_alone)[enough].all()
    assert (told < rows_alone).any()

    seen = np.where(told[..., None], sides, -1).reshape(len(sides), -1)
    totals = sides.sum(axis=1)
    _, world = np.unique(np.hstack([seen, totals]), axis=0, return_inverse=True)
    # A side without a positive, or without a negative, has none in each bin: its rate says so.
    mixed = (totals[:, 1] >= 1) & (totals[:, 0] > totals[:, 1])
    for hidden in (sides[..., 1], sides[..., 0] - sides[..., 1]):
        low, high = np.full((world.max() + 1, bins), 9), np.full((world.max() + 1, bins), -1)
        np.minimum.at(low, world, hidden)
        np.maximum.at(high, world, hidden)
        assert (told | (low < high)[world])[mixed].all()


def test_small_bins_without_a_positive_take_out_the_smallest_bin_that_has_one() -> None:
    rows, hits = np.array([6, 5, 9, 20, 30, 30]), np.array([0, 0, 0, 2, 1, 2])
    without, among = [0, 0, 1, 0, 1, 1], [0, 0, 1, 1, 1, 1]

    def told(below: Any, above: Any) -> list[int]:
        bins = np.concatenate([rows, rows, below, above, np.zeros(12, int)])
        sides = [rows.sum() * 2, (below + above).sum(), above.sum(), (rows - above).sum()]
        has_bin: list[int] = np.asarray(shown(np.array([[[*sides, *bins]]]))[5]).astype(int)[0].tolist()
        return has_bin

    assert told(hits, rows - hits) == without * 2
    assert told(rows - hits, hits) == without * 2
    assert told(hits, hits + 1) == without + among
    assert told(hits + 1, rows - hits) == among + without
    # The pattern's plaintext twin has the rule of its own.
    twin = metrics_by_group._told_bins
    cases = [(hits, without), (rows - hits, without), (hits + 1, among)]
    for some, told_bins in cases:
        assert twin(rows.tolist(), some.tolist(), SMALLEST) == [bool(one) for one in told_bins]


def test_without_secondary_suppression_the_total_would_tell_a_small_group() -> None:
    for small, other in itertools.product((0, 3, 7), (9, 20)):
        counts = np.array([[small, other, 40, 41]])
        (kept,) = told_in_clear(counts, SMALLEST)
        assert kept.tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"groups": [0, 3]}, RangeError),
        ({"labels": [0, 2]}, RangeError),
        ({"scores": [0.5, np.nan]}, RangeError),
        ({"scores": [0.5, 1.5]}, RangeError),
        ({"labels": [0]}, ShapeError),
        ({"bins": 0}, UsageError),
        ({"threshold": 2.0}, UsageError),
        ({"threshold": 0.55}, UsageError),
        ({"threshold": 1.0}, UsageError),
        ({"bins": 5}, UsageError),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(change: dict[str, Any], error: type[Exception]) -> None:
    given: dict[str, Any] = {"groups": [0, 1], "labels": [0, 1], "scores": [0.1, 1.0], "n_groups": 2}
    assert group_counts(**given)[:, 0].tolist() == [1, 1]
    with pytest.raises(error):
        group_counts(**{**given, **change})


def test_counts_of_another_shape_and_thresholds_that_hide_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        shown(np.zeros((1, 1, 7), int), smallest=1)
    with pytest.raises(ShapeError):
        shown(np.zeros((1, 1, 6), int))


def test_what_is_not_told_is_zero_when_it_is_opened_and_neither_is_a_bin_that_tells_a_small_one() -> None:
    few, bins = np.arange(40) < 5, np.repeat([0.1, 0.3, 0.6, 0.9], (3, 9, 20, 20))
    parts = [
        (few, np.full(40, 0.6)),
        (np.arange(52) % 2 == 0, bins),
        (few[:6], np.full(6, 0.1)),
        (few[:5], np.full(5, 0.1)),
    ]
    group = np.repeat(np.arange(4), [len(label) for label, _ in parts])
    label, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    groups, sides, binned, *told = map(
        np.asarray, shown(group_counts(group, label, score, n_groups=4, bins=4)[None])
    )
    has_group, has_sides, has_bin = told
    assert has_group.tolist() == [True, True, False, False]
    assert has_sides.tolist() == [False, True, False, False]
    assert has_bin[1].tolist() == [False, False, True, True]
    for values, there in ((groups, has_group), (sides, has_sides), (binned.transpose(0, 2, 1), has_bin)):
        assert values[there].any()
        assert not values[~there].any()


def test_a_score_at_the_threshold_says_1_and_one_of_1_lies_in_the_last_bin() -> None:
    (counts,) = group_counts([0, 0], [1, 0], [0.5, 1.0], n_groups=1, bins=4)
    assert counts.tolist() == [2, 1, 1, 1, *(0, 0, 1, 1), *(0, 0, 1, 0), *(0, 0, 1 << 15, 1 << 16)]
