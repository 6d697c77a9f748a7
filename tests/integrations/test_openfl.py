"""Rounds of OpenFL under masks, in its own environment: SECAGG_OPENFL_PYTHON names its interpreter."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg.federated import make_identities

PYTHON = os.environ.get("SECAGG_OPENFL_PYTHON", "")
SIDE = Path(__file__).parent / "openfl_side"
NAMES = [f"col{i}" for i in range(1, 6)]
LOST = {
    "0": ["col5", "task"],
    "1": ["col2", "keys"],
    "2": ["col3", "shares"],
    "3": ["col4", "input"],
    "4": ["col1", "consent"],
    "5": ["col5", "unmask"],
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="SECAGG_OPENFL_PYTHON names no Python with openfl; .ci/run makes one"
    ),
]


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [PYTHON, str(SIDE / script), *arguments]
    done = subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run six rounds of training, in each of which a collaborator is late at another step, and a seventh with all."""
    folder = tmp_path_factory.mktemp("federation")
    make_identities(folder / "keys", NAMES)
    run("federation.py", str(folder), str(folder / "keys"), json.dumps(LOST), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("by-hand")
    make_identities(folder / "keys", NAMES)
    done = run("by_hand.py", str(folder / "keys"), cwd=folder)
    return {"log": done.stderr, **json.loads(done.stdout)}


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize("number", range(len(LOST) + 1))
def test_a_round_is_plain_averaging_over_those_who_stay_whatever_step_a_collaborator_is_late_at(
    federation: Path, number: int
) -> None:
    report = json.loads((federation / f"report-{number}.json").read_text())
    late, step = LOST.get(str(number), ["", ""])
    there = [name for name in NAMES if name != late or step in ("consent", "unmask")]
    assert (report["contributors"], report["failure"]) == (there, "")
    assert list(report["missed"]) == ([late] if step not in ("", "task") else [])
    weights = [10 * int(name[-1]) for name in there]
    assert report["weight"] == sum(weights)
    means = arrays(federation / f"mean-{number}.npz")
    trained = {name: updates(federation, name)[number] for name in there}
    for key, mean in means.items():
        rows = [trained[name][key].astype(float) for name in there]
        assert np.max(np.abs(mean - np.average(rows, axis=0, weights=weights))) <= report["error"]


def updates(federation: Path, name: str) -> dict[int, Mapping[str, Any]]:
    """Return what a collaborator trained, by the number of the sum."""
    return {i: arrays(federation / f"update-{name}-{i}.npz") for i in range(len(LOST) + 1)}


def windows(update: Mapping[str, Any]) -> list[bytes]:
    """Return pieces of 16 bytes of each array, from every number on."""
    pieces = []
    for array in update.values():
        data = np.ascontiguousarray(array).tobytes()
        pieces += [data[i : i + 16] for i in range(0, len(data) - 16, 4)]
    return pieces


def test_what_a_collaborator_sends_holds_no_piece_of_its_updates(federation: Path) -> None:
    for name in NAMES:
        sent = (federation / f"sent-{name}").read_bytes()
        assert len(sent) > 10_000
        for update in updates(federation, name).values():
            assert not any(piece in sent for piece in windows(update))
    # The search finds what is there: the model comes the other way.
    pieces = windows(arrays(federation / "model.npz"))
    got = (federation / "got-col1").read_bytes()
    assert sum(piece in got for piece in pieces) > 0.9 * len(pieces)  # frames of HTTP/2 cut a few


def test_sums_are_weighted_means_and_weights_are_not_told(by_hand: dict[str, Any]) -> None:
    found = by_hand["plain"]
    # Numbers 1 to 5 with weights of 10 to 50.
    assert found["model"] == pytest.approx([i + 55 / 15 for i in range(4)], abs=2e-6)
    assert (found["weight"], found["contributors"]) == (150, NAMES)
    assert found["sizes"] == [-1, 10]  # outside, and inside the training


def test_in_few_bits_the_mean_is_off_by_what_the_report_states(by_hand: dict[str, Any]) -> None:
    found = by_hand["few bits"]
    assert (found["contributors"], found["weight"]) == (NAMES, 150)
    assert 1e-4 < found["error"] < 1e-2
    assert found["model"] == pytest.approx([i + 55 / 15 for i in range(4)], abs=found["error"])


def test_two_sums_under_a_nodes_key_follow_each_other(by_hand: dict[str, Any]) -> None:
    found = by_hand["encrypted"]
    assert found["model"] == pytest.approx([i + 2 * 55 / 15 for i in range(4)], abs=4e-6)
    assert found["contributors"] == NAMES


def test_the_model_is_fetched_where_a_task_may_come_and_own_tensors_stay(by_hand: dict[str, Any]) -> None:
    assert by_hand["plain"]["shown"] == [["secagg", "w"], ["secagg"]]
    assert by_hand["plain"]["kept"] == ["own"]


@pytest.mark.parametrize(
    ("case", "out"),
    [
        ("another model", "col1"),
        ("garbage", "col1"),
        ("another protection", "col2"),
        ("no part of the model", "col3"),
        ("a local tensor that the runner lacks", "col4"),
    ],
)
def test_who_is_asked_for_something_else_or_cannot_answer_is_in_no_sum(
    by_hand: dict[str, Any], case: str, out: str
) -> None:
    assert by_hand[case]["contributors"] == [name for name in NAMES if name != out]
    said = {"another model": "signature", "garbage": "did not answer"}
    if case in said:
        assert said[case] in by_hand[case]["missed"][out]


def test_a_malicious_aggregator_gives_nobody_local_tensors(by_hand: dict[str, Any]) -> None:
    found = by_hand["local tensors"]
    assert found["contributors"] == NAMES
    assert not any("bn" in names for names in found["shown"])
    # In the first training they are the runner's own, ones; in the second what the first returned, twos.
    assert found["model"] == pytest.approx([2 * (i + 55 / 15) + 55 / 15 for i in range(4)], abs=6e-6)


def test_tasks_without_protection_and_tensors_that_are_no_frames_are_refused(by_hand: dict[str, Any]) -> None:
    assert "without protection" in by_hand["another task"]
    for case in ("bounded", "bounded at the aggregator"):
        assert "would be a round of OpenFL's" in by_hand[case]
    assert by_hand["bytes"] is True
    assert all(by_hand["strange"])
    assert len(by_hand["strange"]) == 5
    assert by_hand["nothing"] is None


def test_tensors_that_come_before_their_frames_leave_the_model_as_it_is(by_hand: dict[str, Any]) -> None:
    assert by_hand["too early"]["model"] == [0, 1, 2, 3]
    assert "came before the frames" in by_hand["log"]
