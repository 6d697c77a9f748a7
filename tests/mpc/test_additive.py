from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc import additive
from secagg.mpc.additive import SEED_BYTES, Seed, expand, reconstruct, share
from secagg.prg import Stream
from secagg.ring import Ring, RingArray
from uniform import CHI_SQUARE_LIMIT, chi_square

WIDTHS = (1, 3, 8, 13, 16, 20, 32, 33, 57, 63, 64)


def whole(parts: tuple[Sequence[Seed], RingArray]) -> list[Seed | RingArray]:
    """Return what `share` made, the seeds and the last share, as one list."""
    seeds, rest = parts
    return [*seeds, rest]


def stream(seed: int = 0) -> Stream:
    return Stream(seed.to_bytes(32, "big"))


@st.composite
def ring_and_arrays(draw: st.DrawFn, count: int = 1) -> tuple[Ring, list[RingArray]]:
    ring = Ring(draw(st.sampled_from(WIDTHS)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    elements = st.integers(0, ring.modulus - 1)
    return ring, [draw(hnp.arrays(ring.dtype, shape, elements=elements)) for _ in range(count)]


@pytest.mark.slow
@given(case=ring_and_arrays(), n=st.integers(2, 6), seed=st.integers(0, 99))
@settings(deadline=None)
def test_all_shares_together_are_the_secret(case: tuple[Ring, list[RingArray]], n: int, seed: int) -> None:
    ring, (x,) = case
    before = x.copy()
    seeds, rest = share(x, n, ring, stream(seed))
    assert len(seeds) == n - 1
    ring.check(rest)
    got = reconstruct([*seeds, rest], x.shape, ring)
    assert got.dtype == ring.dtype
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.slow
@given(case=ring_and_arrays(count=2), n=st.integers(2, 4))
@settings(deadline=None)
def test_adding_shares_adds_secrets(case: tuple[Ring, list[RingArray]], n: int) -> None:
    ring, (x, y) = case
    rng = stream()
    xs, ys = share(x, n, ring, rng), share(y, n, ring, rng)
    held = [
        reconstruct([mine, theirs], x.shape, ring) for mine, theirs in zip(whole(xs), whole(ys), strict=True)
    ]
    np.testing.assert_array_equal(reconstruct(held, x.shape, ring), ring.reduce(np.asarray(x + y)))


@pytest.mark.slow
@given(case=ring_and_arrays(), k=st.integers(0, 1000))
@settings(deadline=None)
def test_multiplying_shares_by_a_public_number_multiplies_the_secret(
    case: tuple[Ring, list[RingArray]], k: int
) -> None:
    ring, (x,) = case
    seeds, rest = share(x, 3, ring, stream())
    factor = ring.dtype.type(k % ring.modulus)
    scaled = [ring.reduce(np.asarray(expand(s, x.shape, ring) * factor)) for s in whole((seeds, rest))]
    expected = ring.reduce(np.asarray(x * factor))
    np.testing.assert_array_equal(reconstruct(scaled, x.shape, ring), expected)


@pytest.mark.parametrize("bits", WIDTHS)
def test_arrays_longer_than_a_chunk_are_shared_right_at_every_width(bits: int) -> None:
    ring = Ring(bits)
    x = stream(1).ring(300_001, bits)
    seeds, rest = share(x, 3, ring, stream(2))
    np.testing.assert_array_equal(reconstruct([*seeds, rest], x.shape, ring), x)
    masks = [expand(s, x.shape, ring) for s in seeds]
    np.testing.assert_array_equal(ring.reduce(np.asarray(rest + masks[0] + masks[1])), x)


def test_arrays_that_do_not_lie_in_c_order_are_shared_right() -> None:
    ring = Ring(64)
    x = np.arange(24, dtype=np.uint64).reshape(4, 6).T[::-1]
    seeds, rest = share(x, 2, ring, stream())
    np.testing.assert_array_equal(reconstruct([*seeds, rest], x.shape, ring), x)


def test_any_share_missing_leaves_another_value() -> None:
    ring = Ring(64)
    x = np.arange(100, dtype=np.uint64)
    seeds, rest = share(x, 4, ring, stream())
    shares = whole((seeds, rest))
    for missing in range(4):
        others = [s for i, s in enumerate(shares) if i != missing]
        assert not (reconstruct(others, x.shape, ring) == x).any()


def test_each_of_many_seeds_masks_the_secret() -> None:
    ring, x = Ring(16), np.arange(5, dtype=np.uint16)
    parts = whole(share(x, additive._TOGETHER + 3, ring, stream()))
    one_by_one = sum(expand(part, x.shape, ring).astype(np.int64) for part in parts)
    np.testing.assert_array_equal(one_by_one % ring.modulus, x)


def test_seeds_do_not_depend_on_the_secret_and_never_come_twice() -> None:
    ring, rng = Ring(32), stream()
    zeros, ones = np.zeros(4, np.uint32), np.ones(4, np.uint32)
    first = share(zeros, 5, ring, rng)
    second = share(zeros, 5, ring, rng)
    keys = [s.key for s in (*first[0], *second[0])]
    assert len(set(keys)) == 8
    assert not np.array_equal(first[1], second[1])
    assert [s.key for s in share(ones, 5, ring, stream())[0]] == [s.key for s in first[0]]


def test_a_seeds_mask_is_not_what_its_bytes_expand_to_elsewhere() -> None:
    # Domain separation: the same bytes under another label, or as a raw key, give other masks.
    key = bytes(range(32))
    mask = expand(Seed(key), (64,), Ring(64))
    assert not (mask == Stream(key).words(64)).any()


def test_a_seeds_mask_is_pinned() -> None:
    # The parties of one run may run different builds: the expansion is part of the wire format.
    mask = expand(Seed(bytes(range(32))), (3,), Ring(64))
    # Computed with HKDF and AES-CTR of the cryptography library alone.
    assert [hex(int(v)) for v in mask] == ["0xb5cc4b55df8beecd", "0xc0675188743463aa", "0x6a8ade790027dd08"]


@pytest.mark.parametrize("fill", [0, 1, 255])
@pytest.mark.parametrize("n", [2, 3])
def test_every_share_is_uniform_whatever_the_secret(n: int, fill: int) -> None:
    ring = Ring(8)
    x = np.full(1 << 18, fill, np.uint8)
    assert chi_square(x) > 1e6  # the statistic does see the secret
    seeds, rest = share(x, n, ring, stream(7 * n + fill))
    for one in whole((seeds, rest)):
        assert chi_square(expand(one, x.shape, ring)) < CHI_SQUARE_LIMIT
    if n == 3:
        # Two of three together: what they add up to is as uniform.
        assert chi_square(reconstruct([seeds[0], rest], x.shape, ring)) < CHI_SQUARE_LIMIT


def test_the_difference_share_is_independent_of_the_secret() -> None:
    # Over the cells (high 7 bits of the share, secret) the distribution is uniform: 256 cells, same limit.
    ring = Ring(8)
    x = np.tile(np.array([0, 255], np.uint8), 1 << 17)
    _, rest = share(x, 2, ring, stream(3))
    cells = (rest >> np.uint8(1)) | (x & np.uint8(128))
    assert chi_square(cells) < CHI_SQUARE_LIMIT


# What is refused.


@pytest.mark.parametrize("n", [-1, 0, 1])
def test_fewer_than_two_shares_are_refused(n: int) -> None:
    with pytest.raises(UsageError, match="secret itself"):
        share(np.zeros(1, np.uint64), n, Ring(64), stream())


def test_secrets_outside_the_ring_are_refused() -> None:
    with pytest.raises(ShapeError):
        share(np.zeros(1, np.uint32), 2, Ring(64), stream())
    with pytest.raises(RangeError):
        share(np.array([1 << 13], np.uint16), 2, Ring(13), stream())


def test_shares_of_another_shape_or_dtype_are_refused() -> None:
    ring = Ring(64)
    good = np.zeros(3, np.uint64)
    for bad in (np.zeros(4, np.uint64), np.zeros((3, 1), np.uint64), np.zeros(3, np.uint32)):
        with pytest.raises(ShapeError):
            reconstruct([good, bad], (3,), ring)
        with pytest.raises(ShapeError):
            expand(bad, (3,), ring)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_seeds_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ShapeError, match=f"{SEED_BYTES} bytes"):
        Seed(bytes(length))


def test_seeds_show_no_byte() -> None:
    assert repr(Seed(b"S" * 32)) == "<Seed>"
