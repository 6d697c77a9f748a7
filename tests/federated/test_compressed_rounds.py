"""Rounds in few bits: right on average, off by what is stated, and no wider than asked for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from played_rounds import NAMES, SENT, Played
from secagg.errors import UsageError
from secagg.federated import (
    Bounded,
    Compression,
    Encoding,
    Encryption,
    Privacy,
    Protection,
    SharedKey,
    messages,
)
from secagg.federated.compressed import CompressedCoder
from secagg.federated.differences import on_top
from secagg.federated.layout import Entry, Layout
from secagg.federated.sum_server import SumServer

MASKS = Protection(0.2, 0.2)
FEW = Encoding({"model/w": 4.0, "model/steps": 128.0}, max_weight=5, compression=Compression(bits=8))
PART = Encoding({"": 128.0}, max_weight=5, compression=Compression(bits=12, keep=0.5))


def mean(played: Played, there: str) -> dict[str, Any]:
    weights = [NAMES.index(name) + 1 for name in there]
    return {
        key: np.average([played.update(name)[key] for name in there], axis=0, weights=weights) for key in SENT
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "protection",
    [
        MASKS,
        Protection(0.2, 0.2, threat_model="malicious"),
        Protection(0.2, 0.2, encryption=Encryption("a")),
        Protection(0.2, 0.2, shared_key=SharedKey(("a", "b"))),
    ],
    ids=["masks", "malicious server", "encryption", "shared key"],
)
def test_few_bits_are_off_by_what_is_stated_under_every_protection(
    tmp_path: Path, protection: Protection
) -> None:
    played = Played(tmp_path, protection, FEW)
    result = played.round({"e": "task"})
    report = played.server.reports[-1]
    assert ("".join(report.contributors), report.failure, report.weight) == ("abcd", "", 10)
    exact = mean(played, "abcd")
    # 4 of 5 w/W x/c 127 are rounded by less than 1 each: the sum is off by 4 levels of c 5/127/10.
    for key, clip in (("w", 4.0), ("steps", 128.0)):
        off = np.abs(result.arrays[key] - exact[key])
        assert 0 < np.max(off) <= 4 * clip * 5 / 127 / 10 + 1e-6
    assert report.error == pytest.approx(4 * 128 * 5 / 127 / 10, rel=1e-3)
    assert 0 < report.noise_std < report.error
    assert result.metrics == {}
    if protection.encryption is None and protection.shared_key is None:
        assert report.bits == 10  # 8, and 2 for sums of four


@pytest.mark.slow
def test_all_draw_the_same_numbers_anew_in_each_sum_and_others_stay_as_they_were(tmp_path: Path) -> None:
    played = Played(tmp_path, MASKS, PART)
    exact, seen = mean(played, "abcde"), set[tuple[int, ...]]()
    sent = np.concatenate([SENT["w"].reshape(-1), SENT["steps"]]).astype(float)
    change = np.concatenate([exact["w"].reshape(-1), exact["steps"]]) - sent
    for _ in range(4):
        result = played.round()
        found = np.concatenate([result.arrays["w"].reshape(-1), result.arrays["steps"]]) - sent
        drawn = np.flatnonzero(found)
        seen.add(tuple(drawn))
        # Half of seven numbers are four, which count for 7/4.
        assert len(drawn) <= 4
        step = 5 * 128 * 5 / 2047 / 15 * 7 / 4
        assert np.max(np.abs(found[drawn] - change[drawn] * 7 / 4)) <= step + 1e-5
        assert np.max(np.abs(found - change)) <= played.server.reports[-1].error
    assert len(seen) > 1


def test_an_update_that_does_not_fit_opens_nothing_and_the_error_says_what_would_hold_it(
    tmp_path: Path,
) -> None:
    played = Played(tmp_path, MASKS, Encoding({"": 50.0}, max_weight=5, compression=Compression(bits=8)))
    assert played.round() is None  # steps move by 97 to 101
    failure = played.server.reports[-1].failure
    assert "'model/steps' is beyond 50 at 5 of 5 nodes (800 holds all)" in failure


def test_of_an_update_that_does_not_fit_nothing_but_the_counts_can_be_read() -> None:
    layout = Layout((Entry("model", "w", "array", "float32", (200,)),), (), "metrics")
    few = Compression(bits=8)
    coder = CompressedCoder(layout, Encoding({"": 1.0}, max_weight=5, compression=few), few, 4, session=b"s")
    numbers = np.append(np.full(200, 20.0), 5.0)
    one, two = (coder.contribution(numbers) for _ in range(2))
    # Uniform elements of 10 bits: 20 of 200 agree with a probability below 2^-60.
    assert np.count_nonzero(one[:201] == two[:201]) < 20
    assert one[201:].tolist() == two[201:].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert not coder.fits(numbers)


def test_a_weight_beyond_the_largest_does_not_fit() -> None:
    layout = Layout((Entry("model", "w", "array", "float32", (200,)),), (), "metrics")
    few = Compression(bits=8)
    coder = CompressedCoder(layout, Encoding({"": 1.0}, max_weight=5, compression=few), few, 4, session=b"s")
    assert coder.fits(np.append(np.zeros(200), 5.0))
    assert not coder.fits(np.append(np.zeros(200), 6.0))


def test_updates_with_nan_are_refused_at_the_node(tmp_path: Path) -> None:
    played = Played(tmp_path, MASKS, FEW)
    keeper = played.keepers["a"]
    played.begin(3, "train")
    keeper.invite(3, "train", played.server.frame, SENT)
    with pytest.raises(Exception, match="NaN or infinite"):
        keeper.keep({"w": SENT["w"] * np.float32(np.nan), "steps": SENT["steps"]}, 1)


def test_evaluation_is_exact_beside_compression(tmp_path: Path) -> None:
    played = Played(tmp_path, MASKS, FEW)
    assert not messages.task_of(MASKS, FEW, "weight").sums_differences("evaluate")
    result = played.round(kind="evaluate")
    assert result.metrics["loss"] == pytest.approx(np.average(range(5), weights=range(1, 6)))


def test_settings_that_do_not_go_with_compression_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="follows from its session"):
        Encoding({"": 1.0}, max_weight=5, compression=Compression(seed=bytes(32)))
    with pytest.raises(UsageError, match="the largest as max_weight"):
        Encoding({"": 1.0}, compression=Compression())
    with pytest.raises(UsageError, match="leave compression out"):
        SumServer({}, Protection(bounded=Bounded(("a", "b", "c"), 1.0)), FEW)
    with pytest.raises(UsageError, match="leave compression out"):
        Protection(privacy=Privacy(1.0, 1e-5, 1.0)).check_encoding(FEW)
    played = Played(tmp_path, MASKS, Encoding({"model/w": 4.0}, max_weight=5, compression=Compression()))
    assert played.round() is None
    assert "a clip for each array" in played.server.reports[-1].failure


@pytest.mark.parametrize(
    ("dtype", "change", "error"),
    [
        ("float16", 1e5, 1e5 - 65504),
        ("float32", float(np.finfo(np.float32).max), 0.0),  # numpy has no spacing of it
        ("float16", 1 / 3, abs(float(np.float16(1 / 3)) - 1 / 3)),
    ],
)
def test_the_error_of_means_counts_what_their_dtype_does_not_hold(
    dtype: str, change: float, error: float
) -> None:
    entry = Entry("model", "w", "array", dtype, (1,))
    log = logging.getLogger("secagg.federated")
    (mean,), moved = on_top([entry], [np.array([change])], lambda _: None, log)
    assert mean.dtype == dtype
    assert error <= moved <= error + 2.0**-53 * change
