"""Paillier keys encrypt, decrypt and add as the papers say; what is no key is refused, each with its own words.

The module is long because each check of a key has a case.
"""

from __future__ import annotations

import copy
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

import gmpy2
import numpy as np
from gmpy2 import mpz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damgard_jurik import discrete_logarithm
from secagg.errors import PlanError, RangeError, RemoteProtocolError, ShapeError, UsageError, WireError
from secagg.fixed_point import Plan, encode, plan
from secagg.he import key_files
from secagg.he.paillier import PublicKey, SecretKey, residues
from secagg.he.paillier.primes import flaw, random_prime
from secagg.he.paillier.public_key import PublicKeyMessage
from secagg.he.paillier.secret_key import SecretKeyMessage
from secagg.prg import Stream

PLAN = plan(clip=100.0, frac_bits=20, parties=50, max_weight=4)


def decrypt_slowly(ciphertext: int, p: int, q: int, s: int) -> int:
    """Return the plaintext by the definition in [DJ01]: d = 1 modulo n^s and 0 modulo lambda, then the loop."""
    n = p * q
    order = math.lcm(p - 1, q - 1)
    d = order * pow(order, -1, n**s)
    power = pow(ciphertext, d, n ** (s + 1))
    return discrete_logarithm(power, n, s)


def test_the_published_ciphertext_of_python_paillier():
    # testRawEncryptDecryptRegression0 of its test suite: n = 126869, m = 10100, r = 74384.
    key = SecretKey._from_primes(293, 433, x=None)
    n = key.public_key.n
    randomizer = residues.to_digits([gmpy2.powmod(74384, n, n * n)], n, 1)
    ciphertext = residues.blind(randomizer, [mpz(10100)], n)
    assert residues.from_digits(ciphertext, n) == [935906717]
    assert key.decrypt_residues(ciphertext) == [10100]


def test_a_slow_decryption_by_the_definition_reads_the_same(small_key):
    key = small_key.public_key
    values = encode(np.linspace(-100, 100, 100), PLAN).values
    ciphertext = key.encrypt_encoded(values, PLAN)
    p, q = small_key.prime_factors()
    plaintexts = [decrypt_slowly(int(c), p, q, key.s) for c in ciphertext.integers()]
    assert plaintexts == small_key.decrypt_residues(ciphertext.digits)
    assert np.array_equal(small_key.decrypt_encoded(ciphertext), values)


def test_nobody_chooses_what_is_raised_to_a_secret_exponent(small_key, monkeypatch):
    """Equal residues are raised as different numbers, in each call as others, and none of them as it came."""
    key, (p, q) = small_key.public_key, small_key.prime_factors()
    c = key.encrypt_encoded(encode(np.zeros(1), PLAN).values, PLAN).integers()[0]
    digits = residues.to_digits([c] * 5, key.n, key.s)
    raised: list[tuple[int, mpz]] = []
    power = gmpy2.powmod_base_list

    def note(bases, exponent, modulus):
        raised.extend((int(exponent), base % modulus) for base in bases)
        return power(bases, exponent, modulus)

    monkeypatch.setattr(gmpy2, "powmod_base_list", note)
    for _ in range(3):
        assert small_key.decrypt_residues(digits) == [0] * 5
    for prime in (p, q):
        numbers = [base for exponent, base in raised if exponent == prime - 1]
        assert len(numbers) == len(set(numbers)) == 15
        assert c % prime ** (key.s + 1) not in numbers
        # What blinds is a p^s-th power, which the power p - 1 takes away.
        modulus = prime ** (key.s + 1)
        assert len({pow(int(base), prime - 1, modulus) for base in numbers}) == 1


def test_the_largest_and_smallest_plaintexts_decrypt(small_key):
    key = small_key.public_key
    top = key.modulus.plaintext
    plaintexts = [mpz(0), mpz(1), top - 1, top // 2, top // 2 + 1, key.n % top, (key.n - 1) % top]
    randomizers = key.draw_randomizers(len(plaintexts))
    assert small_key.decrypt_residues(residues.blind(randomizers, plaintexts, key.n)) == plaintexts


@pytest.mark.parametrize("x", [12345, None], ids=["short randomizers", "full randomizers"])
def test_the_owner_encrypts_to_the_same_ciphertext(small_primes, x):
    for s in (1, 2, 3):
        key = SecretKey._from_primes(*small_primes, s=s, x=x)
        key.public_key.prepare(window=3)
        numbers = np.linspace(-100, 100, 50 * s)
        ours, theirs = (k.encrypt(numbers, PLAN, rng=Stream(bytes(32))) for k in (key, key.public_key))
        assert ours.integers() == theirs.integers()
        assert np.max(np.abs(key.decrypt(ours) - numbers)) <= PLAN.error()


def test_full_randomizers_are_powers_of_numbers_below_n(small_primes):
    key = SecretKey._from_primes(*small_primes, s=2, x=None).public_key
    drawn = residues.from_digits(key.draw_randomizers(3, rng=Stream(bytes(32))), key.n)
    stream = Stream(bytes(32))
    expected: list[int] = []
    while len(expected) < 3:
        r = int.from_bytes(stream.bytes(64), "little")
        if 0 < r < key.n:
            expected.append(pow(r, int(key.n) ** 2, int(key.modulus.ciphertext)))
    assert drawn == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.data())
def test_weighted_sums_decrypt_exactly(small_keys, data):
    key = small_keys[data.draw(st.sampled_from((1, 2, 3)))]
    shape = data.draw(st.sampled_from(((), (1,), (7,), (3, 5), (23,))))
    weights = data.draw(st.lists(st.integers(-4, 4).filter(bool), min_size=1, max_size=4))
    size = math.prod(shape)
    value = st.integers(-PLAN.limit, PLAN.limit)
    vectors = [
        np.array(data.draw(st.lists(value, min_size=size, max_size=size)), np.int64).reshape(shape)
        for _ in weights
    ]
    ciphertexts = [
        w * key.public_key.encrypt_encoded(PLAN.ring.from_signed(v), PLAN)
        for w, v in zip(weights, vectors, strict=True)
    ]
    total = ciphertexts[0]
    for ciphertext in ciphertexts[1:]:
        total += ciphertext
    assert total.header.summands == len(weights)
    assert total.header.weight == sum(abs(w) for w in weights)
    decrypted = PLAN.ring.to_signed(key.decrypt_encoded(total))
    assert np.array_equal(decrypted, sum(w * v for w, v in zip(weights, vectors, strict=True)))
    assert decrypted.shape == shape


def test_threads_change_nothing(small_key):
    numbers = np.linspace(-100, 100, 500)
    with ThreadPoolExecutor(2) as executor:
        for owner in (small_key, small_key.public_key):
            one, two = (
                owner.encrypt(numbers, PLAN, rng=Stream(bytes(32)), executor=e) for e in (None, executor)
            )
            assert one.integers() == two.integers()
        assert one.times(-3, executor=executor).integers() == (one * -3).integers()
        decrypted = small_key.decrypt(one, executor=executor)
    assert np.array_equal(decrypted, small_key.decrypt(one))


def test_what_is_raised_to_the_secret_exponent_is_never_the_ciphertext(small_key, monkeypatch):
    ciphertext = small_key.public_key.encrypt(np.linspace(-100, 100, 200), PLAN)
    moduli = [p ** (small_key.public_key.s + 1) for p in small_key.prime_factors()]
    seen: list[set[int]] = []
    powers = gmpy2.powmod_base_list

    def record(bases, exponent, modulus):
        seen.append({int(base) % modulus for base in bases})
        return powers(bases, exponent, modulus)

    small_key.decrypt(ciphertext)
    monkeypatch.setattr(gmpy2, "powmod_base_list", record)
    for _ in range(3):
        small_key.decrypt(ciphertext)
    assert len(seen) == 6
    assert len(set.union(*seen)) == 6 * len(ciphertext.integers())
    bare = {int(c) % modulus for c in ciphertext.integers() for modulus in moduli}
    assert bare.isdisjoint(set[int]().union(*seen))


def test_equal_numbers_have_different_ciphertexts(small_key):
    first, second = (small_key.public_key.encrypt(np.zeros(3), PLAN) for _ in range(2))
    assert not set(first.integers()) & set(second.integers())


@pytest.mark.slow
def test_a_key_of_3072_bits_is_generated_and_used():
    key = SecretKey.generate(s=2)
    assert key.public_key.bits == 3072
    assert key.public_key.randomizer_bits == 1536
    assert flaw(*map(mpz, key.prime_factors())) is None
    key.public_key.prepare(window=3)
    numbers = np.linspace(-100, 100, 300)
    total = key.public_key.encrypt(numbers, PLAN) + key.public_key.encrypt(numbers[::-1], PLAN)
    assert np.max(np.abs(key.decrypt(total))) <= 2 * PLAN.error()


@pytest.mark.slow
def test_different_keys_are_generated():
    first, second = (SecretKey.generate(2048, randomizer_bits=512).public_key for _ in range(2))
    assert first.n != second.n
    assert first.randomizer_bits == 512
    assert first.key_id != second.key_id
    assert (
        SecretKey.generate(2048, rng=Stream(bytes(32))).public_key.n
        == SecretKey.generate(2048, rng=Stream(bytes(32))).public_key.n
    )


@pytest.mark.slow
def test_bytes_a_number_at_3072_bits_and_48_bit_slots(real_key, small_keys):
    ten_thousand = plan(clip=1000.0, frac_bits=20, parties=10_000)
    assert 40 < ten_thousand.sum_bits <= 48
    ciphertext = real_key.public_key.encrypt(np.ones(63 * 3), ten_thousand)
    assert ciphertext.slots == 63
    message = ciphertext.to_message()
    assert message.block.nbytes / (63 * 3) <= 12.2
    assert np.array_equal(real_key.decrypt(ciphertext), np.ones(63 * 3))


@pytest.mark.slow
def test_keys_come_back_from_bytes(real_key, tmp_path):
    public_key = PublicKey.from_bytes(real_key.public_key.to_bytes())
    assert (public_key.n, public_key.s, public_key.h) == (
        real_key.public_key.n,
        real_key.public_key.s,
        real_key.public_key.h,
    )
    assert public_key.key_id == real_key.public_key.key_id
    without_h = PublicKey.from_bytes(PublicKey(int(public_key.n), s=3).to_bytes())
    assert (without_h.h, without_h.randomizer_bits, without_h.s) == (None, None, 3)
    key_files.save_secret(tmp_path / "key", real_key)
    secret_key = key_files.load_secret(tmp_path / "key", SecretKey)
    assert secret_key.prime_factors() == real_key.prime_factors()
    assert secret_key.public_key.key_id == public_key.key_id


def test_everything_about_a_public_key_is_in_its_id(real_key):
    n, h = int(real_key.public_key.n), int(real_key.public_key.h)
    keys = [
        PublicKey(n, h=h),
        PublicKey(n, h=h, s=2),
        PublicKey(n, h=h, randomizer_bits=512),
        PublicKey(n, h=h * 4 % n),
        PublicKey(n),
        PublicKey(n, s=2),
    ]
    assert len({key.key_id for key in keys}) == len(keys)


@pytest.mark.slow
def test_what_is_no_modulus_is_refused_each_with_its_own_words(real_key):
    n = int(real_key.public_key.n)
    p, _ = real_key.prime_factors()
    cases = {
        "too short: at least 2048": n >> 1100 | 1,
        "0 bits is too short": -n,
        "longer than the 16384": 1 << 16384,
        "even": n - 1,
        "prime": int(gmpy2.next_prime(n)),
        "square or higher power": p * p,
        "factor below 2\\^16": 3 * n,
    }
    for words, modulus in cases.items():
        with pytest.raises(UsageError, match=words):
            PublicKey(modulus)
    for s in (0, 4, -1):
        with pytest.raises(UsageError, match=f"of 1 to 3, got {s}"):
            PublicKey(n, s=s)


@pytest.mark.slow
def test_what_is_no_base_of_randomizers_is_refused_each_with_its_own_words(real_key):
    n, h = int(real_key.public_key.n), int(real_key.public_key.h)
    p, q = real_key.prime_factors()
    wrong_sign = next(x for x in range(2, 100) if gmpy2.jacobi(x, n) == -1)
    cases = {
        "not in 2 .. n - 2": (0, 1, n - 1, n, -h),
        "factor in common with n": (3 * p, 2 * q),
        "Jacobi symbol": (wrong_sign,),
    }
    for words, bases in cases.items():
        for base in bases:
            with pytest.raises(UsageError, match=words):
                PublicKey(n, h=base)
    for bits in (511, 1537, 0, -5):
        with pytest.raises(UsageError, match=f"exponents of 512 to 1536 bits for randomizers, got {bits}"):
            PublicKey(n, h=h, randomizer_bits=bits)
    with pytest.raises(UsageError, match="need the key's h"):
        PublicKey(n, randomizer_bits=512)
    other = next(r for r in range(3, 10**6) if gmpy2.is_prime(q + r) and (q + r) % 4 == 1)
    with pytest.raises(UsageError, match="1 modulo 4"):
        PublicKey(p * (q + other), h=h)


@pytest.mark.slow
def test_what_are_no_factors_is_refused_each_with_its_own_words(real_key, small_primes):
    key, (p, q) = real_key.public_key, real_key.prime_factors()
    with pytest.raises(UsageError, match="not the modulus") as caught:
        SecretKey(key, p, q + 2)
    assert str(p)[:20] not in str(caught.value)
    for pair in ((1, p * q), (-p, -q)):
        with pytest.raises(UsageError, match="not the modulus"):
            SecretKey(key, *pair)
    three = [random_prime(1024) for _ in range(3)]
    with pytest.raises(UsageError, match="not two different primes"):
        SecretKey(PublicKey(math.prod(three)), three[0], three[1] * three[2])
    near = next(int(p + 4 * k) for k in range(1, 10**5) if gmpy2.is_prime(p + 4 * k))
    with pytest.raises(UsageError, match="not safe: its prime factors are too close"):
        SecretKey(PublicKey(p * near, h=p * near - 4), p, near)
    # A square has the Jacobi symbol 1 as minus a square has.
    with pytest.raises(UsageError, match="not minus a square"):
        SecretKey(PublicKey(p * q, h=4), p, q)
    # q divides p - 1: then some ciphertexts have two plaintexts.
    small = random_prime(40)
    large = next(2 * k * small + 1 for k in range(1, 10**5) if gmpy2.is_prime(2 * k * small + 1))
    with pytest.raises(UsageError, match="divides the other less 1"):
        SecretKey._from_primes(small, large, x=None)


@pytest.mark.slow
def test_what_cannot_be_generated_is_refused():
    for bits in (1024, 2046, 16386):
        with pytest.raises(UsageError, match=f"2048 to 16384 bits, not {bits}"):
            SecretKey.generate(bits)
    with pytest.raises(UsageError, match="even number of bits"):
        SecretKey.generate(3073)
    with pytest.raises(UsageError, match="of 1 to 3"):
        SecretKey.generate(2048, s=4)
    with pytest.raises(UsageError, match="512 to 1024 bits"):
        SecretKey.generate(2048, randomizer_bits=256)


def test_a_peers_wrong_key_names_the_peer(real_key):
    message = real_key.public_key.to_message()
    for n, h, words in (
        (bytes(300), message.h, "too short"),
        (message.n, b"\x01", "not in 2 .. n - 2"),
        (b"\xff" * 3000, b"", "longer than any in a key"),
    ):
        with pytest.raises(RemoteProtocolError, match=f"Paillier key from bank-b: .*{words}") as caught:
            PublicKey.from_message(PublicKeyMessage(n, 1, h, message.randomizer_bits), peer="bank-b")
        assert caught.value.peer == "bank-b"
    with pytest.raises(WireError):
        PublicKey.from_bytes(b"not a key at all, not even a frame", peer="bank-b")
    with pytest.raises(RemoteProtocolError, match="not the modulus"):
        SecretKey.from_message(SecretKeyMessage(message, b"\x03", b"\x05"))


def test_secret_keys_are_neither_shown_nor_copied(real_key):
    p, q = real_key.prime_factors()
    shown = f"{real_key!r} {real_key} {real_key._p!r} {real_key.to_message()!r} {vars(type(real_key))}"
    for factor in (p, q):
        assert str(factor)[:30] not in shown
        assert f"{factor:x}"[:30] not in shown
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        for secret in (real_key, real_key._p):
            with pytest.raises(TypeError, match="not pickled or copied"):
                duplicate(secret)


def test_numbers_that_do_not_fit_are_refused(small_key):
    key = small_key.public_key
    for numbers, kind in (
        ([101.0], RangeError),
        ([math.nan], RangeError),
        ([-math.inf], RangeError),
        ([], ShapeError),
        (["1"], ShapeError),
    ):
        for owner in (key, small_key):
            with pytest.raises(kind):
                owner.encrypt(np.array(numbers), PLAN)
    too_large = np.array([3 * PLAN.limit + 1], PLAN.ring.dtype)
    key.encrypt_encoded(too_large, PLAN, weight=4)
    with pytest.raises(RangeError):
        key.encrypt_encoded(too_large, PLAN, weight=3)
    with pytest.raises(UsageError, match="weight of 1 to 200"):
        key.encrypt_encoded(too_large, PLAN, weight=201)
    with pytest.raises(ShapeError, match="slots"):
        key.encrypt(np.ones(3), PLAN, slots=1000)


def test_a_plan_that_no_plaintext_holds_is_refused():
    key = SecretKey._from_primes(random_prime(32), random_prime(32))
    with pytest.raises(PlanError, match="do not fit a plaintext"):
        key.public_key.encrypt(np.ones(3), Plan(64, 40, 1000.0, 4000))


def test_a_sum_that_is_not_what_its_header_says_is_refused(small_key):
    key = small_key.public_key
    honest = key.encrypt(np.full(5, 100.0), PLAN)
    squares = [pow(c, 2, key.modulus.ciphertext) for c in honest.integers()]
    lying = key.read_integers(squares, honest.header, slots=honest.slots)
    with pytest.raises(RangeError, match="no sum of weight 1"):
        small_key.decrypt(lying)


def test_ciphertexts_of_another_key_are_not_decrypted(small_keys, other_public_key):
    with pytest.raises(UsageError, match="under key"):
        small_keys[1].decrypt(other_public_key.encrypt(np.ones(3), PLAN))
    with pytest.raises(UsageError, match="of paillier/1, got one of 'paillier/2'"):
        small_keys[1].decrypt(small_keys[2].public_key.encrypt(np.ones(3), PLAN))
