"""Threshold decryption: exact sums, one answer for each round, and what a share is and is not safe from.

The module is long because keys of a few sizes serve sums, records and what shares tell.
"""

from __future__ import annotations

import copy
import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import fixed_point, wire
from secagg.errors import RangeError, RemoteProtocolError, TooFewPartiesError, UsageError, WireError
from secagg.he import key_files
from secagg.he.rlwe import noise
from secagg.he.rlwe.ciphertexts import Ciphertext
from secagg.he.rlwe.decryption_log import DecryptionLog
from secagg.he.rlwe.polynomials import Polynomials, exponents
from secagg.he.rlwe.products import multiply, transform_secret
from secagg.he.rlwe.threshold import KeyShare, PartialDecryption, combine
from secagg.he.rlwe.uploads import Collector, Tally, sign_upload


def opened(federation: Any, number: int = 0, seed: int = 0) -> np.ndarray:
    """The sum of the federation's numbers, through encryption and all holders."""
    collector, tallies = federation.collect(federation.round(number), federation.numbers(seed))
    values = combine(
        collector.close(), collector.total.c0, federation.public_key, federation.decrypt(tallies)
    )
    return fixed_point.decode(values, federation.plan, summands=len(federation.clients))


@pytest.mark.parametrize(
    ("holders", "clients", "length", "modulus_bits"),
    [(2, 2, 1, 96), (3, 3, 5000, 96), (5, 12, 40_000, 96), (3, 4, 8192, 128), (2, 3, 70_000, 128)],
)
@pytest.mark.slow
def test_all_holders_decrypt_the_exact_sum(
    federate: Callable[..., Any], holders: int, clients: int, length: int, modulus_bits: int
) -> None:
    federation = federate(holders=holders, clients=clients, length=length, modulus_bits=modulus_bits)
    for number in range(2):
        expected = sum(federation.numbers(number).values())
        assert np.array_equal(opened(federation, number, number), expected)


@settings(max_examples=12, deadline=None)
@given(rows=st.lists(st.lists(st.integers(-100, 100), min_size=4, max_size=4), min_size=2, max_size=6))
def test_sums_are_exact_for_any_numbers(shared: Any, rows: list[list[int]], open_rounded: Any) -> None:
    """Combined from bare shares: what the gates let through is the previous test's."""
    public_key, shares, plan = shared.public_key, shared.shares, shared.plan
    total = public_key.encrypt(np.array(rows[0], np.float64), plan)
    for row in rows[1:]:
        total += public_key.encrypt(np.array(row, np.float64), plan)
    x = total.c0.copy()
    for share in shares.values():
        x += multiply(total.c1, transform_secret(share.to_message().secret, x.parameters))
    values = open_rounded(x, total, holders=3, flood_bits=public_key.flood_bits)
    assert values.view(np.int64).tolist() == np.sum(rows, axis=0).tolist()


def test_a_partial_decryption_is_the_product_plus_flooding(federation: Any) -> None:
    """Against Python integers, at some of the coefficients."""
    _, tallies = federation.collect(federation.round(), federation.numbers())
    partial = federation.decrypt(tallies)["h0"]
    total, outcome = tallies["h0"].agreed(federation.votes(tallies))
    assert partial.transcript == outcome.transcript
    modulus, order = 1 << 96, exponents(total.parameters)
    c1 = dict(zip(order.tolist(), integers(total), strict=True))
    answer = dict(zip(order.tolist(), integers(Polynomials(total.parameters, *partial.words)), strict=True))
    secret = dict(zip(order.tolist(), federation.shares["h0"].to_message().secret.tolist(), strict=True))
    flood_bits = federation.release_plan.flood_bits
    floods = []
    for power in (0, 1, 2047, 2048, 3000, 4095, *range(5, 4000, 70)):
        product = sum(c1[(power - j) % 4096] * s * (1 if j <= power else -1) for j, s in secret.items() if s)
        floods.append((answer[power] - product + modulus // 2) % modulus - modulus // 2)
    assert all(abs(e) < 1 << flood_bits for e in floods)
    # Each is the sum of four uniform numbers of one width: their deviation is 2^F / sqrt(12), which 64 of them show
    # within 4.5 standard errors of a tenth. One bit less would be half of it.
    deviation = (sum(e * e for e in floods) / len(floods)) ** 0.5 / (1 << flood_bits)
    assert abs(deviation * 12**0.5 - 1) < 0.4


def integers(x: Polynomials) -> list[int]:
    return [a + (b << 64) for a, b in zip(*(w[0].tolist() for w in x.words), strict=True)]


def as_bytes(partial: PartialDecryption) -> bytes:
    return wire.to_bytes(partial)


def test_a_resend_is_byte_identical(federate: Callable[..., Any]) -> None:
    federation = federate(length=40_000)
    _, tallies = federation.collect(federation.round(), federation.numbers())
    first, again = federation.decrypt(tallies), federation.decrypt(tallies)
    votes = federation.votes(tallies)
    with ThreadPoolExecutor(2) as executor:
        threads = federation.shares["h0"].partial_decrypt(
            tallies["h0"], votes, federation.records["h0"], executor=executor
        )
    assert as_bytes(first["h0"]) == as_bytes(again["h0"]) == as_bytes(threads)
    restored = KeyShare.from_message(federation.shares["h0"].to_message())
    later = restored.partial_decrypt(tallies["h0"], votes, federation.records["h0"])
    assert as_bytes(later) == as_bytes(first["h0"])


def test_flooding_differs_between_rounds_holders_and_blocks(federate: Callable[..., Any]) -> None:
    """The same c1 each time, so that a difference is one of flooding."""
    federation = federate(length=16 * 4096)
    _, tallies = federation.collect(federation.round(), federation.numbers())
    total, outcome = tallies["h0"].agreed(federation.votes(tallies))
    one = total.rows(0, 1)
    alike = Polynomials(total.parameters, *(np.repeat(w, 16, axis=0) for w in one.words))
    other = replace(outcome, transcript=bytes(32))
    share = federation.shares["h0"]
    noises = []
    for transcript in (outcome, other):
        out = share._decrypt(alike, transcript, None)
        out -= share._decrypt(alike, replace(outcome, transcript=b"reference".ljust(32)), None)
        noises += [row.tobytes() for row in out.low]
    assert len(set(noises)) == 32


def test_a_round_is_answered_for_one_set(federation: Any) -> None:
    round_, numbers = federation.round(), federation.numbers()
    collector = Collector(round_)
    sent = {c: collector.add(c, federation.upload(round_, c, x)) for c, x in numbers.items()}

    def tallies(clients: tuple[str, ...]) -> dict[str, Tally]:
        made = {name: Tally(round_) for name in federation.holders}
        for tally in made.values():
            for client in clients:
                tally.add(sent[client])
        return made

    first = federation.decrypt(tallies(("c0", "c1", "c2")))
    for fewer in (("c0", "c1"), ("c1", "c2")):
        with pytest.raises(UsageError, match="another set: 3 uploads then, 2 now"):
            federation.decrypt(tallies(fewer))
    again = federation.decrypt(tallies(("c2", "c1", "c0")))
    assert as_bytes(again["h1"]) == as_bytes(first["h1"])


def test_an_upload_is_not_decrypted_in_a_second_round(federation: Any) -> None:
    """Signed for round 1 by its client, and yet the ciphertext of round 0."""
    numbers = federation.numbers()
    ciphertexts = {c: federation.public_key.encrypt(x, federation.plan) for c, x in numbers.items()}
    for number in range(2):
        round_ = federation.round(number)
        collector, tallies = Collector(round_), {name: Tally(round_) for name in federation.holders}
        for client, ciphertext in ciphertexts.items():
            half = collector.add(client, sign_upload(round_, client, ciphertext, federation.clients[client]))
            for tally in tallies.values():
                tally.add(half)
        if number == 0:
            federation.decrypt(tallies)
        else:
            with pytest.raises(UsageError, match="in a sum that was decrypted before"):
                federation.decrypt(tallies)


def test_a_key_decrypts_the_agreed_number_of_rounds(federation: Any) -> None:
    for number in (5, 2):
        opened(federation, number)
    with pytest.raises(UsageError, match="all 2 agreed releases"):
        opened(federation, 3)


def test_nothing_is_decrypted_without_the_minimum_or_the_record(federation: Any, tmp_path: Path) -> None:
    round_ = federation.round(min_clients=3)
    two = {c: x for c, x in federation.numbers().items() if c != "c0"}
    _, tallies = federation.collect(round_, two)
    with pytest.raises(TooFewPartiesError, match="has 2 uploads and needs 3"):
        federation.shares["h0"].partial_decrypt(tallies["h0"], {}, federation.records["h0"])
    _, tallies = federation.collect(federation.round(), federation.numbers())
    votes = federation.votes(tallies)
    with (
        DecryptionLog(tmp_path / "empty.db", expected_epoch=0) as empty,
        pytest.raises(UsageError, match="knows nothing of key"),
    ):
        federation.shares["h0"].partial_decrypt(tallies["h0"], votes, empty)


def test_nothing_is_computed_from_the_share_before_the_record_has_it(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tallies = federation.collect(federation.round(), federation.numbers())
    votes = federation.votes(tallies)
    order: list[str] = []
    decrypt, record = KeyShare._decrypt, DecryptionLog.record

    def note_decrypt(share: KeyShare, *arguments: Any) -> Polynomials:
        order.append("decrypted")
        return decrypt(share, *arguments)

    def note_record(log: DecryptionLog, release: Any) -> int:
        epoch = record(log, release)
        order.append("recorded")
        return epoch

    monkeypatch.setattr(KeyShare, "_decrypt", note_decrypt)
    monkeypatch.setattr(DecryptionLog, "record", note_record)
    federation.shares["h0"].partial_decrypt(tallies["h0"], votes, federation.records["h0"])
    assert order == ["recorded", "decrypted"]


def test_a_share_answers_under_its_own_key(federation: Any, federate: Callable[..., Any]) -> None:
    other = federate()
    _, tallies = other.collect(other.round(), other.numbers())
    with pytest.raises(UsageError, match="expected a tally under h0's"):
        federation.shares["h0"].partial_decrypt(tallies["h0"], other.votes(tallies), federation.records["h0"])


def test_a_share_answers_under_the_plan_that_its_key_was_made_for(federation: Any) -> None:
    planned = federation.release_plan
    round_ = replace(federation.round(), release_plan=replace(planned, releases=planned.releases + 1))
    _, tallies = federation.collect(round_, federation.numbers())
    votes = federation.votes(tallies)
    with pytest.raises(UsageError, match="expected a tally under h0's"):
        federation.shares["h0"].partial_decrypt(tallies["h0"], votes, federation.records["h0"])


CHILD = """
import json, os, signal, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from secagg import wire
from secagg.errors import UsageError
from secagg.he import key_files
from secagg.he.rlwe.decryption_log import DecryptionLog
from secagg.he.rlwe.threshold import KeyShare
from secagg.he.rlwe.uploads import HalfUpload, Round, Tally, Vote

home, clients, when = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3]
share = key_files.load_secret(home / "share.key", KeyShare)
public = {
    role: {name: Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for name, key in parties.items()}
    for role, parties in json.loads((home / "public.json").read_text()).items()
}
round_ = Round(
    b"s" * 32, 0, share.public_key, share.release_plan, (100,), public["clients"], public["holders"], 2
)
tally = Tally(round_)
for client in clients:
    tally.add(wire.from_bytes((home / client).read_bytes(), HalfUpload))
votes = {
    name: wire.from_bytes((home / f"{name}-{'-'.join(clients)}").read_bytes(), Vote) for name in round_.holders
}

def die():
    os.kill(os.getpid(), signal.SIGKILL)

record = DecryptionLog(home / "h0.db", expected_epoch=0)
if when == "before the record":
    record._db.set_trace_callback(lambda statement: die() if statement == "COMMIT" else None)
if when == "after the record":
    made = record.record
    record.record = lambda release: (made(release), die())
try:
    partial = share.partial_decrypt(tally, votes, record)
except UsageError as error:
    sys.exit(f"refused: {error}")
(home / "answer").write_bytes(wire.to_bytes(partial))
if when == "after the answer":
    die()
"""


@pytest.fixture
def station(federation: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run key holder h0 as a process of its own over what lies in its directory."""
    home, round_ = federation.directory, federation.round()
    key_files.save_secret(home / "share.key", federation.shares["h0"])
    (home / "public.json").write_text(
        json.dumps(
            {
                "clients": {n: k.public_bytes_raw().hex() for n, k in round_.clients.items()},
                "holders": {n: k.public_bytes_raw().hex() for n, k in round_.holders.items()},
            }
        )
    )
    collector = Collector(round_)
    sent = {c: collector.add(c, federation.upload(round_, c, x)) for c, x in federation.numbers().items()}
    for client, half in sent.items():
        (home / client).write_bytes(wire.to_bytes(half))
    for clients in (("c0", "c1", "c2"), ("c0", "c1")):
        tally = Tally(round_)
        for client in clients:
            tally.add(sent[client])
        for name, identity in federation.holders.items():
            (home / f"{name}-{'-'.join(clients)}").write_bytes(wire.to_bytes(tally.vote(identity, name)))
    federation.records.pop("h0").close()

    def run(clients: str, when: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CHILD, str(home), clients, when]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_killed_before_the_record_nothing_was_promised(federation: Any, station: Callable[..., Any]) -> None:
    answer = federation.directory / "answer"
    assert station("c0,c1,c2", "before the record").returncode == -signal.SIGKILL
    assert not answer.exists()
    assert station("c0,c1").returncode == 0  # another set may be answered
    refused = station("c0,c1,c2")
    assert "another set: 2 uploads then, 3 now" in refused.stderr


@pytest.mark.slow
def test_killed_after_the_record_only_the_same_set_is_answered(
    federation: Any, station: Callable[..., Any]
) -> None:
    answer = federation.directory / "answer"
    assert station("c0,c1,c2", "after the record").returncode == -signal.SIGKILL
    assert not answer.exists()
    refused = station("c0,c1")
    assert refused.returncode == 1
    assert "another set: 3 uploads then, 2 now" in refused.stderr
    assert not answer.exists()
    assert station("c0,c1,c2", "after the answer").returncode == -signal.SIGKILL
    first = answer.read_bytes()
    answer.unlink()
    assert station("c0,c1,c2").returncode == 0
    assert answer.read_bytes() == first  # byte for byte what had been sent


def decrypted(federation: Any) -> tuple[Ciphertext, Any, dict[str, PartialDecryption]]:
    collector, tallies = federation.collect(federation.round(), federation.numbers())
    return collector.total, collector.close(), federation.decrypt(tallies)


def with_words(partial: PartialDecryption, *words: np.ndarray) -> PartialDecryption:
    return PartialDecryption(partial.transcript, partial.epoch, words)


def test_a_random_fault_is_found(federation: Any) -> None:
    total, outcome, partials = decrypted(federation)
    rng = np.random.default_rng(1)
    noise_ = [rng.integers(0, np.iinfo(w.dtype).max, w.shape, w.dtype) for w in partials["h1"].words]
    with pytest.raises(RangeError, match="not near encoded numbers"):
        combine(
            outcome, total.c0, federation.public_key, {**partials, "h1": with_words(partials["h1"], *noise_)}
        )
    low, high = (w.copy() for w in partials["h1"].words)
    low[0, 7] ^= np.uint64(1) << np.uint64(63)
    high[0, 4000] ^= np.uint32(1 << 31)  # in the part that has no numbers
    with pytest.raises(RangeError, match="not near encoded numbers"):
        combine(
            outcome,
            total.c0,
            federation.public_key,
            {**partials, "h1": with_words(partials["h1"], low, high)},
        )


def test_a_shift_by_whole_steps_is_not_found(federation: Any) -> None:
    """A documented limit: every holder can move the result, and nobody can tell who did."""
    total, outcome, partials = decrypted(federation)
    moved = Polynomials(total.words.parameters, *(w.copy() for w in partials["h1"].words))
    moved.add_shifted(np.array([17], np.uint64), noise.shift(federation.plan, moved.parameters))
    values = combine(
        outcome, total.c0, federation.public_key, {**partials, "h1": with_words(partials["h1"], *moved.words)}
    )
    expected = np.asarray(sum(federation.numbers().values()))
    expected[0] += 17
    assert np.array_equal(values.view(np.int64), expected)


def test_partial_decryptions_of_another_sum_or_shape_are_refused(federation: Any) -> None:
    total, outcome, partials = decrypted(federation)
    public_key = federation.public_key
    with pytest.raises(UsageError, match=r"of all 3 key holders, got those of \['h0', 'h1'\]"):
        combine(outcome, total.c0, public_key, federation.others(partials, "h2"))
    other = PartialDecryption(bytes(32), 1, partials["h1"].words)
    with pytest.raises(RemoteProtocolError, match="h1 decrypted another sum"):
        combine(outcome, total.c0, public_key, {**partials, "h1": other})
    short = with_words(partials["h1"], *(w[:, :8].copy() for w in partials["h1"].words))
    with pytest.raises(WireError, match="h1"):
        combine(outcome, total.c0, public_key, {**partials, "h1": short})
    with pytest.raises(UsageError, match="not those of the sum that was collected"):
        combine(outcome, Polynomials.zeros(public_key.parameters, 2), public_key, partials)
    received = {
        name: wire.from_bytes(wire.to_bytes(p), PartialDecryption, peer=name) for name, p in partials.items()
    }
    values = combine(outcome, total.c0, public_key, received)
    assert np.array_equal(values.view(np.int64), sum(federation.numbers().values()))


def test_less_than_all_holders_learn_nothing_readable(federation: Any, open_rounded: Any) -> None:
    total, _, partials = decrypted(federation)
    x = total.c0.copy()
    for name in ("h0", "h1"):
        x += Polynomials(x.parameters, *partials[name].words)
    with pytest.raises(RangeError):
        open_rounded(x, total, holders=3, flood_bits=federation.public_key.flood_bits)


def test_why_holders_decrypt_their_own_sum_only(federation: Any) -> None:
    """One answer to c1 = 2^90 would be the share, flooding or not. The gates keep such a c1 out."""
    share = federation.shares["h0"]
    chosen = Polynomials.zeros(federation.public_key.parameters, 1)
    chosen.add_shifted(np.array([1], np.uint64), 90)
    _, tallies = federation.collect(federation.round(), federation.numbers())
    answer = share._decrypt(chosen, tallies["h0"].close(), None)
    got = answer.round_off(90).values.view(np.int64)
    assert np.array_equal(got[0], share.to_message().secret)
    assert share.release_plan.flood_bits > 80


def test_a_lying_client_puts_the_secret_into_the_sum_and_a_key_for_each_round_confines_it(
    federate: Callable[..., Any],
) -> None:
    """A documented limit: clients are trusted to encrypt. (0, 2^92) decrypts to 2^32 times the secret."""
    federation = federate(clip=2.0**33, length=4096)
    public_key, shift = federation.public_key, noise.shift(federation.plan, federation.public_key.parameters)
    assert shift == 60
    victim = np.random.default_rng(0).integers(-(2**30), 2**30, 4096).astype(np.float64)
    round_ = federation.round()
    words = Polynomials.zeros(public_key.parameters, 2)
    words.rows(1, 2).add_shifted(np.array([1], np.uint64), 92)
    lie = Ciphertext(public_key.encrypt(victim, federation.plan).header, words)
    uploads = {
        "c0": federation.upload(round_, "c0", victim),
        "c1": sign_upload(round_, "c1", lie, federation.clients["c1"]),
        "c2": federation.upload(round_, "c2", np.zeros(4096)),
    }
    collector, tallies = Collector(round_), {name: Tally(round_) for name in federation.holders}
    for client, upload in uploads.items():
        half = collector.add(client, upload)
        for tally in tallies.values():
            tally.add(half)
    # Nobody refuses anything: uploads, votes, records and the combiner's checks are all in order.
    values = combine(collector.close(), collector.total.c0, public_key, federation.decrypt(tallies))
    taken = np.rint(values.view(np.int64).astype(np.float64) / 2.0**32).astype(np.int64)

    def decrypted_alone(ciphertext: Ciphertext) -> np.ndarray:
        x, rest = ciphertext.c0.copy(), taken.copy()
        while np.any(rest):
            part = np.clip(rest, -1, 1)
            rest -= part
            x += multiply(ciphertext.c1, transform_secret(part.astype(np.int8), x.parameters))
        return x.round_off(shift).values.view(np.int64)[0]

    assert np.array_equal(decrypted_alone(public_key.read(uploads["c0"].ciphertext)), victim)
    federation.session = b"the next round's key"
    federation.make_key()
    assert not np.any(decrypted_alone(federation.public_key.encrypt(victim, federation.plan)) == victim)


def test_a_share_shows_nothing_and_is_kept_in_key_files(federation: Any, tmp_path: Path) -> None:
    share = federation.shares["h0"]
    assert repr(share) == f"<h0's share of {share.public_key!r}, hidden>"
    for copied in (lambda: pickle.dumps(share), lambda: copy.copy(share), lambda: copy.deepcopy(share)):
        with pytest.raises(TypeError, match="not pickled or copied"):
            copied()
    path = tmp_path / "share.key"
    key_files.save_secret(path, share)
    kept = key_files.load_secret(path, KeyShare)
    assert wire.to_bytes(kept.to_message()) == wire.to_bytes(share.to_message())
    assert (kept.holder, kept.release_plan) == ("h0", federation.release_plan)


def test_a_share_of_parts_that_do_not_go_together_is_refused(federation: Any) -> None:
    share = federation.shares["h0"]
    secret, seed = share.to_message().secret, share.to_message().flood_seed
    good: tuple[Any, ...] = (share.holder, share.public_key, share.release_plan, secret, seed)
    for position, wrong, message in (
        (2, replace(share.release_plan, flood_bits=20), "was not made for"),
        (3, secret[:-1].copy(), "share of 4096 int8"),
        (3, secret.astype(np.int16), "share of 4096 int8"),
        (3, secret * np.int8(2), "-1, 0 and 1"),
        (4, b"short", "seed of 32 bytes"),
    ):
        with pytest.raises(UsageError, match=message):
            KeyShare(*(*good[:position], wrong, *good[position + 1 :]))
