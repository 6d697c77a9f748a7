"""Ciphertexts add and multiply only where that means something, and come over the wire only if they are sound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

import numpy as np

from secagg import wire
from secagg.errors import RangeError, RemoteProtocolError, ShapeError, UsageError, WireError
from secagg.fixed_point import plan
from secagg.he.paillier.ciphertexts import CiphertextMessage
from secagg.prg import Stream

PLAN = plan(clip=100.0, frac_bits=20, parties=4, max_weight=5)
X, Y = np.linspace(-100, 100, 77), np.linspace(50, -50, 77)


def test_sums_in_place_and_not_in_place_are_equal_and_leave_the_summands_alone(small_key):
    a, b = (small_key.public_key.encrypt(x, PLAN) for x in (X, Y))
    before = a.integers(), b.integers()
    total = a + b
    assert (a.integers(), b.integers()) == before
    duplicate = a.copy()
    duplicate += b
    assert duplicate.integers() == total.integers()
    assert a.integers() == before[0]
    product = [c * d % small_key.public_key.modulus.ciphertext for c, d in zip(*before, strict=True)]
    assert total.integers() == product
    assert (total.header.summands, total.header.weight) == (2, 2)


def test_what_does_not_go_together_is_not_added_and_nothing_changes(small_keys, other_public_key):
    key = small_keys[1].public_key
    a = key.encrypt(X, PLAN)
    before = a.integers(), a.header
    wider = plan(clip=100.0, frac_bits=20, parties=5, max_weight=5)
    for other, kind, words in (
        (small_keys[2].public_key.encrypt(X, PLAN), UsageError, "paillier/2 to one of paillier/1"),
        (other_public_key.encrypt(X, PLAN), UsageError, "under key"),
        (key.encrypt(X, wider), UsageError, "encoded by"),
        (key.encrypt(X[:7], PLAN), ShapeError, "shape"),
        (key.encrypt(X, PLAN, slots=3), UsageError, "3 numbers a residue"),
        (a * 20, RangeError, "weight 21"),
        (5, UsageError, "cannot add int"),
    ):
        with pytest.raises(kind, match=words):
            a += other
        with pytest.raises(kind, match=words):
            a + other
        assert (a.integers(), a.header) == before


def test_multiples_are_powers(small_key):
    a = small_key.public_key.encrypt(X, PLAN)
    modulus = int(small_key.public_key.modulus.ciphertext)
    for factor in (1, -1, 2, 19, -20):
        multiple = factor * a
        assert multiple.integers() == [pow(int(c), factor, modulus) for c in a.integers()]
        assert multiple.header.weight == abs(factor)
        assert np.max(np.abs(small_key.decrypt(multiple) - factor * X)) <= PLAN.error(summands=abs(factor))
    wrong: Any
    for wrong, kind in ((0, UsageError), (1.5, UsageError), (21, RangeError), (-21, RangeError)):
        with pytest.raises(kind):
            a * wrong


def test_rerandomized_ciphertexts_hold_the_same_and_look_different(small_key):
    a = small_key.public_key.encrypt(X, PLAN)
    b = small_key.public_key.rerandomize(a)
    assert not set(a.integers()) & set(b.integers())
    assert np.array_equal(small_key.decrypt(a), small_key.decrypt(b))
    assert a.header == b.header
    zero = small_key.public_key.encrypt(np.zeros(77), PLAN, rng=Stream(bytes(32)))
    assert small_key.public_key.rerandomize(a, rng=Stream(bytes(32))).integers() == (a + zero).integers()


def test_ciphertexts_come_back_from_bytes(small_key):
    key = small_key.public_key
    a = key.encrypt(X.reshape(7, 11), PLAN) * 3
    data = a.to_bytes()
    b = key.read_bytes(data)
    assert b.integers() == a.integers()
    assert b.header == a.header
    assert np.array_equal(small_key.decrypt(b), small_key.decrypt(a))
    assert (b + key.encrypt(X.reshape(7, 11), PLAN)).header.weight == 4
    assert key.read_integers(a.integers(), a.header, slots=a.slots).integers() == a.integers()


def test_a_block_is_little_endian_digits_to_the_base_n(small_key):
    key = small_key.public_key
    a = key.encrypt(X, PLAN)
    block = a.to_message().block
    assert block.shape == (len(a.integers()), key.s + 1, 64)
    for row, residue in zip(block, a.integers(), strict=True):
        digits = [int.from_bytes(digit.tobytes(), "little") for digit in row]
        assert sum(digit * int(key.n) ** k for k, digit in enumerate(digits)) == residue


def test_every_unsound_block_is_refused_and_its_sender_named(small_key, other_public_key):
    key = small_key.public_key
    n, p = int(key.n), small_key.prime_factors()[0]
    message = key.encrypt(X, PLAN).to_message()

    def with_digit(k: int, value: int) -> np.ndarray:
        block = message.block.copy()
        block[1, k] = np.frombuffer(value.to_bytes(64, "little"), np.uint8)
        return block

    zero = message.block.copy()
    zero[-1] = 0
    header = message.header
    cases = {
        "is not below": [with_digit(k, v) for k in range(key.s + 1) for v in (n, n + 1, 2**512 - 1)],
        "is 0 or has a factor in common": [with_digit(0, p), with_digit(0, 0), zero],
        "expected a block of shape": [
            message.block[1:],
            message.block[:, 1:],
            message.block[:, :, :-1],
            message.block.reshape(-1),
            np.concatenate([message.block, message.block]),
        ],
    }
    for words, blocks in cases.items():
        for block in blocks:
            bad = CiphertextMessage(header, message.slots, block)
            with pytest.raises(RemoteProtocolError, match=words) as caught:
                key.read_bytes(wire.to_bytes(bad), peer="clinic-4")
            assert caught.value.peer == "clinic-4"
            assert "clinic-4" in str(caught.value)
    others = {
        "expected a ciphertext of paillier": replace_fields(header, scheme="rlwe"),
        "expected a ciphertext under key": replace_fields(header, key_id=other_public_key.key_id),
        "a key id has 32 bytes": replace_fields(header, key_id=b"12"),
        "at least 1": replace_fields(header, weight=0),
        "does not fit a plan": replace_fields(header, weight=21),
        "nothing to encrypt": replace_fields(header, shape=(0,)),
    }
    for words, changed in others.items():
        with pytest.raises(RemoteProtocolError, match=words):
            key.read(CiphertextMessage(changed, message.slots, message.block), peer="clinic-4")
    for slots in (0, -1, 10**6):
        with pytest.raises(RemoteProtocolError, match="slots in a plaintext"):
            key.read(CiphertextMessage(header, slots, message.block), peer="clinic-4")
    data = bytearray(key.encrypt(X, PLAN).to_bytes())
    with pytest.raises(WireError):
        key.read_bytes(data[:-1], peer="clinic-4")
    with pytest.raises(WireError):
        key.read_bytes(key.to_bytes(), peer="clinic-4")


def replace_fields(header, **changes):
    fields = {name: getattr(header, name) for name in header.__struct_fields__}
    return type(header)(**{**fields, **changes})


def test_residues_out_of_range_are_refused(small_key):
    key = small_key.public_key
    a = key.encrypt(np.ones(3), PLAN)
    assert len(a.integers()) == 1
    for value in (0, -1, key.modulus.ciphertext, key.modulus.ciphertext + 1):
        with pytest.raises(UsageError, match="not in 1"):
            key.read_integers([value], a.header, slots=a.slots)
    for value in (key.n, small_key.prime_factors()[1]):
        with pytest.raises(UsageError, match="factor in common"):
            key.read_integers([value], a.header, slots=a.slots)
    with pytest.raises(ShapeError, match="take 1 residues"):
        key.read_integers([5, 5], a.header, slots=a.slots)
    with pytest.raises(UsageError, match="expected a ciphertext of"):
        key.read_integers([5], replace(a.header, scheme="rlwe"), slots=a.slots)


def test_a_ciphertext_under_another_key_is_not_rerandomized(small_keys, other_public_key):
    with pytest.raises(UsageError, match="under key"):
        other_public_key.rerandomize(small_keys[1].public_key.encrypt(X, PLAN))


def test_one_number_a_residue(small_key):
    a = small_key.public_key.encrypt(X[:9], PLAN, slots=1)
    assert len(a.integers()) == 9
    total = a + a
    assert np.max(np.abs(small_key.decrypt(total) - 2 * X[:9])) <= PLAN.error(summands=2)


def test_what_is_shown_of_a_ciphertext_is_its_header(small_key):
    a = small_key.public_key.encrypt(X, PLAN)
    assert repr(a).startswith(
        f"<paillier/{small_key.public_key.s} ciphertext of shape (77,), 1 summands, key "
    )


def test_sums_differences_and_slices_decrypt_exactly(small_key):
    grid = np.round(X * 2**20) / 2**20
    a, b = (small_key.public_key.encrypt(x, PLAN, slots=10) for x in (grid, grid[::-1].copy()))
    assert small_key.decrypt(sum([a, b])).tolist() == (grid + grid[::-1]).tolist()
    assert small_key.decrypt(a - b).tolist() == (grid - grid[::-1]).tolist()
    assert small_key.decrypt(-a).tolist() == (-grid).tolist()
    part = (a - b)[10:30]
    assert small_key.decrypt(part).tolist() == (grid - grid[::-1])[10:30].tolist()
    assert (part.header.weight, part.header.shape) == (2, (20,))
    assert small_key.decrypt(a[70:]).tolist() == grid[70:].tolist()
    with pytest.raises(UsageError, match="slice at multiples of 10 numbers"):
        a[1:]
    apart = small_key.public_key.encrypt(grid[:5], PLAN, slots=1)
    assert small_key.decrypt(apart[1:4]).tolist() == grid[1:4].tolist()
