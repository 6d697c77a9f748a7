"""Whole runs on constant arrays: all that is sent under encryption looks as its scheme promises.

Every field of every message that a run sends is declared below; one that is not declared fails the tests. What the
schemes promise, up to their assumptions, to whoever holds no key:

  RLWE       coefficients of ciphertexts, of parts of a key and of all but one holder's answers are uniform modulo 2^w
  CKKS       coefficients are uniform modulo the primes
  Paillier   both digits of a residue modulo n^2 are uniform modulo n; the lower one is the randomizer's alone

See `transcripts` for statistics. What the operating system draws (CKKS, identities) may make a false alarm once in 2^19.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import pytest

import transcripts
from encrypted_sums import dealt, secret_key, shared_paillier, single
from secagg.he.rlwe.ciphertexts import CiphertextMessage
from secagg.he.rlwe.key_generation import Commitment, Confirmation, Opening
from secagg.he.rlwe.keys import PublicKeyMessage
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.products import multiply, transform_secret
from secagg.he.rlwe.threshold import PartialDecryption
from secagg.he.rlwe.uploads import Upload, Vote
from secagg.protocols.he_sum import single_key, uploads
from secagg.protocols.he_sum.threshold_rlwe import OtherHalf, Relayed
from transcripts import Sent, View, below, elements

pytestmark = pytest.mark.slow

# How a field must look: uniform; the sum of such; secret bytes that are drawn once; opened; or public.
MASKED, SUM, FRESH, OPENED, PUBLIC = "masked", "sum", "fresh", "opened", "public"


def public(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, PUBLIC)


HEADER: Final = public(
    *("header." + name for name in ("scheme", "key_id", "shape", "summands", "weight")),
    *("header.plan." + name for name in ("bits", "frac_bits", "clip", "parties", "max_weight")),
)
CIPHERTEXT: Final = {**HEADER, "words": MASKED, **public("squares")}
FORMS: Final[Mapping[str, Mapping[str, str]]] = {
    # One key.
    uploads.Contributors.KIND: public("names"),
    single_key.Total.KIND: {**public("contributors", "error"), "values": OPENED, "encoded": OPENED},
    PublicKeyMessage.KIND: {
        **public("degree", "modulus_bits", "seed", "holders", "flood_bits"),
        "b": MASKED,
    },
    CiphertextMessage.KIND: CIPHERTEXT,
    "he.ckks.keys.PublicKeyMessage": {
        **public("context", "key_nonce", "measured"),
        "polynomials": MASKED,
    },
    "he.ckks.ciphertexts.CiphertextMessage": {**HEADER, "blocks": MASKED},
    "he.paillier.public_key.PublicKeyMessage": public("n", "s", "h", "randomizer_bits"),
    "he.paillier.ciphertexts.CiphertextMessage": {**HEADER, **public("slots"), "block": MASKED},
    # A Paillier key of several holders.
    "he.paillier.threshold.DecryptionShare": {
        **public("party", "statement"),
        **dict.fromkeys(("block", "challenge", "response"), MASKED),
    },
    # An RLWE key of several holders.
    Commitment.KIND: public("digest", "signature"),
    Opening.KIND: {"words": MASKED, "nonce": FRESH},
    Confirmation.KIND: public("transcript", "signature"),
    Upload.KIND: {f"ciphertext.{name}": form for name, form in CIPHERTEXT.items()} | public("signature"),
    Relayed.KIND: {
        **{f"upload.{name}": form for name, form in HEADER.items()},
        **public("upload", "upload.client", "upload.digest_c0", "upload.signature"),
        "upload.c1": MASKED,
    },
    Vote.KIND: public("transcript", "signature"),
    PartialDecryption.KIND: {**public("transcript", "epoch"), "words": MASKED},
    OtherHalf.KIND: {**public("digests"), "words": SUM},
}


def by_form(messages: Iterable[Sent], form: str) -> list[tuple[Sent, str, Any]]:
    """Return the fields of that form, as (frame, path, value); fails on a field that has none."""
    found = []
    for m in messages:
        for path, value in transcripts.leaves(m.message):
            forms, name = FORMS.get(m.message.KIND, {}), path.split("[")[0]
            assert name in forms, f"say in FORMS how {path} of {m.message.KIND} must look"
            if forms[name] == form and value is not None:
                found.append((m, path, value))
    return found


def of_kind(messages: Iterable[Sent], kind: type) -> list[Sent]:
    return [m for m in messages if isinstance(m.message, kind)]


def played(case: Any, fill: float, seed: int = 1) -> list[Sent]:
    """Return what is sent while arrays of one number are summed, so that a mask that is missing shows."""
    for x in case.xs.values():
        x[...] = fill
    outcome = case.play(record=True, insecure_seed=seed)
    case.check_all(dict(zip(outcome.ledgers, outcome.values(), strict=True)))
    return transcripts.sent(outcome.transcript)


def integers(polynomials: Polynomials, block: int) -> list[int]:
    """Return the coefficients of a block modulo 2^96."""
    assert polynomials.high is not None
    pairs = zip(polynomials.low[block].tolist(), polynomials.high[block].tolist(), strict=True)
    return [low | high << 64 for low, high in pairs]


def number(octets: Any) -> int:
    return int.from_bytes(bytes(octets), "little")


def add_words(view: View, name: str, words: Iterable[Any], bits: int) -> None:
    """Add the words of polynomials of `bits` bits a coefficient, each block by itself."""
    for i, word in enumerate(words):
        for block, row in enumerate(word):
            width = 64 if i == 0 else bits - 64
            view.add(f"{name}, word {i} of block {block}", elements(row, view.samples, width))


# One key.


@pytest.mark.parametrize("fill", [0.0, 100.0])
def test_uploads_under_rlwe_are_uniform_and_independent_and_the_key_holder_gets_their_sum(
    fill: float,
) -> None:
    p = secret_key("rlwe").public_key.parameters
    case = single("rlwe", shape=(p.degree + 5,))  # the rest of the second block is empty, and looks the same
    messages = played(case, fill)
    view, total = View(p.degree), None
    for m, path, value in by_form(messages, MASKED):
        if m.receiver == "agg" and isinstance(m.message, CiphertextMessage):
            assert path == "words[0]"
            add_words(view, m.sender, [value], p.modulus_bits)
            total = value.copy() if total is None else total + value
    assert len(view.names) == 3 * 4
    (key,) = (m for m in of_kind(messages, PublicKeyMessage) if m.receiver == "agg")
    add_words(view, "key", key.message.b, p.modulus_bits)
    view.check()
    (m,) = (m for m in of_kind(messages, CiphertextMessage) if m.receiver == "k")
    np.testing.assert_array_equal(m.message.words[0], total)


@pytest.mark.parametrize("fill", [0.0, 100.0])
def test_uploads_under_ckks_are_uniform_and_independent_and_the_key_holder_gets_their_sum(
    fill: float,
) -> None:
    pytest.importorskip("tenseal", reason="ckks needs tenseal")
    from secagg.he.ckks.ciphertexts import unpacked

    context = secret_key("ckks").public_key.context
    case = single("ckks", shape=(context.slots + 5,))
    messages = played(case, fill)
    view, blocks = View(context.degree), []
    for m, _, value in by_form(messages, MASKED):
        if m.receiver == "agg" and m.sender != "k":
            value = unpacked(value, context)
            blocks.append(value)
            # The primes of b bits lie above 2^b - 2^(b - 10): no bit is biased by more than 2^-10.
            parts = value.reshape(-1, context.degree)
            assert len(parts) == 2 * 2
            for i, part in enumerate(parts):
                view.add(f"{m.sender}, polynomial {i}", elements(part, view.samples, context.modulus_bits))
    assert len(view.names) == 3 * 4
    view.check()
    (m,) = (m for m in messages if m.sender == "agg" and m.message.KIND.startswith("he.ckks"))
    wrapped = unpacked(m.message.blocks, context).astype(np.int64) - np.sum(blocks, axis=0).astype(np.int64)
    prime = int(np.gcd.reduce(wrapped.reshape(-1)))  # all are multiples of it
    assert prime.bit_length() == context.modulus_bits
    assert set((wrapped // -prime).reshape(-1).tolist()) == {0, 1, 2}


def test_residues_under_paillier_are_uniform_and_each_has_a_randomizer_of_its_own(one_table: None) -> None:
    pytest.importorskip("gmpy2", reason="paillier needs gmpy2")
    key = secret_key("paillier").public_key
    plan = single("paillier").terms.plan
    case = single("paillier", shape=(32 * key.numbers_together(plan),))
    messages = played(case, 100.0)
    n, randomizers, residues = int(key.n), [], []
    sums = [1] * 32
    for m, _, block in by_form(messages, MASKED):
        if m.receiver == "agg":
            digits = [[number(digit) for digit in row] for row in block]
            residues += [digit for row in digits for digit in row]
            randomizers += [low for low, _ in digits]
            sums = [c * (low + n * high) % n**2 for c, (low, high) in zip(sums, digits, strict=True)]
    assert len(set(randomizers)) == len(randomizers) == 3 * 32  # (1 + n)^m is 1 modulo n
    assert 1 not in randomizers
    view = View(len(randomizers))
    view.add("digits", below(residues, n, view.samples))
    view.check(pairs=False, rank=False)
    (m,) = (m for m in messages if m.receiver == "k" and m.message.KIND.endswith("CiphertextMessage"))
    assert [number(low) + n * number(high) for low, high in m.message.block] == sums


# Several key holders.


def test_residues_and_answers_under_a_shared_paillier_key_are_uniform_over_runs() -> None:
    pytest.importorskip("gmpy2", reason="paillier needs gmpy2")
    key, _ = dealt(3, 2, small=True)
    n, runs = int(key.n), 64
    case = shared_paillier(needed=2)
    seen: dict[str, list[int]] = defaultdict(list)
    randomizers = Counter[int]()
    for seed in range(runs):
        for m, path, value in by_form(played(case, 100.0, seed), MASKED):
            name = f"{m.sender} {path}"
            if path in ("challenge", "response"):
                seen[name].append(number(value))
            elif m.sender in case.terms.roles.clients:
                low, high = (number(digit) for digit in value.reshape(2, -1))
                seen[name] += [low, high]
                randomizers[low] += 1
            elif m.sender != "agg":
                seen[name].append(number(value.reshape(-1)))
    assert set(randomizers.values()) == {1}
    assert len(randomizers) == 3 * runs
    # L, the bits of Delta n^2, and 384 more, of which 256 are the challenge's.
    bounds = {"block": n**2, "challenge": 1 << 256, "response": 1 << (6 * n**2).bit_length() + 384}
    view = View(runs)
    for name, numbers in seen.items():
        bound = n if name.split()[0] in case.terms.roles.clients else bounds[name.split()[1]]
        view.add(name, below(numbers, bound, runs))
    assert len(view.names) == 3 + 3 * 3
    view.check(pairs=False, rank=False)


@pytest.mark.parametrize("fill", [0.0, 100.0])
def test_all_but_one_holders_answers_under_a_shared_rlwe_key_are_uniform_with_uploads_and_key(
    fill: float, federate: Callable[..., Any]
) -> None:
    federation = federate(clients=("a", "b"), shape=(4096 + 5,), with_key=False)
    made = federation.make_key(record=True, insecure_seed=1)
    making = transcripts.sent(made.transcript)
    p = federation.release_plan.parameters
    holders = federation.terms.roles.key_holders
    view = View(p.degree)
    nonces = {m.sender: value for m, _, value in by_form(making, FRESH)}
    assert len(set(nonces.values())) == len(nonces) == 3
    for holder in holders:
        opening = next(m.message for m in of_kind(making, Opening) if m.sender == holder)
        add_words(view, f"key of {holder}", opening.words, p.modulus_bits)
    messages = played(federation.case(), fill)
    of_c1, c0 = {}, Polynomials.zeros(p, 2)
    for m in of_kind(messages, Upload):
        words = m.message.ciphertext.words
        add_words(view, f"upload of {m.sender}", words, p.modulus_bits)
        of_c1[m.sender] = [word[2:] for word in words]
        c0 += Polynomials(p, *(word[:2].copy() for word in words))
    for m, path, value in by_form(messages, MASKED):
        if isinstance(m.message, Relayed):  # half of an upload, and no other
            word = int(path.removeprefix("upload.c1[")[0])
            assert m.message.upload is not None
            np.testing.assert_array_equal(value, of_c1[m.message.upload.client][word])
    (half,) = of_kind(messages, OtherHalf)
    assert Polynomials(p, *half.message.words) == c0
    answers = {m.sender: m.message.words for m in of_kind(messages, PartialDecryption)}
    assert set(answers) == set(holders)
    for holder in holders[:2]:  # the third follows from the sum
        add_words(view, f"answer of {holder}", answers[holder], p.modulus_bits)
    assert sum(part.shape[1] for part in view.parts) == (3 + 2 * 4 + 2 * 2) * p.modulus_bits
    view.check()


def test_flooding_of_each_holder_block_and_round_is_of_its_full_width_and_its_own(
    federate: Callable[..., Any],
) -> None:
    """To whoever holds its secret, an answer is flooding; E modulo W is uniform, where E is a sum of four below W."""
    federation = federate(clients=("a", "b"), shape=(4096 + 5,), releases=2, with_key=False)
    federation.make_key(insecure_seed=1)
    p, bits = federation.release_plan.parameters, federation.release_plan.flood_bits
    assert p.modulus_bits == 96
    view = View(p.degree)
    for number_ in range(2):
        messages = played(federation.case(round=number_), 100.0, number_)
        c1 = Polynomials.zeros(p, 2)
        for m in of_kind(messages, Upload):
            c1 += Polynomials(p, *(word[2:].copy() for word in m.message.ciphertext.words))
        for m in of_kind(messages, PartialDecryption):
            secret = federation.keys[m.sender]._secret
            product = multiply(c1, transform_secret(secret, p))
            answer = Polynomials(p, *m.message.words)
            for block in range(2):
                flood = [
                    (got - known) % (1 << 96)
                    for got, known in zip(integers(answer, block), integers(product, block), strict=True)
                ]
                centred = np.array([e - ((e >> 95) << 96) for e in flood], float) / 2.0 ** (bits - 1)
                assert np.abs(centred).max() < 2
                # E has mean 0 and variance W^2 / 3; of 4,096 of them the sum of squares errs by a fiftieth.
                assert abs(np.mean(centred**2) * 3 - 1) < 0.2
                low = b"".join(((e - 2) % (1 << bits - 1)).to_bytes(12, "little") for e in flood)
                octets = np.frombuffer(low, np.uint8).reshape(-1, 12)
                columns = np.unpackbits(octets, axis=1, bitorder="little", count=bits - 1)
                view.add(f"{m.sender}, block {block}, round {number_}", columns)
    assert len(view.names) == 3 * 2 * 2
    view.check()
