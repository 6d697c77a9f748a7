"""Error feedback: what few bits and few numbers cut off of an update goes into later sums, and is counted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secagg
from played_rounds import NAMES, SENT, Played
from secagg import wire
from secagg.errors import UsageError
from secagg.federated import Bounded, Compression, Encoding, Encryption, Privacy, Protection, SharedKey
from secagg.federated.compressed import CompressedCoder
from secagg.federated.error_feedback import Memory, remembered
from secagg.federated.keeper import Keeper
from secagg.federated.layout import Entry, Layout
from secagg.updates.coding import Request
from secagg.updates.compressed import Compressed
from secagg.updates.structure import Structure

MASKS = Protection(0.2, 0.2)
COMPRESSION = Compression(bits=4, keep=0.5, error_feedback=True)
FEEDBACK = Encoding({"": 128.0}, max_weight=5, compression=COMPRESSION)


def layout_of(numbers: int) -> Layout:
    return Layout((Entry("model", "w", "array", "float64", (numbers,)),), (), "metrics")


def memories(played: Played) -> dict[str, Any]:
    found = {}
    for name, keeper in played.keepers.items():
        data = keeper._memory
        found[name] = wire.from_bytes(data, Memory).numbers if data else np.zeros(7)
    return found


def changes(played: Played, name: str) -> Any:
    """Return what a node's update changes, in the canonical order: steps, w."""
    update = played.update(name)
    return np.concatenate([update["steps"] - SENT["steps"], (update["w"] - SENT["w"]).reshape(-1)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "protection",
    [
        MASKS,
        Protection(0.2, 0.2, encryption=Encryption("a")),
        Protection(0.2, 0.2, shared_key=SharedKey(("a", "b"))),
    ],
    ids=["masks", "encryption", "shared key"],
)
def test_what_nodes_sent_in_all_rounds_is_their_updates_less_what_they_remember(
    tmp_path: Path, protection: Protection
) -> None:
    played, weights = Played(tmp_path, protection, FEEDBACK), np.arange(1, 6)
    total, rounds = np.zeros(7), 5
    for _ in range(rounds):
        result = played.round()
        report = played.server.reports[-1]
        assert (report.failure, report.weight, report.error) == ("", 15, float("inf"))
        total += np.concatenate(
            [result.arrays["steps"] - SENT["steps"], (result.arrays["w"] - SENT["w"]).reshape(-1)]
        )
    sent = [rounds * changes(played, name) - memory for name, memory in memories(played).items()]
    assert np.max(np.abs(total - np.average(sent, axis=0, weights=weights))) < 1e-4
    # So the mean over rounds comes nearer, though only half of the numbers are in each.
    assert any(np.any(memory) for memory in memories(played).values())


@pytest.mark.slow
def test_a_sum_that_a_node_leaves_or_that_fails_changes_nothing_of_what_it_remembers(tmp_path: Path) -> None:
    played = Played(tmp_path, MASKS, FEEDBACK)
    played.round()
    before = memories(played)
    played.round({"b": "input"})
    after = memories(played)
    assert np.array_equal(after["b"], before["b"])
    assert not np.array_equal(after["a"], before["a"])
    assert played.round(dict.fromkeys("abc", "unmask")) is None
    assert all(np.array_equal(memories(played)[name], after[name]) for name in "abc")


def test_a_node_that_was_started_again_or_is_in_another_run_remembers_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="secagg.federated")
    layout, other = layout_of(3), layout_of(4)
    data = wire.to_bytes(Memory(7, wire.to_bytes(layout), np.ones(3)))
    assert remembered(data, 7, layout).tolist() == [1, 1, 1]
    assert remembered(b"", 7, layout).tolist() == [0, 0, 0]
    assert caplog.text == ""
    assert remembered(data, 8, layout).tolist() == [0, 0, 0]
    assert "of another run is forgotten" in caplog.text
    assert remembered(data, 7, other).tolist() == [0, 0, 0, 0]
    assert "of other arrays is forgotten" in caplog.text
    played = Played(tmp_path, MASKS, FEEDBACK)
    played.round()
    again: Keeper = played.keeper("a")
    assert again._memory == b""


@pytest.mark.parametrize("weight", [1, 3, 5])
def test_a_vector_and_what_is_remembered_are_the_update_and_what_was_remembered(weight: int) -> None:
    rng = np.random.default_rng(1)
    update, memory = rng.uniform(-1, 1, 400), rng.uniform(-3, 3, 400)
    structure = Structure({"w": np.zeros(400)}, "the first client")
    few = Compression(bits=6, keep=0.3, seed=bytes(32), error_feedback=True)
    coding = Compressed(Request(structure, True, {"": 1.0}, None, 4, 5), few)
    vector, rest = coding.encode_with_memory([update], weight, memory)
    levels = 31
    sent = np.zeros(400)
    sent[coding.places] = vector[: coding.places.size] * 5 / (levels * weight)
    assert np.max(np.abs(sent + rest - update - memory)) < 1e-12
    # Nothing beyond its clip is sent, and a number that was drawn is off by less than a level.
    assert np.max(np.abs(sent)) <= 1 + 5 / (levels * weight)
    within = np.clip(update + memory, -1, 1)[coding.places]
    assert np.max(np.abs(sent[coding.places] - within)) < 5 / (levels * weight)
    assert np.array_equal(rest[sent == 0], (update + memory)[sent == 0])
    nothing, all_of_it = coding.encode_with_memory([update], 0, memory)
    assert not nothing.any()
    assert np.array_equal(all_of_it, update + memory)


def test_an_update_that_does_not_fit_is_not_remembered() -> None:
    few = Compression(bits=8, error_feedback=True)
    encoding = Encoding({"": 1.0}, max_weight=5, compression=few)
    coder = CompressedCoder(layout_of(3), encoding, few, 4, session=b"s")
    memory = np.array([0.1, 0.2, 0.3])
    _, after = coder.contribution_with(np.array([20.0, 0.0, 0.0, 1.0]), memory)
    assert after is memory
    # What is remembered may lie beyond the clip: the update itself fits.
    _, after = coder.contribution_with(np.array([1.0, 0.0, 0.0, 1.0]), np.array([5.0, 0.0, 0.0]))
    assert after[0] == pytest.approx(5.0, abs=5 / 127)


def test_what_was_not_drawn_is_not_made_up_for() -> None:
    few = Compression(bits=24, keep=0.5, error_feedback=True)
    encoding = Encoding({"": 1.0}, max_weight=1, compression=few)
    coder = CompressedCoder(layout_of(100), encoding, few, 2, session=b"s")
    sent, rest = coder.contribution_with(np.append(np.full(100, 0.5), 1.0), np.zeros(100))
    other, _ = coder.contribution_with(np.append(np.full(100, 0.5), 1.0), np.zeros(100))
    (mean,) = coder.decode(coder.ring.reduce(sent + other), 2, lambda _: None).values
    assert sorted(np.round(mean, 4).tolist()) == [0.0] * 50 + [0.5] * 50
    assert sorted(np.round(rest, 4).tolist()) == [0.0] * 50 + [0.5] * 50


@pytest.mark.parametrize(
    ("protection", "match"),
    [
        (Protection(privacy=Privacy(1.0, 1e-5, 1.0)), "sums with noise.* leave compression out"),
        (
            Protection(evaluation_privacy=Privacy(1.0, 1e-5, 1.0), privacy=Privacy(1.0, 1e-5, 1.0)),
            "sums with noise",
        ),
        (Protection(bounded=Bounded(("a", "b", "c"), 1.0)), "a bound that is checked"),
        (Protection(threat_model="malicious"), "depends on earlier tasks"),
    ],
)
def test_noise_bounds_and_a_malicious_server_are_refused_beside_memory(
    protection: Protection, match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        protection.check_encoding(FEEDBACK)


def test_single_sums_and_what_is_no_choice_are_refused() -> None:
    with pytest.raises(UsageError, match="a single sum has no memory"):
        secagg.mean([np.ones(3)] * 3, clip=1.0, compression=Compression(error_feedback=True))
    with pytest.raises(UsageError, match="True or False as error_feedback"):
        Compression(error_feedback=1)  # type: ignore[arg-type]
    assert not Compression().error_feedback


def test_what_a_node_remembers_is_in_no_message_and_no_text(tmp_path: Path) -> None:
    played = Played(tmp_path, MASKS, FEEDBACK)
    played.round()
    played.round()
    sent = b"".join(played.frames)
    for name in NAMES:
        for number in memories(played)[name]:
            assert not number or number.tobytes() not in sent
    assert "numbers" not in repr(played.keepers["a"])
