"""Any t parties decrypt what all encrypted, fewer do not, and whoever answers wrongly is named.

The module is long because each wrong share and each wrong key has a case.
"""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

import gmpy2
import rich.console
from gmpy2 import mpz, powmod
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg import fixed_point, wire
from secagg.errors import RangeError, RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.he import key_files
from secagg.he.paillier import residues, threshold
from secagg.he.paillier.ciphertexts import Ciphertext
from secagg.he.paillier.integer_shares import combine_powers, lagrange_at_0, share_exponent
from secagg.he.paillier.public_key import PublicKey
from secagg.he.paillier.secret_key import SecretKey
from secagg.he.paillier.threshold import (
    DecryptionShare,
    KeyShare,
    KeyShareMessage,
    ThresholdPublicKey,
    ThresholdPublicKeyMessage,
    deal_threshold_key,
)
from secagg.he.scheme import Header
from secagg.prg import Stream, system_stream

# TEST CONSTANTS: safe primes that everybody can read here. A key made of them hides nothing.
P = 0xDEAC9D42FDAC932276EB26B9FE166A3AE1EC72A47F660F183DC81BAB76347CB3
Q = 0xD3A6392FF80281AEA43BFBB74050B132B6F739F8CB5E6A81A1C796D251AFAF8F
REAL_P = int(
    "ce42603aac5a528bef3ca4da6b2fbe3f21faa0d7e7b36705f85e5669bf20250430501b125869a9bfccf4fae3635646f7"
    "29b7b516eddf3a9d58da905873d32b523c875d7b433014bcd16c6a9295da872744b5da8965a595dfb34c6706e427f7cd"
    "80a97dc8e5b076d7fd8acd1f07f7500e024da4236d0b65e3139d4c10d38bed457fef402ac9628e15a1c1831cf1b289a6"
    "03eb8cad11d0544081101d7c25b084677baecce1493bcb05dbeae470191f037b6f78405d1d617954f54074c3ab03e923",
    16,
)
REAL_Q = int(
    "fb3243b5f069ad0c90c3693c30e3511e139c9f492c8084f9c10f8bf985a42bbefecfebff8a849f94458f75f4be14282c"
    "4a47ff2c91b3d864ebc57389751b5e46514f9d117207644273597a64e002788d7a1148af5f9704b35776eb4629ee1929"
    "02ad20144271ef287b2b6ad875637573eb02e9a94139c17a4bb10fe6c13c43217933f8f7d85865ced99dc39c1b5f9893"
    "f5347d97d99a19ed512640531f7d616a84986b9eb7bf956ef634af44d84e8ba3ce1cca126e826e773f5b78c005f6ccdf",
    16,
)
PARTIES, THRESHOLD = 5, 3
ALL = range(1, PARTIES + 1)
CONTEXT = b"session 7, round 2"
PLAN = fixed_point.plan(clip=50.0, frac_bits=12, parties=8, max_weight=2)
NAMES = {i: f"bank {i}" for i in ALL}


class Dealt:
    """A key for tests, its shares, and a sum with every party's answer."""

    def __init__(self, s: int) -> None:
        self.key, self.shares = threshold._deal(
            mpz(P), mpz(Q), PARTIES, THRESHOLD, s, None, system_stream(), smallest_bits=0
        )
        self.key.prepare(window=4)
        rng = np.random.default_rng(s)
        self.inputs = [rng.uniform(-50, 50, (5, 17)) for _ in range(3)]
        first, second, third = (self.key.encrypt(x, PLAN) for x in self.inputs)
        self.ciphertext = first + second + third * -2
        rounded = [np.rint(x * 2**12) / 2**12 for x in self.inputs]
        self.expected = rounded[0] + rounded[1] - 2 * rounded[2]
        self.answers = {
            share.party: share.partial_decrypt(self.ciphertext, context=CONTEXT) for share in self.shares
        }


@pytest.fixture(scope="module")
def dealt() -> Dealt:
    return Dealt(1)


@pytest.fixture(scope="module", params=[1, 2, 3], ids=["s=1", "s=2", "s=3"])
def any_s(request: pytest.FixtureRequest, dealt: Dealt) -> Dealt:
    return dealt if request.param == 1 else Dealt(request.param)


# What comes out.


@pytest.mark.slow
def test_a_sum_decrypts_to_the_plain_sum_under_every_exponent(any_s: Dealt) -> None:
    combined = any_s.key.combine(any_s.ciphertext, any_s.answers, context=CONTEXT)
    assert np.array_equal(combined.values, any_s.expected)
    assert combined.values.shape == (5, 17)
    assert combined.encoded.dtype == PLAN.ring.dtype
    assert not combined.refused
    assert len(any_s.ciphertext.integers()) > 1


def test_every_choice_of_enough_parties_decrypts_to_the_same(dealt: Dealt) -> None:
    for size in (THRESHOLD, THRESHOLD + 1):
        for chosen in itertools.combinations(ALL, size):
            answers = {i: dealt.answers[i] for i in reversed(chosen)}
            combined = dealt.key.combine(dealt.ciphertext, answers, context=CONTEXT)
            assert np.array_equal(combined.values, dealt.expected)


def test_every_choice_of_one_party_too_few_is_refused(dealt: Dealt) -> None:
    for chosen in itertools.chain.from_iterable(itertools.combinations(ALL, k) for k in range(THRESHOLD)):
        with pytest.raises(TooFewPartiesError, match=f"3 of 5 key holders, got {len(chosen)}$"):
            dealt.key.combine(dealt.ciphertext, {i: dealt.answers[i] for i in chosen}, context=CONTEXT)


def test_the_whole_key_decrypts_to_the_same(dealt: Dealt) -> None:
    digits = dealt.ciphertext.digits
    plaintexts = SecretKey._from_primes(P, Q).decrypt_residues(digits)
    answers = [_numbers(dealt.answers[i]) for i in (2, 4, 5)]
    powers = combine_powers(answers, (2, 4, 5), PARTIES, dealt.key.modulus.ciphertext, None)
    scale = 4 * math.factorial(PARTIES) ** 2
    assert [(x - 1) // dealt.key.n for x in powers] == [m * scale % dealt.key.n for m in plaintexts]


@pytest.mark.parametrize("s", [1, 2])
def test_every_plaintext_and_choice_of_parties_combines_over_a_tiny_modulus(s: int) -> None:
    n, m, parties, t = mpz(7 * 11), mpz(3 * 5), 3, 2  # 7 = 2 * 3 + 1 and 11 = 2 * 5 + 1 are safe primes
    plain, modulus, delta = n**s, n ** (s + 1), 6
    d = m * gmpy2.invert(m, plain)
    exponents = share_exponent(d, plain * m, parties, t, Stream(bytes(32)))
    scale = gmpy2.invert(4 * delta**2 * residues.log([1 + n], n, s)[0], plain)
    units = [r for r in range(1, 77) if math.gcd(r, 77) == 1]
    ciphertexts = [
        powmod(1 + n, message, modulus) * powmod(units[message % len(units)], plain, modulus) % modulus
        for message in range(int(plain))
    ]
    shares = [gmpy2.powmod_base_list(ciphertexts, 2 * delta * e, modulus) for e in exponents]
    for chosen in ((1, 2), (1, 3), (2, 3), (3, 1), (1, 2, 3)):
        powers = combine_powers([shares[i - 1] for i in chosen], chosen, parties, modulus, None)
        logs = residues.log(powers, n, s)
        assert [x * scale % plain for x in logs] == list(range(int(plain)))


@pytest.mark.slow
@given(st.data())
def test_lagranges_coefficients_times_n_factorial_are_integers_and_interpolate(data: st.DataObject) -> None:
    parties = data.draw(st.integers(2, 100))
    chosen = data.draw(st.lists(st.integers(1, parties), min_size=1, max_size=8, unique=True))
    weights = lagrange_at_0(chosen, parties)
    for i, weight in zip(chosen, weights, strict=True):
        others = [j for j in chosen if j != i]
        assert weight == math.factorial(parties) * math.prod(
            (Fraction(j, j - i) for j in others), start=Fraction(1)
        )
    f = data.draw(st.lists(st.integers(-100, 100), min_size=1, max_size=len(chosen)))
    total = sum(w * sum(a * i**k for k, a in enumerate(f)) for i, w in zip(chosen, weights, strict=True))
    assert total == math.factorial(parties) * f[0]


def test_the_key_encrypts_adds_and_reads_ciphertexts_as_any_public_key(dealt: Dealt) -> None:
    key = dealt.key
    assert isinstance(key, PublicKey)
    sent = key.encrypt([1.0, -2.0], PLAN).to_bytes()
    received = key.read_bytes(sent) + key.encrypt([0.5, 0.5], PLAN)
    answers = {i: dealt.shares[i - 1].partial_decrypt(received, context=b"") for i in (1, 4, 5)}
    assert np.array_equal(key.combine(received, answers, context=b"").values, [1.5, -1.5])


def test_threads_change_nothing(dealt: Dealt) -> None:
    share = dealt.shares[1]
    alone = share.partial_decrypt(dealt.ciphertext, context=CONTEXT, rng=Stream(bytes(32)))
    with ThreadPoolExecutor(2) as executor:
        together = share.partial_decrypt(
            dealt.ciphertext, context=CONTEXT, rng=Stream(bytes(32)), executor=executor
        )
        combined = dealt.key.combine(dealt.ciphertext, dealt.answers, context=CONTEXT, executor=executor)
    assert wire.to_bytes(together) == wire.to_bytes(alone)
    assert np.array_equal(combined.values, dealt.expected)


# What the corrupted learn.


@pytest.mark.slow
def test_fewer_key_shares_and_the_plaintext_give_the_other_parties_answers(any_s: Dealt) -> None:
    """What others send, t - 1 parties could have computed from the result: it tells them nothing more."""
    key, corrupted = any_s.key, (2, 5)
    delta, modulus = math.factorial(PARTIES), key.modulus.ciphertext
    plaintexts = _plaintexts(any_s)
    for honest in (1, 3, 4):
        # Delta f(honest) = sum of Delta * Lagrange's coefficients at `honest` times f(0), f(2) and f(5).
        points = (0, *corrupted)
        weights = [
            delta * math.prod((Fraction(honest - j, i - j) for j in points if j != i), start=Fraction(1))
            for i in points
        ]
        assert all(w.denominator == 1 for w in weights)
        for c, m, answer in zip(
            any_s.ciphertext.integers(), plaintexts, _numbers(any_s.answers[honest]), strict=True
        ):
            # c^(2 d) = (1 + n)^(2 m), as d = 1 modulo n^s and 2 d = 0 modulo 2 m'.
            simulated = powmod(1 + key.n, 2 * m * int(weights[0]), modulus)
            for i, weight in zip(corrupted, weights[1:], strict=True):
                simulated = simulated * powmod(c, 2 * any_s.shares[i - 1]._exponent * int(weight), modulus)
            assert simulated % modulus == answer


@pytest.mark.slow
def test_a_single_share_of_two_is_uniform_whatever_the_secret() -> None:
    modulus, rng = mpz(11 * 13), Stream(bytes(32))
    for secret in (0, 5, 142):
        drawn = [int(share_exponent(mpz(secret), modulus, 3, 2, rng)[0]) for _ in range(3000)]
        counted = np.bincount(drawn, minlength=143)
        # No coefficient is 0, so the secret itself does not come; of 3000 draws of 142 values a chi-square beyond
        # 230 comes once in 10^5.
        assert counted[secret] == 0
        others = np.delete(counted, secret)
        assert np.sum((others - 3000 / 142) ** 2) / (3000 / 142) < 230


def test_no_two_proofs_share_their_randomness_even_if_the_generator_repeats(dealt: Dealt) -> None:
    share, key = dealt.shares[0], dealt.key
    secret = key._delta * share._exponent
    nonces = set()
    for context in (b"a", b"b"):
        for ciphertext in (dealt.ciphertext, dealt.ciphertext * 2):
            proof = share.partial_decrypt(ciphertext, context=context, rng=Stream(bytes(32)))
            z, e = (mpz.from_bytes(x, "little") for x in (proof.response, proof.challenge))
            nonces.add(z - e * secret)
    again = share.partial_decrypt(dealt.ciphertext, context=b"a")
    nonces.add(mpz.from_bytes(again.response, "little") - mpz.from_bytes(again.challenge, "little") * secret)
    assert len(nonces) == 5
    least = secret.bit_length() + 384 - 40  # that all of 5 uniform numbers are so much shorter: 1 in 2^40
    assert max(nonces).bit_length() > least


def test_key_shares_are_not_shown_pickled_or_copied(dealt: Dealt) -> None:
    share = dealt.shares[0]
    out = io.StringIO()
    rich.console.Console(file=out).print(share)
    secret = str(share._exponent)
    for text in (repr(share), str(share), out.getvalue()):
        assert secret[:12] not in text
        assert "KeyShare" in text
    assert "party 1" in repr(share)
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled or copied"):
            copied(share)
    assert repr(share.to_message()) == "<KeyShareMessage>"


# Wrong shares.


def _numbers(share: DecryptionShare) -> list[mpz]:
    return [mpz.from_bytes(row.tobytes(), "little") for row in share.block]


def _plaintexts(dealt: Dealt) -> list[mpz]:
    return SecretKey._from_primes(P, Q, s=dealt.key.s).decrypt_residues(dealt.ciphertext.digits)


def _altered(share: DecryptionShare, **changes: Any) -> DecryptionShare:
    fields = {name: getattr(share, name) for name in share.__struct_fields__} | changes
    return DecryptionShare(**fields)


def _block(dealt: Dealt, numbers: list[mpz]) -> NDArray[np.uint8]:
    width = dealt.key.modulus.residue_bytes
    return np.frombuffer(b"".join(x.to_bytes(width, "little") for x in numbers), np.uint8).reshape(-1, width)


def _with_numbers(
    change: Callable[[list[mpz], ThresholdPublicKey], list[mpz]],
) -> Callable[..., DecryptionShare]:
    def make(dealt: Dealt, share: DecryptionShare) -> DecryptionShare:
        return _altered(share, block=_block(dealt, change(_numbers(share), dealt.key)))

    return make


def _flipped(data: bytes, position: int) -> bytes:
    altered = bytearray(data)
    altered[position] ^= 1
    return bytes(altered)


WRONG: dict[str, tuple[Callable[[Dealt, DecryptionShare], DecryptionShare], str]] = {
    "times 1 + n": (
        _with_numbers(lambda x, k: [x[0] * (1 + k.n) % k.modulus.ciphertext, *x[1:]]),
        "proof does not hold",
    ),
    "last number": (
        _with_numbers(lambda x, k: [*x[:-1], x[-1] * 4 % k.modulus.ciphertext]),
        "proof does not hold",
    ),
    "negated": (_with_numbers(lambda x, k: [k.modulus.ciphertext - x[0], *x[1:]]), "proof does not hold"),
    "swapped": (_with_numbers(lambda x, k: [x[1], x[0], *x[2:]]), "proof does not hold"),
    "all ones": (_with_numbers(lambda x, k: [mpz(1)] * len(x)), "proof does not hold"),
    "zero": (_with_numbers(lambda x, k: [mpz(0), *x[1:]]), "not coprime to n"),
    "multiple of p": (_with_numbers(lambda x, k: [*x[:-1], mpz(P)]), "not coprime to n"),
    "multiple of n": (_with_numbers(lambda x, k: [*x[:-1], k.n]), "not coprime to n"),
    "not reduced": (_with_numbers(lambda x, k: [x[0] % k.n + k.modulus.ciphertext, *x[1:]]), "not below"),
    "a number less": (_with_numbers(lambda x, k: x[:-1]), "of shape"),
    "a number more": (_with_numbers(lambda x, k: [*x, x[0]]), "of shape"),
    "no number": (lambda d, s: _altered(s, block=s.block[:0]), "of shape"),
    "flat": (lambda d, s: _altered(s, block=s.block.reshape(-1)), "of shape"),
    "narrow": (lambda d, s: _altered(s, block=s.block[:, :-1]), "of shape"),
    "challenge": (lambda d, s: _altered(s, challenge=_flipped(s.challenge, 3)), "proof does not hold"),
    "response": (lambda d, s: _altered(s, response=_flipped(s.response, 0)), "proof does not hold"),
    "no challenge": (lambda d, s: _altered(s, challenge=b""), "a proof of"),
    "long challenge": (lambda d, s: _altered(s, challenge=s.challenge + b"\0"), "a proof of"),
    "short response": (lambda d, s: _altered(s, response=s.response[:-1]), "a proof of"),
    "long response": (lambda d, s: _altered(s, response=s.response + b"\0"), "a proof of"),
    "zero proof": (
        lambda d, s: _altered(s, challenge=bytes(32), response=bytes(len(s.response))),
        "proof does not",
    ),
    "another party's": (lambda d, s: d.answers[4], "share of party 2 from bank 2, got that of 4"),
    "another's renamed": (lambda d, s: _altered(d.answers[4], party=2), "proof does not hold"),
    "another's proof": (
        lambda d, s: _altered(s, challenge=d.answers[4].challenge, response=d.answers[4].response),
        "proof does not hold",
    ),
    "another context's": (
        lambda d, s: d.shares[1].partial_decrypt(d.ciphertext, context=b"session 7, round 1"),
        "got one for another",
    ),
    "another ciphertext's": (
        lambda d, s: d.shares[1].partial_decrypt(d.key.rerandomize(d.ciphertext), context=CONTEXT),
        "got one for another",
    ),
    "another context's renamed": (
        lambda d, s: _altered(
            d.shares[1].partial_decrypt(d.ciphertext, context=b"session 7, round 1"), statement=s.statement
        ),
        "proof does not hold",
    ),
    "another ciphertext's renamed": (
        lambda d, s: _altered(
            d.shares[1].partial_decrypt(d.ciphertext * 2, context=CONTEXT), statement=s.statement
        ),
        "proof does not hold",
    ),
    "no such party": (lambda d, s: _altered(s, party=6), "got that of 6"),
    "statement": (lambda d, s: _altered(s, statement=bytes(32)), "got one for another"),
}


@pytest.mark.parametrize(("make", "text"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_share_is_named_and_left_out(
    dealt: Dealt, make: Callable[[Dealt, DecryptionShare], DecryptionShare], text: str
) -> None:
    wrong = make(dealt, dealt.answers[2])
    with pytest.raises(RemoteProtocolError, match=text) as caught:
        dealt.key.verify(wrong, dealt.ciphertext, context=CONTEXT, party=2, peer="bank 2")
    assert caught.value.peer == "bank 2"
    assert "bank 2" in str(caught.value)

    combined = dealt.key.combine(dealt.ciphertext, dealt.answers | {2: wrong}, context=CONTEXT, peers=NAMES)
    assert np.array_equal(combined.values, dealt.expected)
    assert list(combined.refused) == [2]
    assert combined.refused[2].peer == "bank 2"

    with pytest.raises(TooFewPartiesError, match=r"got 2 and wrong ones:.*bank 2"):
        dealt.key.combine(
            dealt.ciphertext,
            {1: dealt.answers[1], 2: wrong, 3: dealt.answers[3]},
            context=CONTEXT,
            peers=NAMES,
        )


def test_right_shares_are_accepted_from_the_wire(dealt: Dealt) -> None:
    for party, answer in dealt.answers.items():
        received = wire.from_bytes(wire.to_bytes(answer), DecryptionShare)
        dealt.key.verify(received, dealt.ciphertext, context=CONTEXT, party=party)


def test_parties_without_a_name_are_named_by_number(dealt: Dealt) -> None:
    with pytest.raises(RemoteProtocolError, match="party 3's decryption share") as caught:
        dealt.key.verify(dealt.answers[3], dealt.ciphertext, context=b"another", party=3)
    assert caught.value.peer == "party 3"


def test_a_share_is_right_up_to_signs_which_combining_does_not_see(dealt: Dealt) -> None:
    """The proof is on squares: -c_i proves as well as c_i, and combines to the same."""
    answer, share = dealt.answers[1], dealt.shares[0]
    block = _block(dealt, [dealt.key.modulus.ciphertext - x for x in _numbers(answer)])
    proved = dealt.key._proved(answer.statement, 1, block)
    secret = dealt.key._delta * share._exponent
    challenge, response = dealt.key._setting.prove(
        dealt.ciphertext.integers(), secret, proved, system_stream()
    )
    negated = _altered(answer, block=block, challenge=challenge, response=response)
    combined = dealt.key.combine(dealt.ciphertext, dealt.answers | {1: negated}, context=CONTEXT)
    assert not combined.refused
    assert np.array_equal(combined.values, dealt.expected)


def test_what_is_proved_names_statement_party_and_every_byte(dealt: Dealt) -> None:
    answer = dealt.answers[1]
    altered = answer.block.copy()
    altered[-1, -1] ^= 1
    digests = {
        dealt.key._proved(answer.statement, 1, answer.block),
        dealt.key._proved(answer.statement, 2, answer.block),
        dealt.key._proved(bytes(32), 1, answer.block),
        dealt.key._proved(answer.statement, 1, altered),
        dealt.key._proved(answer.statement, 1, np.asfortranarray(altered)),
    }
    assert len(digests) == 4


def test_everybody_but_t_parties_may_be_wrong_and_all_of_them_are_named(dealt: Dealt) -> None:
    wrong = {i: _altered(dealt.answers[i], challenge=bytes(32)) for i in (1, 4)}
    combined = dealt.key.combine(dealt.ciphertext, dealt.answers | wrong, context=CONTEXT, peers=NAMES)
    assert np.array_equal(combined.values, dealt.expected)
    assert {error.peer for error in combined.refused.values()} == {"bank 1", "bank 4"}


def test_a_key_whose_shares_are_of_another_secret_is_noticed_though_all_proofs_hold(
    dealt: Dealt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def share_another(secret: mpz, *arguments: Any) -> list[mpz]:
        return share_exponent(secret + 1, *arguments)

    monkeypatch.setattr(threshold, "share_exponent", share_another)
    key, shares = threshold._deal(mpz(P), mpz(Q), 3, 2, 1, None, system_stream(), smallest_bits=0)
    key.prepare(window=4)
    ciphertext = key.encrypt([1.0], PLAN)
    answers = {share.party: share.partial_decrypt(ciphertext, context=CONTEXT) for share in shares}
    with pytest.raises(RemoteProtocolError, match="not dealt as it ought"):
        key.combine(ciphertext, answers, context=CONTEXT)


# The caller's mistakes.


def test_ciphertexts_under_another_key_are_neither_answered_for_nor_combined(dealt: Dealt) -> None:
    other = PublicKey.__new__(PublicKey)
    other._set(P * Q, 1, int(dealt.key.h or 0), None, 0)
    other.prepare(window=4)
    foreign = other.encrypt([1.0], PLAN)
    assert other.key_id != dealt.key.key_id
    answer = dealt.answers[1]
    for call in (
        lambda: dealt.shares[0].partial_decrypt(foreign, context=CONTEXT),
        lambda: dealt.key.verify(answer, foreign, context=CONTEXT, party=1),
        lambda: dealt.key.combine(foreign, dealt.answers, context=CONTEXT),
        lambda: dealt.ciphertext + foreign,
    ):
        with pytest.raises(UsageError, match="under key"):
            call()


@pytest.mark.parametrize("party", [0, 6, -1])
def test_parties_that_the_key_does_not_have_are_the_callers_mistake(dealt: Dealt, party: int) -> None:
    with pytest.raises(UsageError, match=f"parties 1 to 5, not {party}"):
        dealt.key.verify(dealt.answers[1], dealt.ciphertext, context=CONTEXT, party=party)
    with pytest.raises(UsageError, match=f"parties 1 to 5, not {party}"):
        dealt.key.combine(dealt.ciphertext, {party: dealt.answers[1]}, context=CONTEXT)
    with pytest.raises(UsageError, match=f"parties 1 to 5, not {party}"):
        KeyShare(dealt.key, party, 5)


def test_the_payload_of_a_key_is_what_its_message_holds_in_arrays(dealt: Dealt) -> None:
    assert dealt.key.payload_bytes == dealt.key.to_message().squares.nbytes


def test_a_header_that_understates_the_sum_is_noticed(dealt: Dealt) -> None:
    big = dealt.key.encrypt([50.0], PLAN) * 5
    header = Header(big.header.scheme, big.header.key_id, PLAN, (1,))
    lying = Ciphertext(header, dealt.key.modulus, big.slots, big.digits)
    answers = {i: dealt.shares[i - 1].partial_decrypt(lying, context=CONTEXT) for i in (1, 2, 3)}
    with pytest.raises(RangeError, match="no sum of weight 1"):
        dealt.key.combine(lying, answers, context=CONTEXT)


def test_another_partys_or_keys_exponent_is_no_share(dealt: Dealt) -> None:
    others = threshold._deal(mpz(P), mpz(Q), PARTIES, THRESHOLD, 1, None, system_stream(), smallest_bits=0)[1]
    for exponent in (dealt.shares[0]._exponent, others[1]._exponent):
        with pytest.raises(UsageError, match="got that of another party or key") as caught:
            KeyShare(dealt.key, 2, int(exponent))
        assert str(exponent)[:12] not in str(caught.value)
    for exponent in (0, -1, dealt.key.modulus.ciphertext):
        with pytest.raises(UsageError, match="got another number"):
            KeyShare(dealt.key, 2, int(exponent))


# Dealing.


@pytest.mark.parametrize(("parties", "t"), [(1, 1), (0, 0), (101, 50), (3, 1), (3, 0), (3, 4), (5, -2)])
def test_thresholds_and_parties_that_make_no_sense_are_refused(parties: int, t: int) -> None:
    with pytest.raises(UsageError, match=r"shared among 2 to 100 parties|expected a threshold of 2 to"):
        deal_threshold_key(parties, t)


@pytest.mark.parametrize("bits", [512, 2046, 3073, 16386])
def test_lengths_that_no_key_has_are_refused_before_the_search(bits: int) -> None:
    with pytest.raises(UsageError, match=f"2048 to 16384 bits, got {bits}"):
        deal_threshold_key(3, 2, bits=bits)


def test_short_safe_primes_are_refused() -> None:
    with pytest.raises(UsageError, match="512 bits is too short"):
        deal_threshold_key(3, 2, safe_primes=(P, Q))


def test_primes_that_are_not_safe_or_not_two_are_refused() -> None:
    plain = gmpy2.next_prime(P + 2**30)
    while plain % 4 != 3 or gmpy2.gcd((plain - 1) // 2, gmpy2.primorial(1 << 16)) != 1:
        plain = gmpy2.next_prime(plain)
    for p, q, text in (
        (plain, Q, "expected safe primes"),
        (Q, plain, "expected safe primes"),
        (P, P, "too close"),
        (P + 4, Q, "not prime|factor other than 2"),
    ):
        with pytest.raises(UsageError, match=text):
            threshold._deal(mpz(p), mpz(q), 3, 2, 1, None, system_stream(), smallest_bits=0)


def test_the_id_of_a_key_stands_for_all_that_proofs_are_checked_with(dealt: Dealt) -> None:
    key = dealt.key

    def key_id(**changes: Any) -> bytes:
        fields = {"t": 3, "v": key.v, "keys": key.verification_keys} | changes
        made = ThresholdPublicKey.__new__(ThresholdPublicKey)
        made._set(int(key.n), 1, int(key.h or 0), key.randomizer_bits, 0)
        made._share(fields["t"], fields["v"], fields["keys"])
        return made.key_id

    assert key_id() == key.key_id
    ids = {
        key_id(t=2),
        key_id(v=key.v + 1),
        key_id(keys=key.verification_keys[::-1]),
        key_id(keys=key.verification_keys[:-1]),
    }
    assert len(ids | {key.key_id}) == 5


@pytest.mark.parametrize("bad", [0, 1, P, "modulus"])
def test_verification_keys_out_of_range_or_with_a_factor_of_n_are_refused(dealt: Dealt, bad: Any) -> None:
    value = dealt.key.modulus.ciphertext if bad == "modulus" else mpz(bad)
    keys = dealt.key.verification_keys
    for v, verification_keys in ((value, keys), (dealt.key.v, (*keys[:-1], value))):
        made = ThresholdPublicKey.__new__(ThresholdPublicKey)
        made._set(P * Q, 1, int(dealt.key.h or 0), None, 0)
        with pytest.raises(UsageError, match="coprime to n"):
            made._share(3, v, verification_keys)


# At the size that is used.


@pytest.fixture(scope="module")
def real() -> tuple[ThresholdPublicKey, list[KeyShare], list[tuple[int, int]]]:
    progress: list[tuple[int, int]] = []
    key, shares = deal_threshold_key(
        3,
        2,
        randomizer_bits=512,
        safe_primes=(REAL_P, REAL_Q),
        on_progress=lambda done, steps: progress.append((done, steps)),
    )
    key.prepare(window=4)
    return key, shares, progress


Real = tuple[ThresholdPublicKey, list[KeyShare], list[tuple[int, int]]]


@pytest.mark.slow
def test_3072_bits_from_files_and_wire(real: Real, tmp_path: Path) -> None:
    key, shares, progress = real
    assert key.bits == 3072
    assert progress[-1] == (3, 3)
    for share in shares[:2]:
        key_files.save_secret(tmp_path / f"{share.party}.key", share)
    received = ThresholdPublicKey.from_bytes(key.to_bytes(), peer="dealer")
    assert received.key_id == key.key_id
    assert (received.threshold, received.parties, received.randomizer_bits) == (2, 3, 512)
    x = np.linspace(-50, 50, 100)
    ciphertext = key.encrypt(x, PLAN) + key.encrypt(x, PLAN)
    answers: dict[int, Any] = {}
    for i in (1, 2):
        loaded = key_files.load_secret(tmp_path / f"{i}.key", KeyShare)
        assert loaded.party == i
        answers[i] = loaded.partial_decrypt(ciphertext, context=CONTEXT)
    combined = received.combine(ciphertext, answers, context=CONTEXT)
    assert np.array_equal(combined.values, 2 * np.rint(x * 2**12) / 2**12)
    answer = answers[1]
    size = answer.block.nbytes + len(answer.statement) + len(answer.challenge) + len(answer.response)
    assert size == 768 * len(ciphertext.integers()) + 768 + 1 + 112  # as declared: |Delta| takes a byte


@pytest.mark.slow
def test_keys_and_shares_that_came_wrong_name_the_peer(real: Real) -> None:
    key, shares, _ = real
    good = key.to_message()

    def changed(**changes: Any) -> ThresholdPublicKeyMessage:
        fields = {name: getattr(good, name) for name in good.__struct_fields__} | changes
        return ThresholdPublicKeyMessage(**fields)

    for message, text in (
        (changed(threshold=4), "threshold of 2 to 3"),
        (changed(squares=good.squares[:2]), "2 to 100 parties, not 1"),
        (changed(squares=good.squares[:0]), "rows of 768 bytes"),
        (changed(squares=good.squares[:, :-1]), "rows of 768 bytes"),
        (changed(squares=good.squares.reshape(-1)), "rows of 768 bytes"),
        (changed(squares=np.zeros_like(good.squares)), "coprime"),
        (changed(n=good.n[:100]), "too short"),
        (PublicKey(int(key.n), h=int(key.h or 0)).to_message(), "got a plain one"),
    ):
        with pytest.raises(RemoteProtocolError, match=text) as caught:
            ThresholdPublicKey.from_message(message, peer="dealer")
        assert caught.value.peer == "dealer"
    share = shares[0].to_message()
    for party, public_key in ((2, good), (4, good), (1, changed(squares=good.squares[[0, 2, 1, 3]]))):
        with pytest.raises(RemoteProtocolError, match="a key share from dealer") as caught:
            KeyShare.from_message(KeyShareMessage(public_key, party, share.exponent), peer="dealer")
        assert caught.value.peer == "dealer"


@pytest.mark.slow
def test_safe_primes_are_searched_and_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter((mpz(REAL_P), mpz(REAL_P), mpz(REAL_P), mpz(REAL_Q)))
    asked = []

    def random_prime(bits: int, *, safe: bool, rng: Stream, executor: Any) -> mpz:
        asked.append((bits, safe))
        return next(found)

    monkeypatch.setattr("secagg.he.paillier.threshold.primes.random_prime", random_prime)
    progress: list[tuple[int, int]] = []
    key, _ = deal_threshold_key(2, 2, on_progress=lambda done, steps: progress.append((done, steps)))
    assert key.n == REAL_P * REAL_Q  # a pair of equal primes was not taken
    assert asked == [(1536, True)] * 4
    assert progress == [(0, 3), (1, 3), (2, 3), (0, 3), (1, 3), (2, 3), (3, 3)]
