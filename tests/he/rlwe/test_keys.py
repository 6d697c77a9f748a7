from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

from secagg.errors import PlanError, RangeError, ShapeError, UsageError, WireError
from secagg.fixed_point import Plan
from secagg.he.rlwe import noise
from secagg.he.rlwe.ciphertexts import Ciphertext
from secagg.he.rlwe.keys import (
    PublicKey,
    SecretKey,
    SecretKeyMessage,
    expand_seed,
)
from secagg.he.rlwe.parameters import Parameters, parameters
from secagg.he.rlwe.polynomials import Polynomials
from secagg.he.rlwe.products import batch_blocks
from secagg.prg import Stream

SETS = [parameters(64), parameters(96), parameters(128)]
KEYS = {p.modulus_bits: SecretKey.generate(p) for p in SETS}
each_set = pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)
PLAN = Plan(64, 16, 100.0, 50, 10)


def encrypted(key: SecretKey, numbers: Any, plan: Plan, **options: Any) -> Ciphertext:
    c = key.public_key.encrypt(numbers, plan, **options)
    assert isinstance(c, Ciphertext)
    return c


def stream(seed: int = 0) -> Stream:
    return Stream(seed.to_bytes(32, "big"))


def slow_rows(x: Polynomials, row: int) -> list[int]:
    """Coefficients of X^0, X^1, ... as Python integers."""
    low = [int(v) for v in x.low[row]]
    if x.high is not None:
        low = [v + (int(h) << 64) for v, h in zip(low, x.high[row], strict=True)]
    return low[0::2] + low[1::2]


def slow_coefficient(a: list[int], s: list[int], k: int) -> int:
    n = len(a)
    return sum(a[i] * s[k - i] for i in range(k + 1)) - sum(a[i] * s[n + k - i] for i in range(k + 1, n))


def secret_of(key: SecretKey) -> list[int]:
    stored = key.to_message().secret.tolist()
    return stored[0::2] + stored[1::2]


@each_set
def test_keys_and_ciphertexts_satisfy_their_equations_in_pythons_integers(p: Parameters) -> None:
    key = KEYS[p.modulus_bits]
    plan = Plan(64, 0, 2.0**30, 4)
    values = np.random.default_rng(1).integers(-(2**30), 2**30, 2 * p.degree)
    c = encrypted(key, values, plan)
    q, shift, s = 1 << p.modulus_bits, noise.shift(plan, p), secret_of(key)
    a = slow_rows(expand_seed(p, key.public_key.seed), 0)
    b = slow_rows(key.public_key.b, 0)
    errors = []
    for row in range(2):
        c0, c1 = slow_rows(c.c0, row), slow_rows(c.c1, row)
        block = values[row * p.degree : (row + 1) * p.degree]
        m = block[0::2].tolist() + block[1::2].tolist()
        for k in (0, 1, 77, p.degree // 2, p.degree - 1):
            e = (b[k] + slow_coefficient(a, s, k) + q // 2) % q - q // 2
            assert abs(e) <= 21
            v = (c0[k] + slow_coefficient(c1, s, k) - (m[k] << shift) + q // 2) % q - q // 2
            assert abs(v) <= noise.tail_bound(p, 1, 2 * p.degree)
            errors.append(v)
            x = (c0[k] + slow_coefficient(c1, s, k)) % q
            assert ((x + (1 << (shift - 1))) >> shift) % (1 << plan.sum_bits) == m[k] % (1 << plan.sum_bits)
    assert any(errors)  # one of them is zero now and then
    np.testing.assert_array_equal(key.decrypt(c), values)


@each_set
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_every_ring_decrypts_exactly(p: Parameters, bits: int) -> None:
    plan = Plan(bits, 3, 4.0, 2)
    values = np.linspace(-4, 4, 65).reshape(5, 13)
    values = np.rint(values * 8) / 8
    key = KEYS[p.modulus_bits]
    c = key.public_key.encrypt(values, plan)
    np.testing.assert_array_equal(key.decrypt(c), values)
    assert key.decrypt_encoded(c).dtype == plan.ring.dtype


@each_set
def test_what_a_longer_array_left_in_kept_memory_enters_no_shorter_one(p: Parameters) -> None:
    plan = Plan(64, 0, 2.0**15, 2)
    key = KEYS[p.modulus_bits]
    for blocks in (3, 1, 2):
        values = np.full(blocks * p.degree - 5, -(2**15)).view(np.uint64)
        assert np.array_equal(key.decrypt_encoded(key.public_key.encrypt_encoded(values, plan)), values)


@pytest.mark.parametrize("bits", [96, 128])
def test_sums_of_64_bits_decrypt_exactly(bits: int) -> None:
    plan = Plan(64, 0, 2.0**61, 3)
    assert plan.sum_bits == 64
    key = KEYS[bits]
    values = np.array([-(2**61), 2**61, 2**61 - 1, 0, 1, -1])
    total = key.public_key.encrypt(values, plan)
    total += key.public_key.encrypt(values, plan)
    total += key.public_key.encrypt(values, plan)
    assert key.decrypt_encoded(total).view(np.int64).tolist() == (3 * values).tolist()


@each_set
def test_a_coefficient_further_from_a_number_than_noise_can_be_is_refused(p: Parameters) -> None:
    """In full blocks, where no empty place tells, and with a number next to it that would pass as a sum."""
    key = KEYS[p.modulus_bits]
    c: Any = key.public_key.encrypt(np.ones(p.degree), PLAN)
    most = noise.largest_residual(PLAN, p, weight=1, squares=1, coefficients=p.degree)
    for away, refused in ((most // 4, False), (2 * most, True)):
        altered: Any = c.copy()
        change = np.zeros((1, p.degree), np.uint64)
        change[0, 7] = away
        assert away < 1 << 63
        zeros = None if p.high_dtype is None else np.zeros((1, p.degree), p.high_dtype)
        total = altered.c0
        total += Polynomials(p, change, zeros)
        if refused:
            with pytest.raises(RangeError, match="not near encoded numbers"):
                key.decrypt(altered)
        else:
            assert np.array_equal(key.decrypt(altered), np.ones(p.degree))


def test_batches_of_one_encryption_draw_different_noise() -> None:
    p = SETS[0]
    blocks = batch_blocks(p)
    c = encrypted(KEYS[p.modulus_bits], np.zeros(2 * blocks * p.degree), PLAN)
    for part in (c.c0, c.c1):
        assert not np.array_equal(part.low[:blocks], part.low[blocks:])


@each_set
@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 8193, 70_001])
def test_any_length_decrypts_exactly(p: Parameters, length: int) -> None:
    key = KEYS[p.modulus_bits]
    values = np.random.default_rng(length).integers(-6_553_600, 6_553_601, length) / 2**16
    c: Any = key.public_key.encrypt(values, PLAN)
    np.testing.assert_array_equal(key.decrypt(c), values)
    blocks = p.blocks(length)
    assert sum(w.nbytes for w in c.to_message().words) == 2 * blocks * p.degree * p.coefficient_bytes


@each_set
def test_a_weighted_array_is_within_its_weight(p: Parameters) -> None:
    key = KEYS[p.modulus_bits]
    encoded = (np.array([100, -100], np.int64) * 7 << 16).view(np.uint64)
    c = key.public_key.encrypt_encoded(encoded, PLAN, weight=7)
    assert (c.header.weight, c.header.summands, c.squares) == (7, 1, 1)
    assert key.decrypt(c).tolist() == [700.0, -700.0]
    with pytest.raises(RangeError, match="beyond"):
        key.public_key.encrypt_encoded(encoded, PLAN, weight=6)
    with pytest.raises(UsageError, match="weight of 1 to 500"):
        key.public_key.encrypt_encoded(encoded, PLAN, weight=501)


PINNED = {
    64: "85de45d5e9eb688794c9293a566483d8012d0829c25e147839c65fd004cbc03c",
    96: "113cf56e19821b1bfb210146bf2c097cfb68cdcedeb1223cb0a1353bb50dc7bf",
    128: "8c0e378aec76a01819a77997fb4914b6913db71fb47cdfa057393d5b98e10831",
}


@each_set
def test_a_seeded_stream_gives_the_same_ciphertext_on_every_machine(p: Parameters) -> None:
    key = SecretKey.generate(p, rng=stream(1))
    values = np.arange(-3000, 7000) / 100
    c = encrypted(key, values, PLAN, rng=stream(2))
    assert c.digest().hex() == PINNED[p.modulus_bits]


@each_set
def test_threads_change_nothing(p: Parameters) -> None:
    key = SecretKey.generate(p, rng=stream(1))
    values = np.arange(200_000) % 100
    alone = encrypted(key, values, PLAN, rng=stream(2))
    with ThreadPoolExecutor(2) as threads:
        shared = encrypted(key, values, PLAN, rng=stream(2), executor=threads)
        np.testing.assert_array_equal(key.decrypt(shared, executor=threads), values)
    assert shared.words == alone.words


@each_set
def test_keys_ciphertexts_and_blocks_are_fresh(p: Parameters) -> None:
    one, two = SecretKey.generate(p), SecretKey.generate(p)
    assert one.public_key.seed != two.public_key.seed
    assert expand_seed(p, one.public_key.seed) != expand_seed(p, two.public_key.seed)
    assert one.public_key.key_id != two.public_key.key_id
    zeros = np.zeros(3 * p.degree)
    a, b = (encrypted(one, zeros, PLAN) for _ in range(2))
    rows = [row.tobytes() for c in (a, b) for row in c.words.low]
    assert len(set(rows)) == len(rows) == 12


@each_set
def test_a_public_key_comes_back_from_bytes(p: Parameters) -> None:
    key = KEYS[p.modulus_bits]
    back = PublicKey.from_bytes(key.public_key.to_bytes(), peer="bank")
    assert back.key_id == key.public_key.key_id
    assert key.decrypt(back.encrypt([1.5, -2.0], PLAN)).tolist() == [1.5, -2.0]
    kept = SecretKey.from_message(key.to_message())
    assert kept.decrypt(back.encrypt([1.5, -2.0], PLAN)).tolist() == [1.5, -2.0]


@each_set
def test_a_pickled_public_key_holds_nothing_of_what_it_encrypted(p: Parameters) -> None:
    key = PublicKey.from_bytes(KEYS[p.modulus_bits].public_key.to_bytes())
    unused = pickle.dumps(key)
    key.encrypt([1.0], PLAN)
    assert pickle.dumps(key) == unused
    assert pickle.loads(unused).key_id == key.key_id
    assert copy.copy(key).key_id == key.key_id


def test_the_key_id_covers_every_field() -> None:
    p = parameters(96)
    key = KEYS[96].public_key
    moved = key.b.copy()
    moved.low[0, 0] ^= np.uint64(1)
    made = [
        key,
        PublicKey(p, bytes(32), key.b),
        PublicKey(p, key.seed, moved),
        PublicKey(p, key.seed, key.b, flood_bits=50),
        PublicKey(p, key.seed, key.b, flood_bits=50, holders=2),
        PublicKey(p, key.seed, key.b, flood_bits=51, holders=2),
    ]
    assert len({k.key_id for k in made}) == len(made)


def test_a_message_that_is_no_public_key_is_its_senders_error() -> None:
    key = KEYS[64].public_key
    low = key.b.low
    cases = {
        "expected a modulus of 64, 96 or 128 bits from bank, got 65": changed(
            key.to_message(), modulus_bits=65
        ),
        "expected degree 4096 with a modulus of 64 bits from bank, got 1024": changed(
            key.to_message(), degree=1024
        ),
        "got uint64$|got uint64,": changed(key.to_message(), modulus_bits=96),
        "seed of 32 bytes, got 31": changed(key.to_message(), seed=bytes(31)),
        "expected words of uint64": changed(key.to_message(), b=(low.view(np.int64),)),
        r"got \(1, 2048\)": changed(key.to_message(), b=(low[:, :2048].copy(),)),
        "expected 1 polynomials, got 2": changed(key.to_message(), b=(np.zeros((2, 4096), np.uint64),)),
        "got none": changed(key.to_message(), b=()),
        "needs flood_bits": changed(key.to_message(), holders=2),
        "1 to 1024 key holders": changed(key.to_message(), holders=0),
        "0 to 63 flood_bits": changed(key.to_message(), flood_bits=64),
    }
    for text, message in cases.items():
        with pytest.raises(WireError, match=text) as caught:
            PublicKey.from_message(message, peer="bank")
        assert caught.value.peer == "bank"
    with pytest.raises(WireError):
        PublicKey.from_bytes(key.to_bytes()[:-8], peer="bank")


def test_a_secret_that_does_not_belong_to_its_public_key_is_refused() -> None:
    key, other = KEYS[64], SecretKey.generate(parameters(64))
    mine, theirs = key.to_message(), other.to_message()
    cases = {
        "does not belong to the public key": SecretKeyMessage(mine.public_key, theirs.secret),
        "expected a secret of 4096 int8": SecretKeyMessage(mine.public_key, mine.secret * np.int8(2)),
        "a secret of 4096": SecretKeyMessage(mine.public_key, mine.secret[:4095]),
        "of a single key holder": SecretKeyMessage(
            changed(key.public_key.to_message(), holders=2, flood_bits=9), mine.secret
        ),
    }
    for text, message in cases.items():
        with pytest.raises(WireError, match=text):
            SecretKey.from_message(message)
    with pytest.raises(UsageError, match="does not belong"):
        SecretKey(key.public_key, theirs.secret)


@each_set
def test_secrets_are_not_shown_pickled_or_copied(p: Parameters) -> None:
    key = KEYS[p.modulus_bits]
    assert "hidden" in repr(key)
    assert p.name in repr(key)
    assert len(repr(key)) < 120
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled or copied"):
            attempt(key)
    assert not hasattr(key, "__dict__")
    for text in (repr(key.to_message()), repr(key.public_key.encrypt([1.0], PLAN))):
        assert "array" not in text


def test_what_is_no_array_of_numbers_in_range_is_refused() -> None:
    key = KEYS[64].public_key
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(RangeError, match="NaN or infinite"):
            key.encrypt([0.0, bad], PLAN)
    with pytest.raises(RangeError, match="beyond"):
        key.encrypt([100.01], PLAN)
    for empty in (np.zeros(0), np.zeros((3, 0))):
        with pytest.raises(ValueError, match=r"nothing to encrypt|zero-size"):
            key.encrypt(empty, PLAN)
    with pytest.raises(ShapeError, match="takes integers"):
        key.encrypt(["1"], PLAN)
    with pytest.raises(ShapeError, match="come in uint64, not int64"):
        key.encrypt_encoded(np.zeros(3, np.int64), PLAN)
    with pytest.raises(ShapeError, match="nothing to encrypt"):
        key.encrypt_encoded(np.zeros(0, np.uint64), PLAN)


def test_plans_that_could_decode_wrong_are_refused() -> None:
    plan = Plan(64, 0, 2.0**37, 1000)  # sums of 48 bits
    with pytest.raises(PlanError, match=r"use a key with parameters\(96\)"):
        KEYS[64].public_key.encrypt([1.0], plan)
    assert KEYS[96].decrypt(KEYS[96].public_key.encrypt([1.0], plan)).tolist() == [1.0]
    flooded = PublicKey(parameters(96), bytes(32), KEYS[96].public_key.b, holders=3, flood_bits=57)
    with pytest.raises(PlanError, match="flood_bits <= 4"):
        flooded.encrypt([1.0], plan)


def test_a_ciphertext_of_another_scheme_or_key_is_refused() -> None:
    c = KEYS[64].public_key.encrypt([1.0], PLAN)
    with pytest.raises(UsageError, match="expected a ciphertext of rlwe/4096/96, got one of 'rlwe/4096/64'"):
        KEYS[96].decrypt(c)
    with pytest.raises(UsageError, match="expected a ciphertext under key"):
        SecretKey.generate(parameters(64)).decrypt(c)
