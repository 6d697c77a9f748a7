"""What a relayed sum refuses or keeps to itself: forged keys and letters, sums that are too small, nodes' own errors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from played_rounds import NAMES, Played
from secagg import wire
from secagg.errors import DataError, RemoteProtocolError, UsageError
from secagg.federated import Bounded, Encoding, Privacy, Protection, SharedKey, bounded
from secagg.federated.allowance import Allowance
from secagg.federated.correspondent import Correspondent
from secagg.federated.letters import Letter, Sealer, SumPublicKey, check_key, pack
from secagg.federated.relayed import Delivery
from secagg.signing import sign

BOUNDED = Protection(0.2, 0.2, bounded=Bounded(("a", "b", "c", "d"), norm=200.0))
SHARED = Protection(0.2, 0.2, shared_key=SharedKey(("a", "b", "c")))
CLIPS = Encoding({"": 16.0, "model/steps": 1e6}, max_weight=10)


def test_a_letter_of_a_node_whose_key_the_server_left_out_is_not_read() -> None:
    terms: Any = SimpleNamespace(
        roster=(*NAMES, "a:adding", "server"),
        needed=("a", "b", "c"),
        borne=frozenset(NAMES),
        parties_at=lambda node: (node, f"{node}:adding"),
        node_of=lambda party: party.removesuffix(":adding"),
        upload_bytes=lambda _receiver: 1000,
    )
    node = Correspondent(terms, SimpleNamespace(name="a"), {})  # type: ignore[arg-type]
    delivery = Delivery({}, pack([Letter(("e", "a:adding", b"in the clear"))]), False)
    assert node._opened(Sealer(b"a" * 32, bytes(32), {}), delivery, Allowance()) == {
        "a": [],
        "a:adding": [],
    }


@pytest.mark.slow
def test_a_sum_under_a_shared_key_of_fewer_than_asked_for_is_not_decrypted(tmp_path: Path) -> None:
    played = Played(tmp_path, SHARED, CLIPS)
    assert played.round({"d": "relay", "e": "relay"}) is None
    assert "from at least 4 of 5 parties, got 3" in played.server.reports[-1].failure


def test_a_key_of_fewer_holders_than_the_setting_names_is_not_made(tmp_path: Path) -> None:
    played = Played(tmp_path, Protection(0.2, 0.2, shared_key=SharedKey(("a", "b", "c"), least=3)), CLIPS)
    assert played.round({"c": "task"}) is None
    assert "at least 3" in played.server.reports[-1].failure


@pytest.mark.slow
def test_the_server_does_not_learn_what_a_nodes_error_says_of_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Any = vars(bounded)["aggregate"]

    async def aggregate(party: Any, *, terms: Any) -> None:
        await honest(party, terms=terms)
        raise DataError("patient 4711 weighs 80")

    monkeypatch.setattr(bounded, "aggregate", aggregate)
    played = Played(tmp_path, BOUNDED)
    played.round()
    assert not any(b"4711" in frame for frame in played.frames)


@pytest.mark.slow
def test_a_node_whose_program_fails_at_once_says_so_and_sends_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Any = vars(bounded)["contribute"]

    async def contribute(party: Any, x: Any, *, terms: Any) -> None:
        await honest(party, x, terms=terms)
        if party.me == "e":
            raise DataError("patient 4711 weighs 80")

    monkeypatch.setattr(bounded, "contribute", contribute)
    played = Played(tmp_path, BOUNDED)
    assert played.round() is not None
    report = played.server.reports[-1]
    assert report.contributors == tuple("abcd")
    assert report.missed["e"].startswith("it cannot use its own input")


@pytest.mark.slow
def test_a_node_whose_key_is_not_signed_is_left_out_and_ends_nobody_elses_sum(tmp_path: Path) -> None:
    played = Played(tmp_path, BOUNDED)
    answer = played.keepers["e"].answer

    def forging(step: str, frame: bytes) -> bytes:
        told = answer(step, frame)
        if step != "keys":
            return told
        return wire.to_bytes(SumPublicKey(wire.from_bytes(told, SumPublicKey).key, bytes(64)))

    played.keepers["e"].answer = forging  # type: ignore[method-assign]
    assert played.round() is not None
    report = played.server.reports[-1]
    assert report.contributors == tuple("abcd")
    assert "signature" in report.missed["e"]


def test_a_signed_key_of_another_length_is_refused() -> None:
    identity, key = Ed25519PrivateKey.generate(), bytes(31)
    given = SumPublicKey(key, sign(identity, "secagg.federated/letters/key", [bytes(32), b"a", key]))
    with pytest.raises(RemoteProtocolError, match="32 bytes"):
        check_key(given, bytes(32), "a", identity.public_key().public_bytes_raw())


@pytest.mark.parametrize("protection", [BOUNDED, SHARED], ids=["bounded", "shared key"])
def test_noise_on_evaluations_is_refused_beside_a_bound_and_a_shared_key(protection: Protection) -> None:
    with pytest.raises(UsageError, match="noise"):
        Protection(
            shared_key=protection.shared_key,
            bounded=protection.bounded,
            evaluation_privacy=Privacy(1.0, 1e-5, 1.0),
        )


@pytest.mark.slow
def test_evaluation_under_a_shared_key_is_encrypted_as_training_is(tmp_path: Path) -> None:
    steps: set[str] = set()
    played = Played(tmp_path, SHARED, CLIPS)

    def noted(step: str, _name: str, frame: bytes) -> bytes:
        steps.add(step)
        return frame

    played.change = noted
    assert played.round(kind="evaluate") is not None
    assert "relay" in steps
