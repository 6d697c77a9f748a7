"""Nodes and a server of frameworks whose models are arrays by name; the test carries the frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from played_rounds import NAMES, SENT, Played
from secagg.errors import BudgetError, RemoteProtocolError, SecaggError, UsageError
from secagg.federated import Encoding, OwnNode, Privacy, Protection, make_identities, new_budget
from secagg.federated.keeper import Keeper
from secagg.federated.replies import DIFFERENCE, digest_of, made_anew
from secagg.federated.settings import encoding_from, protection_from
from secagg.federated.sum_server import SumServer


def mean(played: Played, names: str, key: str) -> Any:
    weights = [NAMES.index(name) + 1 for name in names]
    return np.average([played.update(name)[key] for name in names], axis=0, weights=weights)


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
@pytest.mark.slow
def test_a_round_gives_the_mean_of_those_who_stay_whatever_step_another_leaves_at(
    tmp_path: Path, threat_model: Any
) -> None:
    malicious = threat_model == "malicious"
    protection = Protection(0.2, 0.2 if malicious else 0.4, threat_model)
    played = Played(tmp_path, protection)
    steps = ["task", "keys", "shares", "input", *(["consent"] if malicious else []), "unmask"]
    for step in steps:
        result = played.round({"b": step})
        report = played.server.reports[-1]
        there = "abcde" if step in ("consent", "unmask") else "acde"
        assert "".join(report.contributors) == there
        assert ("b" in report.missed) == (step != "task")
        for key in SENT:
            # Half of float32's spacing at 6 besides.
            off = np.abs(result.arrays[key] - mean(played, there, key))
            assert np.max(off) <= report.error + 2.5e-7
        assert (result.record, result.arrays["w"].dtype) == ("model", np.float32)
        weights = [NAMES.index(name) + 1 for name in there]
        assert result.weight == sum(weights)
        assert result.metrics["loss"] == pytest.approx(np.average([w - 1 for w in weights], weights=weights))
    sent = b"".join(played.frames)
    for name in NAMES:
        update = played.update(name)
        assert update["w"].tobytes()[:8] not in sent
        assert update["w"].astype(np.float64).tobytes()[:8] not in sent
    assert b"steps" in sent  # names are told, and would be found


def test_with_too_few_nodes_nothing_is_opened_and_the_report_says_why(tmp_path: Path) -> None:
    played = Played(tmp_path)
    assert played.round({"a": "keys", "b": "shares", "c": "input"}) is None
    report = played.server.reports[-1]
    assert "nothing was opened" in report.failure
    assert set(report.missed) == {"a", "b", "c"}
    assert played.round() is not None


def test_what_is_left_out_and_differences_are_told_apart(tmp_path: Path) -> None:
    played = Played(tmp_path, encoding=Encoding(leave_out=("steps",)))
    assert list(played.round().arrays) == ["w"]
    result = played.round(record=DIFFERENCE)
    assert result.record == DIFFERENCE


def test_evaluations_are_means_of_metrics(tmp_path: Path) -> None:
    result = Played(tmp_path).round(kind="evaluate")
    assert (result.arrays, result.record) == ({}, "")
    assert result.metrics == {"loss": pytest.approx(np.average(range(5), weights=range(1, 6)))}


@pytest.mark.slow
def test_with_noise_updates_are_bounded_and_budgets_are_spent(tmp_path: Path) -> None:
    privacy = Privacy(epsilon=200.0, delta=1e-4, norm=20.0, rounds=1)
    protection = Protection(0.2, 0.2, privacy=privacy)
    make_identities(tmp_path, NAMES)
    for name in NAMES:
        new_budget(tmp_path / f"{name}.key", privacy, "train")
    played = Played(tmp_path, protection, Encoding(leave_out=("steps",)))
    result = played.round()
    report = played.server.reports[-1]
    expected = np.mean([played.update(name)["w"] for name in NAMES], axis=0)
    assert 0 < report.noise_std < 1
    assert np.max(np.abs(result.arrays["w"] - expected)) < 6 * report.noise_std
    assert not result.metrics
    with pytest.raises((RemoteProtocolError, BudgetError), match="budget"):
        played.keeper("a").invite(4, "train", played.server.frame, SENT)
    with pytest.raises(UsageError, match="evaluation_privacy"):
        played.begin(4, "evaluate")


def test_a_node_gives_nothing_without_an_invitation_and_goes_on_with_nothing_after_an_error(
    tmp_path: Path,
) -> None:
    played = Played(tmp_path)
    keeper = played.keepers["a"]
    with pytest.raises(UsageError, match="nothing else leaves it"):
        keeper.keep(SENT, 1)
    with pytest.raises(RemoteProtocolError, match="there is none"):
        keeper.answer("keys", b"")
    keeper.invite(1, "train", played.server.frame, SENT)
    keeper.keep(SENT, 1)
    with pytest.raises(UsageError, match="nothing else leaves it"):
        keeper.keep(SENT, 1)
    with pytest.raises(SecaggError):
        keeper.answer("keys", b"no frame")
    with pytest.raises(RemoteProtocolError, match="there is none"):
        keeper.answer("keys", b"no frame")
    keeper.invite(1, "train", played.server.frame, SENT)
    keeper.keep(SENT, 1)
    keeper.invite(2, "train", played.server.frame, SENT)  # ends the sum before it
    with pytest.raises(RemoteProtocolError, match="there is none"):
        keeper.answer("keys", b"")
    active = Keeper(
        OwnNode.load(tmp_path / "a.key", tmp_path / "peers.toml"), Protection(0.2, 0.2, "malicious")
    )
    server = SumServer(tmp_path / "peers.toml", Protection(0.2, 0.2, "malicious"))
    with pytest.raises(UsageError, match="give a digest"):
        active.invite(1, "train", server.frame, SENT)


@pytest.mark.parametrize(
    ("arrays", "weight", "match"),
    [
        ({"w": np.array(["text"])}, 1, "cannot be averaged"),
        ({"w": np.array([object()])}, 1, "cannot be averaged"),
        (SENT, 1.5, "whole number"),
        (SENT, -1, "whole number"),
        (SENT, None, "whole number"),
        ({3: np.ones(2)}, 1, "as texts"),
        ({"w": np.array([np.nan])}, 1, "NaN"),
    ],
)
def test_replies_that_cannot_be_averaged_are_refused(
    tmp_path: Path, arrays: Any, weight: Any, match: str
) -> None:
    played = Played(tmp_path)
    played.keepers["a"].invite(1, "train", played.server.frame, SENT)
    with pytest.raises(SecaggError, match=match):
        played.keepers["a"].keep(arrays, weight)


def test_two_nodes_of_one_identity_are_one_and_noise_from_elsewhere_is_none(tmp_path: Path) -> None:
    played = Played(tmp_path)
    current = played.begin(1, "train")
    played.keepers["a"].invite(1, "train", played.server.frame, SENT)
    ready = played.keepers["a"].keep(SENT, 1)
    assert current.take("one", ready)
    assert not current.take("two", ready)
    assert not current.take("three", b"noise")
    played.keepers["b"].invite(1, "train", played.server.frame, SENT)
    assert not current.take("one", played.keepers["b"].keep(SENT, 1))  # one client, one node
    assert current.finish(1, lambda step, frames: []) is None
    assert set(played.server.reports[-1].missed) == {"one", "two", "three"}


def test_a_sum_that_is_over_takes_nobody_and_ends_once(tmp_path: Path) -> None:
    played = Played(tmp_path)
    current = played.begin(1, "train")
    played.keepers["a"].invite(1, "train", played.server.frame, SENT)
    ready = played.keepers["a"].keep(SENT, 1)
    assert current.finish(1, lambda step, frames: []) is None
    for action in (lambda: current.take("one", ready), lambda: current.finish(1, lambda step, frames: [])):
        with pytest.raises(UsageError, match="one that is over"):
            action()
    assert len(played.server.reports) == 1


def test_settings_are_read_from_plain_mappings_and_mistakes_are_named() -> None:
    given = {"max_corrupt": 0.1, "threat_model": "malicious", "privacy": None}
    assert protection_from(given) == Protection(max_corrupt=0.1, threat_model="malicious")
    assert protection_from(None) == Protection()
    assert encoding_from({"clips": {"": 2.0}, "leave_out": ["a"]}) == Encoding({"": 2.0}, leave_out=("a",))
    private = protection_from({"privacy": {"epsilon": 1.0, "delta": 1e-5, "norm": 1.0}})
    assert private.privacy == Privacy(1.0, 1e-5, 1.0)
    with pytest.raises(UsageError, match="no setting 'max_corupt'"):
        protection_from({"max_corupt": 0.1})
    with pytest.raises(UsageError, match="threat_model"):
        protection_from({"threat_model": "honest"})
    with pytest.raises(UsageError, match="fractions"):
        protection_from({"max_dropout": 1.5})
    with pytest.raises(UsageError, match="expected a mapping"):
        protection_from(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        {"w": SENT["w"], "steps": SENT["steps"] + 1},
        {"steps": SENT["steps"], "w": SENT["w"]},
        {"w": SENT["w"].astype(">f4"), "steps": SENT["steps"]},
        {"w": SENT["w"].reshape(3, 2), "steps": SENT["steps"]},
        {"v": SENT["w"], "steps": SENT["steps"]},
    ],
    ids=["number", "order", "byte order", "shape", "name"],
)
def test_what_nodes_were_asked_is_compared_in_every_way_that_their_work_could_tell(other: Any) -> None:
    assert digest_of("task", other) != digest_of("task", SENT)
    assert digest_of("task", SENT, [b"round 2"]) != digest_of("task", SENT, [b"round 1"])


def test_what_nodes_work_on_is_alike_wherever_its_digest_is() -> None:
    shown = np.asfortranarray(SENT["w"])
    given: Any = {"w": shown, "v": shown, "n": np.float32(3)}
    made = made_anew(given)
    assert digest_of("task", given) == digest_of("task", made)
    assert made["w"].flags.c_contiguous
    assert made["w"] is not made["v"]
    assert type(made["n"]) is np.ndarray
    for strange in ({"w": [1.0]}, {"w": np.array(["a"])}, {1: np.ones(2)}):
        with pytest.raises(UsageError):
            made_anew(strange)  # type: ignore[arg-type]
