"""Uploads: key holders add up what clients signed for this round and key, and nothing that an aggregator makes.

The module is long because one federation of clients and key holders serves every lie about an upload.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace as changed

from secagg import signing, wire
from secagg.errors import (
    AuthenticationError,
    RemoteProtocolError,
    TooFewPartiesError,
    UsageError,
    WireError,
)
from secagg.he.rlwe import ciphertexts
from secagg.he.rlwe.keys import PublicKey, SecretKey
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.uploads import (
    Collector,
    HalfUpload,
    Round,
    Tally,
    Upload,
    Vote,
    outcome,
    sign_upload,
)


def halves(federation: Any, round_: Round) -> dict[str, HalfUpload]:
    collector = Collector(round_)
    return {
        client: collector.add(client, federation.upload(round_, client, numbers))
        for client, numbers in federation.numbers().items()
    }


@pytest.mark.parametrize(("modulus_bits", "length"), [(96, 5000), (128, 9000)])
def test_aggregator_and_key_holders_add_up_the_same(
    federate: Callable[..., Any], modulus_bits: int, length: int
) -> None:
    federation = federate(modulus_bits=modulus_bits, length=length)
    round_ = federation.round()
    collector, tallies = federation.collect(round_, federation.numbers())
    votes = federation.votes(tallies)
    for tally in tallies.values():
        total, closed = tally.agreed(votes)
        assert total == collector.total.c1
        assert closed == collector.close()
        assert closed.header.summands == 3
        assert [name for name, _ in closed.digests] == ["c0", "c1", "c2"]


def test_the_transcript_does_not_depend_on_the_order_and_does_on_everything_else(federation: Any) -> None:
    sent = halves(federation, federation.round())

    def transcript(clients: tuple[str, ...], **fields: Any) -> bytes:
        tally = Tally(replace(federation.round(), **fields))
        for client in clients:
            tally.add(sent[client])
        return tally.close().transcript

    first = transcript(("c0", "c1", "c2"))
    assert transcript(("c2", "c0", "c1")) == first
    assert (
        len(
            {
                first,
                transcript(("c0", "c1")),
                transcript(("c0", "c2")),
                transcript(("c0", "c1", "c2"), min_clients=3),
            }
        )
        == 4
    )


def test_the_transcript_depends_on_whose_which_ciphertext_is(federation: Any) -> None:
    """Otherwise the flooding of two sums of the same clients would cancel, and leave the share."""
    round_ = federation.round()
    header = federation.collect(round_, federation.numbers())[0].close().header
    digests = {name: bytes([i]) * 32 for i, name in enumerate(("c0", "c1", "c2"))}
    others = [
        digests,
        {**digests, "c2": bytes([9]) * 32},
        {**digests, "c0": digests["c1"], "c1": digests["c0"]},
    ]
    assert len({outcome(round_, header, each).transcript for each in others}) == 3


def test_the_transcript_depends_on_the_weight_of_the_sum(federate: Callable[..., Any]) -> None:
    federation = federate(max_weight=3)
    round_ = federation.round()
    collector, _ = federation.collect(round_, federation.numbers())
    closed = collector.close()
    heavier = replace(closed.header, weight=closed.header.weight + 1)
    assert outcome(round_, heavier, dict(closed.digests)).transcript != closed.transcript


def test_an_outcome_is_told_from_names_digests_and_header(federation: Any) -> None:
    round_ = federation.round()
    collector, _ = federation.collect(round_, federation.numbers())
    closed = collector.close()
    digests = dict(closed.digests)
    assert outcome(round_, closed.header, dict(reversed(digests.items()))) == closed
    few = {"c0": digests["c0"]}
    for header, wrong, message in (
        (replace(closed.header, summands=1, weight=1), few, "at least 2 registered"),
        (closed.header, {**few, "eve": bytes(32), "c1": bytes(32)}, "at least 2 registered"),
        (replace(closed.header, summands=2), digests, "a sum of 3 uploads"),
        (replace(closed.header, weight=2), digests, "a sum of 3 uploads"),
        (replace(closed.header, shape=(99,)), digests, "a sum of 3 uploads"),
    ):
        with pytest.raises(UsageError, match=message):
            outcome(round_, header, wrong)


def test_an_aggregators_chosen_ciphertext_is_refused(federation: Any) -> None:
    """c1 = 2^90 would be answered by 2^90 s_i plus flooding: see test_threshold."""
    round_ = federation.round()
    genuine = halves(federation, round_)["c0"]
    chosen = Polynomials.zeros(federation.public_key.parameters, 1)
    chosen.add_shifted(np.array([1], np.uint64), 90)
    tally = Tally(round_)
    with pytest.raises(AuthenticationError, match="c0's signature"):
        tally.add(changed(genuine, c1=chosen.words))
    own = Ed25519PrivateKey.generate()
    digest = ciphertexts.digest(
        federation.public_key.encrypt(np.zeros(100), federation.plan).header,
        1,
        genuine.digest_c0,
        chosen.digest(),
    )
    forged = own.sign(b"".join(round_.statement("c0", digest)))
    with pytest.raises(AuthenticationError):
        tally.add(changed(genuine, c1=chosen.words, signature=forged))
    assert tally.clients == ()


def test_a_lied_count_is_refused(federation: Any) -> None:
    round_ = federation.round(min_clients=3)
    sent = halves(federation, round_)
    tally = Tally(round_)
    fields = sent["c0"].header
    for lie in (
        {"summands": 3, "weight": 3},
        {"weight": 2},
        {"summands": 0},
        {"shape": (99,)},
        {"shape": ()},
    ):
        with pytest.raises(RemoteProtocolError):
            tally.add(changed(sent["c0"], header=changed(fields, **lie)))
    tally.add(sent["c0"])
    for other in ("c1", "c2"):  # one upload under three names
        with pytest.raises(AuthenticationError):
            tally.add(changed(sent["c0"], client=other))
    tally.add(sent["c1"])
    with pytest.raises(TooFewPartiesError, match="has 2 uploads and needs 3"):
        tally.vote(federation.holders["h0"], "h0")
    tally.add(sent["c2"])  # still open: what is missing may come
    assert tally.close().header.summands == 3


def test_a_replayed_upload_is_refused(federation: Any, federate: Callable[..., Any]) -> None:
    first = federation.round(0)
    sent = halves(federation, first)["c0"]
    replays = {
        "another round": federation.round(1),
        "another session": replace(first, session=b"another session, "),
    }
    for round_ in replays.values():
        with pytest.raises(AuthenticationError):
            Tally(round_).add(sent)
    twice = Tally(first)
    twice.add(sent)
    with pytest.raises(RemoteProtocolError, match="second upload from c0"):
        twice.add(sent)
    federation.session = b"next session" * 2
    federation.make_key()  # the same clients under another key
    with pytest.raises(RemoteProtocolError, match="expected a ciphertext of"):
        Tally(federation.round(0)).add(sent)


def test_an_upload_is_signed_for_one_client(federation: Any) -> None:
    """Another client that hands in the same ciphertext under its own signature is refused too."""
    round_ = federation.round()
    ciphertext = round_.public_key.encrypt(np.zeros(100), federation.plan)
    collector, tally = Collector(round_), Tally(round_)
    tally.add(collector.add("c0", sign_upload(round_, "c0", ciphertext, federation.clients["c0"])))
    copy = sign_upload(round_, "c1", ciphertext, federation.clients["c1"])
    with pytest.raises(RemoteProtocolError, match="c1 uploaded the ciphertext of another client"):
        collector.add("c1", copy)
    half = HalfUpload(
        "c1",
        copy.ciphertext.header,
        ciphertext.digest_c0(),
        ciphertext.c1.words,
        copy.signature,
    )
    with pytest.raises(RemoteProtocolError, match="c1 uploaded the ciphertext of another client"):
        tally.add(half)


def test_what_a_client_signs_depends_on_each_part(federation: Any) -> None:
    round_ = federation.round()
    other_key = SecretKey.generate(round_.public_key.parameters).public_key
    keyed = PublicKey(
        other_key.parameters,
        other_key.seed,
        other_key.b,
        holders=round_.public_key.holders,
        flood_bits=round_.public_key.flood_bits,
    )
    statements = [
        round_.statement("c0", bytes(32)),
        round_.statement("c1", bytes(32)),
        round_.statement("c0", bytes(31) + b"1"),
        replace(round_, session=b"t" * 32).statement("c0", bytes(32)),
        replace(round_, number=1).statement("c0", bytes(32)),
        replace(round_, public_key=keyed).statement("c0", bytes(32)),
    ]
    assert len({signing.digest("upload", parts) for parts in statements}) == len(statements)


def test_an_unregistered_client_is_refused(federation: Any) -> None:
    round_ = federation.round()
    stranger = Ed25519PrivateKey.generate()
    upload = sign_upload(round_, "eve", round_.public_key.encrypt(np.zeros(100), federation.plan), stranger)
    with pytest.raises(RemoteProtocolError, match="'eve', who is not registered"):
        Collector(round_).add("eve", upload)
    half = changed(halves(federation, round_)["c0"], client="eve")
    with pytest.raises(RemoteProtocolError, match="'eve', who is not registered") as refused:
        Tally(round_).add(half)
    assert refused.value.peer == "eve"


def test_what_is_refused_changes_nothing(federation: Any) -> None:
    round_ = federation.round()
    sent = halves(federation, round_)
    clean, disturbed = Tally(round_), Tally(round_)
    short = tuple(np.ascontiguousarray(w[:, :100]) for w in sent["c2"].c1)
    bad = [
        changed(sent["c2"], signature=bytes(64)),
        changed(sent["c2"], c1=short),
        changed(sent["c2"], client="x"),
    ]
    for upload in (sent["c0"], sent["c1"], sent["c2"]):
        for refused in bad:
            with pytest.raises((RemoteProtocolError, WireError)):
                disturbed.add(refused)
        clean.add(upload)
        disturbed.add(upload)
    votes = {name: clean.vote(key, name) for name, key in federation.holders.items()}
    assert disturbed.agreed(votes)[0] == clean.agreed(votes)[0]


def test_clients_do_not_sign_what_is_no_fresh_encryption(federation: Any) -> None:
    round_, identity = federation.round(), federation.clients["c0"]
    encrypt = round_.public_key.encrypt
    fresh = encrypt(np.zeros(100), federation.plan)
    narrower = replace(federation.plan, clip=99.0)
    for wrong, message in (
        (fresh + encrypt(np.zeros(100), federation.plan), "got 2 of weight 2"),
        (fresh * 2, "got 1 of weight 2"),
        (encrypt(np.zeros(99), federation.plan), r"got one of .* of shape \(99,\)"),
        (encrypt(np.zeros(100), narrower), r"encoded by Plan\(.*clip=99.0"),
    ):
        with pytest.raises(UsageError, match=message):
            sign_upload(round_, "c0", wrong, identity)


def test_a_multiple_of_a_ciphertext_is_no_upload(federate: Callable[..., Any]) -> None:
    """Its noise is more than flooding was planned for: weights go in before encryption."""
    federation = federate(with_key=False)
    weighted = replace(federation.plan, max_weight=4)
    federation.release_plan = replace(federation.release_plan, plan=weighted, flood_bits=50)
    federation.make_key()
    round_ = federation.round()
    ciphertext = round_.public_key.encrypt(np.zeros(100), weighted) * 3
    with pytest.raises(UsageError, match="multiply the numbers before they are encrypted"):
        sign_upload(round_, "c0", ciphertext, federation.clients["c0"])
    statement = round_.statement("c0", ciphertext.digest())
    signature = signing.sign(federation.clients["c0"], "secagg.he.rlwe.uploads/upload", statement)
    with pytest.raises(RemoteProtocolError, match="a multiple of a ciphertext"):
        Collector(round_).add("c0", Upload(ciphertext.to_message(), signature))
    half = HalfUpload(
        "c0", ciphertext.header.to_fields(), ciphertext.digest_c0(), ciphertext.c1.words, signature
    )
    with pytest.raises(AuthenticationError):
        Tally(round_).add(half)
    weights = np.full(100, 3, np.uint64)
    before = round_.public_key.encrypt_encoded(weights, weighted, weight=3)
    assert Collector(round_).add("c0", sign_upload(round_, "c0", before, federation.clients["c0"]))


def test_an_upload_after_the_vote_is_refused(federation: Any) -> None:
    round_ = federation.round()
    sent = halves(federation, round_)
    tally = Tally(round_)
    tally.add(sent["c0"])
    tally.add(sent["c1"])
    vote = tally.vote(federation.holders["h0"], "h0")
    with pytest.raises(RemoteProtocolError, match="after round 0 was closed"):
        tally.add(sent["c2"])
    assert tally.vote(federation.holders["h0"], "h0").transcript == vote.transcript


def test_key_holders_that_added_up_other_uploads_do_not_decrypt(federation: Any) -> None:
    round_ = federation.round()
    sent = halves(federation, round_)
    tallies = {name: Tally(round_) for name in federation.holders}
    for name, tally in tallies.items():
        for client in ("c0", "c1", "c2") if name != "h2" else ("c0", "c1"):
            tally.add(sent[client])
    votes = federation.votes(tallies)
    with pytest.raises(RemoteProtocolError, match="h2 has added up other uploads") as refused:
        tallies["h0"].agreed(votes)
    assert refused.value.peer == "h2"
    with pytest.raises(UsageError, match=r"got those of \['h0', 'h1'\]"):
        tallies["h0"].agreed(federation.others(votes, "h2"))
    forged = {**votes, "h2": Vote(votes["h0"].transcript, votes["h2"].signature)}
    with pytest.raises(AuthenticationError):
        tallies["h0"].agreed(forged)
    with pytest.raises(AuthenticationError):
        tallies["h0"].agreed({**votes, "h2": votes["h0"]})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"session": b"short"}, "at least 16 bytes"),
        ({"number": -1}, "number of a round"),
        ({"number": 1 << 63}, "number of a round"),
        ({"min_clients": 1}, "minimum of 2 to 3"),
        ({"min_clients": 4}, "minimum of 2 to 3"),
        ({"shape": (101,)}, "made for sums of 100 numbers"),
        ({"holders": {}}, "identities of 3 key holders"),
    ],
)
def test_a_round_that_cannot_be_is_refused(federation: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(federation.round(), **fields)


def test_a_round_takes_distinct_identities_and_its_own_plan(federation: Any) -> None:
    round_ = federation.round()
    with pytest.raises(UsageError, match="two clients have the same identity"):
        replace(round_, clients={**round_.clients, "c1": round_.clients["c0"]})
    with pytest.raises(UsageError, match="two key holders have the same identity"):
        replace(round_, holders={**round_.holders, "h1": round_.holders["h0"]})
    with pytest.raises(UsageError, match="was not made for"):
        replace(round_, release_plan=replace(round_.release_plan, flood_bits=20))
    crowd = {f"c{i}": Ed25519PrivateKey.generate().public_key() for i in range(4)}
    with pytest.raises(UsageError, match="clients up to the 3 of the plan"):
        replace(round_, clients=crowd)


def test_messages_come_back_from_bytes(federation: Any) -> None:
    round_ = federation.round()
    collector, tally = Collector(round_), Tally(round_)
    for client, numbers in federation.numbers().items():
        upload = federation.upload(round_, client, numbers)
        half = collector.add(client, wire.from_bytes(wire.to_bytes(upload), Upload, peer=client))
        tally.add(wire.from_bytes(wire.to_bytes(half), HalfUpload))
    assert tally.close().transcript == collector.close().transcript
    assert collector.total.to_bytes()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clients(federate: Callable[..., Any]) -> None:
    federation = federate(clients=24, length=20_000)
    round_ = federation.round()
    size = 2 * 5 * 4096 * 12  # of one upload
    collector, tally = Collector(round_), Tally(round_)
    used = []
    tracemalloc.start()
    try:
        for client in federation.clients:
            tally.add(collector.add(client, federation.upload(round_, client, np.ones(20_000))))
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert used[-1] - used[3] < size / 2


def test_an_aggregator_without_uploads_has_no_sum(federation: Any) -> None:
    with pytest.raises(TooFewPartiesError, match="nobody has uploaded"):
        _ = Collector(federation.round()).total


def test_a_ciphertext_of_another_kind_is_refused(federation: Any) -> None:
    round_ = federation.round()
    upload = federation.upload(round_, "c0", np.zeros(100))
    header = changed(upload.ciphertext.header, key_id=bytes(32))
    with pytest.raises(WireError, match="got one under 0000000000000000; from c0"):
        Collector(round_).add("c0", changed(upload, ciphertext=changed(upload.ciphertext, header=header)))
    assert isinstance(Collector(round_).add("c0", upload), HalfUpload)
    assert round_.public_key.read(upload.ciphertext).squares == 1
