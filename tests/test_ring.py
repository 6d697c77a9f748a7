"""Rings Z/2^k on numpy arrays: arithmetic, products, packing and signs are those of Python's integers.

The module is long because one list of widths and worst cases serves every operation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.ring import (
    U64,
    Ring,
    RingArray,
    from_planes,
    matmul,
    pack_bits,
    to_planes,
    transpose64,
    unpack_bits,
)

M64 = 1 << 64
WIDTHS = range(1, 65)


def random_words(seed: int, shape: int | tuple[int, ...]) -> U64:
    return np.random.default_rng(seed).integers(0, M64, shape, dtype=np.uint64)


def exact_product(a: U64, b: U64) -> U64:
    return ((a.astype(object) @ b.astype(object)) % M64).astype(np.uint64)


def test_ring_has_the_smallest_dtype_that_holds_it() -> None:
    widths = {bits: Ring(bits).dtype.itemsize * 8 for bits in WIDTHS}
    assert all(width >= bits for bits, width in widths.items())
    assert all(width == 8 or width // 2 < bits for bits, width in widths.items())
    assert all(Ring(bits).dtype.kind == "u" for bits in WIDTHS)
    assert Ring(3).modulus == 8
    assert Ring(64).modulus == M64


@pytest.mark.parametrize("bits", [0, -1, 65])
def test_ring_refuses_widths_outside_1_to_64(bits: int) -> None:
    with pytest.raises(UsageError, match="1 to 64"):
        Ring(bits)


@pytest.mark.parametrize("bits", range(1, 9))
def test_signed_and_reduced_values_agree_with_integers_for_all_of_a_tiny_ring(bits: int) -> None:
    ring = Ring(bits)
    half, modulus = ring.modulus // 2, ring.modulus
    everything = np.arange(256).astype(np.uint8)
    reduced = ring.reduce(everything)
    assert reduced.tolist() == [v % modulus for v in range(256)]
    assert ring.to_signed(reduced).tolist() == [(v + half) % modulus - half for v in range(256)]
    signed = np.arange(-half, half)
    assert (ring.to_signed(ring.from_signed(signed)) == signed).all()
    assert (ring.from_signed(np.arange(-600, 600)) == np.arange(-600, 600) % modulus).all()


@pytest.mark.parametrize("bits", [16, 17, 32, 33, 63, 64])
def test_signed_values_round_trip_at_the_edges_of_wide_rings(bits: int) -> None:
    ring = Ring(bits)
    half = 1 << (bits - 1)
    edges = np.array([-half, -half + 1, -1, 0, 1, half - 1], np.int64)
    assert ring.from_signed(edges).tolist() == [int(v) % ring.modulus for v in edges]
    assert (ring.to_signed(ring.from_signed(edges)) == edges).all()


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_reduce_returns_the_same_array_where_the_dtype_wraps_by_itself(bits: int) -> None:
    ring = Ring(bits)
    x = np.full(3, ring.modulus - 1, ring.dtype)
    assert ring.reduce(x) is x
    out = np.zeros_like(x)
    assert ring.reduce(x, out) is out
    assert (out == x).all()


def test_reduce_writes_in_place() -> None:
    x = np.arange(16, dtype=np.uint8)
    assert Ring(3).reduce(x, out=x) is x
    assert x.tolist() == [v % 8 for v in range(16)]


def test_check_refuses_other_dtypes_and_values_beyond_the_ring() -> None:
    Ring(3).check(np.arange(8, dtype=np.uint8))
    Ring(64).check(np.array([M64 - 1], np.uint64))
    Ring(3).check(np.empty(0, np.uint8))
    with pytest.raises(RangeError, match="1 of 9 elements do not fit 3 bits"):
        Ring(3).check(np.arange(9, dtype=np.uint8))
    with pytest.raises(ShapeError, match="uint8, not an array of uint64"):
        Ring(3).check(np.arange(8, dtype=np.uint64))
    with pytest.raises(ShapeError, match="not a list"):
        Ring(3).check([1, 2])  # type: ignore[arg-type]
    with pytest.raises(ShapeError):
        Ring(64).to_signed(np.zeros(2, np.int64))
    with pytest.raises(ShapeError):
        Ring(3).reduce(np.zeros(2, np.uint8), out=np.zeros(2, np.uint16))


def from_limbs(x0: int, x1: int, x2: int) -> int:
    return (x0 + (x1 << 22) + (x2 << 44)) % M64


# Limbs at the border of their ranges, and odd ones next to it: a float64 sum beyond 2**53 would lose them.
HEAVY = [
    from_limbs(-(1 << 21), -(1 << 21), -(1 << 19)),
    from_limbs(-(1 << 21) + 1, -(1 << 21), -(1 << 19) + 1),
    from_limbs((1 << 21) - 1, (1 << 21) - 1, (1 << 19) - 1),
    from_limbs((1 << 21) - 1, (1 << 21) - 2, (1 << 19) - 1),
    from_limbs(-(1 << 21) + 1, (1 << 21) - 1, -(1 << 19)),
    M64 - 1,
    1 << 63,
    (1 << 63) - 1,
]


@pytest.mark.slow
@pytest.mark.parametrize("k", [511, 512, 513, 1025])
def test_matmul_equals_python_integers_at_the_worst_case(k: int) -> None:
    rows = np.array(HEAVY, np.uint64)
    # Each heavy value meets each heavy value, alone over the whole length and mixed.
    a = np.repeat(np.tile(rows, 4)[:, None], k, axis=1)
    b = np.repeat(np.tile(rows, 4)[None, :], k, axis=0)
    picks = np.random.default_rng(k)
    a[16:] = rows[picks.integers(0, len(rows), (16, k))]
    b[:, 16:] = rows[picks.integers(0, len(rows), (k, 16))]
    assert (matmul(a, b) == exact_product(a, b)).all()


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(24, 90), st.integers(1, 700), st.integers(24, 90))
def test_matmul_equals_numpys_integer_product(seed: int, m: int, k: int, n: int) -> None:
    a, b = random_words(seed, (m, k)), random_words(seed + 1, (k, n))
    assert (matmul(a, b) == a @ b).all()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((0, 5), (5, 3)),
        ((3, 0), (0, 4)),
        ((300, 0), (0, 400)),
        ((3, 5), (5, 0)),
        ((1, 1), (1, 1)),
        ((2, 3000), (3000, 2)),
        ((2100, 30), (30, 40)),  # several tiles
        ((40, 30), (30, 2100)),
        ((70,), (70,)),
        ((70,), (70, 90)),
        ((90, 70), (70,)),
        ((500, 70), (70,)),  # large and thin, by vectors
        ((70,), (70, 500)),
        ((20_000,), (20_000,)),
        ((500, 70), (70, 5)),
        ((5, 70), (70, 500)),
    ],
)
def test_matmul_takes_any_shape(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = random_words(1, left), random_words(2, right)
    product = matmul(a, b)
    assert product.dtype == np.uint64
    assert product.shape == (a @ b).shape
    assert (product == a @ b).all()


def test_matmul_takes_transposed_and_strided_operands_and_leaves_them_alone() -> None:
    a, b = random_words(1, (200, 160))[::2, ::2].T, random_words(2, (90, 100)).T
    before = a.copy(), b.copy()
    assert (matmul(a, b) == a.copy() @ b.copy()).all()
    assert (a == before[0]).all()
    assert (b == before[1]).all()
    tall = random_words(3, (400, 240))[::2, ::2]  # (200, 120) with few columns
    thin = random_words(4, (400, 8))[::2, ::2]
    assert (matmul(tall.T, thin) == tall.T.copy() @ thin.copy()).all()
    assert (matmul(thin.T, tall) == thin.T.copy() @ tall.copy()).all()


def test_matmul_refuses_other_dtypes_and_shapes() -> None:
    good = np.zeros((3, 3), np.uint64)
    with pytest.raises(ShapeError, match="int64"):
        matmul(good, np.zeros((3, 3), np.int64))
    with pytest.raises(ShapeError, match="not defined"):
        matmul(good, np.zeros((2, 3), np.uint64))
    with pytest.raises(ShapeError, match="not defined"):
        matmul(np.zeros((1, 3, 3), np.uint64), good)


@pytest.mark.parametrize("bits", [1, 3, 8, 12, 16, 31, 32, 47, 64])
def test_ring_matmul_is_the_product_modulo_the_ring(bits: int) -> None:
    ring = Ring(bits)
    a = ring.from_signed(random_words(1, (70, 65)).view(np.int64))
    b = ring.from_signed(random_words(2, (65, 80)).view(np.int64))
    product = ring.matmul(a, b)
    ring.check(product)
    exact = exact_product(a.astype(np.uint64), b.astype(np.uint64))
    assert (product == exact & np.uint64(ring.modulus - 1)).all()


def reference_packing(values: list[int], width: int) -> bytes:
    packed = sum(v << (i * width) for i, v in enumerate(values))
    return packed.to_bytes(-(-len(values) * width // 8), "little")


def test_pack_bits_puts_the_first_element_lowest() -> None:
    assert pack_bits(np.array([1, 2, 3], np.uint8), 3).tolist() == [0b11_010_001, 0]
    assert pack_bits(np.array([1, 0, 1], np.uint8), 1).tolist() == [0b101]


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_packed_bits_are_the_elements_side_by_side_and_come_back(width: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, (1 << width) - 1), max_size=200))
    dtype: Any = data.draw(st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]))
    dtype = dtype if np.dtype(dtype).itemsize * 8 >= width else np.uint64
    array = np.array(values, dtype)
    packed = pack_bits(array, width)
    assert packed.dtype == np.uint8
    assert packed.tobytes() == reference_packing(values, width)
    back = unpack_bits(packed, width, len(values), dtype)
    assert back.dtype == dtype
    assert (back == array).all()
    assert back.shape == array.shape


@pytest.mark.parametrize("width", [1, 5, 12, 16, 21, 36, 63])
def test_packing_holds_over_many_chunks(width: int) -> None:
    n = (1 << 18) + 67
    values = random_words(width, n) >> np.uint64(64 - width)
    packed = pack_bits(values, width)
    assert (unpack_bits(packed, width, n, np.uint64) == values).all()
    # The last elements lie where the width says, not where a chunk ended.
    tail = int.from_bytes(packed.tobytes()[-64:], "little")
    spare = 8 * packed.size - n * width
    assert tail >> (512 - spare - width) == int(values[-1])


def test_pack_bits_refuses_values_that_do_not_fit() -> None:
    for width in (1, 5, 8, 33):
        pack_bits(np.array([0, (1 << width) - 1], np.uint64), width)
        with pytest.raises(RangeError, match=f"1 of 2 values do not fit {width} bits"):
            pack_bits(np.array([0, 1 << width], np.uint64), width)


@pytest.mark.parametrize(("width", "count"), [(1, 3), (3, 3), (7, 5), (12, 1), (63, 63)])
def test_unpack_bits_refuses_each_spare_bit_that_is_set(width: int, count: int) -> None:
    size = -(-width * count // 8)
    for bit in range(width * count, 8 * size):
        packed = np.zeros(size, np.uint8)
        unpack_bits(packed, width, count, np.uint64)
        packed[-1] = 1 << (bit % 8)
        with pytest.raises(RangeError, match="spare bits"):
            unpack_bits(packed, width, count, np.uint64)


def test_unpack_bits_reads_from_any_place_in_memory_and_returns_a_copy() -> None:
    values = np.array([1, 2, 3], np.uint32)
    buffer = np.zeros(13, np.uint8)
    buffer[1:] = pack_bits(values, 32)
    buffer.flags.writeable = False
    back = unpack_bits(buffer[1:], 32, 3, np.uint32)
    back += np.uint32(1)
    assert back.tolist() == [2, 3, 4]


def test_packing_refuses_wrong_shapes_dtypes_and_widths() -> None:
    packed = np.zeros(2, np.uint8)
    for width in (0, 65):
        with pytest.raises(UsageError, match="1 to 64"):
            pack_bits(packed, width)
        with pytest.raises(UsageError, match="1 to 64"):
            unpack_bits(packed, width, 1, np.uint64)
    with pytest.raises(ShapeError):
        pack_bits(np.zeros((2, 2), np.uint8), 3)
    with pytest.raises(ShapeError):
        pack_bits(np.zeros(2, np.int64), 3)
    for count in (-1, 1, 6):
        with pytest.raises(ShapeError):
            unpack_bits(packed, 3, count, np.uint8)
    with pytest.raises(ShapeError, match="does not hold"):
        unpack_bits(packed, 12, 1, np.uint8)


@st.composite
def ring_and_array(draw: st.DrawFn) -> tuple[Ring, RingArray]:
    ring = Ring(draw(st.sampled_from((1, 3, 8, 13, 16, 20, 32, 33, 57, 63, 64))))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    return ring, draw(hnp.arrays(ring.dtype, shape, elements=st.integers(0, ring.modulus - 1)))


@pytest.mark.slow
@given(case=ring_and_array())
@settings(deadline=None)
def test_packed_elements_come_back_in_as_many_bits_as_the_ring_has(case: tuple[Ring, RingArray]) -> None:
    ring, x = case
    packed = ring.pack(x)
    assert packed.dtype == np.uint8
    assert packed.shape == (ring.packed_bytes(x.size),) == (-(-x.size * ring.bits // 8),)
    got = ring.unpack(packed, x.shape)
    assert got.dtype == ring.dtype
    np.testing.assert_array_equal(got, x)


def test_elements_that_fill_their_dtype_are_not_copied() -> None:
    ring = Ring(32)
    x = np.arange(12, dtype=np.uint32).reshape(3, 4)
    packed = ring.pack(x)
    assert np.shares_memory(packed, x)
    assert np.shares_memory(ring.unpack(packed, (3, 4)), x)


def test_bytes_of_another_length_or_with_spare_bits_set_are_refused() -> None:
    ring = Ring(5)
    packed = ring.pack(np.arange(5, dtype=np.uint8))
    wrong: Any
    for wrong in (packed[:-1], np.append(packed, np.uint8(0)), packed.view(np.int8), packed.reshape(2, 2)):
        with pytest.raises(ShapeError):
            ring.unpack(wrong, (5,))
    packed[-1] |= 0x80
    with pytest.raises(RangeError):
        ring.unpack(packed, (5,))


@pytest.mark.parametrize("bits", [32, 20])
def test_elements_of_another_dtype_are_not_packed(bits: int) -> None:
    # Eight bytes an element seen as two of four would be a vector twice as long.
    with pytest.raises(ShapeError, match="holds its elements in an array of uint32, not an array of uint64"):
        Ring(bits).pack(np.arange(4, dtype=np.uint64))


def bit(x: U64, place: int) -> U64:
    return (x >> np.uint64(place)) & np.uint64(1)


def test_transpose64_swaps_bit_and_row() -> None:
    before = random_words(1, (64, 3))
    after = transpose64(before.copy())
    for i in range(64):
        for j in range(64):
            assert (bit(after[i], j) == bit(before[j], i)).all()


@pytest.mark.parametrize("m", [0, 1, 5, 4096, 4097])
def test_transpose64_is_an_involution_in_place(m: int) -> None:
    before = random_words(m, (64, m))
    a = before.copy()
    assert transpose64(a) is a
    assert m == 0 or (a != before).any()
    assert (transpose64(a) == before).all()


def test_transpose64_refuses_other_layouts() -> None:
    read_only = np.zeros((64, 2), np.uint64)
    read_only.flags.writeable = False
    for bad in (
        np.zeros((2, 64), np.uint64).T,
        np.zeros((63, 2), np.uint64),
        np.zeros(64, np.uint64),
        np.zeros((64, 2), np.int64),
        read_only,
    ):
        with pytest.raises(ShapeError):
            transpose64(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("bits", [1, 7, 8, 9, 16, 20, 32, 33, 64])
def test_planes_hold_bit_b_of_element_64w_plus_l_in_lane_l_of_word_w(bits: int, n: int) -> None:
    values = random_words(n, n)
    planes = to_planes(values, bits)
    assert planes.shape == (bits, -(-n // 64))
    assert planes.dtype == np.uint64
    for b in range(bits):
        lanes = np.unpackbits(planes[b].view(np.uint8), bitorder="little")
        assert (lanes[:n] == bit(values, b)).all()
        assert not lanes[n:].any()
    assert (from_planes(planes, n) == values & np.uint64((1 << bits) - 1)).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 64), st.lists(st.integers(0, M64 - 1), max_size=300))
def test_planes_round_trip(bits: int, numbers: list[int]) -> None:
    values = np.array([v % (1 << bits) for v in numbers], np.uint64)
    assert (from_planes(to_planes(values, bits), len(numbers)) == values).all()


@pytest.mark.parametrize("bits", [8, 30, 64])
def test_planes_round_trip_over_many_blocks_and_agree_with_transpose64(bits: int) -> None:
    n = 64 * 4096 * 2 + 64 * 3
    values = random_words(bits, n) >> np.uint64(64 - bits)
    planes = to_planes(values, bits)
    assert (from_planes(planes, n) == values).all()
    lanes = np.ascontiguousarray(values.reshape(-1, 64).T)
    assert (transpose64(lanes)[:bits] == planes).all()


def test_from_planes_ignores_the_lanes_past_the_end() -> None:
    planes = to_planes(np.arange(70, dtype=np.uint64), 7)
    planes[:, 1] |= np.uint64(M64 - (1 << 6))
    assert (from_planes(planes, 70) == np.arange(70)).all()


def test_planes_refuse_wrong_shapes_dtypes_and_widths() -> None:
    for bits in (0, 65):
        with pytest.raises(UsageError, match="1 to 64"):
            to_planes(np.zeros(3, np.uint64), bits)
    with pytest.raises(ShapeError):
        to_planes(np.zeros((3, 3), np.uint64), 4)
    with pytest.raises(ShapeError):
        to_planes(np.zeros(3, np.uint32), 4)
    for shape, n in (((3, 2), 64), ((3, 1), 65), ((0, 1), 3), ((65, 1), 3), ((3,), 3)):
        with pytest.raises(ShapeError):
            from_planes(np.zeros(shape, np.uint64), n)
