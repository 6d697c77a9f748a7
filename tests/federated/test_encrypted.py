"""Sums under one node's key: means as under masks, and what would show a single update is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from played_rounds import NAMES, SENT, Played
from secagg import wire
from secagg.errors import RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.federated import Encoding, Encryption, Privacy, Protection
from secagg.federated.encrypted import Adding, Decrypted, EncryptedInput, EncryptedTerms, SumKey, Total
from secagg.federated.messages import KeyToUse
from secagg.he.rlwe import PublicKey
from secagg.ring import Ring
from secagg.signing import sign

RLWE = Protection(0.2, 0.2, encryption=Encryption("c"))
CLIPS = Encoding({"": 16.0, "model/steps": 1e6}, max_weight=10)


def mean(played: Played, names: str, key: str) -> Any:
    weights = [NAMES.index(name) + 1 for name in names]
    return np.average([played.update(name)[key] for name in names], axis=0, weights=weights)


def check(played: Played, result: Any, there: str) -> None:
    report = played.server.reports[-1]
    assert ("".join(report.contributors), report.failure) == (there, "")
    for key in SENT:
        off = np.abs(result.arrays[key] - mean(played, there, key))
        assert np.max(off) <= report.error + 2.5e-7  # half of float32's spacing at 6
    assert result.weight == sum(NAMES.index(name) + 1 for name in there)
    weights = [NAMES.index(name) + 1 for name in there]
    assert result.metrics["loss"] == pytest.approx(np.average([w - 1 for w in weights], weights=weights))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["rlwe", "paillier"])
def test_means_are_those_of_plain_averaging_and_a_node_may_leave_before_its_input(
    tmp_path: Path, scheme: Any
) -> None:
    encryption = Encryption("c", scheme, bits=2048)
    played = Played(tmp_path, Protection(0.2, 0.2, encryption=encryption), CLIPS)
    if scheme == "rlwe":  # a key of Paillier takes seconds
        check(played, played.round(), "abcde")
        check(played, played.round({"e": "task"}), "abcd")
    check(played, played.round({"b": "input"}), "acde")
    sent = b"".join(played.frames)
    for name in NAMES:
        assert played.update(name)["w"].tobytes()[:8] not in sent
        if name == "a":
            continue  # 197 is one byte, which random ones before the zeros of padding are now and then
        # What is encrypted, in the clear: a ciphertext hides it from the server.
        assert (played.update(name)["steps"].astype(np.int64) * (NAMES.index(name) + 1)).tobytes() not in sent


def test_by_default_numbers_that_64_bits_hold_have_room(tmp_path: Path) -> None:
    played = Played(tmp_path, RLWE)
    check(played, played.round(), "abcde")


@pytest.mark.parametrize(
    ("step", "why"), [("task", "who holds the key"), ("keys", "made no key"), ("decrypt", "did not decrypt")]
)
def test_without_the_key_holder_nothing_is_opened(tmp_path: Path, step: str, why: str) -> None:
    played = Played(tmp_path, RLWE, CLIPS)
    assert played.round({"c": step}) is None
    assert why in played.server.reports[-1].failure


def test_with_too_few_inputs_nothing_is_decrypted(tmp_path: Path) -> None:
    played = Played(tmp_path, RLWE, CLIPS)
    assert played.round({"a": "input", "b": "input"}) is None
    assert "nothing was opened" in played.server.reports[-1].failure


def test_an_update_that_does_not_fit_stays_out_and_the_others_mean_is_exact(tmp_path: Path) -> None:
    played = Played(tmp_path, RLWE, CLIPS)
    usual = played.update
    played.update = lambda name: usual(name) | ({"w": SENT["w"] + 100} if name == "d" else {})  # type: ignore[method-assign]
    result = played.round()
    played.update = usual  # type: ignore[method-assign]
    check(played, result, "abce")
    assert "cannot use its own input" in played.server.reports[-1].missed["d"]


def test_a_key_that_the_holder_did_not_sign_for_this_sum_is_used_by_no_node(tmp_path: Path) -> None:
    played = Played(tmp_path, RLWE, CLIPS)
    kept: list[KeyToUse] = []

    def change(step: str, name: str, frame: bytes) -> bytes:
        if step != "input":
            return frame
        told = wire.from_bytes(frame, KeyToUse)
        kept.append(told)
        other = played.keepers["a"]._member.identity
        forged = msgspec.structs.replace(
            told.key, signature=sign(other, "secagg.federated/sum key", [bytes(32), told.key.key])
        )
        return wire.to_bytes(msgspec.structs.replace(told, key=forged))

    played.change = change
    assert played.round() is None
    assert all("signature" in why for why in played.server.reports[-1].missed.values())
    old = kept[0]
    # Nor is the key of another sum.
    played.change = lambda step, _name, frame: (
        wire.to_bytes(msgspec.structs.replace(wire.from_bytes(frame, KeyToUse), key=old.key))
        if step == "input"
        else frame
    )
    assert played.round() is None
    assert all("signature" in why for why in played.server.reports[-1].missed.values())


@pytest.mark.parametrize(
    "change",
    [
        {"contributors": ("a",)},
        {"contributors": ("a", "a", "b", "c", "d")},
        {"contributors": ("a", "b", "c", "x")},
        {"contributors": ("a", "b", "c", "d")},  # and five are in it
    ],
    ids=["one", "twice", "a stranger", "another count"],
)
def test_the_key_holder_decrypts_the_sum_that_is_agreed_on_and_no_other(tmp_path: Path, change: Any) -> None:
    played = Played(tmp_path, RLWE, CLIPS)
    played.change = lambda step, _name, frame: (
        wire.to_bytes(msgspec.structs.replace(wire.from_bytes(frame, Total), **change))
        if step == "decrypt"
        else frame
    )
    assert played.round() is None
    assert "did not decrypt" in played.server.reports[-1].failure
    assert "expected the sum of" in played.server.reports[-1].missed["c"]


def test_one_nodes_ciphertext_in_place_of_the_sum_is_refused_and_there_is_no_second_try(
    tmp_path: Path,
) -> None:
    played = Played(tmp_path, RLWE, CLIPS)
    tries: list[str] = []

    def change(step: str, name: str, frame: bytes) -> bytes:
        if step == "decrypt":
            total = wire.from_bytes(frame, Total)
            single = played.frames[-5:][0]  # a node's `EncryptedInput`
            ciphertext = wire.from_bytes(single, EncryptedInput).ciphertext
            tries.append(name)
            return wire.to_bytes(msgspec.structs.replace(total, ciphertext=ciphertext))
        return frame

    played.change = change
    assert played.round() is None
    assert tries == ["c"]
    assert "expected the sum of 5 ciphertexts" in played.server.reports[-1].missed["c"]
    with pytest.raises(Exception, match="there is none at this node"):
        played.keepers["c"].answer("decrypt", b"")


def test_a_sum_of_too_few_nodes_is_not_decrypted_whatever_the_server_thinks(tmp_path: Path) -> None:
    played = Played(tmp_path, RLWE, CLIPS)

    def change(step: str, name: str, frame: bytes) -> bytes:
        if step != "decrypt":
            return frame
        # Of the last five frames each is a node's input: those of a and b alone, added up and said to be.
        a, b = (wire.from_bytes(one, EncryptedInput).ciphertext for one in played.frames[-5:-3])
        message: Any = wire.from_bytes(wire.from_bytes(played.frames[-6], SumKey).key, PublicKey.message_type)
        key = PublicKey.from_message(message)
        two = key.read_bytes(a.tobytes())
        two += key.read_bytes(b.tobytes())
        return wire.to_bytes(Total(("a", "b"), np.frombuffer(two.to_bytes(), np.uint8)))

    played.change = change
    assert played.round() is None
    assert "at least 4 of 5 nodes" in played.server.reports[-1].missed["c"]


def test_two_lists_of_nodes_in_one_sum_are_refused(tmp_path: Path) -> None:
    played = Played(tmp_path, RLWE, CLIPS)

    def change(step: str, name: str, frame: bytes) -> bytes:
        if step != "input" or name != "c":
            return frame
        told = wire.from_bytes(frame, KeyToUse)
        other = msgspec.structs.replace(told.participants, server_nonce=bytes(32))
        return wire.to_bytes(msgspec.structs.replace(told, participants=other))

    played.change = change
    assert played.round() is None  # the key holder leaves
    assert "got two" in played.server.reports[-1].missed["c"]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"threat_model": "malicious"}, "keeps to the protocol"),
        ({"privacy": Privacy(1.0, 1e-5, 1.0)}, "leave privacy or encryption out"),
        ({"encryption": Encryption("server")}, "must not hold the key"),
    ],
)
def test_set_ups_that_would_show_updates_are_refused(settings: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Protection(**{"encryption": Encryption("c"), **settings})
    for fields in ({"scheme": "ckks"}, {"bits": 1024}):
        with pytest.raises(UsageError, match="expected"):
            Encryption("c", **fields)


def test_ciphertexts_of_a_million_numbers_and_more_fit_their_messages() -> None:
    long = np.zeros(17 << 20, np.uint8)
    for message in (EncryptedInput(long), Total(("a", "b"), long)):
        back = wire.from_bytes(wire.to_bytes(message), type(message))
        assert back.ciphertext.size == long.size


def terms_of(length: int = 6, *, context: bytes = bytes(32)) -> EncryptedTerms:
    return EncryptedTerms(Encryption("c"), NAMES, Ring(24), length, 4, context)


def test_the_server_takes_one_input_as_agreed_from_each_node_and_the_holders_key_and_sum_alone() -> None:
    terms, numbers = terms_of(), np.arange(6, dtype=np.uint32)
    identity = Ed25519PrivateKey.generate()
    adding = Adding(terms, {"c": identity.public_key().public_bytes_raw()})
    secret = terms.new_key()
    told = terms.signed_key(secret, identity)
    adding.take_key("a", told)
    with pytest.raises(TooFewPartiesError, match="made no key"):
        adding.key()
    one, another = (terms.encrypt(secret.public_key, numbers) for _ in range(2))
    with pytest.raises(RemoteProtocolError, match="no input from a before there is a key"):
        adding.take_input("a", one)
    adding.take_key("c", told)
    adding.take_input("a", one)
    with pytest.raises(RemoteProtocolError, match="one input from a, got another"):
        adding.take_input("a", another)
    both: Any = terms.read(secret.public_key, one, "a")
    both += terms.read(secret.public_key, another, "b")
    for wrong in (
        EncryptedInput(np.frombuffer(both.to_bytes(), np.uint8)),
        terms_of(5).encrypt(secret.public_key, numbers[:5]),
    ):
        with pytest.raises(RemoteProtocolError, match="one encryption of 6 numbers"):
            adding.take_input("b", wrong)
    for name in "bd":
        adding.take_input(name, terms.encrypt(secret.public_key, numbers))
    with pytest.raises(TooFewPartiesError, match="at least 4 of 5 nodes, got 3"):
        adding.total()
    adding.take_input("e", terms.encrypt(secret.public_key, numbers))
    found = terms.decrypt(secret, adding.total(), peer="server")
    for wrong_total in (found.total[:5], found.total.astype(np.uint64)):
        with pytest.raises(RemoteProtocolError, match="expected 6 numbers of uint32 from c"):
            adding.take_total("c", Decrypted(wrong_total))
    adding.take_total("c", Decrypted(found.total + np.uint32(1 << 24)))  # beyond the ring
    assert adding.finish().tolist() == (4 * numbers).tolist()


def test_the_key_holder_decrypts_no_sum_of_other_vectors_than_agreed() -> None:
    terms, shorter = terms_of(), terms_of(5)
    secret = terms.new_key()
    numbers = np.arange(5, dtype=np.uint32)
    total: Any = None
    for name in "abde":
        one = shorter.read(secret.public_key, shorter.encrypt(secret.public_key, numbers), name)
        total = one if total is None else total + one
    message = Total(tuple("abde"), np.frombuffer(total.to_bytes(), np.uint8))
    assert shorter.decrypt(secret, message, peer="server").total.tolist() == (4 * numbers).tolist()
    with pytest.raises(RemoteProtocolError, match="4 ciphertexts of 6 numbers"):
        terms.decrypt(secret, message, peer="server")
