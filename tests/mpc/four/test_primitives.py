"""The primitives of four parties compute what they say, and turn wrong use away.

Longer than most test modules: each primitive's right results stand beside the wrong use that it turns away.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest

from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.mpc.four import channel, inputs, opening, shuffle, vouching
from secagg.mpc.four.channel import Channel
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.inputs import OutsideShares
from secagg.mpc.four.keys import Purpose, TripleStreams
from secagg.mpc.four.shares import held, shares
from secagg.mpc.four.vouching import Mac
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup, truncation_range
from secagg.network.simulated import simulate
from secagg.ring import Ring

FOUR = ("ada", "bob", "cleo", "dora")
RINGS = [Ring(64), Ring(32), Ring(20), Ring(1)]


def numbers(ring, shape, seed):
    return np.random.default_rng(seed).integers(0, ring.modulus, shape, ring.dtype)


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: f"{ring.bits} bits")
def test_sums_differences_and_products_are_those_of_the_ring(run_four, share, ring):
    group = RingGroup(ring)
    a, b = numbers(ring, (3, 5), 1), numbers(ring, (3, 5), 2)

    async def program(engine):
        x, y = share(engine, group, a, seed=1), share(engine, group, b, seed=2)
        z = await engine.multiply(x, y)
        linear = x - y + z + engine.public(group, b)
        scaled = linear.each(lambda part: ring.reduce(part * ring.dtype.type(3)))
        return await engine.open(z), await engine.open(scaled[1:].reshape(-1))

    for product, scaled in run_four(program):
        assert np.array_equal(product, ring.reduce(a * b))
        plain = ring.reduce(ring.reduce(a - b + a * b + b) * ring.dtype.type(3))
        assert np.array_equal(scaled, plain[1:].reshape(-1))


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_products_of_any_length_and_all_holders_of_a_share_hold_the_same(run_four, share, n):
    group = RingGroup(Ring(64))
    a, b = numbers(Ring(64), n, 1), numbers(Ring(64), n, 2)

    async def program(engine):
        z = await engine.multiply(share(engine, group, a), share(engine, group, b, seed=3))
        await engine.check()
        return held(engine.channel.index, z)

    parts = run_four(program)
    all_four = [parts[(j + 1) % 4][j] for j in range(4)]
    for i, those in enumerate(parts):
        assert set(those) == set(range(4)) - {i}
        assert all(np.array_equal(those[j], all_four[j]) for j in those)
    assert np.array_equal(sum(all_four), a * b)


@pytest.mark.parametrize("shapes", [((3, 4), (4, 2)), ((4,), (4, 2)), ((3, 4), (4,)), ((4,), (4,))])
def test_matrix_products_are_those_of_the_ring(run_four, share, shapes):
    ring = Ring(64)
    group = RingGroup(ring)
    a, b = (numbers(ring, shape, seed) for seed, shape in enumerate(shapes))

    async def program(engine):
        return await engine.open(
            await engine.matmul(share(engine, group, a), share(engine, group, b, seed=1))
        )

    assert all(np.array_equal(opened, a @ b) for opened in run_four(program))


def test_conjunctions_of_several_pairs_and_the_results_share_no_memory(run_four, share):
    a, b, c, d = (numbers(Ring(64), shape, 9) for shape in ((2, 3), (2, 3), (5,), (5,)))

    async def program(engine):
        pairs = [
            (share(engine, XOR, a), share(engine, XOR, b)),
            (share(engine, XOR, c), share(engine, XOR, d)),
        ]
        first, second = await engine.conjunction(pairs)
        opened = await engine.open(first), await engine.open(second)
        assert not any(np.shares_memory(first.parts[j], second.parts[j]) for j in range(3))
        return opened

    for first, second in run_four(program):
        assert np.array_equal(first, a & b)
        assert np.array_equal(second, c & d)


@pytest.mark.parametrize(("bits", "frac_bits"), [(6, 2), (7, 1), (8, 3)])
def test_truncation_of_every_number_and_every_split_rounds_down_or_up(run_four, bits, frac_bits):
    """s = z_0 + z_1 and t = z_2 + z_3 decide; each z in the range comes with each s. Multiples of 2**f are exact."""
    ring = Ring(bits)
    group = RingGroup(ring)
    low, high = truncation_range(ring, frac_bits)
    z, s = (part.reshape(-1) for part in np.meshgrid(np.arange(low, high + 1), np.arange(ring.modulus)))
    made_up = np.random.default_rng(3)
    z_0, z_2 = (made_up.integers(0, ring.modulus, z.size) for _ in range(2))
    parts = [ring.from_signed(part) for part in (z_0, s - z_0, z_2, z - s - z_2)]

    async def program(engine):
        x = shares(engine, group, {j: parts[j] for j in engine.channel.others})
        return await engine.open(await engine.truncate(x, frac_bits))

    for opened in run_four(program):
        value = ring.to_signed(opened)
        assert np.isin(value - (z >> frac_bits), (0, 1)).all()
        exact = z % (1 << frac_bits) == 0
        assert np.array_equal(value[exact], z[exact] >> frac_bits)
        # Over all s each number is rounded up as often as its fraction says.
        assert int(value.sum()) << frac_bits == z.sum()


def test_truncation_in_64_bits_at_the_ends_of_its_range(run_four, share):
    ring = Ring(64)
    low, high = truncation_range(ring, 16)
    z = np.array([low, low + 1, -1, 0, 1, 65535, high - 1, high])

    async def program(engine):
        x = share(engine, RingGroup(ring), ring.from_signed(z), seed=8)
        with pytest.raises(UsageError):
            await engine.truncate(x, 64)
        return await engine.open(await engine.truncate(x, 16))

    for opened in run_four(program):
        assert np.isin(ring.to_signed(opened) - (z >> 16), (0, 1)).all()


@pytest.mark.parametrize("bits", [8, 20, 64])
@pytest.mark.slow
def test_products_are_truncated_as_numbers_are_and_matrix_products_too(run_four, share, bits):
    ring, frac_bits = Ring(bits), 3
    group = RingGroup(ring)
    low, high = truncation_range(ring, frac_bits)
    root = int(np.sqrt(high)) // 2
    a, b = (np.random.default_rng(seed).integers(-root, root, (4, 4)) for seed in (1, 2))

    async def program(engine):
        x = share(engine, group, ring.from_signed(a), seed=1)
        y = share(engine, group, ring.from_signed(b), seed=2)
        with pytest.raises(UsageError):
            await engine.multiply(x, y, bits)
        with pytest.raises(UsageError):
            await engine.matmul(x, y, bits)
        products = [
            await engine.multiply(x, y, frac_bits),
            await engine.matmul(x, y[0], frac_bits),
            await engine.matmul(x[0], y[0], frac_bits),
            await engine.truncate(x[1, 1], frac_bits),
            await engine.shift(x[1, 1], frac_bits),
        ]
        assert [z.shape for z in products] == [(4, 4), (4,), (), (), ()]
        return [await engine.open(z) for z in products]

    exact = a * b, a @ b[0], a[0] @ b[0], a[1, 1], a[1, 1]
    assert all(low <= z.min() and z.max() <= high for z in exact)
    for opened in run_four(program):
        for value, z in zip(opened, exact, strict=True):
            assert np.isin(ring.to_signed(value) - (z >> frac_bits), (0, 1)).all()


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: f"{ring.bits} bits")
def test_bits_become_ring_elements_for_every_split(run_four, ring):
    splits = np.array([[e >> j & 1 for e in range(16)] * 5 for j in range(4)], np.uint8)
    parts = [np.packbits(np.pad(row, (0, 48)), bitorder="little").view(np.uint64) for row in splits]

    async def program(engine):
        bits = shares(engine, XOR, {j: parts[j] for j in engine.channel.others})
        with pytest.raises(ShapeError, match="80 bits"):
            await engine.from_bits(bits[:1], RingGroup(ring), 80)
        return await engine.open(await engine.from_bits(bits, RingGroup(ring), 80))

    for opened in run_four(program):
        assert np.array_equal(opened, np.bitwise_xor.reduce(splits))
        assert opened.dtype == ring.dtype


@pytest.mark.parametrize("group", [XOR, RingGroup(Ring(20))], ids=["bits", "numbers"])
def test_a_shuffle_keeps_the_rows_of_each_bucket_together(run_four, share, group):
    rows = np.arange(3 * 7 * 2).reshape(3, 7, 2)

    async def program(engine):
        with pytest.raises(ShapeError, match="buckets, rows"):
            await engine.shuffle(share(engine, group, rows[0, 0]))
        (y,) = await engine.shuffle(share(engine, group, rows))
        await engine.check()
        return held(engine.channel.index, y), await engine.open(y)

    results = run_four(program)
    for i, (parts, opened) in enumerate(results):
        assert not np.array_equal(opened, rows)
        for bucket, plain in zip(opened, rows, strict=True):
            assert sorted(map(tuple, bucket)) == sorted(map(tuple, plain))
        for j in parts:
            assert all(np.array_equal(parts[j], other[j]) for k, (other, _) in enumerate(results) if k != j)
        assert i not in parts


def test_arrays_of_several_groups_are_shuffled_alike(run_four, share):
    numbers, bits = RingGroup(Ring(20)), XOR
    rows = np.arange(24).reshape(2, 12)

    async def program(engine):
        arrays = share(engine, numbers, rows), share(engine, bits, rows[..., None] + [0, 100])
        with pytest.raises(ShapeError, match="as many buckets and rows"):
            await engine.shuffle(arrays[0], arrays[1][:1])
        with pytest.raises(ShapeError, match="buckets, rows"):
            await engine.shuffle()
        return [await engine.open(part) for part in await engine.shuffle(*arrays)]

    for one, two in run_four(program):
        assert not np.array_equal(one, rows)
        assert np.array_equal(np.sort(one, axis=1), rows)
        assert np.array_equal(two, one[..., None] + [0, 100])


def orders_of_shuffles(run_four, share, buckets):
    """Return how often each of the six orders of three rows came."""
    group = RingGroup(Ring(8))
    rows = np.tile(np.arange(3, dtype=np.uint8).reshape(1, 3, 1), (buckets, 1, 1))

    async def program(engine):
        return await engine.open(*await engine.shuffle(share(engine, group, rows)))

    opened = run_four(program)[0].reshape(buckets, 3)
    return np.bincount(opened @ np.array([9, 3, 1]), minlength=27)[[5, 7, 11, 15, 19, 21]]


@pytest.mark.slow
@pytest.mark.parametrize("fair", [None, 0, 1, 2, 3])
def test_the_order_of_a_shuffle_is_uniform_also_to_who_knows_three_of_its_four_orders(
    run_four, share, monkeypatch, fair
):
    """The order of one hop alone is drawn, or all are; each of 6 counts within six deviations of 6000 / 6."""
    if fair is not None:
        draw = shuffle.order_of_hop

        def known(channel, i, shape):
            return draw(channel, i, shape) if i == fair else np.tile(np.arange(shape[1]), (shape[0], 1))

        monkeypatch.setattr(shuffle, "order_of_hop", known)
    counts = orders_of_shuffles(run_four, share, 6000)
    assert counts.sum() == 6000
    assert np.abs(counts - 1000).max() < 6 * np.sqrt(6000 * 1 / 6 * 5 / 6)


@pytest.mark.parametrize("owner", [*FOUR, "owner"])
@pytest.mark.parametrize("group", [XOR, RingGroup(Ring(20))], ids=["bits", "numbers"])
def test_inputs_open_to_whom_they_are_meant_and_to_nobody_else(run_four, owner, group):
    value = np.arange(6, dtype=group.dtype).reshape(2, 3)

    async def program(engine):
        mine = value if engine.party.me == owner else None
        x = await engine.input(group, owner, (2, 3), mine)
        return await engine.open(x, ["bob", "reader"])

    async def give(party):
        if owner == party.me:
            await inputs.share_input(party, FOUR, group, value)

    async def read(party):
        return await opening.receive_opening(party, FOUR, group, (2, 3))

    ada, bob, cleo, dora, _, reader = run_four(program, others={"owner": give, "reader": read})
    assert ada is cleo is dora is None
    assert np.array_equal(bob, value)
    assert np.array_equal(reader, value)


def test_several_values_open_each_to_its_receivers_after_one_check(run_four, share):
    group = RingGroup(Ring(20))
    plain = [np.arange(3), np.arange(4) + 50, np.arange(2) + 9]
    to = [["ada", "reader"], ["cleo"], ["reader", "ada", "bob"]]

    async def program(engine):
        values = [share(engine, group, value, seed=i) for i, value in enumerate(plain)]
        depth = engine.party.ledger.depth
        opened = await engine.open_each(list(zip(values, to, strict=True)))
        assert await engine.open_each([]) == []
        return opened, engine.party.ledger.depth - depth

    async def read(party):
        return [
            await opening.receive_opening(party, FOUR, group, (n,)) for n in (3, 2)
        ], party.ledger.depth  # fmt: skip

    results = run_four(program, others={"reader": read})
    for name, (opened, rounds) in zip(FOUR, results, strict=False):
        assert rounds == 2 * 2
        for value, x, receivers in zip(opened, plain, to, strict=True):
            assert (value is None) == (name not in receivers)
            assert value is None or np.array_equal(value, x)
    assert all(np.array_equal(x, y) for x, y in zip(results[4][0], (plain[0], plain[2]), strict=True))


class Noting:
    """A party that keeps what its waits say of kinds that come before."""

    def __init__(self, party, seen):
        self.party, self.seen = party, seen

    def __getattr__(self, name):
        return getattr(self.party, name)

    def receive(self, kind, peer, **options):
        self.seen.append(options.get("sent_before"))
        return self.party.receive(kind, peer, **options)


def test_the_wait_for_an_owner_outside_says_what_it_must_have_sent_before(run_four):
    seen: list = []

    async def program(engine):
        engine.channel.party = Noting(engine.party, seen)
        await engine.input(RingGroup(Ring(64)), "owner", (1,), owner_sent_before=[channel.Vouched])

    async def give(party):
        await inputs.share_input(party, FOUR, RingGroup(Ring(64)), np.ones(1, np.uint64))

    run_four(program, others={"owner": give})
    assert seen == [[channel.Vouched]] * 4


def test_of_each_share_from_outside_every_two_holders_compare(run_four, monkeypatch):
    begun, begin = [], Channel.begin

    async def note(self, items, nbytes):
        begun.append(tuple(items))
        return await begin(self, items, nbytes)

    monkeypatch.setattr(Channel, "begin", note)

    async def program(engine):
        await engine.input(RingGroup(Ring(64)), "owner", (1,))

    async def give(party):
        await inputs.share_input(party, FOUR, RingGroup(Ring(64)), np.ones(1, np.uint64))

    run_four(program, others={"owner": give})
    (items,) = set(begun)
    compared = sorted((item.fourth, *sorted((item.voucher, item.receiver))) for item in items)
    assert compared == [
        (share, *pair)
        for share in range(4)
        for pair in itertools.combinations([j for j in range(4) if j != share], 2)
    ]


def test_bits_beyond_those_of_the_ring_do_not_come_in_with_an_input(run_four):
    group = RingGroup(Ring(20))

    async def program(engine):
        x = await engine.input(group, "owner", (3,))
        return [int(part.max()) for part in x.parts], await engine.open(x)

    async def give(party):
        class Above:
            def __getattr__(self, name):
                return getattr(party, name)

            def send(self, peer, message):
                share = None if message.share is None else message.share | np.uint32(1 << 31)
                party.send(peer, OutsideShares(message.seeds, share))

        await inputs.share_input(Above(), FOUR, group, np.arange(3, dtype=np.uint32))  # type: ignore[arg-type]

    for largest, opened in run_four(program, others={"owner": give})[:4]:
        assert max(largest) < 1 << 20
        assert np.array_equal(opened, np.arange(3))


def test_operations_side_by_side_share_rounds(run_four, share):
    group = RingGroup(Ring(64))

    async def program(engine):
        x = [share(engine, group, np.arange(4) + i) for i in range(5)]
        await engine.check()
        depth = engine.party.ledger.depth
        await engine.party.parallel(*(engine.multiply(part, part) for part in x))
        rounds = engine.party.ledger.depth - depth
        mine = np.arange(4, dtype=np.uint64)
        given = await engine.party.parallel(
            *(engine.input(group, owner, (4,), mine if engine.party.me == owner else None) for owner in FOUR)
        )
        opened = await engine.party.parallel(*(engine.open(part) for part in given))
        return rounds, opened

    for rounds, opened in run_four(program):
        assert rounds == 1
        assert all(np.array_equal(part, np.arange(4)) for part in opened)


def test_a_check_takes_place_by_itself_when_much_is_kept_and_what_is_kept_is_bounded(run_four, share):
    group = RingGroup(Ring(64))

    async def program(engine):
        engine.channel.max_kept_bytes = 20_000
        x = share(engine, group, np.ones(100))
        kept = []
        for _ in range(6):
            await engine.party.parallel(*(engine.multiply(x, x) for _ in range(2)))
            kept.append(sum(part.nbytes for part in engine.channel._kept.values()))
        await engine.check()
        return kept, len(engine.channel._kept), await engine.open(await engine.multiply(x, x))

    for kept, left, opened in run_four(program):
        assert max(kept) < 5 * 4800
        assert left == 0
        assert (opened == 1).all()


WORDS = RingGroup(Ring(64))
OPERATIONS = {
    "input": lambda e, x: e.input(
        x.group, "bob", (4,), np.ones(4, np.uint64) if e.party.me == "bob" else None
    ),
    "input from outside": lambda e, _: e.input(WORDS, "owner", (4,)),
    "multiply": lambda e, x: e.multiply(x, x),
    "matmul": lambda e, x: e.matmul(x.reshape(2, 2), x.reshape(2, 2)),
    "truncate": lambda e, x: e.truncate(x, 3),
    "shuffle": lambda e, x: e.shuffle(x.reshape(1, 4)),
    "from_bits": lambda e, x: e.from_bits(e.public(XOR, np.full(1, 5, np.uint64)), x.group, 4),
    "to_bits": lambda e, x: e.to_bits(x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_kept_for_evidence_and_the_count_of_it_depend_on_nothing_that_is_done_with_results(
    run_four, share, name
):
    """Results may be changed in place: no memory of theirs is that of a content. A check gives back what was counted."""

    async def program(engine):
        y = await OPERATIONS[name](engine, share(engine, WORDS, np.arange(4)))
        channel = engine.channel
        parts = [part for z in (y if isinstance(y, list) else [y]) for part in z.parts]
        kept = [content for content in channel._kept.values() if isinstance(content, np.ndarray)]
        alone = not any(np.shares_memory(part, content) for part in parts for content in kept)
        counted = channel._pending
        await engine.check()
        return alone, len(channel._kept) + len(channel._nbytes), counted, channel._pending

    async def give(party):
        await inputs.share_input(party, FOUR, WORDS, np.ones(4, np.uint64))

    others = {"owner": give} if name == "input from outside" else None
    for alone, left, counted, pending in run_four(program, others=others)[:4]:
        assert alone
        assert counted > 0
        assert (left, pending) == (0, 0)


def test_no_nonce_comes_twice_under_a_key(run_four, share, monkeypatch):
    used, tag = [], Mac.tag

    def note(self, operation, slot, content):
        used.append((self, operation, slot))
        return tag(self, operation, slot, content)

    monkeypatch.setattr(Mac, "tag", note)
    group = RingGroup(Ring(64))

    async def program(engine):
        x = await engine.input(group, "owner", (3,))
        y = await engine.input(
            group, "bob", (3,), np.ones(3, np.uint64) if engine.party.me == "bob" else None
        )
        z = await engine.party.parallel(engine.multiply(x, y), engine.multiply(x, x), engine.matmul(x, y))
        await engine.open(z[0])
        return await engine.open(z[1])

    async def give(party):
        await inputs.share_input(party, FOUR, group, np.ones(3, np.uint64))

    run_four(program, others={"owner": give})
    assert len(used) == 2 * (12 + 1 + 3 * 8 + 2 * 4)  # items, each tagged and checked
    # Who vouches and who checks hold a `Mac` each, so each of a pair tags once.
    assert len({(id(mac), *place) for mac, *place in used}) == len(used)


@pytest.mark.parametrize("at_once", [vouching._MAX_UPDATE, 5])
def test_a_tag_is_gmac(at_once, monkeypatch):
    """NIST CAVP, gcmEncryptExtIV256, PTlen 0, AADlen 128, count 0; also of contents that OpenSSL takes in parts."""
    monkeypatch.setattr(vouching, "_MAX_UPDATE", at_once)
    mac = Mac(bytes.fromhex("78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223"))
    nonce = bytes.fromhex("d79cf22d504cc793c3fb6c8a")
    content = bytes.fromhex("b96baa8c1c75a671bfb2d08d06be5f36")
    place = int.from_bytes(nonce[:8], "big"), int.from_bytes(nonce[8:], "big")
    expected = bytes.fromhex("3e5d486aa2e30b22e040b85723a06e76")
    assert mac.tag(*place, content) == expected
    assert mac.tag(*place, np.frombuffer(content, np.uint64).reshape(1, 2)) == expected
    assert mac.fits(expected, *place, content)
    assert not mac.fits(expected, *place, content[:-1] + b"\0")
    assert not mac.fits(expected, place[0], place[1] ^ 1, content)


def test_the_three_holders_of_a_key_draw_the_same_and_every_two_keys_differ(run_four):
    async def program(engine):
        keys = engine.channel._keys
        drawn = {
            m: (keys.triples[m][Purpose.PRODUCT].bytes(16), keys.triples[m].evidence_key())
            for m in keys.triples
        }
        return drawn, {
            j: (keys.outgoing[j].tag(0, 0, b""), keys.incoming[j].tag(0, 0, b"")) for j in keys.outgoing
        }

    results = run_four(program)
    for m in range(4):
        assert len({results[i][0][m] for i in range(4) if i != m}) == 1
    assert len({part for drawn, _ in results for pair in drawn.values() for part in pair}) == 8
    for i in range(4):
        for j in range(4):
            if i != j:
                assert results[i][1][j][0] == results[j][1][i][1]
    assert len({tag for _, tags in results for pair in tags.values() for tag in pair}) == 12


def test_streams_differ_by_purpose_and_refuse_others():
    streams = TripleStreams(bytes(96), b"context")
    assert len({streams[purpose].bytes(16) for purpose in Purpose}) == len(Purpose.__members__)
    assert streams.evidence_key() not in {streams._derived(purpose.value) for purpose in Purpose}
    with pytest.raises(UsageError, match="expected one of"):
        streams[cast(Any, "product")]
    assert "hidden" in repr(Mac(bytes(32)))
    with pytest.raises(TypeError):
        Mac(bytes(32)).__reduce__()


def test_secrets_do_not_turn_into_plain_values_and_wrong_use_is_refused(run_four, share):
    ring, other = RingGroup(Ring(64)), RingGroup(Ring(32))

    async def program(engine):
        x, bits, narrow = (
            share(engine, ring, [1, 2]),
            share(engine, XOR, [1, 2]),
            share(engine, other, [1, 2]),
        )
        for plain in (bool, int, float, list, np.asarray):
            with pytest.raises(UsageError, match="secret"):
                plain(x)
        assert repr(x) == "<Shares (2,)>"
        for wrong in (bits, narrow):
            with pytest.raises(UsageError, match="different groups"):
                x + wrong
            with pytest.raises(UsageError, match="different groups"):
                await engine.multiply(x, wrong)
        with pytest.raises(ShapeError, match="of a ring"):
            await engine.multiply(bits, bits)
        with pytest.raises(ShapeError, match="64 a word"):
            await engine.conjunction([(x, x)])
        assert await engine.conjunction([]) == []
        with pytest.raises(ShapeError, match="one shape"):
            await engine.multiply(x, x[:1])
        with pytest.raises(UsageError, match="its owner bob"):
            await engine.input(ring, "bob", (1,), None if engine.party.me == "bob" else np.ones(1, np.uint64))
        with pytest.raises(UsageError, match="to open to"):
            await engine.open(x, "ada")
        with pytest.raises(UsageError, match="expected a sequence of parties"):
            await engine.open(x, ["ada", "ada"])

    run_four(program)


@pytest.mark.parametrize(
    "computing", [FOUR[:3], ("ada", "ada", "bob", "cleo"), ("ada", "bob", "cleo", "eve")]
)
def test_only_four_distinct_parties_of_the_roster_compute(computing):
    async def program(party):
        await FourEngine.set_up(party, computing)

    with pytest.raises(UsageError, match="four distinct computing parties"):
        simulate(dict.fromkeys(FOUR, program)).values()


@pytest.mark.parametrize("computing", [FOUR[:3], (*FOUR[:3], "ada"), (*FOUR[:3], "nobody")])
def test_a_reader_outside_takes_four_distinct_parties_of_the_roster(computing):
    async def read(party):
        await opening.receive_opening(party, computing, RingGroup(Ring(64)), (1,))

    async def nothing(_party):
        pass

    outcome = simulate(dict.fromkeys(FOUR, nothing) | {"reader": read})
    assert isinstance(outcome.errors["reader"], UsageError)


def test_parties_that_run_another_program_are_out_of_step_and_nothing_opens(share):
    async def program(party):
        engine = await FourEngine.set_up(party, FOUR)
        x = share(engine, RingGroup(Ring(64)), [1, 2])
        if party.me == "dora":
            await engine.channel.begin((), 0)
        return await engine.open(x)

    outcome = simulate(dict.fromkeys(FOUR, program))
    assert not outcome.results
    error = outcome.errors["ada"]
    assert isinstance(error, RemoteProtocolError)
    assert error.peer == "dora"


def test_a_state_reads_as_it_was_written_and_nothing_else_is_one():
    for state in (channel.State(5, None), channel.State(5, (3, 2))):
        assert channel.State.decode(state.encode()) == state
    for wrong in (None, b"", bytes(23), channel.State(5, (3, 2)).encode()[:16] + b"\xff" * 8):
        assert channel.State.decode(wrong) is None
