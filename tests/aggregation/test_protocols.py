"""Every protection gives the sums and means of plain numpy, hides weights, and says who dropped out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import secagg
from secagg.aggregation import Additive, Aggregate, Masked, Protection, Rlwe
from secagg.errors import TooFewPartiesError
from secagg.updates.structure import Structure
from updates import CLIPS, model

Get = Callable[[str], Protection]
BEARS = ("masked", "active", "additive", "paillier", "threshold-paillier", "ckks", "rlwe", "single-rlwe")


UPDATES = {f"c{i}": model(i) for i in range(5)}


def leaves(update: Any) -> list[tuple[str, np.ndarray[Any, Any]]]:
    layer = update["layer"]
    named = {"layer/weight": layer["weight"], "layer/bias": layer["bias"], "half/0": update["half"][0]}
    named |= {"steps": update["steps"], "loss": update["loss"]}
    return [(path, np.asarray(value)) for path, value in named.items()]


def check(result: Aggregate, weights: dict[str, float], *, mean: bool) -> None:
    """Compare with plain numpy over the contributors."""
    names = result.report.contributors
    for path, got in leaves(result.value):
        xs = np.array([dict(leaves(UPDATES[name]))[path] for name in names], np.float64)
        ws = np.array([weights[name] for name in names]).reshape(-1, *[1] * (xs.ndim - 1))
        expected = (xs * ws).sum(axis=0) / (ws.sum() if mean else 1)
        off = np.max(np.abs(got.astype(np.float64) - expected))
        assert off <= result.report.errors[path] + 1e-12 * max(1.0, np.max(np.abs(expected))), path
    assert result.report.error == max(result.report.errors.values())


def test_sums_are_those_of_numpy(each: Protection) -> None:
    result = secagg.sum(UPDATES, protocol=each, clip=CLIPS, precision=1e-4)
    check(result, dict.fromkeys(UPDATES, 1), mean=False)
    assert result.report.contributors == tuple(UPDATES)
    assert not result.report.dropped
    exact = each.name != "ckks"  # whose error is some 2^-15 of the clip, and stated
    assert (result.report.errors["steps"] == 0) == exact
    if exact:
        assert result.value["steps"] == sum(update["steps"] for update in UPDATES.values())
    assert [type(result.value[k]) for k in ("steps", "loss", "half")] == [np.int64, float, list]
    dtypes = [x.dtype for _, x in leaves(result.value)]
    assert dtypes == [x.dtype for _, x in leaves(UPDATES["c0"])]


@pytest.mark.slow
@pytest.mark.parametrize("max_weight", [100, 100.0])
def test_weighted_means_are_those_of_numpy(each: Protection, max_weight: float) -> None:
    weights: dict[str, Any] = {name: 17 * i + 5 for i, name in enumerate(UPDATES)}
    if isinstance(max_weight, float):
        weights = {name: weight + 0.25 for name, weight in weights.items()}
    clip = {**CLIPS, "steps": 2.0**19}
    result = secagg.mean(UPDATES, weights, protocol=each, clip=clip, precision=1e-6, max_weight=max_weight)
    check(result, weights, mean=True)
    assert result.report.weight == pytest.approx(sum(weights.values()), rel=1e-5)
    assert all(error < 1e-3 for path, error in result.report.errors.items() if path != "steps")


def sizes(result: Aggregate, *, frames: bool) -> Any:
    def one(name: str) -> Any:
        total = result.report.ledgers[name].total()
        both = [
            (t.messages, t.frame_bytes if frames else 0, t.payload_bytes)
            for t in (total.sent, total.received)
        ]
        return total.rounds, both

    return {name: one(name) for name in result.report.ledgers}, result.report.plan, result.report.bits


@pytest.mark.slow
def test_what_is_sent_does_not_depend_on_weights_or_updates(each: Protection) -> None:
    # SEAL compresses randomly: only the room for a ciphertext is the same each time, not the number in it that says
    # how much of it is used.
    frames = each.name != "ckks"
    shown = [
        sizes(secagg.mean(list(updates), weights, protocol=each, clip=4.0, max_weight=1000), frames=frames)
        for updates, weights in (
            (np.zeros((4, 6)), [1, 1, 1, 1]),
            (np.full((4, 6), 4.0), [1000, 1, 10, 100]),
        )
    ]
    assert shown[0] == shown[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", BEARS)
def test_a_client_that_vanishes_before_its_update_is_left_out_and_named(protection: Get, name: str) -> None:
    result = secagg.mean(
        UPDATES,
        [1, 2, 3, 4, 5],
        protocol=protection(name),
        clip=CLIPS,
        max_weight=5,
        simulate_dropouts=["c2"],
    )
    check(result, dict(zip(UPDATES, [1, 2, 3, 4, 5], strict=True)), mean=True)
    assert result.report.contributors == ("c0", "c1", "c3", "c4")
    assert list(result.report.dropped) == ["c2"]
    assert "vanished in round" in result.report.dropped["c2"]
    assert result.report.weight == pytest.approx(12, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice", [Masked(), Masked(threat_model="malicious", max_corrupt=0.2, max_dropout=0.25)]
)
def test_a_masked_sum_survives_dropouts_at_every_round(choice: Masked) -> None:
    for stage in choice.stages:
        result = secagg.sum(UPDATES, protocol=choice, clip=CLIPS, simulate_dropouts={"c1": stage})
        check(result, dict.fromkeys(UPDATES, 1), mean=False)
        late = stage in ("consent", "unmask")  # its update is in the sum by then
        assert list(result.report.afterwards) == (["c1"] if late else [])
        assert list(result.report.dropped) == ([] if late else ["c1"])
        assert ("c1" in result.report.contributors) == late


@pytest.mark.parametrize("name", ["masked", "additive", "rlwe", "single-rlwe"])
def test_with_too_few_survivors_there_is_no_sum(protection: Get, name: str) -> None:
    with pytest.raises(TooFewPartiesError):
        secagg.sum(UPDATES, protocol=protection(name), clip=CLIPS, simulate_dropouts=["c0", "c1", "c2"])


def test_an_additive_sum_survives_clients_that_vanish_between_their_messages() -> None:
    choice = Additive(aggregators=3, max_dropout=0.6)
    assert choice.min_clients(5) == 2
    leaving = dict(zip(("c0", "c2", "c4"), choice.stages, strict=True))
    result = secagg.sum(UPDATES, protocol=choice, clip=CLIPS, simulate_dropouts=leaving)
    check(result, dict.fromkeys(UPDATES, 1), mean=False)
    assert result.report.contributors == ("c1", "c3")
    assert {name: why.split(",")[0] for name, why in result.report.dropped.items()} == {
        name: f"vanished in round {stage}" for name, stage in leaving.items()
    }


def test_an_additive_sum_of_all_names_who_is_missing() -> None:
    with pytest.raises(TooFewPartiesError, match=r"at least 5 of 5 clients, got 4.*c3 ended") as caught:
        secagg.sum(UPDATES, protocol=Additive(max_dropout=0), clip=CLIPS, simulate_dropouts=["c3"])
    assert caught.value.peer == "c3"


def test_clients_may_be_called_as_servers_are() -> None:
    xs = {
        "server": np.ones(2),
        "aggregator-1": np.ones(2),
        "aggregator": np.ones(2),
        "key-holder": np.ones(2),
    }
    for choice in (Masked(), Additive(), Rlwe(key_holders=1)):
        assert secagg.sum(xs, protocol=choice, clip=1.0).value.tolist() == [4, 4]


@pytest.mark.slow
def test_many_clients_in_a_sparse_graph() -> None:
    rng = np.random.default_rng(3)
    xs = rng.integers(-100, 100, (150, 5))
    choice = Masked(max_corrupt=0.1, max_dropout=0.1, security_bits=20)
    result = secagg.sum(xs, protocol=choice, clip=100, simulate_dropouts=["client3", "client77"])
    kept = np.delete(xs, [3, 77], axis=0)
    assert result.value.tolist() == kept.sum(axis=0).tolist()
    assert "neighbours each" in result.report.parameters


def test_the_report_shows_costs_and_no_update() -> None:
    secret = 1.2345678
    result = secagg.mean(
        {"al": np.full(3, secret), "bo": np.full(3, 2 * secret), "cy": np.zeros(3)},
        weights={"al": 76543, "bo": 1, "cy": 1},
        max_weight=100_000,
        clip=2.0,
    )
    text = repr(result)
    for shown in ("mean", "masked", "bo: 3 of its numbers", "server", "76545", "bits each", "error"):
        assert shown in text
    for hidden in ("1.2345", "2.469", "76543", "76,543"):
        assert hidden not in text
    assert max(map(len, text.splitlines())) <= 110
    assert result.report.clipped == {"al": 0, "bo": 3, "cy": 0}
    roles = {role.role: role for role in result.report.roles}
    assert roles["client"].parties == 3
    assert roles["server"].parties == 1
    assert roles["client"].sent_bytes == max(
        result.report.ledgers[n].total().sent.frame_bytes for n in ("al", "bo", "cy")
    )
    assert result.report.seconds > 0


numbers = st.integers(-1000, 1000) | st.floats(-100, 100)
arrays = st.sampled_from(["f2", "f4", "f8", "i2", "i4", "u4"]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=2, max_side=3),
        elements=st.integers(0, 100).map(float) if dtype[0] == "f" else st.integers(0, 100),
    )
)
# Slashes could make two parts of one path, which is refused.
KEYS = st.text(st.characters(exclude_characters="/'"), max_size=2)
trees = st.recursive(
    numbers | arrays,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(KEYS, inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.slow
@given(trees)
@example(8e-301)  # smaller than a plan's smallest precision allows at the usual number of places
@settings(deadline=None, max_examples=30)
def test_an_update_of_any_structure_comes_back_from_a_mean_of_equals(update: Any) -> None:
    result = secagg.mean([update, update, update], [3, 1, 2], protocol="additive", clip="max", max_weight=3)
    structure = Structure(update, "a")
    back = structure.flatten(update, "a")
    found = Structure(result.value, "b")
    assert [(x.path, x.shape, x.form) for x in found.leaves] == [
        (x.path, x.shape, x.form) for x in structure.leaves
    ]
    for leaf, old, new in zip(structure.leaves, back, found.flatten(result.value, "b"), strict=True):
        assert new.dtype == (np.float64 if leaf.is_integer else leaf.dtype)
        assert (
            np.max(np.abs(new.astype(np.float64) - old.astype(np.float64))) <= result.report.errors[leaf.path]
        )


def test_heavy_work_may_use_threads(protection: Get) -> None:
    xs = np.arange(4 * 5000).reshape(4, 5000)
    with ThreadPoolExecutor(2) as executor:
        for name in ("masked", "rlwe", "single-rlwe"):
            result = secagg.sum(xs, protocol=protection(name), clip=20_000, executor=executor)
            assert np.array_equal(result.value, xs.sum(axis=0))


def test_the_ring_is_as_wide_as_the_plan_says(protection: Get) -> None:
    result = secagg.sum(np.zeros((4, 10_000)), protocol=protection("masked"), clip=1.0, precision=2.0**-11)
    # +-2^10 four times takes 14 bits; keys and shares take some hundred bytes besides
    assert result.report.bits == result.report.plan.sum_bits == 14
    (cost,) = (role for role in result.report.roles if role.role == "client")
    assert 17_500 < cost.sent_bytes < 19_000
