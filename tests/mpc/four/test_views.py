"""What one party of four sees is independent of the secrets: exhaustively, on a ring of two bits.

As for three parties (`tests/mpc/three/test_views.py`): streams hand out the digits of the element's index, so that each
combination of random digits comes exactly once, and one run gives the exact distribution of each party's view: what it
drew and what it received. With its own shares fixed it must be the same for every secret. Tags are not in the view: their
receiver makes them itself from what it received.

Longer than most test modules: all primitives are enumerated by one driver, which stands here.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest

from secagg.mpc.four import conjunction as conjunction_of
from secagg.mpc.four import inputs, opening, products, shuffle
from secagg.mpc.four import known as known_values
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.keys import Keys, Purpose
from secagg.mpc.four.known import Summands, share_summands
from secagg.mpc.four.products import multiply_across, multiply_summands
from secagg.mpc.four.shares import held, shares
from secagg.mpc.four.vouching import Mac
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.network.simulated import simulate
from secagg.ring import Ring

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _one_chunk(monkeypatch):
    """Let all elements be one chunk, so that a draw is a digit of each element's index."""
    for module in (products, conjunction_of):
        monkeypatch.setattr(module, "CHUNK", 1 << 30)


FOUR = ("ada", "bob", "cleo", "dora")
RING = Ring(2)
GROUP = RingGroup(RING)
OWN = [(0, 0, 0), (3, 1, 2)]


class Deck:
    """All randomness of a run: element e takes, for each draw, the next digits of e; `silent` draws give zero."""

    def __init__(self, bits, silent):
        self.index = np.arange(1 << bits, dtype=np.uint64)
        self.lanes = self.index.size
        self.silent = silent
        self.places = {}
        self.used = 0

    def digits(self, draw, width):
        if draw in self.silent:
            return np.zeros(self.lanes, np.uint64)
        if draw not in self.places:
            self.places[draw] = self.used
            self.used += width
        return (self.index >> np.uint64(self.places[draw])) & np.uint64((1 << width) - 1)


class Stream:
    """Stands for the stream of one key and purpose at one of its three holders."""

    def __init__(self, deck, key, purpose, view):
        self.deck, self.key, self.purpose, self.view = deck, key, purpose, view
        self.position = 0

    def take(self, width):
        digits = self.deck.digits((self.key, self.purpose.value, self.position), width)
        self.position += 1
        self.view.append((digits, width))
        return digits

    def fill(self, out):
        """Fill planes of bits, or one array of elements."""
        if out.dtype == np.uint64:
            for plane in out.reshape(-1, self.deck.lanes // 64):
                plane[...] = packed(self.take(1))
        elif out.size:
            out[...] = self.take(RING.bits)

    def xor_into(self, out):
        for plane in out.reshape(-1, self.deck.lanes // 64):
            plane ^= packed(self.take(1))

    def ring(self, shape, bits):
        if bits == 64:
            return self.words(shape)
        if shape == (0,):
            return np.zeros(0, Ring(bits).dtype)
        assert shape == (self.deck.lanes,)
        return self.take(bits).astype(Ring(bits).dtype)

    def permutations(self, rows, n):
        assert n == 1
        return np.zeros((rows, 1), np.int64)

    def words(self, shape):
        if shape == (0,):
            return np.zeros(0, np.uint64)
        planes = [packed(self.take(1)) for _ in range(shape[1] if len(shape) > 1 else 1)]
        return np.stack(planes, axis=1).reshape(shape)


class Triple:
    """Stands for `TripleStreams`."""

    def __init__(self, deck, key, view):
        self.deck, self.key, self.view, self.streams = deck, key, view, {}

    def __getitem__(self, purpose):
        return self.streams.setdefault(purpose, Stream(self.deck, self.key, purpose, self.view))


class Recorder:
    """A party that keeps the arrays that it receives."""

    def __init__(self, party, view, lanes):
        self.party, self.view, self.lanes = party, view, lanes

    def __getattr__(self, name):
        return getattr(self.party, name)

    async def receive(self, kind, peer, **options):
        return (await self.gather(kind, (peer,), **options))[peer]

    async def gather(self, kind, peers, **options):
        messages = await self.party.gather(kind, peers, **options)
        for peer in peers:
            for field in kind.__struct_fields__:
                value = getattr(messages[peer], field)
                for part in value if isinstance(value, tuple) else (value,):
                    if not isinstance(part, np.ndarray) or not part.size:
                        continue
                    if part.dtype == np.uint64:
                        words = self.lanes // 64
                        planes = part.reshape(-1, words) if part.ndim == 1 else part.reshape(words, -1).T
                        self.view += [(unpacked(plane), 1) for plane in planes]
                    else:
                        self.view.append((part.astype(np.uint64), RING.bits))
        return messages


def packed(bits):
    return np.packbits(bits.astype(np.uint8), bitorder="little").view(np.uint64)


def unpacked(words):
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), bitorder="little").astype(np.uint64)


def as_one_number(view, lanes):
    number = np.zeros(lanes, np.uint64)
    for digits, width in view:
        number = number << np.uint64(width) | digits
    assert sum(width for _, width in view) <= 64
    return number


def enumerate_views(operation, *, silent=frozenset(), others=None):
    """Run `operation(engine, lanes)` over all randomness; return the views and the results, by party.

    Args:
      others: by name, programs `other(party, lanes)` of parties outside, whose views come last.
    """

    def once(deck):
        views: dict[str, list] = {name: [] for name in (*FOUR, *(others or {}))}
        macs = {pair: Mac(bytes([*pair, *bytes(30)])) for pair in itertools.permutations(range(4), 2)}

        async def program(party):
            i = FOUR.index(party.me)
            view = views[party.me]
            keys = Keys(
                {m: cast(Any, Triple(deck, m, view)) for m in range(4) if m != i},
                {j: macs[i, j] for j in range(4) if j != i},
                {j: macs[j, i] for j in range(4) if j != i},
            )
            return await operation(
                FourEngine(Channel(cast(Any, Recorder(party, view, deck.lanes)), FOUR, keys)), deck.lanes
            )

        programs = dict.fromkeys(FOUR, program)
        for name, other in (others or {}).items():

            async def outside(party, other=other):
                return await other(Recorder(party, views[party.me], deck.lanes), deck.lanes)

            programs[name] = outside
        return views, simulate(programs).values()

    counting = Deck(6, silent)
    once(counting)
    deck = Deck(max(6, counting.used), silent)
    views, results = once(deck)
    return [as_one_number(view, deck.lanes) for view in views.values()], results


def distribution(view):
    return tuple(map(bytes, np.unique(view, return_counts=True)))


def given_own(own, party, secret, modulus=4):
    """Return x_0 to x_3 of which `party` holds `own`, three shares, and which add up to the secret."""
    given = dict(zip((j for j in range(4) if j != party), own, strict=True))
    return [given.get(j, (secret - sum(own)) % modulus) for j in range(4)]


def shared(engine, lanes, given, group=GROUP):
    def part(value):
        if group is XOR:
            return np.full(lanes // 64, (1 << 64) - 1 if value else 0, np.uint64)
        return np.full(lanes, value, RING.dtype)

    return shares(engine, group, {j: part(given[j]) for j in engine.channel.others})


def opened(results, group=GROUP):
    """Return the value that the parties' results are shares of, having checked that all holders hold the same."""
    parts = [held(i, result) for i, result in enumerate(results[:4])]
    for i in range(4):
        assert all(np.array_equal(parts[i][j], parts[(j + 1) % 4][j]) for j in range(4) if j != i)
    value = parts[1][0]
    for share in (parts[2][1], parts[3][2], parts[0][3]):
        value = group.add(value, share)
    return value


def one_half(monkeypatch, first):
    """Let all elements be in the first or in the second half, so that a draw is a digit of each element's index."""
    for module in (products, known_values):
        monkeypatch.setattr(
            module, "halves", lambda n: (slice(0, n), slice(n, n)) if first else (slice(0, 0), slice(0, n))
        )


async def multiply(engine, lanes, xs, ys):
    return await engine.multiply(shared(engine, lanes, xs), shared(engine, lanes, ys))


async def conjunction(engine, lanes, xs, ys):
    return (await engine.conjunction([(shared(engine, lanes, xs, XOR), shared(engine, lanes, ys, XOR))]))[0]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("party", range(4))
@pytest.mark.parametrize("own", OWN)
def test_multiplication_shows_no_party_anything_of_the_share_that_it_lacks(monkeypatch, party, own, first):
    one_half(monkeypatch, first)
    seen: set = set()
    for x, y in itertools.product(range(4), repeat=2):
        xs, ys = given_own(own, party, x), given_own(own[::-1], party, y)
        views, results = enumerate_views(lambda e, n, xs=xs, ys=ys: multiply(e, n, xs, ys))
        assert (opened(results) == x * y % 4).all()
        seen.add(distribution(views[party]))
    assert len(seen) == 1


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("party", range(4))
def test_and_shows_no_party_anything_of_the_share_that_it_lacks(monkeypatch, party, first):
    one_half(monkeypatch, first)
    for own in ((0, 0, 0), (1, 1, 0), (1, 0, 1)):
        seen: set = set()
        for x, y in itertools.product((0, 1), repeat=2):
            xs, ys = (given_own(own, party, bit, 2) for bit in (x, y))
            views, results = enumerate_views(lambda e, n, xs=xs, ys=ys: conjunction(e, n, xs, ys))
            assert (unpacked(opened(results, XOR)) == (x & y)).all()
            seen.add(distribution(views[party]))
        assert len(seen) == 1


def test_multiplication_without_one_mask_leaks(monkeypatch):
    one_half(monkeypatch, True)
    for key in range(4):
        # P_key lacks the key, receives what it masks, and sees a difference in what it lacks.
        silent = frozenset({(key, "product", 0)})
        seen: set = set()
        for x, y in itertools.product(range(4), repeat=2):
            xs, ys = given_own((1, 1, 1), key, x), given_own((1, 1, 1), key, y)
            views, _ = enumerate_views(lambda e, n, xs=xs, ys=ys: multiply(e, n, xs, ys), silent=silent)
            seen.add(distribution(views[key]))
        assert len(seen) > 1


@pytest.mark.parametrize("first", [True, False])
def test_the_four_shares_of_a_product_are_uniform_but_for_their_sum(monkeypatch, first):
    one_half(monkeypatch, first)
    _, results = enumerate_views(lambda e, n: multiply(e, n, [1, 2, 3, 1], [2, 0, 1, 1]))
    three = [part.astype(np.int64) for part in results[3].parts]
    counts = np.bincount(three[0] * 16 + three[1] * 4 + three[2], minlength=64)
    assert (counts == counts[0]).all()
    assert (opened(results) == 7 * 4 % 4).all()


@pytest.mark.parametrize("owner", range(4))
def test_an_input_of_a_computing_party_shows_the_others_nothing(owner):
    seen: list[set] = [set() for _ in range(4)]
    for value in range(4):

        async def give(engine, lanes, value=value):
            mine = np.full(lanes, value, RING.dtype) if engine.channel.index == owner else None
            return await engine.input(GROUP, FOUR[owner], (lanes,), mine)

        views, results = enumerate_views(give)
        assert (opened(results) == value).all()
        for party in range(4):
            seen[party].add(distribution(views[party]))
    assert all(len(seen[party]) == 1 for party in range(4))


@pytest.mark.parametrize("receiver", range(4))
def test_an_opening_to_one_party_sends_it_its_share_and_the_others_nothing(receiver):
    async def show(engine, lanes):
        return await engine.open(shared(engine, lanes, [1, 2, 3, 1]), [FOUR[receiver]])

    views, results = enumerate_views(show)
    assert (results[receiver] == 7 % 4).all()
    assert all(result is None for i, result in enumerate(results) if i != receiver)
    assert (views[receiver] == [1, 2, 3, 1][receiver]).all()
    assert not any(view.any() for i, view in enumerate(views) if i != receiver)


def outside_views(shares, silent=frozenset()):
    async def show(engine, lanes):
        return await engine.open(shared(engine, lanes, shares), ["reader"])

    async def read(party, lanes):
        return await opening.receive_opening(party, FOUR, GROUP, (lanes,))

    views, results = enumerate_views(show, silent=silent, others={"reader": read})
    assert (results[4] == sum(shares) % 4).all()
    return views


def test_an_opening_to_a_party_outside_shows_it_the_value_and_nothing_of_the_shares():
    """Also of shares that are not fresh, such as those of an input of a computing party, one of which is zero."""
    seen: dict[int, set] = {}
    for given in ([0, 0, 0, 2], [2, 0, 0, 0], [1, 2, 3, 0], [0, 0, 0, 1], [3, 3, 3, 0]):
        seen.setdefault(sum(given) % 4, set()).add(distribution(outside_views(given)[4]))
    assert sorted(seen) == [1, 2]
    assert all(len(views) == 1 for views in seen.values())
    assert seen[1] != seen[2]


def test_an_opening_to_a_party_outside_without_fresh_randomness_leaks():
    silent = frozenset((key, "open", 0) for key in range(4))
    views = [distribution(outside_views(shares, silent)[4]) for shares in ([0, 0, 0, 2], [2, 0, 0, 0])]
    assert views[0] != views[1]


@pytest.mark.parametrize("party", range(4))
def test_a_party_and_the_reader_of_an_opening_together_see_no_more_than_the_value(party):
    seen: set = set()
    for own in ((1, 2, 3),):
        # The share that the party lacks is the value minus its own, so one value has one view.
        views = outside_views(given_own(own, party, 1))
        together = views[4] << np.uint64(16) | views[party]
        counts = np.unique(np.unique(together, return_counts=True)[1])
        seen.add((np.unique(together).size, *counts))
    # 4 masks of 2 bits, of which the party draws three: all of the reader's shares follow from the four.
    assert seen == {(256, 1)}


def known(engine, lanes, s, t, group=GROUP):
    """Return values that P_2 and P_3, and P_0 and P_1, know."""

    def value(bit):
        if group is XOR:
            return np.full(lanes // 64, (1 << 64) - 1 if bit else 0, np.uint64)
        return np.full(lanes, bit, RING.dtype)

    low, high = engine.channel.index in (2, 3), engine.channel.index in (0, 1)
    shape = (lanes // 64 if group is XOR else lanes,)
    return Summands(group, shape, value(s) if low else None, value(t) if high else None)


@pytest.mark.parametrize("first", [True, False])
def test_what_two_parties_know_becomes_shares_that_show_the_others_nothing(monkeypatch, first):
    one_half(monkeypatch, first)
    seen: list[dict] = [{} for _ in range(4)]
    for s, t in itertools.product(range(4), repeat=2):

        async def give(engine, lanes, s=s, t=t):
            (both,) = await share_summands(engine.channel, Purpose.TRUNCATION, [known(engine, lanes, s, t)])
            return shares(engine, GROUP, both)

        views, results = enumerate_views(give)
        assert (opened(results) == (s + t) % 4).all()
        x_0, x_1, x_3 = results[2].parts
        assert (GROUP.add(x_0, x_1) == s).all()
        assert (GROUP.add(results[0].parts[1], x_3) == t).all()
        for party in range(4):
            own = s if party > 1 else t  # what it knows
            seen[party].setdefault(own, set()).add(distribution(views[party]))
    for views in seen:
        assert sorted(views) == [0, 1, 2, 3]
        assert all(len(of_one) == 1 for of_one in views.values())


@pytest.mark.parametrize("party", range(4))
@pytest.mark.parametrize("group", [GROUP, XOR], ids=["ring", "bits"])
def test_a_product_of_known_values_shows_no_party_anything_of_the_share_that_it_lacks(party, group):
    """Of w_0 + w_1 and w_2 + w_3: each party lacks one share of one of them."""
    modulus = 2 if group is XOR else 4
    seen: set = set()
    for other in range(modulus):
        given = [1, modulus - 1, 1, 1]
        given[party] = other
        u, v = (given[0] + given[1]) % modulus, (given[2] + given[3]) % modulus

        async def product(engine, lanes, given=tuple(given)):
            w = held(engine.channel.index, shared(engine, lanes, given, group))
            return shares(engine, group, await multiply_across(engine.channel, group, Purpose.TRUNCATION, w))

        views, results = enumerate_views(product)
        value = opened(results, group)
        assert ((unpacked(value) if group is XOR else value) == u * v % modulus).all()
        seen.add(distribution(views[party]))
    assert len(seen) == 1


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("party", range(4))
@pytest.mark.parametrize("own", OWN)
def test_a_sign_shows_no_party_anything_of_the_share_that_it_lacks(monkeypatch, party, own, first):
    """With one digit; a tree over several is ANDs."""
    one_half(monkeypatch, first)
    seen: set = set()
    for x in range(4):
        xs = given_own(own, party, x)

        async def sign(engine, lanes, xs=xs):
            return await engine.negative(shared(engine, lanes, xs))

        views, results = enumerate_views(sign)
        assert (unpacked(opened(results, XOR)) == (x > 1)).all()
        seen.add(distribution(views[party]))
    assert len(seen) == 1


@pytest.mark.parametrize("draws", [(0, 0), (2, 0), (1, 0), (1, 1), (1, 2), (3, 0), (3, 1), (3, 2)])
def test_a_sign_without_one_mask_leaks(monkeypatch, draws):
    """P_key lacks the key. In the first half P_1 and P_3 receive table, top bit and product, P_0 and P_2 the product."""
    one_half(monkeypatch, True)
    key, draw = draws
    silent = (key, "comparison", draw)
    seen: set = set()
    for x in range(4):
        xs = given_own((1, 2, 3), key, x)

        async def sign(engine, lanes, xs=xs):
            return await engine.negative(shared(engine, lanes, xs))

        views, _ = enumerate_views(sign, silent=frozenset({silent}))
        seen.add(distribution(views[key]))
    assert len(seen) > 1


@pytest.mark.parametrize("party", range(4))
@pytest.mark.parametrize("own", OWN)
def test_a_product_to_be_truncated_shows_no_party_anything_of_the_share_that_it_lacks(party, own):
    """And the summand that it holds is uniform, whatever the factors are."""
    seen: set = set()
    for x, y in itertools.product(range(4), repeat=2):
        xs, ys = given_own(own, party, x), given_own(own[::-1], party, y)

        async def product(engine, lanes, xs=xs, ys=ys):
            factors = [held(engine.channel.index, shared(engine, lanes, given)) for given in (xs, ys)]
            return await multiply_summands(engine.channel, GROUP, *factors)

        views, results = enumerate_views(product)
        for knowing in itertools.product((2, 3), (0, 1)):
            low, high = results[knowing[0]][0], results[knowing[1]][1]
            assert (GROUP.add(low, high) == x * y % 4).all()
        assert all(
            (low is None) == (i < 2) and (high is None) == (i > 1) for i, (low, high) in enumerate(results)
        )
        seen.add(distribution(views[party]))
        counts = np.bincount(results[party][0 if party > 1 else 1])
        assert (counts == counts[0]).all()
        assert counts.size == 4
    assert len(seen) == 1


def test_a_product_to_be_truncated_without_one_mask_leaks():
    for key in range(4):
        silent = frozenset({(key, "product", 0)})
        seen: set = set()
        for x, y in itertools.product(range(4), repeat=2):
            xs, ys = given_own((1, 1, 1), key, x), given_own((1, 1, 1), key, y)

            async def product(engine, lanes, xs=xs, ys=ys):
                factors = [held(engine.channel.index, shared(engine, lanes, given)) for given in (xs, ys)]
                await multiply_summands(engine.channel, GROUP, *factors)

            views, _ = enumerate_views(product, silent=silent)
            seen.add(distribution(views[key]))
        assert len(seen) > 1


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("party", range(4))
def test_an_exchange_shows_no_party_anything_of_the_share_that_it_lacks(monkeypatch, party, first):
    one_half(monkeypatch, first)
    for own in ((0, 0, 0), (1, 1, 0), (1, 0, 1)):
        seen: set = set()
        for swap, a, b in itertools.product((0, 1), repeat=3):
            given = [given_own(own, party, bit, 2) for bit in (swap, a, b)]

            async def exchanged(engine, lanes, given=given):
                bit, *rows = (shared(engine, lanes, each, XOR) for each in given)
                earlier, later = (row.reshape(1, lanes // 64) for row in rows)
                await engine.exchange(bit, [(earlier, later)])
                return earlier[0], later[0]

            views, results = enumerate_views(exchanged)
            for place, expected in enumerate((b, a) if swap else (a, b)):
                assert (unpacked(opened([rows[place] for rows in results], XOR)) == expected).all()
            seen.add(distribution(views[party]))
        assert len(seen) == 1


@pytest.mark.parametrize("party", range(4))
def test_a_shuffle_shows_no_party_anything_of_the_share_that_it_lacks(party):
    """Of one row, so that there is one order; all four hops."""
    seen: set = set()
    for bit in (0, 1):
        shares = given_own((1, 0, 1), party, bit, 2)

        async def one_row(engine, lanes, shares=shares):
            x = shared(engine, lanes, shares, XOR)
            return (await engine.shuffle(x.reshape(lanes // 64, 1)))[0].reshape(lanes // 64)

        views, results = enumerate_views(one_row)
        assert (unpacked(opened(results, XOR)) == bit).all()
        seen.add(distribution(views[party]))
    assert len(seen) == 1


def views_of_a_hop(monkeypatch, order, silent=frozenset()):
    """Return the view of P_2 of the hop of which it does not know the order of two rows."""
    monkeypatch.setattr(shuffle, "order_of_hop", lambda channel, i, shape: np.array([order] * shape[0]))

    async def hop(engine, lanes):
        rows = [shared(engine, lanes, shares, XOR) for shares in ([1, 0, 1, 1], [0, 0, 1, 0])]
        parts = {
            j: np.stack(pair, axis=1)
            for j, *pair in zip(engine.channel.others, *(row.parts for row in rows), strict=True)
        }
        return await shuffle._hop(engine.channel, [(XOR, parts)], 2)

    views, _ = enumerate_views(hop, silent=silent)
    return distribution(views[2])


def test_a_hop_of_a_shuffle_does_not_show_its_order_to_who_does_not_draw_it(monkeypatch):
    assert views_of_a_hop(monkeypatch, [0, 1]) == views_of_a_hop(monkeypatch, [1, 0])


def test_a_hop_of_a_shuffle_without_one_mask_shows_its_order(monkeypatch):
    # Masks are drawn for the shares 3, 0, 1 in this order, of two rows each; share 0 is 1 in one row and 0 in the other.
    silent = frozenset({(2, "shuffle", 2), (2, "shuffle", 3)})
    assert views_of_a_hop(monkeypatch, [0, 1], silent) != views_of_a_hop(monkeypatch, [1, 0], silent)


def test_shares_of_an_input_from_outside_are_uniform_to_each_party():
    """P_i < 3 lacks the seed that masks x_3; the fourth party gets seeds alone."""
    shares = {}

    async def program(party):
        engine = await FourEngine.set_up(party, FOUR)
        shares[party.me] = (await engine.input(GROUP, "owner", (4096,))).parts

    async def give(party):
        await inputs.share_input(party, FOUR, GROUP, np.full(4096, 3, RING.dtype))

    simulate(dict.fromkeys(FOUR, program) | {"owner": give}, insecure_seed=4).values()
    for parts in shares.values():
        joint = np.bincount(sum(part.astype(np.int64) << 2 * i for i, part in enumerate(parts)), minlength=64)
        assert joint.min() > 64 - 6 * 8  # six deviations of a count with mean 64
        assert joint.max() < 64 + 6 * 8
