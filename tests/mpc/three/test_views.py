"""What one computing party sees is independent of the others' secrets: exhaustively, on small rings.

The real protocols run in the simulator over streams that hand out, instead of keystream, the digits of the
element's index: with 2**b elements each combination of b random bits comes exactly once. One run then gives
the exact distribution of each party's view: what it drew, and what it received. With its own shares fixed,
this distribution must be the same for every secret. All operations treat each element alike, so a statement
about all combinations is one about each element under uniform randomness.

Longer than most test modules: all protocols are enumerated by one driver, which stands here.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest

from eager import SharedArray
from secagg.mpc.bits import conjunction, disjunction, less_in_turn
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup, truncation_range
from secagg.mpc.primitives import Shares
from secagg.mpc.three import comparison, conversion, products, truncation
from secagg.mpc.three.channel import Channel
from secagg.mpc.three.comparison import msb
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.streams import Purpose
from secagg.mpc.three.truncation import truncate
from secagg.network.simulated import simulate
from secagg.ring import Ring
from shared import opened

pytestmark = pytest.mark.slow

NAMES = ("ada", "bob", "cleo")


@pytest.fixture(autouse=True)
def one_chunk(monkeypatch):
    """Let each operation draw for all elements at once, so that a draw is a digit of each element's index."""
    for module in (products, comparison, conversion, truncation):
        monkeypatch.setattr(module, "_CHUNK", 1 << 40)
    monkeypatch.setattr(comparison, "_PIECE", 1 << 40)


class Deck:
    """All randomness of a run: element e takes, for each draw, the next digits of e.

    Args:
      bits: how many random bits there are; at least 6, so that elements fill words.
      silent: draws (key, purpose, number) that give zero instead, to take a mask away.
    """

    def __init__(self, bits, silent=frozenset()):
        self.index = np.arange(1 << bits, dtype=np.uint32)
        self.lanes = self.index.size
        self.silent = silent
        self.places = {}
        self.taken = {}  # by the first of a key's two holders
        self.used = 0

    def digits(self, draw, width):
        if draw in self.silent:
            return np.zeros(self.lanes, np.uint32)
        if draw not in self.places:
            self.places[draw] = (self.used, width)
            self.used += width
        place, drawn = self.places[draw]
        assert drawn == width, f"the two holders of a key draw differently: {draw}"
        if draw in self.taken:
            return self.taken.pop(draw)
        digits = (self.index >> np.uint32(place % 32)) & np.uint32((1 << width) - 1)
        self.taken[draw] = digits
        return digits


class Stream:
    """Stands for the stream of one key and purpose at one of its two holders."""

    def __init__(self, deck, key, purpose, view):
        self.deck, self.key, self.purpose, self.view = deck, key, purpose, view
        self.position = 0

    def take(self, width):
        digits = self.deck.digits((self.key, self.purpose, self.position), width)
        self.position += 1
        self.view.append((digits, width))
        return digits

    def ring(self, shape, bits):
        assert shape in (self.deck.lanes, (self.deck.lanes,))
        return self.take(bits).astype(Ring(bits).dtype)

    def words(self, shape):
        out = np.zeros(shape, np.uint64)
        self.xor_into(out)
        return out

    def xor_into(self, out):
        for plane in out.reshape(-1, self.deck.lanes // 64):
            plane ^= packed(self.take(1))


class Pair:
    """Stands for `PairStreams`."""

    def __init__(self, deck, key, view):
        self.deck, self.key, self.view = deck, key, view
        self.streams = {}

    def __getitem__(self, purpose):
        return self.streams.setdefault(purpose, Stream(self.deck, self.key, purpose, self.view))

    @property
    def position(self):
        return sum(stream.position for stream in self.streams.values())


class Recorder:
    """A party that keeps what it receives."""

    def __init__(self, party, view, lanes, ring_bits):
        self.party, self.view, self.lanes, self.ring_bits = party, view, lanes, ring_bits

    def __getattr__(self, name):
        return getattr(self.party, name)

    async def receive(self, kind, peer, **limits):
        return (await self.gather(kind, (peer,), **limits))[peer]

    async def gather(self, kind, peers, **limits):
        messages = await self.party.gather(kind, peers, **limits)
        for peer in peers:
            for field in kind.__struct_fields__:
                self.note(getattr(messages[peer], field))
        return messages

    def note(self, value):
        if isinstance(value, tuple):
            for part in value:
                self.note(part)
        elif isinstance(value, np.ndarray) and value.dtype == np.uint64:
            for plane in value.reshape(-1, self.lanes // 64):
                self.view.append((unpacked(plane), 1))
        elif isinstance(value, np.ndarray):
            assert value.shape == (self.lanes,)
            self.view.append((value, self.ring_bits))


def packed(bits):
    return np.packbits(bits.astype(np.uint8), bitorder="little").view(np.uint64)


def unpacked(words):
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), bitorder="little")


def as_one_number(view):
    """Return the parts of a view, element by element, as one number."""
    bits = sum(width for _, width in view)
    assert bits <= 64
    number = np.zeros(view[0][0].size if view else 1, np.uint32 if bits <= 32 else np.uint64)
    for digits, width in view:
        number <<= number.dtype.type(width)
        number |= digits
    return number


def enumerate_views(operation, *, ring_bits=1, silent=frozenset()):
    """Run `operation(engine, lanes)` over all randomness; return the three views and the three results.

    Each view is one number an element.
    """

    def once(deck):
        views: tuple[list, list, list] = ([], [], [])

        async def program(party):
            i = NAMES.index(party.me)
            view = views[i]
            engine = ThreeEngine(
                Channel(
                    cast(Any, Recorder(party, view, deck.lanes, ring_bits)),
                    NAMES,
                    k_own=cast(Any, Pair(deck, i, view)),
                    k_next=cast(Any, Pair(deck, (i + 1) % 3, view)),
                )
            )
            return await operation(engine, deck.lanes)

        return views, simulate(dict.fromkeys(NAMES, program)).values()

    counting = Deck(6, silent)
    once(counting)
    deck = Deck(max(6, counting.used), silent)
    views, results = once(deck)
    assert deck.used == counting.used
    return [as_one_number(view) for view in views], results


def distribution(view):
    """Return which numbers a view takes, and how often."""
    if view.max() < 1 << 24:
        return np.empty(0), np.bincount(view.astype(np.int64))  # of each number from 0 on
    return np.unique(view, return_counts=True)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def constant(value, lanes, dtype):
    return np.full(lanes, value, dtype)


def shares_given_own(own, party, secret, modulus):
    """Return x_0, x_1, x_2 in which `party` holds `own`, two shares, and which add up to the secret."""
    shares = [0, 0, 0]
    shares[party], shares[(party + 1) % 3] = own
    shares[(party + 2) % 3] = (secret - sum(own)) % modulus
    return shares


def shared(engine, lanes, shares, ring):
    share_0, share_1 = (constant(shares[(engine.channel.index + j) % 3], lanes, ring.dtype) for j in (0, 1))
    return SharedArray(engine, RingGroup(ring), (share_0, share_1))


def shared_bit(engine, lanes, shares):
    share_0, share_1 = (
        constant((1 << 64) - 1 if shares[(engine.channel.index + j) % 3] else 0, lanes // 64, np.uint64)
        for j in (0, 1)
    )
    return Shares(engine, XOR, (share_0, share_1))


def value_of(results, ring):
    """Return the values that the three parties' results are shares of, having checked that these agree."""
    for i in range(3):
        assert np.array_equal(results[i][1], results[(i + 1) % 3][0])
    return ring.reduce(results[0][0] + results[0][1] + results[1][1])


def opened_bits(results):
    for i in range(3):
        assert np.array_equal(results[i].parts[1], results[(i + 1) % 3].parts[0])
    return results[0].parts[0] ^ results[0].parts[1] ^ results[1].parts[1]


OWN = {
    3: [(0, 0), (3, 6), (7, 4)],
    4: [(0, 0), (5, 14), (15, 8)],
    2: [(0, 0), (3, 2)],
    1: [(0, 0), (1, 0), (1, 1)],
}


@pytest.mark.parametrize("party", range(3))
@pytest.mark.parametrize("own", OWN[3])
def test_multiplication_shows_no_party_anything_of_the_others_factors(party, own):
    ring = Ring(3)
    seen = None
    for x in range(8):
        for y in range(8):
            xs = shares_given_own(own, party, x, 8)
            ys = shares_given_own(own[::-1], party, y, 8)

            async def multiply(engine, lanes, xs=xs, ys=ys):
                z = await (shared(engine, lanes, xs, ring) * shared(engine, lanes, ys, ring))
                return z.parts[0], z.parts[1]

            views, results = enumerate_views(multiply, ring_bits=3)
            assert (value_of(results, ring) == x * y % 8).all()
            found = distribution(views[party])
            seen = seen or found
            assert same(found, seen)


@pytest.mark.parametrize("party", range(3))
def test_and_shows_no_party_anything_of_the_others_bits(party):
    for own in OWN[1]:
        seen = None
        for x in (0, 1):
            for y in (0, 1):
                xs, ys = (shares_given_own(own, party, bit, 2) for bit in (x, y))

                async def both(engine, lanes, xs=xs, ys=ys):
                    return await conjunction(shared_bit(engine, lanes, xs), shared_bit(engine, lanes, ys))

                views, results = enumerate_views(both)
                assert (unpacked(opened_bits(results)) == (x & y)).all()
                found = distribution(views[party])
                seen = seen or found
                assert same(found, seen)


@pytest.mark.parametrize("party", range(3))
def test_an_and_that_is_opened_at_once_shows_its_value_and_nothing_of_the_bits(party):
    for own in OWN[1]:
        seen: dict[int, Any] = {}
        for x, y, z in itertools.product((0, 1), repeat=3):
            shares = [shares_given_own(own, party, bit, 2) for bit in (x, y, z)]

            async def opening(engine, lanes, shares=shares):
                return await engine.open_conjunction(*(shared_bit(engine, lanes, s) for s in shares))

            views, results = enumerate_views(opening)
            value = x & y ^ z
            assert all((unpacked(result) == value).all() for result in results)
            found = distribution(views[party])
            assert same(found, seen.setdefault(value, found))
        assert not same(seen[0], seen[1])


@pytest.mark.parametrize("party", range(3))
@pytest.mark.parametrize("own", [(0, 0), (1, 0), (1, 1)])
def test_an_opened_verdict_on_two_keys_and_a_fault_shows_the_verdict_and_nothing_of_what_it_is_about(
    party, own
):
    """As the check of input lists does it: next key not greater, or another fault, in one bit that is opened."""
    seen: dict[int, Any] = {}
    for low, high, fault in itertools.product(range(4), range(4), (0, 1)):
        bits = [low & 1, low >> 1, high & 1, high >> 1, fault]
        shares = [shares_given_own(own, party, bit, 2) for bit in bits]

        async def judge(engine, lanes, shares=shares):
            a0, a1, b0, b1, f = (shared_bit(engine, lanes, s) for s in shares)
            (rising,) = await less_in_turn([(a0 ^ b0, b0), (a1 ^ b1, b1)])
            return await opened(await disjunction(~rising, f))

        views, results = enumerate_views(judge)
        verdict = int(not low < high or fault)
        assert all((unpacked(result) == verdict).all() for result in results)
        found = distribution(views[party])
        assert same(found, seen.setdefault(verdict, found))
    assert not same(seen[0], seen[1])


def truncating(ring, frac_bits, z):
    """Return the truncation of additive shares z."""

    async def operation(engine, lanes):
        return await truncate(
            engine.channel, ring, constant(z[engine.channel.index], lanes, ring.dtype), frac_bits
        )

    return operation


# Each party holds one of the three additive shares; the secret is varied through a share of another party.
VARIED = {0: 2, 1: 2, 2: 0}
SMALL = [(3, 1), (4, 1), (4, 2)]


@pytest.mark.parametrize(("bits", "frac_bits"), SMALL)
def test_truncation_shows_no_party_anything_of_the_others_shares(bits, frac_bits):
    ring = Ring(bits)
    low, high = truncation_range(ring, frac_bits)
    seen: dict[int, Any] = {}
    first = low - (1 << frac_bits) + 1
    for secret in range(first, high + 1):  # all that A's offset leaves room for
        # In the largest case each secret is varied by one party's share, the first by both; fractions take turns.
        turn = (secret + (secret >> frac_bits)) % 2
        for varied in (2, 0) if bits + frac_bits < 6 or secret == first else ((2, 0)[turn],):
            z = [3, 5, 2]
            z[varied] = (secret - sum(z) + z[varied]) % ring.modulus
            z = [part % ring.modulus for part in z]
            views, results = enumerate_views(truncating(ring, frac_bits, z), ring_bits=bits)
            value = ring.to_signed(value_of(results, ring))
            floor = secret >> frac_bits
            exact = secret % (1 << frac_bits) == 0
            assert np.isin(value, [floor] if exact else [floor, floor + 1]).all()
            # Rounded up as often as the fraction says: the mean is exact.
            assert int(value.sum()) << frac_bits == secret * value.size
            for party in range(3):
                if VARIED[party] == varied:
                    found = distribution(views[party])
                    assert same(found, seen.setdefault(party, found)), (secret, party)


@pytest.mark.parametrize(("bits", "frac_bits"), SMALL)
def test_third_partys_view_of_a_truncation_is_independent_of_the_rounding(bits, frac_bits):
    ring = Ring(bits)
    views, results = enumerate_views(truncating(ring, frac_bits, [0, 1, 0]), ring_bits=bits)
    assert independent(views[2], value_of(results, ring))


def test_first_two_parties_views_of_a_truncation_are_tied_to_the_rounding():
    """As F_trunc says: they know A or B, and so learn a comparison when the result is opened."""
    ring = Ring(3)
    views, results = enumerate_views(truncating(ring, 1, [0, 1, 0]), ring_bits=3)
    assert not independent(views[0], value_of(results, ring))
    assert not independent(views[1], value_of(results, ring))


def independent(view, value):
    most = int(value.max()) + 1
    joint = np.bincount(view.astype(np.int64) * most + value, minlength=(view.max() + 1) * most).reshape(
        -1, most
    )
    return np.array_equal(joint * view.size, np.outer(joint.sum(1), joint.sum(0)))


def test_truncation_without_the_mask_rho_leaks_to_the_third_party():
    """The test above has teeth: without rho, P_2 sees A and the top bit of B."""
    ring, rho = Ring(4), (1, Purpose.TRUNC, 1)
    seen = []
    for secret in (-4, 2):
        views, _ = enumerate_views(
            truncating(ring, 1, [(secret - 8) % 16, 5, 3]), ring_bits=4, silent=frozenset({rho})
        )
        seen.append(distribution(views[2]))
    assert not same(*seen)


def test_truncation_without_the_mask_b_ties_the_third_partys_view_to_the_rounding():
    """So has the test of independence: without b, P_2 knows A - z_0."""
    views, results = enumerate_views(
        truncating(Ring(4), 1, [0, 1, 0]), ring_bits=4, silent=frozenset({(1, Purpose.TRUNC, 0)})
    )
    assert not independent(views[2], value_of(results, Ring(4)))


@pytest.mark.parametrize("party", range(3))
def test_fixed_point_product_shows_no_party_anything_of_the_others_factors(party):
    ring = Ring(4)
    seen = None
    for x, y in [(0, 0), (1, 1), (2, 1), (-1, 1), (-2, 2), (15, 15)]:
        xs = shares_given_own((5, 14), party, x, 16)
        ys = shares_given_own((3, 9), party, y, 16)

        async def multiply(engine, lanes, xs=xs, ys=ys):
            a, b = shared(engine, lanes, xs, ring), shared(engine, lanes, ys, ring)
            a.frac_bits = b.frac_bits = 1
            z = await (a * b)
            return z.parts[0], z.parts[1]

        views, _ = enumerate_views(multiply, ring_bits=4)
        found = distribution(views[party])
        seen = seen or found
        assert same(found, seen)


@pytest.mark.parametrize("party", range(3))
@pytest.mark.parametrize(("bits", "digit_bits"), [(2, 1), (3, 1), (3, 2), (4, 2)])
def test_sign_shows_no_party_anything_of_the_others_shares(party, bits, digit_bits):
    ring = Ring(bits)
    for own in OWN[bits][1:]:
        seen = None
        for secret in range(ring.modulus):
            shares = shares_given_own(own, party, secret, ring.modulus)

            async def compare(engine, lanes, shares=shares):
                x = shared(engine, lanes, shares, ring)
                known = {0: x.parts[0] + x.parts[1], 1: x.parts[1], 2: x.parts[0]}[engine.channel.index]
                return await msb(engine.channel, engine, known.astype(np.uint64), bits, digit_bits=digit_bits)

            views, results = enumerate_views(compare)
            assert (unpacked(opened_bits(results)) == secret >> (bits - 1)).all()
            found = distribution(views[party])
            seen = seen or found
            assert same(found, seen)


def test_sign_without_the_mask_of_the_thermometer_leaks():
    seen = []
    for secret in (0, 1):

        async def compare(engine, lanes, secret=secret):
            x = shared(engine, lanes, shares_given_own((1, 3), 1, secret, 4), Ring(2))
            return await engine.negative(x)

        views, _ = enumerate_views(compare, silent=frozenset({(0, Purpose.COMPARE, 0)}))
        seen.append(distribution(views[1]))
    assert not same(*seen)


@pytest.mark.parametrize("party", range(3))
@pytest.mark.parametrize("bits", [3, 4])
def test_equality_shows_no_party_anything_of_the_others_shares(party, bits):
    ring = Ring(bits)
    for own in OWN[bits]:
        seen = None
        for secret in range(ring.modulus):
            shares = shares_given_own(own, party, secret, ring.modulus)

            async def compare(engine, lanes, shares=shares):
                x = shared(engine, lanes, shares, ring)
                return await engine.zero(x)

            views, results = enumerate_views(compare)
            assert (unpacked(opened_bits(results)) == (secret == 0)).all()
            found = distribution(views[party])
            seen = seen or found
            assert same(found, seen)


@pytest.mark.parametrize("party", range(3))
def test_bit_to_integer_shows_no_party_anything_of_the_others_bits(party):
    ring = Ring(4)
    for own in OWN[1]:
        seen = None
        for secret in (0, 1):
            shares = shares_given_own(own, party, secret, 2)

            async def convert(engine, lanes, shares=shares):
                return (
                    await engine.from_bits(shared_bit(engine, lanes, shares), RingGroup(ring), lanes)
                ).parts

            views, results = enumerate_views(convert, ring_bits=4)
            assert (value_of(results, ring) == secret).all()
            found = distribution(views[party])
            seen = seen or found
            assert same(found, seen)


@pytest.mark.parametrize("party", range(3))
def test_integer_to_bits_shows_no_party_anything_of_the_others_shares(party):
    ring = Ring(3)
    for own in OWN[3]:
        seen = None
        for secret in range(8):
            shares = shares_given_own(own, party, secret, 8)

            async def convert(engine, lanes, shares=shares):
                x = shared(engine, lanes, shares, ring)
                return await engine.to_bits(x)

            views, results = enumerate_views(convert)
            planes = opened_bits(results)
            assert all((unpacked(planes[j]) == (secret >> j & 1)).all() for j in range(3))
            found = distribution(views[party])
            seen = seen or found
            assert same(found, seen)


@pytest.mark.parametrize("owner", range(3))
def test_input_of_a_computing_party_shows_the_others_nothing(owner):
    ring = Ring(3)
    seen: dict[int, Any] = {}
    for secret in range(8):

        async def give(engine, lanes, secret=secret):
            value = constant(secret, lanes, ring.dtype) if engine.channel.index == owner else None
            return (await engine.input(RingGroup(ring), NAMES[owner], (lanes,), value)).parts

        views, results = enumerate_views(give, ring_bits=3)
        assert (value_of(results, ring) == secret).all()
        for party in {0, 1, 2} - {owner}:
            found = distribution(views[party])
            assert same(found, seen.setdefault(party, found))


@pytest.mark.parametrize("receiver", range(3))
def test_opening_to_one_party_sends_the_others_nothing(receiver):
    ring = Ring(3)
    for own in OWN[3]:
        for secret in range(8):
            shares = shares_given_own(own, receiver, secret, 8)

            async def reveal(engine, lanes, shares=shares):
                x = shared(engine, lanes, shares, ring)
                return await engine.open(x, [NAMES[receiver]])

            views, results = enumerate_views(reveal, ring_bits=3)
            assert [result is None for result in results] == [i != receiver for i in range(3)]
            assert (results[receiver] == secret).all()
            # The receiver's view follows from the value and its own two shares; the others' is empty.
            assert set(views[receiver]) == {(secret - sum(own)) % 8}
            assert all(not views[i].any() and views[i].size == 1 for i in range(3) if i != receiver)


def test_opening_of_bits_to_one_party_sends_the_others_nothing():
    async def reveal(engine, lanes):
        x = shared_bit(engine, lanes, [1, 1, 1])
        return await engine.open(x, [NAMES[1]])

    views, results = enumerate_views(reveal)
    assert (unpacked(results[1]) == 1).all()
    assert results[0] is None
    assert results[2] is None
    assert views[0].size == views[2].size == 1
