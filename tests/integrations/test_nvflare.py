"""Rounds of NVFlare under masks, in its own environment: SECAGG_NVFLARE_PYTHON names its interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg.federated import make_identities
from secagg.federated.replies import digest_of
from secagg.signing import digest

PYTHON = os.environ.get("SECAGG_NVFLARE_PYTHON", "")
SIDE = Path(__file__).parent / "nvflare_side"
PAGE = Path(__file__).parents[2] / "docs" / "nvflare.md"
SITES = [f"site-{i}" for i in range(1, 6)]
LOST = {
    "0": ["site-5", "train"],
    "1": ["site-2", "keys"],
    "2": ["site-3", "shares"],
    "3": ["site-4", "input"],
    "4": ["site-1", "consent"],
    "5": ["site-5", "unmask"],  # its process ends
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="SECAGG_NVFLARE_PYTHON names no Python with nvflare; .ci/run makes one"
    ),
]


ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}:{SIDE}"}
_ATTEMPTS = 3
_SIMULATED_S = 300


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, str(SIDE / script), *arguments]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run six rounds, in each of which a site leaves at another step, and a seventh without the one that died."""
    for _ in range(_ATTEMPTS):
        folder = tmp_path_factory.mktemp("simulator")
        make_identities(folder / "keys", SITES)
        if simulate(folder):
            return folder
    pytest.fail(f"NVFlare's simulator could not start all sites in {_ATTEMPTS} attempts")


def simulate(folder: Path) -> bool:
    """Return whether all sites started, and if so once all rounds are done.

    The simulator meets each site's process at a port that it found free. Where another program has it by then, the site
    never comes, and rounds that need it are waited for without end.
    """
    command = [PYTHON, str(SIDE / "simulate.py"), str(folder), str(folder / "keys"), str(len(LOST) + 1)]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, json.dumps(LOST)],
            env=ENVIRONMENT,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    until = time.monotonic() + _SIMULATED_S
    try:
        while process.poll() is None:
            said = (folder / "output").read_text(errors="replace")
            for site in re.findall(r"Communication error with client (site-\d)", said):
                if not (folder / "workspace" / site / "log.txt").exists():
                    return False
            assert time.monotonic() < until, said[-4000:]
            time.sleep(0.2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, (folder / "output").read_text(errors="replace")[-4000:]
    return True


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("by-hand")
    make_identities(folder / "keys", SITES)
    done = run("by_hand.py", str(folder / "keys"), str(PAGE), cwd=folder)
    return {"log": done.stderr, **json.loads(done.stdout)}


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return dict(file)


def updates(folder: Path, number: int) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for site in SITES:
        for path in folder.glob(f"update-{site}-{number}-*.npz"):
            found[site] = arrays(path)
    return found


@pytest.mark.parametrize("number", range(len(LOST) + 1))
def test_a_round_is_plain_averaging_over_those_who_stay_whatever_step_a_site_leaves_at(
    simulated: Path, number: int
) -> None:
    report = json.loads((simulated / f"report-{number}.json").read_text())
    site, step = LOST.get(str(number), ["site-5", "train"])  # from the sixth round on it is gone
    there = [name for name in SITES if name != site or step in ("consent", "unmask")]
    assert (report["contributors"], report["failure"]) == (there, "")
    assert (site in report["missed"]) == (step != "train")
    weights = [10 * int(name[-1]) for name in there]
    assert report["weight"] == sum(weights)
    trained, means = updates(simulated, number), arrays(simulated / f"mean-{number}.npz")
    for key, mean in means.items():
        expected = np.average([trained[name][key].astype(float) for name in there], axis=0, weights=weights)
        assert np.max(np.abs(mean - expected)) <= report["error"]
        assert mean.dtype == trained["site-1"][key].dtype


def windows(update: Mapping[str, Any]) -> list[bytes]:
    """Return pieces of 16 bytes of each array, from every number on."""
    pieces = []
    for array in update.values():
        data, step = np.ascontiguousarray(array).tobytes(), array.dtype.itemsize
        pieces += [data[i : i + 16] for i in range(0, len(data) - 16, step)]
    return pieces


def test_what_a_site_sends_holds_no_piece_of_its_updates(simulated: Path) -> None:
    for path in simulated.glob("update-site-*.npz"):
        sent = (simulated / f"sent-{path.stem.rsplit('-', 1)[1]}").read_bytes()
        assert len(sent) > 10_000
        assert not any(piece in sent for piece in windows(arrays(path)))
    # The search finds what is there: the server sends the model, the first one as the site got it.
    server = max(simulated.glob("sent-*"), key=lambda file: file.stat().st_size).read_bytes()
    assert all(piece in server for piece in windows(arrays(simulated / "model.npz")))


@pytest.mark.parametrize(
    ("case", "kind", "mean"), [("plain", "WEIGHTS", [2, 3, 4, 5]), ("differences", "WEIGHT_DIFF", [2] * 4)]
)
def test_weights_and_differences_come_back_as_what_they_are(
    by_hand: dict[str, Any], case: str, kind: str, mean: list[float]
) -> None:
    found = by_hand[case]
    assert (found["kind"], found["contributors"]) == (kind, SITES)
    assert found["means"]["w"] == pytest.approx(mean, abs=2e-6)


def test_sites_check_updates_against_a_bound_by_letters_through_auxiliary_messages(
    by_hand: dict[str, Any],
) -> None:
    found = by_hand["bounded"]
    assert (found["contributors"], found["failure"]) == (SITES, "")
    assert found["means"]["w"] == pytest.approx([2, 3, 4, 5], abs=2e-6)


def test_a_late_site_is_turned_away_while_the_server_waits_for_others(by_hand: dict[str, Any]) -> None:
    found = by_hand["late"]
    assert found["accepted"] is False
    assert (found["contributors"], found["failure"]) == (SITES[:4], "")
    assert found["means"]["w"] == pytest.approx([1.5, 2.5, 3.5, 4.5], abs=2e-6)


def test_no_site_waits_for_another_to_answer(by_hand: dict[str, Any]) -> None:
    assert by_hand["all at once"]


def test_an_answer_to_another_step_is_none_and_errors_name_step_and_site(by_hand: dict[str, Any]) -> None:
    another, failed, silent, empty = (text for text, _ in by_hand["replies"])
    assert another == "expected an answer to keys from site-1, got 'input'"
    assert failed.startswith("failed at keys: ")
    assert "no key" in failed
    assert silent == "did not answer to keys"
    assert empty == "expected a message of a protected sum from site-1, got another"
    assert {peer for _, peer in by_hand["replies"]} == {"site-1"}


def test_run_numbers_and_digests_of_tasks_are_what_every_release_makes_of_them(
    by_hand: dict[str, Any],
) -> None:
    label = "secagg.integrations.nvflare"
    assert by_hand["run"] == int.from_bytes(digest(f"{label}/run", [b"job"])[:8], "big") >> 1
    said = [b"WEIGHTS", b"train", b"2", b"3"]
    expected = digest_of(f"{label}/task", {"w": np.arange(4, dtype=np.float32)}, said)
    assert by_hand["digest"] == expected.hex()


@pytest.mark.parametrize(("case", "means"), [("few bits", [2, 3, 4, 5]), ("few bits, differences", [2] * 4)])
def test_in_few_bits_means_are_off_by_what_the_report_states(
    by_hand: dict[str, Any], case: str, means: list[float]
) -> None:
    found = by_hand[case]
    assert found["contributors"] == SITES
    assert 1e-4 < found["error"] < 4e-3
    assert found["means"]["w"] == pytest.approx(means, abs=found["error"])


@pytest.mark.parametrize("case", ["another model", "another round"])
def test_a_site_that_is_asked_for_something_else_is_in_no_sum_with_the_others(
    by_hand: dict[str, Any], case: str
) -> None:
    found = by_hand[case]
    assert found["contributors"] == SITES[1:]
    assert "signature" in found["missed"]["site-1"]


@pytest.mark.parametrize(
    ("case", "match"),
    [
        ("no terms", "something without protection"),
        ("no task", "among the task_data_filters too"),
        ("another protection", "as this node's app demands"),
        ("metrics", "expected a DXO of WEIGHTS or WEIGHT_DIFF"),
        ("no weight", "say its weight"),
        ("replied twice", "not invited"),
        ("out of turn", "asks for 'unmask'"),
        ("afterwards", "there is none at this node"),
    ],
)
def test_what_an_active_server_or_a_wrong_set_up_tries_is_refused(
    by_hand: dict[str, Any], case: str, match: str
) -> None:
    assert by_hand[case]
    assert match in by_hand["log"]


def test_of_a_result_that_failed_nothing_but_the_code_leaves(by_hand: dict[str, Any]) -> None:
    assert by_hand["error with data"] == ["EXECUTION_EXCEPTION", ["__headers__"]]


def test_the_settings_on_the_page_are_a_filter_for_tasks_and_one_for_results(by_hand: dict[str, Any]) -> None:
    assert by_hand["page"] == ["protected", "SecureFilter", "SecureFilter"]
