from __future__ import annotations

import copy
import hashlib
import hmac
import itertools
import math
import pickle

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import prg
from secagg.errors import ShapeError, UsageError
from secagg.prg import KEY_BYTES, Stream, derive_key, expand, system_stream

KEY = bytes(range(32))


def chi_square_bound(degrees: int) -> float:
    """The value that a chi-square variable exceeds once in a million (Wilson-Hilferty, a little high)."""
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + 4.7534 * math.sqrt(spread)) ** 3


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


# AES-256 in counter mode


def test_stream_starts_with_the_published_keystream_of_the_zero_key() -> None:
    # McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 and 14: with zero key and
    # zero nonce, E(0) is the hash key H, E(1) the tag of nothing and E(2) the ciphertext of a zero block.
    published = (
        "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18"
    )
    assert Stream(bytes(32)).bytes(48).hex() == published


def test_stream_is_the_block_cipher_of_nist_sp_800_38a_on_a_counter_from_zero() -> None:
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    # F.5.5: the first input and output block of CTR-AES256 ties the block cipher to the publication.
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    assert cipher.update(counter).hex() == "0bdf7df1591716335e9a8b15c860c502"
    blocks = b"".join(cipher.update(i.to_bytes(16, "big")) for i in range(300))
    assert Stream(key).bytes(4800) == blocks


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["bytes", "fill", "xor", "ring"]), st.integers(0, 40))))
def test_draws_do_not_depend_on_how_the_stream_is_cut(cuts: list[tuple[str, int]]) -> None:
    stream, drawn = Stream(KEY), b""
    for how, n in cuts:
        out = np.zeros(n, np.uint8)
        if how == "bytes":
            drawn += stream.bytes(n)
        elif how == "ring":
            drawn += stream.ring(n, bits=16).tobytes()
        else:
            (stream.fill if how == "fill" else stream.xor_into)(out)
            drawn += out.tobytes()
        assert stream.position == len(drawn)
    assert drawn == Stream(KEY).bytes(len(drawn))


@pytest.mark.parametrize("start", [0, 16, 4096, (1 << 18) + 16, 1 << 40])
def test_a_stream_that_starts_later_goes_on_as_one_that_came_there(start: int) -> None:
    cipher = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    blocks = b"".join(cipher.update((start // 16 + i).to_bytes(16, "big")) for i in range(3))
    stream = Stream(KEY, start=start)
    assert stream.bytes(48) == blocks
    assert stream.position == start + 48


@pytest.mark.parametrize("start", [-16, 1, 8, 24])
def test_a_stream_starts_at_a_whole_block(start: int) -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        Stream(KEY, start=start)


def test_fill_equals_bytes_beyond_one_block_of_zeros() -> None:
    out = np.empty((1 << 16) + 3, np.uint64)
    Stream(KEY).fill(out)
    assert out.tobytes() == Stream(KEY).bytes(out.nbytes)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 1000])
def test_xor_into_masks_in_place_and_touches_nothing_outside(n: int) -> None:
    buffer = np.arange(n + 40, dtype=np.uint8)
    before = buffer.copy()
    Stream(KEY).xor_into(buffer[7 : 7 + n])
    assert (buffer[:7] == before[:7]).all()
    assert (buffer[7 + n :] == before[7 + n :]).all()
    assert (buffer[7 : 7 + n] ^ before[7 : 7 + n]).tobytes() == Stream(KEY).bytes(n)
    Stream(KEY).xor_into(buffer[7 : 7 + n])
    assert (buffer == before).all()


def test_xor_into_cuts_long_arrays_where_openssl_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prg, "_MAX_UPDATE", 24)
    out = np.zeros(10, np.uint64)
    Stream(KEY).xor_into(out)
    assert out.tobytes() == Stream(KEY).bytes(80)


def test_arrays_that_cannot_take_keystream_are_refused() -> None:
    read_only = np.zeros(4, np.uint64)
    read_only.flags.writeable = False
    stream = Stream(KEY)
    for bad in (np.zeros(4), np.zeros((4, 4), np.uint64)[:, 1], np.zeros(4, bool), read_only):
        for draw in (stream.fill, stream.xor_into):
            with pytest.raises(ShapeError, match="writable C-contiguous integer"):
                draw(bad)
    assert stream.position == 0


def test_a_stream_takes_keys_of_32_bytes_only() -> None:
    for bad in (b"", bytes(16), bytes(31), bytes(33)):
        with pytest.raises(UsageError, match=f"32 bytes, not {len(bad)}"):
            Stream(bad)
    with pytest.raises(UsageError, match="not str"):
        Stream("k" * 32)  # type: ignore[arg-type]


def test_a_stream_is_neither_shown_nor_copied() -> None:
    stream = Stream(KEY)
    stream.bytes(5)
    assert repr(stream) == "<Stream at byte 5, key hidden>"
    assert not hasattr(stream, "__dict__")
    for copies in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="same masks"):
            copies(stream)


def test_system_streams_differ() -> None:
    assert system_stream().bytes(32) != system_stream().bytes(32)


# Key derivation


def rfc5869(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    block, out = b"", b""
    for i in itertools.count(1):
        if len(out) >= length:
            return out[:length]
        block = hmac.digest(extracted, block + info + bytes([i]), hashlib.sha256)
        out += block
    raise AssertionError


def test_derive_key_is_hkdf_of_rfc_5869() -> None:
    # Appendices A.1 and A.3 tie the reference above to the publication.
    assert (
        rfc5869(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42).hex()
        == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    assert rfc5869(b"\x0b" * 22, b"", b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
    info = b"secagg" + bytes([0] * 7 + [3]) + b"abc" + bytes([0] * 7 + [2]) + b"de"
    assert derive_key(KEY, label="abc", context=b"de") == rfc5869(KEY, b"", info, KEY_BYTES)


def test_derived_keys_separate_secrets_labels_and_contexts() -> None:
    cases = [
        (KEY, "a", b"bc"),
        (KEY, "ab", b"c"),
        (KEY, "abc", b""),
        (KEY, "a", b""),
        (KEY, "a\0", b""),
        (KEY, "a", b"\0"),
        (bytes(32), "a", b"bc"),
        (KEY + b"\0", "a", b"bc"),
    ]
    keys = {derive_key(secret, label=label, context=context) for secret, label, context in cases}
    assert len(keys) == len(cases)
    assert all(len(key) == KEY_BYTES for key in keys)


def test_derive_key_refuses_short_secrets_and_missing_labels() -> None:
    with pytest.raises(UsageError, match="at least 16 bytes, not 15"):
        derive_key(bytes(15), label="a")
    with pytest.raises(UsageError, match="label"):
        derive_key(KEY, label="")


def test_expand_fills_an_array_by_seed_and_label() -> None:
    a, b, c = (np.zeros((3, 5), np.uint32) for _ in range(3))
    expand(KEY, "one", a)
    expand(KEY, "one", b)
    expand(KEY, "two", c)
    assert (a == b).all()
    assert (a != c).any()
    assert a.tobytes() == Stream(derive_key(KEY, label="one")).bytes(60)


# Draws


@pytest.mark.parametrize("bits", [1, 3, 8, 9, 16, 17, 32, 33, 63, 64])
def test_ring_elements_fill_the_ring_and_nothing_above(bits: int) -> None:
    drawn = Stream(KEY).ring((50, 40), bits)
    width = next(w for w in (8, 16, 32, 64) if bits <= w)
    assert drawn.dtype == np.dtype(f"u{width // 8}")
    assert drawn.shape == (50, 40)
    # Each bit is set in half of the 2000 elements; six standard deviations: 2e-9 a bit for a random key.
    for place in range(width):
        ones = int(((drawn >> drawn.dtype.type(place)) & drawn.dtype.type(1)).sum())
        assert abs(ones - 1000) < 6 * math.sqrt(500) if place < bits else ones == 0


def test_ring_refuses_widths_outside_1_to_64() -> None:
    for bits in (0, 65):
        with pytest.raises(UsageError, match="1 to 64"):
            Stream(KEY).ring(3, bits)


@pytest.mark.parametrize("bound", [2, 3, 5, 6, 64, 100, 129])
def test_below_is_uniform(bound: int) -> None:
    drawn = Stream(KEY).below(bound, 40_000)
    assert drawn.dtype == np.uint64
    counts = np.bincount(drawn.astype(np.int64), minlength=bound)
    assert counts.size == bound
    assert chi_square(counts) < chi_square_bound(bound - 1)


@pytest.mark.parametrize("parts", [3, 5, 7])
def test_below_has_no_modulo_bias_for_bounds_near_the_word_size(parts: int) -> None:
    # Reducing words modulo 3 * 2**62 would put half of them, not a third, into the lowest part.
    size = 1 << (64 - parts.bit_length())
    drawn = Stream(KEY).below(parts * size, 20_000)
    counts = np.bincount((drawn // np.uint64(size)).astype(np.int64), minlength=parts)
    assert counts.size == parts
    assert chi_square(counts) < chi_square_bound(parts - 1)


def test_below_takes_words_in_stream_order() -> None:
    words = [w & 7 for w in Stream(KEY).words(500).tolist()]
    kept = [w for w in words[:100] if w < 5]
    for w in words[100:]:
        if len(kept) < 100 and w < 5:
            kept.append(w)
    assert Stream(KEY).below(5, 100).tolist() == kept


@settings(max_examples=50)
@given(st.integers(1, 1 << 64), st.integers(0, 50))
def test_below_stays_below(bound: int, n: int) -> None:
    drawn = Stream(KEY).below(bound, n)
    assert drawn.shape == (n,)
    assert all(v < bound for v in drawn.tolist())


def test_below_keeps_two_holders_of_a_key_in_step() -> None:
    one, two = Stream(KEY), Stream(KEY)
    assert (one.below(5, (7, 11)) == two.below(5, (7, 11))).all()
    assert one.position == two.position > 8 * 77


def test_below_refuses_bounds_without_values() -> None:
    for bound in (0, -1, (1 << 64) + 1):
        with pytest.raises(UsageError):
            Stream(KEY).below(bound, 3)


def test_signed_is_uniform_between_both_bounds() -> None:
    drawn = Stream(KEY).signed(3, 40_000)
    assert drawn.dtype == np.int64
    counts = np.bincount(drawn + 3, minlength=7)
    assert counts.size == 7
    assert chi_square(counts) < chi_square_bound(6)
    assert not Stream(KEY).signed(0, 10).any()
    wide = Stream(KEY).signed((1 << 63) - 1, 1000)
    assert abs(int((wide < 0).sum()) - 500) < 6 * math.sqrt(250)
    for bound in (-1, 1 << 63):
        with pytest.raises(UsageError):
            Stream(KEY).signed(bound, 3)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 64, 65, 1000])
def test_permutations_hold_each_index_once(n: int) -> None:
    rows = Stream(KEY).permutations(5, n)
    assert rows.dtype == np.int64
    assert (np.sort(rows, axis=1) == np.arange(n)).all()
    assert rows.shape == (5, n)
    assert (Stream(KEY).permutation(n) == rows[0]).all()
    assert Stream(KEY).permutations(0, n).shape == (0, n)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4])
def test_all_permutations_are_equally_likely(n: int) -> None:
    rows = Stream(KEY).permutations(24_000, n)
    index = {p: i for i, p in enumerate(itertools.permutations(range(n)))}
    counts = np.bincount([index[tuple(row)] for row in rows.tolist()], minlength=len(index))
    assert chi_square(counts) < chi_square_bound(len(index) - 1)


@pytest.mark.slow
def test_large_permutations_hold_each_index_once_and_are_drawn_but_once() -> None:
    # 2**21 is the last size that sorts index and key in one word; beyond, the keys have 64 bits.
    for n in (1 << 17, (1 << 21) + 1):
        stream = Stream(KEY)
        order = stream.permutation(n)
        seen = np.zeros(n, bool)
        seen[order] = True
        assert seen.all()
        assert stream.position == 8 * n
        # A uniform permutation has its displacements anywhere: mean |i - p(i)| is n / 3.
        assert abs(np.abs(order - np.arange(n)).mean() / n - 1 / 3) < 0.01


@pytest.mark.parametrize("n", [3, 5])
def test_rows_with_equal_keys_are_drawn_anew(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    good = np.arange(n, dtype=np.uint64)[::-1] << np.uint64(50)
    twice = good.copy()
    twice[0] = twice[1] | np.uint64(1)  # differs only where the index goes
    draws = [np.stack([good, twice, good]), twice[None], good[None]]

    def words(self: Stream, shape: tuple[int, ...]) -> np.ndarray:
        assert shape == draws[0].shape
        return draws.pop(0).copy()

    monkeypatch.setattr(Stream, "words", words)
    assert (Stream(KEY).permutations(3, n) == np.arange(n)[::-1]).all()
    assert not draws


@pytest.mark.slow
def test_wide_keys_that_are_equal_are_noticed() -> None:
    n = (1 << 21) + 1
    words = np.arange(n, dtype=np.uint64)
    _, distinct = prg._sort_order(words[None].copy())
    assert distinct.all()
    words[0] = words[-1]
    _, distinct = prg._sort_order(words[None])
    assert not distinct.any()


def test_permutations_refuse_sizes_out_of_range() -> None:
    for rows, n in ((-1, 3), (3, -1), (1, (1 << 31) + 1)):
        with pytest.raises(UsageError):
            Stream(KEY).permutations(rows, n)
