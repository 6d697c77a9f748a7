"""TenSEAL reads what secagg wrote and the other way round; sums cross over; what it would choke on is refused before."""

from __future__ import annotations

import os
import tracemalloc
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="the integration of TenSEAL needs it")

import tenseal
import zstandard

import secagg.integrations.tenseal as bridge
from secagg.errors import PlanError, RangeError, UsageError, WireError
from secagg.fixed_point import Plan
from secagg.he.ckks import CONTEXTS, SecretKey
from secagg.he.ckks.native import PARAMETERS, PUBLIC
from secagg.he.ckks.seal import field, fields, varint

PLAN = Plan(bits=64, frac_bits=20, clip=8.0, parties=100)
NEAR = 1e-3
X = np.linspace(-8, 8, 5000)


def made(name: str = "4096", **options: Any) -> tenseal.Context:
    """Return a context as users of TenSEAL make one."""
    context, kinds = CONTEXTS[name], tenseal.ENCRYPTION_TYPE
    arguments = {
        "scheme": tenseal.SCHEME_TYPE.CKKS,
        "poly_modulus_degree": context.degree,
        "coeff_mod_bit_sizes": list(context.prime_bits),
        "encryption_type": kinds.SYMMETRIC if context.symmetric else kinds.ASYMMETRIC,
    }
    raw = tenseal.context(**(arguments | options))
    raw.global_scale = 2.0**40
    return raw


@pytest.fixture(scope="module")
def key() -> SecretKey:
    return SecretKey.generate()


@pytest.mark.parametrize("name", list(CONTEXTS))
@pytest.mark.slow
def test_sums_cross_over_under_every_context(name: str) -> None:
    key = SecretKey.generate(CONTEXTS[name])
    raw = bridge.to_secret_key(key, PLAN)
    theirs = tenseal.ckks_vector(raw, X[:2000].tolist())
    ours = key.encrypt(X[:2000], PLAN)
    assert np.max(np.abs(np.array((bridge.to_vector(ours, raw) + theirs).decrypt()) - 2 * X[:2000])) < NEAR
    got = bridge.from_vector((theirs + theirs).serialize(), key.public_key, PLAN, weight=2)
    assert (got.header.shape, got.header.weight) == ((2000,), 2)
    assert np.max(np.abs(key.decrypt(got + ours) - 3 * X[:2000])) < NEAR


def test_long_arrays_and_objects_go_both_ways(key: SecretKey, capfd: pytest.CaptureFixture[str]) -> None:
    raw = bridge.to_secret_key(key, PLAN)
    vector = bridge.to_vector(key.public_key.encrypt(X.reshape(50, 100), PLAN), raw)
    numbers = np.array(vector.decrypt())
    assert numbers.shape == (5000,)
    assert np.max(np.abs(numbers - X)) < NEAR
    back = bridge.from_vector(vector, key.public_key, PLAN)
    assert np.max(np.abs(key.decrypt(back) - X)) < NEAR
    del capfd


@pytest.mark.slow
def test_a_context_made_by_tenseal_is_read_and_its_key_is_the_same_everywhere() -> None:
    raw = made("8192/tenseal")
    raw.generate_galois_keys()  # which TenSEAL's tutorials make; they are not read
    key = bridge.from_secret_key(raw)
    public = [
        bridge.from_public_key(raw.serialize(save_public_key=True, save_secret_key=False)),
        bridge.from_public_key(raw.serialize(save_secret_key=False, save_galois_keys=False)),
        bridge.from_public_key(bridge.to_public_key(key, PLAN)),
    ]
    assert {one.key_id for one in public} == {key.public_key.key_id}
    assert not public[0].loaded.data.has_galois_keys()
    total = public[0].encrypt(X, PLAN) + public[1].encrypt(X, PLAN)
    assert np.max(np.abs(key.decrypt(total) - 2 * X)) < NEAR
    vector = tenseal.ckks_vector(raw, X[:100].tolist(), scale=bridge.scale_of(PLAN, key))
    assert np.max(np.abs(key.decrypt(bridge.from_vector(vector, public[0], PLAN)) - X[:100])) < NEAR


def test_a_symmetric_context_has_a_secret_key_alone() -> None:
    raw = made("4096/symmetric")
    key = bridge.from_secret_key(raw.serialize(save_secret_key=True))
    vector = tenseal.ckks_vector(raw, [1.5], scale=bridge.scale_of(PLAN, key))
    assert abs(key.decrypt(bridge.from_vector(vector, key.public_key, PLAN))[0] - 1.5) < NEAR
    with pytest.raises(UsageError, match="symmetric context has no public key"):
        bridge.from_public_key(raw.serialize())


def test_a_secret_key_where_a_public_one_should_be_is_refused_and_the_other_way_round() -> None:
    raw = made()
    with pytest.raises(UsageError, match="must not leave its owner"):
        bridge.from_public_key(raw.serialize(save_secret_key=True))
    for public in (raw.serialize(), bridge.to_public_key(bridge.from_secret_key(raw), PLAN)):
        with pytest.raises(UsageError, match="no secret key in this context"):
            bridge.from_secret_key(public)


def test_contexts_of_other_parameters_are_refused_with_those_that_are_read() -> None:
    for context in (
        made(poly_modulus_degree=8192),
        made(coeff_mod_bit_sizes=[60, 49]),
        made(coeff_mod_bit_sizes=[32, 48]),
        tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, 1032193),
    ):
        with pytest.raises(UsageError, match=r"4096 and coeff_mod_bit_sizes=\[48, 32\]"):
            bridge.from_secret_key(context.serialize(save_secret_key=True))
    with pytest.raises(UsageError, match="expected a context of TenSEAL's or its bytes, got int"):
        bridge.from_public_key(5)


def test_vectors_of_another_scale_level_or_kind_are_refused(key: SecretKey) -> None:
    raw = bridge.to_secret_key(key, PLAN)
    with pytest.raises(
        UsageError, match=r"of scale 5.36871e\+08 for a clip of 8, got one of .*scale=5.36871e\+08"
    ):
        bridge.from_vector(tenseal.ckks_vector(raw, [1.0], scale=2.0**40), key.public_key, PLAN)
    deep = bridge.from_secret_key(made("8192/tenseal"))
    context = bridge.to_secret_key(deep, PLAN)
    lower = tenseal.ckks_vector(context, [1.0], scale=2.0**40)
    lower = lower * 1.0
    lifted = lower.serialize()[:-8] + np.float64(bridge.scale_of(PLAN, deep)).tobytes()
    with pytest.raises(UsageError, match=r"bytes of SEAL's|more than the"):
        bridge.from_vector(lifted, deep.public_key, PLAN)
    with pytest.raises(UsageError, match=r"expected a CKKS vector"):
        bridge.from_vector(tenseal.ckks_tensor(raw, [[1.0]]).serialize(), key.public_key, PLAN)
    vector = tenseal.ckks_vector(raw, [1.0])
    with pytest.raises(RangeError, match="does not fit a plan"):
        bridge.from_vector(vector, key.public_key, PLAN, weight=101)
    with pytest.raises(PlanError, match="has room for sums of weight"):
        bridge.from_vector(vector, key.public_key, Plan(64, 0, 8.0, 1 << 16))
    # Under another key it is some pair of polynomials, which decrypts to nothing.
    other = SecretKey.generate()
    with pytest.raises(RangeError):
        other.decrypt(bridge.from_vector(vector, other.public_key, PLAN))


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 100, b"\x0a\x02", b"\x12\x00" * 50, b"\x08\x01", b"\x0a\x01\x01" * 9]
)
def test_bytes_that_are_nothing_of_tenseals_are_refused(data: bytes, key: SecretKey) -> None:
    for read in (
        bridge.from_public_key,
        bridge.from_secret_key,
        lambda data: bridge.from_vector(data, key.public_key, PLAN),
    ):
        with pytest.raises(UsageError):
            read(data)


def changed(data: bytes, number: int, how: Any) -> bytes:
    """Return a message of TenSEAL's with one field of bytes replaced."""
    out: list[bytes] = []
    for n, kind, value in fields(data):
        if isinstance(value, int):
            out += [bytes((n << 3,)), varint(value)]
        elif kind == 1:
            out += [bytes((n << 3 | 1,)), bytes(value)]
        else:
            out += map(bytes, field(n, how(bytes(value)) if n == number else bytes(value)))
    return b"".join(out)


def compressed(plain: bytes, header: bytes) -> bytes:
    """Return an object of SEAL's under Zstandard."""
    body = zstandard.ZstdCompressor(level=19).compress(plain)
    return header[:5] + b"\x02\0\0" + (16 + len(body)).to_bytes(8, "little") + body


@pytest.mark.slow
def test_parameters_and_objects_that_grow_when_read_are_refused_at_no_cost(key: SecretKey) -> None:
    raw = bridge.to_secret_key(key, PLAN)
    public, vector = raw.serialize(), tenseal.ckks_vector(raw, [1.0]).serialize()
    noise, bomb = os.urandom(20_000), bytes(1 << 26)  # eight times what may be held
    dear = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 16384, coeff_mod_bit_sizes=[26] * 16).data
    dear_parameters = next(
        v for n, _, v in fields(dear.serialize(False, False, False, False)) if n == PARAMETERS
    )
    cases: dict[str, tuple[Any, bytes, str]] = {
        "parameters that cost TenSEAL 300 megabytes": (
            bridge.from_public_key,
            changed(public, PARAMETERS, lambda _: bytes(dear_parameters)),
            "no context of these parameters",
        ),
        "parameters": (
            bridge.from_public_key,
            changed(public, PARAMETERS, lambda v: compressed(bomb, v)),
            "uncompresses to more than the 4096 bytes",
        ),
        "public key": (
            bridge.from_public_key,
            changed(public, PUBLIC, lambda v: changed(v, 1, lambda k: compressed(bomb, k))),
            "uncompresses to more than the 131169 bytes",
        ),
        "block": (
            lambda data: bridge.from_vector(data, key.public_key, PLAN),
            changed(vector, 2, lambda v: compressed(noise + bomb, v)),
            "uncompresses to more than the 65633 bytes",
        ),
        "uncompressed block": (
            lambda data: bridge.from_vector(data, key.public_key, PLAN),
            changed(vector, 2, lambda v: v[:5] + bytes(3) + (80_016).to_bytes(8, "little") + bytes(80_000)),
            "at most 65633 bytes",
        ),
        "blocks without end": (
            lambda data: bridge.from_vector(data, key.public_key, PLAN),
            vector + b"\x12\x00" * 1_000_000,
            "blocks of at least 16412 bytes",
        ),
        "sizes without end": (
            lambda data: bridge.from_vector(data, key.public_key, PLAN),
            changed(vector, 1, lambda _: b"\x01" * 2_000_000),
            "expected at most 12[0-9] numbers",
        ),
        "numbers": (
            lambda data: bridge.from_vector(data, key.public_key, PLAN),
            changed(vector, 1, lambda _: varint(1 << 60)),
            "expected numbers up to",
        ),
    }
    for name, (read, data, said) in cases.items():
        tracemalloc.start()
        with pytest.raises(UsageError, match=said):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20, name
        tracemalloc.stop()


def test_coefficients_of_more_bits_than_their_prime_are_refused(key: SecretKey) -> None:
    raw = bridge.to_secret_key(key, PLAN)
    vector = tenseal.ckks_vector(raw, [1.0] * 2048).serialize()
    block = bytes(next(v for n, _, v in fields(vector) if n == 2))
    plain = bytearray(zstandard.ZstdDecompressor().decompressobj().decompress(block[16:]))
    for bit, said in ((1 << 7, "beyond the context's primes"), (0, None)):
        plain[-1] = bit  # the highest byte of the last coefficient
        data = changed(vector, 2, lambda v, p=bytes(plain): compressed(p, v))
        if said is None:
            bridge.from_vector(data, key.public_key, PLAN)
            continue
        with pytest.raises(UsageError, match=said):
            bridge.from_vector(data, key.public_key, PLAN)


@pytest.mark.slow
def test_every_field_of_seals_that_was_altered_is_refused(key: SecretKey) -> None:
    raw = bridge.to_secret_key(key, PLAN)
    vector = tenseal.ckks_vector(raw, [1.0] * 2048).serialize()
    layout = key.public_key.native.ciphertext
    refused = 0
    block = bytes(next(v for n, _, v in fields(vector) if n == 2))
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(block[16:])
    for position in range(len(layout.fields)):
        altered = bytearray(plain)
        altered[position] ^= 0x10
        data = changed(vector, 2, lambda v, p=bytes(altered): compressed(p, v))
        with pytest.raises(UsageError, match="other parameters, another scale or another form"):
            bridge.from_vector(data, key.public_key, PLAN)
        refused += 1
    assert refused == len(layout.fields) > 90
    outside = plain[: len(layout.fields)] + b"\xff" * 6 + plain[len(layout.fields) + 6 :]
    with pytest.raises(WireError, match="cannot be read"):
        bridge.from_vector(changed(vector, 2, lambda v: compressed(outside, v)), key.public_key, PLAN)
    for position in (0, 1, 2, 3, 4, 5, *range(8, 16)):  # 6 and 7 are reserved, and say nothing
        cut = bytearray(block)
        cut[position] ^= 0x40
        with pytest.raises(UsageError):
            bridge.from_vector(changed(vector, 2, lambda _, c=bytes(cut): c), key.public_key, PLAN)
