"""CKKS: sums within their stated error, keys in the right hands, and refusals of what is malformed.

The module is long because contexts and keys are dear, and shared by all claims.
"""

from __future__ import annotations

import copy
import importlib
import math
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="CKKS needs TenSEAL")

import msgspec
import tenseal

from secagg import fixed_point
from secagg.errors import PlanError, RangeError, ShapeError, UsageError, WireError
from secagg.fixed_point import Plan
from secagg.he import key_files
from secagg.he.ckks import CONTEXTS, Ciphertext, Context, PublicKey, SecretKey
from secagg.he.ckks.ciphertexts import CiphertextMessage, packed, unpacked
from secagg.he.ckks.keys import PublicKeyMessage
from secagg.he.scheme import Header

PLAN = Plan(bits=64, frac_bits=20, clip=10.0, parties=600, max_weight=50)
# Far above the error of a few summands under this plan, and far below the numbers.
NEAR = 1e-3
NAMES = list(CONTEXTS)


@pytest.fixture(scope="module")
def keys() -> dict[str, SecretKey]:
    return {name: SecretKey.generate(context) for name, context in CONTEXTS.items()}


@pytest.fixture(scope="module")
def key(keys: dict[str, SecretKey]) -> SecretKey:
    return keys["4096"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


def raw(
    symmetric: bool = False, degree: int = 4096, primes: tuple[int, ...] = (48, 32), scale: int = 40
) -> Any:
    """Return TenSEAL's own context."""
    kinds = tenseal.ENCRYPTION_TYPE
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        degree,
        coeff_mod_bit_sizes=list(primes),
        encryption_type=kinds.SYMMETRIC if symmetric else kinds.ASYMMETRIC,
        n_threads=1,
    )
    context.global_scale = 2.0**scale
    return context


# Contexts.


def test_security_is_what_the_standards_table_says() -> None:
    assert {name: c.security_bits for name, c in CONTEXTS.items()} == {
        "4096": 128,
        "4096/symmetric": 128,
        "8192/256": 256,
        "8192/tenseal": 128,
    }
    with pytest.raises(PlanError, match="less than 128 bits of security at degree 4096"):
        Context("large", 4096, (60, 50), 40)
    with pytest.raises(PlanError, match="at degree 2048"):
        Context("small", 2048, (27, 27), 20)


def test_core_svp_of_every_context_is_what_its_table_says() -> None:
    from benchmarks import lattice

    for name, said in (("4096", 148), ("4096/symmetric", 148), ("8192/256", 223), ("8192/tenseal", 107)):
        context = CONTEXTS[name]
        beta, _ = lattice.smallest_block(context.degree, sum(context.prime_bits), 16)
        assert int(0.292 * beta) == said
    beta, _ = lattice.smallest_block(4096, sum(CONTEXTS["4096"].prime_bits), 16)
    assert 0.257 * beta >= 128  # the most optimistic count against a quantum sieve


def test_default_is_4096_with_primes_of_48_and_32_bits_at_2_to_the_40(key: SecretKey) -> None:
    default = SecretKey.generate().public_key.context
    assert default is CONTEXTS["4096"]
    assert (default.degree, default.prime_bits, default.scale_bits) == (4096, (48, 32), 40)
    assert key.public_key.scheme == "ckks/4096"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("clip", "weight"), [(1.0, 1), (3.0, 1000), (2.0**-500, 7)])
def test_the_largest_plan_that_is_taken_decodes_at_its_borders(
    name: str, clip: float, weight: int, keys: dict[str, SecretKey]
) -> None:
    context = CONTEXTS[name]
    most = min(int(2.0 ** (context.modulus_bits - 1 - 32) * (1 - 2.0**-7)), 1 << 60)
    parties = most // weight
    plan = Plan(bits=64, frac_bits=0, clip=clip, parties=parties, max_weight=weight)
    largest = np.full((3, context.slots), clip)  # one coefficient holds all
    largest[1] *= -1
    largest[2, ::2] *= -1
    factor = parties * weight
    total = keys[name].encrypt(largest, plan) * factor
    errors = keys[name].decrypt(total) - factor * largest
    assert np.max(np.abs(errors)) <= keys[name].public_key.error(total.header).bound
    if context.modulus_bits < 64:
        with pytest.raises(PlanError, match=f"{name} has room for sums of weight [0-9]*: "):
            keys[name].encrypt(largest, Plan(64, 0, clip, int(parties * 1.02) + 1, weight))


def test_what_the_plan_refuses_would_indeed_decode_wrong() -> None:
    context = raw()
    almost = [2.0**5 * 1.01] * 2048
    total = tenseal.ckks_vector(context, almost)
    for _ in range(3):
        total += tenseal.ckks_vector(context, almost)
    assert total.decrypt()[0] < 0
    with pytest.raises(PlanError):
        CONTEXTS["4096"].check_plan(Plan(bits=64, frac_bits=0, clip=1.0, parties=1 << 15))


@pytest.mark.parametrize("clip", [1e18, 1e-30, 5e-324], ids=str)
def test_any_clip_keeps_as_many_places_of_it(clip: float, key: SecretKey) -> None:
    plan = Plan(bits=64, frac_bits=0, clip=clip, parties=2)
    x = np.array([clip, -clip, 0.0, clip / 2])
    total = key.encrypt(x, plan)
    assert np.max(np.abs(key.decrypt(total) / clip - x / clip)) < 2.0**-15


def test_without_tenseal_the_import_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("tenseal", "secagg.he.ckks"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(ImportError, match=r'pip install "secagg\[ckks\]"'):
        importlib.import_module("secagg.he.ckks")


# Numbers in, numbers out.


@pytest.mark.parametrize("shape", [(), (1,), (2047,), (2048,), (2049,), (3, 7), (2, 3, 1000)], ids=str)
def test_arrays_of_any_shape_come_back(
    shape: tuple[int, ...], key: SecretKey, rng: np.random.Generator
) -> None:
    x = rng.uniform(-10, 10, shape)
    encrypted = key.public_key.encrypt(x, PLAN)
    decrypted = key.decrypt(encrypted)
    assert decrypted.shape == shape
    assert decrypted.dtype == np.float64
    assert np.max(np.abs(decrypted - x)) <= key.public_key.error(encrypted.header).bound


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u8", "i8"])
def test_dtypes_that_encoding_takes_are_taken(dtype: str, key: SecretKey) -> None:
    x = np.array([[0, 1, 5], [2, 10, 7]], dtype).T
    assert np.max(np.abs(key.decrypt(key.public_key.encrypt(x, PLAN)) - x)) < NEAR


@pytest.mark.parametrize(
    "values",
    [[1.0, math.nan], [math.inf], [-math.inf], [10.1], [-10.1, 0.0], np.array([11]), ["a"], [1j], [True]],
    ids=repr,
)
def test_what_encoding_refuses_is_refused_in_the_same_words(values: Any, key: SecretKey) -> None:
    with pytest.raises(UsageError) as expected:
        fixed_point.encode(values, PLAN)
    with pytest.raises(type(expected.value)) as got:
        key.public_key.encrypt(values, PLAN)
    assert str(got.value) == str(expected.value)


def test_nothing_is_not_encrypted(key: SecretKey) -> None:
    with pytest.raises(ShapeError, match="nothing to encrypt"):
        key.public_key.encrypt(np.zeros((3, 0)), PLAN)


def test_clients_may_weight_before_they_encrypt(key: SecretKey) -> None:
    encrypted = key.public_key.encrypt([450.0, -500.0], PLAN, weight=50)
    assert encrypted.header.weight == 50
    total = encrypted + key.public_key.encrypt([1.0, 2.0], PLAN)
    assert np.max(np.abs(key.decrypt(total) - [451.0, -498.0])) <= key.public_key.error(total.header).bound
    with pytest.raises(RangeError, match="beyond"):
        key.public_key.encrypt([450.0], PLAN, weight=44)
    with pytest.raises(RangeError, match="does not fit a plan"):
        key.public_key.encrypt([1.0], PLAN, weight=30_001)


def test_output_is_clean(key: SecretKey, capfd: pytest.CaptureFixture[str]) -> None:
    public_key = SecretKey.generate().public_key
    encrypted = public_key.encrypt(np.zeros(9000), PLAN)
    public_key.read_bytes((encrypted + encrypted).to_bytes())
    key.decrypt(key.public_key.encrypt(np.zeros(9000), PLAN))
    assert capfd.readouterr() == ("", "")


# Sums and their error.


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_sums_of_1_to_50_arrays_are_within_their_bound(
    name: str, keys: dict[str, SecretKey], rng: np.random.Generator
) -> None:
    key = keys[name]
    plain = rng.uniform(-10, 10, CONTEXTS[name].slots + 9)
    total = key.encrypt(plain, PLAN)
    for summands in range(1, 51):
        error = key.public_key.error(total.header)
        assert total.header.summands == summands
        assert np.max(np.abs(key.decrypt(total) - plain)) <= error.bound
        x = rng.uniform(-10, 10, plain.shape)
        plain += x
        total += key.encrypt(x, PLAN)


@pytest.mark.slow
def test_errors_of_sums_of_1000_are_as_measured_for_one_and_a_bound_of_them(
    key: SecretKey, rng: np.random.Generator
) -> None:
    plain = np.zeros(2048)
    total: Any = None
    for _ in range(1000):
        x = rng.uniform(-10, 10, plain.shape)
        plain += x
        encrypted = key.public_key.encrypt(x, PLAN)
        total = encrypted if total is None else total.__iadd__(encrypted)
    error = key.public_key.error(total.header)
    errors = key.decrypt(total) - plain
    assert math.sqrt(np.mean(errors**2)) == pytest.approx(error.measured, rel=0.2)
    assert np.max(np.abs(errors)) <= error.bound < 100 * np.max(np.abs(errors))


def test_the_measured_error_is_what_the_derivation_says(keys: dict[str, SecretKey]) -> None:
    for name, variance in (("4096", 4096 / 24 * (1 + 2 * 4096 / 3)), ("4096/symmetric", 21 * 4096 / 4)):
        variance += 9 * 4096  # that hides roundings
        measured = keys[name].public_key.measured * 2.0**32
        # 2048 products of two normal deviates: 0.2 is more than 6 deviations of the mean square.
        assert measured == pytest.approx(math.sqrt(variance + 4096 / 24), rel=0.2)


def test_equal_arrays_whose_rounding_errors_add_up_are_within_the_bound(key: SecretKey) -> None:
    x = np.full(2048, 2.0**-32)  # lost when coefficients are rounded
    total = key.public_key.encrypt(x, PLAN) * 10_000
    error = key.public_key.error(total.header)
    assert np.max(np.abs(key.decrypt(total) - 10_000 * x)) <= error.bound


@pytest.mark.parametrize("factor", [1, -1, 2, 3, -6, 7, 1000, 2**14, -29_999])
@pytest.mark.parametrize("name", NAMES)
def test_multiples_by_integers_are_within_their_bound(
    factor: int, name: str, keys: dict[str, SecretKey], rng: np.random.Generator
) -> None:
    x = rng.uniform(-10, 10, 5000)
    encrypted = keys[name].encrypt(x, PLAN)
    for product in (encrypted * factor, factor * encrypted):
        error = keys[name].public_key.error(product.header)
        assert product.header.weight == abs(factor)
        assert np.max(np.abs(keys[name].decrypt(product) - factor * x)) <= error.bound
    assert np.max(np.abs(keys[name].decrypt(encrypted) - x)) < NEAR


def test_weighted_sums_are_within_their_bound(key: SecretKey, rng: np.random.Generator) -> None:
    weights = rng.integers(1, 50, 20)
    x = rng.uniform(-10, 10, (20, 3000))
    total = key.public_key.encrypt(x[0], PLAN) * int(weights[0])
    for k, row in zip(weights[1:], x[1:], strict=True):
        total += key.public_key.encrypt(row, PLAN) * int(k)
    assert (total.header.summands, total.header.weight) == (20, int(weights.sum()))
    assert np.max(np.abs(key.decrypt(total) - weights @ x)) <= key.public_key.error(total.header).bound


def test_addition_changes_neither_operand_and_shares_no_memory(key: SecretKey) -> None:
    a, b = key.public_key.encrypt([1.0, 2.0], PLAN), key.public_key.encrypt([5.0, 5.0], PLAN)
    total, twin = a + b, a.copy()
    total += b
    twin += twin
    for ciphertext, numbers in ((a, (1, 2)), (b, (5, 5)), (total, (11, 12)), (twin, (2, 4))):
        assert np.max(np.abs(key.decrypt(ciphertext) - numbers)) < NEAR


@pytest.mark.parametrize("arrived", [False, True])
def test_sums_differences_and_slices_are_within_their_bound(
    arrived: bool, key: SecretKey, rng: np.random.Generator
) -> None:
    x = rng.uniform(-10, 10, (2, 3 * 2048 + 7))
    a, b = (key.public_key.encrypt(v, PLAN) for v in x)
    if arrived:
        a, b = received(a, key), received(b, key)
    for got, expected in (
        (sum([a, b]), x[0] + x[1]),
        (a - b, x[0] - x[1]),
        (-a, -x[0]),
        ((a - b)[2048:], (x[0] - x[1])[2048:]),
        (a[0:2048], x[0][:2048]),
        (received(a[2048:4096], key) + b[2048:4096], (x[0] + x[1])[2048:4096]),
    ):
        assert isinstance(got, Ciphertext)
        assert np.max(np.abs(key.decrypt(got) - expected)) <= key.public_key.error(got.header).bound
    with pytest.raises(UsageError, match="slice at multiples of 2048 numbers"):
        a[5:]
    with pytest.raises(UsageError, match="would be no secret"):
        a - a


def test_an_encryption_that_is_added_again_has_the_error_of_a_multiple(key: SecretKey) -> None:
    a = key.public_key.encrypt(np.zeros(2048), PLAN)
    total: Any = sum([a] * 100)
    error = key.public_key.error(total.header)
    assert error == key.public_key.error((a * 100).header)
    assert math.sqrt(np.mean(key.decrypt(total) ** 2)) == pytest.approx(error.measured, rel=0.2)


def test_ciphertexts_of_other_keys_and_contexts_are_not_added(
    key: SecretKey, keys: dict[str, SecretKey]
) -> None:
    a = key.public_key.encrypt([1.0], PLAN)
    with pytest.raises(UsageError, match="under key"):
        a += SecretKey.generate().public_key.encrypt([1.0], PLAN)
    with pytest.raises(UsageError, match="ckks/8192/256 to one of ckks/4096"):
        a += keys["8192/256"].public_key.encrypt([1.0], PLAN)


def received(ciphertext: Ciphertext, key: SecretKey) -> Ciphertext:
    return key.public_key.read_bytes(ciphertext.to_bytes())


@pytest.mark.parametrize("blocks", [2, 16, 17, 35])
@pytest.mark.parametrize("where", [(True, True), (True, False), (False, True)], ids=str)
def test_what_arrived_and_what_was_encrypted_here_are_added(
    blocks: int, where: tuple[bool, bool], keys: dict[str, SecretKey], rng: np.random.Generator
) -> None:
    key = keys["4096/symmetric"]
    x = rng.uniform(-10, 10, (2, 2048 * blocks - 5))
    a, b = (
        received(key.encrypt(v, PLAN), key) if w else key.encrypt(v, PLAN)
        for v, w in zip(x, where, strict=True)
    )
    total = a + b
    b += a
    total += received(b * 3, key)
    difference = key.decrypt(total.copy()) - 4 * x.sum(axis=0)
    assert np.max(np.abs(difference)) <= key.public_key.error(total.header).bound
    assert np.max(np.abs(key.decrypt(a) - x[0])) < NEAR


@pytest.mark.parametrize("arrived", [False, True])
@pytest.mark.parametrize("opens", [0, 2, 16, 18])
def test_a_sum_that_would_lie_open_is_refused_and_changes_nothing(
    opens: int, arrived: bool, keys: dict[str, SecretKey]
) -> None:
    key = keys["4096/symmetric"]
    x = np.linspace(-10, 10, 19 * 2048 - 9)
    a, other = key.encrypt(x, PLAN), key.encrypt(-x, PLAN)
    # The negative of one block alone: those before it have been added when it is found.
    other._vectors[opens] = (-1 * a)._vectors[opens]
    if arrived:
        a, other = received(a, key), received(other, key)
    with pytest.raises(UsageError, match="would be no secret"):
        a += other
    with pytest.raises(UsageError, match="would be no secret"):
        a + other
    assert np.max(np.abs(key.decrypt(a) - x)) < NEAR
    assert a.header.summands == 1
    assert np.max(np.abs(key.decrypt(a + key.encrypt(x, PLAN)) - 2 * x)) < NEAR


# Who holds what.


def test_a_public_key_comes_back_from_its_bytes_and_encrypts(key: SecretKey) -> None:
    there = PublicKey.from_bytes(key.public_key.to_bytes(), peer="bank")
    assert there.key_id == key.public_key.key_id
    assert there.measured == key.public_key.measured
    encrypted = there.encrypt([1.5, -2.5], PLAN)
    back = key.public_key.read_bytes(encrypted.to_bytes(), peer="client")
    assert np.max(np.abs(key.decrypt(back) - [1.5, -2.5])) < NEAR


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_ciphertexts_take_as_many_bytes_as_announced(name: str, keys: dict[str, SecretKey]) -> None:
    context = CONTEXTS[name]
    assert keys[name].public_key.to_message().polynomials.nbytes == context.public_key_bytes
    for length in (1, context.slots, context.slots + 1):
        blocks = keys[name].encrypt(np.zeros(length), PLAN).to_message().blocks
        assert blocks.nbytes == context.ciphertext_bytes(length)


def test_a_secret_key_has_no_bytes_to_send_and_shows_nothing(key: SecretKey) -> None:
    assert not hasattr(key, "to_bytes")
    assert "hidden" in repr(key)
    assert repr(key.to_message()) == "<SecretKeyMessage>"
    for refused in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled or copied"):
            refused(key)


@pytest.mark.parametrize("name", NAMES)
def test_what_leaves_a_key_holder_holds_no_secret(name: str, keys: dict[str, SecretKey]) -> None:
    assert not keys[name].public_key.loaded.data.is_private()
    for ciphertext in (keys[name].encrypt([1.0], PLAN), -3 * keys[name].encrypt([1.0], PLAN)):
        assert not ciphertext._vectors[0].context().is_private()


def test_under_a_symmetric_context_the_secret_key_alone_encrypts(keys: dict[str, SecretKey]) -> None:
    key = keys["4096/symmetric"]
    server = PublicKey.from_bytes(key.public_key.to_bytes())
    with pytest.raises(UsageError, match=r"use SecretKey\.encrypt"):
        server.encrypt([1.0], PLAN)
    received = [server.read_bytes(key.encrypt([v], PLAN).to_bytes()) for v in (1.0, 2.5)]
    total = key.public_key.read_bytes((received[0] + received[1]).to_bytes())
    assert np.max(np.abs(key.decrypt(total) - 3.5)) <= key.public_key.error(total.header).bound


@pytest.mark.parametrize("name", NAMES)
def test_secret_keys_are_kept_in_files(name: str, keys: dict[str, SecretKey], tmp_path: Any) -> None:
    encrypted = keys[name].encrypt([4.25], PLAN)
    key_files.save_secret(tmp_path / "key", keys[name])
    assert np.max(np.abs(key_files.load_secret(tmp_path / "key", SecretKey).decrypt(encrypted) - 4.25)) < NEAR


def test_secret_keys_that_do_not_belong_to_the_public_one_are_refused(key: SecretKey) -> None:
    message, other = key.to_message(), SecretKey.generate().to_message()
    with pytest.raises(WireError, match="do not belong together"):
        SecretKey.from_message(msgspec.structs.replace(message, polynomial=other.polynomial))
    for wrong in (message.polynomial[:1], message.polynomial.reshape(-1), message.public_key.polynomials):
        with pytest.raises(WireError, match="expected coefficients of shape"):
            SecretKey.from_message(msgspec.structs.replace(message, polynomial=wrong))
    with pytest.raises(WireError, match="cannot read the key"):
        SecretKey.from_message(msgspec.structs.replace(message, polynomial=~np.zeros((2, 4096), np.uint64)))


def with_polynomials(key: PublicKey, how: Any, **changes: Any) -> PublicKeyMessage:
    message = key.to_message()
    return msgspec.structs.replace(message, polynomials=how(message.polynomials.copy()), **changes)


def with_word(a: Any, index: tuple[int, ...], word: int) -> Any:
    a[index] = word
    return a


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda k: with_polynomials(k, lambda a: a[:, :1]), "expected polynomials of shape"),
        (lambda k: with_polynomials(k, lambda a: a[:, :, 1:]), "expected polynomials of shape"),
        (lambda k: with_polynomials(k, lambda a: a[:0]), "expected polynomials of shape"),
        (lambda k: with_polynomials(k, lambda a: a.reshape(-1)), "expected polynomials of shape"),
        (lambda k: with_polynomials(k, lambda a: with_word(a, (0, 0, 5), 1 << 48)), "cannot read the key"),
        (lambda k: with_polynomials(k, lambda a: with_word(a, (1, 1, 4095), 1 << 32)), "cannot read the key"),
        (lambda k: with_polynomials(k, np.bitwise_not), "cannot read the key"),
        (lambda k: with_polynomials(k, np.zeros_like), "would be no secret"),
        (lambda k: with_polynomials(k, lambda a: np.stack((a[0], a[1] * 0))), "would be no secret"),
        (lambda k: msgspec.structs.replace(k.to_message(), context="2048"), "one of 4096"),
        (lambda k: msgspec.structs.replace(k.to_message(), context="8192/256"), "of shape .2, 2, 8192."),
        (
            lambda k: msgspec.structs.replace(k.to_message(), context="4096/symmetric"),
            "of shape .0, 2, 4096.",
        ),
        (lambda k: msgspec.structs.replace(k.to_message(), key_nonce=b"x"), "key nonce of 32 bytes"),
        (lambda k: msgspec.structs.replace(k.to_message(), measured=math.nan), "an error of 0 to"),
        (lambda k: msgspec.structs.replace(k.to_message(), measured=1.0), "an error of 0 to"),
    ],
    ids=lambda value: value if isinstance(value, str) else "changed",
)
def test_malformed_public_keys_are_refused_and_named(change: Any, text: str, key: SecretKey) -> None:
    with pytest.raises(WireError, match=f"a CKKS key from bank: .*{text}") as refusal:
        PublicKey.from_message(change(key.public_key), peer="bank")
    assert refusal.value.peer == "bank"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_coefficients_of_a_peers_reaches_tenseal(
    name: str, keys: dict[str, SecretKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What TenSEAL reads of a key or ciphertext has the same bytes around the coefficients whoever sent it.
    native = keys[name].public_key.native
    read: list[bytes] = []
    theirs = tenseal.context_from

    def reading(data: bytes, n: int) -> Any:
        read.append(data)
        return theirs(data, n)

    monkeypatch.setattr(tenseal, "context_from", reading)
    other = SecretKey.generate(CONTEXTS[name])
    for key in (keys[name].public_key, other.public_key):
        PublicKey.from_bytes(key.to_bytes(), peer="bank")
    size = CONTEXTS[name].public_key_bytes
    first, second = read[-2:]
    assert len(first) == len(second) < size + 500
    start = first.index(native.public_key.fields) + len(native.public_key.fields) if size else 0
    assert first[:start] == second[:start]
    assert first[start + size :] == second[start + size :]
    blocks = unpacked(keys[name].encrypt(np.zeros(5), PLAN).to_message().blocks, CONTEXTS[name])
    data = b"".join(native.vector_bytes(blocks))
    assert data.count(blocks[0].tobytes()) == 1
    assert data.replace(blocks[0].tobytes(), b"") == b"".join(native.vector_bytes(blocks * 0)).replace(
        bytes(blocks[0].nbytes), b""
    )


def test_the_id_depends_on_all_that_a_public_key_says(key: SecretKey) -> None:
    message = key.public_key.to_message()
    for changes in ({"key_nonce": bytes(32)}, {"measured": message.measured * 2}):
        other = PublicKey.from_message(msgspec.structs.replace(message, **changes))
        assert other.key_id != key.public_key.key_id


# What arrives.


def garbled(message: CiphertextMessage, how: Any) -> CiphertextMessage:
    """Return the message with other coefficients, which are below 2^48 and need not lie below the prime."""
    blocks = how(unpacked(message.blocks, CONTEXTS["4096"])) & np.uint64((1 << 48) - 1)
    return msgspec.structs.replace(message, blocks=packed(blocks, CONTEXTS["4096"]))


def header_with(message: CiphertextMessage, **changes: Any) -> CiphertextMessage:
    return msgspec.structs.replace(message, header=msgspec.structs.replace(message.header, **changes))


BIG = (1 << 40, 1 << 40)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: garbled(m, lambda a: a | np.uint64((1 << 48) - 1)), "cannot be read"),
        (lambda m: garbled(m, lambda a: with_word(a, (1, 0, 0, 7), (1 << 48) - 1)), "cannot be read"),
        (lambda m: garbled(m, np.zeros_like), "its second polynomial is 0"),
        (lambda m: garbled(m, lambda a: with_word(a, (1, 1), 0)), "its second polynomial is 0"),
        (lambda m: msgspec.structs.replace(m, blocks=m.blocks[:1]), "expected blocks of shape"),
        (lambda m: msgspec.structs.replace(m, blocks=m.blocks[:, 1:]), "expected blocks of shape"),
        (lambda m: msgspec.structs.replace(m, blocks=m.blocks.view(np.uint64)), "expected blocks of shape"),
        (lambda m: msgspec.structs.replace(m, blocks=m.blocks.view(np.int8)), "of int8"),
        (lambda m: header_with(m, shape=(2048,)), "for 2048 numbers"),
        (lambda m: header_with(m, shape=BIG), "expected blocks of shape"),
        (lambda m: header_with(m, shape=(2, 0)), "nothing to encrypt"),
        (lambda m: header_with(m, key_id=bytes(32)), "expected a ciphertext under key"),
        (lambda m: header_with(m, scheme="ckks/8192/256"), "one of 'ckks/8192/256'"),
        (lambda m: header_with(m, summands=2), "2 summands weigh no less"),
        (
            lambda m: header_with(m, plan=msgspec.structs.replace(m.header.plan, parties=700)),
            "has room for sums of weight",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "changed",
)
def test_malformed_ciphertexts_are_refused_and_named(change: Any, text: str, key: SecretKey) -> None:
    message = key.public_key.encrypt(np.ones(3000), PLAN).to_message()
    with pytest.raises(WireError, match=f"a CKKS ciphertext from client: .*{text}") as refusal:
        key.public_key.read(change(message), peer="client")
    assert refusal.value.peer == "client"


def test_every_block_that_arrives_is_checked(keys: dict[str, SecretKey]) -> None:
    message = keys["4096/symmetric"].encrypt(np.ones(2048 * 18), PLAN).to_message()
    for row in (0, 1, 15, 16, 17):
        changed = garbled(message, lambda a, row=row: with_word(a, (row, 0, 0, 4095), (1 << 64) - 1))
        with pytest.raises(WireError, match="cannot be read"):
            keys["4096/symmetric"].public_key.read(changed, peer="client")


def test_a_flipped_bit_goes_unseen_inside_of_polynomials_and_decrypts_to_noise(
    key: SecretKey, rng: np.random.Generator
) -> None:
    message = key.public_key.encrypt(np.ones(2048), PLAN).to_message()
    for _ in range(50):
        place, bit = tuple(map(int, rng.integers((1, 2, 1, 4096)))), 1 << int(rng.integers(38))
        changed = garbled(message, lambda a, p=place, b=bit: with_word(a, p, int(a[p]) ^ b))
        # All but 2^-10 of the words below the prime stay below it.
        received = key.public_key.read(changed, peer="client")
        with pytest.raises(RangeError):  # it decrypts to noise all over the modulus
            key.decrypt(received)


@pytest.mark.parametrize("name", NAMES)
def test_coefficients_come_back_from_their_bytes(name: str, rng: np.random.Generator) -> None:
    context = CONTEXTS[name]
    primes = context.prime_bits[:-1]
    blocks = np.stack(
        [rng.integers(0, 1 << bits, (3, 2, context.degree), np.uint64) for bits in primes], axis=2
    )
    octets = packed(blocks, context)
    assert octets.shape == (3, 2, context.polynomial_bytes)
    np.testing.assert_array_equal(unpacked(octets, context), blocks)
    whole = sum(int(c) << primes[0] * i for i, c in enumerate(blocks[1, 1, 0]))  # the first lies lowest
    assert octets[1, 1, : context.degree * primes[0] // 8].tobytes() == whole.to_bytes(
        context.degree * primes[0] // 8, "little"
    )
    blocks[2, 0, -1, 5] = 1 << primes[-1]
    with pytest.raises(RangeError):
        packed(blocks, context)


def test_sums_that_are_larger_than_their_header_allows_are_noticed_in_decryption(key: SecretKey) -> None:
    message = (key.public_key.encrypt([10.0], PLAN) * 3).to_message()
    lie = key.public_key.read(header_with(message, weight=2))
    with pytest.raises(RangeError, match="no sum of weight 2"):
        key.decrypt(lie)


def test_ciphertexts_of_other_schemes_are_not_decrypted(key: SecretKey, keys: dict[str, SecretKey]) -> None:
    with pytest.raises(UsageError, match="expected a ciphertext of ckks/4096"):
        key.decrypt(keys["8192/256"].encrypt([1.0], PLAN))


# What the errors in a sum tell its holder.


N, SLOTS = 4096, 2048
POWERS = [pow(3, i, 2 * N) for i in range(SLOTS)]  # slot i is the value at the root of unity of this number


def encoding_errors(units: Any) -> Any:
    """Return what rounding coefficients of these numbers adds to them, in units of the scale, shape (blocks, slots)."""
    at_roots = np.zeros((len(units), 2 * N))
    at_roots[:, POWERS] = units
    coefficients = (2 / N) * np.fft.fft(at_roots).real[:, :N]
    return np.fft.fft(np.rint(coefficients) - coefficients, 2 * N).real[:, POWERS]


def separation(add: Any, key: SecretKey, plan: Plan, rng: np.random.Generator) -> float:
    """Return the deviations by which sums of two known candidate pairs with one total are told apart.

    The holder of the key knows the total and both pairs, computes the roundings of each, and compares the error with
    both. Without any information the result is normal around 0 with deviation 1.
    """
    blocks = 200

    def grid() -> Any:  # numbers with few places, as data have
        return np.round(rng.uniform(-1, 1, (blocks, 2048)) * 2**12) / 2**12

    scale = math.ldexp(1.0, 40 + key.public_key.context.unit_bits(plan.clip))
    total, x, other = grid(), grid(), grid()
    error = (add(x, total - x) - total) * scale
    mine, theirs = (encoding_errors(a * scale) + encoding_errors((total - a) * scale) for a in (x, other))
    u = mine - theirs
    return float(np.sum((error - (mine + theirs) / 2) * u) / (np.std(error) * np.linalg.norm(u)))


@pytest.mark.slow
def test_the_key_holder_cannot_tell_by_the_errors_which_of_two_updates_was_sent(
    key: SecretKey, rng: np.random.Generator
) -> None:
    plan = Plan(bits=64, frac_bits=0, clip=2.0, parties=3)

    def add(a: Any, b: Any) -> Any:
        return key.decrypt(key.encrypt(a, plan) + key.encrypt(b, plan))

    def add_without_hiding(a: Any, b: Any) -> Any:
        unit = math.ldexp(1.0, key.public_key.context.unit_bits(plan.clip))
        public = key.public_key.loaded.data
        rows = [
            [tenseal.CKKSVector(data=tenseal._ts_cpp.CKKSVector(public, (row * unit).tolist())) for row in x]
            for x in (a, b)
        ]
        return (
            np.array([(one + two).data.decrypt(key._secret) for one, two in zip(*rows, strict=True)]) / unit
        )

    # The same statistic finds the roundings where nothing hides them: by 11 deviations. Either fails by chance with a
    # probability below 2^-20: it is 5 deviations from what is expected.
    assert separation(add_without_hiding, key, plan, rng) > 5
    assert abs(separation(add, key, plan, rng)) < 5


def test_roundings_of_hidden_numbers_sum_up_like_those_of_others_with_the_same_sum() -> None:
    # The law of round(c + g) + round(-c + g'), g and g' normal of the least deviation in use, for all fractions c.
    deviation = 3.0
    support = np.arange(-40, 41)

    def rounded(c: float) -> Any:
        edges = (np.append(support, 41) - 0.5 - c) / (deviation * math.sqrt(2))
        return np.diff([math.erf(edge) for edge in edges])

    laws = [np.convolve(rounded(c), rounded(-c)) for c in np.linspace(0, 1, 33)]
    assert max(np.max(np.abs(law - laws[0])) for law in laws) < 1e-15
    # Without enough noise it shows: the test would see 2^-20.
    deviation = 1.0
    laws = [np.convolve(rounded(c), rounded(-c)) for c in np.linspace(0, 1, 33)]
    assert max(np.max(np.abs(law - laws[0])) for law in laws) > 2.0**-20


def test_hiding_is_normal_in_every_slot_of_every_block_and_fresh(
    key: SecretKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, native = [], tenseal._ts_cpp.CKKSVector

    class Recorded:
        def __new__(cls, context: Any, numbers: Any) -> Any:
            seen.append(numbers)
            return native(context, numbers)

    monkeypatch.setattr("secagg.he.ckks.keys._tenseal.CKKSVector", Recorded)
    for _ in range(2):
        key.encrypt(np.zeros(2049), PLAN)
    noise = np.array(seen) * 2.0**40 / 192  # 3 sqrt(4096) units of 2^-40
    assert noise.shape == (4, 2048)
    assert len(np.unique(noise)) == noise.size
    # 8,192 normal numbers: mean within 5.5 and mean square within 4.5 of their deviations; a tail beyond 3.
    assert abs(noise.mean()) < 0.06
    assert abs(np.mean(noise**2) - 1) < 0.07
    assert 5 < np.sum(np.abs(noise) > 3) < 50
    assert np.max(np.abs(np.corrcoef(noise) - np.eye(4))) < 0.13


# Forked processes.


@pytest.mark.slow
def test_a_forked_child_may_use_and_free_keys_and_end(keys: dict[str, SecretKey]) -> None:
    script = """
import gc, os, signal, sys
import numpy as np
from secagg.he.ckks import SecretKey
from secagg.fixed_point import Plan
import secagg
plan = Plan(64, 0, 1.0, 10)
secagg.sum([np.ones(3)] * 3, clip=1.0, protocol="ckks")
key = SecretKey.generate()
sent = key.encrypt(np.ones(3), plan)
end = sys.argv[1]
child = os.fork()
if child == 0:
    signal.alarm(60)
    first = key.encrypt(np.ones(3), plan).to_message().blocks
    assert np.max(np.abs(key.decrypt(sent + sent) - 2)) < 1e-3
    other = SecretKey.generate()
    del key, sent, other
    gc.collect()
    if end == "exit":
        sys.exit(0)
    os._exit(0)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    for end in ("exit", "_exit"):
        done = subprocess.run(
            [sys.executable, "-c", script, end], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr


def test_parent_and_forked_child_do_not_encrypt_alike(key: SecretKey) -> None:
    read, write = os.pipe()
    child = os.fork()
    mine = key.encrypt([1.0], PLAN).to_message().blocks[0, :, :24].copy()
    if child == 0:
        os.write(write, mine.tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = np.frombuffer(os.read(read, mine.nbytes), np.uint8).reshape(mine.shape)
    os.close(read)
    os.close(write)
    assert not np.any(mine.view("V6") == theirs.view("V6"))


# Why decryptions are not to be shared.


def test_two_decryptions_in_full_give_the_key_away(key: SecretKey, rng: np.random.Generator) -> None:
    # TenSEAL decrypts to the real parts of m = c0 + c1 s, that is, to t = m + m' where ' exchanges conjugate roots.
    # At roots i and i' two ciphertexts give two equations c1_i s_i + c1_i' s_i' = t_i - c0_i - c0_i' modulo q.
    q = next(p for p in range((1 << 48) + 1 - 8192, 0, -8192) if pow(3, p - 1, p) == 1 == pow(2, p - 1, p))
    n = 4096

    def equations() -> tuple[list[int], list[int]]:
        """Return the coefficients c1 and the right sides, from a ciphertext and what the key holder showed."""
        ciphertext = key.public_key.encrypt(rng.uniform(-1, 1, n // 2), PLAN)
        shown = np.ldexp(key.decrypt(ciphertext), key.public_key.context.unit_bits(PLAN.clip))
        (pair,) = ciphertext._vectors[0].ciphertext()
        (less,) = ciphertext._vectors[0].add_plain((-2 * shown).tolist()).ciphertext()
        # In SEAL's order of roots the conjugate of root i is root n - 1 - i.
        return [pair[n + i] for i in range(n)], [(-less[i] - pair[n - 1 - i]) % q for i in range(n)]

    (a, x), (b, y), (c, z) = equations(), equations(), equations()
    secret = []
    for i in range(n):
        j = n - 1 - i
        secret.append((x[i] * b[j] - y[i] * a[j]) * pow(a[i] * b[j] - b[i] * a[j], -1, q) % q)
    # The key found from two decryptions decrypts a third ciphertext.
    assert all((c[i] * secret[i] + c[n - 1 - i] * secret[n - 1 - i] - z[i]) % q == 0 for i in range(n))


def test_headers_of_the_error_bound_count_the_squares_of_factors() -> None:
    context = CONTEXTS["4096"]

    def bound(summands: int, weight: int) -> float:
        return context.error_bound(Header("ckks/4096", bytes(32), PLAN, (10,), summands, weight))

    assert bound(1, 1) < bound(4, 4) < 4 * bound(1, 1)
    assert bound(4, 4) < bound(1, 4) == pytest.approx(4 * bound(1, 1))
