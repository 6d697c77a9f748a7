"""Sums that nodes compute together by letters: means as in the clear, liars named, letters that open for one receiver.

Longer than most test modules: honest and altered nodes and servers are played by one small federation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from played_rounds import NAMES, SENT, Played
from secagg import wire
from secagg.errors import (
    AuthenticationError,
    RemoteProtocolError,
    SecaggError,
    TooFewPartiesError,
    UsageError,
)
from secagg.federated import Bounded, Encoding, Encryption, Privacy, Protection, SharedKey, bounded, carrier
from secagg.federated.bounded import BoundedTerms
from secagg.federated.carrier import Carrier
from secagg.federated.correspondent import Correspondent
from secagg.federated.letters import (
    Letter,
    Mail,
    Sealer,
    SumPublicKey,
    check_key,
    pack,
    signed_key,
    unpack,
)
from secagg.federated.relayed import Answer, Delivery
from secagg.protocols.bounded_sum import Bounds, cost, upload
from secagg.protocols.bounded_sum.messages import Verdict
from secagg.signing import sign

BOUNDED = Protection(0.2, 0.2, bounded=Bounded(("a", "b", "c", "d"), norm=200.0))
SHARED = Protection(0.2, 0.2, shared_key=SharedKey(("a", "b", "c")))
CLIPS = Encoding({"": 16.0, "model/steps": 1e6}, max_weight=10)


def mean(played: Played, there: str, key: str) -> Any:
    weights = [1 if played.protection.bounded else NAMES.index(name) + 1 for name in there]
    return np.average([played.update(name)[key] for name in there], axis=0, weights=weights)


def check(played: Played, result: Any, there: str) -> None:
    report = played.server.reports[-1]
    assert ("".join(report.contributors), report.failure) == (there, "")
    for key in SENT:
        assert np.max(np.abs(result.arrays[key] - mean(played, there, key))) <= report.error + 2.5e-7
    assert result.metrics.keys() == (set() if played.protection.bounded else {"loss"})


@pytest.mark.slow
@pytest.mark.parametrize("protection", [BOUNDED, SHARED], ids=["bounded", "shared key"])
def test_means_are_those_in_the_clear_and_a_lost_node_costs_its_own_update_or_one_sum(
    tmp_path: Path, protection: Protection
) -> None:
    played = Played(tmp_path, protection, CLIPS)
    check(played, played.round({"e": "relay"}), "abcd")
    sent = b"".join(played.frames)
    for name in NAMES:
        assert played.update(name)["w"].tobytes()[:8] not in sent
    # One without whom the sum cannot be computed: nothing is opened, and the next sum does without it.
    assert played.round({"b": "relay"}) is None
    assert "b, without whom" in played.server.reports[-1].failure
    check(played, played.round({"b": "task"}), "acde")
    assert len(played.exchanges) == exchanges(protection, tuple("acde"))


def exchanges(protection: Protection, nodes: tuple[str, ...]) -> int:
    """Return what docs/flower.md says: one for keys, and the protocol's rounds; of sums under a shared key, eight in all."""
    if protection.bounded is None:
        return 8
    there = BoundedTerms(protection.bounded, nodes, nodes[:3], Bounds(7, 100, 1000), 3, bytes(32))
    return 1 + cost("a", terms=there.terms, roster=there.roster).rounds


@pytest.mark.parametrize(("numbers", "told"), [(500, 24), (20_000, 31)])
def test_a_bounded_sum_takes_as_many_exchanges_as_its_page_says(numbers: int, told: int) -> None:
    there = BoundedTerms(
        Bounded(("a", "b", "c"), 1.0), NAMES, NAMES[:3], Bounds(numbers, 100, 1000), 3, bytes(32)
    )
    assert 1 + cost("a", terms=there.terms, roster=there.roster).rounds == told


def lie(monkeypatch: pytest.MonkeyPatch, *liars: str) -> None:
    honest: Any = vars(bounded)["contribute"]

    async def contribute(party: Any, x: Any, *, terms: Any) -> None:
        if party.me in liars:
            return await upload(party, np.full_like(x, 1 << 40), terms=terms)
        return await honest(party, x, terms=terms)

    monkeypatch.setattr(bounded, "contribute", contribute)


@pytest.mark.slow
def test_an_update_out_of_bounds_is_in_no_sum_and_the_server_is_told_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie(monkeypatch, "a")  # which computes besides
    played = Played(tmp_path, BOUNDED)
    check(played, played.round(), "bcde")
    assert "out of the bounds" in played.server.reports[-1].missed["a"]
    lie(monkeypatch, "e")
    assert played.round() is None
    assert "out of bounds: a, e" in played.server.reports[-1].failure


@pytest.mark.slow
def test_a_longer_update_of_an_honest_node_is_scaled_down_to_the_norm(tmp_path: Path) -> None:
    played = Played(tmp_path, Protection(0.2, 0.2, bounded=Bounded(("a", "b", "c"), norm=1.0)))
    result = played.round()
    moved = []
    for name in NAMES:
        flat = np.concatenate([(played.update(name)[key] - SENT[key]).reshape(-1) for key in ("steps", "w")])
        moved.append(flat / np.linalg.norm(flat))
    found = np.concatenate([(result.arrays[key] - SENT[key]).reshape(-1) for key in ("steps", "w")])
    assert np.max(np.abs(found - np.mean(moved, axis=0))) <= played.server.reports[-1].error + 2.5e-7
    assert played.server.reports[-1].missed == {}


def test_evaluation_beside_a_bound_is_under_masks(tmp_path: Path) -> None:
    played = Played(tmp_path, BOUNDED)
    result = played.round(kind="evaluate")
    assert result.metrics["loss"] == pytest.approx(np.average(range(5), weights=range(1, 6)))


def altered(played: Played, receiver: str, change: Any) -> Any:
    """Play a round in which the server changes what it delivers to a node with letters from another node."""

    def alter(step: str, name: str, frame: bytes) -> bytes:
        if step != "relay" or name != receiver:
            return frame
        delivery = wire.from_bytes(frame, Delivery)
        return wire.to_bytes(change(delivery))

    played.change = alter
    return played.round()


def flipped(delivery: Delivery) -> Delivery:
    content = np.array(delivery.mail.content)
    content[-1:] ^= 1
    return msgspec.structs.replace(delivery, mail=msgspec.structs.replace(delivery.mail, content=content))


def without_keys(delivery: Delivery) -> Delivery:
    return msgspec.structs.replace(delivery, keys={k: v for k, v in delivery.keys.items() if k != "c"})


def with_keys_of_others(delivery: Delivery) -> Delivery:
    keys = delivery.keys
    return msgspec.structs.replace(delivery, keys={**keys, "c": keys["d"]} if keys else keys)


def to_another(delivery: Delivery) -> Delivery:
    receivers = tuple("c:adding" for _ in delivery.mail.receivers)
    return msgspec.structs.replace(delivery, mail=msgspec.structs.replace(delivery.mail, receivers=receivers))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without_keys, "expected a key of c"),
        (with_keys_of_others, "signature"),
        (to_another, "expected letters of parties of the sum to a"),
    ],
)
def test_a_server_that_alters_what_it_carries_ends_the_sum(
    tmp_path: Path, change: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    played = Played(tmp_path, BOUNDED)
    found = played.errors_of("a")
    assert altered(played, "a", change) is None
    assert "a, without whom" in played.server.reports[-1].failure
    assert why in str(found[0])


def test_a_needed_node_that_gets_an_altered_letter_says_whose_it_was_and_ends_the_sum(tmp_path: Path) -> None:
    played = Played(tmp_path, BOUNDED)
    assert altered(played, "a", flipped) is None
    report = played.server.reports[-1]
    assert (
        "a: 'expected a letter that b:adding sealed for a:adding, got one that does not open"
        in report.failure
    )
    assert sorted(report.missed) == ["a", "b"]  # it cannot be told which of the two lies


def test_a_step_is_answered_once_whatever_becomes_of_the_stored_state(tmp_path: Path) -> None:
    played = Played(tmp_path, BOUNDED)
    twice: list[SecaggError] = []

    def again(step: str, name: str, frame: bytes) -> bytes:
        if step == "relay" and name == "a" and not twice:
            keeper = played.keepers["a"]
            node, _, kind = keeper._node  # type: ignore[misc]
            data = node.to_bytes()
            keeper.answer(step, frame)
            restored = type(node).from_bytes(data, keeper._member, played.protection)
            try:
                restored.answer(kind, step, frame)
            except RemoteProtocolError as error:
                twice.append(error)
        return frame

    played.change = again
    assert played.round() is None
    assert "answered before" in str(twice[0])


@pytest.mark.slow
def test_letters_are_refused_in_others_names_and_to_nobody(tmp_path: Path) -> None:
    played = Played(tmp_path, BOUNDED)
    wrong = iter([("b", "a:adding"), ("e", "x"), ("e", "e")])
    pairs: list[tuple[str, str]] = []
    answer = played.keepers["e"].answer

    def forging(step: str, frame: bytes) -> bytes:
        told = answer(step, frame)
        if step != "relay":
            return told
        pairs.append(next(wrong))
        mail = wire.from_bytes(told, Answer).mail
        (sender, receiver), count = pairs[-1], len(mail.senders)
        mail = msgspec.structs.replace(mail, senders=(sender,) * count, receivers=(receiver,) * count)
        return wire.to_bytes(Answer(mail, True, ""))

    for _ in range(3):
        played.keepers["e"] = played.keeper("e")
        answer = played.keepers["e"].answer
        played.keepers["e"].answer = forging  # type: ignore[method-assign]
        check(played, played.round(), "abcd")
        assert "expected letters of e's own" in played.server.reports[-1].missed["e"]
    assert len(pairs) == 3


@pytest.mark.slow
def test_a_node_whose_letters_do_not_open_is_left_out_and_ends_nobody_elses_sum(tmp_path: Path) -> None:
    played = Played(tmp_path, BOUNDED)
    answer = played.keepers["e"].answer

    def garbling(step: str, frame: bytes) -> bytes:
        told = answer(step, frame)
        if step != "relay":
            return told
        mail = wire.from_bytes(told, Answer).mail
        return wire.to_bytes(
            Answer(msgspec.structs.replace(mail, content=np.zeros_like(mail.content)), True, "")
        )

    played.keepers["e"].answer = garbling  # type: ignore[method-assign]
    check(played, played.round(), "abcd")


def test_a_letter_opens_for_its_receiver_from_its_sender_in_its_sum() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    context, secrets = bytes(32), {"a": b"a" * 32, "b": b"b" * 32}
    identity = Ed25519PrivateKey.generate()
    public = identity.public_key().public_bytes_raw()
    keys = {n: check_key(signed_key(s, context, n, identity), context, n, public) for n, s in secrets.items()}
    a, b = (Sealer(secrets[name], context, keys) for name in "ab")
    sealed = a.seal(b"share", sender="a", receiver="b", at="b")
    assert b"share" not in sealed
    assert sealed != a.seal(b"share", sender="a", receiver="b", at="b")
    assert b.open(sealed, sender="a", receiver="b", at="a") == b"share"
    for opener, names in [
        (b, {"sender": "a", "receiver": "b:adding", "at": "a"}),
        (b, {"sender": "a:adding", "receiver": "b", "at": "a"}),
        (a, {"sender": "a", "receiver": "b", "at": "b"}),  # sent back
        (Sealer(secrets["b"], b"1" * 32, keys), {"sender": "a", "receiver": "b", "at": "a"}),
    ]:
        with pytest.raises(AuthenticationError, match="sealed for"):
            opener.open(sealed, **names)
    with pytest.raises(AuthenticationError, match="sealed for"):
        b.open(sealed[:5], sender="a", receiver="b", at="a")
    for name, where in (("a", b"1" * 32), ("b", context)):
        with pytest.raises(AuthenticationError, match="signature"):
            check_key(signed_key(secrets["a"], context, "a", identity), where, name, public)
    assert "a" * 32 not in repr(a)


def test_a_key_that_agrees_on_nothing_or_is_spelt_otherwise_is_refused_and_its_owner_named() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    context, identity = bytes(32), Ed25519PrivateKey.generate()
    public = identity.public_key().public_bytes_raw()
    for key, why in [(bytes(32), "of e, got a point of small order"), (b"\xff" * 32, "of e below")]:
        signature = sign(identity, "secagg.federated/letters/key", [context, b"e", key])
        with pytest.raises(RemoteProtocolError, match=why) as caught:
            check_key(SumPublicKey(key, signature), context, "e", public)
        assert caught.value.peer == "e"


def carried() -> Carrier:
    """Return the server's side of a bounded sum of a to e, of whom a, b and c compute; its keys are there."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    identities = {name: Ed25519PrivateKey.generate() for name in NAMES}
    public = {name: identity.public_key().public_bytes_raw() for name, identity in identities.items()}
    bounds = Bounds(8, 100, 1000)
    terms = BoundedTerms(Bounded(("a", "b", "c"), 1.0), NAMES, NAMES[:3], bounds, 3, bytes(32))
    carrier = Carrier(terms, public)
    for name, identity in identities.items():
        carrier.take_key(name, signed_key(name.encode() * 32, bytes(32), name, identity))
    assert carrier.deliveries().keys() == set(NAMES)
    return carrier


def answer_of(*letters: tuple[str, str, int], done: bool = True) -> Answer:
    return Answer(pack([Letter((sender, to, bytes(size))) for sender, to, size in letters]), done, "")


@pytest.mark.parametrize(
    ("letters", "why"),
    [
        ([("e", "a:adding", 0)] * 3, "at most 2 letters .* from e to 'a:adding' .* got more"),
        ([("e", "b:adding", 1 << 17)], "at most .* 65600 bytes .* from e to 'b:adding' .* got 131072 bytes"),
        ([("e", "b:adding", 60_000)] * 2, "got 120000 bytes"),
        ([("e", "server", 1 << 17)], "65536 bytes .* from e to 'server'"),
        ([("e", "d", 1)], "letters of e's to nodes that compute the sum, got one to 'd'"),
    ],
)
def test_a_node_that_sends_what_the_sum_does_not_take_is_named_and_nothing_of_it_is_carried(
    letters: list[tuple[str, str, int]], why: str
) -> None:
    carrier = carried()
    for name in "abcd":
        carrier.take_answer(
            name, answer_of((name, "a:adding", 200), (name, "b:adding", 200), done=name == "d")
        )
    with pytest.raises(RemoteProtocolError, match=why) as caught:
        carrier.take_answer("e", answer_of(*letters, done=False))
    assert caught.value.peer == "e"
    carried_on = {name: set(delivery.mail.senders) for name, delivery in carrier.deliveries().items()}
    assert carried_on == {"a": set("abcd"), "b": set("abcd")}


def test_exchanges_that_carry_nothing_of_those_who_compute_are_stalls_and_the_stalled_are_named() -> None:
    carrier = carried()
    carrier.take_answer("e", answer_of(("e", "a:adding", 9), ("e", "b:adding", 9), done=False))
    for name in "abcd":
        carrier.take_answer(name, answer_of(done=name in "bd"))
    assert [delivery.is_late for delivery in carrier.deliveries().values()] == [
        False
    ]  # to a: b reads no more
    carrier.take_answer("a", answer_of(done=False))
    told = carrier.deliveries()
    assert {name: delivery.is_late for name, delivery in told.items()} == dict.fromkeys("ac", True)
    for name in told:
        carrier.take_answer(name, answer_of(done=False))
    with pytest.raises(TooFewPartiesError, match=r"; b ended and did not send .*; a, c wait for letters"):
        carrier.deliveries()


@pytest.mark.slow
def test_what_a_node_sends_beyond_its_update_is_not_kept_though_the_server_carries_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed, go_on = Correspondent._sealed, Correspondent.go_on
    junk, kept = 40, list[int]()

    def flooding(self: Any, sealer: Any, keys: Any, party: str, frames: Any) -> Any:
        if party == "e":
            terms = self._terms
            for number in range(1, junk + 1):
                parts, _ = wire.encode_message(
                    Verdict(np.zeros(30_000, np.uint8)),
                    session=terms.context[:16],
                    sender=terms.roster.index("e"),
                    lane=(),
                    sequence=number,
                    depth=1,
                )
                frames.append(("a:adding", b"".join(parts)))
        return sealed(self, sealer, keys, party, frames)

    def measured(self: Any, state: bytes, delivery: Any) -> Any:
        told, after = go_on(self, state, delivery)
        kept.append(len(after))
        return told, after

    monkeypatch.setattr(Correspondent, "_sealed", flooding)
    monkeypatch.setattr(Correspondent, "go_on", measured)
    monkeypatch.setattr(Carrier, "_check_borne", lambda *_: None)
    monkeypatch.setattr(carrier, "_LETTERS_AT_ONCE", 10)  # so that it comes in several deliveries
    played = Played(tmp_path, BOUNDED)
    check(played, played.round(), "abcde")
    assert max(kept) < 3 * 30_000


@pytest.mark.slow
@pytest.mark.parametrize("protection", [BOUNDED, SHARED], ids=["bounded", "shared key"])
def test_a_node_whose_update_does_not_come_is_missed_by_name(tmp_path: Path, protection: Protection) -> None:
    played = Played(tmp_path, protection, CLIPS)
    answer = played.keepers["e"].answer

    def silent(step: str, frame: bytes) -> bytes:
        told = answer(step, frame)
        return wire.to_bytes(answer_of(done=False)) if step == "relay" else told

    played.keepers["e"].answer = silent  # type: ignore[method-assign]
    check(played, played.round(), "abcd")
    ((name, why),) = played.server.reports[-1].missed.items()
    assert (name, "is not in the sum" in why) == ("e", True)


@pytest.mark.slow
def test_letters_that_one_delivery_does_not_hold_come_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "_LETTERS_AT_ONCE", 3)
    monkeypatch.setattr(carrier, "_BYTES_AT_ONCE", 1000)
    played = Played(tmp_path, BOUNDED)
    mails: list[Mail] = []

    def noted(step: str, _name: str, frame: bytes) -> bytes:
        if step == "relay":
            mails.append(wire.from_bytes(frame, Delivery).mail)
        return frame

    played.change = noted
    check(played, played.round(), "abcde")
    assert max(len(mail.senders) for mail in mails) == 3
    assert all(sum(mail.lengths) <= 1000 or len(mail.lengths) == 1 for mail in mails)


def test_mail_whose_lengths_do_not_add_up_is_none() -> None:
    mail = pack([("a", "b", b"xy"), ("c", "b", b"")])  # type: ignore[list-item]
    assert [tuple(letter) for letter in unpack(mail, peer="server")] == [("a", "b", b"xy"), ("c", "b", b"")]
    for lengths in [(1, 0), (3, -1), (2,)]:
        with pytest.raises(RemoteProtocolError, match="expected letters"):
            unpack(Mail(mail.senders, mail.receivers, lengths, mail.content), peer="server")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"bounded": BOUNDED.bounded, "privacy": Privacy(1.0, 1e-5, 1.0)}, "noise has no bound"),
        ({"shared_key": SHARED.shared_key, "privacy": Privacy(1.0, 1e-5, 1.0)}, "noise is added modulo"),
        ({"shared_key": SHARED.shared_key, "threat_model": "malicious"}, "keeps to the protocol"),
        ({"shared_key": SHARED.shared_key, "encryption": Encryption("a")}, "expected one of"),
        ({"shared_key": SHARED.shared_key, "bounded": BOUNDED.bounded}, "expected one of"),
    ],
)
def test_set_ups_that_protect_nothing_are_refused(settings: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Protection(**settings)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Bounded(("a", "b"), 1.0), "3 different nodes"),
        (lambda: Bounded(("a", "b", "b"), 1.0), "3 different nodes"),
        (lambda: Bounded(("a", "b", "server"), 1.0), "server cannot compute"),
        (lambda: Bounded(("a", "b", "c"), 0.0), "positive number as the norm"),
        (lambda: Bounded(("a", "b", "c"), float("inf")), "positive number as the norm"),
        (lambda: SharedKey(("a",)), "2 different nodes"),
        (lambda: SharedKey(("a", "a")), "2 different nodes"),
        (lambda: SharedKey(("a", "server")), "no part of the key"),
        (lambda: SharedKey(("a", "b"), least=1), "2 to 2 key holders"),
        (lambda: SharedKey(("a", "b"), least=3), "2 to 2 key holders"),
    ],
)
def test_nodes_that_cannot_compute_together_are_refused(make: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        make()


def test_too_few_of_those_that_compute_end_the_sum_before_anything_is_sent(tmp_path: Path) -> None:
    for protection, lost in ((BOUNDED, "ab"), (SHARED, "ab")):
        played = Played(tmp_path, protection, CLIPS)
        assert played.round(dict.fromkeys(lost, "task")) is None
        assert "to be ready for the sum" in played.server.reports[-1].failure
