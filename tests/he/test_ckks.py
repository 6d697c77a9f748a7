"""CKKS: sums within their stated error, keys in the right hands, and refusals of what is malformed."""

from __future__ import annotations

import copy
import importlib
import math
import pickle
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="CKKS needs TenSEAL")

import msgspec
import tenseal

from secagg import fixed_point
from secagg.errors import PlanError, RangeError, RemoteProtocolError, ShapeError, UsageError, WireError
from secagg.fixed_point import Plan
from secagg.he import key_files
from secagg.he.ckks import CONTEXTS, Ciphertext, Context, PublicKey, SecretKey
from secagg.he.ckks.ciphertexts import CiphertextMessage
from secagg.he.ckks.keys import PublicKeyMessage
from secagg.he.scheme import Header

PLAN = Plan(bits=64, frac_bits=20, clip=10.0, parties=1000, max_weight=50)
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
    symmetric: bool = False, degree: int = 4096, primes: tuple[int, ...] = (60, 49), scale: int = 40
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
        "8192/wide": 128,
    }
    with pytest.raises(PlanError, match="less than 128 bits of security at degree 4096"):
        Context("large", 4096, (60, 50), 40)
    with pytest.raises(PlanError, match="at degree 2048"):
        Context("small", 2048, (27, 27), 20)


def test_default_is_4096_with_primes_of_60_and_49_bits_at_2_to_the_40(key: SecretKey) -> None:
    default = SecretKey.generate().public_key.context
    assert default is CONTEXTS["4096"]
    assert (default.degree, default.prime_bits, default.scale_bits) == (4096, (60, 49), 40)
    assert key.public_key.scheme == "ckks/4096"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parties", [1, 2, 3])
def test_the_largest_plan_that_is_taken_decodes_at_its_borders(
    name: str, parties: int, keys: dict[str, SecretKey]
) -> None:
    context = CONTEXTS[name]
    whole = 2.0 ** (context.modulus_bits - 1 - context.scale_bits)
    clip = whole / max(2, parties) * (1 - 2.0**-17)
    plan = Plan(bits=64, frac_bits=0, clip=clip, parties=parties)
    largest = np.full((3, context.slots), clip)  # one coefficient holds all
    largest[1] *= -1
    largest[2, ::2] *= -1
    total = keys[name].encrypt(largest, plan)
    for _ in range(parties - 1):
        total += keys[name].encrypt(largest, plan)
    errors = keys[name].decrypt(total) - parties * largest
    assert np.max(np.abs(errors)) <= keys[name].public_key.error(total.header).bound
    with pytest.raises(PlanError, match=f"{name} has room for sums below"):
        keys[name].encrypt(largest, Plan(bits=64, frac_bits=0, clip=clip * (1 + 2.0**-16), parties=parties))


def test_what_the_plan_refuses_would_indeed_decode_wrong() -> None:
    context = raw()
    almost = [2.0**17 * 1.01] * 2048
    total = tenseal.ckks_vector(context, almost)
    for _ in range(3):
        total += tenseal.ckks_vector(context, almost)
    assert total.decrypt()[0] < 0
    with pytest.raises(PlanError):
        CONTEXTS["4096"].check_plan(Plan(bits=64, frac_bits=0, clip=almost[0], parties=4))


def test_the_refusal_of_a_plan_names_a_clip_that_fits() -> None:
    with pytest.raises(PlanError, match="use a clip below") as refusal:
        CONTEXTS["4096"].check_plan(Plan(bits=64, frac_bits=0, clip=1e6, parties=100, max_weight=7))
    clip = float(str(refusal.value).split("a clip below ")[1].split(",")[0])
    CONTEXTS["4096"].check_plan(Plan(bits=64, frac_bits=0, clip=clip * 0.9999, parties=100, max_weight=7))


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
    assert np.max(np.abs(key.decrypt(key.public_key.encrypt(x, PLAN)) - x)) < 1e-6


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
        key.public_key.encrypt([1.0], PLAN, weight=50_001)


def test_output_is_clean(key: SecretKey, capfd: pytest.CaptureFixture[str]) -> None:
    encrypted = SecretKey.generate().public_key.encrypt(np.zeros(9000), PLAN)
    Ciphertext.from_bytes((encrypted + encrypted).to_bytes(), encrypted.public_key)
    key.decrypt(key.public_key.encrypt(np.zeros(9000), PLAN))
    assert capfd.readouterr() == ("", "")


# Sums and their error.


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
        measured = keys[name].public_key.measured * 2.0**40
        # 2048 products of two normal deviates: 0.2 is more than 6 deviations of the mean square.
        assert measured == pytest.approx(math.sqrt(variance + 4096 / 24), rel=0.2)


def test_equal_arrays_whose_rounding_errors_add_up_are_within_the_bound(key: SecretKey) -> None:
    x = np.full(2048, 2.0**-41)  # lost when coefficients are rounded
    total = key.public_key.encrypt(x, PLAN) * 10_000
    error = key.public_key.error(total.header)
    assert np.max(np.abs(key.decrypt(total) - 10_000 * x)) <= error.bound


@pytest.mark.parametrize("factor", [1, -1, 2, 3, -6, 7, 1000, 2**14, -(2**15) + 1])
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
    assert np.max(np.abs(keys[name].decrypt(encrypted) - x)) < 1e-6


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
        assert np.max(np.abs(key.decrypt(ciphertext) - numbers)) < 1e-6


def test_ciphertexts_of_other_keys_and_contexts_are_not_added(
    key: SecretKey, keys: dict[str, SecretKey]
) -> None:
    a = key.public_key.encrypt([1.0], PLAN)
    with pytest.raises(UsageError, match="under key"):
        a += SecretKey.generate().public_key.encrypt([1.0], PLAN)
    with pytest.raises(UsageError, match="ckks/8192/256 to one of ckks/4096"):
        a += keys["8192/256"].public_key.encrypt([1.0], PLAN)


def received(ciphertext: Ciphertext) -> Ciphertext:
    return Ciphertext.from_bytes(ciphertext.to_bytes(), ciphertext.public_key)


@pytest.mark.parametrize("blocks", [2, 16, 17, 35])
@pytest.mark.parametrize("where", [(True, True), (True, False), (False, True)], ids=str)
def test_what_arrived_and_what_was_encrypted_here_are_added(
    blocks: int, where: tuple[bool, bool], keys: dict[str, SecretKey], rng: np.random.Generator
) -> None:
    key = keys["4096/symmetric"]
    x = rng.uniform(-10, 10, (2, 2048 * blocks - 5))
    a, b = (
        received(key.encrypt(v, PLAN)) if w else key.encrypt(v, PLAN) for v, w in zip(x, where, strict=True)
    )
    total = a + b
    b += a
    total += received(b * 3)
    difference = key.decrypt(total.copy()) - 4 * x.sum(axis=0)
    assert np.max(np.abs(difference)) <= key.public_key.error(total.header).bound
    assert np.max(np.abs(key.decrypt(a) - x[0])) < 1e-6


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
        a, other = received(a), received(other)
    with pytest.raises(UsageError, match="would be no secret"):
        a += other
    with pytest.raises(UsageError, match="would be no secret"):
        a + other
    assert np.max(np.abs(key.decrypt(a) - x)) < 1e-6
    assert a.header.summands == 1
    assert np.max(np.abs(key.decrypt(a + key.encrypt(x, PLAN)) - 2 * x)) < 1e-6


# Who holds what.


def test_a_public_key_comes_back_from_its_bytes_and_encrypts(key: SecretKey) -> None:
    there = PublicKey.from_bytes(key.public_key.to_bytes(), peer="bank")
    assert there.key_id == key.public_key.key_id
    assert there.measured == key.public_key.measured
    encrypted = there.encrypt([1.5, -2.5], PLAN)
    back = Ciphertext.from_bytes(encrypted.to_bytes(), key.public_key, peer="client")
    assert np.max(np.abs(key.decrypt(back) - [1.5, -2.5])) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_ciphertexts_take_as_many_bytes_as_announced(name: str, keys: dict[str, SecretKey]) -> None:
    context = CONTEXTS[name]
    assert keys[name].public_key.to_message().block.nbytes == context.public_key_bytes
    for length in (1, context.slots, context.slots + 1):
        blocks = keys[name].encrypt(np.zeros(length), PLAN).to_message().blocks
        assert blocks.nbytes == context.ciphertext_bytes(length)


def with_block(key: PublicKey, block: bytes, **changes: Any) -> PublicKeyMessage:
    message = key.to_message()
    row = np.zeros(message.block.shape, np.uint8)
    row[: len(block)] = np.frombuffer(block, np.uint8)[: row.size]
    return msgspec.structs.replace(message, length=len(block), block=row, **changes)


@pytest.mark.parametrize("name", ["4096", "4096/symmetric"])
def test_a_public_key_with_a_secret_key_in_it_is_refused(name: str, keys: dict[str, SecretKey]) -> None:
    # Without the public part, it fits where the public one should be.
    block = raw(symmetric=name != "4096")
    block.auto_mod_switch = False
    private = block.serialize(False, True, False, False)
    with pytest.raises(
        RemoteProtocolError, match=r"bank: there is a secret key in it.*replace the key"
    ) as refusal:
        PublicKey.from_message(with_block(keys[name].public_key, private), peer="bank")
    assert refusal.value.peer == "bank"


def test_a_secret_key_has_no_bytes_to_send_and_shows_nothing(key: SecretKey) -> None:
    assert not hasattr(key, "to_bytes")
    assert "hidden" in repr(key)
    assert repr(key.to_message()) == "<SecretKeyMessage>"
    for refused in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled or copied"):
            refused(key)


@pytest.mark.parametrize("name", NAMES)
def test_what_leaves_a_key_holder_holds_no_secret(name: str, keys: dict[str, SecretKey]) -> None:
    assert not keys[name].public_key._data.is_private()
    for ciphertext in (keys[name].encrypt([1.0], PLAN), -3 * keys[name].encrypt([1.0], PLAN)):
        assert not ciphertext._vectors[0].context().is_private()


def test_under_a_symmetric_context_the_secret_key_alone_encrypts(keys: dict[str, SecretKey]) -> None:
    key = keys["4096/symmetric"]
    server = PublicKey.from_bytes(key.public_key.to_bytes())
    with pytest.raises(UsageError, match=r"use SecretKey\.encrypt"):
        server.encrypt([1.0], PLAN)
    received = [Ciphertext.from_bytes(key.encrypt([v], PLAN).to_bytes(), server) for v in (1.0, 2.5)]
    total = Ciphertext.from_bytes((received[0] + received[1]).to_bytes(), key.public_key)
    assert np.max(np.abs(key.decrypt(total) - 3.5)) <= key.public_key.error(total.header).bound


@pytest.mark.parametrize("name", NAMES)
def test_secret_keys_are_kept_in_files(name: str, keys: dict[str, SecretKey], tmp_path: Any) -> None:
    encrypted = keys[name].encrypt([4.25], PLAN)
    key_files.save_secret(tmp_path / "key", keys[name])
    assert np.max(np.abs(key_files.load_secret(tmp_path / "key", SecretKey).decrypt(encrypted) - 4.25)) < 1e-6


def test_secret_keys_that_do_not_belong_to_the_public_one_are_refused(key: SecretKey) -> None:
    message, other = key.to_message(), SecretKey.generate().to_message()
    with pytest.raises(WireError, match="do not belong together"):
        SecretKey.from_message(msgspec.structs.replace(message, block=other.block))
    public = np.frombuffer(key.public_key._block, np.uint8)
    with pytest.raises(WireError, match="expected a secret key, got a public one"):
        SecretKey.from_message(msgspec.structs.replace(message, block=public))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda k: with_block(k, raw(primes=(60, 40)).serialize(True, False, False, False)), "got others"),
        (lambda k: with_block(k, raw(scale=41).serialize(True, False, False, False)), "got others"),
        (lambda k: with_block(k, raw(symmetric=True).serialize(False, False, False, False)), "got others"),
        (lambda k: with_block(k, k._data.serialize(False, False, False, False)), "no public key in it"),
        (lambda k: with_block(k, k._block[:-500]), "cannot read the key"),
        (lambda k: with_block(k, b"\xff" * 1000), "cannot read the key"),
        (lambda k: with_block(k, b""), "expected 0 bytes"),
        (lambda k: with_block(k, k._block, context="2048"), "expected a context of CKKS, one of 4096"),
        (lambda k: with_block(k, k._block, context="8192/256"), "expected 264192 bytes"),
        (lambda k: with_block(k, k._block, mark=b"x"), "mark of 32 bytes"),
        (lambda k: with_block(k, k._block, measured=math.nan), "a positive error"),
        (lambda k: msgspec.structs.replace(k.to_message(), length=k.to_message().length - 1), "zeros up to"),
        (lambda k: msgspec.structs.replace(k.to_message(), length=-1), "expected -1 bytes"),
    ],
    ids=[
        "primes",
        "scale",
        "kind",
        "no key",
        "cut",
        "noise",
        "empty",
        "name",
        "context",
        "mark",
        "error",
        "tail",
        "-1",
    ],
)
def test_malformed_public_keys_are_refused_and_named(change: Any, text: str, key: SecretKey) -> None:
    with pytest.raises(WireError, match=f"a CKKS key from bank: .*{text}") as refusal:
        PublicKey.from_message(change(key.public_key), peer="bank")
    assert refusal.value.peer == "bank"


def test_the_id_depends_on_all_that_a_public_key_says(key: SecretKey) -> None:
    message = key.public_key.to_message()
    for changes in ({"mark": bytes(32)}, {"measured": message.measured * 2}):
        other = PublicKey.from_message(msgspec.structs.replace(message, **changes))
        assert other.key_id != key.public_key.key_id


# What arrives.


def replaced(message: CiphertextMessage, data: bytes, row: int = 0) -> CiphertextMessage:
    """Return the message with another first block."""
    blocks = message.blocks.copy()
    blocks[row] = 0
    blocks[row, : len(data)] = np.frombuffer(data, np.uint8)
    return msgspec.structs.replace(message, blocks=blocks)


def first(message: CiphertextMessage) -> bytes:
    return message.blocks[0, : int.from_bytes(message.blocks[0, 8:16].tobytes(), "little")].tobytes()


def of_length(data: bytes, nbytes: int) -> bytes:
    """Return a block that says that it is so long."""
    return data[:8] + nbytes.to_bytes(8, "little") + data[16:]


def inside(vector: bytes) -> bytes:
    """Return SEAL's part of TenSEAL's bytes of a vector of one block."""
    return vector[vector.index(b"\x5e\xa1\x10") : -9]


def header_with(message: CiphertextMessage, **changes: Any) -> CiphertextMessage:
    return msgspec.structs.replace(message, header=msgspec.structs.replace(message.header, **changes))


BIG = (1 << 40, 1 << 40)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: replaced(m, first(m)[:30_000]), r"its form is .* True\)"),
        (lambda m: replaced(m, first(m)[:1]), "nothing that SEAL wrote"),
        (lambda m: replaced(m, b""), "nothing that SEAL wrote"),
        (lambda m: replaced(m, first(m) + b"\x01"), "zeros up to"),
        (lambda m: replaced(m, first(m) + b"\x7a\x01a"), "zeros up to"),
        (lambda m: replaced(m, of_length(first(m), len(first(m)) - 1)), "zeros up to|cannot be read"),
        (lambda m: replaced(m, of_length(first(m), 30_000)), "zeros up to"),
        (lambda m: replaced(m, of_length(first(m)[:30_000], 30_000)), "cannot be read"),
        (lambda m: replaced(m, of_length(first(m)[:16], 16)), "cannot be read"),
        (lambda m: replaced(m, of_length(first(m), 0)), "expected 0 bytes"),
        (lambda m: replaced(m, of_length(first(m), m.blocks.shape[1] + 1)), "expected 66049 bytes"),
        (lambda m: replaced(m, of_length(first(m), (1 << 64) - 1)), "expected 18446744073709551615"),
        (lambda m: replaced(m, first(m)[:28] + bytes(40) + first(m)[68:]), "cannot be read"),
        (lambda m: msgspec.structs.replace(m, blocks=m.blocks[:1]), "expected blocks of shape"),
        (lambda m: msgspec.structs.replace(m, blocks=m.blocks[:, 1:]), "expected blocks of shape"),
        (lambda m: header_with(m, shape=(2048,)), "for 2048 numbers"),
        (lambda m: header_with(m, shape=BIG), "expected blocks of shape"),
        (lambda m: header_with(m, shape=(2, 0)), "nothing to encrypt"),
        (lambda m: header_with(m, key_id=bytes(32)), "expected a ciphertext under key"),
        (lambda m: header_with(m, scheme="ckks/8192/256"), "one of ckks/8192/256"),
        (lambda m: header_with(m, summands=2), "2 summands weigh no less"),
        (
            lambda m: header_with(m, plan=msgspec.structs.replace(m.header.plan, clip=1e6)),
            "has room for sums below",
        ),
    ],
    ids=str,
)
def test_malformed_ciphertexts_are_refused_and_named(change: Any, text: str, key: SecretKey) -> None:
    message = key.public_key.encrypt(np.ones(3000), PLAN).to_message()
    with pytest.raises(WireError, match=f"a CKKS ciphertext from client: .*{text}") as refusal:
        Ciphertext.from_message(change(message), key.public_key, peer="client")
    assert refusal.value.peer == "client"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda: raw(degree=4096, primes=(60, 40)), None),
        (lambda: raw(degree=4096, primes=(59, 49)), "cannot be read"),
        (lambda: raw(degree=8192, primes=(60, 58)), "cannot be read|expected [0-9]* bytes"),
        (lambda: raw(degree=8192, primes=(60, 60, 60)), "cannot be read|expected [0-9]* bytes"),
    ],
    ids=["another key prime", "another prime", "another degree", "more primes"],
)
def test_ciphertexts_of_other_parameters_are_refused(change: Any, text: str | None, key: SecretKey) -> None:
    message = key.public_key.encrypt(np.ones(2048), PLAN).to_message()
    data = inside(tenseal.ckks_vector(change(), np.ones(2048)).serialize())
    if len(data) > message.blocks.shape[1]:
        data = data[: message.blocks.shape[1]]
    if (
        text is None
    ):  # a ciphertext modulo the same prime is one under this context: no more can be seen of it
        Ciphertext.from_message(replaced(message, data), key.public_key)
        return
    with pytest.raises(WireError, match=text):
        Ciphertext.from_message(replaced(message, data), key.public_key, peer="client")


def test_ciphertexts_of_a_lower_level_are_refused(keys: dict[str, SecretKey]) -> None:
    key = keys["8192/wide"]
    message = key.public_key.encrypt(np.ones(4096), PLAN).to_message()
    vector = tenseal.ckks_vector(raw(degree=8192, primes=(60, 60, 60)), np.ones(4096), scale=2.0**20)
    vector.mul_(1.0)  # and rescaled: one of two primes is left
    with pytest.raises(WireError, match=r"its form is \(2, 1, "):
        Ciphertext.from_message(replaced(message, inside(vector.serialize())), key.public_key, peer="client")


def test_ciphertexts_at_another_scale_are_refused(key: SecretKey) -> None:
    message = key.public_key.encrypt(np.ones(2048), PLAN).to_message()
    data = inside(tenseal.ckks_vector(raw(scale=41), np.ones(2048)).serialize())
    with pytest.raises(WireError, match=r"its form is \(2, 1, 2199023255552.0, True, False\)"):
        Ciphertext.from_message(replaced(message, data), key.public_key, peer="client")


def test_ciphertexts_that_lie_open_are_refused(key: SecretKey) -> None:
    message = key.public_key.encrypt(np.ones(2048), PLAN).to_message()
    vector = key.public_key.encrypt(np.ones(2048), PLAN)._vectors[0]
    with pytest.raises(RuntimeError, match="transparent"):
        vector.sub_(vector)  # refused, and done
    with pytest.raises(WireError, match=r"its form is .* True\)"):
        Ciphertext.from_message(replaced(message, inside(vector.serialize())), key.public_key, peer="client")


def test_every_block_that_arrives_is_checked(keys: dict[str, SecretKey]) -> None:
    message = keys["4096/symmetric"].encrypt(np.ones(2048 * 18), PLAN).to_message()
    for row in (0, 1, 15, 16, 17):
        data = message.blocks[row].tobytes()
        changed = replaced(message, data[:28] + bytes(40) + data[68:], row)
        with pytest.raises(WireError, match="cannot be read"):
            Ciphertext.from_message(changed, keys["4096/symmetric"].public_key, peer="client")


def test_flipped_bits_are_refused_or_go_unseen_inside_of_polynomials_and_nothing_else(
    key: SecretKey, rng: np.random.Generator
) -> None:
    message = key.public_key.encrypt(np.ones(2048), PLAN).to_message()
    good, refused, unseen = first(message), 0, 0
    for trial in range(400):
        data = bytearray(good)
        data[int(rng.integers(len(data) if trial % 2 else 200))] ^= 1 << int(rng.integers(8))
        try:
            changed = Ciphertext.from_message(replaced(message, bytes(data)), key.public_key, peer="client")
        except WireError:
            refused += 1
            continue
        try:
            # A bit of SEAL's form that says nothing, such as its version.
            assert np.max(np.abs(key.decrypt(changed) - 1)) < 1e-6
        except RangeError:
            unseen += 1  # on the way; it decrypts to noise all over the modulus
    assert refused > 50
    assert unseen > 50


def test_sums_that_are_larger_than_their_header_allows_are_noticed_in_decryption(key: SecretKey) -> None:
    message = (key.public_key.encrypt([10.0], PLAN) * 3).to_message()
    lie = Ciphertext.from_message(header_with(message, weight=2), key.public_key)
    with pytest.raises(RangeError, match="no sum of weight 2"):
        key.decrypt(lie)


def test_ciphertexts_of_other_schemes_are_not_decrypted(key: SecretKey, keys: dict[str, SecretKey]) -> None:
    with pytest.raises(UsageError, match="expected a ciphertext of ckks/4096"):
        key.decrypt(keys["8192/256"].encrypt([1.0], PLAN))


# Why decryptions are not to be shared.


def test_two_decryptions_in_full_give_the_key_away(key: SecretKey, rng: np.random.Generator) -> None:
    # TenSEAL decrypts to the real parts of m = c0 + c1 s, that is, to t = m + m' where ' exchanges conjugate roots.
    # At roots i and i' two ciphertexts give two equations c1_i s_i + c1_i' s_i' = t_i - c0_i - c0_i' modulo q.
    q = next(p for p in range((1 << 60) + 1 - 8192, 0, -8192) if pow(3, p - 1, p) == 1 == pow(2, p - 1, p))
    n = 4096

    def equations() -> tuple[list[int], list[int]]:
        """Return the coefficients c1 and the right sides, from a ciphertext and what the key holder showed."""
        ciphertext = key.public_key.encrypt(rng.uniform(-1, 1, n // 2), PLAN)
        shown = key.decrypt(ciphertext)
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
