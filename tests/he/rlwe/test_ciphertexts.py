from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from secagg import wire
from secagg.errors import RangeError, ShapeError, UsageError, WireError
from secagg.fixed_point import Plan
from secagg.he.rlwe import ciphertexts
from secagg.he.rlwe.ciphertexts import Ciphertext, CiphertextMessage
from secagg.he.rlwe.keys import SecretKey
from secagg.he.rlwe.parameters import Parameters, parameters
from secagg.he.rlwe.polynomials import Polynomials

SETS = [parameters(64), parameters(96), parameters(128)]
KEYS = {p.modulus_bits: SecretKey.generate(p) for p in SETS}
each_set = pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)
PLAN = Plan(64, 16, 100.0, 50, 10)


def encrypted(p: Parameters, numbers: Any, plan: Plan = PLAN) -> Ciphertext:
    c = KEYS[p.modulus_bits].public_key.encrypt(numbers, plan)
    assert isinstance(c, Ciphertext)
    return c


def opened(c: Ciphertext) -> Any:
    return KEYS[c.words.parameters.modulus_bits].decrypt(c)


@pytest.mark.slow
@each_set
@given(data=st.data())
@settings(deadline=None, max_examples=12)
def test_weighted_and_negative_sums_decode_exactly(p: Parameters, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(), (1,), (3, 5), (2, 2, 2)]))
    units = st.integers(-100 * 2**16, 100 * 2**16)
    count = int(np.prod(shape))
    rows = data.draw(st.lists(st.lists(units, min_size=count, max_size=count), min_size=1, max_size=4))
    factors = data.draw(st.lists(st.integers(-100, 100).filter(bool), min_size=len(rows), max_size=len(rows)))
    arrays = [np.array(row, np.float64).reshape(shape) / 2**16 for row in rows]
    total = encrypted(p, arrays[0]) * factors[0]
    for k, array in zip(factors[1:], arrays[1:], strict=True):
        total += k * encrypted(p, array)
    expected = sum(k * array for k, array in zip(factors, arrays, strict=True))
    np.testing.assert_array_equal(opened(total), expected)
    assert opened(total).shape == shape
    assert (total.header.summands, total.header.weight) == (len(rows), sum(abs(k) for k in factors))
    assert total.squares == sum(k * k for k in factors)


@each_set
def test_sums_at_capacity_are_exact_and_one_more_is_refused(p: Parameters) -> None:
    plan = Plan(64, 20, 2.0**10, 100)
    numbers = np.full(p.degree + 1, 2.0**10)
    numbers[::2] = -(2.0**10)
    one = encrypted(p, numbers, plan)
    total = one.copy()
    for _ in range(99):
        total += one
    np.testing.assert_array_equal(opened(total), 100 * numbers)
    before = total.to_bytes()
    with pytest.raises(RangeError, match="weight 101 does not fit"):
        total += one
    with pytest.raises(RangeError, match="weight 200 does not fit"):
        total * 2
    assert total.to_bytes() == before


def test_noise_that_would_outgrow_its_room_is_refused_at_multiplication_and_addition() -> None:
    p = parameters(64)
    plan = Plan(64, 0, 2.0**37, 100, 2)  # sums of 46 bits: room for some 3,500 encryptions' noise
    one = encrypted(p, np.full(10, 2.0**37), plan)
    wide = one * 50
    assert wide.squares == 50**2
    np.testing.assert_array_equal(opened(wide), np.full(10, 50 * 2.0**37))
    before = wide.to_bytes()
    with pytest.raises(RangeError, match="would outgrow the room"):
        one * 150
    with pytest.raises(RangeError, match="would outgrow the room"):
        wide += wide * 1
    with pytest.raises(RangeError, match="would outgrow the room"):
        wide += wide
    assert wide.to_bytes() == before
    # The same weight from as many encryptions has far less noise, and fits.
    total = one.copy()
    for _ in range(149):
        total += encrypted(p, np.full(10, 2.0**37), plan)
    np.testing.assert_array_equal(opened(total), np.full(10, 150 * 2.0**37))


@each_set
def test_a_ciphertext_added_to_itself_is_twice_that_ciphertext(p: Parameters) -> None:
    c = encrypted(p, [1.0, -3.0])
    c += c
    assert c.squares == 4
    assert opened(c).tolist() == [2.0, -6.0]


@each_set
def test_a_sum_leaves_its_summands_alone(p: Parameters) -> None:
    a, b = encrypted(p, [1.0, 2.0]), encrypted(p, [10.0, -20.0])
    before = a.to_bytes(), b.to_bytes()
    c = a + b
    c += a
    assert (a.to_bytes(), b.to_bytes()) == before
    assert opened(c).tolist() == [12.0, -16.0]


@each_set
def test_bytes_come_back_as_the_same_ciphertext_that_can_be_added_to(p: Parameters) -> None:
    numbers = np.arange(6.0).reshape(2, 3)
    c = encrypted(p, numbers) * 3
    data = c.to_bytes()
    back = KEYS[p.modulus_bits].public_key.read_bytes(data, peer="bank")
    assert (back.header, back.squares, back.words) == (c.header, c.squares, c.words)
    back += c
    np.testing.assert_array_equal(opened(back), 6 * numbers)
    assert KEYS[p.modulus_bits].public_key.read_bytes(data).words == c.words
    assert len(data) == pytest.approx(2 * p.degree * p.coefficient_bytes, abs=400)


@each_set
def test_who_holds_c1_alone_can_check_the_digest_of_all(p: Parameters) -> None:
    c = encrypted(p, [1.0, 2.0])
    c1 = Polynomials.from_words(p, c.c1.words, 1)
    assert ciphertexts.digest(c.header, c.squares, c.digest_c0(), c1.digest()) == c.digest()
    changed = [c.copy() for _ in range(5)]
    changed[0].words.low[0, 0] ^= np.uint64(1)
    changed[1].words.low[1, 0] ^= np.uint64(1)
    changed[2].header = dataclasses.replace(c.header, summands=2, weight=2)
    changed[3].squares = 2
    changed[4].words = Polynomials.zeros(p, 2)
    assert len({c.digest(), *(x.digest() for x in changed)}) == 6


def test_a_message_that_is_no_ciphertext_under_this_key_is_its_senders_error() -> None:
    p, other = parameters(64), parameters(96)
    c, key = encrypted(p, np.zeros(5000)), KEYS[64].public_key
    low = c.words.low
    header = c.to_message().header
    plan = header.plan

    def with_header(**fields: Any) -> CiphertextMessage:
        names = ("scheme", "key_id", "plan", "shape", "summands", "weight")
        return changed(
            c.to_message(), header=type(header)(*(fields.get(n, getattr(header, n)) for n in names))
        )

    cases = {
        "expected a ciphertext of rlwe/4096/64, got one of 'rlwe/4096/96'": encrypted(
            other, [1.0]
        ).to_message(),
        "expected a ciphertext of rlwe/4096/64, got one of 'rlwe/2048/64'": with_header(
            scheme="rlwe/2048/64"
        ),
        "expected a ciphertext under key": with_header(key_id=bytes(32)),
        "a key id has 32 bytes, not 5": with_header(key_id=b"short"),
        "expected 2 polynomials, got 4": with_header(shape=(4096,)),
        "expected 200 polynomials, got 4": with_header(shape=(100, 4096)),
        "nothing to encrypt in an array of shape": with_header(shape=(0,)),
        "summands and weight of at least 1": with_header(summands=0),
        "weight 501 does not fit": with_header(weight=501),
        "a planned ring has 8, 16, 32 or 64 bits, not 7": with_header(
            plan=type(plan)(7, plan.frac_bits, plan.clip, plan.parties, plan.max_weight)
        ),
        "clip is a positive number, not nan": with_header(
            plan=type(plan)(64, 16, float("nan"), plan.parties, plan.max_weight)
        ),
        "expected squares of 1 to 1 for 1 summands": changed(c.to_message(), squares=(2).to_bytes(16, "big")),
        "expected squares of 16 bytes, got 1": changed(c.to_message(), squares=b"1"),
        "expected words of uint64 for rlwe/4096/64, got uint32": changed(
            c.to_message(), words=(low.astype(np.uint32),)
        ),
        "got uint64 and uint64": changed(c.to_message(), words=(low, low)),
        "got none": changed(c.to_message(), words=()),
        r"got \(8, 2048\)": changed(c.to_message(), words=(low.reshape(8, 2048),)),
        r"got \(16384,\)": changed(c.to_message(), words=(low.reshape(-1),)),
        r"expected 4 polynomials, got 3": changed(c.to_message(), words=(low[:3],)),
    }
    for text, message in cases.items():
        with pytest.raises(WireError, match=text) as caught:
            key.read(message, peer="bank")
        assert caught.value.peer == "bank"
        assert "bank" in str(caught.value)


def test_bytes_cut_short_or_of_something_else_are_refused() -> None:
    key = KEYS[64].public_key
    data = encrypted(parameters(64), [1.0]).to_bytes()
    for bad in (data[:-16], data[:100], b"", data + bytes(16), key.to_bytes()):
        with pytest.raises(WireError):
            key.read_bytes(bad, peer="bank")


@each_set
def test_an_altered_ciphertext_does_not_decrypt(p: Parameters) -> None:
    c = encrypted(p, np.zeros(10))
    for word in c.words.words:
        for block in (0, 1):
            bad = c.copy()
            target = bad.words.low if word is c.words.low else bad.words.high
            assert target is not None
            target[block] = np.arange(p.degree, dtype=target.dtype) * target.dtype.type(0x9E3779B1)
            if word is not c.words.low:
                target[block] <<= target.dtype.type(target.itemsize * 8 - 32 or 8)
            with pytest.raises(RangeError, match="altered, or not encrypted as agreed"):
                opened(bad)


@each_set
def test_numbers_hidden_behind_the_end_are_refused(p: Parameters) -> None:
    c = encrypted(p, np.zeros(10))
    shift = p.modulus_bits - PLAN.sum_bits
    padding = np.zeros(p.degree, np.uint64)
    padding[9] = 1
    c.c0.add_shifted(padding, shift)
    assert opened(c)[9] == 2.0**-PLAN.frac_bits
    padding[10] = 1
    c.c0.add_shifted(padding, shift)
    with pytest.raises(RangeError, match="no sum of 1 encryptions"):
        opened(c)


def test_a_ciphertext_is_of_one_key_plan_shape_and_scheme() -> None:
    p = parameters(64)
    c = encrypted(p, [1.0, 2.0])
    other = SecretKey.generate(p)
    with pytest.raises(UsageError, match="cannot add a ciphertext under key"):
        c + cast(Ciphertext, other.public_key.encrypt([1.0, 2.0], PLAN))
    with pytest.raises(UsageError, match="encoded by"):
        c + encrypted(p, [1.0, 2.0], dataclasses.replace(PLAN, frac_bits=15))
    with pytest.raises(ShapeError, match=r"shape \(3,\) to one of shape \(2,\)"):
        c + encrypted(p, [1.0, 2.0, 3.0])
    with pytest.raises(UsageError, match="of rlwe/4096/96 to one of rlwe/4096/64"):
        c + encrypted(parameters(96), [1.0, 2.0])
    with pytest.raises(UsageError, match="expected a ciphertext under key"):
        other.decrypt(c)
    for factor in (0, 1.5, np.int64(2), True):
        with pytest.raises(UsageError, match="multiplied by an integer other than 0"):
            c * factor  # type: ignore[operator]


def test_multiples_beyond_64_bits_of_noise_come_back_from_bytes() -> None:
    key = KEYS[128]
    c = encrypted(parameters(128), [1.0], Plan(64, 0, 1.0, 1, 1 << 50)) * -(1 << 50)
    assert c.squares == 1 << 100
    back = key.public_key.read_bytes(c.to_bytes())
    assert key.decrypt(back).tolist() == [-(2.0**50)]


def test_polynomials_that_do_not_fit_the_header_are_refused() -> None:
    c = encrypted(parameters(64), [1.0])
    with pytest.raises(ShapeError, match="expected 2 polynomials"):
        Ciphertext(c.header, Polynomials.zeros(parameters(64), 3))
    with pytest.raises(UsageError, match="expected polynomials of rlwe/4096/64, got rlwe/4096/96"):
        Ciphertext(c.header, Polynomials.zeros(parameters(96), 2))
    with pytest.raises(UsageError, match="expected squares"):
        Ciphertext(c.header, c.words, squares=0)


def test_a_received_ciphertext_shares_memory_until_it_is_added_to() -> None:
    c = encrypted(parameters(64), np.zeros(4096))
    message = wire.from_bytes(c.to_bytes(), CiphertextMessage)
    back = KEYS[64].public_key.read(message)
    assert np.shares_memory(back.words.low, message.words[0])
    back += c
    assert not np.shares_memory(back.words.low, message.words[0])


@each_set
def test_sums_differences_and_slices_decrypt_exactly(p: Parameters) -> None:
    x = np.arange(2.0 * p.degree + 6).reshape(-1, 2) % 100 / 4
    a, b = encrypted(p, x), encrypted(p, x[::-1].copy())
    np.testing.assert_array_equal(opened(cast(Ciphertext, sum([a, b]))), x + x[::-1])
    np.testing.assert_array_equal(opened(a - b), x - x[::-1])
    np.testing.assert_array_equal(opened(-a), -x)
    half = p.degree // 2
    for rows in (slice(0, half), slice(half, 2 * half), slice(half, None), slice(2 * half, None)):
        part = (a - b)[rows]
        np.testing.assert_array_equal(opened(part), (x - x[::-1])[rows])
        assert (part.header.weight, part.squares) == (2, 2)
        back = KEYS[p.modulus_bits].public_key.read_bytes(part.to_bytes())
        np.testing.assert_array_equal(opened(back + back), 2 * (x - x[::-1])[rows])
    with pytest.raises(UsageError, match=f"slice at multiples of {p.degree} numbers"):
        a[0:3]


def test_noise_of_an_encryption_that_is_added_again_is_counted_as_that_of_a_multiple() -> None:
    p = parameters(64)
    a, b = (encrypted(p, [1.0]) for _ in range(2))
    assert [c.squares for c in (a + a, a + a + a, a - a.copy(), a + a * 3, a + b)] == [4, 9, 4, 16, 2]
    mixed = sum([a, b, a])
    assert isinstance(mixed, Ciphertext)
    assert 5 <= mixed.squares <= 6
    # Where multiplication is refused for its noise, adding as often is.
    plan = Plan(64, 0, 2.0**37, 100, 2)
    one = encrypted(p, np.full(10, 2.0**37), plan)
    with pytest.raises(RangeError, match="would outgrow the room"):
        one * 100
    with pytest.raises(RangeError, match="would outgrow the room"):
        sum([one] * 100)
    distinct = encrypted(p, np.full(10, 2.0**37), plan)
    for _ in range(99):
        distinct += encrypted(p, np.full(10, 2.0**37), plan)
    assert distinct.squares == 100
